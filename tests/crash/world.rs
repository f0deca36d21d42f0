//! The world around kmsctl: a disk, systemd's jobs, signers that sign, validators that go on. Everything that changes it
//! comes through here, so that a process can die right before any change and every rule is judged right after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kmsctl::host::model::{RUNNING, Running};
use kmsctl::host::{Job, JobEnd, Services, Ticket};
use kmsctl::unit::UnitName;
use tmkms_core::state::SignState;

use crate::disk::{Disk, Hand, Loss};
use crate::fate::{Fate, OtherHand, due};
use crate::fleet::{self, HALT, NEW, OLD, STAYS};
use crate::witness::{Chain, Effect, Process, Witness};

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
    queue: Vec<(Ticket, Job)>,
    ends: Vec<JobEnd>,
    tickets: u32,
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
                1 if self.fate.new_chain_lives => (NEW, at(u64::MAX, 0, 0)),
                _ => (STAYS, at(u64::MAX, 0, 0)),
            };
            let asked = self.running.values().flat_map(|p| &p.chains);
            if asked.into_iter().any(|c| c.id == id)
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
                if self.fate.dice.chance(2) {
                    self.sign(process, chain);
                }
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
            .filter(|(_, run)| run.main_pid != 0)
            .map(|(unit, run)| (unit, run.main_pid))
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

pub type Wrapped = Rc<RefCell<Box<dyn Services>>>;

pub struct World {
    pub state: RefCell<State>,
    /// Every instant, when it is filmed.
    film: RefCell<Option<Vec<State>>>,
    /// The modelled systemd of the host that is open.
    pub systemd: RefCell<Option<Wrapped>>,
    /// What a second kmsctl does when fate has one.
    pub second: RefCell<Option<Rc<dyn Fn()>>>,
}

pub fn died() -> io::Error {
    io::Error::other("this process is dead")
}

impl World {
    pub fn of(state: State) -> Rc<World> {
        Rc::new(World {
            state: RefCell::new(state),
            film: RefCell::new(None),
            systemd: RefCell::new(None),
            second: RefCell::new(None),
        })
    }

    /// Films from here on.
    pub fn film(&self) {
        *self.film.borrow_mut() = Some(vec![self.state.borrow().clone()]);
    }

    pub fn filmed(&self) -> Vec<State> {
        self.film.borrow_mut().take().unwrap_or_default()
    }

    /// Reads, if the process lives.
    pub fn look<T>(
        &self,
        process: u32,
        look: impl FnOnce(&State) -> io::Result<T>,
    ) -> io::Result<T> {
        let state = self.state.borrow();
        match state.alive.contains(&process) {
            true => look(&state),
            false => Err(died()),
        }
    }

    /// Changes something for a kmsctl process: it may die right before, or fail; every rule is judged right after.
    pub fn change<T>(
        &self,
        process: u32,
        effect: Option<&Effect>,
        change: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.permit(process, effect)?;
        let changed = change(&mut self.state.borrow_mut());
        self.settle();
        changed
    }

    /// What comes before a change.
    pub fn permit(&self, process: u32, effect: Option<&Effect>) -> io::Result<()> {
        self.meanwhile(process);
        let mut state = self.state.borrow_mut();
        if !state.alive.contains(&process) {
            return Err(died());
        }
        if due(&mut state.fate.dies_in) {
            state.alive.retain(|p| *p != process);
            return Err(died());
        }
        if due(&mut state.fate.fails_in) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(effect) = effect {
            if state.holder != Some(process) {
                let how = format!("{effect:?} by a kmsctl that doesn't hold the lock");
                state.witness.broke("S9", how);
            }
            let State { witness, disk, .. } = &mut *state;
            witness.intended(disk, effect);
        }
        Ok(())
    }

    /// What comes after a change.
    pub fn settle(&self) {
        let mut state = self.state.borrow_mut();
        state.live();
        let State { witness, disk, .. } = &mut *state;
        witness.untouched(disk);
        if !witness.broken.is_empty() {
            // Nothing after the first breach tells anything.
            state.alive.clear();
        }
        drop(state);
        if let Some(film) = &mut *self.film.borrow_mut() {
            film.push(self.state.borrow().clone());
        }
    }

    /// Others' hands, and systemd's own pace.
    fn meanwhile(&self, process: u32) {
        let hand = {
            let mut state = self.state.borrow_mut();
            let fate = &mut state.fate;
            let now = match &mut fate.hand_in {
                Some((0, hand)) => Some(*hand),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            };
            if now.is_some() {
                fate.hand_in = None;
            }
            now.filter(|_| state.alive.contains(&process))
        };
        match hand {
            Some(OtherHand::StartAll) => {
                self.state.borrow_mut().others_started = true;
                for unit in fleet::units() {
                    self.job(&Job::Start(unit));
                }
            }
            Some(OtherHand::Reload) => {
                if let Some(systemd) = &*self.systemd.borrow() {
                    systemd.borrow_mut().reload().unwrap();
                }
            }
            Some(OtherHand::Kmsctl) => {
                let second = self.second.borrow().clone();
                if let Some(second) = second {
                    second();
                }
            }
            None => {}
        }
        let early = {
            let mut state = self.state.borrow_mut();
            state.fate.wild_jobs && !state.queue.is_empty() && state.fate.dice.chance(4)
        };
        if early {
            self.do_a_job();
        }
    }

