//! Which units other units' own texts pull in: read from the unit files of the host, so that it doesn't depend on what
//! the manager happens to have loaded, and is the same below `--root`.
//!
//! Only names that stand there literally are found; one that a specifier makes isn't.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::links::Links;
use super::signer::link_free;
use crate::finding::{Code, Finding};
use crate::host::Files;
use crate::host::unit_files::is_drop_in;
use crate::host::unit_path::{UnitPath, is_mask, is_unit};
use crate::inventory::Pull;
use crate::unit::{UnitName, UnitText};

/// The settings that start another unit, and whether the unit can't be without it.
const SETTINGS: [(&str, bool); 4] = [
    ("Wants", false),
    ("Upholds", false),
    ("Requires", true),
    ("BindsTo", true),
];

/// What pulls each unit in.
pub type Pulls = BTreeMap<UnitName, BTreeSet<Pull>>;

/// Reads what pulls these units in, by links that kmsctl doesn't set and by other units' texts.
///
/// # Errors
/// A unit folder that can't be read.
pub fn read(
    files: &dyn Files,
    path: &UnitPath,
    links: &Links,
    units: &BTreeSet<UnitName>,
    problems: &mut Vec<Finding>,
) -> Result<Pulls> {
    let mut names: BTreeMap<String, UnitName> = BTreeMap::new();
    let mut pulls = Pulls::new();
    for unit in units {
        let second = links.second_names(unit);
        names.extend(second.iter().map(|n| (n.to_string(), unit.clone())));
        names.insert(unit.to_string(), unit.clone());
        pulls.insert(unit.clone(), links.pulls(unit));
    }
    if names.is_empty() {
        return Ok(pulls);
    }
    for (by, file) in texts(files, path)? {
        // What can't be read here can't be loaded either, or is a mask.
        let Ok(bytes) = files.read(&file) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        if !words(&text).any(|word| names.contains_key(word)) {
            continue;
        }
        let parsed = match UnitText::parse(&text) {
            Ok(parsed) => parsed,
            Err(e) => {
                let message = format!(
                    "it names a signer's unit, and whether it pulls that in can't be read: {}",
                    e.message
                );
                problems.push(
                    Finding::block(Code::UnitUnreadable, message)
                        .at(&file)
                        .line(e.line)
                        .remedy("write it in a form that kmsctl reads, then plan again"),
                );
                continue;
            }
        };
        // An empty assignment drops no dependency.
        let dependencies = parsed.settings.iter().filter(|s| s.section == "Unit");
        for setting in dependencies {
            let Some((_, needs)) = SETTINGS.iter().find(|(key, _)| *key == setting.key) else {
                continue;
            };
            for unit in setting
                .value
                .split_whitespace()
                .filter_map(|w| names.get(w))
            {
                // A unit that names itself starts nothing.
                if unit.as_str() == by {
                    continue;
                }
                pulls.entry(unit.clone()).or_default().insert(Pull {
                    by: by.clone(),
                    needs: *needs,
                    at: Some(file.clone()),
                });
            }
        }
    }
    Ok(pulls)
}

/// What may be a unit's name in a text: whatever is made of nothing but a name's letters. A backslash before a line's end
/// is none of them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let words = text.split(move |c| !legal(c));
    words.map(|word| word.trim_end_matches('\\'))
}

/// The files that count, each with the unit that it is of: the most important one of each name.
fn texts(files: &dyn Files, path: &UnitPath) -> Result<Vec<(String, PathBuf)>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut masked = BTreeSet::new();
    for folder in &path.folders {
        let context = |folder: &Path| format!("reading the unit folder {}", folder.display());
        for name in files.list(folder).with_context(|| context(folder))? {
            let file = folder.join(&name);
            if let Some(of) = name.strip_suffix(".d").filter(|of| is_unit(of)) {
                for drop_in in files.list(&file).with_context(|| context(&file))? {
                    if is_drop_in(&drop_in) && seen.insert((name.clone(), drop_in.clone())) {
                        found.push((of.to_owned(), file.join(drop_in)));
                    }
                }
            } else if is_unit(&name) && path.second_name_of(files, &file).is_none() {
                let first = seen.insert((String::new(), name.clone()));
                if first && is_mask(files, &file) {
                    masked.insert(name);
                } else if first {
                    found.push((name, file));
                }
            }
        }
    }
    found.retain(|(of, _)| !masked.contains(of));
    // Merged /usr gives one file two names, and which of them counts differs between hosts.
    for (_, file) in &mut found {
        *file = link_free(files, file);
    }
    Ok(found)
}
