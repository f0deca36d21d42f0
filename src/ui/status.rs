//! `status` and `heights` as data and as text.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;
use tmkms_core::config::{KeyFormat, KeyRef};

use super::{FORMAT_VERSION, line};
use crate::inventory::{Inventory, Signer, StateReading};
use crate::journal::{OperationId, Verb};
use crate::keys::Keys;
use crate::kms::oasis::published::NodeRow;

/// What `status --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    pub host: String,
    pub observed_at: jiff::Timestamp,
    pub signers: Vec<SignerStatus>,
    pub key_managers: Vec<NodeRow>,
    pub operation: Option<Operation>,
    /// What to know and to type, in sentences.
    pub notes: Vec<String>,
    pub problems: Vec<crate::finding::Finding>,
}

/// Whether a unit may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fence {
    Open,
    Closed,
    /// Its marker is there, and systemd doesn't heed it: it may start.
    Unheeded,
}

impl std::fmt::Display for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fence::Open => "open",
            Fence::Closed => "closed",
            Fence::Unheeded => "marked closed and not heeded",
        })
    }
}

/// One unit of a signer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SignerStatus {
    pub signer: String,
    pub unit: String,
    pub active: bool,
    pub state: String,
    pub enabled: bool,
    pub retired: bool,
    /// None where the unit has no fence.
    pub fence: Option<Fence>,
    pub config: PathBuf,
    pub chains: Vec<ChainStatus>,
    /// The first chain's key: as tmkms logs it, or by its name where its public half isn't known.
    pub key: Option<String>,
}

/// A chain that a unit signs, and how far.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChainStatus {
    pub id: String,
    pub state_file: PathBuf,
    pub keys: Vec<KeyStatus>,
    #[serde(flatten)]
    pub reading: Reading,
}

/// A consensus key that signs a chain.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyStatus {
    /// What the config calls it.
    pub name: String,
    /// Its public half as tmkms logs it at its start, in the chain's `key_format`.
    pub consensus_key: Option<String>,
    /// The same in hex, to be compared with other hosts whatever their format.
    pub public_key: Option<String>,
    /// Why it isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl KeyStatus {
    fn of(keys: &Keys, key: &KeyRef, format: Option<&KeyFormat>) -> KeyStatus {
        let public = keys.public(key);
        KeyStatus {
            name: key.to_string(),
            consensus_key: public.and_then(|p| p.displayed(format?)),
            public_key: public.map(|p| p.to_hex()),
            unknown: match public {
                Some(_) => None,
                None => Some(
                    keys.unknown(key)
                        .map_or_else(|| "it wasn't asked".to_owned(), ToString::to_string),
                ),
            },
        }
    }
}

/// A state file's point as plain numbers; all none, with the reason, where it can't be read.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reading {
    pub height: Option<u64>,
    pub round: Option<u32>,
    pub step: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

impl Reading {
    fn of(reading: &StateReading) -> Reading {
        let state = reading.height();
        Reading {
            height: state.map(|s| s.height),
            round: state.map(|s| s.round),
            step: state.map(|s| s.step),
            unreadable: unreadable(reading),
        }
    }
}

impl std::fmt::Display for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.height, self.round, self.step) {
            (Some(height), Some(round), Some(step)) => write!(f, "{height}/{round}/{step}"),
            _ => write!(
                f,
                "unreadable ({})",
                self.unreadable.as_deref().unwrap_or_default()
            ),
        }
    }
}

/// The newest operation, while it is open.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Operation {
    pub id: OperationId,
    pub verb: Verb,
    pub plan: String,
    pub opened_at: jiff::Timestamp,
    pub by: String,
}

/// What `heights --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Heights {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    pub host: String,
    pub observed_at: jiff::Timestamp,
    pub heights: Vec<HeightRow>,
    /// Why a height may be missing.
    pub problems: Vec<crate::finding::Finding>,
}

