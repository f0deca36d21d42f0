//! Fills an inventory: units that run tmkms, the configs they start on, the state files those name.
//!
//! The fleet is found from the units and not from a path pattern, since every operator has paths of their own. What
//! can't be read becomes a finding, never a guess, and nothing is changed.

mod keys;
mod links;
mod nodes;
mod pulls;
mod signer;
mod start;
mod units;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tmkms_core::check::Tmkms;
use tmkms_core::state::SignState;

use crate::check;
use crate::content::{Content, Role};
use crate::doctor;
use crate::finding::{Code, Finding};
use crate::host::seen;
use crate::host::unit_files::is_drop_in;
use crate::host::unit_path::UnitPath;
use crate::host::{Entry, Files, Host};
use crate::inventory::{Inventory, Signer, SignerProcess, StateReading};
use crate::plan::safety::{Binary, Found, Surroundings};
use crate::plan::{Move, Request};
use crate::unit::UnitName;
pub use keys::devices;
pub use links::Links;
pub use nodes::{Node, nodes};
use signer::Binaries;
pub use signer::{chains, link_free};
pub use start::Start;

/// What a signer's unit names.
const TMKMS: &str = "tmkms";

/// Whether each signer's binary is asked for its version and fingerprinted: it costs a process a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    Ask,
    Skip,
}

/// Looks at the host. No device is asked: see [`devices`].
///
/// # Errors
/// The service manager or `/proc` can't be asked at all. What is wrong with a single unit is a finding instead.
pub fn inventory(host: &mut Host, versions: Versions) -> Result<Inventory> {
    seen::once(host, |host| look(host, versions))
}

fn look(host: &mut Host, versions: Versions) -> Result<Inventory> {
    let path = host.services.unit_path()?;
    let path = UnitPath::new(&*host.files, &path);
    let links = Links::read(&*host.files, &path)?;
    let mut signers = Vec::new();
    let mut problems = Vec::new();
    let mut binaries = Binaries::new(versions);
    let units = units::candidates(host, &path, &links, TMKMS, &mut problems)?;
    let pulls = pulls::read(&*host.files, &path, &links, &units, &mut problems)?;
    // An instance has its template's second names as well.
    let named = |unit: &UnitName| !links.second_names(unit).is_empty();
    let has_one_name =
        |unit: &UnitName| !named(unit) && !unit.template().is_some_and(|t| named(&t));
    let (units, named): (Vec<UnitName>, Vec<UnitName>) = units.into_iter().partition(has_one_name);
    let mut views = host.services.views(&units);
    views.extend(named.iter().map(|unit| host.services.view(unit)));
    for (unit, view) in units.iter().chain(&named).zip(views) {
        match signer::read(host, unit, view, &links, &pulls, &mut binaries) {
            Ok(Some(signer)) => signers.push(signer),
            Ok(None) => {}
            Err(problem) => problems.push(*problem),
        }
    }
    signers.sort_by(|a, b| a.unit.name.cmp(&b.unit.name));
    problems.extend(without_unit(&*host.files, &path, &links, &signers));
    problems.sort();
    let keys = keys::files(&*host.files, &signers);
    Ok(Inventory {
        host: host.name.clone(),
        observed_at: host.clock.now(),
        signers,
        processes: processes(host)?,
        keys,
        keys_left_out: !host.hsm.asks(),
        problems,
    })
}

/// Looks at how the host's units start tmkms, whatever the configs are like; with what can't be read as findings.
///
/// # Errors
/// The service manager can't be asked at all.
pub fn starts(host: &mut Host, versions: Versions) -> Result<(Vec<Start>, Vec<Finding>)> {
    let path = host.services.unit_path()?;
    let path = UnitPath::new(&*host.files, &path);
    let links = Links::read(&*host.files, &path)?;
    let mut problems = Vec::new();
    let mut starts = Vec::new();
    let mut binaries = Binaries::new(versions);
    for unit in units::candidates(host, &path, &links, TMKMS, &mut problems)? {
        match start::start(host, &unit, &mut binaries) {
            Ok(start) => starts.extend(start),
            Err(problem) => problems.push(*problem),
        }
    }
    problems.sort();
    Ok((starts, problems))
}

