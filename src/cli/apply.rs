//! `apply`: stages where needed, then switches every signer; resumes what a death left open.

mod after;
mod signing;

pub use after::signed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::halt::HaltArgs;
use super::operation::{self, Heights, PlanFile, Task};
use super::watch::{Watch, duration};
use crate::apply::Settings;
use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::finding::Finding;
use crate::floor;
use crate::host::Host;
use crate::inventory::{Inventory, Signer};
use crate::journal::store::{History, Opening, Writer, keep_rollback};
use crate::journal::{Journal, Verb};
use crate::ledger::Ledger;
use crate::peers::{Here, Peer, Peers, ask};
use crate::plan::halt::Leaving;
use crate::plan::program::{Action, Program};
use crate::plan::safety::Side;
use crate::plan::{Height, Plan, halt, safety, steps};
use crate::resumed;
use crate::ui::{self, Ui, dry_run, events};
use crate::unit::UnitName;

#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    plan: PlanFile,
    /// Check everything and show the steps, and do none
    #[arg(long)]
    pub dry_run: bool,
    /// How many blocks apart the heights may be when going on with an interrupted switch; by default as planned
    #[arg(long, value_name = "BLOCKS")]
    max_spread: Option<u64>,
    /// Switch all signers at once, without the first one going alone
    #[arg(long)]
    no_canary: bool,
    /// Leave everything as it is where a new signer doesn't come up, instead of going back
    #[arg(long)]
    no_auto_rollback: bool,
    /// Once all is switched, wait this long until each new state file shows a signature, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    await_signing: Option<Duration>,
    /// The new chain's first height: nothing below it can be signed, by a state file that is made before tmkms has one
    #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(2..=i64::MAX as u64))]
    initial_height: Option<u64>,
    #[command(flatten)]
    halt: HaltArgs,
    #[command(flatten)]
    watch: Watch,
}

impl ApplyArgs {
    /// Puts the floors into a program, where they are asked for and nothing speaks against them.
    fn lay_floors(
        &self,
        host: &Host,
        ui: Ui,
        plan: &Plan,
        leaving: &[Leaving],
        program: &mut Program,
    ) -> Result<(), Failure> {
        let Some(height) = self.initial_height else {
            return Ok(());
        };
        let state = |path: &Path| discover::state(&*host.files, path);
        let findings = floor::findings(plan, leaving, height, state);
        operation::judge(ui, findings, "the floors can't be laid")?;
        floor::lay(program, plan, height);
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings {
            canary: !self.no_canary,
            ..self.watch.settings()
        }
    }
}

pub fn run(host: &mut Host, ui: Ui, peers: &[Peer], args: &ApplyArgs) -> Outcome {
    args.halt.complete()?;
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    let open = history.open();
    if let Some(open) =
        open.filter(|j| j.verb == Verb::Rollback || (j.verb == Verb::Apply && j.switched()))
    {
        return go_on(host, ui, peers, args, &history, open);
    }
    // What only staged is finished on the way.
    operation::none_open(open.filter(|j| j.verb == Verb::Unstage))?;
    // While the chain runs its signers are a block or two apart.
    let heights = match args.halt.waits() {
        true => Heights::Later,
        false => Heights::Now,
    };
    let asked = ask(peers, host.clock.now());
    let (mut plan, mut inventory) =
        operation::current_plan(host, &args.plan, heights, &asked, &history)?;
    if plan.moves.is_empty() {
        let message = format!(
            "The plan's signers are on {} already.",
            plan.request.new_chain
        );
        if args.dry_run {
            ui.note(&message);
            return dry_run::show(ui, Verb::Apply, &plan, &Program::default());
        }
        if let (Some(limit), Some(last)) = (args.await_signing, history.last_switch()) {
            signing::wait(host, ui, &history, last, limit)?;
        }
        events::done(ui, None, &message, &[]);
        return Ok(Exit::Done);
    }
    if args.dry_run {
        return dry_run::show(ui, Verb::Apply, &plan, &whole(&plan, &BTreeSet::new()));
    }
    if !ui.yes && !ui.json {
        ui.note(&what_happens(&plan));
    }
    ui.confirm(&format!(
        "Stop {} signers of {} and start them on {}?",
        plan.moves.len(),
        plan.from.as_ref().map_or("", |c| c.as_str()),
        plan.request.new_chain
    ))?;
    if !ui.yes {
        // The question may have stood there for long.
        inventory = discover::inventory(host, Versions::Skip)?;
    }
    let leaving = halt::leaving(&plan, &inventory, Side::New);
    let halts = args.halt.pass(host, ui, &leaving)?;
    if args.halt.waits() {
        // Much may have changed in the time.
        let asked = ask(peers, host.clock.now());
        (plan, inventory) =
            operation::current_plan(host, &args.plan, Heights::Now, &asked, &history)?;
    }
    let known = safety::known(&inventory, &plan.moves);
    let mut program = whole(&plan, &BTreeSet::new());
    halt::guard(&mut program, &halts);
    args.lay_floors(host, ui, &plan, &leaving, &mut program)?;
    begin(
        host,
        ui,
        args,
        &history,
        &inventory,
        Begin {
            plan: &plan,
            program,
            known,
        },
    )
}

