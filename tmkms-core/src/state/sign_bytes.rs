//! What a signature was given for: the canonical vote or proposal that CometBFT keeps beside its last height.
//!
//! Protobuf since Tendermint 0.34, amino before; the fields have the same numbers, so both are read by their wire types.
//! What can't be read is no answer, and never a guess.

use super::convert::BlockId;

/// A vote or a proposal as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignBytes {
    pub height: u64,
    pub round: u32,
    /// tmkms' count: 0 proposal, 1 prevote, 2 precommit.
    pub step: u8,
    /// None is nil.
    pub block: Option<BlockId>,
    pub chain_id: String,
}

enum Value<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl SignBytes {
    /// Reads a message with its length before it.
    pub fn parse(bytes: &[u8]) -> Option<SignBytes> {
        let mut rest = bytes;
        let length = varint(&mut rest)?;
        if usize::try_from(length).ok()? != rest.len() {
            return None;
        }
        let fields = fields(rest)?;
        let (step, block_at, chain_at) = match number(&fields, 1)? {
            1 => (1, 4, 6),
            2 => (2, 4, 6),
            32 => (0, 5, 7),
            _ => return None,
        };
        let block = match bytes_of(&fields, block_at)? {
            [] => None,
            block => Some(block_id(block)?),
        };
        Some(SignBytes {
            height: i64::try_from(number(&fields, 2)?).ok()?.unsigned_abs(),
            round: u32::try_from(number(&fields, 3)?).ok()?,
            step,
            block,
            chain_id: std::str::from_utf8(bytes_of(&fields, chain_at)?)
                .ok()?
                .to_owned(),
        })
    }
}

/// protobuf has the total first and amino the hash, so they are told apart by what they are.
fn block_id(bytes: &[u8]) -> Option<BlockId> {
    let block = fields(bytes)?;
    let parts = fields(bytes_of(&block, 2)?)?;
    let total = parts.iter().find_map(|(_, value)| match value {
        Value::Varint(total) => Some(*total),
        _ => None,
    });
    let hash = parts.iter().find_map(|(_, value)| match value {
        Value::Bytes(hash) => Some(*hash),
        _ => None,
    });
    Some(BlockId {
        hash: bytes_of(&block, 1)?.try_into().ok()?,
        total: u32::try_from(total?).ok()?,
        parts_hash: hash?.try_into().ok()?,
    })
}

fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut bytes)?),
            1 => {
                let (fixed, rest) = bytes.split_first_chunk::<8>()?;
                bytes = rest;
                Value::Fixed(u64::from_le_bytes(*fixed))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value)
            }
            _ => return None,
        };
        fields.push((tag >> 3, value));
    }
    Some(fields)
}

/// A field that isn't there is 0.
fn number(fields: &[(u64, Value<'_>)], at: u64) -> Option<u64> {
    match fields.iter().find(|(number, _)| *number == at) {
        None => Some(0),
        Some((_, Value::Varint(value) | Value::Fixed(value))) => Some(*value),
        Some((_, Value::Bytes(_))) => None,
    }
}

/// A field that isn't there is empty.
fn bytes_of<'a>(fields: &[(u64, Value<'a>)], at: u64) -> Option<&'a [u8]> {
    match fields.iter().find(|(number, _)| *number == at) {
        None => Some(&[]),
        Some((_, Value::Bytes(value))) => Some(value),
        Some(_) => None,
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        value |= part.checked_shl(shift).filter(|v| v >> shift == part)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
