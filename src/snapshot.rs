//! This host as a `--root` tree: what plans are made from, without secrets, to rehearse the night elsewhere.
//!
//! `choose` says which files belong to it, `collect` reads them through the host seam, `mask` and `placeholder` take the
//! secrets out, `folder` writes the tree, `compare` reads it back as a host and holds it against the one it was taken
//! from. A snapshot that would plan otherwise than its host is never finished. Nothing of the host is changed.
//!
//! What is written beside the host's own files lies in `run/kmsctl`, the folder that only modelled hosts have: what runs,
//! and [`Snapshot`] itself. There it travels with the tree and can't be taken for a file of the host.

pub mod choose;
pub mod collect;
pub mod compare;
pub mod folder;
pub mod mask;
pub mod placeholder;
pub mod trail;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use schemars::JsonSchema;
use serde::Serialize;

use crate::discover::{self, Versions};
use crate::exit::Failure;
use crate::finding::Finding;
use crate::host::memory::FOLDER as MEMORY;
use crate::host::model::{self, Running};
use crate::host::{Host, UnitView};
use crate::inventory::{FileFacts, Inventory, UnitRun};
use crate::journal::store::History;
use choose::LeadsToConfig;
use collect::Collector;
use placeholder::Placeholders;

/// The format of the document that this kmsctl writes.
pub const FORMAT_VERSION: u32 = 1;
/// Where the document lies in the tree.
pub const DOCUMENT: &str = "/run/kmsctl/snapshot.json";

/// What stands at a path of the tree.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    Folder(FileFacts),
    File(FileFacts, Vec<u8>),
    /// With the host's own target: below `--root` an absolute one is looked up below the root again.
    Link(PathBuf),
}

/// What goes into the tree has its secrets taken out, and what is still to be masked has not (rule S11).
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Folder(facts) => write!(f, "Folder {:04o}", facts.mode),
            Node::File(facts, bytes) => write!(f, "File {:04o}, {} bytes", facts.mode, bytes.len()),
            Node::Link(target) => write!(f, "Link to {}", target.display()),
        }
    }
}

/// A tree, by link-free paths: a parent comes before what is in it.
pub type Nodes = BTreeMap<PathBuf, Node>;

/// What a snapshot says of itself. No time is in it, so that two of one host differ in placeholders only.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Snapshot {
    pub format_version: u32,
    pub kmsctl: String,
    pub host: String,
    pub signers: Vec<SnapshotSigner>,
    /// Where placeholders stand for secrets.
    pub replaced: Vec<Replaced>,
    pub left_out: Vec<LeftOut>,
    /// What to know before it is given to somebody else.
    pub look_at: Vec<String>,
}

/// A signer that is in the snapshot.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SnapshotSigner {
    pub signer: String,
    pub unit: String,
    pub active: bool,
    pub enabled: bool,
    pub config: PathBuf,
}

/// A file with placeholders in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Replaced {
    pub path: PathBuf,
    pub what: Secret,
}

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    KeyFile,
    PasswordFile,
    /// Passwords, API keys and values that may be one, in a config, a unit, a drop-in or an environment file.
    Values,
}

/// What of the host isn't in the snapshot, or isn't what it was, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct LeftOut {
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    pub why: String,
}

impl LeftOut {
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> LeftOut {
        LeftOut {
            what: what.into(),
            path: None,
            why: why.into(),
        }
    }

    pub fn at(self, path: impl Into<PathBuf>) -> LeftOut {
        LeftOut {
            path: Some(path.into()),
            ..self
        }
    }
}

/// A snapshot in memory, and what it is held against once it is written.
pub struct Taken {
    pub nodes: Nodes,
    pub snapshot: Snapshot,
    /// Places where something may be a secret and is kept: for the operator's eyes, and never kept itself.
    pub doubtful: Vec<String>,
    inventory: Inventory,
    history: History,
}

