//! State files: what a signer signed last, read as tmkms reads it, and their order.
//!
//! A state file is what stands between a validator and a double signature. Reading must never take a file that tmkms
//! refuses, nor read a height that another reader of the same bytes would see differently. Nothing here writes one; the
//! bytes of a new one come from [`StateFile`].

mod convert;
mod json;
mod sign_bytes;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use convert::{BlockId, LastVote, StateFile, StateFormat};
use json::Json;

/// The height, round and step that a signer signed last, ordered in that sequence.
///
/// Serializes as plain integers, which is kmsctl's own form and neither tmkms' nor CometBFT's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignState {
    /// Block height, at most `i64::MAX`.
    pub height: u64,
    /// Consensus round, at most `i32::MAX`.
    pub round: u32,
    /// 0 proposal, 1 prevote, 2 precommit; up to 127, since tmkms takes an `i8`.
    pub step: u8,
}

/// Why a state file can't be relied on. One sentence each, without the file's name.
///
/// Where not said otherwise tmkms 0.12.2 refuses the same bytes, with exit code 1 and the file left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateError {
    /// No bytes, or only whitespace.
    Empty,
    /// Only zero bytes: what a crash can leave of a file that tmkms renamed into place without an fsync.
    OnlyZeros,
    /// Bytes that aren't UTF-8.
    NotUtf8,
    /// The JSON stops before its end.
    Truncated,
    /// Not JSON; line and column from 1.
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// More after the JSON value: two documents, or leftovers of a longer one.
    Trailing,
    /// JSON, but not an object. tmkms would take an array of the four values in order, which no tmkms ever wrote.
    NotAnObject,
    /// A field given twice. tmkms refuses only its own fields twice; with others, readers may differ on the rest too.
    DuplicateField {
        /// The field's name as in the file.
        field: String,
    },
    /// A field that must be there isn't.
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// Height or round is an integer. CometBFT's own `priv_validator_state.json` has these, and counts its steps from 1.
    Integer {
        /// `height` or `round`.
        field: &'static str,
    },
    /// A field has another JSON type than tmkms expects.
    WrongType {
        /// The field's name.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Height or round is a string that isn't a decimal number.
    NotANumber {
        /// `height` or `round`.
        field: &'static str,
    },
    /// A number below zero. tmkms refuses a negative height and round, and takes a negative step.
    Negative {
        /// `height`, `round` or `step`.
        field: &'static str,
    },
    /// A number past what its field can hold: height 2^63 - 1, round 2^31 - 1, step 127, total 2^32 - 1.
    TooLarge {
        /// The field's name.
        field: &'static str,
    },
    /// A hash that isn't empty or 64 hex digits of one case.
    BadHash {
        /// `block_id.hash` or `block_id.parts.hash`.
        field: &'static str,
    },
    /// CometBFT's own file says two things: what was signed isn't of its height, round and step.
    Contradiction {
        /// The field that doesn't fit the others.
        field: &'static str,
    },
}

impl SignState {
    /// What a signer that signed nothing has: tmkms creates a missing file with it.
    pub const ZERO: SignState = SignState {
        height: 0,
        round: 0,
        step: 0,
    };

    /// Reads a state file's bytes, taking what tmkms takes: both spellings of the parts, `block_id: null`, unknown
    /// fields, whitespace, and a `total` in quotes.
    ///
    /// # Errors
    /// One [`StateError`] per way a file can be wrong; where that is stricter than tmkms, the variant says so.
    pub fn parse(bytes: &[u8]) -> Result<SignState, StateError> {
        let Json::Object(fields) = document(bytes)? else {
            return Err(StateError::NotAnObject);
        };
        unique(&fields)?;
        let height = decimal(&fields, "height", i64::MAX as u64)?;
        let round = decimal(&fields, "round", i32::MAX as u64)?;
        let step = step(&fields)?;
        match get(&fields, "block_id").ok_or(StateError::Missing { field: "block_id" })? {
            Json::Null => {}
            Json::Object(block_id) => check_block_id(block_id)?,
            _ => {
                return Err(StateError::WrongType {
                    field: "block_id",
                    expected: "an object or null",
                });
            }
        }
        let round = u32::try_from(round).map_err(|_| StateError::TooLarge { field: "round" })?;
        Ok(SignState {
            height,
            round,
            step,
        })
    }
}

type Fields = [(String, Json)];

fn document(bytes: &[u8]) -> Result<Json, StateError> {
    if !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0) {
        return Err(StateError::OnlyZeros);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| StateError::NotUtf8)?;
    if text.trim().is_empty() {
        return Err(StateError::Empty);
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let document = Json::deserialize(&mut deserializer).map_err(|error| match error.is_eof() {
        true => StateError::Truncated,
        false => StateError::Syntax {
            line: error.line(),
            column: error.column(),
        },
    })?;
    deserializer.end().map_err(|_| StateError::Trailing)?;
    Ok(document)
}

fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a Json> {
    fields
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

fn unique(fields: &Fields) -> Result<(), StateError> {
    let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(StateError::DuplicateField {
            field: pair[0].to_owned(),
        }),
        None => Ok(()),
    }
}

