//! `unstage`: takes the staged files away; only those that kmsctl wrote and nobody changed.

use std::collections::BTreeMap;

use anyhow::Context;

use super::operation::{self, Task};
use crate::apply::look::look_at_remove;
use crate::apply::sessions::Sessions;
use crate::apply::{End, Readiness, Settings};
use crate::exit::{Exit, Failure, Outcome};
use crate::host::Host;
use crate::journal::store::{History, Opening, Writer};
use crate::journal::{OperationId, Verb};
use crate::ledger::Ledger;
use crate::paths::ManagedPath;
use crate::plan::{Plan, steps};
use crate::ui::{Ui, events};

pub fn run(host: &mut Host, ui: Ui) -> Outcome {
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    let open = history.open().filter(|j| {
        // An apply that was interrupted before it touched a signer has only staged.
        match j.verb {
            Verb::Stage | Verb::Unstage => false,
            Verb::Apply => j.switched(),
            Verb::Rollback => true,
        }
    });
    operation::none_open(open)?;
    let ledger = Ledger::of(&history.0);
    let staged = history
        .0
        .iter()
        .rev()
        .find(|j| !ledger.written_for(&j.plan).is_empty());
    // One that was interrupted before its first file, or after its last, is still to be closed.
    let staged = staged.or(history.open()).map(|j| j.plan.clone());
    let Some(plan) = staged else {
        events::done(ui, None, "Nothing is staged.", &[]);
        return Ok(Exit::Done);
    };
    // What was switched to stands on these files, whether it runs at the moment or not.
    let applied = history.last_switch().is_some_and(|j| j.plan.id == plan.id);
    for moving in &plan.moves {
        if applied || host.services.run(&moving.new)?.state.is_up() {
            return Err(Failure::refused(format!(
                "{} stands on these files: the plan was applied; `kmsctl rollback` goes back first",
                moving.new
            ))
            .next(&["kmsctl rollback"]));
        }
    }
    for moving in &plan.moves {
        let marker = ManagedPath::fence(&moving.old);
        if host
            .files
            .entry(marker.as_path())
            .with_context(|| format!("looking at {marker}"))?
            .is_some()
        {
            return Err(Failure::refused(format!(
                "{marker}: {} is closed, so its signer was left half-way; `kmsctl status` says how to go on",
                moving.old
            ))
            .next(&["kmsctl status"]));
        }
    }
    removable(host, &plan, &ledger)?;
    ui.confirm(&format!(
        "Take away the files staged for {} signers?",
        plan.moves.len()
    ))?;
    let id = take_away(host, ui, &history, &plan)?;
    let left = Ledger::of(&History::read(host)?.0);
    let applied = history.last_switch().map(|j| &j.plan.id);
    let more = history
        .0
        .iter()
        .any(|j| Some(&j.plan.id) != applied && !left.written_for(&j.plan).is_empty());
    let (message, next): (_, &[&str]) = if more {
        (
            "Took the staged files away; nothing that runs was touched. An earlier plan's files are left: \
             `kmsctl unstage` takes them away as well.",
            &["kmsctl unstage"],
        )
    } else {
        (
            "Took the staged files away; nothing that runs was touched.",
            &[],
        )
    };
    events::done(ui, Some(id), message, next);
    Ok(Exit::Done)
}

/// Looks at every file before the first is taken away.
fn removable(host: &Host, plan: &Plan, ledger: &Ledger) -> Result<(), Failure> {
    let written = ledger.written_for(plan);
    for file in plan
        .moves
        .iter()
        .flat_map(|m| &m.files)
        .filter(|f| written.contains(&f.path))
    {
        let look = look_at_remove(&*host.files, file.role, &file.path, &file.content)?;
        if let Readiness::Drifted { found } = look {
            return Err(Failure::refused(found));
        }
    }
    Ok(())
}

/// Runs the plan's unstaging as an operation of its own.
pub fn take_away(
    host: &mut Host,
    ui: Ui,
    history: &History,
    plan: &Plan,
) -> Result<OperationId, Failure> {
    let ledger = Ledger::of(&history.0);
    let program = steps::unstage(plan, &ledger.written_for(plan));
    let supersedes = history.open().map(|j| j.operation);
    let opening = Opening {
        verb: Verb::Unstage,
        supersedes,
        plan,
        program: &program,
    };
    let (journal, id) = Writer::open(host, history, &opening)
        .map_err(Failure::from)
        .map_err(operation::still_open(history.open()))?;
    let task = Task {
        journal,
        id,
        verb: Verb::Unstage,
        plan: plan.id.clone(),
        ledger,
        known: BTreeMap::new(),
        sessions: Sessions::default(),
        settings: Settings::default(),
        resumed: true,
    };
    match operation::carry_out(host, ui, task, &program)? {
        End::Done => Ok(id),
        end => Err(Failure::half_way(format!(
            "{}operation {id} is half done; `kmsctl unstage` goes on with it",
            operation::explain(&end)
        ))
        .of(id)
        .next(&["kmsctl unstage"])),
    }
}
