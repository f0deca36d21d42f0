//! What the verbs that perform a program print with `--json`: an event a line, and a last one that says how it ended.
//!
//! A line must be whole by itself: a reader may come late, and may stop reading.

use schemars::JsonSchema;
use serde::Serialize;
use tmkms_core::state::SignState;

use super::progress::doing;
use super::waiting::Standing;
use super::{FORMAT_VERSION, Ui};
use crate::apply::Event as Performed;
use crate::exit::Exit;
use crate::journal::{OperationId, Verb};
use crate::plan::program::StepId;

/// A line of `stage`, `unstage`, `apply` and `rollback` with `--json`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Line")]
pub struct Line<'a> {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    #[serde(flatten)]
    pub event: Event<'a>,
}

/// What happened.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// An operation is open: the next lines are its own, until another one begins or all has ended. A failed `stage` is
    /// taken back by an operation of its own.
    Begun {
        operation: OperationId,
        verb: Verb,
        /// The plan's id.
        plan: &'a str,
        /// How many steps it has, those that are done already included.
        steps: usize,
    },
    /// A step is about to be done.
    Doing {
        /// None for the steps that all signers share.
        signer: Option<&'a str>,
        step: &'a StepId,
        /// What it does, in a few words.
        action: String,
    },
    Done {
        signer: Option<&'a str>,
        step: &'a StepId,
        action: String,
        /// It was so already; nothing was done.
        already: bool,
    },
    Failed {
        signer: Option<&'a str>,
        step: &'a StepId,
        action: String,
        error: &'a str,
    },
    /// The halt is waited for, and where a signer stands changed.
    Waiting {
        signer: &'a str,
        chain: &'a str,
        /// None, as round and step, where its state file can't be read.
        height: Option<u64>,
        round: Option<u32>,
        step: Option<u8>,
        halt_height: u64,
        /// A validator is connected to it.
        connected: bool,
    },
    /// A new signer is seen signing.
    Signed {
        signer: &'a str,
        chain: &'a str,
        height: u64,
        round: u32,
        step: u8,
    },
    /// Every step of this signer is done.
    SignerDone { signer: &'a str },
    /// Always the last line, unless kmsctl was killed.
    Ended {
        /// The exit code.
        exit: u8,
        meaning: Exit,
        /// The operation that was opened or gone on with, or that is in the way; none where there was nothing to do, or
        /// where it was refused before.
        operation: Option<OperationId>,
        /// How it ended well, in a sentence.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
        /// What went wrong, in the words that are on standard error.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
        /// What may be typed next.
        next: &'a [&'a str],
    },
}

impl<'a> Event<'a> {
    /// A signer while the halt is waited for.
    pub fn waiting(standing: &Standing<'a>, halt_height: u64) -> Event<'a> {
        Event::Waiting {
            signer: standing.signer,
            chain: standing.chain,
            height: standing.state.map(|s| s.height),
            round: standing.state.map(|s| s.round),
            step: standing.state.map(|s| s.step),
            halt_height,
            connected: standing.connected,
        }
    }

    /// A new signer that signs.
    pub fn signed(signer: &'a str, chain: &'a str, at: SignState) -> Event<'a> {
        Event::Signed {
            signer,
            chain,
            height: at.height,
            round: at.round,
            step: at.step,
        }
    }

    /// What the loop says, as it is printed.
    pub fn of(event: &Performed<'a>) -> Event<'a> {
        match *event {
            Performed::Doing { signer, step } => Event::Doing {
                signer,
                step: &step.id,
                action: doing(&step.action),
            },
            Performed::Done {
                signer,
                step,
                already,
            } => Event::Done {
                signer,
                step: &step.id,
                action: doing(&step.action),
                already,
            },
            Performed::Failed {
                signer,
                step,
                error,
            } => Event::Failed {
                signer,
                step: &step.id,
                action: doing(&step.action),
                error,
            },
            Performed::LaneDone { signer } => Event::SignerDone { signer },
        }
    }
}

/// Prints an event with `--json`, and nothing without.
pub fn show(ui: Ui, event: Event<'_>) {
    if ui.json {
        let line = Line {
            format_version: FORMAT_VERSION,
            event,
        };
        // The journal has it all; a reader that went away doesn't stop a switch.
        ui.json(&line).ok();
    }
}

/// Says how a verb that performs a program ended well.
pub fn done(ui: Ui, operation: Option<OperationId>, message: &str, next: &[&str]) {
    ui.note(message);
    let event = Event::Ended {
        exit: Exit::Done as u8,
        meaning: Exit::Done,
        operation,
        message: Some(message),
        error: None,
        next,
    };
    show(ui, event);
}
