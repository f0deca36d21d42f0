//! Decides what each new file of a signer holds, and which paths it may never be.

mod dependencies;
mod enablement;
mod obstacles;
mod proof;
mod start;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::{ChainMove, Input};
use crate::content::{Change, Content, NewFile, Role};
use crate::finding::{Code, Finding};
use crate::inventory::{Signer, Unit};
use crate::kms::tmkms;
use crate::naming;
use crate::paths::{ManagedPath, Protected};
use crate::render::unit::{Moved, Names};
use crate::render::{self, config, drop_in};
use crate::unit::{UnitName, UnitText};

/// The units that move, and their new names.
pub type Successors = BTreeMap<UnitName, UnitName>;

/// The files of one signer's move.
pub struct Files<'a> {
    pub signer: &'a Signer,
    pub chains: &'a [ChainMove],
    pub new: &'a UnitName,
    /// As the new unit spells it.
    pub new_config: &'a Path,
    /// The tmkms that the new unit runs.
    pub program: &'a Path,
    pub wanted: config::Wanted<'a>,
    pub successors: &'a Successors,
    /// Collects what the files were made from.
    pub inputs: &'a mut BTreeMap<PathBuf, Input>,
}

/// A text that a unit is made of.
struct Part<'a> {
    role: Role,
    source: &'a Path,
    text: &'a str,
    /// Where its successor goes; none where the new unit inherits the very file.
    target: Option<ManagedPath>,
    edits: Vec<Change>,
}

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
        let (content, shown) =
            render::derived(role, source, text, edits).map_err(|e| self.refuse(source, 1, e))?;
        self.saw(source, shown);
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
        // Beside the old one, whatever links its unit goes through; another folder was given without any.
        let folder = match self.new_config.parent() == config.path.parent() {
            true => &config.folder,
            false => self.new_config.parent().unwrap_or(Path::new("/")),
        };
        let target = folder.join(self.new_config.file_name().unwrap_or_default());
        let path = ManagedPath::config(target, &self.protected())
            .map_err(|e| self.refuse(&config.path, 1, e.to_string()))?;
        self.derive(Role::Config, path, &config.path, &config.text, edits)
    }

    /// The unit and those of its drop-ins that the new name doesn't inherit.
    fn units(&mut self) -> Result<Vec<NewFile>, Box<Finding>> {
        let unit = &self.signer.unit;
        let names = Names {
            old: &unit.name,
            new: self.new,
            suffix: self.wanted.suffix,
        };
        let mut parts = self.parts()?;
        let paths = self.moved();
        let moved: Vec<Moved<'_>> = paths
            .iter()
            .map(|(from, to, why)| Moved { from, to, why })
            .collect();
        for part in parts.iter_mut().filter(|p| p.target.is_some()) {
            part.edits = render::unit::edits(part.text, &moved, names)
                .map_err(|(line, why)| self.refuse(part.source, line, why))?;
        }
        self.inherited(&parts, &moved, names)?;
        self.dependencies(&mut parts)?;
        self.sandbox(&parts)?;
        self.start_on_new_config(&mut parts)?;
        let mut files = Vec::new();
        for part in parts {
            match part.target {
                // A mask says nothing, and what it hides mustn't come back: an empty drop-in of its name hides as much.
                Some(path) if part.text.is_empty() && part.role == Role::DropIn => {
                    files.push(mask(path, part.source));
                }
                Some(path) => {
                    files.push(self.derive(part.role, path, part.source, part.text, part.edits)?);
                }
                // A change of it still counts.
                None => self.input(part.role, part.source, part.text)?,
            }
        }
        Ok(files)
    }

    /// Every path that moves, as the config and the unit spell it: from, to, why.
    fn moved(&self) -> Vec<(String, String, &'static str)> {
        let unit = &self.signer.unit;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut paths = Vec::new();
        let config = "the new unit starts on the new config";
        let written = tmkms::config_argument(&unit.exec).ok().flatten();
        let written = written.map(|(_, path)| path.to_owned());
        for old in [Some(text(&self.signer.config.path)), written]
            .into_iter()
            .flatten()
        {
            if Path::new(&old).is_absolute() {
                paths.push((old, text(self.new_config), config));
            } else if self.new_config.parent() == self.signer.config.path.parent() {
                let new = naming::path(&old, self.wanted.suffix);
                paths.push((old, new, config));
            } else {
                paths.push((old, text(self.new_config), config));
            }
        }
        let state = "the unit names the state file";
        paths.extend(self.states().map(|(old, new)| (old, new, state)));
        if self.program != self.signer.program() {
            let why = "the tmkms that is asked for";
            paths.push((text(self.signer.program()), text(self.program), why));
        }
        paths.sort();
        paths.dedup();
        paths
    }

    /// The state files that get a new name, old and new, as the config spells them: which is how the unit would.
    fn states(&self) -> impl Iterator<Item = (String, String)> {
        let from = self.wanted.from.as_str();
        let view = &self.signer.config.view;
        let moving = view.chains.iter().filter(move |c| c.id.value == from);
        let moving = moving.filter(|_| self.wanted.from != self.wanted.to);
        let written = moving.filter_map(|c| c.state_file.as_ref());
        written.map(|path| {
            let old = tmkms::absolute(&path.value, &self.signer.unit.working_directory);
            let old = old.to_string_lossy().into_owned();
            let new = naming::path(&old, self.wanted.suffix);
            (old, new)
        })
    }

    /// The unit's texts, in systemd's order.
    fn parts(&self) -> Result<Vec<Part<'a>>, Box<Finding>> {
        let unit = &self.signer.unit;
        let inherited = self.new.drop_in_names();
        let mut parts = vec![Part {
            role: Role::Unit,
            source: &unit.fragment,
            text: &unit.text,
            target: Some(ManagedPath::unit(&self.file())),
            edits: Vec::new(),
        }];
        for (source, text) in unit.drop_ins.iter().zip(&unit.drop_in_texts) {
            let folder = source
                .parent()
                .and_then(Path::file_name)
                .and_then(|f| f.to_str());
            let of = folder
                .and_then(|f| f.strip_suffix(".d"))
                .unwrap_or_default();
            let name = source
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            let target = if inherited.iter().any(|n| n == of) {
                None
            } else {
                let template = unit.name.template().filter(|t| t.as_str() == of);
                let owner = match template {
                    Some(_) => self.new.template().unwrap_or_else(|| self.new.clone()),
                    None => self.new.clone(),
                };
                let target = ManagedPath::other_drop_in(&owner, name);
                Some(target.map_err(|e| self.refuse(source, 1, e.to_string()))?)
            };
            parts.push(Part {
                role: Role::DropIn,
                source,
                text,
                target,
                edits: Vec::new(),
            });
        }
        Ok(parts)
    }

    /// The new unit's file: its own, or a template's where the old unit has its text from one.
    fn file(&self) -> UnitName {
        let unit = &self.signer.unit;
        match self.new.template() {
            Some(template) if unit.file() != unit.name => template,
            _ => self.new.clone(),
        }
    }

    fn input(&mut self, role: Role, path: &Path, text: &str) -> Result<(), Box<Finding>> {
        let text = render::without_secrets(role, text).map_err(|e| self.refuse(path, 1, e))?;
        self.saw(path, text);
        Ok(())
    }

    fn saw(&mut self, path: &Path, text: String) {
        let path = path.to_owned();
        self.inputs.insert(path.clone(), Input { path, text });
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

/// The drop-in that hides what a mask of the same name hides.
fn mask(path: ManagedPath, of: &Path) -> NewFile {
    let text = format!(
        "# Empty: as {} does for the old unit, it hides every other drop-in of this name.\n",
        of.display()
    );
    NewFile {
        role: Role::DropIn,
        path,
        content: Content::Text { text },
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
