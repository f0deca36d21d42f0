//! The folders that units are read from, and what a link in them means, as systemd takes it: one reading for a real host
//! and for the model of one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Entry, Files};
use crate::unit::UnitName;

/// The ends of the names of folders whose links make one unit want another.
pub const LINK_FOLDERS: [&str; 3] = [".wants", ".requires", ".upholds"];

/// The kinds of units there are (systemd.unit(5)).
const KINDS: [&str; 11] = [
    "service",
    "socket",
    "target",
    "device",
    "mount",
    "automount",
    "swap",
    "timer",
    "path",
    "slice",
    "scope",
];

/// The unit folders of a host, each once: merged /usr gives one folder two names.
pub struct UnitPath {
    /// Most important first.
    pub folders: Vec<PathBuf>,
    /// The same without any link in them.
    real: BTreeSet<PathBuf>,
}

impl UnitPath {
    pub fn new(files: &dyn Files, path: &[PathBuf]) -> UnitPath {
        let mut real = BTreeSet::new();
        let mut is_new = |folder: &&PathBuf| {
            // One that isn't there has no other name.
            let named = files
                .resolve(folder)
                .unwrap_or_else(|_| folder.to_path_buf());
            real.insert(named)
        };
        let folders = path.iter().filter(|f| is_new(f)).cloned().collect();
        UnitPath { folders, real }
    }

    /// The unit whose second name a file of these folders is. A link is one only where it leads to a unit of these
    /// folders; a link that leads elsewhere is a unit of its own name, whatever the file is called there.
    pub fn second_name_of(&self, files: &dyn Files, file: &Path) -> Option<String> {
        let Ok(Some(Entry::Link(target))) = files.entry(file) else {
            return None;
        };
        let target = file.parent()?.join(target);
        let named = target.file_name()?.to_str()?;
        let folder = files.resolve(target.parent()?).ok()?;
        let inside = self.real.iter().any(|real| folder.starts_with(real));
        (inside && is_unit(named) && file.file_name() != target.file_name())
            .then(|| named.to_owned())
    }

    /// The unit that a name means on this host: where it is a second name, the unit that has it.
    pub fn meant(&self, files: &dyn Files, name: &UnitName) -> UnitName {
        let mut name = name.clone();
        // A second name of a second name is as far as anybody goes; a ring of them means nothing.
        for _ in 0..4 {
            let file = self.folders.iter().map(|f| f.join(name.as_str()));
            let mut there = file.filter(|f| matches!(files.entry(f), Ok(Some(_))));
            let second = there.next().and_then(|f| self.second_name_of(files, &f));
            match second.and_then(|unit| unit.parse().ok()) {
                Some(unit) => name = unit,
                None => break,
            }
        }
        name
    }
}

/// Whether a name is a unit's, of any kind.
pub fn is_unit(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(stem, kind)| !stem.is_empty() && KINDS.contains(&kind))
}

/// A link to /dev/null takes what stands under its name out of the way: a unit, a drop-in, or a dependency.
pub fn is_mask(files: &dyn Files, file: &Path) -> bool {
    matches!(files.entry(file), Ok(Some(Entry::Link(target))) if target == Path::new("/dev/null"))
}
