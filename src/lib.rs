//! kmsctl moves a validator's remote signers to a new chain id: planned, staged, switched, proven, taken back.
//!
//! The data flows one way:
//! `discover -> Inventory -> plan (pure) -> render (pure) -> checks (pure) -> confirm -> apply -> verify`.
//! Only [`host`] touches the world. Rollback is the plan's own inverse, run by the same loop.
//!
//! One deliberate difference from the design's draft: there is no flag that moves the state folder. What kmsctl
//! remembers (which state file belongs to which key and chain, the highest height ever seen, the open operation,
//! the lock) guards against a double signature, so a host has exactly one memory, at one place.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!(
    "failpoints hold kmsctl in the middle of a switch: they are for tests, never for a release"
);

mod accounts;
pub mod apply;
pub mod check;
pub mod cli;
pub mod content;
pub mod discover;
pub mod doctor;
pub mod exit;
pub mod finding;
pub mod floor;
pub mod host;
pub mod init;
pub mod interrupt;
pub mod inventory;
pub mod journal;
pub mod keys;
pub mod kms;
pub mod ledger;
pub mod naming;
pub mod nodes;
pub mod paths;
pub mod peers;
pub mod plan;
pub mod render;
pub mod resumed;
pub mod rollback;
pub mod settings;
pub mod snapshot;
pub mod ui;
pub mod unit;
pub mod validator;
