//! Looks at what is really there for a step: done, ready, or neither.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::lane::Progress;
use super::{Readiness, Run};
use crate::content::{Content, Role};
use crate::discover;
use crate::floor::Floor;
use crate::host::{Entry, Files};
use crate::inventory::{Activity, SignerProcess, StateReading};
use crate::paths::{ManagedLink, ManagedPath};
use crate::plan::ChainFile;
use crate::plan::halt::Stood;
use crate::plan::program::Action;
use crate::render;
use crate::unit::UnitName;

fn drifted(found: impl Into<String>) -> Readiness {
    Readiness::Drifted {
        found: found.into(),
    }
}

fn ready_unless(done: bool) -> Readiness {
    if done {
        Readiness::Done
    } else {
        Readiness::Ready
    }
}

impl Run<'_> {
    /// As [`Run::look`], for what a lane knows already: systemd isn't asked about it again while a signer is dark.
    pub(super) fn look_at(&mut self, lane: &Progress<'_>, action: &Action) -> Result<Readiness> {
        let known = match action {
            // It ran when this began. A stop of what has ended since is done at once.
            Action::Stop { unit } => self.proven.iter().any(|(_, proven)| proven == unit),
            Action::Start { .. } => lane.opened,
            _ => false,
        };
        match known {
            true => Ok(Readiness::Ready),
            false => self.look(action),
        }
    }

    fn look(&mut self, action: &Action) -> Result<Readiness> {
        let files = &*self.host.files;
        match action {
            Action::MakeFolder { path } => Ok(match entry(files, path.as_path())? {
                None => Readiness::Ready,
                Some(Entry::Folder(_)) => Readiness::Done,
                Some(_) => drifted(format!("{path} is no folder: take away what is there")),
            }),
            Action::Write {
                role,
                path,
                content,
            } => look_at_write(files, *role, path, content),
            Action::Remove {
                role,
                path,
                content,
            } => look_at_remove(files, *role, path, content),
            Action::RemoveFolder { path } => Ok(match entry(files, path.as_path())? {
                Some(Entry::Folder(_)) => {
                    // Others' files in it stay, and the folder with them.
                    let names = files
                        .list(path.as_path())
                        .with_context(|| format!("reading {path}"))?;
                    ready_unless(!names.is_empty())
                }
                _ => Readiness::Done,
            }),
            Action::CloseFence { unit } => {
                let marker = ManagedPath::fence(unit);
                Ok(ready_unless(entry(files, marker.as_path())?.is_some()))
            }
            Action::OpenFence { unit } => {
                let marker = ManagedPath::fence(unit);
                Ok(ready_unless(entry(files, marker.as_path())?.is_none()))
            }
            Action::Reload => Ok(ready_unless(!self.changed)),
            Action::Enable { links, .. } => {
                Ok(ready_unless(existing(files, links)? == links.len()))
            }
            Action::Disable { links, .. } => Ok(ready_unless(existing(files, links)? == 0)),
            Action::SetLink { link, from, to } => look_at_link(files, link, from, to),
            Action::Stop { unit } => Ok(ready_unless(!self.activity(unit)?.is_up())),
            Action::CheckFenced { units } => self.look_at_fence(units),
            Action::ProveStopped { unit } => self.look_at_stopped(unit),
            Action::Record { .. } | Action::Watch { .. } => Ok(Readiness::Ready),
            Action::CheckHeights { files } => Ok(self.look_at_heights(files)),
            Action::LayFloor { floor, .. } => self.look_at_floor(floor),
            Action::WithdrawFloor { floor } => Ok(match entry(files, floor.path())? {
                Some(Entry::File(_)) => {
                    let bytes = files
                        .read(floor.path())
                        .with_context(|| format!("reading {}", floor.path().display()))?;
                    // What tmkms signed on stays.
                    ready_unless(bytes != floor.bytes())
                }
                _ => Readiness::Done,
            }),
            Action::CheckHalted { files } => Ok(self.look_at_halt(files)),
            Action::Start { unit } => Ok(ready_unless(self.activity(unit)?.runs())),
        }
    }

    fn activity(&mut self, unit: &UnitName) -> Result<Activity> {
        let units = std::slice::from_ref(unit);
        let answer = self.host.services.activities(units)?.pop();
        answer.with_context(|| format!("systemd says nothing of {unit}"))
    }

    /// What the manager has loaded, not what lies on disk.
    fn look_at_fence(&mut self, units: &[UnitName]) -> Result<Readiness> {
        let answers = self.host.services.barred_by(units);
        for (unit, barred_by) in units.iter().zip(answers) {
            let marker = ManagedPath::fence(unit);
            let barred_by = match barred_by {
                Ok(paths) => paths,
                Err(e) if self.is_gone(unit)? => {
                    // What the manager doesn't have can't be started by anything.
                    drop(e);
                    continue;
                }
                Err(e) => return Err(e),
            };
            if !barred_by.iter().any(|path| path == marker.as_path()) {
                return Ok(drifted(format!(
                    "systemd doesn't heed {marker}: no assertion of {unit} names it; look for a drop-in that takes \
                     {} back (`systemctl cat {unit}`)",
                    ManagedPath::drop_in(unit)
                )));
            }
        }
        Ok(Readiness::Done)
    }

    /// No unit file where kmsctl puts its own, and nothing of it runs.
    fn is_gone(&mut self, unit: &UnitName) -> Result<bool> {
        for file in [Some(unit), unit.template().as_ref()].into_iter().flatten() {
            if entry(&*self.host.files, ManagedPath::unit(file).as_path())?.is_some() {
                return Ok(false);
            }
        }
        Ok(!self.host.services.run(unit)?.state.is_up())
    }

    /// Rule S4. Unknown counts as running.
    fn look_at_stopped(&mut self, unit: &UnitName) -> Result<Readiness> {
        let run = self.host.services.run(unit)?;
        if run.state.is_up() || run.state.main_pid != 0 {
            return Ok(drifted(format!(
                "{unit} is {} ({}), not stopped",
                run.state.active, run.state.sub
            )));
        }
        let left = self.host.processes.left(unit, &run.control_group)?;
        if !left.in_unit.is_empty() {
            return Ok(drifted(format!(
                "{unit} is stopped, and its processes {:?} still run",
                left.in_unit
            )));
        }
        if let Some(process) = self.stray(left.signers)? {
            let config = match &process.config {
                Some(config) => config.display().to_string(),
                None => "a config that can't be read".to_owned(),
            };
            return Ok(drifted(format!(
                "process {} runs tmkms on {config}, and it is no signer known when this began: end it before anything \
                 else",
                process.pid
            )));
        }
        Ok(Readiness::Done)
    }

    /// A signing process that no known unit runs. One that another lane is just stopping may be gone before its unit is
    /// asked about: only what is still there then counts.
    fn stray(&mut self, seen: Vec<SignerProcess>) -> Result<Option<SignerProcess>> {
        let mut unknown = Vec::new();
        for process in &seen {
            if !self.is_known(process, &seen)? {
                unknown.push(process);
            }
        }
        if unknown.is_empty() {
            return Ok(None);
        }
        let still = self.host.processes.signers()?;
        let there = |p: &&&SignerProcess| still.contains(p);
        Ok(unknown.iter().find(there).map(|p| (*p).clone()))
    }

    /// Learns which processes run now for known units, before any signer is dark: each signer's proof looks at all others.
    pub(super) fn prove_running(&mut self) -> Result<()> {
        let seen = self.host.processes.signers()?;
        let unit = |p: &SignerProcess| p.unit.as_ref()?.parse::<UnitName>().ok();
        let units = seen.iter().filter_map(unit);
        let units: BTreeSet<UnitName> = units.filter(|u| self.known.contains_key(u)).collect();
        let units: Vec<UnitName> = units.into_iter().collect();
        let states = self.host.services.run_states(&units);
        for (unit, run) in units.into_iter().zip(states) {
            // One that can't be looked at now is looked at again where it counts.
            let run = run.unwrap_or_default();
            if seen.iter().any(|process| process.pid == run.main_pid) {
                self.proven.insert((run.main_pid, unit));
            }
        }
        Ok(())
    }

    /// Whether a process is the main one of a unit that was judged before the operation began. Each is asked about
    /// once: a process doesn't change its unit.
    fn is_known(&mut self, process: &SignerProcess, seen: &[SignerProcess]) -> Result<bool> {
        let Some(unit) = process
            .unit
            .as_deref()
            .and_then(|u| u.parse::<UnitName>().ok())
        else {
            return Ok(false);
        };
        let key = (process.pid, unit);
        if self.proven.contains(&key) {
            return Ok(true);
        }
        let Some(config) = self.known.get(&key.1) else {
            return Ok(false);
        };
        let alone = || seen.iter().filter(|p| p.unit == process.unit).count() == 1;
        let started = self.started.contains(&key.1) && process.config.as_ref() == Some(config);
        if started && alone() {
            self.proven.insert(key);
            return Ok(true);
        }
        let main = process.is_main(&self.host.services.run(&key.1)?.state, config, seen);
        if main {
            self.proven.insert(key);
        }
        Ok(main)
    }

    /// The chain that is left stood still until its signer was stopped.
    fn look_at_halt(&self, files: &[Stood]) -> Readiness {
        for file in files {
            let reading = discover::state(&*self.host.files, &file.state_file);
            if let Some(why) = file.halt.broken_by(&reading) {
                return drifted(format!("{} {why}", file.state_file.display()));
            }
        }
        Readiness::Done
    }

    /// A file that is at least as high protects as much.
    fn look_at_floor(&self, floor: &Floor) -> Result<Readiness> {
        let path = floor.path();
        let found = match discover::state(&*self.host.files, path) {
            StateReading::Missing => match self.ledger.highest(path) {
                None => return Ok(Readiness::Ready),
                Some(known) => {
                    return Ok(drifted(format!(
                        "{} is missing, and a journal saw it at {known}: find the file; a floor doesn't replace it",
                        path.display()
                    )));
                }
            },
            StateReading::Read(state) if state >= floor.state() => return Ok(Readiness::Done),
            StateReading::Read(state) => format!("is at {state}"),
            StateReading::Link => "is a link".into(),
            StateReading::Unreadable(why) => format!("can't be read: {why}"),
        };
        Ok(drifted(format!(
            "{} is there and {found}: a floor is only made where there is no state file",
            path.display()
        )))
    }

    /// Rule S6.
    fn look_at_heights(&self, files: &[ChainFile]) -> Readiness {
        for file in files {
            let path = &file.state_file;
            let known = self.ledger.highest(path);
            let found = match (discover::state(&*self.host.files, path), known) {
                (StateReading::Missing, None) => continue,
                (StateReading::Read(state), known) if known.is_none_or(|k| state >= k) => continue,
                (StateReading::Read(state), _) => format!("is at {state}"),
                (StateReading::Missing, _) => "is missing".into(),
                (StateReading::Link, _) => "is a link".into(),
                (StateReading::Unreadable(why), _) => format!("can't be read: {why}"),
            };
            let known = known
                .map(|k| format!(", and a journal saw it at {k}"))
                .unwrap_or_default();
            return drifted(format!(
                "{} {found}{known}: starting on it could sign twice; find the right file",
                path.display()
            ));
        }
        Readiness::Done
    }
}

