//! A **stand-in** for oasis-node as a key manager, for tests only: it runs no chain and no enclave, and keeps no secret
//! worth anything. It does what kmsctl depends on, as it was read in oasis-core's sources: a database that only the bundle
//! that made it opens, on the machine that made it; Badger's lock on its folder; registrations that last two epochs; a
//! committee drawn at each; replication from a node that holds the secrets, after a delay, and only from old to new.
//!
//! What it must never be mistaken for is the real thing: nothing here was compared with a running oasis-node.

pub mod answer;
pub mod bundle;
pub mod chain;
pub mod node;
pub mod settings;
