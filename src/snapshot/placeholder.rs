//! Stand-ins for secrets: of the same shape, equal where the secrets are equal, and good for nothing else.
//!
//! A stand-in follows from its secret through a hash with a random key that lives as long as one snapshot is made and is
//! written nowhere: who guesses a password can't find out whether the guess is right, and two snapshots have nothing in
//! common. Nothing here may keep a secret or give one back.

use std::collections::{BTreeMap, BTreeSet};

use base64ct::{Base64, Encoding};
use ed25519_dalek::SigningKey;
use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What a stand-in is spelled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alphabet {
    /// Small letters: they stand in any text without being escaped.
    Letters,
    /// No 0, 8 or 9, so that a number stays one of its kind and in range.
    Digits,
    Hex,
    Base64,
    /// Any byte.
    Bytes,
}

impl Alphabet {
    fn letter(self, random: u8) -> u8 {
        let of = |letters: &[u8]| letters[usize::from(random) % letters.len()];
        match self {
            Alphabet::Letters => of(b"abcdefghijklmnopqrstuvwxyz"),
            Alphabet::Digits => of(b"1234567"),
            Alphabet::Hex => of(b"0123456789ABCDEF"),
            Alphabet::Base64 => {
                of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
            }
            Alphabet::Bytes => random,
        }
    }
}

/// The stand-ins of one snapshot.
pub struct Placeholders {
    key: [u8; 32],
    /// By alphabet, length and keyed hash of the secret.
    made: BTreeMap<(Alphabet, usize, [u8; 32]), Vec<u8>>,
    taken: BTreeSet<Vec<u8>>,
}

impl Placeholders {
    /// With a key of 32 random bytes.
    pub fn new(key: [u8; 32]) -> Placeholders {
        Placeholders {
            key,
            made: BTreeMap::new(),
            taken: BTreeSet::new(),
        }
    }

    /// A stand-in of a length for a secret: the same for the same secret, another one for another.
    pub fn draw(&mut self, alphabet: Alphabet, secret: &[u8], length: usize) -> Vec<u8> {
        let keyed: [u8; 32] = self.hash(&[secret]);
        let known = (alphabet, length, keyed);
        if let Some(made) = self.made.get(&known) {
            return made.clone();
        }
        let mut drawn = Vec::new();
        // Short ones may meet by chance; of a single letter there are fewer than there may be secrets.
        for attempt in 0..64_u8 {
            drawn = self.stream(alphabet, &keyed, attempt, length);
            if drawn != secret && !self.taken.contains(&drawn) {
                break;
            }
        }
        self.taken.insert(drawn.clone());
        self.made.insert(known, drawn.clone());
        drawn
    }

    fn stream(&self, alphabet: Alphabet, keyed: &[u8], attempt: u8, length: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(length);
        for block in 0_u32.. {
            if out.len() >= length {
                break;
            }
            let random = self.hash(&[keyed, &[attempt], &block.to_be_bytes()]);
            out.extend(random.iter().map(|r| alphabet.letter(*r)));
        }
        out.truncate(length);
        out
    }

    fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut inner = Sha256::new();
        inner.update(self.key);
        parts.iter().for_each(|part| inner.update(part));
        // Twice, so that what is known of one hash says nothing of a longer text's.
        Sha256::new()
            .chain_update(self.key)
            .chain_update(inner.finalize())
            .finalize()
            .into()
    }

    /// A key file of the same shape: tmkms' base64, CometBFT's JSON, or bytes.
    pub fn key_file(&mut self, bytes: &[u8]) -> Vec<u8> {
        if let Ok(mut value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_slice(bytes)
        {
            let pair = self.key_pair(&value);
            self.json(&mut value);
            if let Some(pair) = pair {
                let public = &pair[32..];
                let address = &Sha256::digest(public)[..20];
                let address: String = address.iter().map(|b| format!("{b:02X}")).collect();
                replace(&mut value, "/priv_key/value", &Base64::encode_string(&pair));
                replace(&mut value, "/pub_key/value", &Base64::encode_string(public));
                replace(&mut value, "/address", &address);
            }
            // A parsed value can be written again.
            let mut text = serde_json::to_vec_pretty(&value).unwrap_or_default();
            text.push(b'\n');
            return text;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if is_base64(text.trim()) => self.base64(text).into_bytes(),
            Ok(_) => self.text(bytes),
            Err(_) => self.draw(Alphabet::Bytes, bytes, bytes.len()),
        }
    }

    /// For a validator's key whose halves belong together another pair that does: no tmkms would take the one without.
    fn key_pair(&mut self, value: &Value) -> Option<[u8; 64]> {
        let text = value.pointer("/priv_key/value")?.as_str()?;
        let mut bytes = Zeroizing::new([0; 64]);
        let length = Base64::decode(text, &mut *bytes).ok()?.len();
        let (seed, public) = bytes.split_first_chunk::<32>().filter(|_| length == 64)?;
        if SigningKey::from_bytes(seed).verifying_key().as_bytes() != public {
            return None;
        }
        let drawn = self.draw(Alphabet::Bytes, seed, seed.len());
        let seed: &[u8; 32] = drawn.as_slice().try_into().ok()?;
        Some(SigningKey::from_bytes(seed).to_keypair_bytes())
    }

    fn json(&mut self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                let text = number.to_string();
                let drawn = self.draw(Alphabet::Digits, text.as_bytes(), 2);
                let digits = String::from_utf8_lossy(&drawn).into_owned();
                *number = digits.parse::<u8>().unwrap_or_default().into();
            }
            Value::String(text) => *text = self.json_text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.json(value)),
            // Types such as tendermint/PrivKeyEd25519 belong to the shape.
            Value::Object(fields) => fields
                .iter_mut()
                .filter(|(name, _)| *name != "type")
                .for_each(|(_, value)| self.json(value)),
        }
    }

    fn json_text(&mut self, text: &str) -> String {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let drawn = self.draw(Alphabet::Hex, text.as_bytes(), text.len());
            String::from_utf8_lossy(&drawn).into_owned()
        } else if is_base64(text) {
            self.base64(text)
        } else {
            String::from_utf8_lossy(&self.text(text.as_bytes())).into_owned()
        }
    }

    /// Base64 of as many bytes; what stands around it stays.
    fn base64(&mut self, text: &str) -> String {
        let encoded = text.trim();
        let letters = encoded.trim_end_matches('=');
        let mut drawn = self.draw(Alphabet::Base64, encoded.as_bytes(), letters.len());
        // The last letter before padding carries fewer bits; those that it doesn't carry are zero.
        if let Some(last) = drawn.last_mut().filter(|_| letters.len() < encoded.len()) {
            *last = b'A';
        }
        text.replacen(letters, &String::from_utf8_lossy(&drawn), 1)
    }

    /// A text of as many bytes; line ends and what stands around it stay.
    pub fn text(&mut self, bytes: &[u8]) -> Vec<u8> {
        let secret = bytes.trim_ascii();
        let start = bytes.len() - bytes.trim_ascii_start().len();
        let drawn = self.draw(Alphabet::Letters, secret, secret.len());
        let mut out = bytes.to_vec();
        for (at, letter) in (start..).zip(drawn) {
            if !matches!(out[at], b'\n' | b'\r') {
                out[at] = letter;
            }
        }
        out
    }
}

/// Puts another text where a text is.
fn replace(value: &mut Value, pointer: &str, text: &str) {
    if let Some(place) = value.pointer_mut(pointer).filter(|v| v.is_string()) {
        *place = text.into();
    }
}

fn is_base64(text: &str) -> bool {
    let letters = text.trim_end_matches('=');
    !letters.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - letters.len() <= 2
        && letters
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholders() -> Placeholders {
        Placeholders::new([7; 32])
    }

    const KEY: &[u8] = b"vD4rKn7bS1mC9eXgq2JtYw0uFzHp5oLaQkTiNdBEs8w=\n";

    #[test]
    fn a_base64_key_stays_one_of_the_same_length() {
        let mut placeholders = placeholders();
        let made = placeholders.key_file(KEY);
        let text = std::str::from_utf8(&made).unwrap();
        assert_eq!(made.len(), KEY.len());
        assert!(text.ends_with("A=\n") && is_base64(text.trim()), "{text}");
        assert_ne!(made, KEY);
    }

    #[test]
    fn equal_secrets_have_equal_stand_ins_and_others_others() {
        let mut placeholders = placeholders();
        let first = placeholders.text(b"hunter-two\n");
        assert_eq!(placeholders.text(b"hunter-two"), first[..first.len() - 1]);
        assert_ne!(placeholders.text(b"hunter-too"), first[..first.len() - 1]);
        assert_ne!(
            Placeholders::new([8; 32]).text(b"hunter-two\n"),
            first,
            "another snapshot, another stand-in"
        );
    }

    #[test]
    fn even_short_ones_are_told_apart() {
        let mut placeholders = placeholders();
        let made: BTreeSet<Vec<u8>> = (0..20_u8)
            .map(|n| placeholders.text(&[b'A' + n, b'1']))
            .collect();
        assert_eq!(made.len(), 20);
        let one: BTreeSet<Vec<u8>> = (0..9_u8).map(|n| placeholders.text(&[b'a' + n])).collect();
        assert_eq!(one.len(), 9);
    }

    #[test]
    fn a_json_key_stays_json_of_its_shape() {
        let key = br#"{"address":"0A1B2C","pub_key":{"type":"tendermint/PubKeyEd25519","value":"cHVibGlj"},
            "priv_key":{"type":"tendermint/PrivKeyEd25519","value":"c2VjcmV0"},"bytes":[1,22]}"#;
        let made = placeholders().key_file(key);
        let value: Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(value["priv_key"]["type"], "tendermint/PrivKeyEd25519");
        assert!(is_base64(value["priv_key"]["value"].as_str().unwrap()));
        assert_eq!(value["address"].as_str().unwrap().len(), 6);
        let text = String::from_utf8(made).unwrap();
        for secret in ["0A1B2C", "cHVibGlj", "c2VjcmV0"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn bytes_stay_as_many() {
        let key = [0xff_u8; 32];
        let made = placeholders().key_file(&key);
        assert_eq!(made.len(), 32);
        assert_ne!(made, key);
    }
}
