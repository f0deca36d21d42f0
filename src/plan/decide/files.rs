//! Decides what each new file of a signer holds, and which paths it may never be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::{ChainMove, Input};
use super::sandbox;
use crate::content::{Change, Content, NewFile, Role};
use crate::finding::{Code, Finding};
use crate::inventory::{Signer, Unit};
use crate::kms::tmkms;
use crate::naming;
use crate::paths::{ManagedPath, Protected};
use crate::render::unit::Moved;
use crate::render::{self, config, drop_in};
use crate::unit::{UnitName, UnitText};

/// The files of one signer's move.
pub struct Files<'a> {
    pub signer: &'a Signer,
    pub chains: &'a [ChainMove],
    pub new: &'a UnitName,
    pub wanted: config::Wanted<'a>,
    /// Collects what the files were made from.
    pub inputs: &'a mut BTreeMap<PathBuf, Input>,
}

/// What becomes a unit or a drop-in: its role and place, and the old file with its text.
type UnitSource<'a> = (Role, ManagedPath, &'a Path, &'a str);

impl<'a> Files<'a> {
    /// All files, in the order of writing: a fence's drop-in comes before its unit, so that there is never a unit
    /// without its fence.
    pub fn all(mut self) -> Result<Vec<NewFile>, Box<Finding>> {
        let mut files = self.fences()?;
        files.push(self.config()?);
        files.extend(self.units()?);
        Ok(files)
    }

    fn refuse(&self, path: &Path, line: usize, message: String) -> Box<Finding> {
        let finding = Finding::block(Code::EditRefused, message).of(self.signer.name());
        let remedy = "change it by hand to a form that can be edited, then plan again";
        Box::new(finding.at(path).line(line).remedy(remedy))
    }

    fn derive(
        &mut self,
        role: Role,
        path: ManagedPath,
        source: &Path,
        text: &str,
        edits: Vec<Change>,
    ) -> Result<NewFile, Box<Finding>> {
        let content =
            render::derived(role, source, text, edits).map_err(|e| self.refuse(source, 1, e))?;
        self.input(role, source, text)?;
        Ok(NewFile {
            role,
            path,
            content,
        })
    }

    fn fences(&self) -> Result<Vec<NewFile>, Box<Finding>> {
        let exec = is_simple(&self.signer.unit);
        let fence = |unit: &UnitName| {
            let path = ManagedPath::drop_in(unit);
            let text = drop_in::fence(unit, exec)
                .map_err(|e| self.refuse(path.as_path(), 1, format!("{e:#}")))?;
            Ok(NewFile {
                role: Role::Fence,
                path,
                content: Content::Text { text },
            })
        };
        [self.new, &self.signer.unit.name]
            .into_iter()
            .map(fence)
            .collect()
    }

    fn config(&mut self) -> Result<NewFile, Box<Finding>> {
        let config = &self.signer.config;
        let edits = config::edits(&config.text, &config.view, &self.wanted)
            .map_err(|(line, why)| self.refuse(&config.path, line, why))?;
        let name = config
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let target = config
            .folder
            .join(naming::file_name(&name, self.wanted.suffix));
        let path = ManagedPath::config(target, &self.protected())
            .map_err(|e| self.refuse(&config.path, 1, e.to_string()))?;
        self.derive(Role::Config, path, &config.path, &config.text, edits)
    }

    /// The unit and those of its drop-ins that the new name doesn't inherit.
    fn units(&mut self) -> Result<Vec<NewFile>, Box<Finding>> {
        let unit = &self.signer.unit;
        let named = tmkms::config_argument(&unit.exec)
            .map(|(_, path)| path.to_owned())
            .or_else(|| unit.config_variable.clone());
        let Some(named) = named else {
            let message = "the unit starts tmkms on ./tmkms.toml, which it doesn't name".to_owned();
            return Err(self.refuse(&unit.fragment, 1, message));
        };
        let mut paths = vec![(
            named.clone(),
            naming::path(&named, self.wanted.suffix),
            "the new unit starts on the new config",
        )];
        let from = self.wanted.from.as_str();
        let moving = self
            .signer
            .config
            .view
            .chains
            .iter()
            .filter(|c| c.id.value == from);
        for state_file in moving.filter_map(|c| c.state_file.as_ref()) {
            // As the config spells it, which is how the unit would.
            let old = tmkms::absolute(&state_file.value, &unit.working_directory);
            let old = old.to_string_lossy().into_owned();
            let new = naming::path(&old, self.wanted.suffix);
            paths.push((old, new, "the unit names the state file"));
        }
        let moved: Vec<Moved<'_>> = paths
            .iter()
            .map(|(from, to, why)| Moved { from, to, why })
            .collect();
        self.inherited(&moved)?;
        self.sandbox(&moved)?;
        let mut files = Vec::new();
        let mut names_config = false;
        for (role, path, source, text) in self.unit_texts()? {
            let edits = render::unit::edits(text, &moved)
                .map_err(|(line, why)| self.refuse(source, line, why))?;
            names_config |= edits.iter().any(|c| c.edit.from == named);
            files.push(self.derive(role, path, source, text, edits)?);
        }
        if names_config {
            return Ok(files);
        }
        let message = format!("the unit's text doesn't name {named} in a form that can be edited");
        Err(self.refuse(&unit.fragment, 1, message))
    }

