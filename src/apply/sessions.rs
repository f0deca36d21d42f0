//! The session slots of YubiHSMs. A device has sixteen, a running tmkms holds one, and one that was killed leaves its own
//! behind for 30 s: a switch of a dozen signers on one device runs out of them. So a signer is stopped only when its
//! successor finds a slot, or where waiting can't free one.

use std::collections::BTreeSet;
use std::time::Duration;

use tmkms_core::config::KeyRef;

use crate::inventory::Inventory;
use crate::journal::Record;
use crate::journal::store::History;
use crate::ledger::same_device;
use crate::plan::ChainFile;
use crate::plan::program::{Action, Lane};
use crate::unit::UnitName;

/// The vendor's documents: the slots of a device, and when an idle session's becomes free.
const SLOTS: usize = 16;
const ORPHANED: Duration = Duration::from_secs(30);

/// Who holds sessions, on every device that a program's signers use.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// Running units and a key of the device that each is connected to.
    holders: Vec<(UnitName, KeyRef)>,
    /// When the sessions of ended signers become free.
    orphans: Vec<(Duration, KeyRef)>,
}

/// Whether a session can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Now,
    /// Some slot becomes free then.
    At(Duration),
    /// All are taken, and no time frees one.
    Never,
}

/// The device that some chains' keys are on.
fn device<'a>(files: impl IntoIterator<Item = &'a ChainFile>) -> Option<KeyRef> {
    let mut keys = files.into_iter().flat_map(|f| &f.keys);
    keys.find(|key| matches!(key, KeyRef::Yubihsm { .. }))
        .cloned()
}

/// What a lane starts, and the device that it needs; none where it starts nothing or uses no device.
pub fn needs(lane: &Lane) -> Option<(UnitName, KeyRef)> {
    lane.steps.iter().find_map(|step| match &step.action {
        Action::Watch { unit, files } => Some((unit.clone(), device(files)?)),
        _ => None,
    })
}

impl Sessions {
    /// The sessions that running signers hold, and those that the signers stopped last left behind. `now` is on both
    /// clocks: the wall's, and the one that waits are measured on.
    pub fn of(
        inventory: &Inventory,
        history: &History,
        now: (jiff::Timestamp, Duration),
    ) -> Sessions {
        let running = inventory.signers.iter().filter(|s| s.is_up());
        let holders = running.filter_map(|signer| {
            let files: Vec<ChainFile> = signer.chains.iter().map(ChainFile::of).collect();
            Some((signer.unit.name.clone(), device(&files)?))
        });
        let mut sessions = Sessions {
            holders: holders.collect(),
            orphans: Vec::new(),
        };
        let records = history.0.iter().flat_map(|j| {
            let files: Vec<&ChainFile> = j
                .plan
                .moves
                .iter()
                .flat_map(|m| m.old_chains().chain(m.new_chains()))
                .collect();
            j.records.iter().filter_map(move |record| {
                // A stopped signer's state is recorded right after its end.
                let Record::State {
                    state_file,
                    bytes: Some(_),
                    at,
                    ..
                } = record
                else {
                    return None;
                };
                let file = files.iter().find(|f| f.state_file == *state_file)?;
                Some((device([*file])?, *at))
            })
        });
        for (device, at) in records {
            let age = Duration::try_from(now.0.duration_since(at)).unwrap_or_default();
            if let Some(left) = ORPHANED.checked_sub(age) {
                sessions.orphans.push((now.1 + left, device));
            }
        }
        sessions
    }

    /// A signer was started.
    pub fn started(&mut self, unit: &UnitName, device: &KeyRef) {
        self.holders.retain(|(holder, _)| holder != unit);
        self.holders.push((unit.clone(), device.clone()));
    }

    /// A signer was stopped: its session outlives it.
    pub fn stopped(&mut self, unit: &UnitName, now: Duration) {
        let held = self.holders.iter().position(|(holder, _)| holder == unit);
        if let Some(held) = held {
            let (_, device) = self.holders.swap_remove(held);
            self.orphans.push((now + ORPHANED, device));
        }
    }

    /// Whether a device has a slot for one more, beside those that `coming` will take.
    pub fn room(&self, device: &KeyRef, coming: &BTreeSet<UnitName>, now: Duration) -> Room {
        let on_it = |other: &KeyRef| same_device(device, other);
        let held = self.holders.iter().filter(|(_, d)| on_it(d)).count();
        let orphans = self
            .orphans
            .iter()
            .filter(|(free, d)| *free > now && on_it(d));
        let mut free: Vec<Duration> = orphans.map(|(free, _)| *free).collect();
        free.sort();
        let taken = held + free.len() + coming.len();
        match (taken + 1).checked_sub(SLOTS) {
            None | Some(0) => Room::Now,
            Some(over) => free.get(over - 1).map_or(Room::Never, |at| Room::At(*at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hsm(connector: &str) -> KeyRef {
        KeyRef::Yubihsm {
            serial: None,
            connector: connector.into(),
            key: 1,
        }
    }

    fn unit(n: usize) -> UnitName {
        format!("tmkms-{n:02}.service").parse().unwrap()
    }

    fn holding(n: usize) -> Sessions {
        let mut sessions = Sessions::default();
        (0..n).for_each(|n| sessions.started(&unit(n), &hsm("tcp://127.0.0.1:1")));
        sessions
    }

    #[test]
    fn a_dozen_signers_on_one_device_are_switched_four_at_a_time() {
        let device = hsm("tcp://127.0.0.1:1");
        let mut sessions = holding(12);
        let none = BTreeSet::new();
        let second = Duration::from_secs(1);
        for n in 0..4 {
            assert_eq!(sessions.room(&device, &none, second), Room::Now, "{n}");
            sessions.stopped(&unit(n), second);
            sessions.started(&unit(100 + n), &device);
        }
        let free = second + ORPHANED;
        assert_eq!(sessions.room(&device, &none, second), Room::At(free));
        assert_eq!(sessions.room(&device, &none, free), Room::Now);
        let other = hsm("tcp://127.0.0.1:2");
        assert_eq!(
            sessions.room(&other, &none, second),
            Room::Now,
            "another device"
        );
    }

    #[test]
    fn those_that_are_on_their_way_count() {
        let coming = [unit(50), unit(51)].into();
        let device = hsm("tcp://127.0.0.1:1");
        assert_eq!(
            holding(13).room(&device, &coming, Duration::ZERO),
            Room::Now
        );
        assert_eq!(
            holding(14).room(&device, &coming, Duration::ZERO),
            Room::Never
        );
    }

    #[test]
    fn a_full_device_frees_a_slot_only_by_a_stop() {
        let device = hsm("tcp://127.0.0.1:1");
        let mut sessions = holding(16);
        let none = BTreeSet::new();
        assert_eq!(sessions.room(&device, &none, Duration::ZERO), Room::Never);
        sessions.stopped(&unit(3), Duration::ZERO);
        assert_eq!(
            sessions.room(&device, &none, Duration::ZERO),
            Room::At(ORPHANED)
        );
    }
}
