//! Watches started units: the same run, no restart, their state files sane; and waits for what only time mends.

use std::time::Duration;

use anyhow::Result;
use tmkms_core::log;
use tmkms_core::state::SignState;

use super::lane::{At, Progress};
use super::perform::durable;
use super::{End, Run};
use crate::discover;
use crate::host::Job;
use crate::inventory::{RunState, StateReading};
use crate::plan::ChainFile;
use crate::plan::program::{Action, Lane, Step};
use crate::unit::UnitName;

/// What tmkms may take from its start, which is all that systemd's job waits for, to having made its state file.
pub(super) const STATE_WITHIN: Duration = Duration::from_secs(5);
/// How soon it is looked for again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a device without a free session is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

impl Run<'_> {
    /// What was watched may have ended again while the others were brought over: then it isn't done.
    pub(super) fn all_up(&mut self, lanes: &[Lane]) -> Result<End> {
        let mut failures = Vec::new();
        for lane in lanes {
            let mut progress = Progress::new(Some(&lane.signer), &lane.steps);
            for step in &lane.steps {
                let Action::Watch { unit, .. } = &step.action else {
                    continue;
                };
                let run = self.host.services.run_state(unit)?;
                if let Some(error) = not_running(unit, &run) {
                    self.failed(&mut progress, step, error, &mut failures)?;
                }
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
    pub(super) fn comes_up(&mut self, step: &Step, before: &RunState) -> Result<bool> {
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
        let run = self.host.services.run_state(unit)?;
        Ok(run == *before && not_running(unit, &run).is_none())
    }

    /// What is wrong with a watched unit after its time. Its state files are journalled as seen: from here on they are
    /// known to exist, and a start without them is refused.
    ///
    /// # Errors
    /// The journal can't be written.
    pub(super) fn watched(&mut self, step: &Step, before: &RunState) -> Result<Option<String>> {
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
        let run = match self.host.services.run_state(unit) {
            Ok(run) => run,
            Err(e) => return Ok(Some(format!("{e:#}"))),
        };
        if let Some(error) = not_running(unit, &run) {
            return Ok(Some(error));
        }
        if run.invocation != before.invocation || run.restarts != before.restarts {
            let error =
                format!("{unit} was restarted while it was watched; see `journalctl -u {unit}`");
            return Ok(Some(error));
        }
        Ok(wrong)
    }

    /// What to do about a watched unit that failed: where all sessions of its device are taken, it is watched again until
    /// one is free, and started again where systemd has given up on it. That is never a reason to go back.
    ///
    /// # Errors
    /// The service manager can't be asked.
    pub(super) fn without_session(
        &mut self,
        step: &Step,
        patience: Duration,
    ) -> Result<Option<At>> {
        let now = self.host.clock.elapsed();
        let Action::Watch { unit, .. } = &step.action else {
            return Ok(None);
        };
        if now >= patience {
            return Ok(None);
        }
        // What can't be read says nothing of sessions. One that was started again since has logged more.
        let since = self.journal.opened_at();
        let lines = self.host.processes.last_lines(unit, since, 20);
        let lines = lines.unwrap_or_default();
        if !lines.iter().any(|line| log::is_without_session(line)) {
            return Ok(None);
        }
        if !self.host.services.run_state(unit)?.is_up() {
            self.host.services.begin(&Job::Start(unit.clone()))?;
        }
        let run = self.host.services.run_state(unit)?;
        let soak = match runs(&run) {
            true => self.settings.soak,
            false => Duration::from_secs(2),
        };
        Ok(Some(At::Watching {
            until: now + soak,
            latest: now + STATE_WITHIN,
            run,
            patience,
        }))
    }
}

/// Whether a unit's process runs.
pub(super) fn runs(run: &RunState) -> bool {
    run.active == "active" && run.sub == "running"
}

fn not_running(unit: &UnitName, run: &RunState) -> Option<String> {
    (!runs(run)).then(|| {
        format!(
            "{unit} is {} ({}) after its start; see `journalctl -u {unit}`",
            run.active, run.sub
        )
    })
}
