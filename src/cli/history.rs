//! `history`: what was done, when and by whom, from the journals.

use clap::Args;

use crate::exit::{Exit, Failure, Outcome};
use crate::host::Host;
use crate::journal::OperationId;
use crate::journal::store::History;
use crate::ui::Ui;
use crate::ui::history::{operation, operations, operations_text, text};

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Show this operation record by record
    #[arg(value_name = "OPERATION")]
    operation: Option<OperationId>,
}

pub fn run(host: &mut Host, ui: Ui, args: &HistoryArgs) -> Outcome {
    let history = History::read(host)?;
    let Some(wanted) = args.operation else {
        let all = operations(&history.0);
        if ui.json {
            ui.json(&all)?
        } else {
            ui.out(&operations_text(&all))?
        }
        return Ok(Exit::Done);
    };
    let journal = history.get(wanted).ok_or_else(|| {
        Failure::refused(format!(
            "there is no operation {wanted}; `kmsctl history` lists them"
        ))
    })?;
    let operation = operation(journal);
    if ui.json {
        ui.json(&operation)?
    } else {
        ui.out(&text(&operation))?
    }
    Ok(Exit::Done)
}
