//! The files that signers need: whether the unit's user comes to them, by their rights and by the unit's own view of the
//! files. What can't be judged is said, and never taken for fine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Check;
use super::access::Need;
use super::sandbox::{Made, Part, Sandbox};
use super::way::{Sight, Way};
use crate::accounts::{Accounts, Who};
use crate::finding::{Code, Finding};
use crate::host::{Files, Host};
use crate::inventory::{Inventory, Signer};
use crate::kms::tmkms;

/// A path that a signer's process uses.
pub(super) struct Used {
    pub path: PathBuf,
    pub need: Need,
    pub secret: bool,
    pub what: &'static str,
}

/// tmkms renames a new state file over the old one.
const STATE: &str = "the state file";

/// What tmkms opens at its start and while it signs (run with 0.12.2). What isn't there is another check's business.
pub(super) fn used(signer: &Signer) -> Vec<Used> {
    let directory = &signer.unit.working_directory;
    let absolute = |path: &str| tmkms::absolute(path, directory);
    let one = |path: PathBuf, need, secret, what| Used {
        path,
        need,
        secret,
        what,
    };
    let config = &signer.config;
    let mut used = vec![
        one(
            signer.program().to_owned(),
            Need::Pass,
            false,
            "the program",
        ),
        one(
            directory.clone(),
            Need::Pass,
            false,
            "the working directory",
        ),
        one(
            config.path.clone(),
            Need::Read,
            config.view.has_secrets(),
            "the config",
        ),
    ];
    for chain in &signer.chains {
        used.push(one(chain.state_file.clone(), Need::Read, false, STATE));
        if let Some(folder) = chain.state_file.parent() {
            used.push(one(
                folder.to_owned(),
                Need::Change,
                false,
                "the state file's folder",
            ));
        }
    }
    for validator in &config.view.validators {
        if let Some(key) = &validator.secret_key {
            used.push(one(
                absolute(&key.value),
                Need::Read,
                true,
                "the connection's key",
            ));
        }
    }
    for key in &config.view.softsign {
        used.push(one(
            absolute(&key.path.value),
            Need::Read,
            true,
            "the key file",
        ));
    }
    for hsm in &config.view.yubihsm {
        if let Some(file) = &hsm.auth.password_file {
            used.push(one(
                absolute(&file.value),
                Need::Read,
                true,
                "the password file",
            ));
        }
    }
    used
}

/// Whether each unit's user can do what its signer must.
pub fn access(host: &Host, inventory: &Inventory) -> Check {
    let (findings, unjudged) = denied(&*host.files, inventory.current());
    let accounts = Accounts::read(&*host.files);
    let known = |signer: &Signer| accounts.of(&signer.unit).is_ok();
    let nobody = !inventory.current().any(known);
    let fine = "each signer's user comes to what it needs".to_owned();
    let check = Check::of("access", fine, findings);
    let why = unjudged.join("; ");
    match unjudged.is_empty() {
        true => check,
        false if nobody => check.not(&why),
        false => check.in_part(why),
    }
}

/// What the users of some signers' units can't do, and what can't be judged.
pub fn denied<'a>(
    files: &dyn Files,
    signers: impl Iterator<Item = &'a Signer>,
) -> (Vec<Finding>, Vec<String>) {
    let accounts = Accounts::read(files);
    let sight = Sight::of(files);
    let mut findings = Vec::new();
    let mut unjudged = BTreeSet::new();
    for signer in signers {
        let who = match accounts.of(&signer.unit) {
            Ok(who) => who,
            Err(why) => {
                unjudged.insert(why);
                continue;
            }
        };
        let sandbox = Sandbox::of(&signer.unit, &sight);
        if let Some(setting) = sandbox.elsewhere {
            unjudged.insert(format!(
                "{setting} puts other files in the place of the host's"
            ));
            continue;
        }
        let left = sandbox.unjudged.iter();
        unjudged.extend(left.map(|setting| format!("what {setting} takes away")));
        let asker = Asker {
            sight: &sight,
            accounts: &accounts,
            who,
            sandbox,
        };
        for used in used(signer) {
            match asker.denied(signer, &used) {
                Ok(denied) => findings.extend(denied),
                Err(why) => drop(unjudged.insert(format!("{}: {why}", used.path.display()))),
            }
        }
    }
    (findings, unjudged.into_iter().collect())
}

/// A unit's process as it asks for files.
struct Asker<'a> {
    sight: &'a Sight<'a>,
    accounts: &'a Accounts,
    who: Who,
    sandbox: Sandbox,
}

