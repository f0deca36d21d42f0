//! Key files, as far as tmkms' loading goes: their form, and never what is in them.

use std::fmt;

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::Unread;

/// Why tmkms can't use a key file. Nothing of the file is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Unread(Unread),
    NotUtf8,
    NotBase64,
    Length(usize),
    NotAKey,
    NotJson,
    AccountInJson,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Unread(why) => write!(f, "{why}"),
            Wrong::NotUtf8 => f.write_str("it isn't text"),
            Wrong::NotBase64 => f.write_str("it isn't base64"),
            Wrong::Length(length) => write!(f, "its key has {length} bytes and not 32"),
            Wrong::NotAKey => f.write_str("it isn't a secp256k1 key"),
            Wrong::NotJson => f.write_str("it isn't a priv_validator_key.json with an Ed25519 key"),
            Wrong::AccountInJson => f.write_str("an account key can't be in json"),
        }
    }
}

/// A key in base64, of one of these lengths; what follows it may only be white space.
pub(super) fn base64(bytes: &[u8], lengths: &[usize]) -> Result<(), Wrong> {
    let key = decoded(bytes)?;
    match lengths.contains(&key.len()) {
        true => Ok(()),
        false => Err(Wrong::Length(key.len())),
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
    let key = decoded(bytes)?;
    let shortest = if minor < 14 { 32 } else { 24 };
    if !(shortest..=32).contains(&key.len()) {
        return Err(Wrong::Length(key.len()));
    }
    match key.iter().any(|b| *b != 0) && (key.len() < 32 || key[..] < ORDER[..]) {
        true => Ok(()),
        false => Err(Wrong::NotAKey),
    }
}

/// CometBFT's `priv_validator_key.json`. Nobody compares its `pub_key`.
pub(super) fn json(bytes: &[u8], minor: u64) -> Result<(), Wrong> {
    #[derive(Deserialize)]
    struct File<'a> {
        address: &'a str,
        #[serde(borrow)]
        pub_key: Key<'a>,
        #[serde(borrow)]
        priv_key: Key<'a>,
    }
    #[derive(Deserialize)]
    struct Key<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        value: &'a str,
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Wrong::NotUtf8)?;
    let file: File<'_> = serde_json::from_str(text).map_err(|_| Wrong::NotJson)?;
    let is_hex = |text: &str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let public = decode(file.pub_key.value).ok_or(Wrong::NotJson)?;
    let private = decode(file.priv_key.value).ok_or(Wrong::NotJson)?;
    let sound = is_hex(file.address)
        && file.pub_key.kind == "tendermint/PubKeyEd25519"
        && file.priv_key.kind == "tendermint/PrivKeyEd25519"
        && public.len() == 32
        && private.len() == 64;
    match sound && halves_fit(&private, minor) {
        true => Ok(()),
        false => Err(Wrong::NotJson),
    }
}

/// Whether the public half that follows the secret one is a public key at all, and from 0.13 on whether it is its own.
fn halves_fit(private: &[u8], minor: u64) -> bool {
    let (Some(secret), Some(public)) = (private.first_chunk(), private.last_chunk()) else {
        return false;
    };
    match minor {
        ..13 => VerifyingKey::from_bytes(public).is_ok(),
        _ => SigningKey::from_bytes(secret).verifying_key().as_bytes() == public,
    }
}

fn decoded(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Wrong> {
    let text = std::str::from_utf8(bytes).map_err(|_| Wrong::NotUtf8)?;
    decode(text.trim_end()).ok_or(Wrong::NotBase64)
}

/// Decodes base64 as tmkms does: in fours, the last of which ends at its first `=` or at the text's end.
fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = text.as_bytes();
    let tail = bytes.len().saturating_sub(1) / 4 * 4;
    let last = bytes[tail..]
        .split(|b| *b == b'=')
        .next()
        .unwrap_or_default();
    if last.len() == 1 || (last.is_empty() && !bytes.is_empty()) {
        return None;
    }
    let mut key = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    for four in bytes[..tail].chunks(4).chain([last]) {
        let mut bits = 0u32;
        for at in 0..4 {
            bits = bits << 6 | u32::from(six(four.get(at).copied().unwrap_or(b'A'))?);
        }
        let [_, first, second, third] = bits.to_be_bytes();
        key.extend(&[first, second, third][..four.len().saturating_sub(1)]);
    }
    Some(key)
}

fn six(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}
