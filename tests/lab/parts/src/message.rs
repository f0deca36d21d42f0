//! A vote or proposal, and the exact bytes a validator's consensus key signs for it.
//!
//! The canonical encodings are Tendermint's own: v0.34 is protobuf (`CanonicalVote`, `CanonicalProposal`), v0.33 is
//! amino, which differs in the part set header's field order and in the proposal round's encoding.

use prost::Message as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tendermint_proto::google::protobuf::Timestamp;
use tendermint_proto::types as proto;

/// The privval protocol the fake validator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Amino, as tmkms up to 0.12.2 speaks it.
    V0_33,
    /// Protobuf, as every tmkms speaks it.
    V0_34,
}

impl Protocol {
    /// Reads tmkms' own spelling of `protocol_version`.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "v0.33" => Ok(Self::V0_33),
            "v0.34" => Ok(Self::V0_34),
            other => Err(format!("unknown protocol {other:?}; known: v0.33, v0.34")),
        }
    }
}

/// What is asked to be signed. The order is the order within a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A proposal for the round.
    Proposal,
    /// The first vote.
    Prevote,
    /// The second vote.
    Precommit,
}

impl Kind {
    /// Tendermint's number for it, on the wire and in the signed bytes.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Prevote => 1,
            Self::Precommit => 2,
            Self::Proposal => 32,
        }
    }

    /// The command's spelling.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposal => "proposal",
            Self::Prevote => "prevote",
            Self::Precommit => "precommit",
        }
    }
}

/// A vote or proposal before it is signed. `block` is the block's hash, `None` for nil.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub kind: Kind,
    pub height: i64,
    pub round: i32,
    pub block: Option<[u8; 32]>,
    pub timestamp: Timestamp,
}

impl Message {
    /// The bytes a signature for `chain_id` covers, with their length in front.
    #[must_use]
    pub fn sign_bytes(&self, chain_id: &str, protocol: Protocol) -> Vec<u8> {
        match (protocol, self.kind) {
            (Protocol::V0_34, Kind::Proposal) => proto::CanonicalProposal {
                r#type: self.kind.number(),
                height: self.height,
                round: self.round.into(),
                pol_round: NO_POL_ROUND.into(),
                block_id: self.protobuf_block(),
                timestamp: Some(self.timestamp.clone()),
                chain_id: chain_id.to_owned(),
            }
            .encode_length_delimited_to_vec(),
            (Protocol::V0_34, _) => proto::CanonicalVote {
                r#type: self.kind.number(),
                height: self.height,
                round: self.round.into(),
                block_id: self.protobuf_block(),
                timestamp: Some(self.timestamp.clone()),
                chain_id: chain_id.to_owned(),
            }
            .encode_length_delimited_to_vec(),
            (Protocol::V0_33, Kind::Proposal) => AminoProposal {
                kind: self.kind.number(),
                height: self.height,
                round: self.round.into(),
                pol_round: NO_POL_ROUND.into(),
                block_id: self.amino_block(),
                timestamp: Some(self.timestamp.clone()),
                chain_id: chain_id.to_owned(),
            }
            .encode_length_delimited_to_vec(),
            (Protocol::V0_33, _) => AminoVote {
                kind: self.kind.number(),
                height: self.height,
                round: self.round.into(),
                block_id: self.amino_block(),
                timestamp: Some(self.timestamp.clone()),
                chain_id: chain_id.to_owned(),
            }
            .encode_length_delimited_to_vec(),
        }
    }

    fn protobuf_block(&self) -> Option<proto::CanonicalBlockId> {
        let hash = self.block?;
        Some(proto::CanonicalBlockId {
            hash: hash.to_vec(),
            part_set_header: Some(proto::CanonicalPartSetHeader {
                total: PARTS,
                hash: parts_hash(&hash).to_vec(),
            }),
        })
    }

    fn amino_block(&self) -> Option<AminoBlockId> {
        let hash = self.block?;
        Some(AminoBlockId {
            hash: hash.to_vec(),
            parts: Some(AminoParts {
                hash: parts_hash(&hash).to_vec(),
                total: PARTS.into(),
            }),
        })
    }
}

/// Every block here has one part.
pub const PARTS: u32 = 1;

/// What a proposal says when it doesn't rest on an earlier round's votes.
pub const NO_POL_ROUND: i32 = -1;

/// The part set hash that goes with a block hash, so that one block always has one block id.
#[must_use]
pub fn parts_hash(block: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"parts of ")
        .chain_update(block)
        .finalize()
        .into()
}

/// The block a `run` votes for at a height.
#[must_use]
pub fn block_of(chain_id: &str, height: i64) -> [u8; 32] {
    Sha256::digest(format!("{chain_id} {height}")).into()
}

// v0.33's canonical forms. Amino's bytes are protobuf's for these field types.

#[derive(Clone, PartialEq, prost::Message)]
struct AminoVote {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(sfixed64, tag = "2")]
    height: i64,
    #[prost(sfixed64, tag = "3")]
    round: i64,
    #[prost(message, optional, tag = "4")]
    block_id: Option<AminoBlockId>,
    #[prost(message, optional, tag = "5")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "6")]
    chain_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AminoProposal {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(sfixed64, tag = "2")]
    height: i64,
    #[prost(sfixed64, tag = "3")]
    round: i64,
    #[prost(sfixed64, tag = "4")]
    pol_round: i64,
    #[prost(message, optional, tag = "5")]
    block_id: Option<AminoBlockId>,
    #[prost(message, optional, tag = "6")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "7")]
    chain_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AminoBlockId {
    #[prost(bytes = "vec", tag = "1")]
    hash: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    parts: Option<AminoParts>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AminoParts {
    #[prost(bytes = "vec", tag = "1")]
    hash: Vec<u8>,
    #[prost(int64, tag = "2")]
    total: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tendermint's own vectors: votes at 1/1 with Go's zero time, without and with a chain id.
    #[test]
    fn sign_bytes_are_tendermint_s() {
        let zero_time = [
            0x2a, 0x0b, 0x08, 0x80, 0x92, 0xb8, 0xc3, 0x98, 0xfe, 0xff, 0xff, 0xff, 0x01,
        ];
        let vote = |kind| Message {
            kind,
            height: 1,
            round: 1,
            block: None,
            timestamp: Timestamp {
                seconds: -62_135_596_800,
                nanos: 0,
            },
        };
        for protocol in [Protocol::V0_33, Protocol::V0_34] {
            for (kind, number) in [(Kind::Prevote, 1), (Kind::Precommit, 2)] {
                let mut want = vec![0x21, 0x08, number];
                want.extend([0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x19, 1, 0, 0, 0, 0, 0, 0, 0]);
                want.extend(zero_time);
                assert_eq!(vote(kind).sign_bytes("", protocol), want);

                want.extend([0x32, 0x0d]);
                want.extend(b"test_chain_id");
                want[0] = 0x30;
                assert_eq!(vote(kind).sign_bytes("test_chain_id", protocol), want);
            }
        }
    }

    #[test]
    fn the_two_protocols_differ_for_a_block() {
        let message = Message {
            kind: Kind::Precommit,
            height: 7,
            round: 0,
            block: Some([0xaa; 32]),
            timestamp: Timestamp {
                seconds: 1,
                nanos: 0,
            },
        };
        assert_ne!(
            message.sign_bytes("a", Protocol::V0_33),
            message.sign_bytes("a", Protocol::V0_34)
        );
    }
}
