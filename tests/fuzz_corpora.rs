//! What the fuzzers found worth keeping, read again on stable Rust: no reader may panic on any of it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../fuzz/readers.rs"]
mod readers;

use std::fs;
use std::path::Path;

fn replayed(name: &str, read: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let entries = fs::read_dir(&folder).unwrap();
    let mut count = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        // A panic's own words don't say on which input.
        let whole = std::panic::catch_unwind(|| read(&bytes));
        assert!(whole.is_ok(), "{}", path.display());
        // Cut anywhere is what a crash leaves.
        for at in [
            bytes.len() / 3,
            bytes.len() / 2,
            bytes.len().saturating_sub(1),
        ] {
            let cut = std::panic::catch_unwind(|| read(&bytes[..at]));
            assert!(cut.is_ok(), "{} cut at {at}", path.display());
        }
        count += 1;
    }
    assert!(count >= 5, "{count} in {}", folder.display());
}

#[test]
fn configs() {
    replayed("config", readers::config);
}

#[test]
fn states() {
    replayed("state", readers::state);
}

#[test]
fn units() {
    replayed("unit", readers::unit);
}

#[test]
fn plans() {
    replayed("plan", readers::plan);
}

#[test]
fn journals() {
    replayed("journal", readers::journal);
}

#[test]
fn keys() {
    replayed("key", readers::key);
}

#[test]
fn validators() {
    replayed("validator", readers::validator);
}
