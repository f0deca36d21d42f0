//! Who has which key: from key files of the tree, from devices that answer, refuse or are silent; and rule S1 by it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod contact;
mod devices;
mod files;
mod machine;
mod new;
#[path = "../support/mod.rs"]
mod support;