/// How far a signer signed a chain.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HeightRow {
    pub signer: String,
    pub chain: String,
    pub state_file: PathBuf,
    #[serde(flatten)]
    pub reading: Reading,
}

/// Why a reading has no height.
fn unreadable(reading: &StateReading) -> Option<String> {
    match reading {
        StateReading::Read(_) => None,
        StateReading::Missing => Some("there is no such file".into()),
        StateReading::Link => Some("it is a symbolic link".into()),
        StateReading::Unreadable(why) => Some(why.clone()),
    }
}

/// A unit's row.
pub fn row(signer: &Signer, keys: &Keys, fence: Option<Fence>) -> SignerStatus {
    let format = |id: &str| {
        let chains = &signer.config.view.chains;
        let chain = chains.iter().find(|chain| chain.id.value == id);
        chain.map(|chain| &chain.key_format)
    };
    let chains: Vec<ChainStatus> = signer
        .chains
        .iter()
        .map(|chain| ChainStatus {
            id: chain.id.clone(),
            state_file: chain.state_file.clone(),
            keys: chain
                .keys
                .iter()
                .map(|key| KeyStatus::of(keys, key, format(&chain.id)))
                .collect(),
            reading: Reading::of(&chain.state),
        })
        .collect();
    let key = chains.iter().flat_map(|c| &c.keys).next();
    SignerStatus {
        signer: signer.name().to_owned(),
        unit: signer.unit.name.to_string(),
        active: signer.unit.run.active == "active",
        state: format!("{} ({})", signer.unit.run.active, signer.unit.run.sub),
        enabled: !signer.unit.links.is_empty(),
        retired: !signer.is_current(),
        fence,
        config: signer.config.path.clone(),
        key: key.map(|key| key.consensus_key.as_ref().unwrap_or(&key.name).clone()),
        chains,
    }
}

/// The heights of the current signers.
pub fn heights(inventory: &Inventory) -> Heights {
    let rows = inventory.current().flat_map(|signer| {
        signer.chains.iter().map(|chain| HeightRow {
            signer: signer.name().to_owned(),
            chain: chain.id.clone(),
            state_file: chain.state_file.clone(),
            reading: Reading::of(&chain.state),
        })
    });
    Heights {
        format_version: FORMAT_VERSION,
        host: inventory.host.clone(),
        observed_at: inventory.observed_at,
        heights: rows.collect(),
        problems: inventory.problems.clone(),
    }
}

/// The status as text.
pub fn text(status: &Status) -> String {
    let mut out = String::new();
    for row in &status.signers {
        let enabled = if row.enabled { "enabled" } else { "disabled" };
        let fence = row
            .fence
            .map(|f| format!(", fence {f}"))
            .unwrap_or_default();
        let retired = if row.retired { ", retired" } else { "" };
        line(
            &mut out,
            format_args!(
                "{}  {}  {}, {enabled}{fence}{retired}",
                row.signer, row.unit, row.state
            ),
        );
        for chain in &row.chains {
            let reading = &chain.reading;
            line(&mut out, format_args!("  {}  height {reading}", chain.id));
            let known = chain.keys.iter().filter_map(|k| k.consensus_key.as_ref());
            for key in known {
                line(&mut out, format_args!("  {}  key {key}", chain.id));
            }
        }
    }
    for node in &status.key_managers {
        super::nodes::row(&mut out, node);
    }
    super::plan::findings(&mut out, &status.problems);
    if !status.notes.is_empty() {
        line(&mut out, format_args!(""));
    }
    for note in &status.notes {
        line(&mut out, format_args!("{note}"));
    }
    out
}

/// The heights as a table for the eye; scripts take `--json`.
pub fn heights_text(heights: &Heights) -> String {
    let mut out = String::new();
    for row in &heights.heights {
        let height = &row.reading;
        let file = row.state_file.display();
        line(
            &mut out,
            format_args!("{}  {}  {height}  {file}", row.signer, row.chain),
        );
    }
    out
}
