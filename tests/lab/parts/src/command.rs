//! The commands on the fake validator's stdin: one JSON object a line, one JSON object back.

use crate::message::Kind;
use serde::Deserialize;
use std::time::{Duration, Instant};

/// The longest a command may wait.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// One line of stdin.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    Sign(Sign),
    Run(Run),
    Connected(Connected),
    Votes(Votes),
}

/// Have one vote or proposal signed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    #[serde(rename = "type")]
    pub kind: Kind,
    pub height: u64,
    #[serde(default)]
    pub round: u32,
    /// 64 hex digits, or empty for nil.
    pub block: String,
    #[serde(default)]
    pub within_ms: Within<10_000>,
}

/// Have a prevote and a precommit signed for every height. `within_ms` is for all of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub from: u64,
    pub to: u64,
    #[serde(default)]
    pub within_ms: Within<60_000>,
}

/// Wait for a signer that answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connected {
    #[serde(default)]
    pub within_ms: Within<10_000>,
}

/// List what was verified.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Votes {}

/// A wait in milliseconds with its default.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub struct Within<const DEFAULT: u64>(u64);

impl<const DEFAULT: u64> Default for Within<DEFAULT> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<const DEFAULT: u64> Within<DEFAULT> {
    /// When the wait ends, if it begins now.
    #[must_use]
    pub fn end(self) -> Instant {
        Instant::now() + Duration::from_millis(self.0).min(LONGEST_WAIT)
    }
}

/// Reads a line, with an error that says what is wrong with it.
pub fn parse(line: &str) -> Result<Command, String> {
    serde_json::from_str(line).map_err(|error| format!("malformed command: {error}"))
}

/// Reads a block hash: 64 hex digits, or nothing for nil.
pub fn block(text: &str) -> Result<Option<[u8; 32]>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash)
        .map(|()| Some(hash))
        .map_err(|error| format!("a block is 64 hex digits, or empty for nil: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_mistakes_named() {
        assert!(matches!(parse(r#"{"votes":{}}"#), Ok(Command::Votes(_))));
        assert!(matches!(
            parse(r#"{"run":{"from":1,"to":2}}"#),
            Ok(Command::Run(_))
        ));
        let sign = r#"{"sign":{"type":"precommit","height":3,"round":0,"block":"","within_ms":5}}"#;
        assert!(matches!(
            parse(sign),
            Ok(Command::Sign(Sign { height: 3, .. }))
        ));
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"sing":{}}"#,
            r#"{"votes":{},"run":{}}"#,
            r#"{"votes":{"since":1}}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(block("aa").is_err());
        assert_eq!(block(""), Ok(None));
        assert_eq!(block(&"aa".repeat(32)), Ok(Some([0xaa; 32])));
    }
}
