//! The one loop: performs a program's steps, with their intents durable before every effect (rule S8).
//!
//! Each signer is a lane; a few lanes are in flight at once. Every turn of the loop looks at what is really there for
//! each lane's next step, writes the intents of all steps that are ready with one fsync, performs them, and waits for
//! the next event. What is so already is noted and passed over, which is all that resuming after a death needs. The
//! loop decides nothing: the plan did.

mod admission;
mod lane;
pub mod look;
mod perform;
pub mod sessions;
mod stood;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

use admission::Admitted;
use lane::{At, Progress};
use sessions::Sessions;
use watch::{Again, GATHER, LOOK_AGAIN, LOOK_LATER, PATIENCE, STATE_WITHIN};

use crate::host::{Host, Ticket};
use crate::inventory::UnitRun;
use crate::journal::Record;
use crate::journal::store::Writer;
use crate::kms::tmkms::last_words;
use crate::ledger::Ledger;
use crate::plan::program::{Action, Lane, Program, Step, StepId};
use crate::unit::UnitName;

/// What looking at the host says about a step, before doing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is so already.
    Done,
    Ready,
    /// It is neither as before the step nor as after it, or a condition of the step doesn't hold.
    Drifted {
        found: String,
    },
}

/// What happens while a program runs, for whoever shows it.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A step is about to be done. `signer` is none for the steps that all share.
    Doing {
        signer: Option<&'a str>,
        step: &'a Step,
    },
    Done {
        signer: Option<&'a str>,
        step: &'a Step,
        already: bool,
    },
    Failed {
        signer: Option<&'a str>,
        step: &'a Step,
        error: &'a str,
    },
    LaneDone {
        signer: &'a str,
    },
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    /// It stopped early: those in flight were brought to an end.
    Stopped {
        failures: Vec<(StepId, String)>,
        interrupted: bool,
    },
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Lanes in flight. systemd does one job at a time: two keep it busy, and more only lengthen each one's dark time
    /// (docs/performance.md).
    pub parallel: usize,
    /// The first signer that is started goes alone; the others wait until it was watched.
    pub canary: bool,
    /// Where a signer fails no other is begun. On a way back each that can come back does.
    pub stops_at_failure: bool,
    /// How long a started signer is watched.
    pub soak: Duration,
    /// Systemd has limits of its own (90 s by default); this one only keeps a lost signal from hanging kmsctl.
    pub job_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            parallel: 2,
            canary: false,
            stops_at_failure: true,
            soak: Duration::from_secs(10),
            job_limit: Duration::from_secs(300),
        }
    }
}

/// A program being performed.
pub struct Run<'a> {
    pub host: &'a mut Host,
    pub journal: &'a mut Writer,
    pub ledger: &'a mut Ledger,
    pub settings: Settings,
    /// Raised by a signal: nothing new is begun.
    pub interrupt: &'a AtomicBool,
    pub events: &'a mut dyn FnMut(Event<'_>),
    /// The units that may run: those that were judged not to share a key or a state file with the ones that start.
    pub known: BTreeMap<UnitName, PathBuf>,
    /// Units that it starts or has started.
    pub started: BTreeSet<UnitName>,
    /// Processes found to be the main ones of known units.
    pub proven: BTreeSet<(u32, UnitName)>,
    /// It goes on with what a death may have cut short: what is done may not be durable, or not known to the manager.
    pub resumed: bool,
    /// The sessions of YubiHSMs.
    pub sessions: Sessions,
    /// Something was changed since the manager last read its units; true when resuming, where that isn't known.
    pub changed: bool,
}

/// What beginning a step came to.
enum Begun {
    Finished,
    Job(Ticket),
    Watching(Option<UnitRun>),
}

