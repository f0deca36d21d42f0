//! The world at an instant: what is on the disk, who runs, what systemd has still to do, how far the chains are.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use kmsctl::host::model::{RUNNING, Running};
use kmsctl::host::{Job, JobEnd, Ticket};
use kmsctl::unit::UnitName;
use tmkms_core::state::SignState;

use crate::disk::{Disk, Hand};
use crate::fate::Fate;
use crate::fleet::{self, HALT, NEW, OLD, STAYS};
use crate::witness::{Chain, Process, Witness};

/// Everything there is; a copy of it is the world at an instant.
#[derive(Clone)]
pub struct State {
    pub disk: Disk,
    pub witness: Witness,
    pub fate: Fate,
    /// Running tmkms by unit.
    pub running: BTreeMap<UnitName, Process>,
    /// Processes that their unit's stop left behind.
    pub left_behind: Vec<Process>,
    pub starts: u32,
    /// Jobs that systemd has still to do, and ends that nobody asked for yet.
    pub queue: Vec<(Ticket, Job)>,
    pub ends: Vec<JobEnd>,
    pub tickets: u32,
    /// How far each chain is.
    tips: BTreeMap<String, SignState>,
    /// The kmsctl processes that live, and the one that holds the lock.
    pub alive: Vec<u32>,
    pub processes: u32,
    pub holder: Option<u32>,
    /// Whether a boot or another hand may have started what wasn't running when the plan was made.
    pub others_started: bool,
}

fn at(height: u64, round: u32, step: u8) -> SignState {
    SignState {
        height,
        round,
        step,
    }
}

impl State {
    /// The fleet before anything happened. Its services run once a host is opened over it.
    pub fn new(fate: Fate) -> State {
        let tips = [
            (OLD, at(HALT - 1, 0, 2)),
            (NEW, at(HALT, 0, 2)),
            (STAYS, at(700, 0, 2)),
        ];
        State {
            disk: fleet::host(),
            witness: Witness::default(),
            fate,
            running: BTreeMap::new(),
            left_behind: Vec::new(),
            starts: 0,
            queue: Vec::new(),
            ends: Vec::new(),
            tickets: 0,
            tips: tips.map(|(id, at)| (id.to_owned(), at)).into(),
            alive: Vec::new(),
            processes: 0,
            holder: None,
            others_started: false,
        }
    }

    /// How many jobs systemd was asked for and hasn't done, and how many ends it has told.
    pub fn jobs(&self) -> usize {
        self.tickets as usize * 100 + self.queue.len()
    }

    /// Validators go on, and whoever runs signs what they ask for.
    pub fn live(&mut self) {
        if self.fate.dice.chance(3) {
            let (id, end) = match self.fate.dice.below(3) {
                0 => (OLD, at(HALT, 0, 2)),
                1 => (NEW, at(u64::MAX, 0, 0)),
                _ => (STAYS, at(u64::MAX, 0, 0)),
            };
            let asked = self.running.values().flat_map(|p| &p.chains);
            if self.lives(id)
                && asked.into_iter().any(|c| c.id == id)
                && let Some(tip) = self.tips.get_mut(id).filter(|tip| **tip < end)
            {
                *tip = match tip.step {
                    2 => at(tip.height + 1, 0, 1),
                    step => at(tip.height, tip.round, step + 1),
                };
            }
        }
        let signers: Vec<Process> = self
            .running
            .values()
            .chain(&self.left_behind)
            .cloned()
            .collect();
        for process in &signers {
            for chain in &process.chains {
                if self.lives(&chain.id) && self.fate.dice.chance(2) {
                    self.sign(process, chain);
                }
            }
        }
    }

    fn lives(&self, chain: &str) -> bool {
        match chain {
            OLD => self.fate.old_chain_lives,
            NEW => self.fate.new_chain_lives,
            _ => true,
        }
    }

    /// The old chain comes to its halt, and every running signer signs its last block.
    pub fn halts(&mut self) {
        self.tips.insert(OLD.to_owned(), at(HALT, 0, 2));
        let signers: Vec<Process> = self.running.values().cloned().collect();
        for process in &signers {
            for chain in process.chains.iter().filter(|c| c.id == OLD) {
                self.sign(process, chain);
            }
        }
    }

    /// As tmkms does it: under another name, renamed into place, nothing synced.
    fn sign(&mut self, process: &Process, chain: &Chain) {
        let tip = self.tips[&chain.id];
        let last = self.witness.files.get(&chain.file).map(|left| left.state);
        if last.is_none_or(|last| last >= tip) {
            return;
        }
        let text = fleet::state_text(tip.height, tip.round, tip.step);
        let temporary = chain.file.with_extension("tmp");
        // One that a power cut left; tmkms itself would take another name.
        self.disk.unlink(Hand::Tmkms, &temporary).ok();
        let written = self
            .disk
            .create(Hand::Tmkms, &temporary, text.as_bytes())
            .and_then(|()| self.disk.rename(Hand::Tmkms, &temporary, &chain.file))
            .and_then(|()| self.disk.read(&chain.file));
        match written {
            Ok(bytes) => self.witness.signs(process, chain, tip, bytes),
            Err(e) => self.witness.broke("model", format!("{e}")),
        }
    }

    /// What systemd keeps of its services was written: who is new, who is gone?
    pub fn services_changed(&mut self, bytes: &[u8]) {
        let kept: Running = serde_json::from_slice(bytes).unwrap();
        self.starts = kept.starts;
        let pids: BTreeMap<&UnitName, u32> = kept
            .units
            .iter()
            .filter(|(_, run)| run.state.main_pid != 0)
            .map(|(unit, run)| (unit, run.state.main_pid))
            .collect();
        let gone: Vec<UnitName> = self
            .running
            .iter()
            .filter(|(unit, p)| pids.get(unit) != Some(&p.pid))
            .map(|(unit, _)| unit.clone())
            .collect();
        for unit in gone {
            let process = self.running.remove(&unit);
            if let Some(once_in) = self.fate.lingers
                && self.fate.dice.chance(once_in)
            {
                self.left_behind.extend(process);
            }
        }
        for (unit, pid) in pids {
            if self.running.contains_key(unit) {
                continue;
            }
            let process = Process::of(&self.disk, unit, pid);
            let others = self.running.values().chain(&self.left_behind).cloned();
            let others: Vec<Process> = others.filter(|p| p.unit != *unit).collect();
            self.witness.starts(&self.disk, &process, &others);
            self.running.insert(unit.clone(), process);
        }
    }

    /// Another hand puts the first signer's state file back to an older one.
    pub fn set_back(&mut self, file: &Path) {
        let text = fleet::state_text(HALT - 100, 0, 2);
        self.disk.write(file, text.as_bytes()).unwrap();
        self.witness.set_back(&self.disk, file);
    }
}

/// What systemd and tmkms write.
pub fn put(state: &mut State, path: &Path, bytes: &[u8]) -> io::Result<()> {
    match state.disk.write(path, bytes) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            state.disk.create(Hand::Systemd, path, bytes)?;
        }
        other => other?,
    }
    if path == Path::new(RUNNING) {
        state.services_changed(bytes);
    }
    Ok(())
}
