//! Ed25519 keys as tmkms and CometBFT write them: softsign's base64 file, `priv_validator_key.json`, and what a public
//! key looks like in tmkms' log.
//!
//! It reads bytes and gives bytes. A private key must never reach an error, a `Debug` or a `Display`, and every buffer
//! that held one is wiped when it is dropped.

mod base64;
mod public;
mod validator;

use std::fmt;

use base64ct::{Base64, Encoding};
use ed25519_dalek::hazmat::ExpandedSecretKey;
use ed25519_dalek::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::config::SoftsignFormat;

pub use public::PublicKey;
pub(crate) use public::hex;
pub(crate) use validator::ValidatorFile;

/// The bytes of a private key: tmkms and CometBFT keep the seed that it follows from.
pub const SEED_LENGTH: usize = 32;
/// The bytes of what follows from a seed: a scalar, and what nonces are made of.
pub(crate) const EXPANDED_LENGTH: usize = 64;
/// The same with the public key.
pub(crate) const EXPORTED_LENGTH: usize = 96;

/// An Ed25519 private key, wiped from memory when dropped.
///
/// A validator's consensus key and a signer's connection key are both such keys, in files of one format.
pub struct SecretKey(SigningKey);

/// Why a key file can't be used. One clause each about it, and never with anything of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFileError {
    /// No bytes, or only whitespace.
    Empty,
    /// Bytes that aren't UTF-8.
    NotText,
    /// Text that isn't base64 as tmkms reads it: one line.
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
        /// The field's name as a dotted path; none where it is the file.
        field: Option<&'static str>,
    },
    /// A key of another kind: only Ed25519 signs for a tmkms.
    OtherType {
        /// The kind as far as it is known, such as `secp256k1`.
        kind: &'static str,
    },
    /// A field isn't what an Ed25519 key has there.
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
    /// Softsign's base64 where a `priv_validator_key.json` is expected.
    IsBase64,
}

impl SecretKey {
    /// The key that follows from 32 random bytes, which are the caller's to wipe.
    pub fn from_seed(seed: &[u8; SEED_LENGTH]) -> SecretKey {
        SecretKey(SigningKey::from_bytes(seed))
    }

    /// Reads a key file as tmkms does with this `key_format`. In base64, what `tmkms softsign keygen` and `import` write,
    /// it may also be a connection's key.
    ///
    /// # Errors
    /// A file that tmkms 0.13 and 0.14 refuse. Earlier ones take a `priv_validator_key.json` whose halves don't belong
    /// together: which key those sign with isn't known here. 0.15 takes an expanded key in base64 too: [`KeyFile::read`]
    /// says whose it is.
    pub fn read(bytes: &[u8], format: SoftsignFormat) -> Result<SecretKey, KeyFileError> {
        match format {
            SoftsignFormat::Json => ValidatorFile::parse(bytes)?.secret(),
            SoftsignFormat::Base64 => {
                let seed = softsign(bytes)?;
                match seed.as_slice().try_into() {
                    Ok(seed) => Ok(SecretKey::from_seed(seed)),
                    Err(_) => Err(KeyFileError::WrongLength { bytes: seed.len() }),
                }
            }
        }
    }

    /// Reads a validator's own `priv_validator_key.json`, and holds all of its parts against each other: tmkms asks less,
    /// and whoever moves a key wants to know that it is that validator's.
    ///
    /// # Errors
    /// JSON of another shape, a key that isn't Ed25519, a public key or an address that isn't the private key's.
    pub fn from_validator_json(bytes: &[u8]) -> Result<SecretKey, KeyFileError> {
        ValidatorFile::parse(bytes)?.whole()
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

/// What a consensus key's file is to a tmkms: whose key it holds, and which tmkms take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The public half, as tmkms logs it.
    pub public: PublicKey,
    /// It isn't the seed but what follows from it, which 0.15 takes and 0.10 to 0.14 refuse (run with 0.10.1, 0.12.2,
    /// 0.14.0 and 0.15.0).
    pub expanded: bool,
}

impl KeyFile {
    /// Reads a key file as the newest tmkms does: beside what [`SecretKey::read`] takes, base64 of an expanded key.
    ///
    /// # Errors
    /// As [`SecretKey::read`].
    pub fn read(bytes: &[u8], format: SoftsignFormat) -> Result<KeyFile, KeyFileError> {
        let wrong = match SecretKey::read(bytes, format) {
            Ok(secret) => {
                return Ok(KeyFile {
                    public: secret.public_key(),
                    expanded: false,
                });
            }
            Err(wrong) => wrong,
        };
        if !matches!(wrong, KeyFileError::WrongLength { .. }) {
            return Err(wrong);
        }
        let decoded = softsign(bytes)?;
        let mut halves = Zeroizing::new([0; EXPANDED_LENGTH]);
        match decoded.len() {
            EXPANDED_LENGTH => halves.copy_from_slice(&decoded),
            // As a YubiHSM exports it: the scalar the other way round, and after both halves the public key, which tmkms
            // doesn't look at.
            EXPORTED_LENGTH => {
                halves.copy_from_slice(&decoded[..EXPANDED_LENGTH]);
                halves[..SEED_LENGTH].reverse();
            }
            _ => return Err(wrong),
        }
        let expanded = ExpandedSecretKey::from_bytes(&halves);
        Ok(KeyFile {
            public: PublicKey::from_bytes(VerifyingKey::from(&expanded).to_bytes()),
            expanded: true,
        })
    }
}

/// The bytes in a softsign key file with `key_format = "base64"`, however many: of a consensus or of an account key.
pub(crate) fn softsign(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    // tmkms trims the end only.
    let text = std::str::from_utf8(bytes).map_err(|_| KeyFileError::NotText)?;
    let text = text.trim_end();
    if text.is_empty() {
        return Err(KeyFileError::Empty);
    }
    if text.trim_start().starts_with('{') {
        return Err(KeyFileError::IsJson);
    }
    base64::decode(text).ok_or(KeyFileError::NotBase64)
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFileError::Empty => f.write_str("it is empty"),
            KeyFileError::NotText => f.write_str("it isn't text"),
            KeyFileError::NotBase64 => f.write_str("it isn't base64 in one line"),
            KeyFileError::WrongLength { bytes } => {
                write!(f, "its key has {bytes} bytes and not {SEED_LENGTH}")
            }
            KeyFileError::NotJson { line, column } => write!(
                f,
                "it isn't a priv_validator_key.json, as line {line}, column {column} shows"
            ),
            KeyFileError::Truncated { field: None } => f.write_str("it stops before its end"),
            KeyFileError::Truncated { field: Some(field) } => {
                write!(f, "its `{field}` stops before its end")
            }
            KeyFileError::OtherType { kind } => {
                write!(f, "its key is of type {kind}, and tmkms signs votes with Ed25519 only")
            }
            KeyFileError::BadField { field } => {
                write!(f, "its `{field}` isn't what an Ed25519 key has there")
            }
            KeyFileError::Mismatch { field } => {
                write!(f, "its `{field}` isn't that of its private key")
            }
            KeyFileError::IsJson => f.write_str(
                "it is a priv_validator_key.json, and for that a tmkms.toml must set key_format = \"json\"",
            ),
            KeyFileError::IsBase64 => f.write_str(
                "it is softsign's base64, and for that a tmkms.toml must set key_format = \"base64\"",
            ),
        }
    }
}

impl std::error::Error for KeyFileError {}
