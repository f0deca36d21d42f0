//! What a key manager enclave says of its secrets, and whether it was that enclave that said it.
//!
//! `registration.descriptor.runtimes[].extra_info` is base64 of canonical CBOR: `{signature, init_response}`. The enclave
//! signs the bytes of `init_response` as they stand; encoding them again might give others, so they are never encoded here.
//! Read in oasis-core v22.2 to v26.1; the guide's example is a test.

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, VerifyingKey};
use minicbor::Decoder;
use minicbor::decode::Error;
use sha2::{Digest, Sha512_256};

use super::ids::{Checksum, Rak};

/// What goes before the signed bytes.
const CONTEXT: &[u8] = b"oasis-core/keymanager: init response";

/// A decoded `extra_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraInfo {
    pub signature: [u8; 64],
    pub is_secure: bool,
    /// None where the enclave has no master secret yet, which a ready node may say (since 23.0).
    pub checksum: Option<Checksum>,
    pub policy_checksum: Option<Checksum>,
    /// A rotation of the master secret is under way: checksums may differ until it is done.
    pub next_checksum: Option<Vec<u8>>,
    /// The signed bytes, as they were.
    signed: Vec<u8>,
}

impl ExtraInfo {
    /// Decodes the base64 of a status.
    ///
    /// # Errors
    /// Anything that isn't exactly what an oasis-node of 21.2 to 26.1 writes: it is unknown then.
    pub fn decode(base64: &str) -> Result<ExtraInfo, String> {
        let bytes =
            Base64::decode_vec(base64).map_err(|e| format!("extra_info isn't base64: {e}"))?;
        ExtraInfo::from_cbor(&bytes).map_err(|e| format!("extra_info isn't the expected CBOR: {e}"))
    }

    fn from_cbor(bytes: &[u8]) -> Result<ExtraInfo, Error> {
        let mut signature = None;
        let mut signed = None;
        let mut decoder = Decoder::new(bytes);
        for_each_entry(&mut decoder, |key, decoder| match key {
            "signature" => {
                let bytes = <[u8; 64]>::try_from(decoder.bytes()?);
                let bytes = bytes.map_err(|_| Error::message("a signature has 64 bytes"))?;
                once(&mut signature, bytes)
            }
            "init_response" => {
                let start = decoder.position();
                decoder.skip()?;
                let piece = bytes.get(start..decoder.position()).unwrap_or_default();
                once(&mut signed, piece)
            }
            _ => Err(Error::message("an unknown field beside init_response")),
        })?;
        let missing = || Error::message("no signature, or no init_response");
        let signed: &[u8] = signed.ok_or_else(missing)?;
        let mut info = ExtraInfo {
            signature: signature.ok_or_else(missing)?,
            is_secure: false,
            checksum: None,
            policy_checksum: None,
            next_checksum: None,
            signed: signed.to_vec(),
        };
        info.read_response(signed)?;
        Ok(info)
    }

    fn read_response(&mut self, signed: &[u8]) -> Result<(), Error> {
        let mut secure = None;
        let (mut checksum, mut policy, mut next) = (None, None, None);
        let mut decoder = Decoder::new(signed);
        for_each_entry(&mut decoder, |key, decoder| match key {
            "is_secure" => once(&mut secure, decoder.bool()?),
            "checksum" => once(&mut checksum, optional_bytes(decoder)?),
            "policy_checksum" => once(&mut policy, optional_bytes(decoder)?),
            "next_checksum" => once(&mut next, optional_bytes(decoder)?),
            // Keys for the runtime's signatures; nothing here depends on them.
            "rsk" | "next_rsk" => decoder.skip(),
            _ => Err(Error::message("an unknown field in init_response")),
        })?;
        self.is_secure = secure.ok_or_else(|| Error::message("no is_secure"))?;
        self.checksum = thirty_two(checksum.flatten())?;
        self.policy_checksum = thirty_two(policy.flatten())?;
        self.next_checksum = next.flatten().filter(|bytes| !bytes.is_empty());
        Ok(())
    }

