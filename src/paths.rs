//! The paths that kmsctl may write, as a type that can't name anything else.
//!
//! Rule S3 says that no existing state file is ever touched. Here that is unspellable: an action that changes a file
//! takes a [`ManagedPath`], and a `ManagedPath` is a new config, a unit, a drop-in or a fence marker, never a file
//! that a config names as state, key or password.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::unit::UnitName;

/// Where units that last until the next boot lie, and what enables a unit until then.
pub const RUNTIME_FOLDER: &str = "/run/systemd/system";

/// Where units and drop-ins are written: the administrator's folder of systemd.
pub const UNIT_FOLDER: &str = "/etc/systemd/system";
/// kmsctl's own folder of settings.
const ETC_FOLDER: &str = "/etc/kmsctl";
/// Where the fence's markers lie: on the root filesystem, so that they are there at boot.
pub const FENCE_FOLDER: &str = "/etc/kmsctl/fence";
/// The name of kmsctl's own drop-in. `zz-` lets it be read last, so that nothing overrides the assertion.
pub const DROP_IN: &str = "zz-kmsctl.conf";

/// Every file that a config names as state, key or password: never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protected(BTreeSet<PathBuf>);

impl Protected {
    pub fn insert(&mut self, path: impl Into<PathBuf>) {
        self.0.insert(path.into());
    }

    pub fn contains(&self, path: &Path) -> bool {
        self.0.contains(path)
    }
}

/// An absolute path that kmsctl may create and take away again.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
#[schemars(extend("pattern" = "^/"))]
pub struct ManagedPath(PathBuf);

/// Why a path can't be one that kmsctl writes.
#[derive(Debug, PartialEq, Eq)]
pub struct NotManaged(String);

impl fmt::Display for NotManaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotManaged {}

impl ManagedPath {
    /// A new tmkms config.
    ///
    /// # Errors
    /// A path that is relative, climbs with `..`, doesn't end in `.toml`, or is a state, key or password file.
    pub fn config(path: PathBuf, protected: &Protected) -> Result<Self, NotManaged> {
        if protected.contains(&path) {
            return Err(NotManaged(format!(
                "{} is a state, key or password file: kmsctl never writes those",
                path.display()
            )));
        }
        ManagedPath::try_from(path)
    }

    /// A unit's file in the administrator's folder; an instance's own, not its template's.
    pub fn unit(unit: &UnitName) -> Self {
        ManagedPath(Path::new(UNIT_FOLDER).join(unit.as_str()))
    }

    /// The folder of a unit's drop-ins.
    pub fn drop_in_folder(unit: &UnitName) -> Self {
        ManagedPath(Path::new(UNIT_FOLDER).join(format!("{unit}.d")))
    }

    /// kmsctl's own drop-in of a unit.
    pub fn drop_in(unit: &UnitName) -> Self {
        ManagedPath(ManagedPath::drop_in_folder(unit).0.join(DROP_IN))
    }

    /// The marker that closes a unit: while it exists, the unit's start fails.
    pub fn fence(unit: &UnitName) -> Self {
        ManagedPath(Path::new(FENCE_FOLDER).join(format!("{unit}.closed")))
    }

    /// The folder that holds the markers, and the one above it.
    pub fn fence_folders() -> [Self; 2] {
        [
            ManagedPath(PathBuf::from(ETC_FOLDER)),
            ManagedPath(PathBuf::from(FENCE_FOLDER)),
        ]
    }

    /// A file in a unit's drop-in folder.
    ///
    /// # Errors
    /// A name that isn't a drop-in's.
    pub fn other_drop_in(unit: &UnitName, name: &str) -> Result<Self, NotManaged> {
        ManagedPath::try_from(ManagedPath::drop_in_folder(unit).0.join(name))
    }

