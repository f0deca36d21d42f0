//! What follows a switch: it is done, or it failed, and then what was switched goes back by itself as long as no new
//! signer has signed. From its first signature on only the operator knows whether the old chain may be signed again.

use std::collections::BTreeMap;

use tmkms_core::log;
use tmkms_core::state::SignState;

use super::{ApplyArgs, signing};
use crate::apply::End;
use crate::cli::halt::{as_they_are, begun_with};
use crate::cli::{operation, way_back};
use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::floor;
use crate::host::Host;
use crate::interrupt;
use crate::inventory::StateReading;
use crate::journal::store::History;
use crate::journal::{Journal, OperationId};
use crate::ledger::Ledger;
use crate::paths::ManagedPath;
use crate::plan::Plan;
use crate::plan::halt::{Halts, leaving};
use crate::plan::program::{Action, StepId};
use crate::plan::safety::Side;
use crate::ui::{self, Ui, events};

/// Says how a switch ended, and takes it back where that is right.
pub fn ended(
    host: &mut Host,
    ui: Ui,
    args: &ApplyArgs,
    plan: &Plan,
    id: OperationId,
    end: &End,
) -> Outcome {
    let gone = || anyhow::anyhow!("the journal of operation {id} is gone");
    let unknown = |e: anyhow::Error| {
        let why = operation::explain(end);
        stays(&format!("{why}what is true now can't be told: {e:#}\n"), id)
    };
    if *end == End::Done {
        if let Some(limit) = args.await_signing {
            let history = History::read(host)?;
            let journal = history.get(id).ok_or_else(gone)?;
            signing::wait(host, ui, &history, journal, limit)?;
        }
        let one = plan.moves.len() == 1;
        let on = format!(
            "{} {} on {}",
            ui::count(plan.moves.len(), "signer"),
            if one { "is" } else { "are" },
            plan.request.new_chain
        );
        let message = match (args.await_signing, one) {
            (Some(_), _) => format!("{on}, and each started one signs."),
            (None, true) => {
                format!("{on}. It signs once its validators run: watch `kmsctl heights`.")
            }
            (None, false) => {
                format!("{on}. They sign once their validators run: watch `kmsctl heights`.")
            }
        };
        events::done(ui, Some(id), &message, &["kmsctl heights"]);
        return Ok(Exit::Done);
    }
    let history = History::read(host).map_err(unknown)?;
    let journal = history.get(id).ok_or_else(gone).map_err(unknown)?;
    let why = operation::explain(end);
    if !journal.switched() {
        return Err(Failure::half_way(format!(
            "{why}no signer was touched. `kmsctl apply` tries again, `kmsctl unstage` takes away what it staged"
        ))
        .of(id)
        .next(&["kmsctl apply", "kmsctl unstage"]));
    }
    if args.no_auto_rollback || !only_new_ones_failed(journal, end) {
        return Err(stays(&why, id));
    }
    // What one signs from here on is seen once it is stopped.
    let halts = where_new_ones_are(host, plan).map_err(unknown)?;
    let signed = signed(host, &history, journal);
    if !signed.is_empty() {
        let why = format!(
            "{why}nothing is taken back by itself, since the new chain was signed:\n  {}\n",
            signed.join("\n  ")
        );
        return Err(stays(&why, id));
    }
    take_back(host, ui, args, &history, journal, &halts, &why)
}

/// It stays where it is.
fn stays(why: &str, id: OperationId) -> Failure {
    Failure::half_way(format!(
        "{why}the switch isn't complete. `kmsctl status` shows who runs; `kmsctl apply` goes on, `kmsctl rollback` goes \
         back"
    ))
    .of(id)
    .next(&["kmsctl status", "kmsctl apply", "kmsctl rollback"])
}

/// Whether all that failed is new signers that didn't come up, or mustn't be started. An old one that can't be proven
/// dead is no reason to start it again.
fn only_new_ones_failed(journal: &Journal, end: &End) -> bool {
    let End::Stopped {
        failures,
        interrupted,
    } = end
    else {
        return false;
    };
    let steps = journal.program.steps().map(|s| (&s.id, &s.action));
    let actions: BTreeMap<&StepId, &Action> = steps.collect();
    let of_new = |(step, _): &(StepId, String)| {
        matches!(
            actions.get(step),
            Some(
                Action::Start { .. }
                    | Action::Watch { .. }
                    | Action::CheckHeights { .. }
                    | Action::CheckHalted { .. }
                    | Action::LayFloor { .. }
            )
        )
    };
    // A full device is no reason to go back: the old ones would need its sessions as well.
    let full = |(_, error): &(StepId, String)| log::is_without_session(error);
    !interrupted
        && !failures.is_empty()
        && failures.iter().all(of_new)
        && !failures.iter().any(full)
}