/// Links that enable a signer's unit that isn't there: they start nothing. Other programs leave such links, too, and are
/// nobody's business here.
fn without_unit(
    files: &dyn Files,
    path: &UnitPath,
    links: &Links,
    signers: &[Signer],
) -> Vec<Finding> {
    let ours = |unit: &UnitName| {
        unit.as_str().contains("tmkms") || signers.iter().any(|s| s.name() == unit.signer())
    };
    let lost = links.without_unit(files, path);
    lost.filter(|(unit, _)| ours(unit))
        .map(|(unit, link)| {
            let message = format!("this link enables {unit}, which isn't there: it starts nothing");
            Finding::warn(Code::EnablementOdd, message)
                .of(unit.signer())
                .at(link.link.as_path())
                .remedy("put the unit's file back, or take the link away")
        })
        .collect()
}

/// What runs, each config by its one name, so that two spellings of it are one.
fn processes(host: &mut Host) -> Result<Vec<SignerProcess>> {
    let mut processes = host.processes.signers()?;
    for process in &mut processes {
        let config = process.config.take();
        process.config = config.map(|path| signer::link_free(&*host.files, &path));
    }
    Ok(processes)
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
///
/// # Errors
/// The service manager can't be asked, or a folder of drop-ins can't be read.
pub fn surroundings(
    host: &mut Host,
    inventory: &Inventory,
    request: &Request,
    moves: &[Move],
) -> Result<Surroundings> {
    seen::once(host, |host| met(host, inventory, request, moves))
}

fn met(
    host: &mut Host,
    inventory: &Inventory,
    request: &Request,
    moves: &[Move],
) -> Result<Surroundings> {
    let mut around = Surroundings {
        binary: request.binary.as_deref().map(|path| {
            let user = moves.first().and_then(|m| inventory.signer(&m.old));
            let user = user.map_or("", |s| &s.unit.user);
            binary(host, path, user)
        }),
        ..Surroundings::default()
    };
    let unit_path = host.services.unit_path()?;
    let files = &*host.files;
    around.denied = doctor::coming::of_moves(files, host.modelled, inventory, moves);
    for moving in moves {
        let drop_ins = drop_ins(files, &unit_path, moving)?;
        around.drop_ins.insert(moving.new.clone(), drop_ins);
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
        for link in &moving.enablement.new {
            let path = link.link.as_path();
            let found = match files.entry(path) {
                Ok(None) => continue,
                Ok(Some(Entry::Link(to))) if to == link.target => continue,
                Ok(Some(Entry::Link(to))) => format!("a link to {}", to.display()),
                Ok(Some(_)) => "no link".into(),
                Err(e) => format!("what can't be read ({e})"),
            };
            around.links.insert(path.to_owned(), found);
        }
        if let Some(signer) = inventory.signer(&moving.old)
            && let Some(refused) = refused(files, &around, signer, moving)
        {
            around.refused.insert(moving.new.clone(), refused);
        }
        for chain in &moving.chains {
            let path = &chain.new.state_file;
            around.states.insert(path.clone(), state(files, path));
        }
    }
    Ok(around)
}

/// What the tmkms of a new unit refuses in its config; none where its version isn't known.
fn refused(
    files: &dyn Files,
    around: &Surroundings,
    signer: &Signer,
    moving: &Move,
) -> Option<Vec<Finding>> {
    let version = match &around.binary {
        Some(binary) => binary.version,
        None => signer.version,
    };
    let tmkms = Tmkms::any(version?);
    if !tmkms.is_known() {
        return None;
    }
    let old = &signer.config.text;
    let config = moving.files.iter().find(|f| f.role == Role::Config);
    let new = match config.map(|f| &f.content) {
        Some(Content::Derived { edits, .. }) => {
            let edits: Vec<_> = edits.iter().map(|c| c.edit.clone()).collect();
            // What can't be edited is a finding already.
            tmkms_core::edit::apply(old, &edits).ok()?
        }
        Some(Content::Text { text }) => text.clone(),
        None => old.clone(),
    };
    let directory = &signer.unit.working_directory;
    let path = &moving.new_config;
    Some(check::rendered(files, path, &new, directory, &tmkms))
}

/// The drop-ins that are there for the new unit's name and not for the old one's, whether there is a unit or not.
fn drop_ins(files: &dyn Files, unit_path: &[PathBuf], moving: &Move) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let old = moving.old.drop_in_names();
    let names = moving.new.drop_in_names();
    for name in names.iter().filter(|name| !old.contains(name)) {
        for folder in unit_path.iter().map(|f| f.join(format!("{name}.d"))) {
            let names = files.list(&folder);
            let names = names.with_context(|| format!("reading {}", folder.display()))?;
            found.extend(
                names
                    .iter()
                    .filter(|n| is_drop_in(n))
                    .map(|n| folder.join(n)),
            );
        }
    }
    Ok(found)
}
