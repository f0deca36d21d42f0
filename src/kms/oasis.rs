//! Oasis key managers: nodes whose secrets lie sealed in an enclave, and nowhere else.
//!
//! An upgrade takes a node's sealed database away and waits for the other nodes to replicate the secrets into the new
//! enclave. Whoever takes away the last copy has lost the ParaTime's data for ever, so everything here answers one
//! question: may this node let go of its copy now? The answer comes from what every other node says at that moment, and
//! what can't be read is unknown, and unknown is no. No flag changes that.
//!
//! All of it is pure: no file, clock, process or network. The same plan, program, journal and loop as for tmkms carry it:
//! - [`config`] and [`bundle`] find what runs and judge what is to run; [`place`] knows the one folder that may be moved;
//! - [`status`], [`extra_info`] and [`verify`] read what a node says, and hold it against seven conditions;
//! - [`published`] is what a node's `kmsctl status --json` says to the others, and [`fleet`] decides on their answers;
//! - [`claim`] is the order in which that happens: say durably that one is leaving, then ask, stop, ask again, move;
//! - [`failure`] knows what goes wrong, and whether to wait, hold, stop the node or stop the fleet;
//! - [`way_back`] says when the old database may be put back, and when it may be deleted.
//!
//! One lane of steps carries a move: claim, ask, close the fence, stop, prove it stopped (the database's lock too), ask
//! again, rename, point the config, open the fence, start, withdraw; then wait until verified. The word is withdrawn before
//! the wait, because a new node can't register before the upgrade epoch and the rest of its half must still go: from the
//! rename on its own row says that it is no holder. The way back is the same lane with the ends changed round; it asks
//! only where others may be counting on the copy. Asking is never done already: a resumed lane asks anew, until the rename.
//!
//! It must never call a node verified that didn't prove it, and never let an answer of before stand for one of now.
//! Facts: oasis-core v22.2 to v26.1, read in its sources; no real node was run.

pub mod answer;
pub mod bundle;
pub mod claim;
pub mod command;
pub mod config;
pub mod extra_info;
pub mod failure;
pub mod fleet;
pub mod ids;
pub mod place;
pub mod proofs;
pub mod published;
mod shapes;
pub mod status;
pub mod verify;
pub mod way_back;
mod yaml;