impl Asker<'_> {
    /// What keeps it from a path.
    ///
    /// # Errors
    /// What can't be judged, and why.
    fn denied(&self, signer: &Signer, used: &Used) -> Result<Option<Finding>, String> {
        let way = self.sight.way(&used.path).map_err(|e| e.to_string())?;
        let found = match self.hidden(&way, used.need)? {
            Some(part) => Some(self.by_unit(part, &way, used)),
            None => self.by_rights(&way, used)?,
        };
        let found = match found {
            None if used.what == STATE => self.unmovable(&way)?,
            found => found,
        };
        Ok(found.map(|(path, why, remedy)| {
            let whose = match path == used.path {
                true => used.what.to_owned(),
                false => format!("{} {}", used.what, used.path.display()),
            };
            let message = format!(
                "{}, as whom {} runs, {why}, and needs {whose}",
                self.who.name, signer.unit.name
            );
            Finding::block(Code::AccessDenied, message)
                .of(signer.name())
                .at(&path)
                .remedy(remedy)
        }))
    }

    /// What of the unit's settings is in the way.
    fn hidden(&self, way: &Way, need: Need) -> Result<Option<&Part>, String> {
        let passed = way.folders.iter().map(|folder| (folder, Need::Pass));
        for (path, need) in passed.chain(way.end.iter().map(|end| (end, need))) {
            match self.sandbox.part(path) {
                Some(part) if part.made == Made::Inaccessible => return Ok(Some(part)),
                Some(part) if part.made == Made::ReadOnly && need == Need::Change => {
                    return Ok(Some(part));
                }
                Some(part) if part.made == Made::Another => {
                    return Err(format!(
                        "with {} it may be another file inside the unit",
                        part.setting
                    ));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn by_unit(&self, part: &Part, way: &Way, used: &Used) -> (PathBuf, String, String) {
        let (does, remedy) = match part.made {
            Made::ReadOnly => (
                "can't write in this folder",
                format!(
                    "put `ReadWritePaths={}` under [Service] in a drop-in of the unit (`systemctl edit`)",
                    way.end.as_deref().unwrap_or(&used.path).display()
                ),
            ),
            _ => (
                "doesn't see it",
                "keep the file elsewhere, or take the setting out of the unit".to_owned(),
            ),
        };
        let at = part.at.display();
        let why = format!("{does} ({}, {at}:{})", part.setting, part.line);
        (used.path.clone(), why, remedy)
    }

    fn by_rights(&self, way: &Way, used: &Used) -> Result<Found, String> {
        let barrier = self.sight.barrier(&self.who, way, used.need);
        let barrier = barrier.map_err(|e| e.to_string())?;
        Ok(barrier.map(|barrier| {
            let shown = self.accounts.shown(&barrier.object.facts);
            let why = format!("{} ({shown})", barrier.says());
            let remedy = barrier.remedy(&self.who);
            (barrier.path, why, remedy)
        }))
    }

    /// Whether a new state file can be renamed over this one: not where it is a mount, nor where it is another's in
    /// another's sticky folder.
    fn unmovable(&self, way: &Way) -> Result<Found, String> {
        let Some(file) = &way.end else {
            return Ok(None);
        };
        if let Some(part) = self.sandbox.mounted(file) {
            let folder = file.parent().unwrap_or(Path::new("/"));
            return Ok(Some((
                file.clone(),
                format!(
                    "can't rename a new file over it, which {} makes a mount ({}:{})",
                    part.setting,
                    part.at.display(),
                    part.line
                ),
                format!("name its folder {} in the unit instead", folder.display()),
            )));
        }
        let object = |path: &Path| self.sight.object(path).map_err(|e| e.to_string());
        let (Some(folder), Some(state)) = (
            file.parent().map(object).transpose()?.flatten(),
            object(file)?,
        ) else {
            return Ok(None);
        };
        let owners = [folder.facts.uid, state.facts.uid];
        let sticky = folder.facts.mode & 0o1000 != 0;
        if !sticky || self.who.powers.owns || owners.contains(&self.who.uid) {
            return Ok(None);
        }
        let path = file.to_string_lossy();
        let path = shlex::try_quote(&path).unwrap_or_default();
        Ok(Some((
            file.clone(),
            format!(
                "can't rename a new file over it ({}, in a sticky folder)",
                self.accounts.shown(&state.facts)
            ),
            format!("`chown {} {path}`", self.who.name),
        )))
    }
}

/// The path that is in the way, why, and the remedy.
type Found = Option<(PathBuf, String, String)>;
