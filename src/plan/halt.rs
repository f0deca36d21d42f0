//! Has the chain stopped? What is asked of the signers that are to be stopped, before and right after: how far they may
//! have signed. Pure.
//!
//! A chain that goes on while its signers move misses their blocks, and a signer that signed past the halt may have
//! answered the new chain. Whether a process is `active` or connected proves neither: only its state file does.

mod dialled;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tmkms_core::state::SignState;

use dialled::Dialled;

use super::program::{Action, Program, Step, StepId};
use super::safety::Side;
use super::{ChainFile, Plan};
use crate::finding::{Code, Finding};
use crate::inventory::{Inventory, StateReading};
use crate::unit::UnitName;

/// tmkms' step of a precommit.
const PRECOMMIT: u8 = 2;

/// How far a chain may have been signed when its signer is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// The network's halt height: precommitted, or voted on at the next one, which is never finished.
    Height(u64),
    /// No further than it was when the switch began; none where it wasn't signed yet.
    Still(Option<SignState>),
}

/// Where a signer stands towards a halt height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Below,
    There,
    Past,
}

/// A state file, and how far it may have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stood {
    pub chain: String,
    pub state_file: PathBuf,
    pub halt: Halt,
}

/// A signer that is to be stopped, with its chains that are left: those whose id changes.
#[derive(Clone, Debug)]
pub struct Leaving {
    pub signer: String,
    pub unit: UnitName,
    /// Where the signers go.
    pub to: Side,
    /// 0 when it doesn't run.
    pub pid: u32,
    pub files: Vec<ChainFile>,
    /// It was stopped by the operation that is gone on with, and hasn't gone over yet.
    pub stopped: bool,
    /// The validators of its config.
    dialled: Vec<Dialled>,
}

/// Where a height may be read once the signer is stopped, and what it must be then.
pub type Halts = BTreeMap<PathBuf, Halt>;

/// Where a state towards a halt height is.
///
/// Halted at H means precommitted at H, in whatever round. A vote at H + 1 can still be asked for by the chain that stops;
/// nothing above it can.
pub fn reach(state: SignState, halt_height: u64) -> Reach {
    match state.height {
        h if h < halt_height => Reach::Below,
        h if h == halt_height && state.step < PRECOMMIT => Reach::Below,
        h if h - halt_height <= 1 => Reach::There,
        _ => Reach::Past,
    }
}

impl Halt {
    /// Why a state file that is read after the stop forbids going on; none where it doesn't.
    pub fn broken_by(&self, reading: &StateReading) -> Option<String> {
        let now = match reading {
            StateReading::Read(state) => Some(*state),
            StateReading::Missing => None,
            StateReading::Link => return Some("is a link".into()),
            StateReading::Unreadable(why) => return Some(format!("can't be read: {why}")),
        };
        match (self, now) {
            (Halt::Still(then), now) if *then == now => None,
            (Halt::Still(then), now) => {
                let at = |state: &Option<SignState>| match state {
                    Some(state) => state.to_string(),
                    None => "not there".into(),
                };
                let (then, now) = (at(then), at(&now));
                Some(format!(
                    "was {then} when this began and is {now}: its chain hasn't stopped"
                ))
            }
            (Halt::Height(_), None) => Some("isn't there".into()),
            (Halt::Height(height), Some(state)) => match reach(state, *height) {
                Reach::There => None,
                Reach::Below => Some(format!("is at {state}, below the halt height {height}")),
                Reach::Past => Some(format!("is at {state}, past the halt height {height}")),
            },
        }
    }
}

/// The signers of a plan that are to be stopped on the way to a side, whether they run or not.
pub fn leaving(plan: &Plan, inventory: &Inventory, to: Side) -> Vec<Leaving> {
    let each = plan.moves.iter().map(|moving| {
        let unit = match to {
            Side::New => &moving.old,
            Side::Old => &moving.new,
        };
        let changed = moving.chains.iter().filter(|c| c.old.chain != c.new.chain);
        let left = changed.map(|c| match to {
            Side::New => c.old.clone(),
            Side::Old => c.new.clone(),
        });
        let left: Vec<ChainFile> = left.collect();
        let signer = inventory.signer(unit);
        let validators = signer.into_iter().flat_map(|s| &s.config.view.validators);
        let dialled = validators.map(|v| Dialled {
            addr: v.addr.value.clone(),
            left: left.iter().any(|file| file.chain == v.chain_id.value),
        });
        Leaving {
            signer: moving.signer.clone(),
            unit: unit.clone(),
            to,
            pid: signer
                .filter(|s| s.is_up())
                .map_or(0, |s| s.unit.run.main_pid),
            dialled: dialled.collect(),
            files: left,
            stopped: false,
        }
    });
    each.filter(|l| !l.files.is_empty()).collect()
}

impl Leaving {
    /// Whether it is to stop on this chain: it signs, or did until this operation stopped it.
    pub fn counts(&self) -> bool {
        self.pid != 0 || self.stopped
    }
}

