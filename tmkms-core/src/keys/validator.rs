//! CometBFT's `priv_validator_key.json`, as far as every tmkms reads it.
//!
//! What serde_json says of a wrong value quotes it, so its words are never passed on. The values are borrowed from the
//! caller's bytes: no copy of the private key is made that isn't wiped.

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::base64::decode;
use super::{KeyFileError, PublicKey, SEED_LENGTH, SecretKey};

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    address: &'a str,
    #[serde(borrow)]
    pub_key: Part<'a>,
    #[serde(borrow)]
    priv_key: Part<'a>,
}

#[derive(Deserialize)]
struct Part<'a> {
    r#type: &'a str,
    value: &'a str,
}

const ADDRESS: &str = "address";
const PRIVATE: &str = "priv_key.value";
const PUBLIC: &str = "pub_key.value";

/// A file whose parts have each the form that tmkms wants. Whether they belong together is another question, which tmkms
/// asks from 0.13 on and of the private key's halves alone.
pub(crate) struct ValidatorFile<'a> {
    written: Written<'a>,
    halves: Zeroizing<Vec<u8>>,
}

impl<'a> ValidatorFile<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<ValidatorFile<'a>, KeyFileError> {
        if bytes.trim_ascii().is_empty() {
            return Err(KeyFileError::Empty);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| KeyFileError::NotText)?;
        let written: Written<'_> = serde_json::from_str(text).map_err(|error| {
            if decode(text.trim_end()).is_some() {
                KeyFileError::IsBase64
            } else if error.is_eof() {
                KeyFileError::Truncated { field: None }
            } else {
                KeyFileError::NotJson {
                    line: error.line(),
                    column: error.column(),
                }
            }
        })?;
        is(written.priv_key.r#type, "tendermint/PrivKeyEd25519")?;
        is(written.pub_key.r#type, "tendermint/PubKeyEd25519")?;
        let bad = |field| KeyFileError::BadField { field };
        // CometBFT writes the seed and the public key one after the other.
        let halves = decode(written.priv_key.value).ok_or(bad(PRIVATE))?;
        let public = decode(written.pub_key.value).ok_or(bad(PUBLIC))?;
        let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        match (halves.len(), public.len(), written.address) {
            (64, 32, address) if address.len() == 40 && is_hex(address) => {
                Ok(ValidatorFile { written, halves })
            }
            (64, 32, _) => Err(bad(ADDRESS)),
            (64, ..) => Err(bad(PUBLIC)),
            (..64, ..) => Err(KeyFileError::Truncated {
                field: Some(PRIVATE),
            }),
            _ => Err(bad(PRIVATE)),
        }
    }

    /// The public key as the private key's second half has it: what tmkms before 0.13 signs under.
    pub(crate) fn public(&self) -> Option<PublicKey> {
        self.halves.last_chunk().copied().map(PublicKey::from_bytes)
    }

    /// The private key, whose halves belong together.
    pub(crate) fn secret(&self) -> Result<SecretKey, KeyFileError> {
        let seed = self.halves.first_chunk::<SEED_LENGTH>();
        let secret = seed.map(SecretKey::from_seed);
        let own = |secret: &SecretKey| Some(secret.public_key()) == self.public();
        secret
            .filter(own)
            .ok_or(KeyFileError::Mismatch { field: PRIVATE })
    }

    /// The private key of a file in which everything is its own, written as CometBFT writes it.
    pub(crate) fn whole(&self) -> Result<SecretKey, KeyFileError> {
        let written = &self.written;
        if *Zeroizing::new(Base64::encode_string(&self.halves)) != *written.priv_key.value {
            return Err(KeyFileError::BadField { field: PRIVATE });
        }
        let secret = self.secret()?;
        let own = secret.public_key();
        let mismatch = |field| Err(KeyFileError::Mismatch { field });
        if own.to_base64() != written.pub_key.value {
            return mismatch(PUBLIC);
        }
        if !own.address().eq_ignore_ascii_case(written.address) {
            return mismatch(ADDRESS);
        }
        Ok(secret)
    }
}

/// Only kinds that are known are named: the text may be anything.
fn is(found: &str, wanted: &str) -> Result<(), KeyFileError> {
    if found == wanted {
        return Ok(());
    }
    let kinds = [
        ("Secp256k1", "secp256k1"),
        ("Sr25519", "sr25519"),
        ("Bls12_381", "bls12_381"),
        ("Ed25519", "Ed25519 in another place or encoding"),
    ];
    let known = kinds.into_iter().find(|(word, _)| found.contains(word));
    Err(KeyFileError::OtherType {
        kind: known.map_or("unknown", |(_, kind)| kind),
    })
}
