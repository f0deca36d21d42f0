//! Fills an inventory: units that run tmkms, the configs they start on, the state files those name.
//!
//! The fleet is found from the units and not from a path pattern, since every operator has paths of their own. What
//! can't be read becomes a finding, never a guess, and nothing is changed.

mod signer;
mod units;

use std::path::Path;

use anyhow::Result;
use tmkms_core::state::SignState;

use crate::host::{Entry, Files, Host};
use crate::inventory::{Inventory, StateReading};
use crate::plan::safety::{Binary, Found, Surroundings};
use crate::plan::{Move, Request};
use signer::Binaries;
pub use units::Links;

/// Whether each signer's binary is asked for its version and fingerprinted: it costs a process a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    Ask,
    Skip,
}

/// Looks at the host.
///
/// # Errors
/// The service manager or `/proc` can't be asked at all. What is wrong with a single unit is a finding instead.
pub fn inventory(host: &mut Host, versions: Versions) -> Result<Inventory> {
    let path = host.services.unit_path()?;
    let links = Links::read(&*host.files, &path)?;
    let mut signers = Vec::new();
    let mut problems = Vec::new();
    let mut binaries = Binaries::new(versions);
    for unit in units::candidates(host, &path, &links, &mut problems)? {
        match signer::read(host, &unit, &links, &mut binaries) {
            Ok(Some(signer)) => signers.push(signer),
            Ok(None) => {}
            Err(problem) => problems.push(*problem),
        }
    }
    problems.sort();
    Ok(Inventory {
        host: host.name.clone(),
        observed_at: host.clock.now(),
        signers,
        processes: host.processes.signers()?,
        problems,
    })
}

/// Reads a state file without touching it.
pub fn state(files: &dyn Files, path: &Path) -> StateReading {
    match files.entry(path) {
        Ok(None) => StateReading::Missing,
        Ok(Some(Entry::Link(_))) => StateReading::Link,
        Ok(Some(Entry::File(_))) => match files.read(path) {
            Ok(bytes) => match SignState::parse(&bytes) {
                Ok(state) => StateReading::Read(state),
                Err(e) => StateReading::Unreadable(e.to_string()),
            },
            Err(e) => StateReading::Unreadable(e.to_string()),
        },
        Ok(Some(Entry::Folder(_))) => StateReading::Unreadable("it is a folder".into()),
        Ok(Some(Entry::Other)) => StateReading::Unreadable("it isn't a regular file".into()),
        Err(e) => StateReading::Unreadable(e.to_string()),
    }
}

/// A tmkms, as it is and as it describes itself.
fn binary(host: &mut Host, path: &Path, user: &str) -> Binary {
    Binary {
        runs: host.processes.is_program(path),
        // What doesn't answer is unknown, which the plan says.
        version: host.processes.tmkms_version(path, user).ok().flatten(),
        fingerprint: host.files.fingerprint(path).ok(),
    }
}

/// Looks at what a draft's moves would meet: the files in their way, the new chain's state files, the new binary.
pub fn surroundings(
    host: &mut Host,
    inventory: &Inventory,
    request: &Request,
    moves: &[Move],
) -> Surroundings {
    let mut around = Surroundings {
        binary: request.binary.as_deref().map(|path| {
            let user = moves.first().and_then(|m| inventory.signer(&m.old));
            let user = user.map_or("", |s| &s.unit.user);
            binary(host, path, user)
        }),
        ..Surroundings::default()
    };
    let files = &*host.files;
    for moving in moves {
        for file in &moving.files {
            let path = file.path.as_path();
            let found = match files.entry(path) {
                Ok(None) => continue,
                Ok(Some(Entry::File(_))) => match files.read(path) {
                    Ok(bytes) => Found::File(bytes),
                    Err(e) => Found::Unreadable(e.to_string()),
                },
                Ok(Some(Entry::Link(to))) => Found::Other(format!("a link to {}", to.display())),
                Ok(Some(Entry::Folder(_))) => Found::Other("a folder".into()),
                Ok(Some(Entry::Other)) => Found::Other("a device or a socket".into()),
                Err(e) => Found::Unreadable(e.to_string()),
            };
            around.targets.insert(path.to_owned(), found);
        }
        for chain in &moving.chains {
            let path = &chain.new.state_file;
            around.states.insert(path.clone(), state(files, path));
        }
    }
    around
}