/// Takes a snapshot. `key` is random: see [`placeholder`].
///
/// # Errors
/// Refused while kmsctl changes the host, and where a current signer can't be read; a file that can't be read.
pub fn take(host: &mut Host, key: [u8; 32]) -> Result<Taken, Failure> {
    if host.memory.is_locked()? {
        return Err(Failure::refused(
            "kmsctl is changing this host now; wait for it to end, or see `kmsctl status`",
        ));
    }
    let inventory = discover::inventory(host, Versions::Skip)?;
    let blocks: Vec<String> = inventory
        .problems
        .iter()
        .filter(|problem| problem.blocks())
        .map(Finding::to_string)
        .collect();
    if !blocks.is_empty() {
        return Err(Failure::refused(format!(
            "a signer that runs or is enabled can't be read, and the snapshot would be another host without it:\n{}",
            blocks.join("\n")
        )));
    }
    let history = History::read(host)?;
    let mut views = Vec::new();
    for signer in &inventory.signers {
        views.push(host.services.view(&signer.unit.name)?);
    }
    let mut environment_files = Vec::new();
    for view in &views {
        environment_files.extend(view.found_environment_files(&*host.files)?);
    }
    let unit_path = host.services.unit_path()?;
    let mut chosen = choose::choose(&inventory, &views, &history.0);
    chosen.extend(
        environment_files
            .into_iter()
            .map(|f| (choose::Kind::EnvironmentFile, f)),
    );
    let leads = LeadsToConfig::of(&inventory);
    let collector = Collector::new(&*host.files, &leads, Placeholders::new(key));
    let collected = collector.collect(&chosen, &unit_path)?;
    let mut nodes = collected.nodes;
    let snapshot = Snapshot {
        format_version: FORMAT_VERSION,
        kmsctl: env!("CARGO_PKG_VERSION").to_owned(),
        host: inventory.host.clone(),
        signers: inventory.signers.iter().map(SnapshotSigner::of).collect(),
        replaced: collected.replaced.into_iter().collect(),
        left_out: left_out(&inventory, collected.left_out),
        look_at: LOOK_AT.map(str::to_owned).to_vec(),
    };
    own_file(&mut nodes, model::RUNNING, &running(&inventory, &views))?;
    own_file(&mut nodes, DOCUMENT, &snapshot)?;
    Ok(Taken {
        nodes,
        snapshot,
        doubtful: collected.doubtful,
        inventory,
        history,
    })
}

impl Taken {
    /// Reads the written tree back as a host.
    ///
    /// # Errors
    /// Refused where a plan would be made from anything else than on the host.
    pub fn check(&self, tree: &Path) -> Result<(), Failure> {
        let mut host = model::open(tree)?;
        let inventory = discover::inventory(&mut host, Versions::Skip)?;
        let history = History::read(&host)?;
        let there = (&self.inventory, self.history.0.as_slice());
        let odd = compare::differences(there, (&inventory, history.0.as_slice()));
        if odd.is_empty() {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "below --root this host would read otherwise, and a rehearsal would say nothing; no snapshot was made. What \
             differs:\n  {}",
            odd.join("\n  ")
        )))
    }
}

impl SnapshotSigner {
    fn of(signer: &crate::inventory::Signer) -> SnapshotSigner {
        SnapshotSigner {
            signer: signer.name(),
            unit: signer.unit.name.to_string(),
            active: signer.is_up(),
            enabled: !signer.unit.links.is_empty(),
            config: signer.config.path.clone(),
        }
    }
}

