//! `stage`: writes the plan's files and lets systemd read them, days before the switch.

use clap::Args;

use super::operation::{self, How, PlanFile};
use crate::apply::End;
use crate::exit::{Exit, Failure, Outcome};
use crate::host::Host;
use crate::journal::store::{History, Opening, Writer};
use crate::journal::{Ending, Verb};
use crate::ledger::Ledger;
use crate::plan::{Plan, steps};
use crate::ui::Ui;

#[derive(Debug, Args)]
pub struct StageArgs {
    #[command(flatten)]
    plan: PlanFile,
}

pub fn run(host: &mut Host, ui: Ui, args: &StageArgs) -> Outcome {
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    operation::none_open(history.open().filter(|j| j.verb != Verb::Stage))?;
    let plan = operation::current_plan(host, &args.plan)?;
    if plan.moves.is_empty() {
        ui.note("Every signer is on the new chain already: nothing to stage.");
        return Ok(Exit::Done);
    }
    ui.confirm(&format!(
        "Write {} files for {} signers and let systemd read its units again?",
        plan.file_count(),
        plan.moves.len()
    ))?;
    staged(host, ui, &history, &plan)?;
    ui.note(&format!(
        "Staged {} files for {} signers; nothing that runs was touched. At the halt: `kmsctl apply`.",
        plan.file_count(),
        plan.moves.len()
    ));
    Ok(Exit::Done)
}

fn staged(host: &mut Host, ui: Ui, history: &History, plan: &Plan) -> Result<(), Failure> {
    let program = steps::stage(plan);
    let supersedes = history.open().map(|j| j.operation);
    let opening = Opening {
        verb: Verb::Stage,
        supersedes,
        plan,
        program: &program,
    };
    let (mut journal, operation) = Writer::open(host, history, &opening)?;
    let mut ledger = Ledger::of(&history.0);
    let end = operation::perform(host, ui, &mut journal, &mut ledger, How::quiet(), &program)?;
    if end == End::Done {
        return Ok(journal.close(host, Ending::Done)?);
    }
    drop(journal);
    take_back(host, ui, plan, &end)?;
    Err(Failure::from(anyhow::anyhow!(
        "{}operation {operation} was taken back: the host is as before",
        operation::explain(&end)
    )))
}

/// Takes away what a failed staging wrote.
fn take_back(host: &mut Host, ui: Ui, plan: &Plan, end: &End) -> Result<(), Failure> {
    let history = History::read(host)?;
    super::unstage::take_away(host, ui, &history, plan).map_err(|failure| {
        Failure::half_way(format!(
            "{}and what was written couldn't be taken away: {:#}\n`kmsctl unstage` tries again",
            operation::explain(end),
            failure.error
        ))
    })
}
