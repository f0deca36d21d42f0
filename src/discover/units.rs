//! Which units may run tmkms, and which links enable them: read from the unit folders themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::finding::{Code, Finding};
use crate::host::{Entry, Files};
use crate::unit::UnitName;

/// The service units whose text, or a drop-in's, names tmkms. Only these are asked about: asking systemd about every
/// unit of a host takes longer than everything else together.
pub fn candidates(
    files: &dyn Files,
    path: &[PathBuf],
    links: &Links,
    problems: &mut Vec<Finding>,
) -> Result<BTreeSet<UnitName>> {
    let mut units = BTreeSet::new();
    let mut named = BTreeSet::new();
    for folder in distinct(files, path) {
        let context = || format!("reading the unit folder {}", folder.display());
        for name in files.list(folder).with_context(context)? {
            let file = folder.join(&name);
            if let Some(Ok(unit)) = name.strip_suffix(".d").map(str::parse::<UnitName>) {
                let drop_ins = files.list(&file).with_context(context)?;
                if drop_ins
                    .iter()
                    .any(|d| mentions_tmkms(files, &file.join(d)))
                {
                    named.insert(unit);
                }
            } else if let Ok(unit) = name.parse::<UnitName>()
                && !is_alias(files, &file, &name)
            {
                if mentions_tmkms(files, &file) {
                    if is_template(&unit) {
                        problems.push(template(&file, links.any_instance(&unit)));
                    } else {
                        named.insert(unit.clone());
                    }
                }
                units.insert(unit);
            }
        }
    }
    // Drop-ins whose unit isn't there, as in the middle of staging, are no unit.
    named.retain(|unit| units.contains(unit) && !is_template(unit));
    Ok(named)
}

/// Merged /usr gives one folder two names.
fn distinct<'a>(files: &dyn Files, path: &'a [PathBuf]) -> Vec<&'a PathBuf> {
    let mut seen = BTreeSet::new();
    path.iter()
        .filter(|folder| match files.resolve(folder) {
            Ok(real) => seen.insert(real),
            Err(_) => true,
        })
        .collect()
}

fn is_template(unit: &UnitName) -> bool {
    unit.stem().ends_with('@')
}

/// Instances that are enabled could sign with a key that moves, unseen.
fn template(file: &Path, enabled: bool) -> Finding {
    let message = "template units aren't moved by this version of kmsctl";
    let code = Code::UnitUnreadable;
    let finding = if enabled {
        Finding::block(code, message)
    } else {
        Finding::warn(code, message)
    };
    finding
        .at(file)
        .remedy("give each signer a unit file of its own, and disable the instances")
}

/// A link to another unit's file is that unit's second name.
fn is_alias(files: &dyn Files, file: &Path, name: &str) -> bool {
    match files.entry(file) {
        Ok(Some(Entry::Link(target))) => target.file_name().is_none_or(|t| t != name),
        _ => false,
    }
}

fn mentions_tmkms(files: &dyn Files, file: &Path) -> bool {
    // What can't be read here can't be loaded by systemd either, or is a mask.
    files.read(file).is_ok_and(|bytes| {
        bytes
            .to_ascii_lowercase()
            .windows(5)
            .any(|window| window == b"tmkms")
    })
}

/// The links in `*.wants` and `*.requires` folders, by the unit that they enable.
pub struct Links(BTreeMap<UnitName, Vec<PathBuf>>);

impl Links {
    pub fn read(files: &dyn Files, path: &[PathBuf]) -> Result<Links> {
        let mut links: BTreeMap<UnitName, Vec<PathBuf>> = BTreeMap::new();
        for folder in distinct(files, path) {
            let context = || format!("reading the unit folder {}", folder.display());
            for name in files.list(folder).with_context(context)? {
                if !name.ends_with(".wants") && !name.ends_with(".requires") {
                    continue;
                }
                let wants = folder.join(&name);
                for entry in files.list(&wants).with_context(context)? {
                    if let Ok(unit) = entry.parse::<UnitName>() {
                        links.entry(unit).or_default().push(wants.join(entry));
                    }
                }
            }
        }
        Ok(Links(links))
    }

    fn any_instance(&self, template: &UnitName) -> bool {
        self.0
            .keys()
            .any(|unit| unit.as_str().starts_with(template.stem()))
    }

    pub fn of(&self, unit: &UnitName) -> Vec<PathBuf> {
        self.0.get(unit).cloned().unwrap_or_default()
    }
}
