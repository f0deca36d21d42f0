//! State files of tmkms and of CometBFT, each read as what it is and written as the other.
//!
//! CometBFT's `priv_validator_state.json` counts its steps from 1 and keeps what was signed; tmkms' counts from 0 and keeps
//! the block. A conversion must never let sign what the other wouldn't: where the block isn't known, everything of that
//! round is closed.

use std::fmt;

use base64ct::{Base64, Encoding};

use super::json::Json;
use super::sign_bytes::SignBytes;
use super::{Fields, SignState, StateError, document, get, unique, unsigned};
use crate::keys::{PublicKey, hex};

/// Whose format a state file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFormat {
    /// tmkms': height and round in quotes, steps 0 to 2, a `block_id`.
    Tmkms,
    /// CometBFT's and Tendermint's: an integer round, steps 1 to 3, `signature` and `signbytes`.
    Cometbft,
}

/// A block that was voted for or proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockId {
    /// The block's hash.
    pub hash: [u8; 32],
    /// How many parts it was sent in.
    pub total: u32,
    /// Their hash.
    pub parts_hash: [u8; 32],
}

/// What was signed last, as far as the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastVote {
    /// A block.
    Block(BlockId),
    /// No block; or nothing was signed at all.
    Nil,
    /// The file doesn't say it.
    Unknown,
}

/// A state file of either format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    /// Whose it is.
    pub format: StateFormat,
    /// Where it stands, in tmkms' steps.
    pub at: SignState,
    /// What was signed there.
    pub vote: LastVote,
    /// The chain, which only CometBFT's says, and only once it has signed.
    pub chain_id: Option<String>,
    signed: Option<(Vec<u8>, [u8; 64])>,
}

/// The highest step that tmkms can hold: with it, nothing more of the round is signed.
const CLOSED: u8 = i8::MAX as u8;

impl StateFile {
    /// Reads a state file of either format; a `block_id` is what tells them apart.
    ///
    /// # Errors
    /// As [`SignState::parse`]; for CometBFT's also where its parts contradict each other.
    pub fn parse(bytes: &[u8]) -> Result<StateFile, StateError> {
        let Json::Object(fields) = document(bytes)? else {
            return Err(StateError::NotAnObject);
        };
        unique(&fields)?;
        match get(&fields, "block_id") {
            Some(block) => Ok(StateFile {
                format: StateFormat::Tmkms,
                at: SignState::parse(bytes)?,
                vote: block_of(block),
                chain_id: None,
                signed: None,
            }),
            None => cometbft(&fields),
        }
    }

    /// The file of a signer that signs nothing at this height or below, whatever the round. Real tmkms 0.10.1 to 0.15.0
    /// sign the next height with it and nothing before.
    pub fn floor(height: u64) -> StateFile {
        StateFile {
            format: StateFormat::Tmkms,
            at: SignState {
                height,
                round: i32::MAX as u32,
                step: CLOSED,
            },
            vote: LastVote::Nil,
            chain_id: None,
            signed: None,
        }
    }

    /// The file of a signer that signed nothing.
    pub fn fresh() -> StateFile {
        StateFile {
            format: StateFormat::Tmkms,
            at: SignState::ZERO,
            vote: LastVote::Nil,
            chain_id: None,
            signed: None,
        }
    }

    /// Where tmkms stands with [`StateFile::to_tmkms`]: never below the file, and above it where the block isn't known.
    pub fn at_in_tmkms(&self) -> SignState {
        let unsure = self.vote == LastVote::Unknown && self.at != SignState::ZERO;
        SignState {
            step: if unsure { CLOSED } else { self.at.step },
            ..self.at
        }
    }

