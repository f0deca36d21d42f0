//! Going on after a death: with an interrupted switch, or forward again from a way back that was interrupted. Every gate is
//! looked at anew.

use super::{ApplyArgs, Begin, Foreseen, after, as_begun, begin, lay_floors, whole};
use crate::cli::halt::begun_with;
use crate::cli::operation::{self, Heights, Shown, Task};
use crate::exit::{Failure, Outcome};
use crate::finding::Finding;
use crate::floor;
use crate::host::Host;
use crate::interrupt;
use crate::inventory::{Inventory, Signer};
use crate::journal::store::{History, Writer};
use crate::journal::{Journal, Verb};
use crate::ledger::Ledger;
use crate::peers::{Here, Peer, Peers, ask};
use crate::plan::halt::Leaving;
use crate::plan::program::{Action, Program};
use crate::plan::safety::Side;
use crate::plan::{Height, halt, safety, steps};
use crate::resumed;
use crate::ui::Ui;
use crate::unit::UnitName;

/// What is gone on with.
struct GoingOn<'a> {
    open: &'a Journal,
    ledger: &'a Ledger,
    peers: &'a [Peer],
    max_spread: Option<u64>,
}

impl GoingOn<'_> {
    /// Looks at the host, and at everything that forbids going on or should be known. Without `Heights::Now` how far the
    /// chain is will be asked once the halt was waited for.
    fn look(
        &self,
        host: &mut Host,
        ui: Ui,
        heights: Heights,
        shown: &mut Shown,
    ) -> Result<Inventory, Failure> {
        let plan = &self.open.plan;
        let inventory = operation::with_devices(host)?;
        let mut findings = safety::against(&inventory, self.ledger, &plan.moves, Side::New);
        if heights == Heights::Now {
            let peers = ask(self.peers, host.clock.now());
            findings.extend(across_hosts(&inventory, self.open, self.max_spread, &peers));
        }
        findings.extend(crate::rollback::changed(plan, &inventory));
        let programs = plan.moves.iter().map(|m| &m.new_program);
        findings.extend(operation::binaries(plan, &*host.files, programs));
        let what = format!(
            "operation {} can't go on to {}",
            self.open.operation, plan.request.new_chain
        );
        shown.judge(ui, findings, &what)?;
        Ok(inventory)
    }

    fn leaving(&self, inventory: &Inventory) -> Vec<Leaving> {
        let mut leaving = halt::leaving(&self.open.plan, inventory, Side::New);
        for signer in &mut leaving {
            signer.stopped = stopped(self.open, inventory, &signer.unit);
        }
        leaving
    }

    fn program(&self, inventory: &Inventory) -> Program {
        let program = match self.open.verb {
            Verb::Rollback => forward(self.open, inventory),
            _ => left(self.open, inventory),
        };
        resumed::not_recorded_twice(program, inventory)
    }
}

/// Goes on to the new chain after a death: with an interrupted switch, or with its plan where the way back was
/// interrupted. Every gate is looked at anew, and what is true now is shown first.
pub fn go_on(
    host: &mut Host,
    ui: Ui,
    peers: &[Peer],
    args: &ApplyArgs,
    history: &History,
    open: &Journal,
) -> Outcome {
    let plan = &open.plan;
    let operations = history.taken_up(open);
    let begun = operations.iter().find_map(|j| begun_with(&j.program));
    let halt = args.halt.as_begun(ui, begun)?;
    if args.plan.file.is_some() && args.plan.read(host)?.id != plan.id {
        return Err(Failure::refused(format!(
            "operation {} ({}) is open, of plan {}: `kmsctl apply` without a plan goes on with it, `kmsctl rollback` \
             goes back",
            open.operation, open.verb, plan.id
        )));
    }
    let initial_height = first_height(ui, args, history, open)?;
    let ledger = Ledger::of(&history.0);
    let going_on = GoingOn {
        open,
        ledger: &ledger,
        peers,
        max_spread: args.max_spread,
    };
    let of = |failure| operation::still_open(Some(open))(failure).of(open.operation);
    let mut shown = Shown::default();
    let heights = args.halt.heights();
    let mut inventory = going_on.look(host, ui, heights, &mut shown).map_err(of)?;
    if args.dry_run {
        let foreseen = Foreseen {
            plan,
            leaving: &going_on.leaving(&inventory),
            initial_height,
        };
        return foreseen.show(host, ui, &halt, going_on.program(&inventory));
    }
    ui.note(operation::standing(plan, &inventory).trim_end());
    ui.confirm(&format!(
        "Operation {} ({}, begun {}) was interrupted. Go on to {} with its {} signers?",
        open.operation,
        open.verb,
        open.opened_at.strftime("%F %T UTC"),
        plan.request.new_chain,
        plan.moves.len()
    ))?;
    if !ui.yes {
        // The question may have stood there for long.
        inventory = going_on.look(host, ui, heights, &mut shown).map_err(of)?;
    }
    let leaving = going_on.leaving(&inventory);
    let halts = halt.pass(host, ui, &leaving).map_err(of)?;
    if args.halt.waits() {
        // Much may have changed in the time.
        inventory = going_on
            .look(host, ui, Heights::Now, &mut shown)
            .map_err(of)?;
    }
    interrupt::none_yet().map_err(of)?;
    let mut program = going_on.program(&inventory);
    halt::guard(&mut program, &halts);
    lay_floors(host, ui, plan, &leaving, &mut program, initial_height)?;
    let known = safety::known(&inventory, &plan.moves);
    if open.verb == Verb::Rollback {
        return begin(
            host,
            ui,
            args,
            history,
            &inventory,
            Begin {
                plan,
                program,
                known,
            },
        );
    }
    let task = Task {
        journal: Writer::resume(host, open, &program)
            .map_err(Failure::from)
            .map_err(of)?,
        id: open.operation,
        verb: open.verb,
        plan: plan.id.clone(),
        ledger,
        known,
        sessions: operation::sessions(host, &inventory, history),
        settings: args.settings(),
        resumed: true,
    };
    let end = operation::carry_out(host, ui, task, &program)?;
    after::ended(host, ui, args, plan, open.operation, &end)
}

