//! State files in every form that tmkms 0.12.2 was seen to take or refuse.

use tmkms_core::{SignState, StateError};

const HASH: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn state(height: &str, round: &str, step: &str, block_id: &str) -> String {
    format!(r#"{{"height":{height},"round":{round},"step":{step},"block_id":{block_id}}}"#)
}

fn with_block_id(block_id: &str) -> String {
    state("\"200\"", "\"1\"", "2", &block_id.replace("HASH", HASH))
}

fn null(height: &str, round: &str, step: &str) -> String {
    state(height, round, step, "null")
}

#[test]
fn takes_what_tmkms_takes() {
    let plain = null("\"200\"", "\"1\"", "2");
    let at = |height, round, step| SignState {
        height,
        round,
        step,
    };
    for (text, expected) in [
        (plain.clone(), at(200, 1, 2)),
        (format!(" \r\n\t{plain}\n\n"), at(200, 1, 2)),
        (
            plain.replace(
                '}',
                ",\"signature\":\"x\",\"more\":[1,{\"height\":5},null,1.5,true]}",
            ),
            at(200, 1, 2),
        ),
        (
            state(
                "\"0\"",
                "\"0\"",
                "0",
                r#"{"hash":"","part_set_header":{"total":0,"hash":""}}"#,
            ),
            SignState::ZERO,
        ),
        (
            state(
                "\"0\"",
                "\"0\"",
                "0",
                r#"{"hash":"","parts":{"total":0,"hash":""}}"#,
            ),
            SignState::ZERO,
        ),
        (
            with_block_id(r#"{"hash":"HASH","parts":{"total":1,"hash":"HASH"}}"#),
            at(200, 1, 2),
        ),
        (
            with_block_id(r#"{"hash":"HASH","part_set_header":{"total":1,"hash":"HASH"}}"#),
            at(200, 1, 2),
        ),
        (
            with_block_id(r#"{"hash":"HASH","parts":{"total":"1","hash":"HASH"}}"#),
            at(200, 1, 2),
        ),
        (
            with_block_id(r#"{"hash":null,"parts":{"total":4294967295,"hash":null}}"#),
            at(200, 1, 2),
        ),
        (
            with_block_id(r#"{"x":1,"hash":"HASH","parts":{"x":1,"total":0,"hash":"HASH"}}"#),
            at(200, 1, 2),
        ),
        (
            with_block_id(
                &r#"{"hash":"HASH","parts":{"total":1,"hash":""}}"#
                    .replace("HASH", &"a".repeat(64)),
            ),
            at(200, 1, 2),
        ),
        (
            null("\"9223372036854775807\"", "\"2147483647\"", "127"),
            at(i64::MAX as u64, i32::MAX as u32, 127),
        ),
        (null("\"+5\"", "\"007\"", "9"), at(5, 7, 9)),
        (null("\"\\u0035\"", "\"0\"", "0"), at(5, 0, 0)),
    ] {
        assert_eq!(SignState::parse(text.as_bytes()), Ok(expected), "{text}");
    }
}

#[test]
fn refuses_by_name() {
    use StateError::*;
    let ok = || null("\"200\"", "\"1\"", "2");
    let dup = |field: &str| DuplicateField {
        field: field.to_owned(),
    };
    let parts = |parts: &str| with_block_id(&format!(r#"{{"hash":"","parts":{parts}}}"#));
    for (text, expected) in [
        (String::new(), Empty),
        (" \n".to_owned(), Empty),
        ("\0".repeat(60), OnlyZeros),
        (ok()[..20].to_owned(), Truncated),
        ("{".to_owned(), Truncated),
        ("hello".to_owned(), Syntax { line: 1, column: 1 }),
        (format!("\u{feff}{}", ok()), Syntax { line: 1, column: 1 }),
        (
            ok().replace('}', ",}"),
            Syntax {
                line: 1,
                column: 54,
            },
        ),
        (ok() + &ok(), Trailing),
        (ok() + "\n" + &ok(), Trailing),
        (ok() + "\0", Trailing),
        ("[\"200\",\"1\",2,null]".to_owned(), NotAnObject),
        ("null".to_owned(), NotAnObject),
        (ok().replace('}', ",\"height\":\"1\"}"), dup("height")),
        (ok().replace('}', ",\"x\":1,\"x\":1}"), dup("x")),
        (
            with_block_id(r#"{"hash":"","hash":"","parts":{"total":0,"hash":""}}"#),
            dup("hash"),
        ),
        (
            with_block_id(r#"{"hash":"","parts":{"total":0,"hash":""},"part_set_header":{}}"#),
            dup("block_id.parts"),
        ),
        (parts(r#"{"total":0,"hash":"","total":0}"#), dup("total")),
        (
            "{\"height\":\"5\",\"round\":\"0\",\"step\":0}".to_owned(),
            Missing { field: "block_id" },
        ),
        (
            ok().replace("height", "Height"),
            Missing { field: "height" },
        ),
        (ok().replace("round", "x"), Missing { field: "round" }),
        (ok().replace("step", "x"), Missing { field: "step" }),
        (
            with_block_id("{}"),
            Missing {
                field: "block_id.hash",
            },
        ),
        (
            with_block_id(r#"{"hash":""}"#),
            Missing {
                field: "block_id.parts",
            },
        ),
        (
            parts(r#"{"hash":""}"#),
            Missing {
                field: "block_id.parts.total",
            },
        ),
        (
            parts(r#"{"total":0}"#),
            Missing {
                field: "block_id.parts.hash",
            },
        ),
        (null("5", "\"0\"", "0"), Integer { field: "height" }),
        (
            "{\"height\":\"5\",\"round\":0,\"step\":3}".to_owned(),
            Integer { field: "round" },
        ),
        (
            null("null", "\"0\"", "0"),
            WrongType {
                field: "height",
                expected: "a number in quotes",
            },
        ),
        (
            null("5.5", "\"0\"", "0"),
            WrongType {
                field: "height",
                expected: "a number in quotes",
            },
        ),
        (
            null("\"5\"", "\"0\"", "\"2\""),
            WrongType {
                field: "step",
                expected: "an integer",
            },
        ),
        (
            null("\"5\"", "\"0\"", "2.0"),
            WrongType {
                field: "step",
                expected: "an integer",
            },
        ),
        (
            with_block_id("\"x\""),
            WrongType {
                field: "block_id",
                expected: "an object or null",
            },
        ),
        (
            with_block_id(r#"["",{"total":0,"hash":""}]"#),
            WrongType {
                field: "block_id",
                expected: "an object or null",
            },
        ),
        (
            parts("null"),
            WrongType {
                field: "block_id.parts",
                expected: "an object",
            },
        ),
        (
            parts(r#"{"total":1.0,"hash":""}"#),
            WrongType {
                field: "block_id.parts.total",
                expected: "an integer",
            },
        ),
        (
            parts(r#"{"total":1,"hash":5}"#),
            WrongType {
                field: "block_id.parts.hash",
                expected: "a string",
            },
        ),
        (null("\"\"", "\"0\"", "0"), NotANumber { field: "height" }),
        (null("\" 5\"", "\"0\"", "0"), NotANumber { field: "height" }),
        (
            null("\"5.0\"", "\"0\"", "0"),
            NotANumber { field: "height" },
        ),
        (null("\"5\"", "\"+\"", "0"), NotANumber { field: "round" }),
        (null("\"٥\"", "\"0\"", "0"), NotANumber { field: "height" }),
        (null("\"-5\"", "\"0\"", "0"), Negative { field: "height" }),
        (null("-5", "\"0\"", "0"), Negative { field: "height" }),
        (null("\"5\"", "\"-1\"", "0"), Negative { field: "round" }),
        (null("\"5\"", "\"0\"", "-1"), Negative { field: "step" }),
        (
            parts(r#"{"total":-1,"hash":""}"#),
            Negative {
                field: "block_id.parts.total",
            },
        ),
        (
            null("\"9223372036854775808\"", "\"0\"", "0"),
            TooLarge { field: "height" },
        ),
        (
            null("\"99999999999999999999\"", "\"0\"", "0"),
            TooLarge { field: "height" },
        ),
        (
            null("\"5\"", "\"2147483648\"", "0"),
            TooLarge { field: "round" },
        ),
        (null("\"5\"", "\"0\"", "128"), TooLarge { field: "step" }),
        (
            parts(r#"{"total":"4294967296","hash":""}"#),
            TooLarge {
                field: "block_id.parts.total",
            },
        ),
        (
            parts(r#"{"total":1,"hash":"AA"}"#),
            BadHash {
                field: "block_id.parts.hash",
            },
        ),
        (
            with_block_id(&format!(r#"{{"hash":"{}"}}"#, "aA".repeat(32))),
            BadHash {
                field: "block_id.hash",
            },
        ),
        (
            with_block_id(&format!(r#"{{"hash":"{}"}}"#, "G".repeat(64))),
            BadHash {
                field: "block_id.hash",
            },
        ),
    ] {
        assert_eq!(SignState::parse(text.as_bytes()), Err(expected), "{text}");
    }
    assert_eq!(SignState::parse(b"{\"height\":\"\xe9\"}"), Err(NotUtf8));
}

#[test]
fn says_whose_format_an_integer_is() {
    let comet = br#"{"height":"5","round":0,"step":3,"signature":"x","signbytes":"y"}"#;
    let message = SignState::parse(comet).unwrap_err().to_string();
    assert!(
        message.contains("CometBFT") && message.contains("`round`"),
        "{message}"
    );
}

#[test]
fn orders_by_height_then_round_then_step() {
    let at = |height, round, step| SignState {
        height,
        round,
        step,
    };
    let sorted = [
        SignState::ZERO,
        at(0, 0, 1),
        at(0, 1, 0),
        at(1, 0, 0),
        at(1, 0, 2),
        at(1, 3, 1),
        at(2, 0, 0),
    ];
    assert!(sorted.is_sorted());
    assert_eq!(at(200, 1, 2).to_string(), "200/1/2");
    let json = serde_json::to_string(&at(200, 1, 2)).unwrap();
    assert_eq!(json, r#"{"height":200,"round":1,"step":2}"#);
    assert_eq!(
        serde_json::from_str::<SignState>(&json).unwrap(),
        at(200, 1, 2)
    );
}