/// An operation to open.
struct Begin<'a> {
    plan: &'a Plan,
    program: Program,
    known: BTreeMap<UnitName, PathBuf>,
}

fn begin(
    host: &mut Host,
    ui: Ui,
    args: &ApplyArgs,
    history: &History,
    inventory: &Inventory,
    begin: Begin<'_>,
) -> Outcome {
    let Begin {
        plan,
        program,
        known,
    } = begin;
    let supersedes = history.open().map(|j| j.operation);
    let opening = Opening {
        verb: Verb::Apply,
        supersedes,
        plan,
        program: &program,
    };
    let (journal, id) = Writer::open(host, history, &opening)?;
    // The first record is the newest thing known: the heights that the plan saw are a floor from now on.
    let mut ledger = Ledger::of(&history.0);
    ledger.opened(plan);
    let way_back = crate::rollback::program(plan, inventory);
    keep_rollback(host, id, &way_back).map_err(|e| {
        Failure::half_way(format!(
            "operation {id} is open, and nothing was done: {e:#}"
        ))
        .of(id)
        .next(&["kmsctl apply", "kmsctl unstage"])
    })?;
    let settings = args.settings();
    let sessions = operation::sessions(host, inventory, history);
    let task = Task {
        journal,
        id,
        verb: Verb::Apply,
        plan: plan.id.clone(),
        ledger,
        known,
        sessions,
        settings,
        resumed: supersedes.is_some(),
    };
    let end = operation::carry_out(host, ui, task, &program)?;
    after::ended(host, ui, args, plan, id, &end)
}

/// Staging and the switch as one program.
fn whole(plan: &Plan, running: &BTreeSet<UnitName>) -> Program {
    let mut program = steps::switch(plan, running);
    let mut before = steps::stage(plan).before;
    before.append(&mut program.before);
    Program { before, ..program }
}

fn what_happens(plan: &Plan) -> String {
    let mut out = String::new();
    for moving in &plan.moves {
        let heights = plan
            .observed
            .heights
            .iter()
            .filter(|h| h.signer == moving.signer);
        let at: Vec<String> = heights
            .filter_map(|h| Some(format!("{} at {}", h.chain, h.reading.height()?)))
            .collect();
        let does = if moving.start {
            "stopped, and"
        } else {
            "not running;"
        };
        ui::line(
            &mut out,
            format_args!(
                "{}: {} ({}) is {does} {} takes over{}",
                moving.signer,
                moving.old,
                at.join(", "),
                moving.new,
                if moving.start {
                    " and is started"
                } else {
                    ", and isn't started"
                }
            ),
        );
    }
    out
}

/// Goes on to the new chain after a death: with an interrupted switch, or with its plan where the way back was
/// interrupted. Every gate is looked at anew, and what is true now is shown first.
fn go_on(
    host: &mut Host,
    ui: Ui,
    peers: &[Peer],
    args: &ApplyArgs,
    history: &History,
    open: &Journal,
) -> Outcome {
    let plan = &open.plan;
    let halt = args.halt.as_begun(ui, &open.program);
    if args.plan.file.is_some() && args.plan.read(host)?.id != plan.id {
        return Err(Failure::refused(format!(
            "operation {} ({}) is open, of plan {}: `kmsctl apply` without a plan goes on with it, `kmsctl rollback` \
             goes back",
            open.operation, open.verb, plan.id
        )));
    }
    let mut inventory = operation::with_devices(host)?;
    let ledger = Ledger::of(&history.0);
    let mut findings = safety::against(&inventory, &ledger, &plan.moves, Side::New);
    if !args.halt.waits() {
        let peers = ask(peers, host.clock.now());
        findings.extend(across_hosts(&inventory, open, args.max_spread, &peers));
    }
    findings.extend(crate::rollback::changed(plan, &inventory));
    let programs = plan.moves.iter().map(|m| &m.new_program);
    findings.extend(operation::binaries(plan, &*host.files, programs));
    let what = format!(
        "operation {} can't go on to {}",
        open.operation, plan.request.new_chain
    );
    operation::judge(ui, findings, &what).map_err(|failure| failure.of(open.operation))?;
    let program = match open.verb {
        Verb::Rollback => forward(open, &inventory),
        _ => left(open, &inventory),
    };
    let mut program = resumed::not_recorded_twice(program, &inventory);
    if args.dry_run {
        return dry_run::show(ui, Verb::Apply, plan, &program);
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
    let mut leaving = halt::leaving(plan, &inventory, Side::New);
    for signer in &mut leaving {
        signer.stopped = stopped(open, &inventory, &signer.unit);
    }
    halt::guard(&mut program, &halt.pass(host, ui, &leaving)?);
    args.lay_floors(host, ui, plan, &leaving, &mut program)?;
    if args.halt.waits() {
        inventory = operation::with_devices(host)?;
        let peers = ask(peers, host.clock.now());
        let findings = across_hosts(&inventory, open, args.max_spread, &peers);
        operation::judge(ui, findings, &what).map_err(|failure| failure.of(open.operation))?;
    }
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
        journal: Writer::resume(host, open, &program)?,
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