/// The new chain's first height that floors are to be laid for: as it was begun with, and no other. A switch that is gone
/// on with lays its own already.
fn first_height(
    ui: Ui,
    args: &ApplyArgs,
    history: &History,
    open: &Journal,
) -> Result<Option<u64>, Failure> {
    let operations = history.taken_up(open);
    let begun = operations
        .iter()
        .find_map(|j| floor::begun_with(&j.program));
    match (args.initial_height, begun) {
        (Some(asked), Some(begun)) if asked != begun => Err(Failure::refused(format!(
            "operation {} was begun with --initial-height {begun}: go on with that, or without the flag; for another \
             one go back first (`kmsctl rollback`)",
            open.operation
        ))
        .of(open.operation)
        .next(&["kmsctl apply", "kmsctl rollback"])),
        (None, begun) if open.verb == Verb::Rollback => Ok(as_begun(ui, begun)),
        (asked, _) => Ok(asked),
    }
}

/// The program that goes on: staging closes no unit again that the switch has opened already.
fn left(open: &Journal, inventory: &Inventory) -> Program {
    let opened = |unit: &UnitName| {
        open.intended(|a| matches!(a, Action::OpenFence { unit: opened } if opened == unit))
    };
    let mut program = open.program.clone();
    program
        .before
        .retain(|step| !matches!(&step.action, Action::CloseFence { unit } if opened(unit)));
    resumed::started_since(program, open, inventory, |running| {
        steps::switch(&open.plan, running)
    })
}

/// The program that goes forward again from a way back that was interrupted: staged files are looked at anew, no unit
/// that runs is closed, and what the way back would have started is started.
fn forward(open: &Journal, inventory: &Inventory) -> Program {
    let starts = |unit: &UnitName| {
        let start = |a: &Action| matches!(a, Action::Start { unit: started } if started == unit);
        open.program.steps().any(|s| start(&s.action))
    };
    let up = |unit: &UnitName| inventory.signer(unit).is_some_and(Signer::is_up);
    let old = open.plan.moves.iter().map(|m| m.old.clone());
    // What a boot started in the middle is moved as well.
    let running = old.filter(|unit| starts(unit) || up(unit)).collect();
    let mut program = whole(&open.plan, &running);
    program
        .before
        .retain(|step| !matches!(&step.action, Action::CloseFence { unit } if up(unit)));
    program
}

/// Whether an operation stopped an old signer and hasn't brought it over: how far it signed counts as if it ran.
fn stopped(open: &Journal, inventory: &Inventory, old: &UnitName) -> bool {
    let up = |unit: &UnitName| inventory.signer(unit).is_some_and(Signer::is_up);
    let moving = open.plan.moves.iter().find(|m| m.old == *old);
    let stop = |a: &Action| matches!(a, Action::Stop { unit } if unit == old);
    moving.is_some_and(|m| !up(old) && !up(&m.new)) && open.intended(stop)
}

/// The spread among the signers that still run on the old chain, here and on the peers, and keys that peers use.
fn across_hosts(
    inventory: &Inventory,
    open: &Journal,
    max_spread: Option<u64>,
    peers: &Peers,
) -> Vec<Finding> {
    let plan = &open.plan;
    let Some(from) = &plan.from else {
        return Vec::new();
    };
    let signers = plan
        .moves
        .iter()
        .filter_map(|m| inventory.signer(&m.old))
        .filter(|s| s.is_up() || stopped(open, inventory, &s.unit.name));
    let mut heights: Vec<Height> = signers.flat_map(Height::of).collect();
    heights.extend(peers.heights(from.as_str()));
    let mut findings = peers.findings(&inventory.host, from.as_str());
    let here = Here::of(&inventory.host, &inventory.keys, &plan.moves);
    findings.extend(peers.sharing(&here));
    findings.extend(safety::laggards(
        &heights,
        from.as_str(),
        max_spread.unwrap_or(plan.request.max_spread),
    ));
    findings
}
