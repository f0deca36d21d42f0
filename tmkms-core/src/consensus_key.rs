//! A consensus key's public half, and how tmkms shows it: by the chain's own `key_format`.
//!
//! It must never see a private key.
//!
//! Formats: tmkms 0.12.2 `keyring/format.rs`, tendermint 0.23.9 `public_key.rs`; held against the real log in the lab.

use std::fmt;

use crate::config::KeyFormat;

/// What tmkms puts before an Ed25519 key in its bech32 form: the key's amino prefix and length.
const AMINO_PREFIX: [u8; 5] = [0x16, 0x24, 0xde, 0x64, 0x20];
const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// An Ed25519 public key: what tells two signers of one key apart from two signers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsensusKey(pub [u8; 32]);

impl ConsensusKey {
    /// Returns the key as tmkms logs it for a chain with this format.
    pub fn shown(&self, format: &KeyFormat) -> String {
        match format {
            KeyFormat::Bech32 {
                consensus_key_prefix,
                ..
            } => bech32(consensus_key_prefix, &[&AMINO_PREFIX[..], &self.0].concat()),
            KeyFormat::Hex => self.to_string(),
            KeyFormat::CosmosJson => format!(
                r#"{{"@type":"/cosmos.crypto.ed25519.PubKey","key":"{}"}}"#,
                base64(&self.0)
            ),
        }
    }
}

impl fmt::Display for ConsensusKey {
    /// In hex, as tmkms' `hex` format has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// Bech32 (BIP-173) of any length, as Cosmos chains have it.
fn bech32(prefix: &str, data: &[u8]) -> String {
    let mut words = regroup(data);
    let mut checked: Vec<u8> = prefix.bytes().map(|byte| byte >> 5).collect();
    checked.push(0);
    checked.extend(prefix.bytes().map(|byte| byte & 31));
    checked.extend(&words);
    checked.extend([0; 6]);
    let sum = checksum(&checked) ^ 1;
    words.extend((0..6).map(|n| (sum >> (25 - 5 * n)) as u8 & 31));
    let letters = words
        .iter()
        .map(|word| char::from(BECH32[usize::from(*word)]));
    format!("{prefix}1{}", letters.collect::<String>())
}

/// Groups of eight bits as groups of five, the last filled up with zeros.
fn regroup(data: &[u8]) -> Vec<u8> {
    let mut words = Vec::with_capacity(data.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in data {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            words.push((held >> bits) as u8 & 31);
        }
    }
    if bits > 0 {
        words.push((held << (5 - bits)) as u8 & 31);
    }
    words
}

/// BIP-173's polynomial.
fn checksum(words: &[u8]) -> u32 {
    const GENERATORS: [u32; 5] = [
        0x3b6a_57b2,
        0x2650_8e6d,
        0x1ea1_19fa,
        0x3d42_33dd,
        0x2a14_62b3,
    ];
    words.iter().fold(1, |sum, word| {
        let top = sum >> 25;
        let next = ((sum & 0x01ff_ffff) << 5) ^ u32::from(*word);
        let set = GENERATORS
            .iter()
            .enumerate()
            .filter(|(n, _)| top >> n & 1 == 1);
        set.fold(next, |sum, (_, generator)| sum ^ generator)
    })
}

/// Base64 with padding (RFC 4648).
fn base64(data: &[u8]) -> String {
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for group in data.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            text.push(match n <= group.len() {
                true => char::from(BASE64[(bits >> (18 - 6 * n)) as usize & 63]),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ConsensusKey {
        // Of the seed 00 01 02 … 1f (RFC 8032's function, by another program).
        let hex = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
        let bytes: Vec<u8> = (0..64)
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        ConsensusKey(bytes.try_into().unwrap())
    }

    #[test]
    fn bech32_is_that_of_bip_173() {
        assert_eq!(bech32("a", &[]), "a12uel5l");
        let all: Vec<u8> = (0..32).collect();
        let eights = all.chunks(8).flat_map(|five| {
            let bits = five
                .iter()
                .fold(0_u64, |bits, word| bits << 5 | u64::from(*word));
            bits.to_be_bytes()[3..].to_vec()
        });
        assert_eq!(
            bech32("abcdef", &eights.collect::<Vec<u8>>()),
            "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"
        );
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), coded);
        }
    }

    #[test]
    fn each_format_is_what_tmkms_logs() {
        let bech32 = KeyFormat::Bech32 {
            account_key_prefix: "did:com:".into(),
            consensus_key_prefix: "did:com:valconspub".into(),
        };
        let shown = key().shown(&bech32);
        assert!(shown.starts_with("did:com:valconspub1zcjduepq"), "{shown}");
        assert_eq!(
            key().shown(&KeyFormat::Hex),
            "03A107BFF3CE10BE1D70DD18E74BC09967E4D6309BA50D5F1DDC8664125531B8"
        );
        assert_eq!(
            key().shown(&KeyFormat::CosmosJson),
            r#"{"@type":"/cosmos.crypto.ed25519.PubKey","key":"A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="}"#
        );
    }
}
