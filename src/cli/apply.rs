//! `apply`: stages where needed, then switches every signer; resumes what a death left open.

mod after;
mod going_on;
mod signing;

pub use after::signed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::halt::{HaltArgs, begun_with};
use super::operation::{self, Heights, PlanFile, Task};
use super::watch::{Watch, duration};
use crate::apply::Settings;
use crate::discover;
use crate::exit::{Exit, Failure, Outcome};
use crate::floor;
use crate::host::Host;
use crate::interrupt;
use crate::inventory::Inventory;
use crate::journal::store::{History, Opening, Writer, keep_rollback};
use crate::journal::{Journal, Verb};
use crate::ledger::Ledger;
use crate::peers::{Peer, ask};
use crate::plan::halt::Leaving;
use crate::plan::program::Program;
use crate::plan::safety::Side;
use crate::plan::{Plan, halt, safety, steps};
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
    /// The plan, made anew, and what it was made from.
    fn planned(
        &self,
        host: &mut Host,
        peers: &[Peer],
        history: &History,
        heights: Heights,
    ) -> Result<(Plan, Inventory), Failure> {
        let peers = ask(peers, host.clock.now());
        operation::current_plan(host, &self.plan, heights, &peers, history)
    }

    /// The same after a question or a wait.
    fn planned_again(
        &self,
        host: &mut Host,
        peers: &[Peer],
        history: &History,
        heights: Heights,
    ) -> Result<(Plan, Inventory), Failure> {
        let (plan, inventory) = self.planned(host, peers, history, heights)?;
        if plan.moves.is_empty() {
            return Err(Failure::refused(format!(
                "another hand brought the plan's signers to {} meanwhile: see `kmsctl status`",
                plan.request.new_chain
            ))
            .next(&["kmsctl status"]));
        }
        Ok((plan, inventory))
    }

    fn settings(&self) -> Settings {
        Settings {
            canary: !self.no_canary,
            ..self.watch.settings()
        }
    }
}

pub fn run(host: &mut Host, ui: Ui, peers: &[Peer], args: &ApplyArgs) -> Outcome {
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    let open = history.open();
    if open.is_none() {
        args.halt.complete()?;
    }
    if let Some(open) =
        open.filter(|j| j.verb == Verb::Rollback || (j.verb == Verb::Apply && j.switched()))
    {
        return going_on::go_on(host, ui, peers, args, &history, open);
    }
    // What only staged is finished on the way.
    operation::none_open(open.filter(|j| j.verb == Verb::Unstage))?;
    let heights = args.halt.heights();
    let (mut plan, mut inventory) = args.planned(host, peers, &history, heights)?;
    if plan.moves.is_empty() {
        let message = format!(
            "The plan's signers are on {} already.",
            plan.request.new_chain
        );
        if args.dry_run {
            ui.note(&message);
            return dry_run::show(ui, Verb::Apply, &plan, &Program::default());
        }
        if let Some(limit) = args.await_signing {
            let switch = switched_by(host, args, &history)?;
            signing::wait(host, ui, &history, switch, limit)?;
        }
        events::done(ui, None, &message, &[]);
        return Ok(Exit::Done);
    }
    // One that only staged is begun anew, and its floors with it.
    let staged = open.filter(|j| j.verb == Verb::Apply && j.plan.id == plan.id);
    let begun = staged.and_then(|j| floor::begun_with(&j.program));
    let initial_height = args.initial_height.or_else(|| as_begun(ui, begun));
    let begun = staged.and_then(|j| begun_with(&j.program));
    let halt_args = args.halt.as_begun(ui, begun)?;
    if args.dry_run {
        let leaving = halt::leaving(&plan, &inventory, Side::New);
        let program = whole(&plan, &BTreeSet::new());
        let foreseen = Foreseen {
            plan: &plan,
            leaving: &leaving,
            initial_height,
        };
        return foreseen.show(host, ui, &halt_args, program);
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
        (plan, inventory) = args.planned_again(host, peers, &history, heights)?;
    }
    let leaving = halt::leaving(&plan, &inventory, Side::New);
    let halts = halt_args.pass(host, ui, &leaving)?;
    if args.halt.waits() {
        // Much may have changed in the time.
        (plan, inventory) = args.planned_again(host, peers, &history, Heights::Now)?;
    }
    interrupt::none_yet()?;
    let known = safety::known(&inventory, &plan.moves);
    let mut program = whole(&plan, &BTreeSet::new());
    halt::guard(&mut program, &halts);
    lay_floors(host, ui, &plan, &leaving, &mut program, initial_height)?;
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

/// Puts the floors into a program, where they are asked for and nothing speaks against them.
fn lay_floors(
    host: &Host,
    ui: Ui,
    plan: &Plan,
    leaving: &[Leaving],
    program: &mut Program,
    initial_height: Option<u64>,
) -> Result<(), Failure> {
    let Some(height) = initial_height else {
        return Ok(());
    };
    let state = |path: &Path| discover::state(&*host.files, path);
    let findings = floor::findings(plan, leaving, height, state);
    operation::judge(ui, findings, "the floors can't be laid")?;
    floor::lay(program, plan, height);
    Ok(())
}

/// The new chain's first height as an operation was begun with it.
fn as_begun(ui: Ui, begun: Option<u64>) -> Option<u64> {
    if let Some(height) = begun {
        ui.note(&format!(
            "The new chain's first height is {height}, as it was begun with."
        ));
    }
    begun
}

/// The switch that brought a plan's signers to where it leads. A plan that was made when all was switched already moves
/// nothing: then it is the newest switch to its chain.
fn switched_by<'a>(
    host: &Host,
    args: &ApplyArgs,
    history: &'a History,
) -> Result<&'a Journal, Failure> {
    let saved = args.plan.read(host)?;
    let chain = &saved.request.new_chain;
    let is_its = |journal: &&Journal| match saved.moves.is_empty() {
        true => journal.plan.request.new_chain == *chain,
        false => journal.plan.id == saved.id,
    };
    history.switches().find(is_its).ok_or_else(|| {
        Failure::refused(format!(
            "no operation that stands switched the signers of plan {}, so there is nothing to tell from whether they \
             signed since: see `kmsctl history`, and watch `kmsctl heights`",
            saved.id
        ))
        .next(&["kmsctl history", "kmsctl heights"])
    })
}

/// What a dry run judges: the gates and the floors, as if it were none.
struct Foreseen<'a> {
    plan: &'a Plan,
    leaving: &'a [Leaving],
    initial_height: Option<u64>,
}

impl Foreseen<'_> {
    fn show(&self, host: &mut Host, ui: Ui, halt: &HaltArgs, program: Program) -> Outcome {
        let mut guarded = program.clone();
        let (plan, leaving) = (self.plan, self.leaving);
        let judged = halt.foreseen(host, ui, leaving).and_then(|halts| {
            halt::guard(&mut guarded, &halts);
            lay_floors(host, ui, plan, leaving, &mut guarded, self.initial_height)
        });
        match judged {
            Ok(()) => dry_run::show(ui, Verb::Apply, plan, &guarded),
            Err(why) => dry_run::refused(ui, &program, why),
        }
    }
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
    let (journal, id) = Writer::open(host, history, &opening)
        .map_err(Failure::from)
        .map_err(operation::still_open(history.open()))?;
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