    /// Whether the enclave with this key signed it.
    pub fn is_signed_by(&self, rak: &Rak) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(rak.as_bytes()) else {
            return false;
        };
        let mut hash = Sha512_256::new();
        hash.update(CONTEXT);
        hash.update(&self.signed);
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&hash.finalize(), &signature).is_ok()
    }
}

/// Calls for each entry of the one map that the whole input is.
fn for_each_entry<'b>(
    decoder: &mut Decoder<'b>,
    mut entry: impl FnMut(&str, &mut Decoder<'b>) -> Result<(), Error>,
) -> Result<(), Error> {
    let count = decoder.map()?;
    let count = count.ok_or_else(|| Error::message("a map of unknown length isn't canonical"))?;
    for _ in 0..count {
        let key = decoder.str()?;
        entry(key, decoder)?;
    }
    if decoder.position() != decoder.input().len() {
        return Err(Error::message("bytes after the end"));
    }
    Ok(())
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Error> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::message("a field stands there twice")),
    }
}

fn optional_bytes(decoder: &mut Decoder<'_>) -> Result<Option<Vec<u8>>, Error> {
    if decoder.datatype()? == minicbor::data::Type::Null {
        decoder.null()?;
        return Ok(None);
    }
    Ok(Some(decoder.bytes()?.to_vec()))
}

