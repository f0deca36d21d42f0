//! Programs: steps with what they do and why, as data that is journalled and performed.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ChainFile;
use super::halt::Stood;
use crate::content::{Content, Role};
use crate::floor::Floor;
use crate::paths::{ManagedLink, ManagedPath};
use crate::unit::UnitName;

/// Names a step within a plan, such as `tmkms-01/stop-old`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct StepId(pub String);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing to do or to make sure of, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub id: StepId,
    pub action: Action,
    pub because: String,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    MakeFolder {
        path: ManagedPath,
    },
    /// Writes a new file with the owner and mode of the one it descends from.
    Write {
        role: Role,
        path: ManagedPath,
        content: Content,
    },
    /// Takes a staged file away, if it is still the one that was written.
    Remove {
        role: Role,
        path: ManagedPath,
        content: Content,
    },
    /// Takes a folder away if it is empty.
    RemoveFolder {
        path: ManagedPath,
    },
    /// From here on the unit can't start.
    CloseFence {
        unit: UnitName,
    },
    /// From here on the unit may start.
    OpenFence {
        unit: UnitName,
    },
    Reload,
    Enable {
        units: Vec<UnitName>,
        links: Vec<PathBuf>,
    },
    Disable {
        units: Vec<UnitName>,
        links: Vec<PathBuf>,
    },
    /// Makes a link of systemd's, points it elsewhere, or takes it away.
    SetLink {
        link: ManagedLink,
        from: Option<PathBuf>,
        to: Option<PathBuf>,
    },
    /// The manager itself says that the markers bar these units (rule S12: a drop-in on disk proves nothing).
    CheckFenced {
        units: Vec<UnitName>,
    },
    Stop {
        unit: UnitName,
    },
    /// Proves that the unit is inactive, its control group empty, and that nothing but known signers runs (rule S4).
    ProveStopped {
        unit: UnitName,
    },
    /// Puts the state files' bytes into the journal and makes the files durable (rule S5).
    Record {
        files: Vec<ChainFile>,
    },
    /// Each state file is at least at the highest point ever journalled for it (rule S6).
    CheckHeights {
        files: Vec<ChainFile>,
    },
    /// Nothing was signed on the chain that is left, up to the signer's very end.
    CheckHalted {
        files: Vec<Stood>,
    },
    /// Creates a new chain's state file that lets nothing below a height be signed.
    LayFloor {
        floor: Floor,
        /// The state file whose owner and mode it gets.
        like: PathBuf,
    },
    /// Takes a floor away, if tmkms hasn't signed on it.
    WithdrawFloor {
        floor: Floor,
    },
    Start {
        unit: UnitName,
    },
    /// Watches the started unit: the same run, no restart, its state files sane.
    Watch {
        unit: UnitName,
        files: Vec<ChainFile>,
    },
}

impl Action {
    /// It changes nothing that a death could leave half done: its intent needn't be durable before it.
    pub fn only_looks(&self) -> bool {
        matches!(
            self,
            Action::Record { .. }
                | Action::Watch { .. }
                | Action::CheckFenced { .. }
                | Action::ProveStopped { .. }
                | Action::CheckHeights { .. }
                | Action::CheckHalted { .. }
        )
    }
}

/// Steps of one signer, done in order, beside the lanes of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    pub signer: String,
    pub steps: Vec<Step>,
}

/// What one operation performs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub before: Vec<Step>,
    pub lanes: Vec<Lane>,
    pub after: Vec<Step>,
}

impl Program {
    /// Takes up what a program that goes on with this one has besides, each step in its place; what both have is as the
    /// other one says.
    pub fn amend(&mut self, other: &Program) {
        amend(&mut self.before, &other.before);
        amend(&mut self.after, &other.after);
        for lane in &other.lanes {
            match self.lanes.iter_mut().find(|l| l.signer == lane.signer) {
                Some(own) => amend(&mut own.steps, &lane.steps),
                None => self.lanes.push(lane.clone()),
            }
        }
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.before
            .iter()
            .chain(self.lanes.iter().flat_map(|l| &l.steps))
            .chain(&self.after)
    }
}

fn amend(steps: &mut Vec<Step>, other: &[Step]) {
    let mut place = 0;
    for step in other {
        match steps.iter().position(|own| own.id == step.id) {
            Some(at) => {
                steps[at] = step.clone();
                place = at + 1;
            }
            None => {
                steps.insert(place, step.clone());
                place += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_taken_up_in_its_place() {
        let step = |id: &str| Step {
            id: StepId(id.into()),
            action: Action::Reload,
            because: String::new(),
        };
        let steps = |ids: &[&str]| ids.iter().map(|id| step(id)).collect::<Vec<_>>();
        let mut own = steps(&["a", "b", "d"]);
        amend(&mut own, &steps(&["b", "c", "e"]));
        let ids: Vec<String> = own.into_iter().map(|s| s.id.0).collect();
        assert_eq!(ids, ["a", "b", "c", "e", "d"]);
    }
}
