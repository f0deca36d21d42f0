//! Exit codes, and the errors that carry one. Nothing here ends the process: only `main` does.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::journal::OperationId;

/// What a run of kmsctl ended in, as the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Done, or there was nothing to do.
    Done = 0,
    /// Failed; nothing changed, or everything is as before.
    Failed = 1,
    /// The command line isn't complete.
    Usage = 2,
    /// Refused by a rule, a blocking finding, a gate, or inputs that changed.
    Refused = 3,
    /// Failed, and taken back: everything that was switched is as before.
    TakenBack = 4,
    /// Failed half-way: `apply` resumes, `rollback` undoes.
    HalfWay = 5,
    /// A wait before the switch was over: nothing was changed.
    TimedOut = 6,
    /// Switched, and not seen signing in time; nothing was taken back.
    NotSigning = 7,
    /// `plan --detailed-exitcode` only: the plan holds changes.
    Changes = 10,
}

/// Every code that a run can end with, and what it means: the one text of `--help` and of the manual page. 130 is no
/// [`Exit`], because the second signal ends the process at once.
pub const CODES: [(u8, &str); 10] = [
    (0, "done, or nothing to do"),
    (1, "failed; nothing changed, or everything is as before"),
    (2, "the command line isn't complete"),
    (
        3,
        "refused: a rule, a blocking finding, no or several matching chains, changed inputs",
    ),
    (
        4,
        "failed and taken back: a new signer didn't come up, and the old ones run again",
    ),
    (
        5,
        "failed half-way: `kmsctl apply` resumes, `kmsctl rollback` (or `unstage`) undoes",
    ),
    (6, "a wait before the switch was over: nothing was changed"),
    (
        7,
        "switched, but not seen signing in time: nothing was taken back",
    ),
    (10, "`plan --detailed-exitcode` only: there are changes"),
    (130, "ended at once by a second Ctrl-C: the same as 5"),
];

/// An error together with the exit code that it means.
///
/// Everything that isn't wrapped on purpose is [`Exit::Failed`].
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: anyhow::Error,
    /// The operation that it left open, or that was open before.
    pub operation: Option<OperationId>,
    /// What may be typed next, for a program: the sentence says it too.
    pub next: &'static [&'static str],
}

impl Failure {
    fn new(exit: Exit, error: anyhow::Error) -> Self {
        Failure {
            exit,
            error,
            operation: None,
            next: &[],
        }
    }

    pub fn of(mut self, operation: OperationId) -> Self {
        self.operation = Some(operation);
        self
    }

    pub fn next(mut self, next: &'static [&'static str]) -> Self {
        self.next = next;
        self
    }

    /// A refusal: a rule, a gate or a finding stands in the way, and nothing was changed.
    pub fn refused(message: impl fmt::Display) -> Self {
        Failure::new(Exit::Refused, anyhow::anyhow!("{message}"))
    }

    /// A failure that leaves an operation open.
    pub fn half_way(message: impl fmt::Display) -> Self {
        Failure::new(Exit::HalfWay, anyhow::anyhow!("{message}"))
    }

    /// A failure that was taken back.
    pub fn taken_back(message: impl fmt::Display) -> Self {
        Failure::new(Exit::TakenBack, anyhow::anyhow!("{message}"))
    }

    /// A wait that was over before anything was changed.
    pub fn timed_out(message: impl fmt::Display) -> Self {
        Failure::new(Exit::TimedOut, anyhow::anyhow!("{message}"))
    }

    /// Everything is switched, and signers weren't seen signing.
    pub fn not_signing(message: impl fmt::Display) -> Self {
        Failure::new(Exit::NotSigning, anyhow::anyhow!("{message}"))
    }

    /// The command line lacks something that only its author can add.
    pub fn usage(message: impl fmt::Display) -> Self {
        Failure::new(Exit::Usage, anyhow::anyhow!("{message}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::new(Exit::Failed, error)
    }
}

/// What every verb returns.
pub type Outcome = Result<Exit, Failure>;
