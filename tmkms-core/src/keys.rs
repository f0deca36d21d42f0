//! Ed25519 keys as tmkms and CometBFT write them: softsign's base64 file, `priv_validator_key.json`, and what a public
//! key looks like in tmkms' log.
//!
//! It reads bytes and gives bytes. A private key must never reach an error, a `Debug` or a `Display`, and every buffer
//! that held one is wiped when it is dropped.

mod public;
mod validator;

use std::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

pub use public::PublicKey;
pub(crate) use public::hex;

/// The bytes of a private key: tmkms and CometBFT keep the seed that it follows from.
pub const SEED_LENGTH: usize = 32;

/// An Ed25519 private key, wiped from memory when dropped.
///
/// A validator's consensus key and a signer's connection key are both such keys, in files of one format.
pub struct SecretKey(SigningKey);

/// Why a key file can't be used. One sentence each, without the file's name, and never with anything of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFileError {
    /// No bytes, or only whitespace.
    Empty,
    /// Bytes that aren't base64 as tmkms reads it: one line, padded.
    NotBase64,
    /// Base64 of something else than 32 bytes.
    WrongLength {
        /// How many bytes there are.
        bytes: usize,
    },
    /// Not the JSON of a `priv_validator_key.json`; line and column from 1.
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// JSON that stops before its end, or whose base64 does.
    Truncated {
        /// The field, or the file as a whole.
        what: &'static str,
    },
    /// A key of another kind: only Ed25519 signs for a tmkms.
    OtherType {
        /// The kind as far as it is known, such as `secp256k1`.
        kind: &'static str,
    },
    /// A field isn't base64 of a key's length.
    BadField {
        /// The field's name as a dotted path.
        field: &'static str,
    },
    /// The file contradicts itself: its public key or address isn't the private key's.
    Mismatch {
        /// What doesn't fit the private key.
        field: &'static str,
    },
    /// A `priv_validator_key.json` where softsign's base64 is expected.
    IsJson,
}

impl SecretKey {
    /// The key that follows from 32 random bytes, which are the caller's to wipe.
    pub fn from_seed(seed: &[u8; SEED_LENGTH]) -> SecretKey {
        SecretKey(SigningKey::from_bytes(seed))
    }

    /// Reads a softsign key file with `key_format = "base64"`, which is also a connection key's format: what
    /// `tmkms softsign keygen` and `import` write.
    ///
    /// # Errors
    /// Bytes that tmkms would refuse.
    pub fn from_base64(bytes: &[u8]) -> Result<SecretKey, KeyFileError> {
        // tmkms trims the end only.
        let text = bytes.trim_ascii_end();
        if text.is_empty() {
            return Err(KeyFileError::Empty);
        }
        if text.starts_with(b"{") {
            return Err(KeyFileError::IsJson);
        }
        let seed = decode(text).ok_or(KeyFileError::NotBase64)?;
        match <&[u8; SEED_LENGTH]>::try_from(seed.as_slice()) {
            Ok(seed) => Ok(SecretKey::from_seed(seed)),
            Err(_) => Err(KeyFileError::WrongLength { bytes: seed.len() }),
        }
    }

    /// Reads CometBFT's `priv_validator_key.json`, and holds its three parts against each other.
    ///
    /// # Errors
    /// JSON of another shape, a key that isn't Ed25519, a public key or an address that isn't the private key's.
    pub fn from_validator_json(bytes: &[u8]) -> Result<SecretKey, KeyFileError> {
        validator::read(bytes)
    }

    /// The content of a softsign key file, byte for byte as tmkms writes it: no newline at its end.
    pub fn to_base64(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.0.to_bytes());
        Zeroizing::new(Base64::encode_string(seed.as_slice()))
    }

    /// The public key that goes with it.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.verifying_key().to_bytes())
    }
}

/// Strict base64 into a buffer that is wiped.
fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; text.len()]);
    let length = Base64::decode(text, &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFileError::Empty => f.write_str("the key file is empty"),
            KeyFileError::NotBase64 => f.write_str("the key file isn't one line of base64"),
            KeyFileError::WrongLength { bytes } => write!(
                f,
                "the key file holds {bytes} bytes in base64, and an Ed25519 key has {SEED_LENGTH}"
            ),
            KeyFileError::NotJson { line, column } => write!(
                f,
                "the key file isn't a priv_validator_key.json at line {line}, column {column}"
            ),
            KeyFileError::Truncated { what } => write!(f, "{what} stops before its end"),
            KeyFileError::OtherType { kind } => {
                write!(f, "the key is of type {kind}, and tmkms signs votes with Ed25519 only")
            }
            KeyFileError::BadField { field } => {
                write!(f, "the key file's `{field}` isn't what an Ed25519 key has there")
            }
            KeyFileError::Mismatch { field } => {
                write!(f, "the key file's `{field}` isn't that of its private key")
            }
            KeyFileError::IsJson => f.write_str(
                "the key file is JSON, as CometBFT writes its priv_validator_key.json, where softsign's base64 is expected",
            ),
        }
    }
}

impl std::error::Error for KeyFileError {}
