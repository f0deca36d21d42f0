//! Which files of a host a snapshot holds. Pure: from what was discovered and journalled.
//!
//! Everything that a plan, a switch or a way back reads is chosen, also of retired signers: their state files count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::mask::Needed;
use crate::content::Role;
use crate::host::UnitView;
use crate::inventory::{Inventory, Signer};
use crate::journal::Journal;
use crate::kms::tmkms;
use crate::paths::{FENCE_FOLDER, ManagedPath};
use crate::plan::program::Action;
use crate::settings;
use crate::unit::UnitText;

/// What a file is, which decides what of it may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A secret as a whole: it comes first, so that a file that is named twice is taken for one.
    Key,
    Password,
    Config,
    /// A unit or a drop-in.
    Unit,
    EnvironmentFile,
    State,
    /// Kept as it is: kmsctl's own.
    Plain,
    /// A folder in which configs are looked for that no unit names.
    BesideConfig,
    /// A folder in which state files are looked for that no config names.
    BesideState,
    /// A folder that paths begin at.
    Folder,
}

/// A path that belongs to the snapshot, if anything is there.
pub type Chosen = BTreeSet<(Kind, PathBuf)>;

/// Chooses. `views` are what the service manager says of the inventory's signers.
pub fn choose(inventory: &Inventory, views: &[UnitView], journals: &[Journal]) -> Chosen {
    let mut chosen = Chosen::new();
    for signer in &inventory.signers {
        config(signer, &mut chosen);
        // Other units whose own text wants it.
        let texts = signer.unit.pulled_in_by.iter();
        chosen.extend(texts.filter_map(|by| Some((Kind::Unit, by.at.clone()?))));
    }
    for view in views {
        chosen.insert((Kind::Unit, view.fragment.clone()));
        chosen.extend(view.drop_ins.iter().map(|d| (Kind::Unit, d.clone())));
        // One that systemd hasn't read yet is no part of the view.
        let own = ManagedPath::drop_in(&view.name).into();
        chosen.insert((Kind::Unit, own));
        chosen.insert((Kind::Folder, view.working_directory.clone()));
    }
    for journal in journals {
        journalled(journal, &mut chosen);
    }
    chosen.insert((Kind::Plain, PathBuf::from(settings::PATH)));
    chosen.insert((Kind::Folder, PathBuf::from(FENCE_FOLDER)));
    chosen
}

/// A config and what it names, as it spells it: links on the way are kept.
fn config(signer: &Signer, chosen: &mut Chosen) {
    let (unit, config) = (&signer.unit, &signer.config);
    let at = |path: &str| tmkms::absolute(path, &unit.working_directory);
    chosen.insert((Kind::Config, config.path.clone()));
    beside(Kind::BesideConfig, &config.path, chosen);
    let view = &config.view;
    for chain in &view.chains {
        let path = at(&view.state_file_or_default(chain));
        beside(Kind::BesideState, &path, chosen);
        chosen.insert((Kind::State, path));
    }
    let connection = view.validators.iter().filter_map(|v| v.secret_key.as_ref());
    let keys = connection.chain(view.softsign.iter().map(|p| &p.path));
    chosen.extend(keys.map(|key| (Kind::Key, at(&key.value))));
    let files = view
        .yubihsm
        .iter()
        .filter_map(|p| p.auth.password_file.as_ref());
    chosen.extend(files.map(|file| (Kind::Password, at(&file.value))));
}

fn beside(kind: Kind, path: &Path, chosen: &mut Chosen) {
    chosen.extend(path.parent().map(|folder| (kind, folder.to_owned())));
}

/// State files that an operation used, and files that it may have written.
fn journalled(journal: &Journal, chosen: &mut Chosen) {
    for moving in &journal.plan.moves {
        let states = moving.old_chains().chain(moving.new_chains());
        chosen.extend(states.map(|s| (Kind::State, s.state_file.clone())));
    }
    for step in journal.program.steps() {
        match &step.action {
            Action::Write { role, path, .. } => {
                let kind = match role {
                    Role::Config => Kind::Config,
                    Role::Unit | Role::DropIn | Role::Fence => Kind::Unit,
                };
                chosen.insert((kind, path.clone().into()));
            }
            Action::MakeFolder { path } => {
                chosen.insert((Kind::Folder, path.clone().into()));
            }
            _ => {}
        }
    }
}

/// The variables that lead to a config: those that a unit's command names, whose values are told by the unit and the
/// config's path anyway.
pub struct LeadsToConfig {
    commands: Vec<String>,
    told: Vec<String>,
}

impl LeadsToConfig {
    pub fn of(inventory: &Inventory) -> LeadsToConfig {
        let mut commands = Vec::new();
        let mut told = Vec::new();
        for signer in &inventory.signers {
            let unit = &signer.unit;
            for text in std::iter::once(&unit.text).chain(&unit.drop_in_texts) {
                // What can't be read names no variable, and is refused where it is replaced.
                let parsed = UnitText::parse(text).unwrap_or_default();
                let exec = parsed.list("Service", "ExecStart");
                commands.extend(exec.iter().map(|s| s.value.clone()));
            }
            told.push(signer.config.path.to_string_lossy().into_owned());
            told.push(unit.working_directory.to_string_lossy().into_owned());
            told.extend(unit.exec.iter().cloned());
        }
        LeadsToConfig { commands, told }
    }
}

impl Needed for LeadsToConfig {
    fn needed(&self, name: &str, value: &str) -> bool {
        let named = |command: &String| {
            command.contains(&format!("${{{name}}}"))
                || command
                    .split_whitespace()
                    .any(|word| word.trim_matches(['"', '\'']) == format!("${name}"))
        };
        // A specifier stands for something else in each instance.
        let pieces = value
            .split_whitespace()
            .flat_map(|word| word.split('%').enumerate())
            .map(|(n, piece)| match n {
                0 => piece,
                _ => piece.get(1..).unwrap_or_default(),
            });
        let is_told = |piece: &str| self.told.iter().any(|told| told.contains(piece));
        self.commands.iter().any(named) && pieces.into_iter().all(is_told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leads_to_the_config_is_needed() {
        let leads = LeadsToConfig {
            commands: vec!["/b/tmkms start -c ${DIR}/a.toml --pin ${PIN} $OPTIONS".into()],
            told: vec![
                "/k/one/a.toml".into(),
                "start".into(),
                "-c".into(),
                "-v".into(),
            ],
        };
        assert!(leads.needed("DIR", "/k/one"));
        assert!(leads.needed("DIR", "/k/%i"));
        assert!(leads.needed("OPTIONS", "-v -c /k/one/a.toml"));
        assert!(!leads.needed("PIN", "hunter-two"), "not told elsewhere");
        assert!(!leads.needed("OTHER", "/k/one"), "not named by a command");
    }
}
