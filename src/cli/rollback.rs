//! `rollback`: the way back, by the same rules, the same loop and a journal of its own. Staged files stay, inert.

use clap::Args;

use super::apply::Watch;
use super::operation::{self, How};
use crate::apply::End;
use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::finding::Severity;
use crate::host::Host;
use crate::inventory::Inventory;
use crate::journal::store::{History, Opening, Writer};
use crate::journal::{Ending, Journal, OperationId, Verb};
use crate::ledger::Ledger;
use crate::plan::{Plan, safety};
use crate::rollback;
use crate::ui::{self, Ui};

#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The operation to undo; the newest by default, and only that
    #[arg(value_name = "OPERATION")]
    operation: Option<OperationId>,
    #[command(flatten)]
    watch: Watch,
}

pub fn run(host: &mut Host, ui: Ui, args: &RollbackArgs) -> Outcome {
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    let open = history.open();
    let resumed = open.filter(|j| j.verb == Verb::Rollback);
    let undone = match resumed {
        Some(open) => open,
        None => {
            operation::none_open(open.filter(|j| j.verb != Verb::Apply))?;
            target(&history, args.operation)?
        }
    };
    let plan = undone.plan.clone();
    let inventory = discover::inventory(host, Versions::Skip)?;
    judge(&plan, &inventory, ui)?;
    if !ui.yes && !ui.json {
        ui.note(&what_happens(&plan, &inventory));
    }
    ui.confirm(&format!(
        "Stop {} signers of {} and start them on {} again?",
        plan.moves.len(),
        plan.request.new_chain,
        plan.from.as_ref().map_or("", |c| c.as_str())
    ))?;
    let program = rollback::program(&plan);
    let mut journal = match resumed {
        Some(open) => Writer::resume(host, open)?,
        None => {
            let supersedes = Some(undone.operation);
            let opening = Opening {
                verb: Verb::Rollback,
                supersedes,
                plan: &plan,
                program: &program,
            };
            Writer::open(host, &history, &opening)?.0
        }
    };
    let mut ledger = Ledger::of(&history.0);
    let how = How {
        settings: args.watch.settings(),
        resumed: resumed.is_some(),
    };
    let end = operation::perform(host, ui, &mut journal, &mut ledger, how, &program)
        .map_err(|e| Failure::half_way(format!("the way back stopped: {e:#}")))?;
    if end != End::Done {
        return Err(Failure::half_way(format!(
            "{}the way back isn't complete. `kmsctl status` shows who runs; `kmsctl rollback` goes on",
            operation::explain(&end)
        )));
    }
    journal.close(host, Ending::Done)?;
    ui.note(&format!(
        "{} signers are on {} again. The staged files stay, closed; `kmsctl unstage` takes them away.",
        plan.moves.len(),
        plan.from.as_ref().map_or("the old chain", |c| c.as_str())
    ));
    Ok(Exit::Done)
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

fn judge(plan: &Plan, inventory: &Inventory, ui: Ui) -> Result<(), Failure> {
    let mut findings = rollback::changes(plan, inventory);
    findings.extend(safety::strays(inventory));
    let mut text = String::new();
    ui::plan::findings(&mut text, &findings);
    if findings.iter().any(|f| f.severity == Severity::Block) {
        return Err(Failure::refused(format!(
            "the way back is blocked:\n{}",
            text.trim()
        )));
    }
    if !findings.is_empty() {
        ui.note(text.trim());
    }
    Ok(())
}

fn what_happens(plan: &Plan, inventory: &Inventory) -> String {
    let mut out = String::new();
    for moving in &plan.moves {
        let signed: Vec<String> = inventory
            .signer(&moving.new)
            .map(|s| {
                let signed = |c: &crate::inventory::SignerChain| match c.state.height() {
                    Some(state) => format!("{} signed to {state}", c.id),
                    None => format!("{} not signed", c.id),
                };
                s.chains.iter().map(signed).collect()
            })
            .unwrap_or_default();
        ui::line(
            &mut out,
            format_args!(
                "{}: {} ({}) is stopped, and {} takes over again",
                moving.signer,
                moving.new,
                signed.join(", "),
                moving.old
            ),
        );
    }
    out
}
