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
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.before
            .iter()
            .chain(self.lanes.iter().flat_map(|l| &l.steps))
            .chain(&self.after)
    }
}
