//! A validator whose key everybody knows: RFC 8032's second test vector, in CometBFT's files.

#![allow(dead_code, reason = "each test target uses a part of this")]

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signer, SigningKey};

pub const SEED: [u8; 32] = [
    0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f,
    0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb,
];

/// The same key's address, as CometBFT computes it.
pub fn address() -> String {
    public().address()
}

pub fn public() -> tmkms_core::PublicKey {
    tmkms_core::SecretKey::from_seed(&SEED).public_key()
}

/// Its priv_validator_key.json.
pub fn file() -> String {
    let public = SigningKey::from_bytes(&SEED).verifying_key().to_bytes();
    format!(
        r#"{{
  "address": "{}",
  "pub_key": {{
    "type": "tendermint/PubKeyEd25519",
    "value": "{}"
  }},
  "priv_key": {{
    "type": "tendermint/PrivKeyEd25519",
    "value": "{}"
  }}
}}"#,
        address(),
        Base64::encode_string(&public),
        Base64::encode_string(&[SEED, public].concat()),
    )
}

/// Its priv_validator_state.json after a precommit, signed by a seed.
pub fn state(chain: &str, height: u64, seed: &[u8; 32]) -> String {
    let block = [
        &[0x0a, 32][..],
        &[0xaa; 32],
        &[0x12, 36, 0x08, 1, 0x12, 32],
        &[0xbb; 32],
    ]
    .concat();
    let mut vote = vec![0x08, 2, 0x11];
    vote.extend(height.to_le_bytes());
    vote.extend([0x22, length(&block)]);
    vote.extend(block);
    vote.extend([0x2a, 2, 0x08, 1, 0x32, length(chain.as_bytes())]);
    vote.extend(chain.bytes());
    vote.insert(0, length(&vote));
    let signature = SigningKey::from_bytes(seed).sign(&vote).to_bytes();
    let hex: String = vote.iter().map(|byte| format!("{byte:02X}")).collect();
    format!(
        "{{\n  \"height\": \"{height}\",\n  \"round\": 0,\n  \"step\": 3,\n  \"signature\": \"{}\",\n  \"signbytes\": \"{hex}\"\n}}",
        Base64::encode_string(&signature)
    )
}

fn length(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).unwrap_or_else(|_| panic!("a vote has {} bytes", bytes.len()))
}