/// A chain of a signer that signs on.
pub fn not_halted(leaving: &Leaving, file: &ChainFile, from: SignState, to: SignState) -> Finding {
    let message = format!(
        "{} signs on while it is watched: {from}, then {to}",
        file.chain
    );
    // Only a way forth can be waited for.
    let remedy = match leaving.to {
        Side::New => {
            "wait until its validators have stopped, or let kmsctl wait: --halt-height H --wait-for-halt 2h"
        }
        Side::Old => "stop its validators first, on all hosts; then go back",
    };
    at(Code::ChainNotHalted, leaving, &file.state_file, message).remedy(remedy)
}

/// What speaks against a signer's state at a halt height.
pub fn at_height(
    leaving: &Leaving,
    file: &ChainFile,
    reading: &StateReading,
    halt_height: u64,
) -> Option<Finding> {
    let state = reading.height()?;
    match reach(state, halt_height) {
        Reach::There => None,
        Reach::Below => {
            let message = format!(
                "{} is at {state}, and the halt height {halt_height} isn't precommitted",
                file.chain
            );
            let finding = at(Code::BelowHaltHeight, leaving, &file.state_file, message);
            Some(finding.remedy(
                "wait for the chain (--wait-for-halt 2h), or find out why this signer stopped before it",
            ))
        }
        Reach::Past => {
            let message = format!(
                "{} is at {state}, above {} which nothing of a chain that halts at {halt_height} asks for: this old \
                 signer may be answering the new chain",
                file.chain,
                halt_height + 1
            );
            let finding = at(Code::OldSignerPastHalt, leaving, &file.state_file, message);
            Some(finding.remedy(
                "find out which validator dials it, and whether the halt height is right, before anything else",
            ))
        }
    }
}

fn at(code: Code, leaving: &Leaving, path: &Path, message: String) -> Finding {
    Finding::block(code, message).of(&leaving.signer).at(path)
}

/// Makes each lane look once more after its stop: what the signer signed between the gate and its end counts too. What a
/// program that is gone on with asked before is asked anew.
pub fn guard(program: &mut Program, halts: &Halts) {
    for lane in &mut program.lanes {
        let files = lane.steps.iter().filter_map(|step| match &step.action {
            Action::Record { files } => Some(files),
            _ => None,
        });
        let mut files = files.flatten();
        if !files.any(|file| halts.contains_key(&file.state_file)) {
            continue;
        }
        lane.steps
            .retain(|step| !matches!(step.action, Action::CheckHalted { .. }));
        let recorded = lane.steps.iter().enumerate().find_map(|(n, step)| {
            let Action::Record { files } = &step.action else {
                return None;
            };
            Some((n, step.id.0.replace("/record-", "/halted-"), files))
        });
        let Some((n, id, files)) = recorded else {
            continue;
        };
        let stood = files.iter().filter_map(|file| {
            Some(Stood {
                chain: file.chain.clone(),
                state_file: file.state_file.clone(),
                halt: *halts.get(&file.state_file)?,
            })
        });
        let files: Vec<Stood> = stood.collect();
        if !files.is_empty() {
            let step = Step {
                id: StepId(id),
                action: Action::CheckHalted { files },
                because: "a chain that still runs isn't left".into(),
            };
            lane.steps.insert(n + 1, step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(height: u64, round: u32, step: u8) -> SignState {
        SignState {
            height,
            round,
            step,
        }
    }

    #[test]
    fn halted_is_precommitted_at_the_height_or_voted_on_at_the_next() {
        for (at, expected) in [
            (state(99, 0, 2), Reach::Below),
            (state(100, 0, 0), Reach::Below),
            (state(100, 0, 1), Reach::Below),
            (state(100, 3, 1), Reach::Below),
            (state(100, 0, 2), Reach::There),
            (state(100, 3, 2), Reach::There),
            (state(101, 0, 0), Reach::There),
            (state(101, 9, 2), Reach::There),
            (state(102, 0, 0), Reach::Past),
            (state(i64::MAX as u64, 0, 0), Reach::Past),
        ] {
            assert_eq!(reach(at, 100), expected, "{at}");
        }
    }

    #[test]
    fn what_was_signed_after_the_gate_forbids_going_on() {
        let read = |h| StateReading::Read(state(h, 0, 2));
        let still = Halt::Still(Some(state(7, 0, 2)));
        assert_eq!(still.broken_by(&read(7)), None);
        for other in [read(8), read(6), StateReading::Missing, StateReading::Link] {
            assert!(still.broken_by(&other).is_some(), "{other:?}");
        }
        assert_eq!(Halt::Still(None).broken_by(&StateReading::Missing), None);
        assert!(Halt::Still(None).broken_by(&read(1)).is_some());
        let height = Halt::Height(7);
        for (h, broken) in [(6, true), (7, false), (8, false), (9, true)] {
            assert_eq!(height.broken_by(&read(h)).is_some(), broken, "{h}");
        }
        assert!(height.broken_by(&StateReading::Missing).is_some());
    }
}