    /// A drop-in of a prefix or of all services holds for the new unit as well, unchanged: it must not speak of what the
    /// new one no longer uses, such as a state file that only it may write.
    fn inherited(&self, moved: &[Moved<'_>]) -> Result<(), Box<Finding>> {
        let unit = &self.signer.unit;
        for (path, text) in unit.drop_ins.iter().zip(&unit.drop_in_texts) {
            if render::unit::own_drop_in(path, unit.name.as_str()).is_some() {
                continue;
            }
            let refuse = |(line, why)| self.refuse(path, line, why);
            for Moved { from, to, .. } in moved {
                let named = |path: &str| {
                    let (to, why) = (path, "");
                    render::unit::edits(
                        text,
                        &[Moved {
                            from: path,
                            to,
                            why,
                        }],
                    )
                };
                let (old, new) = (named(from).map_err(refuse)?, named(to).map_err(refuse)?);
                if let Some(place) = old.first().filter(|_| new.is_empty()) {
                    let message = format!(
                        "it names {from}, and {} inherits it as it is, without {to}",
                        self.new
                    );
                    let mut finding = self.refuse(path, place.edit.line, message);
                    finding.remedy = format!(
                        "name {to} there as well, or move the line into {}.d; then plan again",
                        unit.name
                    );
                    return Err(finding);
                }
            }
        }
        Ok(())
    }

    /// The unit must show tmkms the files that kmsctl looks at, and start without a state file that isn't made yet.
    fn sandbox(&self, moved: &[Moved<'_>]) -> Result<(), Box<Finding>> {
        let unit = &self.signer.unit;
        let mut opened = vec![self.signer.config.path.clone()];
        opened.extend(moved.iter().map(|m| PathBuf::from(m.to)));
        opened.extend(self.signer.chains.iter().map(|c| c.state_file.clone()));
        opened.extend(self.chains.iter().map(|c| c.new.state_file.clone()));
        // The first moved path is the config, which staging writes.
        let states = moved.iter().skip(1);
        let fresh: Vec<(&Path, &Path)> = states
            .flat_map(|m| {
                [
                    (Path::new(m.from), Path::new(m.to)),
                    (Path::new(m.to), Path::new(m.to)),
                ]
            })
            .collect();
        let mut texts = vec![(unit.fragment.as_path(), unit.text.as_str())];
        let drop_ins = unit.drop_ins.iter().zip(&unit.drop_in_texts);
        texts.extend(drop_ins.map(|(path, text)| (path.as_path(), text.as_str())));
        let Some(obstacle) = sandbox::obstacle(&texts, &opened, &fresh) else {
            return Ok(());
        };
        let mut finding = self.refuse(&obstacle.path, obstacle.line, obstacle.message);
        finding.remedy = obstacle.remedy;
        Err(finding)
    }

    fn unit_texts(&mut self) -> Result<Vec<UnitSource<'a>>, Box<Finding>> {
        let unit = &self.signer.unit;
        let (path, text) = (unit.fragment.as_path(), unit.text.as_str());
        let mut texts = vec![(Role::Unit, ManagedPath::unit(self.new), path, text)];
        for (path, text) in unit.drop_ins.iter().zip(&unit.drop_in_texts) {
            match render::unit::own_drop_in(path, unit.name.as_str()) {
                Some(file) => {
                    let target = ManagedPath::other_drop_in(self.new, &file)
                        .map_err(|e| self.refuse(path, 1, e.to_string()))?;
                    texts.push((Role::DropIn, target, path, text));
                }
                // A drop-in of a prefix or of all services is inherited by the new name; a change of it still counts.
                None => self.input(Role::DropIn, path, text)?,
            }
        }
        Ok(texts)
    }

    fn input(&mut self, role: Role, path: &Path, text: &str) -> Result<(), Box<Finding>> {
        let text = render::without_secrets(role, text).map_err(|e| self.refuse(path, 1, e))?;
        self.inputs.insert(
            path.to_owned(),
            Input {
                path: path.to_owned(),
                text,
            },
        );
        Ok(())
    }

    /// Every file that the signer's config names as state, key or password, before and after.
    fn protected(&self) -> Protected {
        let signer = self.signer;
        let mut protected = Protected::default();
        let at = |path: &str| tmkms::absolute(path, &signer.unit.working_directory);
        for chain in &signer.chains {
            protected.insert(chain.state_file.clone());
        }
        for chain in self.chains {
            protected.insert(chain.new.state_file.clone());
        }
        let view = &signer.config.view;
        for path in view.validators.iter().filter_map(|v| v.secret_key.as_ref()) {
            protected.insert(at(&path.value));
        }
        for provider in &view.softsign {
            protected.insert(at(&provider.path.value));
        }
        for file in view
            .yubihsm
            .iter()
            .filter_map(|p| p.auth.password_file.as_ref())
        {
            protected.insert(at(&file.value));
        }
        protected
    }
}

/// Whether a start of the unit looks done before its program runs.
fn is_simple(unit: &Unit) -> bool {
    let mut kind = None;
    for text in std::iter::once(&unit.text).chain(&unit.drop_in_texts) {
        if let Ok(parsed) = UnitText::parse(text)
            && let Some(value) = parsed.last("Service", "Type")
        {
            kind = Some(value.to_owned());
        }
    }
    kind.is_none_or(|k| k == "simple")
}
