//! The only seam to the world: files, services, processes, key devices, kmsctl's own memory, the clock.
//!
//! Two hosts stand behind it. [`live`] is the machine: its files, systemd over D-Bus, `/proc`. [`model`] is a folder
//! (`--root`): the same file code below another root, and a model of systemd over the folder's own units.

pub mod asked;
mod environment;
pub mod files;
pub mod hsm;
pub mod live;
mod logs;
pub mod memory;
pub mod model;
pub mod nodes;
pub mod seen;
pub mod sockets;
pub mod systemd;
pub mod unit_files;
pub mod unit_path;

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tmkms_core::protocol::TmkmsVersion;
use zeroize::Zeroizing;

use crate::content::Fingerprint;
use crate::floor::Floor;
use crate::inventory::{Activity, Connection, FileFacts, RunState, SignerProcess, UnitRun};
use crate::paths::{ManagedLink, ManagedPath};
use crate::unit::UnitName;
use crate::unit::effective::EnvironmentFile;
use crate::unit::variables::Variables;

/// A host, as kmsctl sees and changes it.
pub struct Host {
    pub name: String,
    pub files: Rc<dyn Files>,
    pub services: Box<dyn Services>,
    pub processes: Box<dyn Processes>,
    pub hsm: Box<dyn hsm::Hsm>,
    pub nodes: Box<dyn nodes::Nodes>,
    pub memory: memory::Memory,
    pub clock: Box<dyn Clock>,
    /// A folder stands for it: nothing of the machine that kmsctl runs on says anything of this host.
    pub modelled: bool,
}

/// What stands at a path, without following a link in its last component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    File(FileFacts),
    Folder(FileFacts),
    /// A symbolic link and what it names.
    Link(PathBuf),
    Other,
}

/// What is free on a filesystem, for everybody but root's own reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub bytes: u64,
    /// How many files may be made; none where there is no such bound.
    pub files: Option<u64>,
}

/// What a process runs, held against what is at its program's path now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executable {
    Same,
    Other,
    /// Nothing is there any more.
    Gone,
}

