//! `abandon`: closes an interrupted operation without effects, for an operator who has put the host right by hand.

use anyhow::Context;
use clap::Args;

use super::operation;
use crate::exit::{Exit, Failure, Outcome};
use crate::host::Host;
use crate::journal::OperationId;
use crate::journal::store::{History, Writer};
use crate::ui::Ui;
use crate::ui::history::abandoned;

#[derive(Debug, Args)]
pub struct AbandonArgs {
    /// The interrupted operation, as `kmsctl status` names it
    #[arg(value_name = "OPERATION")]
    operation: OperationId,
}

pub fn run(host: &mut Host, ui: Ui, args: &AbandonArgs) -> Outcome {
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    let open = history
        .open()
        .filter(|j| j.operation == args.operation)
        .ok_or_else(|| {
            let open = match history.open() {
                Some(open) => format!("operation {} ({}) is", open.operation, open.verb),
                None => "none is".to_owned(),
            };
            Failure::refused(format!("operation {} isn't open; {open}", args.operation))
        })?;
    let switched = if open.switched() {
        " Signers may be dark: look at `kmsctl status` first."
    } else {
        ""
    };
    ui.confirm(&format!(
        "Give up operation {} ({}) where it stands? Nothing is done or undone.{switched}",
        open.operation, open.verb
    ))?;
    Writer::abandon(host, open)?;
    if ui.json {
        let history = History::read(host)?;
        let closed = history.get(args.operation).context("reading it back")?;
        ui.json(&abandoned(closed))?;
    }
    ui.note(&format!(
        "Operation {} is closed. The fence and the journals stay as they are; `kmsctl status` shows who runs.",
        open.operation
    ));
    Ok(Exit::Done)
}
