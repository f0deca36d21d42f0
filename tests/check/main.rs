//! `check` against what real tmkms binaries did with a corpus of configs.
//!
//! The verdicts in `verdicts.txt` are theirs: `tests/lab/oracle --record` runs them again and writes the file. With the
//! lab, some are run live here; `tests/lab/oracle` runs all of them, and mutated configs as well.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "--nocapture shows what was measured")]

mod bad_input;
mod corpus;
#[cfg(feature = "lab")]
mod live;
#[cfg(feature = "lab")]
mod mutated;
mod names;
mod planned;
mod recorded;
#[path = "../support/mod.rs"]
mod support;
