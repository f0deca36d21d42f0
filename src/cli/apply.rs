//! `apply`: stages where needed, then switches every signer; resumes what a death left open.

use std::time::Duration;

use clap::Args;

use super::operation::{self, How, PlanFile};
use crate::apply::{End, Settings};
use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::finding::Finding;
use crate::host::Host;
use crate::inventory::Inventory;
use crate::journal::store::{History, Opening, Writer, keep_rollback};
use crate::journal::{Ending, Journal, Record, Verb};
use crate::ledger::Ledger;
use crate::plan::program::{Action, Program};
use crate::plan::{Height, Plan, safety, steps};
use crate::ui::{self, Ui};
use crate::unit::UnitName;

#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    plan: PlanFile,
    #[command(flatten)]
    watch: Watch,
}

/// How started signers are watched, and how many are switched at once.
#[derive(Debug, Args)]
pub struct Watch {
    /// How long each started signer is watched, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    soak: u64,
    /// How many signers are in flight at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

impl Watch {
    pub fn settings(&self) -> Settings {
        Settings {
            parallel: usize::from(self.parallel),
            soak: Duration::from_secs(self.soak),
            ..Settings::default()
        }
    }
}

pub fn run(host: &mut Host, ui: Ui, args: &ApplyArgs) -> Outcome {
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    if let Some(open) = history.open().filter(|j| j.verb == Verb::Apply) {
        return resume(host, ui, args, &history, open);
    }
    // A staging that was interrupted is finished on the way.
    operation::none_open(history.open().filter(|j| j.verb != Verb::Stage))?;
    let plan = operation::current_plan(host, &args.plan)?;
    if plan.moves.is_empty() {
        ui.note(&format!(
            "Every signer is on {} already.",
            plan.request.new_chain
        ));
        return Ok(Exit::Done);
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
    let program = whole(&plan);
    let supersedes = history.open().map(|j| j.operation);
    let opening = Opening {
        verb: Verb::Apply,
        supersedes,
        plan: &plan,
        program: &program,
    };
    let (mut journal, operation) = Writer::open(host, &history, &opening)?;
    keep_rollback(host, operation, &crate::rollback::program(&plan))?;
    let mut ledger = Ledger::of(&history.0);
    let how = How {
        settings: args.watch.settings(),
        resumed: false,
    };
    let end = operation::perform(host, ui, &mut journal, &mut ledger, how, &program)
        .map_err(|e| Failure::half_way(format!("operation {operation}: {e:#}")))?;
    finish(host, ui, &mut journal, &plan, &end)
}

/// Staging and the switch as one program.
fn whole(plan: &Plan) -> Program {
    let mut program = steps::switch(plan);
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

fn finish(host: &mut Host, ui: Ui, journal: &mut Writer, plan: &Plan, end: &End) -> Outcome {
    if *end == End::Done {
        journal.close(host, Ending::Done)?;
        ui.note(&format!(
            "{} signers are on {}. They sign once their validators run: watch `kmsctl heights`.",
            plan.moves.len(),
            plan.request.new_chain
        ));
        return Ok(Exit::Done);
    }
    Err(Failure::half_way(format!(
        "{}the switch isn't complete. `kmsctl status` shows who runs; `kmsctl apply` goes on, `kmsctl rollback` goes back",
        operation::explain(end)
    )))
}

fn resume(host: &mut Host, ui: Ui, args: &ApplyArgs, history: &History, open: &Journal) -> Outcome {
    let plan = open.plan.clone();
    let inventory = discover::inventory(host, Versions::Skip)?;
    let blocks = gates(&inventory, open);
    if !blocks.is_empty() {
        let mut text = String::new();
        ui::plan::findings(&mut text, &blocks);
        return Err(Failure::refused(format!(
            "operation {} can't go on:\n{}\n`kmsctl rollback` goes back",
            open.operation,
            text.trim()
        )));
    }
    ui.confirm(&format!(
        "Operation {} (apply, begun {}) was interrupted. Go on with its {} signers?",
        open.operation,
        open.opened_at.strftime("%F %T UTC"),
        plan.moves.len()
    ))?;
    let mut ledger = Ledger::of(&history.0);
    let mut journal = Writer::resume(host, open)?;
    let how = How {
        settings: args.watch.settings(),
        resumed: true,
    };
    let end = operation::perform(host, ui, &mut journal, &mut ledger, how, &left(open))
        .map_err(|e| Failure::half_way(format!("operation {}: {e:#}", open.operation)))?;
    finish(host, ui, &mut journal, &plan, &end)
}

/// The program that goes on: staging closes no unit again that the switch has opened already.
fn left(open: &Journal) -> Program {
    let opened = |unit: &UnitName| {
        open.program.steps().any(|step| {
            matches!(&step.action, Action::OpenFence { unit: opened } if opened == unit)
                && open
                    .records
                    .iter()
                    .any(|r| matches!(r, Record::Intent { step: s } if *s == step.id))
        })
    };
    let mut program = open.program.clone();
    program
        .before
        .retain(|step| !matches!(&step.action, Action::CloseFence { unit } if opened(unit)));
    program
}

/// The gates of every signer that the operation hasn't begun to switch, anew.
fn gates(inventory: &Inventory, open: &Journal) -> Vec<Finding> {
    let mut findings = safety::strays(inventory);
    let begun = |unit| {
        open.program.steps().any(|step| {
            matches!(&step.action, Action::Stop { unit: stopped } if stopped == unit)
                && open
                    .records
                    .iter()
                    .any(|r| matches!(r, Record::Intent { step: s } if *s == step.id))
        })
    };
    let Some(from) = &open.plan.from else {
        return findings;
    };
    let untouched = open.plan.moves.iter().filter(|m| !begun(&m.old));
    let heights: Vec<Height> = untouched
        .filter_map(|m| inventory.signer(&m.old))
        .flat_map(|s| {
            s.chains.iter().map(|c| Height {
                signer: s.name().to_owned(),
                chain: c.id.clone(),
                state_file: c.state_file.clone(),
                reading: c.state.clone(),
            })
        })
        .collect();
    findings.extend(safety::laggards(
        &heights,
        from.as_str(),
        open.plan.request.max_spread,
    ));
    findings
}
