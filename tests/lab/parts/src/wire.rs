//! Privval requests and answers as bytes, for both protocols.
//!
//! v0.34 wraps each message in a protobuf oneof. v0.33 puts four bytes in front, made of the message's registered amino
//! name; the bodies are then the same fields. Answers come from outside: anything may be missing or malformed.

use crate::message::{Kind, Message, NO_POL_ROUND, PARTS, Protocol, parts_hash};
use prost::Message as _;
use prost::encoding::{decode_varint, encode_varint};
use sha2::{Digest, Sha256};
use tendermint_proto::crypto::public_key::Sum as KeySum;
use tendermint_proto::privval::message::Sum;
use tendermint_proto::privval::{self, RemoteSignerError};
use tendermint_proto::types as proto;

/// The four amino prefix bytes and one length byte in front of an ed25519 public key.
const AMINO_ED25519: [u8; 5] = [0x16, 0x24, 0xde, 0x64, 0x20];

/// What a validator asks its signer.
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// Are you there?
    Ping,
    /// Which key do you sign with?
    PublicKey,
    /// Sign this.
    Sign(&'a Message),
}

/// What a signer answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is there.
    Pong,
    /// Its consensus public key, of any length.
    PublicKey(Vec<u8>),
    /// A vote or proposal came back; whether it is the right one and well signed is still open.
    Signed {
        kind: i32,
        height: i64,
        round: i32,
        block: Vec<u8>,
        signature: Vec<u8>,
    },
    /// An answer without what was asked for, with the signer's words if it had any.
    Refused(String),
}

/// A request as the bytes of one frame.
#[must_use]
pub fn encode(request: &Request<'_>, chain_id: &str, protocol: Protocol) -> Vec<u8> {
    match protocol {
        Protocol::V0_34 => {
            let chain_id = chain_id.to_owned();
            let sum = match request {
                Request::Ping => Sum::PingRequest(privval::PingRequest {}),
                Request::PublicKey => Sum::PubKeyRequest(privval::PubKeyRequest { chain_id }),
                Request::Sign(message) if message.kind == Kind::Proposal => {
                    Sum::SignProposalRequest(privval::SignProposalRequest {
                        proposal: Some(proposal(message, protocol)),
                        chain_id,
                    })
                }
                Request::Sign(message) => Sum::SignVoteRequest(privval::SignVoteRequest {
                    vote: Some(vote(message, protocol)),
                    chain_id,
                }),
            };
            privval::Message { sum: Some(sum) }.encode_length_delimited_to_vec()
        }
        // Amino requests carry no chain id.
        Protocol::V0_33 => match request {
            Request::Ping => amino("PingRequest", &[]),
            Request::PublicKey => amino("PubKeyRequest", &[]),
            Request::Sign(message) if message.kind == Kind::Proposal => {
                let request = privval::SignProposalRequest {
                    proposal: Some(proposal(message, protocol)),
                    chain_id: String::new(),
                };
                amino("SignProposalRequest", &request.encode_to_vec())
            }
            Request::Sign(message) => {
                let request = privval::SignVoteRequest {
                    vote: Some(vote(message, protocol)),
                    chain_id: String::new(),
                };
                amino("SignVoteRequest", &request.encode_to_vec())
            }
        },
    }
}

/// Splits one length-prefixed message off the bytes read so far. `None` while it is incomplete.
pub fn split(mut read: &[u8], limit: usize) -> Result<Option<&[u8]>, String> {
    let Some(end) = read.iter().position(|byte| byte & 0x80 == 0) else {
        return if read.len() < 10 {
            Ok(None)
        } else {
            Err("the length never ends".to_owned())
        };
    };
    if end >= 10 {
        return Err("the length never ends".to_owned());
    }
    let length = decode_varint(&mut read).map_err(|error| format!("malformed length: {error}"))?;
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(read.get(..length)),
        _ => Err(format!("a message of {length} bytes is too long")),
    }
}

/// Reads an answer from the bytes after its length.
pub fn decode(body: &[u8], protocol: Protocol) -> Result<Answer, String> {
    let malformed = |error: prost::DecodeError| format!("malformed answer: {error}");
    match protocol {
        Protocol::V0_34 => match privval::Message::decode(body).map_err(malformed)?.sum {
            Some(Sum::PingResponse(_)) => Ok(Answer::Pong),
            Some(Sum::PubKeyResponse(response)) => {
                match (response.pub_key.and_then(|key| key.sum), response.error) {
                    (Some(KeySum::Ed25519(key)), None) => Ok(Answer::PublicKey(key)),
                    (Some(KeySum::Secp256k1(_)), None) => {
                        Err("a secp256k1 key can't be a consensus key".to_owned())
                    }
                    (_, error) => Ok(refused(error)),
                }
            }
            Some(Sum::SignedVoteResponse(response)) => Ok(signed_vote(response)),
            Some(Sum::SignedProposalResponse(response)) => Ok(signed_proposal(response)),
            _ => Err("a message that isn't an answer".to_owned()),
        },
        Protocol::V0_33 => {
            let (prefix, body) = body
                .split_first_chunk::<4>()
                .ok_or_else(|| "an answer without an amino prefix".to_owned())?;
            let is = |name| amino_prefix(name) == *prefix;
            if is("PingResponse") {
                Ok(Answer::Pong)
            } else if is("PubKeyResponse") {
                let key = AminoPubKeyResponse::decode(body).map_err(malformed)?.key;
                key.strip_prefix(&AMINO_ED25519)
                    .map(|key| Answer::PublicKey(key.to_vec()))
                    .ok_or_else(|| "a public key that isn't ed25519".to_owned())
            } else if is("SignedVoteResponse") {
                privval::SignedVoteResponse::decode(body)
                    .map(signed_vote)
                    .map_err(malformed)
            } else if is("SignedProposalResponse") {
                privval::SignedProposalResponse::decode(body)
                    .map(signed_proposal)
                    .map_err(malformed)
            } else {
                Err("a message that isn't an answer".to_owned())
            }
        }
    }
}

