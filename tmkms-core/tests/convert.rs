//! CometBFT's state files and tmkms': there and back, never lower, and every contradiction refused.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use ed25519_dalek::{Signer, SigningKey};
use tmkms_core::keys::{PublicKey, SecretKey};
use tmkms_core::state::{LastVote, SignState, StateError, StateFile, StateFormat};

const SEED: [u8; 32] = [0x5e; 32];
const HEIGHT: u64 = 361_402;

fn public() -> PublicKey {
    SecretKey::from_seed(&SEED).public_key()
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[number << 3 | 2, length], bytes].concat()
}

fn fixed(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

/// A vote as it is signed: protobuf's block id has the total first and amino's the hash.
fn vote(kind: u8, round: u64, block: bool, amino: bool) -> Vec<u8> {
    let (total, hash) = (vec![0x08, 3], field(2, &[0xbb; 32]));
    let parts = match amino {
        false => [total, hash].concat(),
        true => [field(1, &[0xbb; 32]), vec![0x10, 3]].concat(),
    };
    let block_id = [field(1, &[0xaa; 32]), field(2, &parts)].concat();
    let mut bytes = [vec![0x08, kind], fixed(2, HEIGHT)].concat();
    if round > 0 {
        bytes.extend(fixed(3, round));
    }
    let (block_at, time_at, chain_at) = match kind {
        32 => (5, 6, 7),
        _ => (4, 5, 6),
    };
    if kind == 32 {
        // The round of the proof of lock, -1 for none.
        bytes.extend([0x20, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    }
    if block {
        bytes.extend(field(block_at, &block_id));
    }
    bytes.extend(field(time_at, &[0x08, 1]));
    bytes.extend(field(chain_at, b"juno-1"));
    let mut whole = vec![u8::try_from(bytes.len()).unwrap()];
    if bytes.len() > 127 {
        whole = vec![(bytes.len() & 127) as u8 | 128, (bytes.len() >> 7) as u8];
    }
    whole.extend(bytes);
    whole
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    Base64::encode_string(bytes)
}

fn file(round: &str, step: u8, sign_bytes: &[u8]) -> String {
    let signature = SigningKey::from_bytes(&SEED).sign(sign_bytes).to_bytes();
    format!(
        "{{\n  \"height\": \"{HEIGHT}\",\n  \"round\": {round},\n  \"step\": {step},\n  \"signature\": \"{}\",\n  \"signbytes\": \"{}\"\n}}",
        base64(&signature),
        hex(sign_bytes)
    )
}

#[track_caller]
fn parse(text: &str) -> StateFile {
    StateFile::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn what_cometbft_signed_is_what_tmkms_goes_on_from() {
    let block = format!(
        r#"{{"hash":"{}","parts":{{"total":3,"hash":"{}"}}}}"#,
        "AA".repeat(32),
        "BB".repeat(32)
    );
    for (kind, round, has_block, amino, step, block_id) in [
        (2, 0, true, false, 2, block.as_str()),
        (2, 7, true, true, 2, &block),
        (1, 1, false, false, 1, "null"),
        (32, 0, true, false, 0, &block),
    ] {
        let bytes = vote(kind, round, has_block, amino);
        let text = file(&round.to_string(), step + 1, &bytes);
        let state = parse(&text);
        assert_eq!(state.format, StateFormat::Cometbft);
        assert_eq!(state.chain_id.as_deref(), Some("juno-1"));
        assert_eq!(state.signed_by(&public()), Some(true));
        assert_eq!(
            state.signed_by(&SecretKey::from_seed(&[1; 32]).public_key()),
            Some(false)
        );
        let tmkms = format!(
            r#"{{"height":"{HEIGHT}","round":"{round}","step":{step},"block_id":{block_id}}}"#
        );
        assert_eq!(state.to_tmkms(), tmkms);
        assert_eq!(state.to_cometbft(), text, "byte for byte CometBFT's");
        let back = parse(&tmkms);
        assert_eq!((back.at, &back.vote), (state.at, &state.vote));
        assert_eq!(back.signed_by(&public()), None);
        // Tendermint before 0.34 has the round in quotes.
        let older = parse(&file(&format!("\"{round}\""), step + 1, &bytes));
        assert_eq!(older, state);
    }
}

#[test]
fn a_vote_that_isn_t_known_closes_its_round() {
    for text in [
        r#"{"height":"9","round":1,"step":2}"#.to_owned(),
        file("0", 3, b"\x01\xff")
            .replace(&HEIGHT.to_string(), "9")
            .replace("\"round\": 0", "\"round\": 1"),
    ] {
        let state = parse(&text);
        assert_eq!(state.vote, LastVote::Unknown);
        assert_eq!(
            state.to_tmkms(),
            r#"{"height":"9","round":"1","step":127,"block_id":null}"#
        );
        assert!(state.at_in_tmkms() > state.at);
    }
}

#[test]
fn nothing_signed_stays_nothing_and_a_floor_a_floor() {
    let fresh = parse("{\n  \"height\": \"0\",\n  \"round\": 0,\n  \"step\": 0\n}");
    let zero = r#"{"height":"0","round":"0","step":0,"block_id":null}"#;
    assert_eq!(fresh.to_tmkms(), zero);
    assert_eq!(StateFile::fresh().to_tmkms(), zero);
    assert_eq!(parse(&fresh.to_cometbft()), fresh);
    let floor = StateFile::floor(9);
    let text = r#"{"height":"9","round":"2147483647","step":127,"block_id":null}"#;
    assert_eq!(floor.to_tmkms(), text);
    let there = parse(&floor.to_cometbft());
    assert_eq!(there.to_tmkms(), text);
    assert!(
        floor.at
            > SignState {
                height: 9,
                round: i32::MAX as u32,
                step: 2
            }
    );
}

#[test]
fn a_file_that_says_two_things_is_refused() {
    let bytes = vote(2, 0, true, false);
    let contradiction = |field| StateError::Contradiction { field };
    for (text, error) in [
        (file("1", 3, &bytes), contradiction("signbytes")),
        (file("0", 2, &bytes), contradiction("signbytes")),
        (
            file("0", 3, &bytes).replace("361402", "361403"),
            contradiction("signbytes"),
        ),
        (
            r#"{"height":"9","round":0,"step":0}"#.into(),
            contradiction("step"),
        ),
        (
            r#"{"height":"0","round":0,"step":3}"#.into(),
            contradiction("step"),
        ),
        (
            r#"{"height":"9","round":0,"step":3,"signbytes":"00"}"#.into(),
            StateError::Missing { field: "signature" },
        ),
        (
            r#"{"height":"9","round":0,"step":3,"signature":"AA=="}"#.into(),
            StateError::WrongType {
                field: "signature",
                expected: "64 bytes in base64",
            },
        ),
        (
            r#"{"height":"9","round":0,"step":3,"signbytes":"0"}"#.into(),
            StateError::WrongType {
                field: "signbytes",
                expected: "hex digits",
            },
        ),
        (
            r#"{"height":"9","height":"10","round":0,"step":3}"#.into(),
            StateError::DuplicateField {
                field: "height".into(),
            },
        ),
        (
            r#"{"height":"-9","round":0,"step":3}"#.into(),
            StateError::Negative { field: "height" },
        ),
        (
            r#"{"height":"9","round":-1,"step":3}"#.into(),
            StateError::Negative { field: "round" },
        ),
        (
            r#"{"height":"9","round":0,"step":128}"#.into(),
            StateError::TooLarge { field: "step" },
        ),
        (
            r#"{"round":0,"step":3}"#.into(),
            StateError::Missing { field: "height" },
        ),
        (String::new(), StateError::Empty),
        ("\0\0".into(), StateError::OnlyZeros),
        (r#"{"height":"9","round":0"#.into(), StateError::Truncated),
    ] {
        assert_eq!(
            StateFile::parse(text.as_bytes()).unwrap_err(),
            error,
            "{text}"
        );
    }
}

#[test]
fn cut_or_changed_sign_bytes_get_an_answer() {
    let bytes = vote(2, 0, true, false);
    for at in 0..bytes.len() {
        let _any = StateFile::parse(file("0", 3, &bytes[..at]).as_bytes());
        for value in [0, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _any = StateFile::parse(file("0", 3, &changed).as_bytes());
        }
    }
}
