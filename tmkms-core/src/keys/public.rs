//! A public key, as tmkms' log, CometBFT and an operator name it.

use std::fmt;

use base64ct::{Base64, Encoding};
use bech32::{Bech32, Hrp};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::config::KeyFormat;

/// What stands before an Ed25519 key's bytes in a bech32 consensus key: amino's prefix and the length.
const AMINO_ED25519: [u8; 5] = [0x16, 0x24, 0xde, 0x64, 0x20];

/// An Ed25519 public key: what tells two signers of one key apart from two signers of two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> PublicKey {
        PublicKey(bytes)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key in upper-case hex, as tmkms logs it with `key_format = { type = "hex" }`.
    pub fn to_hex(&self) -> String {
        hex(&self.0, true)
    }

    /// A key from [`PublicKey::to_hex`]'s text, in either case; none from another.
    pub fn from_hex(text: &str) -> Option<PublicKey> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let bytes = pairs.iter().map(|[high, low]| {
            let byte = digit(*high)? * 16 + digit(*low)?;
            u8::try_from(byte).ok()
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        Some(PublicKey(bytes?.try_into().ok()?))
    }

    /// The key in base64, as CometBFT's JSON has it.
    pub fn to_base64(&self) -> String {
        Base64::encode_string(&self.0)
    }

    /// The key in bech32 under a consensus key prefix such as `cosmosvalconspub`; none for a text that is no prefix.
    pub fn to_bech32(&self, prefix: &str) -> Option<String> {
        let prefix = Hrp::parse(prefix).ok()?;
        let bytes: Vec<u8> = AMINO_ED25519.into_iter().chain(self.0).collect();
        bech32::encode::<Bech32>(prefix, &bytes).ok()
    }

    /// The key as the Cosmos SDK's JSON, which tmkms logs with `key_format = { type = "cosmos-json" }`.
    pub fn to_cosmos_json(&self) -> String {
        format!(
            r#"{{"@type":"/cosmos.crypto.ed25519.PubKey","key":"{}"}}"#,
            self.to_base64()
        )
    }

    /// The key as a tmkms with this `key_format` logs it; none where the prefix is none that bech32 takes.
    pub fn displayed(&self, format: &KeyFormat) -> Option<String> {
        match format {
            KeyFormat::Bech32 {
                consensus_key_prefix,
                ..
            } => self.to_bech32(consensus_key_prefix),
            KeyFormat::Hex => Some(self.to_hex()),
            KeyFormat::CosmosJson => Some(self.to_cosmos_json()),
        }
    }

    /// The first 20 bytes of the key's SHA-256 in upper-case hex: a validator's address.
    pub fn address(&self) -> String {
        hex(&self.digest(), true)
    }

    /// The same in lower case: what tmkms logs as `KMS node ID`, and what stands before the `@` of an address.
    pub fn node_id(&self) -> String {
        hex(&self.digest(), false)
    }

    /// Whether it is a point of the curve, as every key that is one is.
    pub(crate) fn is_point(&self) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok()
    }

    /// Whether the key signed these bytes.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &Signature::from_bytes(signature))
                .is_ok()
        })
    }

    fn digest(&self) -> [u8; 20] {
        let mut first = [0; 20];
        first.copy_from_slice(&Sha256::digest(self.0)[..20]);
        first
    }
}

pub(crate) fn hex(bytes: &[u8], upper: bool) -> String {
    let digits = if upper {
        b"0123456789ABCDEF"
    } else {
        b"0123456789abcdef"
    };
    let digit = |nibble: u8| char::from(digits[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_there_and_back() {
        let key = PublicKey::from_bytes(std::array::from_fn(|n| n as u8 * 8 + 3));
        assert_eq!(PublicKey::from_hex(&key.to_hex()), Some(key));
        assert_eq!(PublicKey::from_hex(&key.to_hex().to_lowercase()), Some(key));
        let text = key.to_hex();
        for wrong in [
            "",
            &text[2..],
            &text[1..],
            &format!("{text}00"),
            &text.replace('3', "g"),
        ] {
            assert_eq!(PublicKey::from_hex(wrong), None, "{wrong}");
        }
    }
}