fn signed_vote(response: privval::SignedVoteResponse) -> Answer {
    match (response.vote, response.error) {
        (Some(vote), None) => Answer::Signed {
            kind: vote.r#type,
            height: vote.height,
            round: vote.round,
            block: vote.block_id.map(|id| id.hash).unwrap_or_default(),
            signature: vote.signature,
        },
        (_, error) => refused(error),
    }
}

fn signed_proposal(response: privval::SignedProposalResponse) -> Answer {
    match (response.proposal, response.error) {
        (Some(proposal), None) => Answer::Signed {
            kind: proposal.r#type,
            height: proposal.height,
            round: proposal.round,
            block: proposal.block_id.map(|id| id.hash).unwrap_or_default(),
            signature: proposal.signature,
        },
        (_, error) => refused(error),
    }
}

fn refused(error: Option<RemoteSignerError>) -> Answer {
    Answer::Refused(error.map(|error| error.description).unwrap_or_default())
}

fn vote(message: &Message, protocol: Protocol) -> proto::Vote {
    proto::Vote {
        r#type: message.kind.number(),
        height: message.height,
        round: message.round,
        block_id: block_id(message, protocol),
        timestamp: Some(message.timestamp.clone()),
        // Not signed over, but tmkms refuses an address of another length.
        validator_address: vec![0; 20],
        validator_index: 0,
        signature: Vec::new(),
    }
}

fn proposal(message: &Message, protocol: Protocol) -> proto::Proposal {
    proto::Proposal {
        r#type: message.kind.number(),
        height: message.height,
        round: message.round,
        pol_round: NO_POL_ROUND,
        block_id: block_id(message, protocol),
        timestamp: Some(message.timestamp.clone()),
        signature: Vec::new(),
    }
}

/// A nil vote's block id is empty, but there, in v0.34's requests, and left out in amino's.
fn block_id(message: &Message, protocol: Protocol) -> Option<proto::BlockId> {
    match (message.block, protocol) {
        (Some(hash), _) => Some(proto::BlockId {
            hash: hash.to_vec(),
            part_set_header: Some(proto::PartSetHeader {
                total: PARTS,
                hash: parts_hash(&hash).to_vec(),
            }),
        }),
        (None, Protocol::V0_34) => Some(proto::BlockId {
            hash: Vec::new(),
            part_set_header: Some(proto::PartSetHeader::default()),
        }),
        (None, Protocol::V0_33) => None,
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct AminoPubKeyResponse {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

fn amino(name: &str, body: &[u8]) -> Vec<u8> {
    let prefix = amino_prefix(name);
    let mut bytes = Vec::new();
    encode_varint((prefix.len() + body.len()) as u64, &mut bytes);
    bytes.extend(prefix);
    bytes.extend(body);
    bytes
}

/// Amino's prefix bytes of a registered remote signer message: from the name's SHA-256, zero bytes dropped, the four
/// after three "disambiguation" bytes.
fn amino_prefix(name: &str) -> [u8; 4] {
    let digest = Sha256::digest(format!("tendermint/remotesigner/{name}"));
    let mut bytes = digest
        .into_iter()
        .skip_while(|byte| *byte == 0)
        .skip(3)
        .skip_while(|byte| *byte == 0);
    std::array::from_fn(|_| bytes.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amino_requests_are_go_s() {
        assert_eq!(
            encode(&Request::PublicKey, "any", Protocol::V0_33),
            [0x04, 0xcb, 0x94, 0xd6, 0x20]
        );
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        for protocol in [Protocol::V0_33, Protocol::V0_34] {
            for garbage in [
                &[][..],
                &[0xff],
                &[0xff; 40],
                &[0x0a, 0x7f],
                b"GET / HTTP/1.1",
            ] {
                assert!(decode(garbage, protocol).is_err(), "{garbage:?}");
            }
        }
        assert!(split(&[0xff; 12], 100).is_err());
        assert!(split(&[0xff, 0xff, 0xff, 0x01], 100).is_err());
        assert_eq!(split(&[], 100), Ok(None));
        assert_eq!(split(&[2, 7], 100), Ok(None));
        assert_eq!(split(&[2, 7, 8], 100), Ok(Some(&[7, 8][..])));
    }
}
