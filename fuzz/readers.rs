//! What reads bytes that others wrote, and what must hold of it whatever they are: the fuzzers' targets, and with the kept
//! corpora a test on stable Rust (tests/fuzz_corpora.rs). None of it may panic.

use kmsctl::check::source::Source;
use kmsctl::journal::Journal;
use kmsctl::plan::Plan;
use kmsctl::unit::effective::Effective;
use kmsctl::unit::variables::Variables;
use kmsctl::unit::{UnitName, UnitText, words};
use kmsctl::validator::{ConfigToml, Listen};
use tmkms_core::check::{Disk, Tmkms, Unread, Zeroizing, check};
use tmkms_core::config::{Config, SoftsignFormat, redacted, secret_spans};
use tmkms_core::keys::{KeyFile, SecretKey};
use tmkms_core::state::{SignState, StateFile, StateFormat};

/// A disk on which a path's own letters say what is there: nothing, what can't be read, a folder or a link, or a file of
/// the bytes that the fuzzer gives.
struct Given<'a>(&'a [u8]);

impl Given<'_> {
    fn kind(path: &str) -> u8 {
        path.bytes().fold(0, u8::wrapping_add)
    }
}

impl Disk for Given<'_> {
    fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, Unread> {
        match Given::kind(path) % 8 {
            0 => Err(Unread::Missing),
            1 => Err(Unread::Because("it can't be read".into())),
            _ => Ok(Zeroizing::new(self.0.to_vec())),
        }
    }

    fn is_folder(&self, path: &str) -> bool {
        Given::kind(path) & 16 == 0
    }

    fn is_link(&self, path: &str) -> bool {
        Given::kind(path) & 32 != 0
    }

    fn one_name(&self, path: &str) -> String {
        path.replace("./", "")
    }
}

/// Between a config and what the files that it names hold.
const FILES: &[u8] = b"\0files\0";

/// A tmkms.toml, and after it what is in the files that it names: read, judged for every generation of tmkms, shown, and
/// with its secrets hidden.
pub fn config(bytes: &[u8]) {
    let end = bytes.windows(FILES.len()).position(|at| at == FILES);
    let (config, files) = match end {
        Some(at) => (&bytes[..at], &bytes[at + FILES.len()..]),
        None => (bytes, &[][..]),
    };
    let Ok(text) = std::str::from_utf8(config) else {
        return;
    };
    let parsed = Config::parse(text);
    if let Ok(spans) = secret_spans(text) {
        let hidden = redacted(text, &spans);
        // What is hidden stays TOML, and has nothing left to hide but placeholders.
        assert!(secret_spans(&hidden).is_ok(), "{hidden:?}");
    } else {
        assert!(parsed.is_err());
    }
    let source = Source::of(text.to_owned());
    for version in ["0.10.1", "0.12.2", "0.14.0", "0.15.0"] {
        let Ok(version) = version.parse() else {
            continue;
        };
        let remarks = check(text, &Tmkms::any(version), &Given(files));
        assert!(parsed.is_ok() || remarks.iter().any(|r| r.stops()));
        for remark in remarks {
            let span = &remark.span;
            assert!(
                span.start <= span.end && span.end <= text.len(),
                "{remark:?}"
            );
            let (first, last) = source.columns(span);
            assert!(1 <= first && first <= last, "{remark:?}");
            if let Some(shown) = source.shown(span) {
                assert!(shown.line.get(shown.marked.clone()).is_some(), "{shown:?}");
            }
        }
    }
}

/// A state file, of tmkms and of CometBFT: what one of them is made into says no less.
pub fn state(bytes: &[u8]) {
    let read = SignState::parse(bytes);
    if let Ok(state) = read {
        assert!(i64::try_from(state.height).is_ok());
        assert!(i32::try_from(state.round).is_ok() && state.step <= 127);
    }
    let Ok(file) = StateFile::parse(bytes) else {
        return;
    };
    if file.format == StateFormat::Tmkms {
        assert_eq!(read.as_ref().ok(), Some(&file.at));
    }
    let made = SignState::parse(file.to_tmkms().as_bytes());
    assert_eq!(made.ok(), Some(file.at_in_tmkms()));
    assert!(file.at_in_tmkms() >= file.at);
    // Not every step has a name in CometBFT's file.
    if let Ok(back) = StateFile::parse(file.to_cometbft().as_bytes()) {
        assert_eq!(
            (back.at.height, back.at.round),
            (file.at.height, file.at.round)
        );
    }
}

/// A key file of each format, and a validator's own.
pub fn key(bytes: &[u8]) {
    for format in [SoftsignFormat::Base64, SoftsignFormat::Json] {
        let secret = SecretKey::read(bytes, format);
        match (KeyFile::read(bytes, format), secret) {
            (Ok(file), Ok(secret)) => {
                assert!(file.public == secret.public_key() && !file.expanded);
                let again = SecretKey::read(secret.to_base64().as_bytes(), SoftsignFormat::Base64);
                assert!(again.is_ok_and(|again| again.public_key() == file.public));
            }
            (Ok(file), Err(_)) => assert!(file.expanded),
            (Err(_), secret) => assert!(secret.is_err()),
        }
    }
    if let Ok(secret) = SecretKey::from_validator_json(bytes) {
        let read = SecretKey::read(bytes, SoftsignFormat::Json);
        assert!(read.is_ok_and(|read| read.public_key() == secret.public_key()));
    }
}

/// A validator's config.toml, and what the way to a signer makes of it.
pub fn validator(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(config) = ConfigToml::parse(text) else {
        return;
    };
    let Ok(listen) = "tcp://127.0.0.1:26659".parse::<Listen>() else {
        return;
    };
    if let Ok(changed) = config.with_laddr(text, &listen) {
        let again = ConfigToml::parse(&changed);
        assert!(again.is_ok_and(|again| again.key_file.is_none() && again.state_file.is_none()));
    }
}

/// A unit and a drop-in, the lines in it, and a file that it reads variables from.
pub fn unit(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    words::split(text).ok();
    Variables::default().read(text).ok();
    let Ok(name) = "tmkms@01.service".parse::<UnitName>() else {
        return;
    };
    words::expand(text, &name).ok();
    words::expand_known(text, &name);
    if let Ok(mut unit) = UnitText::parse(text) {
        if let Ok(drop_in) = UnitText::parse(text) {
            unit.extend(drop_in);
        }
        Effective::of(&name, &unit).ok();
    }
}

/// A saved plan.
pub fn plan(bytes: &[u8]) {
    if let Ok(plan) = Plan::parse(bytes) {
        assert!(Plan::is_plan(bytes));
        assert_eq!(plan.compute_id(), plan.id);
    }
}

/// An operation's journal, torn or not.
pub fn journal(bytes: &[u8]) {
    if let Ok(Some(journal)) = Journal::parse(bytes) {
        assert!(journal.length <= bytes.len() as u64);
        // What was read is a journal by itself: the rest may be cut off.
        let kept = &bytes[..journal.length as usize];
        let again = Journal::parse(kept);
        assert!(again.is_ok_and(|j| j.is_some_and(|j| j.records.len() == journal.records.len())));
    }
}
