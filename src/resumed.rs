//! Programs that go on where a death, or the end of what went wrong, left the signers; whichever way they lead. Pure.

use std::collections::BTreeSet;

use crate::inventory::{Inventory, Signer};
use crate::journal::Journal;
use crate::plan::program::{Action, Program, Step};
use crate::unit::UnitName;

/// A program that goes on where some signers were left, without recording again what those left that run where it leads:
/// it was recorded before they could start there, and a chain that stays has its file signed on meanwhile.
pub fn not_recorded_twice(mut program: Program, inventory: &Inventory) -> Program {
    let up = |unit: &UnitName| inventory.signer(unit).is_some_and(Signer::is_up);
    for lane in &mut program.lanes {
        let there = |step: &Step| matches!(&step.action, Action::OpenFence { unit } if up(unit));
        if lane.steps.iter().any(there) {
            // Nor is it asked again whether what was left stood still: that is over.
            let over = |step: &Step| {
                matches!(
                    step.action,
                    Action::Record { .. } | Action::CheckHalted { .. }
                )
            };
            lane.steps.retain(|step| !over(step));
        }
    }
    program
}

/// A program that goes on, for a signer that didn't run when it was made and that a boot or another hand started since:
/// what runs where it is left, or ran when it was stopped, is started where it leads. `fresh` is the same way for a host
/// on which such units run.
pub fn started_since(
    mut program: Program,
    open: &Journal,
    inventory: &Inventory,
    fresh: impl Fn(&BTreeSet<UnitName>) -> Program,
) -> Program {
    let steps = program.lanes.iter().flat_map(|l| &l.steps);
    let stopped = steps.filter_map(|step| match &step.action {
        Action::Stop { unit } => Some(unit),
        _ => None,
    });
    let ran = |unit: &UnitName| {
        inventory.signer(unit).is_some_and(Signer::is_up)
            || open.intended(|a| matches!(a, Action::Stop { unit: stopped } if stopped == unit))
    };
    let running = stopped.filter(|unit| ran(unit)).cloned().collect();
    let start = |step: &Step| matches!(step.action, Action::Start { .. } | Action::Watch { .. });
    for lane in fresh(&running).lanes {
        let same = program.lanes.iter_mut().find(|l| l.signer == lane.signer);
        if let Some(same) = same.filter(|l| !l.steps.iter().any(start)) {
            same.steps.extend(lane.steps.into_iter().filter(start));
        }
    }
    program
}
