//! Which lane may begin, and which start has to wait: a YubiHSM's sessions decide.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::Result;

use super::Run;
use super::lane::{At, Progress};
use super::sessions::Room;
use crate::ledger::same_device;
use crate::plan::program::{Action, Step};
use crate::unit::UnitName;

/// Which lane may begin.
pub(super) enum Admitted {
    /// The first that may, by its place.
    Lane(usize),
    /// None before a session of its device becomes free.
    Later(Duration),
    None,
}

impl Run<'_> {
    /// The first lane that may begin now: no signer is stopped whose successor wouldn't find a session, unless time frees
    /// none.
    pub(super) fn admitted(
        &self,
        waiting: &VecDeque<Progress<'_>>,
        active: &[Progress<'_>],
    ) -> Admitted {
        let now = self.host.clock.elapsed();
        let mut later: Option<Duration> = None;
        for (n, lane) in waiting.iter().enumerate() {
            let Some((_, device)) = &lane.needs else {
                return Admitted::Lane(n);
            };
            let coming = active.iter().filter(|l| l.in_flight());
            let coming = coming.filter_map(|l| l.needs.as_ref());
            let coming = coming.filter(|(_, other)| same_device(device, other));
            let coming: BTreeSet<UnitName> = coming.map(|(unit, _)| unit.clone()).collect();
            match self.sessions.room(device, &coming, now) {
                Room::Now => return Admitted::Lane(n),
                Room::Never if coming.is_empty() => return Admitted::Lane(n),
                Room::Never => {}
                Room::At(at) => later = Some(later.map_or(at, |l| l.min(at))),
            }
        }
        later.map_or(Admitted::None, Admitted::Later)
    }

    /// Whether a start must wait for a session first; then the lane is held until one is free.
    pub(super) fn is_held(&self, lane: &mut Progress<'_>, step: &Step) -> bool {
        let (Action::Start { .. }, Some((_, device))) = (&step.action, &lane.needs) else {
            return false;
        };
        let now = self.host.clock.elapsed();
        match self.sessions.room(device, &BTreeSet::new(), now) {
            Room::At(until) => {
                lane.at = At::Held { until };
                true
            }
            Room::Now | Room::Never => false,
        }
    }

    pub(super) fn sleep_until(&self, at: Duration) -> Result<()> {
        // A signal is seen within a second.
        let left = at.saturating_sub(self.host.clock.elapsed());
        self.host.clock.sleep(left.min(Duration::from_secs(1)))
    }
}
