//! A lane on its way: what it waits for now.

use std::time::Duration;

use tmkms_core::config::KeyRef;

use super::sessions;
use crate::host::Ticket;
use crate::inventory::UnitRun;
use crate::plan::program::{Action, Lane, Step};
use crate::unit::UnitName;

/// Where a lane stands.
pub(super) enum At {
    /// Its next step may be looked at.
    Next,
    Job {
        ticket: Ticket,
        deadline: Duration,
    },
    /// Its next step waits for a session of its device.
    Held {
        until: Duration,
    },
    Watching {
        until: Duration,
        /// A state file that isn't there by then doesn't come any more.
        latest: Duration,
        /// Its run at the beginning; none where no time is watched, and nothing compared.
        before: Option<UnitRun>,
        /// Until then a device without a free session is waited for.
        patience: Duration,
    },
    Over,
}

pub(super) struct Progress<'l> {
    pub(super) signer: Option<&'l str>,
    /// What it starts, and the device that this needs a session of.
    pub(super) needs: Option<(UnitName, KeyRef)>,
    pub(super) steps: &'l [Step],
    pub(super) next: usize,
    pub(super) at: At,
    /// What it did last was to open a unit's fence: nothing can have started that before.
    pub(super) opened: bool,
    /// Until when its device's sessions are waited for, once it was watched.
    pub(super) patience: Option<Duration>,
}

impl<'l> Progress<'l> {
    pub(super) fn new(signer: Option<&'l str>, steps: &'l [Step]) -> Self {
        Progress {
            signer,
            needs: None,
            steps,
            next: 0,
            at: At::Next,
            opened: false,
            patience: None,
        }
    }

    pub(super) fn of(lane: &'l Lane) -> Self {
        Progress {
            needs: sessions::needs(lane),
            ..Progress::new(Some(&lane.signer), &lane.steps)
        }
    }

    /// Starts its signer again, a little later: with every look and intent that a start has.
    pub(super) fn back_to_heights(&mut self, later: Duration) {
        let heights = |step: &Step| matches!(step.action, Action::CheckHeights { .. });
        let at = self.steps[..self.next].iter().rposition(heights);
        self.next = at.unwrap_or(self.next);
        self.at = At::Held { until: later };
    }

    /// Watched lanes leave their place to others: nothing of theirs is dark.
    pub(super) fn in_flight(&self) -> bool {
        matches!(self.at, At::Next | At::Job { .. } | At::Held { .. })
    }
}