fn entry(files: &dyn Files, path: &Path) -> Result<Option<Entry>> {
    files
        .entry(path)
        .with_context(|| format!("looking at {}", path.display()))
}

fn look_at_link(
    files: &dyn Files,
    link: &ManagedLink,
    from: &Option<PathBuf>,
    to: &Option<PathBuf>,
) -> Result<Readiness> {
    let there = match entry(files, link.as_path())? {
        None => None,
        Some(Entry::Link(target)) => Some(target),
        Some(_) => {
            return Ok(drifted(format!(
                "{link} is no link: take away what is there"
            )));
        }
    };
    let names = |target: &Option<PathBuf>| match target {
        Some(target) => format!("names {}", target.display()),
        None => "is gone".to_owned(),
    };
    Ok(if there == *to {
        Readiness::Done
    } else if there == *from {
        Readiness::Ready
    } else {
        drifted(format!(
            "{link} {}, and when the plan was made it {}: put it back",
            names(&there),
            names(from).replace("is gone", "wasn't there")
        ))
    })
}

fn existing(files: &dyn Files, links: &[PathBuf]) -> Result<usize> {
    let mut count = 0;
    for link in links {
        count += usize::from(entry(files, link)?.is_some());
    }
    Ok(count)
}

/// The text that a file is to hold, its source read anew.
pub(super) fn wanted(files: &dyn Files, role: Role, content: &Content) -> Result<String, String> {
    let source = match content {
        Content::Text { .. } => None,
        Content::Derived { source, .. } => Some(read_text(files, source)?),
    };
    render::text(role, content, source.as_deref())
}