/// Reads a number in quotes the way Rust's own integer parsing does, as tmkms: a leading `+` and zeros are taken.
fn decimal(fields: &Fields, field: &'static str, most: u64) -> Result<u64, StateError> {
    let text = match get(fields, field).ok_or(StateError::Missing { field })? {
        Json::String(text) => text,
        Json::Integer(number) if *number < 0 => return Err(StateError::Negative { field }),
        Json::Integer(_) => return Err(StateError::Integer { field }),
        _ => {
            return Err(StateError::WrongType {
                field,
                expected: "a number in quotes",
            });
        }
    };
    unsigned(text, field).and_then(|value| {
        if value > most {
            Err(StateError::TooLarge { field })
        } else {
            Ok(value)
        }
    })
}

fn unsigned(text: &str, field: &'static str) -> Result<u64, StateError> {
    let is_digits =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if text.strip_prefix('-').is_some_and(is_digits) {
        return Err(StateError::Negative { field });
    }
    if !is_digits(text.strip_prefix('+').unwrap_or(text)) {
        return Err(StateError::NotANumber { field });
    }
    text.parse().map_err(|_| StateError::TooLarge { field })
}

fn step(fields: &Fields) -> Result<u8, StateError> {
    let field = "step";
    match get(fields, field).ok_or(StateError::Missing { field })? {
        Json::Integer(number) if *number < 0 => Err(StateError::Negative { field }),
        Json::Integer(number) => match u8::try_from(*number) {
            Ok(step) if step <= i8::MAX as u8 => Ok(step),
            _ => Err(StateError::TooLarge { field }),
        },
        _ => Err(StateError::WrongType {
            field,
            expected: "an integer",
        }),
    }
}

fn check_block_id(block_id: &Fields) -> Result<(), StateError> {
    unique(block_id)?;
    check_hash(block_id, "hash", "block_id.hash")?;
    let field = "block_id.parts";
    let parts = match (get(block_id, "parts"), get(block_id, "part_set_header")) {
        (Some(_), Some(_)) => {
            return Err(StateError::DuplicateField {
                field: field.to_owned(),
            });
        }
        (Some(parts), None) | (None, Some(parts)) => parts,
        (None, None) => return Err(StateError::Missing { field }),
    };
    let Json::Object(parts) = parts else {
        return Err(StateError::WrongType {
            field,
            expected: "an object",
        });
    };
    unique(parts)?;
    check_hash(parts, "hash", "block_id.parts.hash")?;
    check_total(parts)
}

fn check_total(parts: &Fields) -> Result<(), StateError> {
    let field = "block_id.parts.total";
    let total = match get(parts, "total").ok_or(StateError::Missing { field })? {
        Json::String(text) => i128::from(unsigned(text, field)?),
        Json::Integer(number) => *number,
        _ => {
            return Err(StateError::WrongType {
                field,
                expected: "an integer",
            });
        }
    };
    match u32::try_from(total) {
        Ok(_) => Ok(()),
        Err(_) if total < 0 => Err(StateError::Negative { field }),
        Err(_) => Err(StateError::TooLarge { field }),
    }
}

fn check_hash(fields: &Fields, name: &str, field: &'static str) -> Result<(), StateError> {
    let hash = match get(fields, name).ok_or(StateError::Missing { field })? {
        Json::Null => return Ok(()),
        Json::String(hash) => hash,
        _ => {
            return Err(StateError::WrongType {
                field,
                expected: "a string",
            });
        }
    };
    let one_case = hash
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
        || hash
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match hash.len() {
        0 | 64 if one_case => Ok(()),
        _ => Err(StateError::BadHash { field }),
    }
}

impl fmt::Display for SignState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.height, self.round, self.step)
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Empty => f.write_str("the state file is empty"),
            StateError::OnlyZeros => {
                f.write_str("the state file holds only zero bytes, as a crash can leave it")
            }
            StateError::NotUtf8 => f.write_str("the state file isn't UTF-8 text"),
            StateError::Truncated => f.write_str("the state file stops in the middle of its JSON"),
            StateError::Syntax { line, column } => {
                write!(
                    f,
                    "the state file isn't JSON at line {line}, column {column}"
                )
            }
            StateError::Trailing => f.write_str("the state file goes on after its JSON object"),
            StateError::NotAnObject => f.write_str("the state file holds JSON, but not an object"),
            StateError::DuplicateField { field } => write!(f, "the state file has {field:?} twice"),
            StateError::Missing { field } => write!(f, "the state file has no `{field}`"),
            StateError::Integer { field } => write!(
                f,
                "the state file has `{field}` as an integer, which is CometBFT's format and not tmkms': its steps count \
                 from 1 too"
            ),
            StateError::WrongType { field, expected } => {
                write!(f, "the state file's `{field}` must be {expected}")
            }
            StateError::NotANumber { field } => {
                write!(f, "the state file's `{field}` isn't a decimal number")
            }
            StateError::Negative { field } => write!(f, "the state file's `{field}` is negative"),
            StateError::TooLarge { field } => write!(
                f,
                "the state file's `{field}` is larger than tmkms can hold"
            ),
            StateError::BadHash { field } => {
                write!(f, "the state file's `{field}` isn't empty or 64 hex digits")
            }
            StateError::Contradiction { field } => write!(
                f,
                "the state file contradicts itself: its `{field}` isn't of its height, round and step"
            ),
        }
    }
}

impl std::error::Error for StateError {}
