//! What `oasis-node control status` says, read from its three shapes into one type.
//!
//! The `keymanager` part is flat in 22.2, `{global, worker}` in 23.0, and carries its status twice from 24.0 on. Which of
//! them it is follows from what is there, never from the version it claims; a part that is none of the three is unknown.
//! So is anything that is needed and missing, doubled or of another type. The shape is the CLI's, not the node's.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::ids::{Checksum, Epoch, NodeId, Rak, RuntimeId, Version};
use super::shapes;

/// Which of the three shapes a status had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// 22.2: `.status`.
    Flat,
    /// 23.0: `.worker.status`.
    GlobalAndWorker,
    /// 24.0 to 26.1: `.status` and `.secrets.worker.status`.
    Secrets,
}

/// A key manager's state, in oasis-node's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    Starting,
    Stopped,
    Disabled,
    /// A word that no known oasis-node says.
    Unknown,
}

impl State {
    pub(super) fn of(word: &str) -> State {
        match word {
            "ready" => State::Ready,
            "starting" => State::Starting,
            "stopped" => State::Stopped,
            "disabled" => State::Disabled,
            _ => State::Unknown,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Ready => "ready",
            State::Starting => "starting",
            State::Stopped => "stopped",
            State::Disabled => "disabled",
            State::Unknown => "a state that isn't known",
        })
    }
}

/// A node's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub software_version: String,
    pub node: NodeId,
    pub consensus: Consensus,
    pub registration: Registration,
    pub key_manager: KeyManager,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consensus {
    /// `ready`, `syncing` or another word.
    pub state: String,
    pub latest_time: Option<jiff::Timestamp>,
    pub latest_epoch: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// None where that oasis-node doesn't show it.
    pub last_attempt_successful: Option<bool>,
    pub last_error: Option<String>,
    /// None where it never registered since its process began.
    pub last_registration: Option<jiff::Timestamp>,
    /// What was registered last since its process began; none after a restart.
    pub descriptor: Option<Descriptor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub node: Option<NodeId>,
    pub expiration: Option<Epoch>,
    pub runtimes: Vec<Runtime>,
}

/// A runtime that the node is registered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    pub id: RuntimeId,
    pub version: Version,
    pub rak: Option<Rak>,
    /// Base64, as it stands there.
    pub extra_info: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyManager {
    pub shape: Shape,
    pub runtime: RuntimeId,
    /// Every field of this shape that says a state, by its path.
    pub states: Vec<(&'static str, State)>,
    pub active_version: Option<Version>,
    pub policy_checksum: Option<Checksum>,
    /// What the chain says of the key manager; never shown before 23.0.
    pub on_chain: Option<OnChain>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnChain {
    pub id: RuntimeId,
    pub checksum: Option<Checksum>,
    pub nodes: Vec<NodeId>,
}

impl KeyManager {
    pub fn is_ready(&self) -> bool {
        self.states.iter().all(|(_, state)| *state == State::Ready)
    }

    pub fn is_starting(&self) -> bool {
        self.states
            .iter()
            .any(|(_, state)| *state == State::Starting)
    }
}

/// Why there is no status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

pub(super) fn unreadable<T>(why: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable(why.into()))
}

impl NodeStatus {
    /// Reads what `control status` printed, log lines and all.
    ///
    /// # Errors
    /// No status, more than one, or one that isn't of the three known shapes.
    pub fn parse(stdout: &str) -> Result<NodeStatus, Unreadable> {
        let raw: RawStatus = the_document(stdout)?;
        let Some(key_manager) = raw.keymanager else {
            return unreadable("it says nothing of a key manager: this node is none");
        };
        Ok(NodeStatus {
            software_version: raw.software_version,
            node: raw.identity.node,
            consensus: Consensus {
                state: raw.consensus.status,
                latest_time: raw.consensus.latest_time,
                latest_epoch: raw.consensus.latest_epoch,
            },
            registration: raw.registration.read(),
            key_manager: shapes::read(&key_manager)?,
        })
    }

    /// The registered runtimes of an id.
    pub fn registered(&self, id: &RuntimeId) -> impl Iterator<Item = &Runtime> {
        let descriptor = self.registration.descriptor.iter();
        descriptor
            .flat_map(|d| &d.runtimes)
            .filter(move |r| r.id == *id)
    }
}

/// The one status among the log lines, which go to stdout too and may be JSON themselves.
fn the_document<T: DeserializeOwned>(stdout: &str) -> Result<T, Unreadable> {
    let mut at = 0;
    let start = stdout.split_inclusive('\n').find_map(|line| {
        let here = at;
        at += line.len();
        line.starts_with('{').then_some(here)
    });
    let Some(text) = start.and_then(|start| stdout.get(start..)) else {
        return unreadable("no line of it begins with `{`");
    };
    let mut found = None;
    for document in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let document = document.map_err(|e| Unreadable(format!("it isn't JSON: {e}")))?;
        if is_log_line(document) {
            continue;
        }
        if found.replace(document).is_some() {
            return unreadable("it prints more than one document");
        }
    }
    let Some(document) = found else {
        return unreadable("it prints log lines and no status");
    };
    serde_json::from_str(document.get())
        .map_err(|e| Unreadable(format!("it isn't the status of a known oasis-node: {e}")))
}

fn is_log_line(document: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct LogLine {
        #[serde(rename = "level")]
        _level: String,
        #[serde(rename = "msg")]
        _msg: String,
    }
    !document.get().contains('\n') && serde_json::from_str::<LogLine>(document.get()).is_ok()
}

#[derive(Deserialize)]
struct RawStatus {
    software_version: String,
    identity: RawIdentity,
    consensus: RawConsensus,
    registration: RawRegistration,
    keymanager: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RawIdentity {
    node: NodeId,
}

#[derive(Deserialize)]
struct RawConsensus {
    status: String,
    latest_time: Option<jiff::Timestamp>,
    latest_epoch: Option<Epoch>,
}

#[derive(Deserialize)]
struct RawRegistration {
    last_attempt_successful: Option<bool>,
    last_attempt_error_message: Option<String>,
    last_registration: Option<jiff::Timestamp>,
    descriptor: Option<RawDescriptor>,
}

#[derive(Deserialize)]
struct RawDescriptor {
    id: Option<NodeId>,
    expiration: Option<Epoch>,
    runtimes: Option<Vec<RawRuntime>>,
}

#[derive(Deserialize)]
struct RawRuntime {
    id: RuntimeId,
    version: Version,
    capabilities: Option<RawCapabilities>,
    extra_info: Option<String>,
}

#[derive(Deserialize)]
struct RawCapabilities {
    tee: Option<RawTee>,
}

#[derive(Deserialize)]
struct RawTee {
    rak: Rak,
}

impl RawRegistration {
    fn read(self) -> Registration {
        // Go's zero time: never.
        let registered = |at: &jiff::Timestamp| *at > jiff::Timestamp::UNIX_EPOCH;
        Registration {
            last_attempt_successful: self.last_attempt_successful,
            last_error: self.last_attempt_error_message.filter(|e| !e.is_empty()),
            last_registration: self.last_registration.filter(registered),
            descriptor: self.descriptor.map(|raw| Descriptor {
                node: raw.id,
                expiration: raw.expiration,
                runtimes: raw
                    .runtimes
                    .unwrap_or_default()
                    .into_iter()
                    .map(|runtime| Runtime {
                        id: runtime.id,
                        version: runtime.version,
                        rak: runtime.capabilities.and_then(|c| c.tee).map(|tee| tee.rak),
                        extra_info: runtime.extra_info,
                    })
                    .collect(),
            }),
        }
    }
}
