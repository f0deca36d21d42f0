//! Which units may run tmkms, and which links enable them: read from the unit folders themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::finding::{Code, Finding};
use crate::host::{Entry, Files, Host};
use crate::inventory::UnitLink;
use crate::paths::ManagedLink;
use crate::unit::UnitName;

/// The service units whose text, or a drop-in's, names tmkms. Only these are asked about: asking systemd about every
/// unit of a host takes longer than everything else together.
///
/// # Errors
/// A unit folder that can't be read, or a manager that can't be asked.
pub fn candidates(
    host: &mut Host,
    path: &[PathBuf],
    links: &Links,
    problems: &mut Vec<Finding>,
) -> Result<BTreeSet<UnitName>> {
    let found = Found::read(&*host.files, path)?;
    let mut units = BTreeSet::new();
    for (unit, file) in &found.units {
        // A drop-in of one instance doesn't make the others signers.
        let of_unit = |named: &UnitName| named == unit || named.template().as_ref() == Some(unit);
        if !found.naming.iter().any(of_unit) {
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
    /// Those whose text, or a drop-in of theirs, names tmkms.
    naming: BTreeSet<UnitName>,
}

impl Found {
    fn read(files: &dyn Files, path: &[PathBuf]) -> Result<Found> {
        let mut found = Found::default();
        for folder in distinct(files, path) {
            let context = || format!("reading the unit folder {}", folder.display());
            for name in files.list(folder).with_context(context)? {
                let file = folder.join(&name);
                if let Some(Ok(unit)) = name.strip_suffix(".d").map(str::parse::<UnitName>) {
                    let drop_ins = files.list(&file).with_context(context)?;
                    let names = |d: &String| mentions_tmkms(files, &file.join(d));
                    if drop_ins.iter().any(names) {
                        found.naming.insert(unit.clone());
                    }
                    found.with_drop_ins.insert(unit);
                } else if let Ok(unit) = name.parse::<UnitName>() {
                    if is_mask(files, &file) {
                        // The most important folder comes first: a mask further down hides nothing.
                        if !found.units.contains_key(&unit) {
                            found.masked.insert(unit);
                        }
                        continue;
                    }
                    if is_alias(files, &file, &name) {
                        continue;
                    }
                    if mentions_tmkms(files, &file) {
                        found.naming.insert(unit.clone());
                    }
                    found.units.entry(unit).or_insert(file);
                }
            }
        }
        Ok(found)
    }
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

fn no_instance(file: &Path) -> Finding {
    let message = "no instance of this template is enabled or runs";
    Finding::warn(Code::UnitUnreadable, message)
        .at(file)
        .remedy("enable the instances that are signers (`systemctl enable NAME@INSTANCE`); others are left alone")
}

/// A masked unit can't start; where it runs nevertheless, nobody can say what it is.
fn masked(host: &mut Host, unit: &UnitName) -> Result<Finding> {
    let runs = host.services.run_state(unit)?.is_up();
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

fn is_mask(files: &dyn Files, file: &Path) -> bool {
    matches!(files.entry(file), Ok(Some(Entry::Link(target))) if target == Path::new("/dev/null"))
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

/// The links that enable units, and those that give them second names.
#[derive(Default)]
pub struct Links {
    enabling: BTreeMap<UnitName, Vec<UnitLink>>,
    aliases: BTreeMap<UnitName, Vec<UnitLink>>,
    /// Units that links of the vendor's folders enable.
    vendor: BTreeSet<UnitName>,
}

impl Links {
    /// Reads the links of every unit folder.
    ///
    /// # Errors
    /// A folder that can't be read.
    pub fn read(files: &dyn Files, path: &[PathBuf]) -> Result<Links> {
        let mut links = Links::default();
        for folder in distinct(files, path) {
            let context = || format!("reading the unit folder {}", folder.display());
            for name in files.list(folder).with_context(context)? {
                let file = folder.join(&name);
                if name.ends_with(".wants") || name.ends_with(".requires") {
                    for entry in files.list(&file).with_context(context)? {
                        if let Ok(unit) = entry.parse::<UnitName>() {
                            links.enables(files, unit, file.join(entry));
                        }
                    }
                } else if let Some((unit, alias)) = alias(files, &file, &name) {
                    links.aliases.entry(unit).or_default().push(alias);
                }
            }
        }
        Ok(links)
    }

    fn enables(&mut self, files: &dyn Files, unit: UnitName, path: PathBuf) {
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
                self.vendor.insert(unit);
            }
        }
    }

    fn instances(&self, template: &UnitName) -> BTreeSet<UnitName> {
        let names = self.enabling.keys().chain(&self.vendor);
        names
            .filter(|unit| unit.template().as_ref() == Some(template))
            .cloned()
            .collect()
    }

    /// Whether any link enables a unit.
    pub fn enable(&self, unit: &UnitName) -> bool {
        self.enabling.contains_key(unit) || self.vendor.contains(unit)
    }

    pub fn of(&self, unit: &UnitName) -> Vec<UnitLink> {
        self.enabling.get(unit).cloned().unwrap_or_default()
    }

    pub fn aliases(&self, unit: &UnitName) -> Vec<UnitLink> {
        self.aliases.get(unit).cloned().unwrap_or_default()
    }
}

/// A second name, and the unit that it names.
fn alias(files: &dyn Files, file: &Path, name: &str) -> Option<(UnitName, UnitLink)> {
    name.parse::<UnitName>().ok()?;
    let Ok(Some(Entry::Link(target))) = files.entry(file) else {
        return None;
    };
    let unit = target.file_name()?.to_str()?.parse::<UnitName>().ok()?;
    let link = ManagedLink::try_from(file.to_owned()).ok()?;
    (unit.as_str() != name).then_some((unit, UnitLink { link, target }))
}
