//! The test of the test: each rule is broken once on purpose, between kmsctl and the world, and the witness has to say
//! which.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use kmsctl::content::Fingerprint;
use kmsctl::floor::Floor;
use kmsctl::host::memory::{Lock, Log, Store};
use kmsctl::host::{Entry, Files, Like, Processes};
use kmsctl::inventory::{Connection, SignerProcess};
use kmsctl::paths::{ManagedLink, ManagedPath};
use kmsctl::unit::UnitName;
use tmkms_core::protocol::TmkmsVersion;

use crate::fate::{Fate, OtherHand};
use crate::fleet::{HALT, state_text};
use crate::hands::{Between, Own};
use crate::night::Night;

const FIRST: &str = "/var/lib/tmkms/1.json";

fn reports(night: &Night, rule: &str) -> bool {
    let state = night.world.state.borrow();
    state.witness.broken.iter().any(|b| b.starts_with(rule))
}

fn night(between: Between) -> Night {
    let mut night = Night::planned(Fate::kind(6));
    night.between = between;
    night
}

/// Applies with something broken: the rule has to be reported.
#[track_caller]
fn apply_breaks(rule: &str, between: Between) {
    let night = night(between);
    let said = night.kmsctl("apply");
    let broken = &night.world.state.borrow().witness.broken;
    assert!(
        reports(&night, rule),
        "{rule} isn't in {broken:?}; {said:?}"
    );
}

/// The same, with another hand at some instant.
#[track_caller]
fn apply_breaks_with(rules: &[&str], hand: OtherHand, between: Between) {
    // From where the first signer is switched.
    let found = (200..400).step_by(7).any(|at| {
        let night = night(between);
        *night.world.second.borrow_mut() = Some(night.second());
        night.world.state.borrow_mut().fate.hand_in = Some((at, hand));
        night.kmsctl("apply");
        rules.iter().all(|rule| reports(&night, rule))
    });
    assert!(found, "{rules:?} are never reported");
}

/// Files with one lie.
struct Lying {
    own: Own,
    lie: Lie,
}

