//! What a key manager's host says of it to whoever asks: its row in `kmsctl status --json`.
//!
//! Other nodes decide by it whether they may let go of their copy, so it is made from what the node says now and what the
//! journal holds durably, never from memory. It carries the enclave's own signed words: whoever asks checks them again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extra_info::ExtraInfo;
use super::failure::{Class, Sign};
use super::ids::{Checksum, Epoch, Mrenclave, NodeId, Rak, RuntimeId, Version};
use super::proofs::Verifications;
use super::verify::{Condition, Holds};
use crate::journal::OperationId;

/// Which half of the fleet a node went with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Half {
    /// Before the upgrade epoch; the other half keeps the old version.
    First,
    /// After it, once the first half was verified twice.
    Second,
}

/// A node is leaving: it has let go of its copy, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leaving {
    pub operation: OperationId,
    pub since: jiff::Timestamp,
}

/// What an enclave signed, and the key to check it with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Base64, as the node printed it.
    pub extra_info: String,
    pub rak: Rak,
}

/// One key manager of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeRow {
    pub node: String,
    pub unit: String,
    pub runtime: RuntimeId,
    /// None while the node doesn't answer.
    pub identity: Option<NodeId>,
    /// Of the bundle that the config names; none where that can't be read.
    pub version: Option<Version>,
    pub mrenclave: Option<Mrenclave>,
    pub leaving: Option<Leaving>,
    /// All seven, asked now.
    pub conditions: Vec<Condition>,
    pub epoch: Option<Epoch>,
    pub checksum: Option<Checksum>,
    pub policy_checksum: Option<Checksum>,
    pub evidence: Option<Evidence>,
    pub verifications: Verifications,
    /// What is recognised in its log and its status, the worst first.
    pub failures: Vec<Sign>,
    /// None before it went.
    pub half: Option<Half>,
    /// Its old database is gone for good.
    pub finalized: bool,
}

impl NodeRow {
    /// Whether it proves, now and by its enclave's signature, to hold these secrets under this policy.
    pub fn holds(&self, secrets: Checksum, policy: Checksum) -> bool {
        let numbers: Vec<u8> = self.conditions.iter().map(|c| c.number).collect();
        let all = numbers == [1, 2, 3, 4, 5, 6, 7]
            && self.conditions.iter().all(|c| c.holds == Holds::Yes);
        let same = self.checksum == Some(secrets) && self.policy_checksum == Some(policy);
        all && same && self.evidence_says(secrets, policy)
    }

    fn evidence_says(&self, secrets: Checksum, policy: Checksum) -> bool {
        let Some(evidence) = &self.evidence else {
            return false;
        };
        let Ok(info) = ExtraInfo::decode(&evidence.extra_info) else {
            return false;
        };
        info.is_signed_by(&evidence.rak)
            && info.is_secure
            && info.checksum == Some(secrets)
            && info.policy_checksum == Some(policy)
            && info.next_checksum.is_none()
    }

    /// Whether it says that what was replicated isn't the secrets: until it is known why, no node may be touched.
    pub fn stops_the_fleet(&self) -> bool {
        let stops = |sign: &Sign| sign.class == Class::StopFleet;
        self.failures.iter().any(stops)
    }

    /// Whether it is registered at its version, and that hasn't expired.
    pub fn is_registered(&self) -> bool {
        let condition = |number: u8| self.conditions.iter().find(|c| c.number == number);
        [3, 4]
            .into_iter()
            .all(|number| condition(number).is_some_and(|condition| condition.holds == Holds::Yes))
    }
}