    /// The folder of a drop-in; none for other files.
    pub fn folder_of_drop_in(&self) -> Option<ManagedPath> {
        let folder = self.0.parent()?;
        let drop_ins = folder.to_str()?.ends_with(".service.d");
        drop_ins.then(|| ManagedPath(folder.to_owned()))
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for ManagedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl From<ManagedPath> for PathBuf {
    fn from(path: ManagedPath) -> PathBuf {
        path.0
    }
}

impl TryFrom<PathBuf> for ManagedPath {
    type Error = NotManaged;

    /// Takes only the shapes that the constructors make; the last line of defence for what is read back from a plan.
    fn try_from(path: PathBuf) -> Result<Self, NotManaged> {
        let plain = path.is_absolute()
            && path
                .components()
                .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        let under = |folder: &str| path.starts_with(folder);
        let ends = |suffix: &str| path.to_str().is_some_and(|p| p.ends_with(suffix));
        let shape = if path == Path::new(ETC_FOLDER) {
            true
        } else if under(FENCE_FOLDER) {
            path == Path::new(FENCE_FOLDER) || ends(".closed")
        } else if under(UNIT_FOLDER) {
            ends(".service") || ends(".service.d") || ends(".conf")
        } else {
            ends(".toml")
        };
        if plain && shape {
            Ok(ManagedPath(path))
        } else {
            Err(NotManaged(format!(
                "{} is no path that kmsctl writes: a .toml config, a unit, a drop-in or a fence marker",
                path.display()
            )))
        }
    }
}

/// A path at which nothing stands yet: of a new signer's config, unit, keys and state file, or of a backup.
///
/// What takes one creates with `O_EXCL` and renames without replacing, so that a state or key file can be made and never
/// changed (rule S3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(into = "PathBuf")]
#[schemars(extend("pattern" = "^/"))]
pub struct NewPath(PathBuf);

impl NewPath {
    /// A path that goes into no config and no unit: blanks and letters of every language are as good as others there.
    ///
    /// # Errors
    /// A path that is relative or climbs with `..`, and one that can't be told in a line.
    pub fn unwritten(path: PathBuf) -> Result<Self, NotManaged> {
        let shown = path.display();
        let plain = path.is_absolute()
            && path.file_name().is_some()
            && path
                .components()
                .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if !plain {
            return Err(NotManaged(format!(
                "{shown:?} is no absolute path without `..`"
            )));
        }
        let text = path.to_str();
        if text.is_none_or(|text| text.chars().any(char::is_control)) {
            return Err(NotManaged(format!(
                "{shown:?} isn't UTF-8, or has a control character in it"
            )));
        }
        Ok(NewPath(path))
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<PathBuf> for NewPath {
    type Error = NotManaged;

    /// Takes what stands in a tmkms.toml and in a unit as it is: no blank, quote or specifier that one of them would read
    /// in another way.
    fn try_from(path: PathBuf) -> Result<Self, NotManaged> {
        let new = NewPath::unwritten(path)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
        if !new.0.to_str().is_some_and(|text| text.chars().all(fits)) {
            return Err(NotManaged(format!(
                "{:?} has a character that a unit reads in its own way: only letters, digits and ./_-+@:,= are taken",
                new.0.display()
            )));
        }
        Ok(new)
    }
}

impl From<NewPath> for PathBuf {
    fn from(path: NewPath) -> PathBuf {
        path.0
    }
}

impl fmt::Display for NewPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A symbolic link of systemd's that kmsctl may make, point elsewhere, or take away: one that enables a unit, or gives it
/// a second name.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
#[schemars(extend("pattern" = r"^/(etc|run)/systemd/system/.*\.service$"))]
pub struct ManagedLink(PathBuf);

impl ManagedLink {
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The same folder's link for another unit.
    pub fn of(&self, unit: &UnitName) -> ManagedLink {
        ManagedLink(self.0.with_file_name(unit.as_str()))
    }

    /// The link that makes a target want a unit.
    ///
    /// # Errors
    /// A target whose name isn't one.
    pub fn wants(target: &str, unit: &UnitName) -> Result<ManagedLink, NotManaged> {
        let folder = Path::new(UNIT_FOLDER).join(format!("{target}.wants"));
        ManagedLink::try_from(folder.join(unit.as_str()))
    }

    /// Whether it is gone after a boot.
    pub fn is_runtime(&self) -> bool {
        self.0.starts_with(RUNTIME_FOLDER)
    }

    /// Whether it is a second name and enables nothing.
    pub fn is_alias(&self) -> bool {
        self.0.parent() == Some(Path::new(UNIT_FOLDER))
    }
}

impl fmt::Display for ManagedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl From<ManagedLink> for PathBuf {
    fn from(link: ManagedLink) -> PathBuf {
        link.0
    }
}

impl TryFrom<PathBuf> for ManagedLink {
    type Error = NotManaged;

    fn try_from(path: PathBuf) -> Result<Self, NotManaged> {
        let named = path
            .file_name()
            .and_then(|n| n.to_str())
            .is_some_and(|n| n.parse::<UnitName>().is_ok());
        let enables = |folder: &Path| {
            let above = folder.parent();
            let name = folder.file_name().and_then(|n| n.to_str());
            [UNIT_FOLDER, RUNTIME_FOLDER]
                .map(Path::new)
                .map(Some)
                .contains(&above)
                && name.is_some_and(|n| n.ends_with(".wants") || n.ends_with(".requires"))
        };
        let placed = path
            .parent()
            .is_some_and(|folder| folder == Path::new(UNIT_FOLDER) || enables(folder));
        if named && placed {
            Ok(ManagedLink(path))
        } else {
            let message = format!("{} is no link that enables or names a unit", path.display());
            Err(NotManaged(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_file_can_t_be_spelled() {
        for path in [
            "/data/priv_validator_state.json",
            "/etc/systemd/system/priv_validator_state.json",
            "/etc/kmsctl/fence/state.json",
            "/data/../data/x.toml",
            "relative.toml",
        ] {
            assert!(
                ManagedPath::try_from(PathBuf::from(path)).is_err(),
                "{path}"
            );
        }
        let mut protected = Protected::default();
        protected.insert("/data/state.toml");
        assert!(ManagedPath::config("/data/state.toml".into(), &protected).is_err());
        assert!(ManagedPath::config("/data/tmkms.v3.toml".into(), &protected).is_ok());
    }

    #[test]
    fn only_what_goes_into_a_unit_is_held_to_its_letters() {
        for (path, written, unwritten) in [
            ("/kms/a-1_b.json", true, true),
            ("/kms/mit Leerzeichen/ü.json", false, true),
            ("/kms/100%n.json", false, true),
            ("/kms/\"a\".json", false, true),
            ("/kms/a\nb.json", false, false),
            ("/kms/../b.json", false, false),
            ("b.json", false, false),
            ("/", false, false),
        ] {
            let path = PathBuf::from(path);
            assert_eq!(NewPath::try_from(path.clone()).is_ok(), written, "{path:?}");
            assert_eq!(
                NewPath::unwritten(path.clone()).is_ok(),
                unwritten,
                "{path:?}"
            );
        }
    }

    #[test]
    fn only_links_of_units_can_be_spelled() {
        let link = |path: &str| ManagedLink::try_from(PathBuf::from(path));
        for path in [
            "/etc/systemd/system/multi-user.target.wants/a.service",
            "/run/systemd/system/multi-user.target.requires/a.service",
            "/etc/systemd/system/alias.service",
        ] {
            assert!(link(path).is_ok(), "{path}");
        }
        for path in [
            "/etc/systemd/system/multi-user.target.wants/../a.service",
            "/etc/systemd/system/a.target",
            "/usr/lib/systemd/system/multi-user.target.wants/a.service",
            "/etc/systemd/system/multi-user.target.wants/state.json",
            "/etc/passwd",
        ] {
            assert!(link(path).is_err(), "{path}");
        }
    }
}
