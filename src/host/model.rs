//! A host that is a folder (`--root`): its files below another root, and one model of systemd over them. The same model
//! runs over any other tree, such as the crash tests' in memory.
//!
//! Enablement is the real links in `*.wants`. What runs is kept in `run/kmsctl/services.json` below the root; before
//! that file exists, enabled units count as running. A modelled start does what systemd and tmkms do: a failing
//! assertion fails the job, a bad config ends the process, a missing state file is created. Nothing of the tree is
//! executed. `run/kmsctl/faults.json` asks for failures by unit: `{"tmkms-02.v3.service": {"start": "failed"}}`.

mod services;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tmkms_core::protocol::TmkmsVersion;

use super::files::Tree;
use super::memory::{self, Memory, OnDisk};
use super::{Clock, Entry, Files, Host, Processes, World};
use crate::inventory::{Connection, SignerProcess, UnitRun};
use crate::unit::UnitName;
use services::Model;
pub use services::{FORMAT_VERSION as RUNNING_FORMAT, RUNNING};

/// Opens a folder as a host.
///
/// # Errors
/// No such folder; a link on the way to kmsctl's own folder below it, which could lead out of it.
pub fn open(root: &Path) -> Result<Host> {
    let context = || format!("opening {} as a host's root", root.display());
    let tree = Tree::open(root).with_context(context)?;
    for folder in ["/var", "/var/lib", memory::FOLDER, "/run", "/run/kmsctl"] {
        if let Some(Entry::Link(target)) = tree.entry(Path::new(folder)).with_context(context)? {
            bail!(
                "{}{folder} is a link to {}: below --root kmsctl's own folders must be folders",
                root.display(),
                target.display()
            );
        }
    }
    let memory = Memory::new(Box::new(OnDisk::below(root)));
    over(Box::new(tree), Box::new(Tree::open(root)?), memory)
}

/// A host over any tree, whatever keeps it: `files` is what kmsctl sees and changes, `world` the same tree in the hands
/// of the modelled systemd and tmkms.
///
/// # Errors
/// What was kept of the services can't be read.
pub fn over(files: Box<dyn Files>, world: Box<dyn World>, memory: Memory) -> Result<Host> {
    let model = Rc::new(RefCell::new(Model::load(world)?));
    let files: Rc<dyn Files> = files.into();
    Ok(Host {
        name: "model".into(),
        nodes: Box::new(super::nodes::Recorded(Rc::clone(&files))),
        files,
        services: Box::new(ModelServices(Rc::clone(&model))),
        processes: Box::new(ModelProcesses(Rc::clone(&model))),
        hsm: Box::new(super::hsm::Nothing),
        modelled: true,
        memory,
        clock: Box::new(ModelClock(model)),
    })
}

/// What runs, kept in the tree.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Running {
    pub format_version: u32,
    /// Counts starts; process ids and invocation ids are made from it.
    pub starts: u32,
    pub units: BTreeMap<UnitName, UnitRun>,
    /// What bars each unit's start, as of the last reload: like systemd, the model doesn't see new drop-ins before.
    #[serde(default)]
    pub loaded: BTreeMap<UnitName, Vec<PathBuf>>,
    /// The config that each running tmkms was started on; what its unit says now, where none is known.
    #[serde(default)]
    pub configs: BTreeMap<UnitName, PathBuf>,
}

/// Asked-for failures of one unit: the job result (`failed`, `timeout`, …), or `crash` for a start that succeeds and
/// a process that then ends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    #[serde(default)]
    pub start: Option<String>,
    #[serde(default)]
    pub stop: Option<String>,
    /// The height up to which a started signer signs all its chains at once.
    #[serde(default)]
    pub signs: Option<u64>,
    /// Sessions of its YubiHSM that nobody known holds: how many, and for how many seconds from the first start on.
    #[serde(default)]
    pub foreign_sessions: Option<(usize, u64)>,
    /// What its process logs.
    #[serde(default)]
    pub log: Vec<String>,
    /// A validator of its chains that asks for blocks while the signer runs.
    #[serde(default)]
    pub validator: Option<Validator>,
    /// A link that enabling the unit makes beyond those that it should, with its target.
    #[serde(default)]
    pub enable: Option<(PathBuf, PathBuf)>,
}

/// A modelled validator: it is connected to the signer and has it sign a block each time its seconds have passed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    pub seconds: u64,
    /// The last block.
    pub until: u64,
    /// Its chain; all of the signer's where none is named.
    #[serde(default)]
    pub chain: Option<String>,
    /// It goes after the last block, and its connection with it; else it stays connected and silent.
    #[serde(default)]
    pub ends: bool,
}

struct ModelServices(Rc<RefCell<Model>>);

impl super::Services for ModelServices {
    fn unit_path(&mut self) -> Result<Vec<PathBuf>> {
        Ok(services::UNIT_PATH.iter().map(PathBuf::from).collect())
    }

    fn view(&mut self, unit: &UnitName) -> Result<super::UnitView> {
        self.0.borrow().view(unit)
    }

    fn instances(&mut self, template: &UnitName) -> Result<Vec<UnitName>> {
        Ok(self.0.borrow().instances(template))
    }

    fn run(&mut self, unit: &UnitName) -> Result<UnitRun> {
        Ok(self.0.borrow().run(unit))
    }

    fn begin(&mut self, job: &super::Job) -> Result<super::Ticket> {
        self.0.borrow_mut().begin(job)
    }

    fn next_end(&mut self, within: Duration) -> Result<Option<super::JobEnd>> {
        let mut model = self.0.borrow_mut();
        let end = model.ends.pop_front();
        if end.is_none() {
            model.pass(within)?;
        }
        Ok(end)
    }

    fn enable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>> {
        self.0.borrow_mut().enable(units)
    }

    fn disable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>> {
        self.0.borrow_mut().disable(units)
    }

    fn reload(&mut self) -> Result<()> {
        self.0.borrow_mut().reload()
    }
}

struct ModelProcesses(Rc<RefCell<Model>>);

impl Processes for ModelProcesses {
    fn signers(&mut self) -> Result<Vec<SignerProcess>> {
        self.0.borrow().signers()
    }

    fn in_unit(&mut self, unit: &UnitName, _control_group: &str) -> Result<Vec<u32>> {
        let run = self.0.borrow().run(unit);
        Ok(if run.state.main_pid == 0 {
            Vec::new()
        } else {
            vec![run.state.main_pid]
        })
    }

    fn connections(&mut self, pid: u32) -> Result<Vec<Connection>> {
        self.0.borrow().connections(pid)
    }

    fn last_lines(
        &mut self,
        unit: &UnitName,
        _since: jiff::Timestamp,
        lines: usize,
    ) -> Result<Vec<String>> {
        // What a fault logs, it logs at every start.
        Ok(self.0.borrow().last_lines(unit, lines))
    }

    fn tmkms_version(&mut self, _program: &Path, _user: &str) -> Result<Option<TmkmsVersion>> {
        Ok(None)
    }

    fn is_program(&self, _path: &Path) -> Option<bool> {
        None
    }

    fn operator(&self) -> String {
        format!("uid {}", rustix::process::getuid().as_raw())
    }
}

/// Records carry real times; waiting takes none, since nothing in a model needs time to happen.
struct ModelClock(Rc<RefCell<Model>>);

impl Clock for ModelClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.0.borrow().time
    }

    fn sleep(&self, time: Duration) -> Result<()> {
        self.0.borrow_mut().pass(time)
    }
}
