//! What is remembered of a node that was verified: the first proof, and the one that counts as "verify again".
//!
//! A proof is about one enclave, version and checksum; it must never outlive them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::{Checksum, Epoch, Mrenclave, Version};

/// A node that proved to hold the secrets, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    pub at: jiff::Timestamp,
    pub epoch: Epoch,
    pub registered_at: jiff::Timestamp,
    pub version: Version,
    pub mrenclave: Mrenclave,
    pub checksum: Checksum,
    pub policy_checksum: Checksum,
}

/// A node's proofs since it runs what it runs: the first, and the newest that counts as "again".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verifications {
    pub first: Option<Verified>,
    /// At a later epoch than the first, after a newer registration.
    pub again: Option<Verified>,
}

impl Verifications {
    /// Keeps a proof. One of another enclave, version or checksum begins anew: what was proven before is not about this.
    pub fn add(&mut self, verified: Verified) {
        let same = |first: &Verified| {
            first.mrenclave == verified.mrenclave
                && first.version == verified.version
                && first.checksum == verified.checksum
        };
        match &self.first {
            Some(first) if same(first) => {
                let later = verified.epoch > first.epoch;
                if later && verified.registered_at > first.registered_at {
                    self.again = Some(verified);
                }
            }
            _ => {
                *self = Verifications {
                    first: Some(verified),
                    again: None,
                }
            }
        }
    }

    /// A proof that failed takes those before it with it: they are no longer about how it is.
    pub fn failed(&mut self) {
        *self = Verifications::default();
    }

    pub fn twice(&self) -> bool {
        self.again.is_some()
    }
}