    /// The file as tmkms writes it, without a newline at its end.
    pub fn to_tmkms(&self) -> String {
        let SignState {
            height,
            round,
            step,
        } = self.at_in_tmkms();
        let block = match &self.vote {
            LastVote::Block(block) => format!(
                r#"{{"hash":"{}","parts":{{"total":{},"hash":"{}"}}}}"#,
                hex(&block.hash, true),
                block.total,
                hex(&block.parts_hash, true)
            ),
            LastVote::Nil | LastVote::Unknown => "null".to_owned(),
        };
        format!(r#"{{"height":"{height}","round":"{round}","step":{step},"block_id":{block}}}"#)
    }

    /// The file as CometBFT writes it. Without the bytes that were signed CometBFT signs nothing more at the same height,
    /// round and step, so none are made up.
    pub fn to_cometbft(&self) -> String {
        let SignState {
            height,
            round,
            step,
        } = self.at;
        let step = match self.at {
            SignState::ZERO => 0,
            _ => step.saturating_add(1).min(CLOSED),
        };
        let signed = self.signed.as_ref().map(|(bytes, signature)| {
            let signature = Base64::encode_string(signature);
            let bytes = hex(bytes, true);
            format!(",\n  \"signature\": \"{signature}\",\n  \"signbytes\": \"{bytes}\"")
        });
        format!(
            "{{\n  \"height\": \"{height}\",\n  \"round\": {round},\n  \"step\": {step}{}\n}}",
            signed.unwrap_or_default()
        )
    }

    /// Whether the file's own signature is this key's; none where it has none.
    pub fn signed_by(&self, key: &PublicKey) -> Option<bool> {
        let (bytes, signature) = self.signed.as_ref()?;
        Some(key.verifies(bytes, signature))
    }
}

/// Fields whose form was judged already.
fn block_of(block: &Json) -> LastVote {
    let read = |block: &Fields| {
        let parts = match get(block, "parts").or_else(|| get(block, "part_set_header"))? {
            Json::Object(parts) => parts,
            _ => return None,
        };
        Some(BlockId {
            hash: hash(block)?,
            total: match get(parts, "total")? {
                Json::Integer(total) => u32::try_from(*total).ok()?,
                Json::String(total) => total.parse().ok()?,
                _ => return None,
            },
            parts_hash: hash(parts)?,
        })
    };
    match block {
        Json::Object(block) => read(block).map_or(LastVote::Nil, LastVote::Block),
        _ => LastVote::Nil,
    }
}

fn hash(fields: &Fields) -> Option<[u8; 32]> {
    match get(fields, "hash")? {
        Json::String(hash) => unhex(hash)?.try_into().ok(),
        _ => None,
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: &u8| char::from(*c).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        })
        .collect()
}

fn cometbft(fields: &Fields) -> Result<StateFile, StateError> {
    let height = number(fields, "height", i64::MAX as u64)?;
    let round = number(fields, "round", i32::MAX as u64)?;
    let step = number(fields, "step", i8::MAX as u64)?;
    let too_large = |field| move |_| StateError::TooLarge { field };
    let (round, step) = (
        u32::try_from(round).map_err(too_large("round"))?,
        u8::try_from(step).map_err(too_large("step"))?,
    );
    let at = SignState {
        height,
        round,
        // The highest stays the highest, so that a floor goes there and back.
        step: match step {
            CLOSED => CLOSED,
            step => step.saturating_sub(1),
        },
    };
    let bytes = text(fields, "signbytes")?.map(unhex).map(|hex| {
        hex.ok_or(StateError::WrongType {
            field: "signbytes",
            expected: "hex digits",
        })
    });
    let signature = text(fields, "signature")?.map(|text| {
        let decoded = Base64::decode_vec(text).ok();
        decoded
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or(StateError::WrongType {
                field: "signature",
                expected: "64 bytes in base64",
            })
    });
    let signed = match (bytes.transpose()?, signature.transpose()?) {
        (Some(bytes), Some(signature)) => Some((bytes, signature)),
        (None, None) => None,
        (None, _) => return Err(StateError::Missing { field: "signbytes" }),
        (_, None) => return Err(StateError::Missing { field: "signature" }),
    };
    let said = signed
        .as_ref()
        .and_then(|(bytes, _)| SignBytes::parse(bytes));
    if let Some(said) = &said
        && (said.height, said.round, said.step) != (height, round, at.step)
    {
        return Err(StateError::Contradiction { field: "signbytes" });
    }
    // Nothing is signed at step 0, nor at height 0.
    if (step == 0 || height == 0) && (at != SignState::ZERO || signed.is_some()) {
        return Err(StateError::Contradiction { field: "step" });
    }
    let vote = match (at, &said) {
        (SignState::ZERO, _) => LastVote::Nil,
        (_, Some(said)) => match &said.block {
            Some(block) => LastVote::Block(block.clone()),
            None => LastVote::Nil,
        },
        (_, None) => LastVote::Unknown,
    };
    Ok(StateFile {
        format: StateFormat::Cometbft,
        at,
        vote,
        chain_id: said.map(|said| said.chain_id),
        signed,
    })
}

/// Tendermint before 0.34 has the round in quotes, as every version has the height.
fn number(fields: &Fields, field: &'static str, most: u64) -> Result<u64, StateError> {
    let value = match get(fields, field).ok_or(StateError::Missing { field })? {
        Json::String(text) => unsigned(text, field)?,
        Json::Integer(number) if *number < 0 => return Err(StateError::Negative { field }),
        Json::Integer(number) => {
            u64::try_from(*number).map_err(|_| StateError::TooLarge { field })?
        }
        _ => {
            return Err(StateError::WrongType {
                field,
                expected: "a number",
            });
        }
    };
    match value > most {
        true => Err(StateError::TooLarge { field }),
        false => Ok(value),
    }
}

fn text<'a>(fields: &'a Fields, field: &'static str) -> Result<Option<&'a str>, StateError> {
    match get(fields, field) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(StateError::WrongType {
            field,
            expected: "a string",
        }),
    }
}

impl fmt::Display for StateFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateFormat::Tmkms => "tmkms",
            StateFormat::Cometbft => "CometBFT",
        })
    }
}
