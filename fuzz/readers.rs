//! What reads bytes that others wrote, and what must hold of it whatever they are: the fuzzers' targets, and with the kept
//! corpora a test on stable Rust (tests/fuzz_corpora.rs). None of it may panic.

use kmsctl::check::source::Source;
use kmsctl::journal::Journal;
use kmsctl::plan::Plan;
use kmsctl::unit::effective::Effective;
use kmsctl::unit::variables::Variables;
use kmsctl::unit::{UnitName, UnitText, words};
use tmkms_core::check::{Disk, Tmkms, Unread, Zeroizing, check};
use tmkms_core::config::{Config, redacted, secret_spans};
use tmkms_core::state::SignState;

/// A disk with nothing on it but folders.
struct Nothing;

impl Disk for Nothing {
    fn read(&self, _: &str) -> Result<Zeroizing<Vec<u8>>, Unread> {
        Err(Unread::Missing)
    }

    fn is_folder(&self, _: &str) -> bool {
        true
    }

    fn is_link(&self, _: &str) -> bool {
        false
    }
}

/// A tmkms.toml: read, judged for every generation of tmkms, shown, and with its secrets hidden.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
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
        let remarks = check(text, &Tmkms::usual(version), &Nothing);
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

/// A state file.
pub fn state(bytes: &[u8]) {
    if let Ok(state) = SignState::parse(bytes) {
        assert!(i64::try_from(state.height).is_ok());
        assert!(i32::try_from(state.round).is_ok() && state.step <= 127);
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