/// Reading any file, and the few changes kmsctl makes. Every path is absolute and seen from the host's own root.
///
/// A changing method takes a [`ManagedPath`]: no state, key or password file can be handed to it.
pub trait Files {
    /// `None` when nothing is there.
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>>;
    /// The SHA-256 of a regular file of any size, links followed.
    fn fingerprint(&self, path: &Path) -> io::Result<Fingerprint>;
    /// The whole of a regular file of at most 16 MiB, links followed.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The same of a file that may hold a key or a password, into memory that is wiped.
    fn read_secret(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        self.read(path).map(Zeroizing::new)
    }
    /// The names in a folder, sorted; empty when there is no such folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// The access control list of a file or folder, links followed, as the kernel keeps it; none where it has none.
    fn acl(&self, _path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
    /// What is free where a folder is; none where that can't be said.
    fn space(&self, _folder: &Path) -> io::Result<Option<Space>> {
        Ok(None)
    }
    /// The folder's own path, without any link in it.
    fn resolve(&self, folder: &Path) -> io::Result<PathBuf>;
    /// Makes a file durable without changing it.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder's entries durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Creates a folder (mode 0755) and makes it durable; its parent must exist.
    fn create_folder(&self, path: &ManagedPath) -> io::Result<()>;
    /// Creates a file that doesn't exist yet: temporary name, owner, mode and extended attributes of `like`, fsync,
    /// rename that never replaces, fsync of the folder.
    ///
    /// # Errors
    /// `AlreadyExists` when anything is at the path; a link in the path's folders.
    fn create(&self, path: &ManagedPath, bytes: &[u8], like: &Like) -> io::Result<()>;
    /// Creates a floor that doesn't exist yet, with the owner and mode of the file it descends from.
    ///
    /// # Errors
    /// As [`Files::create`].
    fn lay_floor(&self, floor: &Floor, like: &Path) -> io::Result<()>;
    /// Takes a floor away and makes that durable.
    ///
    /// # Errors
    /// It isn't, byte for byte, what was laid: nothing is touched then.
    fn withdraw_floor(&self, floor: &Floor) -> io::Result<()>;
    /// Takes a file or an empty folder away and makes that durable.
    fn remove(&self, path: &ManagedPath) -> io::Result<()>;
    /// Makes a link, points it elsewhere, or with no target takes it away, in one step, and makes that durable. Its
    /// folder, such as `multi-user.target.wants`, comes and goes with it, as systemd does it.
    fn set_link(&self, link: &ManagedLink, target: Option<&Path>) -> io::Result<()>;
}

/// What a modelled systemd and a modelled tmkms may do to the tree, beyond what kmsctl itself may.
pub trait World: Files {
    /// Writes a file, replacing what is there.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Creates a file (mode 0600); an existing one stays as it is.
    fn put_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn link(&self, path: &Path, target: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder where there is none.
    fn folder(&self, path: &Path) -> io::Result<()>;
}

/// Where a new file gets its owner, mode and extended attributes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Like {
    /// The file that it descends from.
    File(PathBuf),
    /// root's, mode 0644.
    Plain,
}

/// What systemd knows of a service unit.
#[derive(Clone, Debug)]
pub struct UnitView {
    pub name: UnitName,
    pub fragment: PathBuf,
    pub drop_ins: Vec<PathBuf>,
    /// argv of each ExecStart, beginning with the program's own path.
    pub exec: Vec<Vec<String>>,
    pub user: String,
    /// `/` where the unit says nothing.
    pub working_directory: PathBuf,
    /// Of `Environment=`.
    pub variables: Variables,
    pub environment_files: Vec<EnvironmentFile>,
    /// The variables that `PassEnvironment=` takes from the manager or `UnsetEnvironment=` takes away.
    pub outside_variables: Vec<String>,
    /// The kind of its `StandardOutput=`, such as `journal`, `append` or `null`.
    pub output: String,
    pub needs_reload: bool,
    /// The paths whose existence bars a start, as the manager has loaded them (`AssertPathExists=!…`).
    pub barred_by: Vec<PathBuf>,
    pub run: RunState,
}

impl UnitView {
    /// The variables of its `EnvironmentFile=`s, which win over those of `Environment=`.
    ///
    /// # Errors
    /// A file that can't be read, or one that systemd wouldn't start the unit without: named, with the reason.
    pub fn file_variables(&self, files: &dyn Files) -> Result<Variables> {
        let mut variables = Variables::default();
        for path in self.found_environment_files(files)? {
            let context = || format!("reading {}", path.display());
            let bytes = files.read(&path).with_context(context)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| anyhow!("it isn't UTF-8"))
                .with_context(context)?;
            variables
                .read(&text)
                .map_err(anyhow::Error::msg)
                .with_context(context)?;
        }
        Ok(variables)
    }

    /// The files behind its `EnvironmentFile=`s: patterns matched, optional ones that aren't there left out.
    ///
    /// # Errors
    /// As [`UnitView::file_variables`].
    pub fn found_environment_files(&self, files: &dyn Files) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for file in &self.environment_files {
            let path = file.path.display();
            let matching = environment::matching(files, &file.path)
                .with_context(|| format!("looking for {path}"))?;
            if matching.is_empty() && !file.optional {
                bail!(
                    "EnvironmentFile={path} isn't there, and without a `-` before it systemd doesn't start the unit"
                );
            }
            found.extend(matching);
        }
        Ok(found)
    }
}

/// A job that systemd is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Clears a failed state and the start limit first.
    Start(UnitName),
    Stop(UnitName),
}

/// Names a begun job until its end is seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEnd {
    pub ticket: Ticket,
    pub ended: Ended,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// systemd's own word: `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`, `assert`. `done` doesn't mean
    /// that the unit runs: that is read afterwards.
    Job(String),
    /// There was no job, and why.
    Refused(String),
}

