//! Watches started units: the same run, no restart, their state files sane; and waits for what only time mends.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use tmkms_core::log;
use tmkms_core::state::SignState;

use super::lane::{At, Progress};
use super::perform::durable;
use super::{End, Run};
use crate::discover;
use crate::inventory::{Activity, StateReading, UnitRun};
use crate::plan::ChainFile;
use crate::plan::program::{Action, Lane, Step};
use crate::unit::UnitName;

/// What tmkms may take from its start, which is all that systemd's job waits for, to having made its state file.
pub(super) const STATE_WITHIN: Duration = Duration::from_secs(5);
/// How soon it is looked for again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long watched signers whose time is over wait for one another while others are dark, and how many are looked at
/// together: each takes two fsyncs.
pub(super) const GATHER: Duration = Duration::from_millis(40);
const TOGETHER: usize = 8;
/// How long a device without a free session is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// What is done about a signer that found no session.
pub(super) enum Again {
    Watch(At),
    /// systemd has given up on it.
    Start,
}

/// When it is looked at again.
pub(super) const LOOK_LATER: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// The watched lanes whose time was over by a moment, with whether their units run: asked in one question, for others
    /// may be dark, and wait for its answer.
    pub(super) fn due(
        &mut self,
        active: &[Progress<'_>],
        by: Duration,
    ) -> BTreeMap<usize, Result<Activity, String>> {
        let unit = |lane: &Progress<'_>| match (&lane.at, lane.steps.get(lane.next)) {
            (At::Watching { until, .. }, Some(step)) if *until <= by => match &step.action {
                Action::Watch { unit, .. } => Some(unit.clone()),
                _ => None,
            },
            _ => None,
        };
        let due = active.iter().enumerate();
        let due = due.filter_map(|(n, lane)| Some((n, unit(lane)?)));
        let (lanes, units): (Vec<usize>, Vec<UnitName>) = due.take(TOGETHER).unzip();
        if units.is_empty() {
            return BTreeMap::new();
        }
        let now = match self.host.services.activities(&units) {
            Ok(now) => now.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(e) => units.iter().map(|_| Err(format!("{e:#}"))).collect(),
        };
        lanes.into_iter().zip(now).collect()
    }

    /// What was watched may have ended again while the others were brought over: then it isn't done.
    pub(super) fn all_up(&mut self, lanes: &[Lane]) -> Result<End> {
        let mut failures = Vec::new();
        let steps = lanes
            .iter()
            .flat_map(|l| l.steps.iter().map(move |s| (l, s)));
        let watched = steps.filter_map(|(lane, step)| match &step.action {
            Action::Watch { unit, .. } => Some((lane, step, unit)),
            _ => None,
        });
        let watched: Vec<(&Lane, &Step, &UnitName)> = watched.collect();
        let units: Vec<UnitName> = watched.iter().map(|(_, _, unit)| (*unit).clone()).collect();
        let now = match self.host.services.activities(&units) {
            Ok(now) => now.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(e) => units.iter().map(|_| Err(format!("{e:#}"))).collect(),
        };
        for ((lane, step, unit), activity) in watched.into_iter().zip(now) {
            let wrong = match activity {
                Ok(activity) => not_running(unit, &activity),
                Err(unknown) => Some(unknown),
            };
            if let Some(error) = wrong {
                let mut progress = Progress::new(Some(&lane.signer), &lane.steps);
                self.failed(&mut progress, step, error, &mut failures)?;
            }
        }
        if failures.is_empty() {
            return Ok(End::Done);
        }
        self.journal.sync()?;
        Ok(End::Stopped {
            failures,
            interrupted: false,
        })
    }

    /// Whether a watched unit still runs as it was started, and hasn't made each of its state files yet.
    pub(super) fn comes_up(&mut self, step: &Step, before: Option<&UnitRun>) -> Result<bool> {
        let Action::Watch { unit, files } = &step.action else {
            return Ok(false);
        };
        let missing = |file: &ChainFile| {
            let reading = discover::state(&*self.host.files, &file.state_file);
            reading == StateReading::Missing
        };
        if !files.iter().any(missing) {
            return Ok(false);
        }
        let run = self.host.services.run(unit)?;
        let same = before.is_none_or(|before| run == *before);
        Ok(same && not_running(unit, &run.state.activity()).is_none())
    }

    /// What is wrong with a watched unit after its time. Its state files are journalled as seen: from here on they are
    /// known to exist, and a start without them is refused.
    ///
    /// # Errors
    /// The journal can't be written.
    pub(super) fn watched(
        &mut self,
        step: &Step,
        before: Option<&UnitRun>,
        activity: Result<Activity, String>,
    ) -> Result<Option<String>> {
        let Action::Watch { unit, files } = &step.action else {
            return Ok(None);
        };
        let mut wrong = None;
        for file in files {
            let path = file.state_file.display();
            match discover::state(&*self.host.files, &file.state_file) {
                StateReading::Read(_) => {
                    let kept = durable(&*self.host.files, &file.state_file);
                    match kept.and_then(|bytes| SignState::parse(&bytes).map_err(Into::into)) {
                        Ok(state) => self.saw(step, file, state, None)?,
                        Err(e) => wrong = Some(format!("{path}: {e:#}")),
                    }
                }
                // tmkms creates it at its start.
                StateReading::Missing => wrong = Some(format!("{unit} runs without {path}")),
                StateReading::Link => wrong = Some(format!("{path} is a link")),
                StateReading::Unreadable(why) => wrong = Some(format!("{path}: {why}")),
            }
        }
        let not_up = activity.map(|now| not_running(unit, &now));
        let not_up = not_up.unwrap_or_else(Some);
        let other = match before.filter(|_| not_up.is_none()) {
            None => None,
            Some(before) => match self.host.services.run(unit) {
                Ok(now) => not_as_before(unit, before, &now),
                Err(e) => Some(format!("{e:#}")),
            },
        };
        Ok(not_up.or(other).or(wrong))
    }

    /// What to do about a watched unit that failed: where all sessions of its device are taken, it is watched again until
    /// one is free, and started again where systemd has given up on it. That is never a reason to go back. None where
    /// something else is wrong, or nothing can be told.
    pub(super) fn without_session(
        &mut self,
        step: &Step,
        before: Option<UnitRun>,
        patience: Duration,
    ) -> Option<Again> {
        let now = self.host.clock.elapsed();
        let Action::Watch { unit, .. } = &step.action else {
            return None;
        };
        let run = self.host.services.run(unit).ok()?;
        // One that has come up in the meantime is watched to the end of its time.
        let other = before.is_some_and(|before| run.invocation != before.invocation);
        let anew = run.state.activity().runs() && other;
        let last = match anew {
            true => patience + self.settings.soak + LOOK_LATER,
            false => patience,
        };
        if now >= last {
            return None;
        }
        // One that was started again since has logged more.
        let since = self.journal.opened_at();
        let lines = self.host.processes.last_lines(unit, since, 20).ok()?;
        if !lines.iter().any(|line| log::is_without_session(line)) {
            return None;
        }
        if !run.state.is_up() {
            let interrupted = self.interrupt.load(Ordering::Relaxed);
            return (!interrupted).then_some(Again::Start);
        }
        let soak = match run.state.activity().runs() {
            true => self.settings.soak,
            false => LOOK_LATER,
        };
        Some(Again::Watch(At::Watching {
            until: now + soak,
            latest: now + STATE_WITHIN,
            before: Some(run),
            patience,
        }))
    }
}

fn not_as_before(unit: &UnitName, before: &UnitRun, now: &UnitRun) -> Option<String> {
    let other = now.invocation != before.invocation || now.restarts != before.restarts;
    not_running(unit, &now.state.activity()).or_else(|| {
        other.then(|| {
            format!("{unit} was restarted while it was watched; see `journalctl -u {unit}`")
        })
    })
}

fn not_running(unit: &UnitName, now: &Activity) -> Option<String> {
    (!now.runs()).then(|| {
        format!(
            "{unit} is {} ({}) after its start; see `journalctl -u {unit}`",
            now.active, now.sub
        )
    })
}
