//! A plan: what will be done to which signer, with every byte rendered and every effect chosen, and the findings that
//! speak against it.
//!
//! Planning is pure: the same inputs give the same plan and the same id. Heights, process ids and times are told in a
//! plan and are no inputs. `apply` decides nothing: it plans once more, compares, and performs.

pub mod decide;
pub mod halt;
pub mod program;
pub mod safety;
pub mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tmkms_core::chain_id::ChainId;
use tmkms_core::config::KeyRef;
use tmkms_core::protocol::ProtocolVersion;

use crate::content::{Fingerprint, NewFile};
use crate::finding::{Code, Finding};
use crate::inventory::{Signer, SignerChain, StateReading, UnitLink};
use crate::paths::{ManagedLink, ManagedPath};
use crate::unit::UnitName;

/// The format of a saved plan that this kmsctl writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// What the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub new_chain: ChainId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from_chain: Option<ChainId>,
    /// Only these; all that sign the old chain where empty.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub signers: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suffix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<ProtocolVersion>,
    /// The tmkms that the new units run; the old units' own where none is given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub binary: Option<PathBuf>,
    /// Where new configs go; beside the old ones where none is given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub config_dir: Option<PathBuf>,
    /// How far apart the heights of the moving chain may be, in blocks.
    pub max_spread: u64,
    /// Findings that the operator overrules.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub accept: BTreeSet<Code>,
}

/// The plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    /// Of everything but `binaries`, `observed` and `findings`.
    pub id: String,
    pub request: Request,
    /// What goes into the new names, such as `v3`.
    pub suffix: String,
    /// The chain that is left; none when nothing is to be done.
    pub from: Option<ChainId>,
    pub moves: Vec<Move>,
    /// The files that the plan was made from, secrets cut out.
    pub inputs: Vec<Input>,
    /// The binaries that were seen, and no part of the id: a folder that stands for a host has none.
    pub binaries: BTreeMap<PathBuf, Fingerprint>,
    pub observed: Observed,
    pub findings: Vec<Finding>,
}

/// A file that the plan was made from, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub path: PathBuf,
    pub text: String,
}

/// What was seen when the plan was made; told, and no input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    pub host: String,
    pub at: jiff::Timestamp,
    pub heights: Vec<Height>,
    /// The public halves of the moving signers' keys, as far as they are known: a key file may have another name next time
    /// (rule S2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<SeenKey>,
}

/// A key that a config names, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeenKey {
    pub key: KeyRef,
    /// In upper-case hex.
    pub public: String,
}

/// What a state file said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Height {
    pub signer: String,
    pub chain: String,
    pub state_file: PathBuf,
    pub reading: StateReading,
}

/// One signer's way from its old unit to its new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    pub signer: String,
    pub old: UnitName,
    pub new: UnitName,
    /// The old unit runs, so the new one is started.
    pub start: bool,
    pub enablement: Enablement,
    /// The tmkms that the old unit runs, and the one that the new unit will.
    pub old_program: PathBuf,
    pub new_program: PathBuf,
    pub old_config: PathBuf,
    pub new_config: PathBuf,
    pub chains: Vec<ChainMove>,
    /// Chains of the same process that stay as they are, and are dark while it restarts.
    pub stays: Vec<ChainFile>,
    /// In the order of writing.
    pub files: Vec<NewFile>,
}

/// How a signer's units are enabled: link by link, as it was found and as it will be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Enablement {
    /// Enabling and disabling by systemd does exactly this. Otherwise kmsctl sets each link: systemd would remove a
    /// linked unit with its links, and act on what `Also=` names.
    pub by_systemd: bool,
    /// What enables the old unit; empty when it isn't enabled, and then the new one won't be.
    pub old: Vec<UnitLink>,
    pub new: Vec<UnitLink>,
    /// Second names, which go over to the new unit.
    pub aliases: Vec<Alias>,
}

/// A unit's second name, and what it names before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    pub link: ManagedLink,
    pub old: PathBuf,
    pub new: PathBuf,
}