/// What runs, for the model. Process ids and the like are made up in order: those of the host mean nothing elsewhere.
fn running(inventory: &Inventory, views: &[UnitView]) -> Running {
    let main = |view: &UnitView| {
        let mut processes = inventory.processes.iter();
        let process = processes.find(|p| p.pid == view.run.main_pid)?;
        process.config.clone()
    };
    let mut running = Running {
        format_version: model::RUNNING_FORMAT,
        ..Running::default()
    };
    for view in views {
        let mut run = UnitRun {
            state: view.run.clone(),
            ..UnitRun::default()
        };
        if run.state.is_up() {
            running.starts += 1;
            run.invocation = format!("{:032x}", running.starts);
        }
        if run.state.main_pid != 0 {
            run.state.main_pid = 1000 + running.starts;
        }
        running.units.insert(view.name.clone(), run);
        if let Some(config) = main(view) {
            running.configs.insert(view.name.clone(), config);
        }
        running
            .loaded
            .insert(view.name.clone(), view.barred_by.clone());
    }
    running
}

/// A file of the snapshot's own, in a folder that only modelled hosts have.
fn own_file<T: Serialize>(nodes: &mut Nodes, path: &str, content: &T) -> anyhow::Result<()> {
    let facts = |mode| FileFacts {
        uid: 0,
        gid: 0,
        mode,
    };
    let path = PathBuf::from(path);
    for folder in path.ancestors().skip(1).filter(|f| f.file_name().is_some()) {
        let folder = folder.to_owned();
        nodes.entry(folder).or_insert(Node::Folder(facts(0o755)));
    }
    let mut bytes = serde_json::to_vec_pretty(content)
        .with_context(|| format!("writing {}", path.display()))?;
    bytes.push(b'\n');
    nodes.insert(path, Node::File(facts(0o644), bytes));
    Ok(())
}

const LOOK_AT: [&str; 5] = [
    "Comments, descriptions and the arguments of commands are kept as they are, but for comments in configs that speak of \
     a password or an API key: look whether one holds a secret.",
    "Chain ids, addresses, paths, user names and serial numbers are kept: a plan is made from them.",
    "Journals are kept: they name who ran kmsctl, and hold the state files that they recorded.",
    "Links keep their targets, absolute ones too: below --root kmsctl looks them up in the snapshot, another program \
     would follow them to the machine that it runs on.",
    "Modes are kept, and owners where root takes the snapshot.",
];

fn left_out(inventory: &Inventory, found: Vec<LeftOut>) -> Vec<LeftOut> {
    let mut left_out = vec![
        LeftOut::new(
            "key bytes and passwords",
            "placeholders stand for them, equal ones for equal secrets",
        ),
        LeftOut::new("devices that hold keys", "below --root no device is asked"),
        LeftOut::new("other units, users and files", "no plan is made from them"),
        LeftOut::new(
            "the current plan",
            "it names the binaries of this host: plan again in the snapshot",
        )
        .at(Path::new(MEMORY).join("plan.json")),
    ];
    let programs: BTreeSet<&String> = inventory
        .signers
        .iter()
        .filter_map(|s| s.unit.exec.first())
        .collect();
    left_out.extend(
        programs.into_iter().map(|program| {
            LeftOut::new("a binary", "below --root nothing is executed").at(program)
        }),
    );
    for signer in inventory.signers.iter().filter(|s| s.unit.needs_reload) {
        let why = "the snapshot has what is on disk, and systemd runs an older text: `systemctl daemon-reload` first";
        left_out.push(
            LeftOut::new("that systemd hasn't read a unit's newest text", why)
                .at(&signer.unit.fragment),
        );
    }
    for problem in &inventory.problems {
        let why = format!("{problem}").replace('\n', " ");
        left_out.push(LeftOut::new("a unit that neither runs nor is enabled", why));
    }
    let units: BTreeSet<&str> = inventory
        .signers
        .iter()
        .map(|s| s.unit.name.as_str())
        .collect();
    let strays = inventory
        .processes
        .iter()
        .filter(|p| p.unit.as_deref().is_none_or(|unit| !units.contains(unit)));
    for process in strays {
        let why = format!("process {} is of no unit that was taken", process.pid);
        left_out.push(LeftOut::new("a running tmkms", why));
    }
    left_out.extend(found);
    left_out
}
