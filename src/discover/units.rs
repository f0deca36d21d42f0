//! Which units may run tmkms: read from the unit folders themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::links::Links;
use crate::finding::{Code, Finding};
use crate::host::unit_files::is_drop_in;
use crate::host::unit_path::{UnitPath, is_mask};
use crate::host::{Files, Host};
use crate::unit::UnitName;

/// The service units whose text, or a drop-in's, holds a word, such as `tmkms`. Only these are asked about: asking systemd about every
/// unit of a host takes longer than everything else together.
///
/// # Errors
/// A unit folder that can't be read, or a manager that can't be asked.
pub fn candidates(
    host: &mut Host,
    path: &UnitPath,
    links: &Links,
    word: &str,
    problems: &mut Vec<Finding>,
) -> Result<BTreeSet<UnitName>> {
    let found = Found::read(&*host.files, path, word)?;
    let mut units = BTreeSet::new();
    for (unit, file) in &found.units {
        if !found.names_it(unit, links) {
            continue;
        }
        if found.masked.contains(unit) {
            problems.push(masked(host, unit)?);
        } else if unit.is_template() {
            let mut instances = links.instances(unit);
            instances.extend(host.services.instances(unit)?);
            // Retired ones are known by their drop-ins, the fence's among them.
            let of_template = |named: &&UnitName| named.template().as_ref() == Some(unit);
            instances.extend(found.with_drop_ins.iter().filter(of_template).cloned());
            if instances.is_empty() {
                problems.push(no_instance(file));
            }
            units.extend(instances);
        } else {
            units.insert(unit.clone());
        }
    }
    Ok(units)
}

/// The units of a host by their files.
#[derive(Default)]
struct Found {
    /// By name, with the file that counts.
    units: BTreeMap<UnitName, PathBuf>,
    masked: BTreeSet<UnitName>,
    /// Those that have a folder of drop-ins.
    with_drop_ins: BTreeSet<UnitName>,
    /// The names whose text, or a drop-in of theirs, holds the word: of units, and of what drop-ins hold for besides.
    naming: BTreeSet<String>,
}

impl Found {
    fn read(files: &dyn Files, path: &UnitPath, word: &str) -> Result<Found> {
        let mut found = Found::default();
        for folder in &path.folders {
            let context = || format!("reading the unit folder {}", folder.display());
            for name in files.list(folder).with_context(context)? {
                let file = folder.join(&name);
                let of = name.strip_suffix(".d").unwrap_or_default();
                if of == "service" || of.ends_with(".service") {
                    let drop_ins = files.list(&file).with_context(context)?;
                    let names = |d: &String| is_drop_in(d) && mentions(files, &file.join(d), word);
                    if drop_ins.iter().any(names) {
                        found.naming.insert(of.to_owned());
                    }
                    found.with_drop_ins.extend(of.parse::<UnitName>().ok());
                } else if let Ok(unit) = name.parse::<UnitName>() {
                    if is_mask(files, &file) {
                        // The most important folder comes first: a mask further down hides nothing.
                        if !found.units.contains_key(&unit) {
                            found.masked.insert(unit);
                        }
                        continue;
                    }
                    if path.second_name_of(files, &file).is_some() {
                        continue;
                    }
                    if mentions(files, &file, word) {
                        found.naming.insert(name);
                    }
                    found.units.entry(unit).or_insert(file);
                }
            }
        }
        Ok(found)
    }

    /// Whether what a unit means may run that program: by its own text, or by any drop-in that holds for it, also by another
    /// name that it has.
    fn names_it(&self, unit: &UnitName, links: &Links) -> bool {
        let mut names = unit.drop_in_names();
        names.extend(
            links
                .second_names(unit)
                .iter()
                .flat_map(UnitName::drop_in_names),
        );
        // A drop-in of one instance doesn't make the others signers.
        let of_instance = |named: &String| {
            let named = named.parse::<UnitName>().ok();
            named.and_then(|n| n.template()).as_ref() == Some(unit)
        };
        names.iter().any(|name| self.naming.contains(name))
            || (unit.is_template() && self.naming.iter().any(of_instance))
    }
}

fn no_instance(file: &Path) -> Finding {
    let message = "no instance of this template is enabled or runs";
    Finding::warn(Code::UnitUnreadable, message)
        .at(file)
        .remedy("enable the instances that are signers (`systemctl enable NAME@INSTANCE`); others are left alone")
}

/// A masked unit can't start; where it runs nevertheless, nobody can say what it is.
fn masked(host: &mut Host, unit: &UnitName) -> Result<Finding> {
    let runs = host.services.run(unit)?.state.is_up();
    let finding = if runs {
        let message = format!("{unit} is masked, and runs: its text can't be read");
        Finding::block(Code::UnitUnreadable, message).remedy(format!(
            "`systemctl unmask {unit}`, then plan again; or stop it"
        ))
    } else {
        Finding::info(
            Code::UnitUnreadable,
            format!("{unit} is masked: it is left alone"),
        )
    };
    Ok(finding.of(unit.signer()))
}

fn mentions(files: &dyn Files, file: &Path, word: &str) -> bool {
    // What can't be read here can't be loaded by systemd either, or is a mask.
    files.read(file).is_ok_and(|bytes| {
        bytes
            .to_ascii_lowercase()
            .windows(word.len())
            .any(|window| window == word.as_bytes())
    })
}
