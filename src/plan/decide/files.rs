//! Decides what each new file of a signer holds, and which paths it may never be.

mod dependencies;
mod obstacles;
mod proof;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tmkms_core::edit::Edit;

use super::super::{Alias, ChainMove, Enablement, Input};
use crate::content::{Change, Content, NewFile, Role};
use crate::finding::{Code, Finding};
use crate::inventory::{Signer, Unit, UnitLink};
use crate::kms::tmkms;
use crate::naming;
use crate::paths::{ManagedLink, ManagedPath, Protected};
use crate::render::unit::{Moved, Names};
use crate::render::{self, config, drop_in};
use crate::unit::effective::Effective;
use crate::unit::{UnitName, UnitText, words};

/// Why the command that starts tmkms is changed.
const NAMES_CONFIG: &str = "the command names the new config itself";

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

    /// Makes the new unit start on the new config where no path in its text did that already, and proves that it does.
    fn start_on_new_config(&self, parts: &mut [Part<'a>]) -> Result<(), Box<Finding>> {
        let Err(why) = self.proven(parts) else {
            return Ok(());
        };
        for (n, change) in self.candidates(parts) {
            parts[n].edits.push(change);
            parts[n].edits.sort_by_key(|c| c.edit.span.start);
            if self.proven(parts).is_ok() {
                return Ok(());
            }
            parts[n].edits.retain(|c| c.why != NAMES_CONFIG);
        }
        let unit = &self.signer.unit;
        let line = UnitText::parse(&unit.text).ok().and_then(|text| {
            let setting = text.list("Service", "ExecStart").last().copied()?;
            Some(setting.line)
        });
        Err(self.refuse(&unit.fragment, line.unwrap_or(1), why))
    }

    /// Ways to name the new config in the command that starts tmkms, where a variable or nothing named the old one.
    fn candidates(&self, parts: &[Part<'a>]) -> Vec<(usize, Change)> {
        let mut found = Vec::new();
        for (n, part) in parts
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, p)| p.target.is_some())
        {
            let Ok(text) = UnitText::parse(part.text) else {
                continue;
            };
            let Some(setting) = text.list("Service", "ExecStart").last().copied() else {
                continue;
            };
            let entry = &part.text[setting.span.clone()];
            let value = setting.span.start + entry.find('=').map_or(0, |at| at + 1);
            let Ok(words) = words::split_at(&part.text[value..setting.span.end]) else {
                continue;
            };
            let argv: Vec<String> = words.iter().map(|w| w.text.clone()).collect();
            let place = |n: usize| value + words[n].span.start..value + words[n].span.end;
            let mut add = |span: Range<usize>, to: String| {
                let change = render::unit::replacement(part.text, span, &to, NAMES_CONFIG);
                found.push((n, change));
            };
            let config = self.new_config.to_string_lossy();
            if render::unit::plain(&config).is_err() {
                continue;
            }
            // A template's text serves other instances too: only what follows the instance may stand in it.
            let shared = self.file() != *self.new;
            if let Ok(Some((word, written))) = tmkms::config_argument(&argv) {
                let lead = &argv[word][..argv[word].len() - written.len()];
                add(
                    place(word),
                    format!("{lead}{}", naming::path(written, self.wanted.suffix)),
                );
                if !shared {
                    add(place(word), format!("{lead}{config}"));
                }
            } else if let Some(start) = argv.iter().position(|w| w == "start") {
                // The word itself is replaced, so that the change shows where it is.
                let word = &part.text[place(start)];
                if shared {
                    let name = self.new_config.file_name().unwrap_or_default();
                    add(
                        place(start),
                        format!("{word} -c {}", name.to_string_lossy()),
                    );
                } else {
                    add(place(start), format!("{word} -c {config}"));
                }
            }
            break;
        }
        found
    }

    /// Reads the new unit as systemd will: it starts the right tmkms on the new config, as the same user, in the same
    /// folder, with the same variables.
    fn proven(&self, parts: &[Part<'a>]) -> Result<(), String> {
        let unit = &self.signer.unit;
        let (mut old, mut new) = (UnitText::default(), UnitText::default());
        for part in parts {
            let at = |e: &dyn std::fmt::Display| format!("{}: {e}", part.source.display());
            let edits: Vec<Edit> = part.edits.iter().map(|c| c.edit.clone()).collect();
            let text = render::unit::splice(part.text, &edits).map_err(|e| at(&e))?;
            old.extend(UnitText::parse(part.text).map_err(|e| at(&e))?);
            new.extend(UnitText::parse(&text).map_err(|e| at(&e))?);
        }
        let (old, new) = (
            Effective::of(&unit.name, &old)?,
            Effective::of(self.new, &new)?,
        );
        let own_variables = new.variables;
        let mut variables = own_variables.clone();
        variables.extend(&unit.file_variables);
        let exec = new.exec.iter().map(|e| variables.substitute(e));
        let starts: Vec<Vec<String>> = exec.filter(|e| tmkms::is_start(e)).collect();
        let [argv] = &starts[..] else {
            return Err("it can't be said how the new unit would start tmkms".into());
        };
        let named = variables.get(tmkms::CONFIG_VARIABLE);
        let config = tmkms::config_path(argv, named, &new.working_directory)
            .map_err(|_| "it can't be said what the new unit would start tmkms on")?;
        let program = Path::new(&argv[0]);
        if config != self.new_config {
            return Err(format!(
                "the new unit would start tmkms on {}, not on {}: the config's name can't be changed in the unit's text",
                config.display(),
                self.new_config.display()
            ));
        }
        if program != self.program {
            return Err(format!(
                "the new unit would run {}, not {}: the program can't be changed in the unit's text",
                program.display(),
                self.program.display()
            ));
        }
        let moved = self.moved();
        let alike = |one: &str, two: &str| proof::follows(one, two, &moved);
        if let Some(name) = old.variables.differing(&own_variables, alike) {
            return Err(format!(
                "the new unit's variable {name} would have another value"
            ));
        }
        if (old.user, old.working_directory, old.environment_files)
            != (new.user, new.working_directory, new.environment_files)
        {
            return Err(
                "the new unit would run as another user, in another folder or with other variables"
                    .into(),
            );
        }
        Ok(())
    }

    /// How the new unit is enabled where the old one is.
    pub fn enablement(&self) -> Enablement {
        let unit = &self.signer.unit;
        let file = self.file();
        let target = ManagedPath::unit(&file).as_path().to_owned();
        let successor = |link: ManagedLink| UnitLink {
            link,
            target: target.clone(),
        };
        let mut new: Vec<UnitLink> = unit
            .links
            .iter()
            .map(|l| successor(l.link.of(self.new)))
            .collect();
        // What another unit's text wants is wanted by a link: that text isn't kmsctl's to change.
        // One that moves as well has a text of its own, which names the new unit.
        let moves = |by: &str| {
            let mut units = self.successors.keys();
            units.any(|u| u.as_str() == by || u.template().is_some_and(|t| t.as_str() == by))
        };
        let wanted = unit.pulled_in_by.iter().filter(|p| !moves(&p.by));
        new.extend(
            wanted
                .filter_map(|p| ManagedLink::wants(&p.by, self.new).ok())
                .map(successor),
        );
        new.sort();
        new.dedup();
        let paths = |links: &[UnitLink]| {
            let mut paths: Vec<PathBuf> = links.iter().map(|l| l.link.clone().into()).collect();
            paths.sort();
            paths
        };
        let own = unit
            .links
            .iter()
            .all(|l| l.target == unit.fragment && !l.link.is_runtime());
        let asked = |name: &UnitName| Unit::installs(&unit.texts(), name);
        let by_systemd = own
            && !unit.linked
            && !unit.mask
            && unit.aliases.is_empty()
            && asked(&unit.name) == Some(paths(&unit.links))
            && asked(self.new) == Some(paths(&new));
        let aliases = unit.aliases.iter().map(|alias| Alias {
            link: alias.link.clone(),
            old: alias.target.clone(),
            new: target.clone(),
        });
        Enablement {
            by_systemd: by_systemd || new.is_empty(),
            old: unit.links.clone(),
            new,
            aliases: aliases.collect(),
        }
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