/// The new signers whose state has advanced since their start, in sentences. A chain that keeps its id or isn't moved goes
/// on in its one file whichever unit signs it: nothing of it is given up on the way back.
///
/// Their start is the one by the first of the operations that took up one another: what was signed between them counts.
/// A file that can't be read may have advanced.
pub fn signed(host: &Host, history: &History, newest: &Journal) -> Vec<String> {
    let mut operations = history.taken_up(newest);
    operations.reverse();
    let before = Ledger::before(&history.0, &operations);
    let mut found = Vec::new();
    for moving in &newest.plan.moves {
        let new = moving.chains.iter().filter(|c| c.old.chain != c.new.chain);
        for file in new.map(|c| &c.new) {
            let path = &file.state_file;
            let stood = before.highest(path).unwrap_or(SignState::ZERO);
            match discover::state(&*host.files, path) {
                StateReading::Missing => {}
                StateReading::Read(state) if state <= stood => {}
                StateReading::Read(state) => found.push(format!(
                    "{} signed {} up to {state}",
                    moving.signer, file.chain
                )),
                StateReading::Link | StateReading::Unreadable(_) => found.push(format!(
                    "{}: {} can't be read",
                    moving.signer,
                    path.display()
                )),
            }
        }
    }
    found
}

fn where_new_ones_are(host: &mut Host, plan: &Plan) -> anyhow::Result<Halts> {
    let inventory = discover::inventory(host, Versions::Skip)?;
    Ok(as_they_are(host, &leaving(plan, &inventory, Side::Old)))
}

/// The whole operation goes back.
fn take_back(
    host: &mut Host,
    ui: Ui,
    args: &ApplyArgs,
    history: &History,
    journal: &Journal,
    halts: &Halts,
    why: &str,
) -> Outcome {
    let plan = &journal.plan;
    ui.note("A new signer didn't come up, and none has signed: everything goes back.");
    interrupt::forget();
    let way = way_back::Way {
        plan,
        undone: journal.operation,
        resumed: None,
        asks: way_back::Asks::Nobody,
    };
    let settings = args.watch.settings();
    let back = way_back::look(host, &way, history).and_then(|look| {
        look.judge(ui, &mut operation::Shown::default())?;
        way_back::go(host, ui, &way, history, look, halts, settings)
    });
    let (id, trouble) = match back {
        Ok((id, End::Done)) => return Err(taken_back(host, plan, id, why)?),
        Ok((id, end)) => (id, operation::explain(&end)),
        Err(failure) => (
            failure.operation.unwrap_or(journal.operation),
            format!("{:#}\n", failure.error),
        ),
    };
    Err(Failure::half_way(format!(
        "THE WAY BACK FAILED TOO:\n{trouble}`kmsctl rollback` tries it again. By hand, signer by signer, where \
         `kmsctl status` shows that neither unit runs:\n{}the switch had failed before: {}",
        by_hand(plan),
        why.trim_end()
    ))
    .of(id)
    .next(&["kmsctl status", "kmsctl rollback"]))
}

fn taken_back(
    host: &mut Host,
    plan: &Plan,
    id: OperationId,
    why: &str,
) -> Result<Failure, Failure> {
    let inventory = discover::inventory(host, Versions::Skip)?;
    let old = plan.from.as_ref().map_or("the old chain", |c| c.as_str());
    let history = History::read(host)?;
    let with = history.get(id).map(|j| flags(&history, j));
    let failure = Failure::taken_back(format!(
        "{why}taken back to {old} by operation {id}:\n{}find out why it didn't come up; `kmsctl apply{}` tries again",
        operation::standing(plan, &inventory),
        with.unwrap_or_default()
    ));
    Ok(failure
        .of(id)
        .next(&["kmsctl status", "kmsctl apply", "kmsctl unstage"]))
}

/// The heights that an operation was begun with, as they are typed: a new one doesn't know them.
fn flags(history: &History, newest: &Journal) -> String {
    let operations = history.taken_up(newest);
    let mut programs = operations.iter().map(|j| &j.program);
    let halt = programs.clone().find_map(begun_with);
    let initial = programs.find_map(floor::begun_with);
    let mut flags = halt.map_or_else(String::new, |h| format!(" --halt-height {h}"));
    if let Some(height) = initial {
        flags += &format!(" --initial-height {height}");
    }
    flags
}

/// What a hand may do for a signer, once its new unit is proven dead.
fn by_hand(plan: &Plan) -> String {
    let mut out = String::new();
    for moving in plan.moves.iter().filter(|m| m.start) {
        let config = moving.new_config.display();
        let [old, new] = [&moving.old, &moving.new].map(ManagedPath::fence);
        // Both open, a boot would start both.
        ui::line(
            &mut out,
            format_args!(
                "  touch {new} && systemctl stop {}; pgrep -af {config}  # nothing may be left on it",
                moving.new
            ),
        );
        ui::line(
            &mut out,
            format_args!("  rm -f {old} && systemctl start {}", moving.old),
        );
    }
    out
}
