//! `rollback`: the way back, by the same rules, the same loop and a journal of its own. Staged files stay, inert.

use clap::Args;

use super::apply::Watch;
use super::operation::{self, Task};
use crate::apply::End;
use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::finding::Finding;
use crate::host::Host;
use crate::inventory::Inventory;
use crate::journal::store::{History, Opening, Writer};
use crate::journal::{Journal, OperationId, Verb};
use crate::ledger::Ledger;
use crate::plan::safety::Side;
use crate::plan::{Plan, safety};
use crate::rollback;
use crate::ui::{Ui, dry_run, events};

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The operation to undo; the newest by default, and only that
    #[arg(value_name = "OPERATION")]
    operation: Option<OperationId>,
    /// Check everything and show the steps, and do none
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    watch: Watch,
}

pub fn run(host: &mut Host, ui: Ui, args: &RollbackArgs) -> Outcome {
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    let open = history.open();
    let resumed = open.filter(|j| j.verb == Verb::Rollback);
    let undone = match resumed {
        Some(open) => going_on(open, args.operation)?,
        None => {
            operation::none_open(open.filter(|j| j.verb != Verb::Apply || !j.switched()))?;
            target(&history, args.operation)?
        }
    };
    let plan = &undone.plan;
    let ledger = Ledger::of(&history.0);
    let inventory = discover::inventory(host, Versions::Skip)?;
    operation::judge(
        ui,
        findings(host, plan, &inventory, &ledger),
        "the way back is blocked",
    )?;
    let program = resumed.map(|open| open.program.clone());
    let program = program.unwrap_or_else(|| rollback::program(plan, &inventory));
    let program = operation::not_recorded_twice(program, &inventory);
    if args.dry_run {
        return dry_run::show(ui, Verb::Rollback, plan, &program);
    }
    if !ui.yes && !ui.json {
        ui.note(operation::standing(plan, &inventory).trim_end());
    }
    let old = plan.from.as_ref().map_or("the old chain", |c| c.as_str());
    ui.confirm(&format!(
        "Close {} signers of {} and go back to {old}?",
        plan.moves.len(),
        plan.request.new_chain
    ))?;
    let (journal, id) = match resumed {
        Some(open) => (Writer::resume(host, open)?, open.operation),
        None => {
            let supersedes = Some(undone.operation);
            let opening = Opening {
                verb: Verb::Rollback,
                supersedes,
                plan,
                program: &program,
            };
            Writer::open(host, &history, &opening)?
        }
    };
    let task = Task {
        journal,
        id,
        verb: Verb::Rollback,
        plan: plan.id.clone(),
        ledger,
        known: safety::known(&inventory, &plan.moves),
        settings: args.watch.settings(),
        resumed: open.is_some(),
    };
    let end = operation::carry_out(host, ui, task, &program)?;
    if end != End::Done {
        return Err(Failure::half_way(format!(
            "{}the way back isn't complete. `kmsctl status` shows who runs; `kmsctl rollback` goes on, `kmsctl apply` \
             goes to the new chain again",
            operation::explain(&end)
        ))
        .of(id)
        .next(&["kmsctl status", "kmsctl rollback", "kmsctl apply"]));
    }
    let message = format!(
        "{} signers are on {old} again. The staged files stay, closed; `kmsctl unstage` takes them away.",
        plan.moves.len()
    );
    events::done(ui, Some(id), &message, &["kmsctl unstage"]);
    Ok(Exit::Done)
}

/// Everything that forbids or should be known, before anything is stopped.
fn findings(host: &Host, plan: &Plan, inventory: &Inventory, ledger: &Ledger) -> Vec<Finding> {
    let mut findings = rollback::against(plan, inventory);
    findings.extend(rollback::changed(plan, inventory));
    let programs = plan
        .moves
        .iter()
        .filter(|m| m.start)
        .map(|m| &m.old_program);
    findings.extend(operation::binaries(plan, &*host.files, programs));
    findings.extend(safety::against(inventory, ledger, &plan.moves, Side::Old));
    for moving in &plan.moves {
        for file in moving.old_chains() {
            let reading = discover::state(&*host.files, &file.state_file);
            findings.extend(safety::startable(
                ledger,
                &moving.signer,
                &file.state_file,
                &reading,
            ));
        }
    }
    findings
}

fn going_on(open: &Journal, wanted: Option<OperationId>) -> Result<&Journal, Failure> {
    match wanted {
        Some(wanted) if open.supersedes != Some(wanted) => Err(Failure::refused(format!(
            "operation {} (rollback) is open: `kmsctl rollback` goes on with it",
            open.operation
        ))),
        _ => Ok(open),
    }
}

fn target(history: &History, wanted: Option<OperationId>) -> Result<&Journal, Failure> {
    let last = history.last_switch();
    match (wanted, last) {
        (_, None) => Err(Failure::refused(
            "nothing was switched, or it was taken back already; staged files go with `kmsctl unstage`",
        )),
        (None, Some(last)) => Ok(last),
        (Some(wanted), Some(last)) if wanted == last.operation => Ok(last),
        (Some(wanted), Some(last)) => Err(Failure::refused(match history.get(wanted) {
            None => format!("there is no operation {wanted}"),
            Some(_) => format!(
                "operation {wanted} isn't the newest switch: only operation {} can be rolled back",
                last.operation
            ),
        })),
    }
}
