//! Oasis key managers, without any node: what is read, what is decided, and whole fleets in memory.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bundles;
mod configs;
mod decisions;
mod operators;
mod places;
mod schedules;
mod statuses;
mod world;
