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
    /// Its fragment says nothing: to systemd that is a mask.
    pub is_masked: bool,
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
        let names = unit.drop_in_names();
        let (all_services, names) = names.split_at(1);
        // Of two with one file name the one in the more important folder wins, whatever unit's name that is for; then the
        // one for the more specific name. Those for all services come last (systemd's unit_file_find_dropin_paths).
        let folders = |names: &[String]| -> Vec<PathBuf> {
            let of = |folder: &PathBuf| {
                let folder = folder.clone();
                let names = names.iter().rev();
                names
                    .map(|name| folder.join(format!("{name}.d")))
                    .collect::<Vec<_>>()
            };
            self.folders.iter().flat_map(of).collect()
        };
        for folder in folders(names).into_iter().chain(folders(all_services)) {
            for name in self.files.list(&folder)? {
                if is_drop_in(&name) {
                    let path = folder.join(&name);
                    found.entry(name).or_insert(path);
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
        let is_masked = text.settings.is_empty();
        for drop_in in drop_ins.iter().filter(|d| !is_mask(self.files, d)) {
            text.extend(self.text(drop_in)?);
        }
        Ok(Found {
            fragment,
            drop_ins,
            text,
            is_masked,
        })
    }
}

/// Whether a file of a folder of drop-ins is one: hidden ones aren't.
pub fn is_drop_in(name: &str) -> bool {
    name.ends_with(".conf") && !name.starts_with('.')
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::files::Tree;

    #[test]
    fn of_two_drop_ins_with_one_name_the_more_important_folder_s_wins() {
        let host = tempfile::tempdir().unwrap();
        let folders = ["/etc", "/run", "/usr"].map(PathBuf::from);
        for drop_in in [
            "etc/tmkms@.service.d/a.conf",
            "run/tmkms@01.service.d/a.conf",
            "run/tmkms@01.service.d/b.conf",
            "run/tmkms@.service.d/b.conf",
            "etc/service.d/b.conf",
            "etc/service.d/c.conf",
            "usr/tmkms@01.service.d/c.conf",
            "usr/tmkms@01.service.d/.hidden.conf",
            "usr/tmkms@01.service.d/other",
            "usr/tmkms@02.service.d/d.conf",
        ] {
            let path = host.path().join(drop_in);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "[Service]\n").unwrap();
        }
        let tree = Tree::open(host.path()).unwrap();
        let files = UnitFiles {
            files: &tree,
            folders: &folders,
        };
        assert_eq!(
            files
                .drop_ins(&"tmkms@01.service".parse().unwrap())
                .unwrap(),
            [
                "/etc/tmkms@.service.d/a.conf",
                "/run/tmkms@01.service.d/b.conf",
                "/usr/tmkms@01.service.d/c.conf",
            ]
            .map(PathBuf::from)
        );
    }
}
