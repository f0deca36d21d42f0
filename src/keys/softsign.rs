//! The public half of a softsign key file, computed in memory. Pure.
//!
//! Every copy of a private byte is wiped, and no error says more of the file than its shape.
//!
//! Formats: tmkms 0.12.2 `key_utils.rs`, tendermint-config 0.23.9 `priv_validator_key.rs`.

use base64ct::{Base64Unpadded, Encoding};
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use tmkms_core::ConsensusKey;
use tmkms_core::config::SoftsignFormat;
use zeroize::Zeroizing;

/// What CometBFT calls an Ed25519 private key.
const JSON_TYPE: &str = "tendermint/PrivKeyEd25519";

/// Reads a key file's text.
///
/// # Errors
/// Why tmkms can't take it, as a clause.
pub fn public(text: &[u8], format: SoftsignFormat) -> Result<ConsensusKey, String> {
    match format {
        SoftsignFormat::Base64 => base64(text),
        SoftsignFormat::Json => json(text),
    }
}

fn base64(text: &[u8]) -> Result<ConsensusKey, String> {
    if text.trim_ascii_start().starts_with(b"{") {
        return Err("it is JSON, and the config says base64: set key_format = \"json\"".into());
    }
    let bytes = decoded::<64>(text).ok_or("it isn't base64")?;
    let seed: [u8; 32] = match bytes.as_slice().try_into() {
        Ok(seed) => seed,
        Err(_) => {
            return Err(format!(
                "it holds {} bytes, and an Ed25519 key has 32",
                bytes.len()
            ));
        }
    };
    let seed = Zeroizing::new(seed);
    Ok(of(&seed))
}

fn json(text: &[u8]) -> Result<ConsensusKey, String> {
    #[derive(Deserialize)]
    struct File {
        priv_key: PrivateKey,
    }
    #[derive(Deserialize)]
    struct PrivateKey {
        #[serde(rename = "type")]
        kind: String,
        value: Zeroizing<String>,
    }
    // The parser's own errors may quote the file.
    let file: File = serde_json::from_slice(text).map_err(|_| match decoded::<64>(text) {
        Some(_) => "it is base64, and the config says json: set key_format = \"base64\"",
        None => "it isn't a priv_validator_key.json",
    })?;
    if file.priv_key.kind != JSON_TYPE {
        return Err(format!("its key isn't of the type {JSON_TYPE}"));
    }
    let bytes = decoded::<128>(file.priv_key.value.as_bytes()).ok_or("its key isn't base64")?;
    let [seed, public] = match bytes.as_slice().as_chunks::<32>() {
        ([seed, public], []) => [seed, public],
        _ => return Err(format!("its key has {} bytes, and not 64", bytes.len())),
    };
    // tmkms takes the second half for the public key without a look at the first.
    match of(seed) {
        key if key.0 == *public => Ok(key),
        _ => Err("the two halves of its key don't belong together".into()),
    }
}

fn of(seed: &[u8; 32]) -> ConsensusKey {
    ConsensusKey(SigningKey::from_bytes(seed).verifying_key().to_bytes())
}

/// Base64 of at most some bytes, blanks after it and padding or none.
fn decoded<const LARGEST: usize>(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.trim_ascii_end();
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let text = std::str::from_utf8(&text[..text.len() - padding]).ok()?;
    let mut space = Zeroizing::new([0; LARGEST]);
    let bytes = Base64Unpadded::decode(text, &mut *space).ok()?;
    Some(Zeroizing::new(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made up: the seed 00 01 02 … 1f.
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const PUBLIC: &str = "03A107BFF3CE10BE1D70DD18E74BC09967E4D6309BA50D5F1DDC8664125531B8";

    fn json_file(value: &str) -> String {
        format!(
            r#"{{"address":"","pub_key":{{}},"priv_key":{{"type":"{JSON_TYPE}","value":"{value}"}}}}"#
        )
    }

    fn both() -> String {
        use base64ct::Base64;
        let seed: Vec<u8> = (0..32).collect();
        let key = SigningKey::from_bytes(&seed.try_into().unwrap());
        Base64::encode_string(&key.to_keypair_bytes())
    }

    #[test]
    fn both_formats_give_the_key() {
        for text in [
            BASE64.to_owned(),
            format!("{BASE64}\n"),
            BASE64.replace('=', ""),
        ] {
            let key = public(text.as_bytes(), SoftsignFormat::Base64).unwrap();
            assert_eq!(key.to_string(), PUBLIC);
        }
        let key = public(json_file(&both()).as_bytes(), SoftsignFormat::Json).unwrap();
        assert_eq!(key.to_string(), PUBLIC);
    }

    #[test]
    fn what_tmkms_can_not_take_is_said_without_a_byte_of_it() {
        let swapped = both().replacen('A', "B", 1);
        let long = [&BASE64[..43], "AAAAAAAAAAAAAAAAAAAA"].concat();
        for (text, format, says) in [
            (String::new(), SoftsignFormat::Base64, "0 bytes"),
            (BASE64[..40].to_owned(), SoftsignFormat::Base64, "30 bytes"),
            (long, SoftsignFormat::Base64, "bytes"),
            (
                format!("{BASE64}{BASE64}"),
                SoftsignFormat::Base64,
                "isn't base64",
            ),
            ("AAEC AwQF".into(), SoftsignFormat::Base64, "isn't base64"),
            ("\u{0}\u{ff}".into(), SoftsignFormat::Base64, "isn't base64"),
            (
                json_file(&both()),
                SoftsignFormat::Base64,
                "key_format = \"json\"",
            ),
            (
                BASE64.into(),
                SoftsignFormat::Json,
                "key_format = \"base64\"",
            ),
            ("{}".into(), SoftsignFormat::Json, "priv_validator_key.json"),
            (
                "{\"priv_key\":".into(),
                SoftsignFormat::Json,
                "priv_validator_key.json",
            ),
            (json_file(BASE64), SoftsignFormat::Json, "32 bytes"),
            (json_file("!"), SoftsignFormat::Json, "isn't base64"),
            (
                json_file(&swapped),
                SoftsignFormat::Json,
                "don't belong together",
            ),
            (
                json_file(&both()).replace("Ed25519", "Secp256k1"),
                SoftsignFormat::Json,
                "of the type",
            ),
        ] {
            let error = public(text.as_bytes(), format).unwrap_err();
            assert!(error.contains(says), "{error} for {text}");
            for at in 0..text.len().saturating_sub(8) {
                let piece = text.get(at..at + 8).unwrap_or("\0");
                let own = ["priv_key", "PrivKeyE", "tendermi", JSON_TYPE];
                let shape = own
                    .iter()
                    .any(|o| o.contains(piece) || JSON_TYPE.contains(piece));
                assert!(shape || !error.contains(piece), "{error} quotes {piece}");
            }
        }
    }
}
