//! The world around kmsctl: a disk, systemd's jobs, signers that sign, validators that go on. Everything that changes it
//! comes through here, so that a process can die right before any change and every rule is judged right after it.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kmsctl::host::model::{RUNNING, Running};
use kmsctl::host::{Ended, Job, JobEnd, Services, Ticket};
use kmsctl::unit::UnitName;

use crate::disk::Loss;
use crate::fate::{OtherHand, due};
use crate::fleet;
use crate::state::State;
use crate::witness::Effect;

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
        match end.ended {
            Ended::Job(result) => result,
            Ended::Refused(why) => why,
        }
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
            ended: Ended::Job("canceled".into()),
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
        self.state.borrow_mut().ends.push(JobEnd {
            ticket,
            ended: Ended::Job(result),
        });
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

/// A path below a folder of kmsctl's own.
pub fn own(name: &str) -> PathBuf {
    Path::new(kmsctl::host::memory::FOLDER).join(name)
}

/// The bytes of a read, as kmsctl wants them.
pub fn owned(bytes: Arc<[u8]>) -> Vec<u8> {
    bytes.to_vec()
}