/// None where nothing is there; an error where something of another length is.
fn thirty_two(bytes: Option<Vec<u8>>) -> Result<Option<Checksum>, Error> {
    match bytes {
        Some(bytes) if !bytes.is_empty() => Checksum::of(&bytes)
            .map(Some)
            .ok_or_else(|| Error::message("a checksum has 32 bytes")),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};
    use minicbor::Encoder;

    /// The guide's own (`docs`, "Verifying Successful Replication").
    const GUIDE: &str = "omlzaWduYXR1cmVYQG7nDuKTOUKAlJAfukdY6Xljox376lCLI0cIP0zPw2B8abJxa31j+NoQAWA0KZuHD41XPyICmjXDTpjDXukEEgVtaW5pdF9yZXNwb25zZaNoY2hlY2tzdW1YIEWZF5YaFQChstrZ9u1UdgyqZCagmNfghvyQna9WkmvyaWlzX3NlY3VyZfVvcG9saWN5X2NoZWNrc3VtWCCsrqRzYjx05t+KoCYz7wFSdKJ720g2LQBAsRKXmClMvw==";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_guide_s_example_says_what_it_says() {
        let info = ExtraInfo::decode(GUIDE).unwrap();
        assert_eq!(
            info.checksum.unwrap().to_string(),
            "459917961a1500a1b2dad9f6ed54760caa6426a098d7e086fc909daf56926bf2"
        );
        assert!(info.is_secure);
        assert_eq!(
            info.policy_checksum.unwrap().to_string(),
            "acaea473623c74e6df8aa02633ef015274a27bdb48362d0040b1129798294cbf"
        );
        assert_eq!(
            hex(&info.signature),
            "6ee70ee29339428094901fba4758e97963a31dfbea508b2347083f4ccfc3607c\
             69b2716b7d63f8da10016034299b870f8d573f22029a35c34e98c35ee9041205"
        );
        assert_eq!(info.next_checksum, None);
        // The guide elides the RAK: under any other key it is unsigned.
        assert!(!info.is_signed_by(&Rak::new([7; 32])));
    }

    struct Response {
        fields: Vec<(&'static str, Option<Vec<u8>>)>,
        secure: bool,
    }

    impl Response {
        fn plain() -> Response {
            Response {
                fields: vec![
                    ("checksum", Some(vec![1; 32])),
                    ("policy_checksum", Some(vec![2; 32])),
                ],
                secure: true,
            }
        }

        fn with(mut self, name: &'static str, value: Option<Vec<u8>>) -> Response {
            self.fields.retain(|(n, _)| *n != name);
            self.fields.push((name, value));
            self
        }

        fn cbor(&self) -> Vec<u8> {
            let mut encoder = Encoder::new(Vec::new());
            encoder.map(self.fields.len() as u64 + 1).unwrap();
            encoder.str("is_secure").unwrap().bool(self.secure).unwrap();
            for (name, value) in &self.fields {
                encoder.str(name).unwrap();
                match value {
                    Some(bytes) => encoder.bytes(bytes).unwrap(),
                    None => encoder.null().unwrap(),
                };
            }
            encoder.into_writer()
        }

        fn signed(&self, key: &SigningKey) -> String {
            let response = self.cbor();
            let mut hash = Sha512_256::new();
            hash.update(CONTEXT);
            hash.update(&response);
            wrap(&key.sign(&hash.finalize()).to_bytes(), &response)
        }
    }

    fn wrap(signature: &[u8], response: &[u8]) -> String {
        let mut encoder = Encoder::new(Vec::new());
        encoder.map(2).unwrap();
        encoder.str("signature").unwrap().bytes(signature).unwrap();
        encoder.str("init_response").unwrap();
        let mut bytes = encoder.into_writer();
        bytes.extend_from_slice(response);
        Base64::encode_string(&bytes)
    }

    fn key() -> (SigningKey, Rak) {
        let key = SigningKey::from_bytes(&[9; 32]);
        let rak = Rak::new(key.verifying_key().to_bytes());
        (key, rak)
    }

    #[test]
    fn a_signature_holds_for_these_bytes_and_this_enclave_only() {
        let (key, rak) = key();
        let info = ExtraInfo::decode(&Response::plain().signed(&key)).unwrap();
        assert!(info.is_signed_by(&rak));
        assert!(!info.is_signed_by(&Rak::new([0; 32])));
        let other = Response::plain().with("checksum", Some(vec![3; 32]));
        let forged = ExtraInfo::decode(&wrap(&info.signature, &other.cbor())).unwrap();
        assert!(!forged.is_signed_by(&rak));
    }

    #[test]
    fn newer_nodes_fields_are_read_and_a_rotation_is_seen() {
        let (key, rak) = key();
        let response = Response::plain()
            .with("rsk", Some(vec![4; 32]))
            .with("next_rsk", None)
            .with("next_checksum", Some(vec![5; 32]));
        let info = ExtraInfo::decode(&response.signed(&key)).unwrap();
        assert!(info.is_signed_by(&rak));
        assert_eq!(info.next_checksum, Some(vec![5; 32]));
    }

    #[test]
    fn an_empty_checksum_is_none_and_one_of_another_length_is_unknown() {
        let (key, _) = key();
        for nothing in [Some(Vec::new()), None] {
            let response = Response::plain().with("checksum", nothing);
            assert_eq!(
                ExtraInfo::decode(&response.signed(&key)).unwrap().checksum,
                None
            );
        }
        let short = Response::plain().with("checksum", Some(vec![1; 31]));
        assert!(ExtraInfo::decode(&short.signed(&key)).is_err());
    }

    #[test]
    fn what_isn_t_exactly_it_is_unknown() {
        let (key, _) = key();
        let mut whole = Base64::decode_vec(&Response::plain().signed(&key)).unwrap();
        for cut in 0..whole.len() {
            let piece = Base64::encode_string(&whole[..cut]);
            assert!(ExtraInfo::decode(&piece).is_err(), "{cut} bytes");
        }
        whole.push(0);
        assert!(ExtraInfo::decode(&Base64::encode_string(&whole)).is_err());
        assert!(ExtraInfo::decode("no base64!").is_err());
        let unknown = Response::plain().with("also", None);
        assert!(ExtraInfo::decode(&unknown.signed(&key)).is_err());
        let no_secure = minicbor_map(&[]);
        assert!(ExtraInfo::decode(&wrap(&[0; 64], &no_secure)).is_err());
    }

    fn minicbor_map(fields: &[(&str, &[u8])]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        encoder.map(fields.len() as u64).unwrap();
        for (name, value) in fields {
            encoder.str(name).unwrap().bytes(value).unwrap();
        }
        encoder.into_writer()
    }
}
