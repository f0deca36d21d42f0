//! CometBFT's `priv_validator_key.json`.
//!
//! What serde_json says of a wrong value quotes it, so its words are never passed on. The values are borrowed from the
//! caller's bytes: no copy of the private key is made that isn't wiped.

use serde::Deserialize;

use super::{KeyFileError, SecretKey, decode};

#[derive(Deserialize)]
struct ValidatorKey<'a> {
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

const PRIVATE: &str = "priv_key.value";

pub(super) fn read(bytes: &[u8]) -> Result<SecretKey, KeyFileError> {
    if bytes.trim_ascii().is_empty() {
        return Err(KeyFileError::Empty);
    }
    let key: ValidatorKey<'_> = serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() {
            KeyFileError::Truncated {
                what: "the key file",
            }
        } else {
            KeyFileError::NotJson {
                line: error.line(),
                column: error.column(),
            }
        }
    })?;
    is(key.priv_key.r#type, "tendermint/PrivKeyEd25519")?;
    is(key.pub_key.r#type, "tendermint/PubKeyEd25519")?;

    // CometBFT writes the seed and the public key one after the other.
    let both =
        decode(key.priv_key.value.as_bytes()).ok_or(KeyFileError::BadField { field: PRIVATE })?;
    let (seed, public) = match both.len() {
        64 => both.split_at(32),
        ..64 => {
            return Err(KeyFileError::Truncated {
                what: "the key file's `priv_key.value`",
            });
        }
        _ => return Err(KeyFileError::BadField { field: PRIVATE }),
    };
    let seed = seed
        .try_into()
        .map_err(|_| KeyFileError::BadField { field: PRIVATE })?;
    let secret = SecretKey::from_seed(seed);
    let own = secret.public_key();
    let mismatch = |field| Err(KeyFileError::Mismatch { field });
    if own.as_bytes() != public {
        return mismatch(PRIVATE);
    }
    if own.to_base64() != key.pub_key.value {
        return mismatch("pub_key.value");
    }
    if !own.address().eq_ignore_ascii_case(key.address) {
        return mismatch("address");
    }
    Ok(secret)
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