    /// Has systemd do a job now; how it ended.
    pub fn job(&self, job: &Job) -> String {
        let systemd = self.systemd.borrow().clone().unwrap();
        let mut systemd = systemd.borrow_mut();
        // A unit that isn't there can't be started: no job, no end.
        if systemd.begin(job).is_err() {
            return "failed".into();
        }
        let end = systemd.next_end(Duration::ZERO).unwrap().unwrap();
        end.result
    }

    /// Queues a job of kmsctl's.
    pub fn queue(&self, job: &Job) -> Ticket {
        let state = &mut *self.state.borrow_mut();
        if let Some((ticket, _)) = state.queue.iter().find(|(_, queued)| queued == job) {
            return ticket.clone();
        }
        let unit = |job: &Job| match job {
            Job::Start(unit) | Job::Stop(unit) => unit.clone(),
        };
        // The newer job of a unit takes the older one's place.
        let canceled = state
            .queue
            .extract_if(.., |(_, queued)| unit(queued) == unit(job));
        state.ends.extend(canceled.map(|(ticket, _)| JobEnd {
            ticket,
            result: "canceled".into(),
        }));
        state.tickets += 1;
        let ticket = Ticket(format!("job-{}", state.tickets));
        state.queue.push((ticket.clone(), job.clone()));
        ticket
    }

    /// systemd does one of the jobs that it was asked for.
    pub fn do_a_job(&self) {
        let (ticket, job, fails) = {
            let state = &mut *self.state.borrow_mut();
            let wild = state.fate.wild_jobs;
            let n = match wild {
                true => state.fate.dice.below(state.queue.len()),
                false => 0,
            };
            let (ticket, job) = state.queue.remove(n);
            (ticket, job, wild && state.fate.dice.chance(25))
        };
        let result = match fails {
            true => "timeout".into(),
            false => self.job(&job),
        };
        self.state.borrow_mut().ends.push(JobEnd { ticket, result });
    }

    /// The end of a job that kmsctl asked for; none when there is none to come.
    pub fn next_end(&self) -> Option<JobEnd> {
        let (queued, ended) = {
            let state = self.state.borrow();
            (state.queue.len(), state.ends.len())
        };
        if queued > 0 && (ended == 0 || self.state.borrow_mut().fate.dice.chance(2)) {
            self.do_a_job();
        }
        let state = &mut *self.state.borrow_mut();
        if state.ends.is_empty() {
            return None;
        }
        let n = match state.fate.wild_jobs {
            true => state.fate.dice.below(state.ends.len()),
            false => 0,
        };
        Some(state.ends.remove(n))
    }

    /// kmsctl is gone; what it asked systemd for is done all the same, now or later. Its lock is the kernel's to release.
    pub fn process_ends(&self) {
        let state = &mut *self.state.borrow_mut();
        state.alive.clear();
        state.holder = None;
        state.ends.clear();
    }

    pub fn finish_jobs(&self) {
        while !self.state.borrow().queue.is_empty() {
            self.do_a_job();
        }
        self.state.borrow_mut().ends.clear();
    }

    /// The power goes, and comes back: nothing runs yet.
    pub fn cut_off(&self, loss: Loss, spared: bool) {
        self.process_ends();
        let state = &mut *self.state.borrow_mut();
        state.others_started = true;
        state.running.clear();
        state.left_behind.clear();
        state.queue.clear();
        state.disk.crash(loss, spared, &mut state.fate.dice);
        // systemd remembers nothing; only process ids go on, so that no two are one.
        let kept = Running {
            format_version: kmsctl::host::model::RUNNING_FORMAT,
            starts: state.starts,
            ..Running::default()
        };
        state
            .disk
            .install(RUNNING, &serde_json::to_string(&kept).unwrap());
        let State { witness, disk, .. } = state;
        witness.wakes(disk);
    }

    /// Who runs and what systemd has still to do, for the report of a failing run.
    pub fn story(&self) -> String {
        let state = self.state.borrow();
        let running: Vec<_> = state.running.keys().map(UnitName::as_str).collect();
        format!("running: {running:?}, jobs: {:?}", state.queue)
    }

    /// The units that links enable.
    pub fn enabled(&self) -> Vec<UnitName> {
        let state = self.state.borrow();
        let folder = Path::new("/etc/systemd/system/multi-user.target.wants");
        let names = state.disk.list(folder).unwrap();
        // What a death left there under another name enables nothing.
        names.iter().filter_map(|name| name.parse().ok()).collect()
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

/// A path below a folder of kmsctl's own.
pub fn own(name: &str) -> PathBuf {
    Path::new(kmsctl::host::memory::FOLDER).join(name)
}

/// The bytes of a read, as kmsctl wants them.
pub fn owned(bytes: Arc<[u8]>) -> Vec<u8> {
    bytes.to_vec()
}
