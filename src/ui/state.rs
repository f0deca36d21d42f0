//! A state file as text and as JSON.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use tmkms_core::state::{LastVote, SignState, StateFile, StateFormat};

use super::{FORMAT_VERSION, line};

/// What `state show` and `state convert` print with `--json`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "State")]
pub struct Shown {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    /// The file that was read; with `convert` the one that was written.
    pub file: PathBuf,
    pub format: Format,
    /// Height, round and step, in tmkms' count of steps: 0 proposal, 1 prevote, 2 precommit.
    #[serde(flatten)]
    pub at: SignState,
    pub vote: Vote,
    /// The chain, where the file says it.
    pub chain: Option<String>,
    /// With `convert`, the file that it was written from.
    pub from: Option<PathBuf>,
}

/// Whose format it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Tmkms,
    Cometbft,
}

/// What was signed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    /// A block, by its hash in hex.
    Block(String),
    /// Nil, or nothing at all.
    Nil,
    /// The file doesn't say it.
    Unknown,
}

impl Shown {
    pub fn of(file: &Path, state: &StateFile) -> Shown {
        Shown {
            format_version: FORMAT_VERSION,
            file: file.to_owned(),
            format: match state.format {
                StateFormat::Tmkms => Format::Tmkms,
                StateFormat::Cometbft => Format::Cometbft,
            },
            at: state.at,
            vote: match &state.vote {
                LastVote::Block(block) => Vote::Block(
                    block
                        .hash
                        .iter()
                        .map(|byte| format!("{byte:02X}"))
                        .collect(),
                ),
                LastVote::Nil => Vote::Nil,
                LastVote::Unknown => Vote::Unknown,
            },
            chain: state.chain_id.clone(),
            from: None,
        }
    }
}

/// A state file in words.
pub fn text(shown: &Shown) -> String {
    let mut out = String::new();
    let whose = match shown.format {
        Format::Tmkms => "tmkms'",
        Format::Cometbft => "CometBFT's",
    };
    let at = shown.at;
    line(
        &mut out,
        format_args!("{}: {whose} state file", shown.file.display()),
    );
    let step = match (at, at.step) {
        (SignState::ZERO, _) => "nothing was signed",
        (_, 0) => "a proposal",
        (_, 1) => "a prevote",
        (_, 2) => "a precommit",
        _ => "everything of this round is closed",
    };
    line(
        &mut out,
        format_args!(
            "  height {}, round {}, step {}: {step}",
            at.height, at.round, at.step
        ),
    );
    match &shown.vote {
        Vote::Block(hash) => line(&mut out, format_args!("  for block {hash}")),
        Vote::Nil if at != SignState::ZERO && at.step <= 2 => {
            line(&mut out, format_args!("  for no block"));
        }
        Vote::Unknown => line(&mut out, format_args!("  for what, the file doesn't say")),
        Vote::Nil => {}
    }
    if let Some(chain) = &shown.chain {
        line(&mut out, format_args!("  on chain {chain}"));
    }
    out
}
