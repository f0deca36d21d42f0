//! What tmkms' log lines mean for whoever waits for it to sign. Lines are given without colour codes.
//!
//! A log explains and proves nothing: only an advancing state file proves that a signer signs.

/// A part of a line, what it means, and what to do; the first that is in a line counts. Run on tmkms 0.10.1 to 0.15.0;
/// some spell a message in two ways.
const MEANINGS: [(&str, &str); 15] = [
    (
        "error syncing state to disk",
        "tmkms can't write its state file, and signs nothing: look at the owner and mode of its folder",
    ),
    (
        "height regression",
        "the chain asks for a height below the state file's: it isn't this chain's state, or the chain began again lower",
    ),
    (
        "attempted double sign",
        "a validator asks for another block where one was signed already: find out whether two validators use this signer",
    ),
    (
        "chain ID error",
        "its validator is still on another chain: look at the validator's genesis and version",
    ),
    (
        "peer ID mismatch",
        "another node answers at the validator's address: correct the peer id in `addr`, or the address",
    ),
    (
        "above stop height",
        "the config's max_height forbids it: raise it or take it out",
    ),
    (
        "malformed handshake message",
        "the two don't speak the same protocol: compare protocol_version with the validator's version",
    ),
    (
        "malformed protocol message",
        "the two don't speak the same protocol: compare protocol_version with the validator's version",
    ),
    (
        "Connection refused",
        "no validator listens at its address yet, which is as expected until it is started",
    ),
    (
        "Connection reset",
        "the validator closed the connection: it may be starting, or another signer may be connected to it",
    ),
    (
        "timed out",
        "nothing answers at the validator's address: look at its firewall and its priv_validator_laddr",
    ),
    (
        WITHOUT_SESSION,
        "all sessions of the YubiHSM are taken: those of ended signers become free after 30 s",
    ),
    (
        "unknown field",
        "tmkms doesn't take its config: `kmsctl check` shows the line",
    ),
    (
        "connected to validator successfully",
        "it is connected and wasn't asked to sign: the validator may still be starting, or isn't in the set",
    ),
    ("signed ", "it has signed"),
];

/// What the yubihsm crate, which tmkms uses, says where a device has no free session.
const WITHOUT_SESSION: &str = "sessions full";

/// Whether a line says that all sessions of a YubiHSM are taken.
pub fn is_without_session(line: &str) -> bool {
    line.contains(WITHOUT_SESSION)
}

/// What a log line means and what to do about it; none where that isn't known.
pub fn explain(line: &str) -> Option<&'static str> {
    let known = MEANINGS.iter().find(|(part, _)| line.contains(part));
    known.map(|(_, meaning)| *meaning)
}

/// Whether a line may be shown: a parser's error quotes the config's own lines and values, and so its passwords.
pub fn is_showable(line: &str) -> bool {
    let quoted = line
        .trim_start()
        .trim_start_matches(|c: char| c.is_ascii_digit());
    let lower = line.to_lowercase();
    let named = [
        "password",
        "api_key",
        "secret",
        "invalid type",
        "invalid value",
        "unknown variant",
    ]
    .iter();
    !quoted.trim_start().starts_with('|') && !named.into_iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_telling_part_of_a_line_counts() {
        let regression =
            "[x@tcp://h:1] attempted double sign: height regression: last height:202 new height:1";
        let syncing = "[x] attempted double sign: error syncing state to disk: Permission denied";
        let other = "[x] attempted double sign Precommit at h/r/s: 200/1/2 (AAAA != BBBB)";
        let said: Vec<_> = [regression, syncing, other].map(explain).into();
        assert!(said.iter().all(Option::is_some));
        assert!(said[0] != said[1] && said[1] != said[2] && said[0] != said[2]);
        assert_eq!(explain("tmkms 0.15.0 starting up..."), None);
    }

    #[test]
    fn a_quoted_line_of_the_config_is_not_shown() {
        for hidden in [
            "12 | password = \"hunter2\"",
            "  | ^^^^^^^^",
            "   | ",
            "error: bad Password x",
            "api_key: zzz",
        ] {
            assert!(!is_showable(hidden), "{hidden}");
        }
        for shown in [
            "tmkms 0.12.2 starting up...",
            "[a@tcp://b:1] I/O error: Connection refused (os error 111)",
        ] {
            assert!(is_showable(shown), "{shown}");
        }
    }
}
