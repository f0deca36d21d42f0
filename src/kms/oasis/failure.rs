//! What goes wrong on an upgraded node, recognised in its journal lines and its status: wait, hold, stop the node, or stop
//! the fleet, each with the reason and what to do.
//!
//! From oasis-core's sources and the guide. What is recognised here stops more than a time-out would; what isn't
//! recognised never makes a node verified.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::NodeStatus;

/// What a failure asks for, the mildest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Expected; it passes by itself.
    Wait,
    /// It may pass once something outside this node changes; nothing else may be begun until then.
    Hold,
    /// This node won't come up like this: take it back.
    StopNode,
    /// No node of the fleet may be touched until it is understood.
    StopFleet,
}

/// A known failure.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    UpdateNotAllowed,
    NotReplicated,
    EnclavePanicked,
    UnknownEnclaveVersion,
    StateCorrupted,
}

/// Where each is known by, what it asks for, why, and what to do.
const TABLE: [(Failure, &[&str], Class, &str, &str); 5] = [
    (
        Failure::UpdateNotAllowed,
        &["registry: node update not allowed"],
        Class::Wait,
        "the old version is still registered, and the new one can't replace it before the upgrade epoch",
        "wait for the upgrade epoch; `kmsctl verify --watch` shows when it is there",
    ),
    (
        Failure::NotReplicated,
        &["master secret generation ", " not replicated"],
        Class::Hold,
        "no node that holds the secrets can be reached, or none of them may give them to this enclave",
        "look at the network to the committee's nodes, and whether the policy lets the old enclave replicate to the new \
         one (may_replicate); take no other node away meanwhile",
    ),
    (
        Failure::EnclavePanicked,
        &["runtime execution failed: Enclave panicked."],
        Class::StopNode,
        "the enclave can't open what lies in its place: the old database wasn't moved away, or this is another processor",
        "`kmsctl rollback` puts this node back as it was; look for a database that another hand put there",
    ),
    (
        Failure::UnknownEnclaveVersion,
        &["node running unknown runtime enclave version"],
        Class::StopNode,
        "the chain doesn't know this bundle's version: it isn't deployed there, or it is another bundle",
        "`kmsctl rollback`, and compare the bundle's SHA-256 with the published one",
    ),
    (
        Failure::StateCorrupted,
        &["key manager state corrupted"],
        Class::StopFleet,
        "what this node replicated isn't what the chain says the secrets are",
        "touch no node: the others may hold the only good copies. Keep every database, and ask Oasis' engineers",
    ),
];

/// A second way in which the last of them says it.
const STORAGE_CORRUPTED: &str = "storage corrupted";

/// A failure that was seen, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    pub failure: Failure,
    pub class: Class,
    /// The line, as it was found.
    pub line: String,
    pub why: String,
    pub remedy: String,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.class {
            Class::Wait => "wait",
            Class::Hold => "hold",
            Class::StopNode => "stop this node",
            Class::StopFleet => "STOP THE FLEET",
        };
        write!(f, "{word}: {}; {}", self.why, self.remedy)
    }
}

/// The failures in a node's own words since its process began, the worst first, each once.
pub fn recognise<'l>(
    lines: impl IntoIterator<Item = &'l str>,
    status: Option<&'l NodeStatus>,
) -> Vec<Sign> {
    let error = status.and_then(|s| s.registration.last_error.as_deref());
    let mut found: Vec<Sign> = Vec::new();
    for line in lines.into_iter().chain(error) {
        if let Some((failure, _, class, why, remedy)) =
            TABLE.iter().find(|row| says(line, row.1, row.0))
        {
            if found.iter().any(|sign| sign.failure == *failure) {
                continue;
            }
            found.push(Sign {
                failure: *failure,
                class: *class,
                line: line.to_owned(),
                why: (*why).to_owned(),
                remedy: (*remedy).to_owned(),
            });
        }
    }
    // What a node said on its way up is over once it is ready; a corrupted state never is.
    if status.is_some_and(|s| s.key_manager.is_ready()) {
        found.retain(|sign| match sign.class {
            Class::StopFleet => true,
            _ => error.is_some_and(|error| error == sign.line),
        });
    }
    found.sort_by_key(|sign| std::cmp::Reverse(sign.class));
    found
}

/// Whether a line has all the parts, in their order.
fn says(line: &str, parts: &[&str], failure: Failure) -> bool {
    let mut rest = line;
    let all = parts.iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    });
    all || (failure == Failure::StateCorrupted && line.contains(STORAGE_CORRUPTED))
}
