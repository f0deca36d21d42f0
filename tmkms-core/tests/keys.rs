//! Key files as tmkms and CometBFT write them, and every way in which one can be wrong; what no error may say.

use tmkms_core::config::{KeyFormat, SoftsignFormat};
use tmkms_core::keys::{KeyFile, KeyFileError, PublicKey, SecretKey};

/// RFC 8032's first test vector: as public as a private key can be.
const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
const PUBLIC: &str = "D75A980182B10AB7D54BFED3C964073A0EE172F3DAA62325AF021A68F707511A";
const FILE: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const VALIDATOR: &str = r#"{
  "address": "21FE31DFA154A261626BF854046FD2271B7BED4B",
  "pub_key": {
    "type": "tendermint/PubKeyEd25519",
    "value": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
  },
  "priv_key": {
    "type": "tendermint/PrivKeyEd25519",
    "value": "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="
  }
}"#;

fn key() -> SecretKey {
    SecretKey::from_seed(&SEED)
}

#[test]
fn a_key_is_the_same_in_every_file() {
    assert_eq!(key().to_base64().as_str(), FILE);
    assert_eq!(key().public_key().to_hex(), PUBLIC);
    let read = SecretKey::from_validator_json(VALIDATOR.as_bytes()).unwrap();
    assert_eq!(read.to_base64().as_str(), FILE);
    let ends = ["", "\n", " \r\n"].map(|end| format!("{FILE}{end}"));
    // tmkms asks for no padding, nor for what is left of the last digit to be zero.
    let odd = [FILE[..43].to_owned(), FILE.replace("2A=", "2B=")];
    for text in ends.iter().chain(&odd) {
        let read = SecretKey::read(text.as_bytes(), SoftsignFormat::Base64).unwrap();
        assert_eq!(read.public_key(), key().public_key());
    }
    // Nor for the address and the public key to be the private key's.
    let odd = VALIDATOR
        .replace("21FE31", "000000")
        .replace("11qYAY", "AAAAAA");
    for text in [VALIDATOR, &odd] {
        let read = SecretKey::read(text.as_bytes(), SoftsignFormat::Json).unwrap();
        assert_eq!(read.public_key(), key().public_key());
    }
}

/// Base64 of made-up expanded keys, and what tmkms 0.15.0 logged on each: of the seed 01 01 …, as SHA-512 leaves it and
/// clamped; of bytes that are nobody's; as a YubiHSM exports it, whatever stands in the place of the public half.
#[test]
fn an_expanded_key_has_the_public_half_that_tmkms_0_15_logs() {
    let read = |text: &str| KeyFile::read(text.as_bytes(), SoftsignFormat::Base64);
    for (text, logged) in [
        (
            "XOhu+3X6TixBD0bhben2rK4aFwNShlG2m8F2wIi+8+6xeios89SkGo5OGMxFyGVtVY7O3bCttGv6CIpfU77SUg==",
            "8A88E3DD7409F195FD52DB2D3CBA5D72CA6709BF1D94121BF3748801B40F6F5C",
        ),
        (
            "WOhu+3X6TixBD0bhben2rK4aFwNShlG2m8F2wIi+826xeios89SkGo5OGMxFyGVtVY7O3bCttGv6CIpfU77SUg==",
            "8A88E3DD7409F195FD52DB2D3CBA5D72CA6709BF1D94121BF3748801B40F6F5C",
        ),
        (
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw==",
            "C8853DF345ECE33372843FF336CCB67A9D8D4DE8AF6F3645848A30BC6FE48F2B",
        ),
        (
            "WOhu+3X6TixBD0bhben2rK4aFwNShlG2m8F2wIi+826xeios89SkGo5OGMxFyGVtVY7O3bCttGv6CIpfU77SUgkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ",
            "904B5638E35D864C8F7A0481607C4973117E2D16A0E9573C80DF686E15F4C9E7",
        ),
        (
            "WOhu+3X6TixBD0bhben2rK4aFwNShlG2m8F2wIi+826xeios89SkGo5OGMxFyGVtVY7O3bCttGv6CIpfU77SUoqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c",
            "904B5638E35D864C8F7A0481607C4973117E2D16A0E9573C80DF686E15F4C9E7",
        ),
    ] {
        let file = read(text).unwrap();
        assert_eq!(
            (file.public.to_hex().as_str(), file.expanded),
            (logged, true)
        );
    }
    let seed = read(FILE).unwrap();
    assert_eq!(
        (seed.public.to_hex().as_str(), seed.expanded),
        (PUBLIC, false)
    );
    let long = "A".repeat(4 * 22);
    assert!(matches!(
        read(&long),
        Err(KeyFileError::WrongLength { bytes: 66 })
    ));
}

