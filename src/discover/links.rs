//! The links of the unit folders: those that enable units, those that give them second names, and those that forbid what
//! a less important folder enables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::unit_path::{LINK_FOLDERS, UnitPath, is_mask};
use crate::host::{Entry, Files};
use crate::inventory::{Pull, UnitLink};
use crate::paths::ManagedLink;
use crate::unit::UnitName;

/// What links say of units, by the name that stands there.
#[derive(Default)]
pub struct Links {
    enabling: BTreeMap<UnitName, Vec<UnitLink>>,
    /// Second names that the administrator gave.
    aliases: BTreeMap<UnitName, Vec<UnitLink>>,
    /// All second names, the vendor's among them.
    names: BTreeMap<UnitName, BTreeSet<UnitName>>,
    /// What enables a unit by a link that kmsctl doesn't set: the vendor's, and those of `*.upholds`.
    pulls: BTreeMap<UnitName, BTreeSet<Pull>>,
    /// Units that an enabling link's place holds a mask for.
    masks: BTreeSet<UnitName>,
}

impl Links {
    /// Reads the links of every unit folder.
    ///
    /// # Errors
    /// A folder that can't be read.
    pub fn read(files: &dyn Files, path: &UnitPath) -> Result<Links> {
        let mut links = Links::default();
        let mut masked = BTreeSet::new();
        for folder in &path.folders {
            let context = || format!("reading the unit folder {}", folder.display());
            for name in files.list(folder).with_context(context)? {
                let file = folder.join(&name);
                let Some(kind) = LINK_FOLDERS.iter().find(|kind| name.ends_with(**kind)) else {
                    links.names(files, path, &file);
                    continue;
                };
                for entry in files.list(&file).with_context(context)? {
                    let Ok(unit) = entry.parse::<UnitName>() else {
                        continue;
                    };
                    let link = file.join(entry);
                    let dependency = (name.clone(), unit.clone());
                    if is_mask(files, &link) {
                        masked.insert(dependency);
                        links.masks.insert(unit);
                    } else if !masked.contains(&dependency) {
                        let by = name.strip_suffix(kind).unwrap_or(&name);
                        links.enables(files, unit, by, kind, link);
                    }
                }
            }
        }
        Ok(links)
    }

    fn enables(&mut self, files: &dyn Files, unit: UnitName, by: &str, kind: &str, path: PathBuf) {
        let target = match files.entry(&path) {
            Ok(Some(Entry::Link(target))) => target,
            // A file of its own there enables just as well; it is no link that could be moved.
            _ => PathBuf::new(),
        };
        match ManagedLink::try_from(path) {
            Ok(link) if target != Path::new("") => {
                let links = self.enabling.entry(unit).or_default();
                links.push(UnitLink { link, target });
            }
            _ => {
                let pull = Pull {
                    by: by.to_owned(),
                    needs: kind == ".requires",
                    at: None,
                };
                self.pulls.entry(unit).or_default().insert(pull);
            }
        }
    }

    /// Notes a second name.
    fn names(&mut self, files: &dyn Files, path: &UnitPath, file: &Path) {
        let name = file.file_name().and_then(|n| n.to_str());
        let second = name.and_then(|n| n.parse::<UnitName>().ok());
        let unit = path.second_name_of(files, file);
        let (Some(second), Some(Ok(unit))) = (second, unit.map(|u| u.parse::<UnitName>())) else {
            return;
        };
        self.names.entry(unit.clone()).or_default().insert(second);
        if let (Ok(Some(Entry::Link(target))), Ok(link)) =
            (files.entry(file), ManagedLink::try_from(file.to_owned()))
        {
            let link = UnitLink { link, target };
            self.aliases.entry(unit).or_default().push(link);
        }
    }

    /// The instances of a template that links enable.
    pub fn instances(&self, template: &UnitName) -> BTreeSet<UnitName> {
        let names = self.enabling.keys().chain(self.pulls.keys());
        names
            .filter(|unit| unit.template().as_ref() == Some(template))
            .cloned()
            .collect()
    }

    /// Whether any link enables a unit.
    pub fn enable(&self, unit: &UnitName) -> bool {
        let mut names = self.all_names(unit);
        names.any(|name| self.enabling.contains_key(name) || self.pulls.contains_key(name))
    }

    /// The links that enable a unit, by whichever of its names.
    pub fn of(&self, unit: &UnitName) -> Vec<UnitLink> {
        let links = self
            .all_names(unit)
            .filter_map(|name| self.enabling.get(name));
        links.flatten().cloned().collect()
    }

    /// What else pulls a unit in by a link.
    pub fn pulls(&self, unit: &UnitName) -> BTreeSet<Pull> {
        let pulls = self.all_names(unit).filter_map(|name| self.pulls.get(name));
        pulls.flatten().cloned().collect()
    }

    /// Whether a mask stands where a link would enable a unit.
    pub fn mask(&self, unit: &UnitName) -> bool {
        self.all_names(unit).any(|name| self.masks.contains(name))
    }

    pub fn aliases(&self, unit: &UnitName) -> Vec<UnitLink> {
        self.aliases.get(unit).cloned().unwrap_or_default()
    }

    pub fn second_names(&self, unit: &UnitName) -> BTreeSet<UnitName> {
        self.names.get(unit).cloned().unwrap_or_default()
    }

    /// The links that enable a unit of which no file is there, nor of its template.
    pub fn without_unit<'a>(
        &'a self,
        files: &'a dyn Files,
        path: &'a UnitPath,
    ) -> impl Iterator<Item = (&'a UnitName, &'a UnitLink)> {
        let there = |name: &UnitName| {
            let mut at = path.folders.iter().map(|f| f.join(name.as_str()));
            at.any(|file| !matches!(files.entry(&file), Ok(None)))
        };
        let units = self.enabling.iter();
        units
            .filter(move |(unit, _)| !there(unit) && !unit.template().is_some_and(|t| there(&t)))
            .flat_map(|(unit, links)| links.iter().map(move |link| (unit, link)))
    }

    fn all_names<'a>(&'a self, unit: &'a UnitName) -> impl Iterator<Item = &'a UnitName> {
        std::iter::once(unit).chain(self.names.get(unit).into_iter().flatten())
    }
}
