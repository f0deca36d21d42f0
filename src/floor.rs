//! Floors: a new chain's state file that lets nothing below a height be signed, made before tmkms has one.
//!
//! A chain whose heights go on begins at a height that is known, and a state file that begins at 0 would let a validator
//! have everything below it signed again. A floor is only ever created, and taken away only while it is byte for byte what
//! kmsctl wrote: what tmkms signed on is a state file, which nobody touches (rule S3).

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tmkms_core::state::{SignState, StateFile};

use crate::finding::{Code, Finding};
use crate::inventory::StateReading;
use crate::plan::Plan;
use crate::plan::halt::Leaving;
use crate::plan::program::{Action, Lane, Program, Step, StepId};

/// A floor, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    state_file: PathBuf,
    /// Up to here, this height included, tmkms refuses to sign.
    height: u64,
}

impl Floor {
    /// The floor under a chain that begins at a height.
    pub fn below(state_file: &Path, initial_height: u64) -> Floor {
        Floor {
            state_file: state_file.to_owned(),
            height: initial_height.saturating_sub(1),
        }
    }

    pub fn path(&self) -> &Path {
        &self.state_file
    }

    /// The first height that can be signed on it.
    fn initial_height(&self) -> u64 {
        self.height.saturating_add(1)
    }

    /// What tmkms reads of it: above every round and step of the height (facts: run on 0.10.1, 0.12.2, 0.14.0, 0.15.0).
    pub fn state(&self) -> SignState {
        self.file().at
    }

    /// The file's content.
    pub fn bytes(&self) -> Vec<u8> {
        self.file().to_tmkms().into_bytes()
    }

    fn file(&self) -> StateFile {
        StateFile::floor(self.height)
    }
}

/// What speaks against floors, before anything is stopped.
pub fn findings(
    plan: &Plan,
    leaving: &[Leaving],
    initial_height: u64,
    state: impl Fn(&Path) -> StateReading,
) -> Vec<Finding> {
    let old = leaving.iter().flat_map(|l| &l.files);
    let highest = old.filter_map(|f| state(&f.state_file).height()).max();
    let mut findings = Vec::new();
    match highest {
        Some(highest) if initial_height <= highest.height.saturating_add(1) => {}
        highest => {
            let at = highest.map_or("isn't known".into(), |h| format!("is {}", h.height));
            let message = format!(
                "--initial-height {initial_height}: the highest height of the old chain here {at}, and a floor above the \
                 next one would keep the signers from signing the new chain's first blocks"
            );
            let remedy = "take the initial_height of the new chain's genesis; it is at most one above the last height";
            findings.push(Finding::block(Code::FloorTooHigh, message).remedy(remedy));
        }
    }
    for moving in &plan.moves {
        for chain in moving.chains.iter().filter(|c| c.old.chain != c.new.chain) {
            let path = &chain.new.state_file;
            let floor = Floor::below(path, initial_height);
            let there = match state(path) {
                StateReading::Missing => continue,
                StateReading::Read(state) if state >= floor.state() => continue,
                StateReading::Read(state) => format!("is at {state}"),
                StateReading::Link => "is a link".into(),
                StateReading::Unreadable(why) => format!("can't be read: {why}"),
            };
            let message = format!(
                "the new chain's state file is there already and {there}: a floor is only ever made where there is none"
            );
            findings.push(
                Finding::block(Code::FloorInTheWay, message)
                    .of(&moving.signer)
                    .at(path)
                    .remedy("go without --initial-height: what it keeps from signing again is what this file says"),
            );
        }
    }
    findings
}

/// Makes each lane lay its floors once the old signer is recorded.
pub fn lay(program: &mut Program, plan: &Plan, initial_height: u64) {
    for moving in &plan.moves {
        let chains = moving.chains.iter().filter(|c| c.old.chain != c.new.chain);
        let actions = chains.map(|chain| Action::LayFloor {
            floor: Floor::below(&chain.new.state_file, initial_height),
            like: chain.old.state_file.clone(),
        });
        let because = "nothing below the new chain's first height is signed again";
        let laid = |a: &Action| matches!(a, Action::LayFloor { .. });
        insert(program, &moving.signer, actions.collect(), laid, because);
    }
}

/// The first height that a program's floors were laid for, where it has any.
pub fn begun_with(program: &Program) -> Option<u64> {
    program.steps().find_map(|step| match &step.action {
        Action::LayFloor { floor, .. } => Some(floor.initial_height()),
        _ => None,
    })
}

/// Makes each lane of a way back take away the floors that an operation laid.
pub fn withdraw(program: &mut Program, laid: &Program) {
    for lane in &laid.lanes {
        let floors = lane.steps.iter().filter_map(|step| match &step.action {
            Action::LayFloor { floor, .. } => Some(Action::WithdrawFloor {
                floor: floor.clone(),
            }),
            _ => None,
        });
        let because = "tmkms never signed on it; the next try may have another";
        let withdrawn = |a: &Action| matches!(a, Action::WithdrawFloor { .. });
        insert(program, &lane.signer, floors.collect(), withdrawn, because);
    }
}

/// Puts steps of one kind into a signer's lane, after its signer is stopped and recorded; those that were there go.
fn insert(
    program: &mut Program,
    signer: &str,
    actions: Vec<Action>,
    kind: impl Fn(&Action) -> bool,
    because: &str,
) {
    if actions.is_empty() {
        return;
    }
    let Some(Lane { steps, .. }) = program.lanes.iter_mut().find(|l| l.signer == signer) else {
        return;
    };
    steps.retain(|step| !kind(&step.action));
    let checks = steps
        .iter()
        .position(|step| matches!(step.action, Action::CheckHeights { .. }));
    let Some(at) = checks else {
        return;
    };
    let new = actions.into_iter().enumerate().map(|(n, action)| Step {
        id: StepId(format!("{signer}/floor-{n}")),
        action,
        because: because.to_owned(),
    });
    steps.splice(at..at, new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmkms_reads_a_floor_as_it_is_meant() {
        let floor = Floor::below(Path::new("/s.json"), 2_233_551);
        assert_eq!(SignState::parse(&floor.bytes()), Ok(floor.state()));
        assert_eq!(floor.state().height, 2_233_550);
    }
}
