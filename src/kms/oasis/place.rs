//! The one folder of a node that may be moved, and where to: as types that can't name anything else.
//!
//! The sealed database is `<datadir>/runtimes/<id>/worker-local-storage.badger.db`, the same since v20.12. Moving anything
//! else of a data dir, or the database to another filesystem or into another node's reach, must be unspellable.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::{Mrenclave, RuntimeId};

const DATABASE: &str = "worker-local-storage.badger.db";
/// Beside `runtimes`, so that oasis-node never sees what lies in it, and in the same data dir.
const ASIDE: &str = "kmsctl-aside";

/// Why a path isn't one that may be moved.
#[derive(Debug, PartialEq, Eq)]
pub struct NotMovable(String);

impl fmt::Display for NotMovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotMovable {}

/// A key manager's sealed database, in its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub struct DatabasePath(PathBuf);

/// Where a sealed database lies while another enclave's is in its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub struct AsidePath(PathBuf);

impl DatabasePath {
    /// # Errors
    /// A data dir that isn't absolute or climbs, or a runtime that is no key manager's.
    pub fn of(data_dir: &Path, runtime: &RuntimeId) -> Result<Self, NotMovable> {
        let path = data_dir
            .join("runtimes")
            .join(runtime.to_string())
            .join(DATABASE);
        DatabasePath::try_from(path)
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The data dir that it is in.
    pub fn data_dir(&self) -> &Path {
        self.0.ancestors().nth(3).unwrap_or(Path::new("/"))
    }
}

impl AsidePath {
    /// The place for what this enclave sealed; `attempt` counts on from 1 where one is taken.
    pub fn of(database: &DatabasePath, sealed_by: &Mrenclave, attempt: u32) -> AsidePath {
        let folder = match attempt {
            0 | 1 => sealed_by.short(),
            more => format!("{}.{more}", sealed_by.short()),
        };
        AsidePath(database.data_dir().join(ASIDE).join(folder).join(DATABASE))
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

/// The last names of an absolute path without `..`, nearest first.
fn names(path: &Path) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => names.push(name.to_str()?),
            Component::CurDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    names.reverse();
    path.is_absolute().then_some(names)
}

impl TryFrom<PathBuf> for DatabasePath {
    type Error = NotMovable;

    fn try_from(path: PathBuf) -> Result<Self, NotMovable> {
        let fits = match names(&path).as_deref() {
            Some([DATABASE, id, "runtimes", ..]) => {
                id.parse::<RuntimeId>().is_ok_and(|id| id.is_key_manager())
                    && *id == id.to_lowercase()
            }
            _ => false,
        };
        if fits {
            Ok(DatabasePath(path))
        } else {
            Err(NotMovable(format!(
                "{} is no key manager's database: <datadir>/runtimes/<key manager's id>/{DATABASE}",
                path.display()
            )))
        }
    }
}

impl TryFrom<PathBuf> for AsidePath {
    type Error = NotMovable;

    fn try_from(path: PathBuf) -> Result<Self, NotMovable> {
        match names(&path).as_deref() {
            Some([DATABASE, _, ASIDE, ..]) => Ok(AsidePath(path)),
            _ => Err(NotMovable(format!(
                "{} is no place of a database that kmsctl laid aside",
                path.display()
            ))),
        }
    }
}

impl From<DatabasePath> for PathBuf {
    fn from(path: DatabasePath) -> PathBuf {
        path.0
    }
}

impl From<AsidePath> for PathBuf {
    fn from(path: AsidePath) -> PathBuf {
        path.0
    }
}

impl fmt::Display for DatabasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl fmt::Display for AsidePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// What was seen right before a database is moved, each on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeforeMove {
    pub unit_inactive: bool,
    /// Nothing is left in its control group.
    pub no_process: bool,
    /// Badger's lock on the folder was taken, and is held.
    pub locked: bool,
    /// The path without any link in it; none where it can't be resolved.
    pub resolved: Option<PathBuf>,
    pub same_filesystem: bool,
    /// Nothing is where it is moved to.
    pub free: bool,
    /// The runtime id that the config names now.
    pub configured: Option<RuntimeId>,
    pub old: Mrenclave,
    pub new: Mrenclave,
    /// The staged bundle is the one that passed every check: its SHA-256 is the plan's.
    pub staged: bool,
}

/// Why a database may not be moved; nothing where it may.
pub fn against_moving(
    database: &DatabasePath,
    runtime: &RuntimeId,
    seen: &BeforeMove,
) -> Vec<String> {
    let path = database.as_path();
    let named = path.parent().and_then(Path::file_name);
    let checks = [
        (seen.unit_inactive, "the unit isn't stopped".to_owned()),
        (
            seen.no_process,
            "processes of the unit still run".to_owned(),
        ),
        (
            seen.locked,
            format!("{database} is locked: a node still has it open"),
        ),
        (
            seen.resolved.as_deref() == Some(path),
            format!("{database} leads through a link, or can't be resolved"),
        ),
        (
            seen.same_filesystem,
            format!("{database} can't be laid aside on its own filesystem"),
        ),
        (
            seen.free,
            "something is in the place where it is to lie".to_owned(),
        ),
        (
            seen.configured == Some(*runtime)
                && named.is_some_and(|name| *name == *runtime.to_string()),
            format!("the config doesn't name runtime {runtime}"),
        ),
        (
            seen.old != seen.new,
            "both bundles hold one enclave: the new one opens the database as it is".to_owned(),
        ),
        (
            seen.staged,
            "the staged bundle isn't the one that was checked".to_owned(),
        ),
    ];
    checks
        .into_iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, why)| why)
        .collect()
}
