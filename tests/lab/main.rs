//! The tests that trust no model: a real systemd, real tmkms (0.12.2 where no other is asked for), validators that verify every signature.
//!
//! Needs root, and what `tests/lab/prepare` makes. A test here fails where it can't run; it never passes over itself.

mod crash;
#[path = "../support/dice.rs"]
mod dice;
mod doctor;
mod fence;
mod fleet;
mod gates;
mod hands;
mod host_fails;
mod init;
mod keys;
mod kmsctl;
mod machine;
mod night;
mod nodes;
mod package;
mod page;
mod parts;
mod refusals;
mod runbook;
mod same_chain;
mod sampler;
mod smoke;
mod snapshot;
mod tree;
mod units;
mod units_fail;
mod words;