#[test]
fn a_public_key_reads_as_in_tmkms_log() {
    // The MetaOS guide's log, and the Haqq guide's as it was before its prefix was changed by hand.
    for (prefix, logged) in [
        (
            "mtosvalconspub",
            "mtosvalconspub1zcjduepqq7520jcw4guf2swcc8aqhh2pj533egrqam3h0lya8cl2e2ekyelq3kjr7t",
        ),
        (
            "osmovalconspub",
            "osmovalconspub1zcjduepq2qfkp3ahrhaafzuqglme9mares0eluj58xr6cy7c37cdmzq0eecqk0yehr",
        ),
    ] {
        let (_, data) = bech32::decode(logged).unwrap();
        let public = PublicKey::from_bytes(data[5..].try_into().unwrap());
        assert_eq!(public.to_bech32(prefix).unwrap(), logged);
    }
    let public = key().public_key();
    assert_eq!(public.displayed(&KeyFormat::Hex).unwrap(), PUBLIC);
    assert_eq!(
        public.displayed(&KeyFormat::CosmosJson).unwrap(),
        r#"{"@type":"/cosmos.crypto.ed25519.PubKey","key":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}"#
    );
    assert_eq!(public.to_bech32(""), None);
    assert_eq!(public.to_bech32("a b"), None);
    let colons = public.to_bech32("did:com:valconspub").unwrap();
    assert!(
        colons.starts_with("did:com:valconspub1zcjduepq"),
        "{colons}"
    );
    assert_eq!(public.address(), "21FE31DFA154A261626BF854046FD2271B7BED4B");
    assert_eq!(public.node_id(), "21fe31dfa154a261626bf854046fd2271b7bed4b");
}

#[test]
fn a_key_file_that_tmkms_refuses_is_refused() {
    for (text, error) in [
        ("", KeyFileError::Empty),
        (" \n", KeyFileError::Empty),
        (VALIDATOR, KeyFileError::IsJson),
        (&FILE[..40], KeyFileError::WrongLength { bytes: 30 }),
        (&FILE[..41], KeyFileError::NotBase64),
        (&FILE.replace('/', "_"), KeyFileError::NotBase64),
        (&format!(" {FILE}"), KeyFileError::NotBase64),
        ("\u{0}", KeyFileError::NotBase64),
        (&format!("{FILE}\n{FILE}"), KeyFileError::NotBase64),
        (&"00".repeat(32), KeyFileError::WrongLength { bytes: 48 }),
    ] {
        let refused = SecretKey::read(text.as_bytes(), SoftsignFormat::Base64).unwrap_err();
        assert_eq!(refused, error, "{text:?}");
        says_nothing_of_the_key(&refused);
    }
    for format in [SoftsignFormat::Base64, SoftsignFormat::Json] {
        let refused = SecretKey::read(b"\xff", format).unwrap_err();
        assert_eq!(refused, KeyFileError::NotText);
    }
}