fn read_text(files: &dyn Files, path: &Path) -> Result<String, String> {
    let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let bytes = files.read(path).map_err(|e: io::Error| explain(&e))?;
    String::from_utf8(bytes).map_err(|_| explain(&"it isn't UTF-8"))
}

fn look_at_write(
    files: &dyn Files,
    role: Role,
    path: &ManagedPath,
    content: &Content,
) -> Result<Readiness> {
    let text = match wanted(files, role, content) {
        Ok(text) => text,
        Err(why) => {
            return Ok(drifted(format!(
                "{why}; put it back as it was, or take the operation back and plan again"
            )));
        }
    };
    Ok(match entry(files, path.as_path())? {
        None => Readiness::Ready,
        Some(Entry::File(_)) => {
            let bytes = files
                .read(path.as_path())
                .with_context(|| format!("reading {path}"))?;
            if bytes == text.as_bytes() {
                Readiness::Done
            } else {
                drifted(format!(
                    "{path} is no longer the plan's: look at what changed it, `kmsctl unstage`, then stage again"
                ))
            }
        }
        Some(_) => drifted(format!(
            "{path} is no regular file: take away what is there"
        )),
    })
}

pub fn look_at_remove(
    files: &dyn Files,
    role: Role,
    path: &ManagedPath,
    content: &Content,
) -> Result<Readiness> {
    Ok(match entry(files, path.as_path())? {
        None => Readiness::Done,
        Some(Entry::File(_)) => match read_text(files, path.as_path()) {
            Ok(text) if render::is_result(role, content, &text) => Readiness::Ready,
            _ => drifted(format!(
                "{path} was changed since it was staged: look at it, then take it away by hand"
            )),
        },
        Some(_) => drifted(format!("{path} is no regular file: take it away by hand")),
    })
}
