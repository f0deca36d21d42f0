//! Units as they lie on disk, put together as systemd would: what a unit means that systemd hasn't loaded, and what one
//! means whose files systemd says to have read as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::unit_path::is_mask;
use super::{Files, UnitView};
use crate::inventory::RunState;
use crate::unit::effective::Effective;
use crate::unit::{UnitName, UnitText};

/// The files that units are read from.
#[derive(Clone, Copy)]
pub struct UnitFiles<'a> {
    pub files: &'a dyn Files,
    /// Most important first.
    pub folders: &'a [PathBuf],
}

/// A unit's files, and all that they say.
pub struct Found {
    pub fragment: PathBuf,
    pub drop_ins: Vec<PathBuf>,
    pub text: UnitText,
}

impl UnitFiles<'_> {
    pub fn fragment(&self, unit: &UnitName) -> Result<PathBuf> {
        let template = unit.template();
        for name in [Some(unit), template.as_ref()].into_iter().flatten() {
            for folder in self.folders {
                let path = folder.join(name.as_str());
                if self.files.entry(&path)?.is_some() {
                    return Ok(path);
                }
            }
        }
        let folders = self.folders.iter().map(|f| f.display().to_string());
        bail!(
            "no unit {unit} in {}",
            folders.collect::<Vec<_>>().join(", ")
        )
    }

    /// A unit's drop-ins by the names that it says itself; those of a second name aren't among them.
    pub fn drop_ins(&self, unit: &UnitName) -> Result<Vec<PathBuf>> {
        let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
        // The unit's own drop-in of a name wins.
        for name in unit.drop_in_names() {
            for folder in self.folders.iter().rev() {
                let folder = folder.join(format!("{name}.d"));
                for name in self.files.list(&folder)? {
                    if name.ends_with(".conf") {
                        found.insert(name.clone(), folder.join(name));
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }

    pub fn text(&self, path: &Path) -> Result<UnitText> {
        let context = || format!("reading {}", path.display());
        let bytes = self.files.read(path).with_context(context)?;
        let text =
            String::from_utf8(bytes).with_context(|| format!("{} isn't UTF-8", path.display()))?;
        UnitText::parse(&text).map_err(|e| anyhow!("{}: {e}", path.display()))
    }

    pub fn found(&self, unit: &UnitName) -> Result<Found> {
        let fragment = self.fragment(unit)?;
        let drop_ins = self.drop_ins(unit)?;
        let mut text = self.text(&fragment)?;
        for drop_in in drop_ins.iter().filter(|d| !is_mask(self.files, d)) {
            text.extend(self.text(drop_in)?);
        }
        Ok(Found {
            fragment,
            drop_ins,
            text,
        })
    }
}

impl Found {
    /// What a unit means.
    ///
    /// # Errors
    /// What isn't understood, with its line.
    pub fn means(&self, unit: &UnitName) -> Result<Effective> {
        Effective::of(unit, &self.text).map_err(|e| anyhow!("{}, {e}", self.fragment.display()))
    }

    /// The same as a view of a unit that is loaded as its files say.
    pub fn view(self, unit: &UnitName, means: Effective, run: RunState) -> UnitView {
        UnitView {
            name: unit.clone(),
            fragment: self.fragment,
            drop_ins: self.drop_ins,
            exec: means.exec,
            user: means.user,
            working_directory: means.working_directory,
            variables: means.variables,
            environment_files: means.environment_files,
            outside_variables: means.outside_variables,
            output: means.output,
            needs_reload: false,
            barred_by: means.barred_by,
            run,
        }
    }
}