#[test]
fn halves_that_do_not_belong_together_are_no_key() {
    for (from, to, error) in [
        (
            "nWGxne",
            "nWGxnf",
            KeyFileError::Mismatch {
                field: "priv_key.value",
            },
        ),
        (
            "PrivKeyEd25519",
            "PrivKeySecp256k1",
            KeyFileError::OtherType { kind: "secp256k1" },
        ),
        (
            "21FE31",
            "21FE3",
            KeyFileError::BadField { field: "address" },
        ),
    ] {
        let text = VALIDATOR.replace(from, to);
        let refused = SecretKey::read(text.as_bytes(), SoftsignFormat::Json).unwrap_err();
        assert_eq!(refused, error);
        says_nothing_of_the_key(&refused);
    }
}

#[test]
fn a_validator_s_file_that_contradicts_itself_is_refused() {
    let other = PublicKey::from_bytes([7; 32]).to_base64();
    let private =
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
    let mismatch = |field| KeyFileError::Mismatch { field };
    let bad = KeyFileError::BadField {
        field: "priv_key.value",
    };
    let secp = KeyFileError::OtherType { kind: "secp256k1" };
    for (from, to, error) in [
        ("PrivKeyEd25519", "PrivKeySecp256k1", secp.clone()),
        ("PubKeyEd25519", "PubKeySecp256k1", secp),
        (
            "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            other.as_str(),
            mismatch("pub_key.value"),
        ),
        ("21FE31", "21FE32", mismatch("address")),
        ("nWGxne", "nWGxnf", mismatch("priv_key.value")),
        // The seed alone, in hex, and cut off.
        (
            private,
            FILE,
            KeyFileError::Truncated {
                field: Some("priv_key.value"),
            },
        ),
        (private, &private.replace('/', "_"), bad.clone()),
        (private, &private[..private.len() - 2], bad),
    ] {
        assert!(VALIDATOR.contains(from), "{from}");
        let text = VALIDATOR.replace(from, to);
        let refused = SecretKey::from_validator_json(text.as_bytes()).unwrap_err();
        assert_eq!(refused, error, "{to}");
        says_nothing_of_the_key(&refused);
    }
    for end in 1..VALIDATOR.len() {
        let refused = SecretKey::from_validator_json(&VALIDATOR.as_bytes()[..end]).unwrap_err();
        assert_eq!(refused, KeyFileError::Truncated { field: None });
    }
    for format in [SoftsignFormat::Base64, SoftsignFormat::Json] {
        let (text, is) = match format {
            SoftsignFormat::Base64 => (VALIDATOR, KeyFileError::IsJson),
            SoftsignFormat::Json => (FILE, KeyFileError::IsBase64),
        };
        let refused = SecretKey::read(text.as_bytes(), format).unwrap_err();
        assert_eq!(refused, is);
        says_nothing_of_the_key(&refused);
    }
    for text in [
        "[]",
        &format!("\"{FILE}\""),
        &VALIDATOR.replace(
            "\"priv_key\": {",
            &format!("\"priv_key\": \"{private}\", \"x\": {{"),
        ),
        &format!("{VALIDATOR}{VALIDATOR}"),
    ] {
        let refused = SecretKey::from_validator_json(text.as_bytes()).unwrap_err();
        assert!(matches!(refused, KeyFileError::NotJson { .. }), "{refused}");
        says_nothing_of_the_key(&refused);
    }
}

#[test]
fn a_signature_is_judged() {
    use ed25519_dalek::{Signer, SigningKey};
    let signature = SigningKey::from_bytes(&SEED).sign(b"vote").to_bytes();
    assert!(key().public_key().verifies(b"vote", &signature));
    assert!(!key().public_key().verifies(b"note", &signature));
    let other = SecretKey::from_seed(&[7; 32]).public_key();
    assert!(!other.verifies(b"vote", &signature));
}

#[track_caller]
fn says_nothing_of_the_key(error: &KeyFileError) {
    let said = format!("{error} {error:?} {:?}", key());
    for part in ["nWGx", "9d61", "9D61", "157"] {
        assert!(!said.contains(part), "{said}");
    }
}
