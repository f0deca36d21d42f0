//! A program that is shown and not performed, as data and as text.

use schemars::JsonSchema;
use serde::Serialize;

use super::progress::doing;
use super::{FORMAT_VERSION, Ui, line};
use crate::exit::{Exit, Failure, Outcome};
use crate::journal::Verb;
use crate::plan::Plan;
use crate::plan::program::Program;

/// What `apply --dry-run --json` and `rollback --dry-run --json` print.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "DryRun")]
pub struct DryRun<'a> {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    pub verb: Verb,
    /// The plan's id.
    pub plan: &'a str,
    /// What would be done; no steps where there is nothing to do.
    pub program: &'a Program,
}

/// Shows a program instead of performing it.
pub fn show(ui: Ui, verb: Verb, plan: &Plan, program: &Program) -> Outcome {
    if ui.json {
        ui.json(&DryRun {
            format_version: FORMAT_VERSION,
            verb,
            plan: &plan.id,
            program,
        })?;
        return Ok(Exit::Done);
    }
    ui.out(&text(program))?;
    ui.note("Nothing was done.");
    Ok(Exit::Done)
}

/// Shows a program that wouldn't be performed now, and why; a program that reads gets the reason alone.
pub fn refused(ui: Ui, program: &Program, why: Failure) -> Outcome {
    if !ui.json {
        ui.out(&text(program))?;
        ui.note("Nothing was done, and now it would be refused:");
    }
    Err(why)
}

fn text(program: &Program) -> String {
    let mut out = String::new();
    for step in program.steps() {
        let doing = doing(&step.action);
        line(
            &mut out,
            format_args!("{}: {doing}: {}", step.id, step.because),
        );
    }
    out
}
