//! `stage`: writes the plan's files and lets systemd read them, days before the switch.

use std::collections::BTreeMap;

use clap::Args;

use super::operation::{self, Heights, PlanFile, Task};
use crate::apply::sessions::Sessions;
use crate::apply::{End, Settings};
use crate::exit::{Exit, Failure, Outcome};
use crate::host::Host;
use crate::interrupt;
use crate::journal::store::{History, Opening, Writer};
use crate::journal::{OperationId, Verb};
use crate::ledger::Ledger;
use crate::peers::Peers;
use crate::plan::{Plan, steps};
use crate::ui::{Ui, events};

#[derive(Debug, Args)]
pub struct StageArgs {
    #[command(flatten)]
    plan: PlanFile,
}

pub fn run(host: &mut Host, ui: Ui, args: &StageArgs) -> Outcome {
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    operation::none_open(history.open().filter(|j| j.verb != Verb::Stage))?;
    let peers = Peers::default();
    let (plan, _) = operation::current_plan(host, &args.plan, Heights::Now, &peers, &history)?;
    if plan.moves.is_empty() {
        let message = "The plan's signers are on the new chain already: nothing to stage.";
        events::done(ui, None, message, &[]);
        return Ok(Exit::Done);
    }
    ui.confirm(&format!(
        "Write {} files for {} signers and let systemd read its units again?",
        plan.file_count(),
        plan.moves.len()
    ))?;
    let program = steps::stage(&plan);
    let supersedes = history.open().map(|j| j.operation);
    let opening = Opening {
        verb: Verb::Stage,
        supersedes,
        plan: &plan,
        program: &program,
    };
    let (journal, id) = Writer::open(host, &history, &opening)
        .map_err(Failure::from)
        .map_err(operation::still_open(history.open()))?;
    let task = Task {
        journal,
        id,
        verb: Verb::Stage,
        plan: plan.id.clone(),
        ledger: Ledger::of(&history.0),
        known: BTreeMap::new(),
        sessions: Sessions::default(),
        settings: Settings::default(),
        resumed: supersedes.is_some(),
    };
    let end = operation::carry_out(host, ui, task, &program)?;
    if end != End::Done {
        return Err(take_back(host, ui, &plan, id, &end));
    }
    let message = format!(
        "Staged {} files for {} signers; nothing that runs was touched. At the halt: `kmsctl apply`.",
        plan.file_count(),
        plan.moves.len()
    );
    events::done(ui, Some(id), &message, &["kmsctl apply"]);
    Ok(Exit::Done)
}

/// Takes away what a failed staging wrote, and says how that went.
fn take_back(host: &mut Host, ui: Ui, plan: &Plan, id: OperationId, end: &End) -> Failure {
    let why = operation::explain(end);
    interrupt::forget();
    let taken = History::read(host)
        .map_err(Failure::from)
        .and_then(|history| super::unstage::take_away(host, ui, &history, plan));
    match taken {
        Ok(_) => Failure::from(anyhow::anyhow!(
            "{why}what was written was taken back: the host is as before"
        ))
        .of(id),
        Err(failure) => Failure::half_way(format!(
            "{why}and what was written couldn't be taken away: {:#}",
            failure.error
        ))
        .of(failure.operation.unwrap_or(id))
        .next(&["kmsctl unstage"]),
    }
}
