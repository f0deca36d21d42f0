//! Operations as data and as text.

use schemars::JsonSchema;
use serde::Serialize;

use super::{FORMAT_VERSION, line};
use crate::journal::{Ending, Journal, OperationId, Record, Verb};

/// What `history --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Operations {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    /// Oldest first.
    pub operations: Vec<Summary>,
}

/// An operation in a line.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Summary {
    pub id: OperationId,
    pub verb: Verb,
    pub plan: String,
    pub from: Option<String>,
    pub to: String,
    pub signers: Vec<String>,
    pub by: String,
    pub opened_at: jiff::Timestamp,
    pub supersedes: Option<OperationId>,
    pub ending: Ending,
}

/// What `history OPERATION --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Operation<'a> {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    #[serde(flatten)]
    pub summary: Summary,
    pub records: &'a [Record],
}

/// What `abandon --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Abandoned {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    #[serde(flatten)]
    pub summary: Summary,
    /// A signer was touched: some may be dark.
    pub switched: bool,
    /// What may be typed next.
    pub next: &'static [&'static str],
}

fn summary(journal: &Journal) -> Summary {
    let plan = &journal.plan;
    Summary {
        id: journal.operation,
        verb: journal.verb,
        plan: plan.id.clone(),
        from: plan.from.as_ref().map(ToString::to_string),
        to: plan.request.new_chain.to_string(),
        signers: plan.moves.iter().map(|m| m.signer.clone()).collect(),
        by: journal.by.clone(),
        opened_at: journal.opened_at,
        supersedes: journal.supersedes,
        ending: journal.ending(),
    }
}

pub fn operations(journals: &[Journal]) -> Operations {
    Operations {
        format_version: FORMAT_VERSION,
        operations: journals.iter().map(summary).collect(),
    }
}

pub fn operation(journal: &Journal) -> Operation<'_> {
    Operation {
        format_version: FORMAT_VERSION,
        summary: summary(journal),
        records: &journal.records,
    }
}

/// An operation that was given up.
pub fn abandoned(journal: &Journal) -> Abandoned {
    Abandoned {
        format_version: FORMAT_VERSION,
        summary: summary(journal),
        switched: journal.switched(),
        next: &["kmsctl status"],
    }
}

fn head(out: &mut String, operation: &Summary) {
    let ending = match &operation.ending {
        Ending::Open => "open".to_owned(),
        Ending::Done { at } => format!("done {}", at.strftime("%F %T UTC")),
        Ending::Abandoned { by, at } => format!("abandoned {} by {by}", at.strftime("%F %T UTC")),
    };
    let after = operation
        .supersedes
        .map(|o| format!(", after {o}"))
        .unwrap_or_default();
    line(
        out,
        format_args!(
            "{}  {}  {} -> {}, {} signers, begun {} by {}{after}: {ending}",
            operation.id,
            operation.verb,
            operation.from.as_deref().unwrap_or("-"),
            operation.to,
            operation.signers.len(),
            operation.opened_at.strftime("%F %T UTC"),
            operation.by
        ),
    );
}

pub fn operations_text(operations: &Operations) -> String {
    let mut out = String::new();
    if operations.operations.is_empty() {
        line(&mut out, format_args!("Nothing was done on this host yet."));
    }
    for operation in &operations.operations {
        head(&mut out, operation);
    }
    out
}

/// An operation record by record; what was so already is left out.
pub fn text(operation: &Operation<'_>) -> String {
    let mut out = String::new();
    head(&mut out, &operation.summary);
    for record in operation.records {
        match record {
            Record::Done {
                step,
                already: false,
            } => line(&mut out, format_args!("  {step}")),
            Record::Failed { step, error } => {
                line(&mut out, format_args!("  {step} FAILED: {error}"));
            }
            Record::State {
                chain,
                state_file,
                state,
                ..
            } => {
                let file = state_file.display();
                line(&mut out, format_args!("  {chain} was at {state} in {file}"));
            }
            Record::Resumed { by, at, .. } => {
                line(
                    &mut out,
                    format_args!("  went on {} by {by}", at.strftime("%F %T UTC")),
                );
            }
            Record::Opened { .. }
            | Record::Intent { .. }
            | Record::Done { .. }
            | Record::Abandoned { .. }
            | Record::Closed { .. } => {}
        }
    }
    out
}