/// The service manager.
pub trait Services {
    /// The folders that units are read from, most important first.
    fn unit_path(&mut self) -> Result<Vec<PathBuf>>;
    fn view(&mut self, unit: &UnitName) -> Result<UnitView>;
    /// Views of many units that have no second names, in their order.
    fn views(&mut self, units: &[UnitName]) -> Vec<Result<UnitView>> {
        units.iter().map(|unit| self.view(unit)).collect()
    }
    /// The instances of a template that the manager has loaded, running ones among them.
    fn instances(&mut self, template: &UnitName) -> Result<Vec<UnitName>>;
    fn run(&mut self, unit: &UnitName) -> Result<UnitRun>;
    /// Whether many units run, in their order.
    fn run_states(&mut self, units: &[UnitName]) -> Vec<Result<RunState>> {
        let runs = units.iter().map(|unit| self.run(unit));
        runs.map(|run| Ok(run?.state)).collect()
    }
    /// Only whether units run, in their order: asked far more often than the rest, while signers are dark.
    fn activities(&mut self, units: &[UnitName]) -> Result<Vec<Activity>> {
        let states = self.run_states(units).into_iter();
        states.map(|run| Ok(run?.activity())).collect()
    }
    /// The paths whose existence bars each unit's start, as the manager has loaded it.
    fn barred_by(&mut self, units: &[UnitName]) -> Vec<Result<Vec<PathBuf>>> {
        let views = self.views(units).into_iter();
        views.map(|view| Ok(view?.barred_by)).collect()
    }
    /// Asks for a job, and doesn't wait for the answer.
    fn begin(&mut self, job: &Job) -> Result<Ticket>;
    /// The next job that ended, or `None` when none did in time.
    fn next_end(&mut self, within: Duration) -> Result<Option<JobEnd>>;
    /// Enables units; the links that were made, by their paths.
    fn enable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>>;
    /// Disables units; the links that were removed, by their paths.
    fn disable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>>;
    /// Lets the manager read its units again.
    fn reload(&mut self) -> Result<()>;
}

/// What runs once a unit was stopped.
pub struct Left {
    /// The processes in its control group.
    pub in_unit: Vec<u32>,
    pub signers: Vec<SignerProcess>,
}

/// What runs, whoever started it.
pub trait Processes {
    /// Every process started as `… start` whose executable or argv[0] contains `tmkms`.
    fn signers(&mut self) -> Result<Vec<SignerProcess>>;
    /// The processes in a unit's control group, and every signer, by one look.
    fn left(&mut self, unit: &UnitName, control_group: &str) -> Result<Left> {
        Ok(Left {
            in_unit: self.in_unit(unit, control_group)?,
            signers: self.signers()?,
        })
    }
    /// The processes in a unit's control group.
    fn in_unit(&mut self, unit: &UnitName, control_group: &str) -> Result<Vec<u32>>;
    /// The established connections of a process.
    fn connections(&mut self, pid: u32) -> Result<Vec<Connection>>;
    /// Those of many processes, in their order.
    fn connections_of(&mut self, pids: &[u32]) -> Vec<Result<Vec<Connection>>> {
        pids.iter().map(|pid| self.connections(*pid)).collect()
    }
    /// The last lines that a unit's processes logged since a time, oldest first, in plain text. An earlier run's explain
    /// nothing.
    fn last_lines(
        &mut self,
        unit: &UnitName,
        since: jiff::Timestamp,
        lines: usize,
    ) -> Result<Vec<String>>;
    /// What a tmkms binary says of its version, asked as the user that runs it; `None` where it isn't asked.
    fn tmkms_version(&mut self, program: &Path, user: &str) -> Result<Option<TmkmsVersion>>;
    /// Whether a path is a file that may be executed; `None` where nothing is ever executed.
    fn is_program(&self, path: &Path) -> Option<bool>;
    /// What a process runs, if it still does; none where that can't be said.
    fn runs(&mut self, _pid: u32, _program: &Path) -> Result<Option<Executable>> {
        Ok(None)
    }
    /// Whether whoever runs kmsctl may read what units log; none where that can't be said.
    fn reads_journal(&mut self) -> Option<bool> {
        None
    }
    /// Who runs kmsctl, for the journal.
    fn operator(&self) -> String;
}

/// Time, for records and for waiting.
pub trait Clock {
    fn now(&self) -> jiff::Timestamp;
    /// Time since some moment, never going back; under a model it passes only in waits.
    fn elapsed(&self) -> Duration;
    /// Lets time pass.
    fn sleep(&self, time: Duration) -> Result<()>;
    /// Whether the clock is kept right from outside; none where that can't be said.
    fn synchronised(&self) -> Option<bool> {
        None
    }
}