impl Run<'_> {
    /// Performs a program.
    ///
    /// # Errors
    /// The journal can't be made durable, or the service manager can't be asked any more: nothing more is tried.
    pub fn perform(&mut self, program: &Program) -> Result<End> {
        self.prove_running()?;
        let end = self.sequence(&program.before)?;
        if end != End::Done {
            return Ok(end);
        }
        for lanes in self.groups(&program.lanes) {
            let lanes = lanes.into_iter().map(Progress::of);
            let end = self.lanes(lanes.collect())?;
            if end != End::Done {
                return Ok(end);
            }
        }
        let end = self.all_up(&program.lanes)?;
        if end != End::Done {
            return Ok(end);
        }
        self.sequence(&program.after)
    }

    /// The lanes that may be in flight together: a canary goes first and alone.
    fn groups<'l>(&self, lanes: &'l [Lane]) -> Vec<Vec<&'l Lane>> {
        let starts = |lane: &&Lane| {
            let mut actions = lane.steps.iter().map(|s| &s.action);
            actions.any(|a| matches!(a, Action::Start { .. }))
        };
        let canary = lanes.iter().find(starts).filter(|_| self.settings.canary);
        let rest = lanes.iter();
        let rest = rest.filter(|l| canary.is_none_or(|c| c.signer != l.signer));
        let alone = canary.into_iter().map(|c| vec![c]);
        alone.chain([rest.collect()]).collect()
    }

    fn sequence(&mut self, steps: &[Step]) -> Result<End> {
        self.lanes(VecDeque::from([Progress::new(None, steps)]))
    }

    fn lanes(&mut self, mut waiting: VecDeque<Progress<'_>>) -> Result<End> {
        let mut active: Vec<Progress<'_>> = Vec::new();
        let mut failures = Vec::new();
        loop {
            let interrupted = self.interrupt.load(Ordering::Relaxed);
            let mut held = None;
            if self.goes_on(&failures) && !interrupted {
                while active.iter().filter(|l| l.in_flight()).count() < self.settings.parallel {
                    match self.admitted(&waiting, &active) {
                        Admitted::Lane(n) => active.extend(waiting.remove(n)),
                        Admitted::Later(at) => {
                            held = Some(at);
                            break;
                        }
                        Admitted::None => break,
                    }
                }
            }
            let ready = self.look_at_all(&mut active, &mut failures)?;
            if !ready.is_empty() {
                // What was looked at and recorded since shares this fsync: it is durable before anything is changed.
                self.journal.sync()?;
                for lane in ready {
                    self.begin(&mut active[lane], &mut failures)?;
                }
                continue;
            }
            active.retain(|lane| !matches!(lane.at, At::Over));
            if active.is_empty() {
                if self.goes_on(&failures) && !interrupted && !waiting.is_empty() {
                    if let Some(at) = held {
                        self.sleep_until(at)?;
                    }
                    continue;
                }
                self.journal.sync()?;
                return Ok(if failures.is_empty() && waiting.is_empty() {
                    End::Done
                } else {
                    End::Stopped {
                        failures,
                        interrupted,
                    }
                });
            }
            self.wait(&mut active, held, &mut failures)?;
        }
    }

    fn goes_on(&self, failures: &[(StepId, String)]) -> bool {
        failures.is_empty() || !self.settings.stops_at_failure
    }

    /// Passes over what is done already and writes the intents of what is ready; the lanes that are.
    fn look_at_all(
        &mut self,
        active: &mut [Progress<'_>],
        failures: &mut Vec<(StepId, String)>,
    ) -> Result<Vec<usize>> {
        let mut ready = Vec::new();
        for (n, lane) in active.iter_mut().enumerate() {
            while matches!(lane.at, At::Next) {
                let Some(step) = lane.steps.get(lane.next) else {
                    lane.at = At::Over;
                    if let Some(signer) = lane.signer {
                        (self.events)(Event::LaneDone { signer });
                    }
                    break;
                };
                // What can't be looked at is unknown: this lane stops, the others are brought to their ends.
                let readiness = self
                    .look_at(lane, &step.action)
                    .and_then(|readiness| {
                        if self.resumed && readiness == Readiness::Done {
                            self.make_durable(&step.action)?;
                        }
                        if readiness == Readiness::Done {
                            self.stood(step)?;
                        }
                        Ok(readiness)
                    })
                    .unwrap_or_else(|e| Readiness::Drifted {
                        found: format!("{e:#}"),
                    });
                match readiness {
                    Readiness::Done => self.done(lane, step, true)?,
                    Readiness::Ready if self.is_held(lane, step) => break,
                    Readiness::Ready => {
                        self.journal.append(&Record::Intent {
                            step: step.id.clone(),
                        })?;
                        if step.action.only_looks() {
                            self.begin(lane, failures)?;
                            continue;
                        }
                        ready.push(n);
                        break;
                    }
                    Readiness::Drifted { found } => self.failed(lane, step, found, failures)?,
                }
            }
        }
        Ok(ready)
    }

    fn begin(
        &mut self,
        lane: &mut Progress<'_>,
        failures: &mut Vec<(StepId, String)>,
    ) -> Result<()> {
        let step = &lane.steps[lane.next];
        (self.events)(Event::Doing {
            signer: lane.signer,
            step,
        });
        hold_before(&step.id);
        let now = self.host.clock.elapsed();
        match self.act(step) {
            Ok(Begun::Finished) => self.done(lane, step, false)?,
            Ok(Begun::Job(ticket)) => {
                lane.at = At::Job {
                    ticket,
                    deadline: now + self.settings.job_limit,
                };
            }
            Ok(Begun::Watching(before)) => {
                let runs = before.as_ref().map(|run| run.state.activity().runs());
                let soak = match runs {
                    Some(true) => self.settings.soak,
                    // One that doesn't run is judged at once.
                    Some(false) => Duration::ZERO,
                    // tmkms makes its state file first.
                    None => LOOK_AGAIN,
                };
                lane.at = At::Watching {
                    until: now + soak,
                    latest: now + STATE_WITHIN,
                    before,
                    patience: *lane.patience.get_or_insert(now + PATIENCE),
                };
            }
            Err(error) => self.failed(lane, step, format!("{error:#}"), failures)?,
        }
        Ok(())
    }

    fn wait(
        &mut self,
        active: &mut [Progress<'_>],
        held: Option<Duration>,
        failures: &mut Vec<(StepId, String)>,
    ) -> Result<()> {
        let now = self.host.clock.elapsed();
        // Others may be dark, and none that is watched is: those wait a little, and are looked at together.
        let dark = active.iter().any(|lane| matches!(lane.at, At::Job { .. }));
        let later = if dark { GATHER } else { Duration::ZERO };
        let next = active.iter().filter_map(|lane| match &lane.at {
            At::Job { deadline, .. } => Some(*deadline),
            At::Held { until } => Some(*until),
            At::Watching { until, .. } => Some(*until + later),
            At::Next | At::Over => None,
        });
        // A signal is seen within a second.
        let within = next.chain(held).min().unwrap_or(now).saturating_sub(now);
        let within = within.min(Duration::from_secs(1));
        let mut ended = self.host.services.next_end(within)?;
        let any = ended.is_some();
        // What has come in by now shares one fsync.
        while let Some(end) = ended {
            // Ends of jobs that others began pass by.
            let lane = active
                .iter_mut()
                .find(|l| matches!(&l.at, At::Job { ticket, .. } if *ticket == end.ticket));
            if let Some(lane) = lane {
                let step = &lane.steps[lane.next];
                match perform::job_failure(&step.action, end.ended) {
                    None => self.done(lane, step, false)?,
                    Some(error) => self.failed(lane, step, error, failures)?,
                }
            }
            ended = self.host.services.next_end(Duration::ZERO)?;
        }
        if any {
            return Ok(());
        }
        let now = self.host.clock.elapsed();
        let mut watched = self.due(active, now.saturating_sub(later));
        for (n, lane) in active.iter_mut().enumerate() {
            let step = lane.steps.get(lane.next);
            match (&lane.at, step) {
                (At::Job { deadline, .. }, Some(step)) if now >= *deadline => {
                    let error = "systemd didn't end the job in time; see `systemctl list-jobs`";
                    self.failed(lane, step, error.into(), failures)?;
                }
                (At::Held { until }, _) if now >= *until => lane.at = At::Next,
                (
                    At::Watching {
                        latest,
                        before,
                        patience,
                        ..
                    },
                    Some(step),
                ) => {
                    let Some(activity) = watched.remove(&n) else {
                        continue;
                    };
                    let (latest, patience, before) = (*latest, *patience, before.clone());
                    if now < latest && self.comes_up(step, before.as_ref()).unwrap_or(false) {
                        lane.at = At::Watching {
                            until: now + LOOK_AGAIN,
                            latest,
                            before,
                            patience,
                        };
                        continue;
                    }
                    match self.watched(step, before.as_ref(), activity)? {
                        None => self.done(lane, step, false)?,
                        Some(error) => match self.without_session(step, before, patience) {
                            Some(Again::Watch(at)) => lane.at = at,
                            Some(Again::Start) => lane.back_to_heights(now + LOOK_LATER),
                            None => self.failed(lane, step, error, failures)?,
                        },
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn done(&mut self, lane: &mut Progress<'_>, step: &Step, already: bool) -> Result<()> {
        self.journal.append(&Record::Done {
            step: step.id.clone(),
            already,
        })?;
        match (&step.action, &lane.needs) {
            (Action::Stop { unit }, _) => {
                self.sessions.stopped(unit, self.host.clock.elapsed());
            }
            (Action::LayFloor { floor, .. }, _) => self.ledger.saw(floor.path(), floor.state()),
            (Action::WithdrawFloor { floor }, _) if !already => self.ledger.forget(floor),
            (Action::Start { unit }, Some((_, device))) => self.sessions.started(unit, device),
            _ => {}
        }
        lane.opened = !already && matches!(step.action, Action::OpenFence { .. });
        if !already {
            self.changed = !matches!(step.action, Action::Reload);
        }
        lane.next += 1;
        lane.at = At::Next;
        (self.events)(Event::Done {
            signer: lane.signer,
            step,
            already,
        });
        Ok(())
    }

    fn failed(
        &mut self,
        lane: &mut Progress<'_>,
        step: &Step,
        mut error: String,
        failures: &mut Vec<(StepId, String)>,
    ) -> Result<()> {
        if let Action::Start { unit } | Action::Watch { unit, .. } = &step.action {
            error += &last_words::of(self.host, unit, self.journal.opened_at());
        }
        self.journal.append(&Record::Failed {
            step: step.id.clone(),
            error: error.clone(),
        })?;
        lane.at = At::Over;
        (self.events)(Event::Failed {
            signer: lane.signer,
            step,
            error: &error,
        });
        failures.push((step.id.clone(), error));
        Ok(())
    }
}

/// Lets a test hold kmsctl right before a step's effect, its intent durable: until a file is there, or for good.
#[cfg(feature = "failpoints")]
fn hold_before(step: &StepId) {
    if std::env::var("KMSCTL_HOLD_BEFORE").is_ok_and(|held| held == step.0) {
        let until = std::env::var_os("KMSCTL_HOLD_UNTIL").map(PathBuf::from);
        while !until.as_ref().is_some_and(|path| path.exists()) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(not(feature = "failpoints"))]
fn hold_before(_step: &StepId) {}