/// A chain that a signer signs, and where it keeps its state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainFile {
    pub chain: String,
    pub state_file: PathBuf,
    pub keys: Vec<KeyRef>,
}

/// A chain id that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainMove {
    pub old: ChainFile,
    pub new: ChainFile,
}

impl Height {
    /// What a signer's state files say.
    pub fn of(signer: &Signer) -> impl Iterator<Item = Height> {
        signer.chains.iter().map(|chain| Height {
            signer: signer.name().to_owned(),
            chain: chain.id.clone(),
            state_file: chain.state_file.clone(),
            reading: chain.state.clone(),
        })
    }
}

impl ChainFile {
    pub fn of(chain: &SignerChain) -> ChainFile {
        ChainFile {
            chain: chain.id.clone(),
            state_file: chain.state_file.clone(),
            keys: chain.keys.clone(),
        }
    }
}

/// How far apart heights may be, where nobody says: a block may come while they are read.
pub const MAX_SPREAD: u64 = 1;

impl Request {
    /// For a chain id, with nothing else said.
    pub fn of(new_chain: ChainId) -> Request {
        Request {
            new_chain,
            from_chain: None,
            signers: BTreeSet::new(),
            suffix: None,
            protocol: None,
            binary: None,
            config_dir: None,
            max_spread: MAX_SPREAD,
            accept: BTreeSet::new(),
        }
    }

    /// The chain's id stays: another protocol or another binary, and the state file is kept.
    pub fn same_chain(&self) -> bool {
        self.from_chain.as_ref() == Some(&self.new_chain)
    }
}

impl Move {
    /// The folders of the drop-ins among the files.
    pub fn drop_in_folders(&self) -> BTreeSet<ManagedPath> {
        let drop_ins = self.files.iter().map(|f| &f.path);
        drop_ins
            .filter_map(ManagedPath::folder_of_drop_in)
            .collect()
    }

    /// What the new process signs.
    pub fn new_chains(&self) -> impl Iterator<Item = &ChainFile> {
        self.chains.iter().map(|c| &c.new).chain(&self.stays)
    }

    /// What the old process signs.
    pub fn old_chains(&self) -> impl Iterator<Item = &ChainFile> {
        self.chains.iter().map(|c| &c.old).chain(&self.stays)
    }
}

impl Plan {
    /// The id of a plan's content.
    pub fn compute_id(&self) -> String {
        let content = (
            &self.format_version,
            &self.request,
            &self.suffix,
            &self.from,
            &self.moves,
            &self.inputs,
        );
        Fingerprint::of_json(&content).short().to_owned()
    }

    pub fn blocks(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| f.blocks())
    }

    /// How many files staging writes; a template serves several signers and is one.
    pub fn file_count(&self) -> usize {
        let files = self.moves.iter().flat_map(|m| &m.files);
        files.map(|f| &f.path).collect::<BTreeSet<_>>().len()
    }

    /// Whether a content is a saved plan, of whatever format.
    pub fn is_plan(bytes: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Shape {
            #[serde(rename = "format_version")]
            _format: u32,
            #[serde(rename = "moves")]
            _moves: Vec<serde_json::Value>,
        }
        serde_json::from_slice::<Shape>(bytes).is_ok()
    }

    /// Reads a saved plan.
    ///
    /// # Errors
    /// Not a plan, a newer format (both versions named), or a content that doesn't fit its id.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Plan> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version = serde_json::from_slice(bytes)?;
        anyhow::ensure!(
            version.format_version == FORMAT_VERSION,
            "the plan has format {} and this kmsctl reads format {FORMAT_VERSION}; plan again with this kmsctl",
            version.format_version
        );
        let plan: Plan = serde_json::from_slice(bytes)?;
        anyhow::ensure!(
            plan.compute_id() == plan.id,
            "the plan's content doesn't fit its id {}: it was changed by hand; plan again",
            plan.id
        );
        Ok(plan)
    }
}