#[derive(Clone, Copy)]
enum Lie {
    /// This file is said to be written, and isn't.
    Swallows(&'static str),
    /// This file is written with other words in it.
    Changes(&'static str, &'static str, &'static str),
    /// A state file is written along.
    WritesState,
    /// A state file reads as if nothing was lost.
    ReadsHigh,
}

impl Files for Lying {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.own.entry(path)
    }

    fn fingerprint(&self, path: &Path) -> io::Result<Fingerprint> {
        self.own.fingerprint(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if matches!(self.lie, Lie::ReadsHigh) && path == Path::new(FIRST) {
            return Ok(state_text(HALT, 0, 2).into_bytes());
        }
        Files::read(&self.own, path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        Files::list(&self.own, folder)
    }

    fn resolve(&self, folder: &Path) -> io::Result<PathBuf> {
        self.own.resolve(folder)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.own.sync(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.own.sync_folder(folder)
    }

    fn create_folder(&self, path: &ManagedPath) -> io::Result<()> {
        self.own.create_folder(path)
    }

    fn create(&self, path: &ManagedPath, bytes: &[u8], like: &Like) -> io::Result<()> {
        match self.lie {
            Lie::Swallows(name) if path.as_path().ends_with(name) => Ok(()),
            Lie::Changes(name, from, to) if path.as_path().ends_with(name) => {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                assert!(text.contains(from), "{text}");
                self.own
                    .create(path, text.replace(from, to).as_bytes(), like)
            }
            Lie::WritesState => {
                let text = state_text(HALT + 9, 0, 2);
                let disk = &mut self.own.world.state.borrow_mut().disk;
                disk.write(Path::new(FIRST), text.as_bytes())
            }
            _ => self.own.create(path, bytes, like),
        }
    }

    fn lay_floor(&self, floor: &Floor, like: &Path) -> io::Result<()> {
        self.own.lay_floor(floor, like)
    }

    fn withdraw_floor(&self, floor: &Floor) -> io::Result<()> {
        self.own.withdraw_floor(floor)
    }

    fn remove(&self, path: &ManagedPath) -> io::Result<()> {
        self.own.remove(path)
    }

    fn set_link(&self, link: &ManagedLink, target: Option<&Path>) -> io::Result<()> {
        self.own.set_link(link, target)
    }
}

/// kmsctl's memory with one lie.
struct Forgetful {
    own: Own,
    lie: Forgets,
}

#[derive(Clone, Copy, PartialEq)]
enum Forgets {
    /// The journal's fsync does nothing.
    Sync,
    /// What was seen of state files isn't written.
    States,
    /// The lock is given to everybody.
    Lock,
}

impl Store for Forgetful {
    fn place(&self) -> PathBuf {
        self.own.place()
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Store::read(&self.own, name)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.own.replace(name, bytes)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Store::list(&self.own, folder)
    }

    fn log(&self, name: &str, keep: u64) -> io::Result<Box<dyn Log>> {
        Ok(Box::new(ForgetfulLog {
            inner: self.own.log(name, keep)?,
            lie: self.lie,
        }))
    }

    fn lock(&self) -> io::Result<Option<Lock>> {
        Ok(match self.own.lock()? {
            None if self.lie == Forgets::Lock => Some(Lock::by(())),
            lock => lock,
        })
    }

    fn is_locked(&self) -> io::Result<bool> {
        self.own.is_locked()
    }
}

struct ForgetfulLog {
    inner: Box<dyn Log>,
    lie: Forgets,
}

impl Log for ForgetfulLog {
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.inner.reserve(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.lie != Forgets::States {
            return self.inner.append(bytes);
        }
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let kept = text.split_inclusive('\n');
        let kept: String = kept
            .filter(|l| !l.contains(r#""record":"state""#))
            .collect();
        self.inner.append(kept.as_bytes())
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.lie {
            Forgets::Sync => Ok(()),
            _ => self.inner.sync(),
        }
    }
}

/// Processes without those that a stop left behind.
struct Blind(Box<dyn Processes>);

impl Processes for Blind {
    fn signers(&mut self) -> Result<Vec<SignerProcess>> {
        let mut seen = self.0.signers()?;
        seen.retain(|p| p.argv.iter().any(|word| word == "-c"));
        Ok(seen)
    }

    fn in_unit(&mut self, _unit: &UnitName, _control_group: &str) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }

    fn connections(&mut self, pid: u32) -> Result<Vec<Connection>> {
        self.0.connections(pid)
    }

    fn last_lines(
        &mut self,
        unit: &UnitName,
        since: jiff::Timestamp,
        lines: usize,
    ) -> Result<Vec<String>> {
        self.0.last_lines(unit, since, lines)
    }

    fn tmkms_version(&mut self, program: &Path, user: &str) -> Result<Option<TmkmsVersion>> {
        self.0.tmkms_version(program, user)
    }

    fn is_program(&self, path: &Path) -> Option<bool> {
        self.0.is_program(path)
    }

    fn operator(&self) -> String {
        self.0.operator()
    }
}

#[test]
fn a_fence_that_isn_t_there() {
    let between = Between {
        files: |own| {
            Box::new(Lying {
                own,
                lie: Lie::Swallows("tmkms-02.service.closed"),
            })
        },
        ..Between::default()
    };
    apply_breaks_with(&["S1", "S4"], OtherHand::StartAll, between);
}

#[test]
fn another_state_file_for_a_chain() {
    let files = |own| -> Box<dyn Files> {
        let lie = Lie::Changes("2.v2.toml", "2-other.json", "2-another.json");
        Box::new(Lying { own, lie })
    };
    apply_breaks(
        "S2",
        Between {
            files,
            ..Between::default()
        },
    );
}

#[test]
fn a_state_file_written() {
    let files = |own| -> Box<dyn Files> {
        let lie = Lie::WritesState;
        Box::new(Lying { own, lie })
    };
    apply_breaks(
        "S3",
        Between {
            files,
            ..Between::default()
        },
    );
}

#[test]
fn a_process_not_seen() {
    let night = night(Between {
        processes: |inner| Box::new(Blind(inner)),
        ..Between::default()
    });
    night.world.state.borrow_mut().fate.lingers = Some(1);
    night.kmsctl("apply");
    assert!(reports(&night, "S4"));
    // Seen, it is no start.
    let night = self::night(Between::default());
    night.world.state.borrow_mut().fate.lingers = Some(1);
    night.kmsctl("apply");
    night.sound("a process left behind");
}

#[test]
fn a_record_without_its_bytes() {
    let store = |own| -> Box<dyn Store> {
        let lie = Forgets::States;
        Box::new(Forgetful { own, lie })
    };
    apply_breaks(
        "S5",
        Between {
            store,
            ..Between::default()
        },
    );
}

#[test]
fn a_state_file_read_higher_than_it_is() {
    for lies in [false, true] {
        let mut night = night(Between::default());
        night.ends(true, "apply");
        night.world.state.borrow_mut().fate.new_chain_lives = false;
        night.world.state.borrow_mut().set_back(Path::new(FIRST));
        if lies {
            night.between.files = |own| {
                let lie = Lie::ReadsHigh;
                Box::new(Lying { own, lie })
            };
        }
        night.kmsctl("rollback");
        assert_eq!(reports(&night, "S6"), lies);
    }
}

#[test]
fn an_intent_that_isn_t_durable() {
    let store = |own| -> Box<dyn Store> {
        let lie = Forgets::Sync;
        Box::new(Forgetful { own, lie })
    };
    apply_breaks(
        "S8",
        Between {
            store,
            ..Between::default()
        },
    );
}

#[test]
fn two_at_once() {
    let store = |own| -> Box<dyn Store> {
        let lie = Forgets::Lock;
        Box::new(Forgetful { own, lie })
    };
    apply_breaks_with(
        &["S9"],
        OtherHand::Kmsctl,
        Between {
            store,
            ..Between::default()
        },
    );
}

#[test]
fn a_second_signature() {
    let night = night(Between::default());
    night.world.state.borrow_mut().fate.old_chain_lives = true;
    let live = || {
        for _ in 0..50 {
            night.world.settle();
        }
    };
    live();
    night.sound("signing");
    night.world.state.borrow_mut().set_back(Path::new(FIRST));
    live();
    assert!(reports(&night, "double signature"));
}
