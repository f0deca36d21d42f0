//! Which key files a tmkms loads, by its version: their form, and never what is in them.

use std::fmt;

use super::Unread;
use crate::config::SoftsignFormat;
use crate::keys::{EXPANDED_LENGTH, EXPORTED_LENGTH, KeyFileError, SEED_LENGTH};
use crate::keys::{ValidatorFile, softsign};

/// Why tmkms can't use a key file. Nothing of the file is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Unread(Unread),
    File(KeyFileError),
    NotSecp256k1,
    AccountInJson,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Unread(why) => write!(f, "{why}"),
            Wrong::File(why) => write!(f, "{why}"),
            Wrong::NotSecp256k1 => f.write_str("it isn't a secp256k1 key"),
            Wrong::AccountInJson => f.write_str("an account key can't be in json"),
        }
    }
}

impl From<KeyFileError> for Wrong {
    fn from(error: KeyFileError) -> Wrong {
        Wrong::File(error)
    }
}

/// A consensus key. 0.15 also reads the expanded key in base64, alone or with its public half.
pub(super) fn consensus(bytes: &[u8], format: SoftsignFormat, minor: u64) -> Result<(), Wrong> {
    match format {
        SoftsignFormat::Json => Ok(json(bytes, minor)?),
        SoftsignFormat::Base64 => {
            let all = [SEED_LENGTH, EXPANDED_LENGTH, EXPORTED_LENGTH];
            let lengths = if minor < 15 { &all[..1] } else { &all };
            let bytes = softsign(bytes)?.len();
            match lengths.contains(&bytes) {
                true => Ok(()),
                false => Err(KeyFileError::WrongLength { bytes }.into()),
            }
        }
    }
}

/// CometBFT's `priv_validator_key.json`. Nobody compares its `pub_key`; whether the public half that follows the secret one
/// is its own is asked from 0.13 on, and before only whether it is a public key at all.
fn json(bytes: &[u8], minor: u64) -> Result<(), KeyFileError> {
    let file = ValidatorFile::parse(bytes)?;
    match minor {
        ..13 if file.public().is_some_and(|public| public.is_point()) => Ok(()),
        ..13 => Err(KeyFileError::BadField {
            field: "priv_key.value",
        }),
        _ => file.secret().map(drop),
    }
}

/// A secp256k1 key in base64: 32 bytes, not zero, below the order of the curve. From 0.14 on 24 bytes are enough, the
/// rest being zeros in front.
pub(super) fn account(bytes: &[u8], minor: u64) -> Result<(), Wrong> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];
    let key = softsign(bytes)?;
    let shortest = if minor < 14 { 32 } else { 24 };
    if !(shortest..=32).contains(&key.len()) {
        return Err(KeyFileError::WrongLength { bytes: key.len() }.into());
    }
    match key.iter().any(|b| *b != 0) && (key.len() < 32 || key[..] < ORDER[..]) {
        true => Ok(()),
        false => Err(Wrong::NotSecp256k1),
    }
}
