//! What `init` makes, as text and as JSON.

use schemars::JsonSchema;
use serde::Serialize;
use tmkms_core::chain_id::ChainId;
use tmkms_core::state::SignState;

use super::{FORMAT_VERSION, line};
use crate::paths::NewPath;
use crate::unit::UnitName;

/// What `init` prints with `--json`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Init")]
pub struct Report {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    pub unit: UnitName,
    pub chain: ChainId,
    /// The validator's address.
    pub validator: String,
    pub config: NewPath,
    /// The consensus key as tmkms logs it at its start; none where only the device knows it.
    pub consensus_key: Option<String>,
    /// The validator's address on the chain, in hex.
    pub address: Option<String>,
    /// What tmkms before 0.15 logs as its KMS node ID.
    pub node_id: String,
    /// The connection's public key in hex, which tmkms 0.15 logs instead.
    pub connection_key: String,
    pub state_file: NewPath,
    /// Where it begins: nothing at this point or below it is signed.
    pub state: SignState,
    /// Every file that is made.
    pub files: Vec<NewPath>,
    pub warnings: Vec<String>,
    /// What is left to do, in order.
    pub next: Vec<String>,
}

/// What is about to be made.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let SignState { height, round, .. } = report.state;
    let begins = match report.state {
        SignState::ZERO => "with nothing signed".to_owned(),
        _ if round == i32::MAX as u32 => format!("after height {height}"),
        state => format!("after {state}"),
    };
    line(
        &mut out,
        format_args!(
            "{}: signs {} for the validator at {}, {begins}",
            report.unit, report.chain, report.validator
        ),
    );
    if let (Some(key), Some(address)) = (&report.consensus_key, &report.address) {
        line(&mut out, format_args!("  consensus key {key}"));
        line(&mut out, format_args!("  validator address {address}"));
    }
    line(
        &mut out,
        format_args!(
            "  KMS node ID {}, of connection key {}",
            report.node_id, report.connection_key
        ),
    );
    for file in &report.files {
        line(&mut out, format_args!("  + {file}"));
    }
    for warning in &report.warnings {
        line(&mut out, format_args!("warn: {warning}"));
    }
    out
}

/// What is left to do.
pub fn next(report: &Report) -> String {
    let mut out = "Written; nothing was started. Next, in this order:\n".to_owned();
    for (number, step) in (1..).zip(&report.next) {
        line(&mut out, format_args!("  {number}. {step}"));
    }
    out
}
