//! `status`: who runs, on which chain, how far; and after an interruption what is true now and what to type.

use std::collections::BTreeSet;

use anyhow::Context;

use crate::discover::{self, Versions};
use crate::exit::{Exit, Outcome};
use crate::host::Host;
use crate::inventory::{Inventory, Signer};
use crate::journal::store::History;
use crate::journal::{Journal, Verb};
use crate::nodes::{self, Proofs};
use crate::paths::ManagedPath;
use crate::plan::Move;
use crate::plan::safety::identity;
use crate::ui::status::{Fence, Operation, Status, row, text};
use crate::ui::{FORMAT_VERSION, Ui};
use crate::unit::UnitName;

pub fn run(host: &mut Host, ui: Ui) -> Outcome {
    let mut inventory = discover::inventory(host, Versions::Skip)?;
    let running = host.memory.is_locked()?;
    // In the middle of a switch every session of a device may be needed.
    if !running {
        discover::devices(host, &mut inventory);
    }
    let history = History::read(host)?;
    let mut rows = Vec::new();
    let mut closed = BTreeSet::new();
    for signer in &inventory.signers {
        let fence = fence(host, signer)?;
        if fence == Some(Fence::Closed) {
            closed.insert(signer.unit.name.clone());
        }
        rows.push(row(signer, &inventory.keys, fence));
    }
    let open = history.open();
    let mut problems = inventory.problems.clone();
    let (found, odd) = discover::nodes(host)?;
    problems.extend(odd);
    let mut key_managers = Vec::new();
    for node in &found {
        let asked = nodes::ask(host, node);
        // Read after the node was asked: what is kept is never older than what it said.
        let kept = Proofs::read(host)?.of(node);
        let own = asked.own_word(node);
        key_managers.push(asked.row(node, own, &kept).0);
    }
    problems.extend(identity::findings(&inventory, |_| true));
    let status = Status {
        format_version: FORMAT_VERSION,
        host: inventory.host.clone(),
        observed_at: inventory.observed_at,
        signers: rows,
        key_managers,
        operation: open.map(|j| Operation {
            id: j.operation,
            verb: j.verb,
            plan: j.plan.id.clone(),
            opened_at: j.opened_at,
            by: j.by.clone(),
        }),
        notes: notes(&inventory, &history, &closed, running),
        problems,
    };
    if ui.json {
        ui.json(&status)?
    } else {
        ui.out(&text(&status))?
    }
    Ok(Exit::Done)
}

fn fence(host: &Host, signer: &Signer) -> anyhow::Result<Option<Fence>> {
    let unit = &signer.unit.name;
    if signer.unit.unheeded {
        return Ok(Some(Fence::Unheeded));
    }
    let there = |path: &ManagedPath| {
        host.files
            .entry(path.as_path())
            .map(|e| e.is_some())
            .with_context(|| format!("looking at {path}"))
    };
    Ok(
        match (
            there(&ManagedPath::fence(unit))?,
            there(&ManagedPath::drop_in(unit))?,
        ) {
            (true, _) => Some(Fence::Closed),
            (false, true) => Some(Fence::Open),
            (false, false) => None,
        },
    )
}

fn notes(
    inventory: &Inventory,
    history: &History,
    closed: &BTreeSet<UnitName>,
    running: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    let open = history.open();
    let plan = open.or_else(|| history.last_switch()).map(|j| &j.plan);
    for moving in plan.iter().flat_map(|p| &p.moves) {
        notes.extend(dark(inventory, moving, closed));
    }
    notes.extend(open.map(|open| ways(open, running)));
    for signer in &inventory.signers {
        // Both signs at once can't come from kmsctl: the fence keeps them apart.
        if closed.contains(&signer.unit.name) && signer.unit.run.is_up() {
            notes.push(format!(
                "{} runs, and its fence is closed: it wouldn't start again.",
                signer.unit.name
            ));
        }
    }
    notes
}

/// A signer that should run and has no unit that does.
fn dark(inventory: &Inventory, moving: &Move, closed: &BTreeSet<UnitName>) -> Option<String> {
    let units = [&moving.new, &moving.old].map(|unit| inventory.signer(unit));
    let mut up = units.into_iter().flatten().filter(|s| s.is_up());
    // Between two of systemd's tries there is no process to sign.
    let between = up.clone().find(|s| s.unit.run.main_pid == 0);
    if !moving.start || up.any(|s| s.unit.run.main_pid != 0) {
        return None;
    }
    if let Some(signer) = between {
        let (unit, run) = (&signer.unit.name, &signer.unit.run);
        return Some(format!(
            "{} is dark: {unit} is {} ({}), and no process of it runs; see `journalctl -u {unit}`.",
            moving.signer, run.active, run.sub
        ));
    }
    let why = match (closed.contains(&moving.old), closed.contains(&moving.new)) {
        (true, true) => "both its units are closed, as in the middle of a switch",
        (true, false) => "its new unit may start and doesn't run",
        (false, true) => "its old unit may start and doesn't run",
        (false, false) => "neither unit runs, and no fence keeps them apart: start none by hand",
    };
    Some(format!("{} is dark: {why}.", moving.signer))
}

fn ways(open: &Journal, running: bool) -> String {
    let (id, verb) = (open.operation, open.verb);
    if running {
        return format!("Operation {id} ({verb}) is running now.");
    }
    let ways = match verb {
        Verb::Stage => {
            "no signer was touched. `kmsctl stage` goes on, `kmsctl unstage` takes it back"
        }
        Verb::Unstage => "no signer was touched. `kmsctl unstage` goes on",
        Verb::Apply if !open.switched() => {
            "no signer was touched. `kmsctl apply` goes on, `kmsctl unstage` takes away what it staged"
        }
        Verb::Apply => {
            "`kmsctl apply` goes on to the new chain, `kmsctl rollback` goes back to the old one. Start nothing by hand"
        }
        Verb::Rollback => {
            "`kmsctl rollback` goes on with the way back, `kmsctl apply` goes to the new chain again. Start nothing by hand"
        }
    };
    format!("Operation {id} ({verb}) was interrupted: {ways}.")
}
