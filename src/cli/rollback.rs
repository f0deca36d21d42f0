//! `rollback`: the way back, by the same rules, the same loop and a journal of its own. Staged files stay, inert.

use clap::Args;

use super::halt;
use super::operation::{self, Shown};
use super::watch::Watch;
use super::way_back::{self, Asks, Way};
use crate::apply::End;
use crate::exit::{Exit, Failure, Outcome};
use crate::host::Host;
use crate::interrupt;
use crate::journal::store::History;
use crate::journal::{Journal, OperationId, Verb};
use crate::peers::{Peer, ask};
use crate::plan::halt::leaving;
use crate::plan::safety::Side;
use crate::ui::{self, Ui, dry_run, events};

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

pub fn run(host: &mut Host, ui: Ui, peers: &[Peer], args: &RollbackArgs) -> Outcome {
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
    let (answers, later);
    answers = ask(peers, host.clock.now());
    let mut way = Way {
        plan,
        undone: undone.operation,
        resumed,
        asks: Asks::All(&answers),
    };
    let still_open = operation::still_open(open);
    let mut shown = Shown::default();
    let mut look = way_back::look(host, &way, &history).map_err(&still_open)?;
    look.judge(ui, &mut shown)?;
    if args.dry_run {
        let leaving = leaving(plan, &look.inventory, Side::Old);
        let judged = halt::stands_still(host, ui, &leaving);
        let halts = halt::as_they_are(host, &leaving);
        let program = way.program(&*host.files, &look.inventory, &history, &halts)?;
        return match judged {
            Ok(()) => dry_run::show(ui, Verb::Rollback, plan, &program),
            Err(why) => dry_run::refused(ui, &program, why),
        };
    }
    if !ui.yes && !ui.json {
        ui.note(operation::standing(plan, &look.inventory).trim_end());
    }
    let old = plan.from.as_ref().map_or("the old chain", |c| c.as_str());
    confirm(host, ui, &history, undone, old)?;
    if !ui.yes {
        // The question may have stood there for long.
        later = ask(peers, host.clock.now());
        way.asks = Asks::All(&later);
        look = way_back::look(host, &way, &history).map_err(&still_open)?;
        look.judge(ui, &mut shown)?;
    }
    let leaving = leaving(plan, &look.inventory, Side::Old);
    halt::stands_still(host, ui, &leaving).map_err(&still_open)?;
    let halts = halt::as_they_are(host, &leaving);
    interrupt::none_yet().map_err(&still_open)?;
    let settings = args.watch.settings();
    let (id, end) =
        way_back::go(host, ui, &way, &history, look, &halts, settings).map_err(&still_open)?;
    if end != End::Done {
        return Err(Failure::half_way(format!(
            "{}the way back isn't complete. `kmsctl status` shows who runs; `kmsctl rollback` goes on, `kmsctl apply` \
             goes to the new chain again",
            operation::explain(&end)
        ))
        .of(id)
        .next(&["kmsctl status", "kmsctl rollback", "kmsctl apply"]));
    }
    let count = plan.moves.len();
    let message = format!(
        "{} {} on {old} again. The staged files stay, closed; `kmsctl unstage` takes them away.",
        ui::count(count, "signer"),
        if count == 1 { "is" } else { "are" }
    );
    events::done(ui, Some(id), &message, &["kmsctl unstage"]);
    Ok(Exit::Done)
}

/// Asks; for the chain's name where new signers have signed, since their blocks are given up.
fn confirm(
    host: &Host,
    ui: Ui,
    history: &History,
    undone: &Journal,
    old: &str,
) -> Result<(), Failure> {
    let plan = &undone.plan;
    let question = format!(
        "Close {} of {} and go back to {old}?",
        ui::count(plan.moves.len(), "signer"),
        plan.request.new_chain
    );
    let mut signed = super::apply::signed(host, history, undone);
    if signed.is_empty() {
        ui.confirm(&question)?;
        // Whoever answered didn't know of what was signed meanwhile.
        signed = super::apply::signed(host, history, undone);
    }
    if signed.is_empty() {
        return Ok(());
    }
    ui.note(&format!(
        "The new chain was signed:\n  {}\nThat stays signed: go back only where the new chain was given up.",
        signed.join("\n  ")
    ));
    ui.confirm_by_name(&question, plan.request.new_chain.as_str())
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
