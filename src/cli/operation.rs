//! What the changing verbs share: the saved plan and whether it still holds, and running a program as an operation.

mod differences;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use differences::differences;

use super::plan;
use crate::apply::sessions::Sessions;
use crate::apply::{End, Run, Settings};
use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure};
use crate::finding::{Code, Finding, Severity};
use crate::host::memory::{Lock, Memory, OnDisk};
use crate::host::{Files, Host};
use crate::interrupt;
use crate::inventory::Inventory;
use crate::journal::store::{History, Writer};
use crate::journal::{Journal, OperationId, Verb};
use crate::ledger::Ledger;
use crate::peers::Peers;
use crate::plan::Plan;
use crate::plan::program::Program;
use crate::ui::progress::Progress;
use crate::ui::{self, Ui, events};
use crate::unit::UnitName;

/// Which plan is meant.
#[derive(Debug, Args)]
pub struct PlanFile {
    /// A saved plan; the current one by default
    #[arg(value_name = "PLAN")]
    pub file: Option<PathBuf>,
}

impl PlanFile {
    pub fn read(&self, host: &Host) -> Result<Plan, Failure> {
        let (path, bytes) = match &self.file {
            Some(path) => {
                let read = std::fs::read(path);
                (
                    path.clone(),
                    read.with_context(|| format!("reading {}", path.display()))?,
                )
            }
            None => {
                let path = host.memory.path(plan::CURRENT);
                let bytes = host.memory.read(plan::CURRENT)?.ok_or_else(|| {
                    Failure::refused(format!(
                        "there is no plan at {}: make one with `kmsctl plan --new-chain ID`",
                        path.display()
                    ))
                    .next(&["kmsctl plan --new-chain ID"])
                })?;
                (path, bytes)
            }
        };
        Ok(Plan::parse(&bytes).with_context(|| path.display().to_string())?)
    }
}

/// When the heights must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heights {
    Now,
    /// Once the halt was waited for.
    Later,
}

/// The plan that a verb is to carry out, made anew and found to be the saved one, and what it was made from.
///
/// # Errors
/// No plan; inputs that changed since (rule S7), with the difference; blocking findings, repeated.
pub fn current_plan(
    host: &mut Host,
    file: &PlanFile,
    heights: Heights,
    peers: &Peers,
    history: &History,
) -> Result<(Plan, Inventory), Failure> {
    let saved = file.read(host)?;
    let (fresh, inventory) = plan::make(host, &saved.request, peers, history)?;
    // A switched fleet plans to nothing: the plan was applied.
    let mut text = String::new();
    let other = fresh.id != saved.id || fresh.binaries != saved.binaries;
    if other && !fresh.moves.is_empty() {
        text = format!(
            "the host is no longer the one that plan {} was made from:\n{}\nplan again, and look at it",
            saved.id,
            differences(&saved, &fresh).trim_end()
        );
    }
    let counts = |f: &&Finding| {
        heights == Heights::Now || !matches!(f.code, Code::Laggard | Code::PeerUnknown)
    };
    let blocks: Vec<_> = fresh.blocks().filter(counts).cloned().collect();
    if !blocks.is_empty() {
        text += "\nthese findings are in the way:\n";
        ui::plan::findings(&mut text, &blocks);
    }
    if !text.is_empty() {
        return Err(Failure::refused(text.trim()));
    }
    Ok((fresh, inventory))
}

/// The host as going on and going back see it: with the public halves of keys in YubiHSMs, since two names may mean one
/// key. That costs a session for a moment, and [`LIMIT`](crate::host::hsm::LIMIT) where a connector hangs.
///
/// What else a device says isn't judged again: a signer that couldn't use it fails its start, which is watched.
///
/// # Errors
/// The host can't be asked.
pub fn with_devices(host: &mut Host) -> Result<Inventory> {
    let mut inventory = discover::inventory(host, Versions::Skip)?;
    discover::devices(host, &mut inventory);
    Ok(inventory)
}

/// Takes the host for this process.
///
/// # Errors
/// Another kmsctl is changing it (rule S9).
pub fn lock(host: &Host) -> Result<Lock, Failure> {
    let lock = host.memory.lock();
    lock.map_err(|e| as_it_was(&host.memory, e))?.ok_or_else(|| {
        Failure::refused(format!(
            "{}: another kmsctl is changing this host; wait for it to end, or see `kmsctl status`",
            host.memory.path("lock").display()
        ))
    })
}

/// Refuses while another operation is open.
pub fn none_open(open: Option<&Journal>) -> Result<(), Failure> {
    let Some(open) = open else { return Ok(()) };
    let (ways, next) = ways_on(open);
    let refusal = Failure::refused(format!(
        "operation {} ({}) was interrupted and is still open: {ways}",
        open.operation, open.verb
    ));
    Err(refusal.of(open.operation).next(next))
}

/// What an open operation may be followed by, in words and as commands.
fn ways_on(open: &Journal) -> (&'static str, &'static [&'static str]) {
    match open.verb {
        Verb::Stage => (
            "`kmsctl stage` goes on with it, `kmsctl unstage` takes it back",
            &["kmsctl stage", "kmsctl unstage"],
        ),
        Verb::Unstage => ("`kmsctl unstage` goes on with it", &["kmsctl unstage"]),
        Verb::Apply if !open.switched() => (
            "`kmsctl apply` goes on with it, `kmsctl unstage` takes away what it staged",
            &["kmsctl apply", "kmsctl unstage"],
        ),
        Verb::Apply => (
            "`kmsctl apply` goes on with it, `kmsctl rollback` takes it back",
            &["kmsctl apply", "kmsctl rollback"],
        ),
        Verb::Rollback => (
            "`kmsctl rollback` goes on with it, `kmsctl apply` goes to the new chain again",
            &["kmsctl rollback", "kmsctl apply"],
        ),
    }
}

/// What keeps an operation that is open from being gone on with or taken back, such as a full disk: it is as half-way as
/// it was (exit code 5), and so it is after a wait that is over. A refusal stays one, and without an open operation all is as before.
pub fn still_open(open: Option<&Journal>) -> impl Fn(Failure) -> Failure {
    move |mut failure| {
        let half_way = matches!(failure.exit, Exit::Failed | Exit::TimedOut);
        let Some(open) = open.filter(|_| half_way) else {
            return failure;
        };
        let (ways, next) = ways_on(open);
        failure.exit = Exit::HalfWay;
        failure.error = failure.error.context(format!(
            "operation {} ({}) is still open, and nothing more of it was done ({ways})",
            open.operation, open.verb
        ));
        failure.of(open.operation).next(next)
    }
}

/// A host that can't be asked at all, such as one without D-Bus: what is open on it stays so.
pub fn not_asked(root: Option<&Path>, error: anyhow::Error) -> Failure {
    let memory = Memory::new(Box::new(OnDisk::below(root.unwrap_or(Path::new("/")))));
    as_it_was(&memory, error)
}

fn as_it_was(memory: &Memory, error: anyhow::Error) -> Failure {
    // Where the journals can't be read either, nothing is known.
    let history = History::of(memory).unwrap_or_default();
    still_open(history.open())(Failure::from(error))
}

/// An operation whose journal is open.
pub struct Task {
    pub journal: Writer,
    pub id: OperationId,
    pub verb: Verb,
    /// The plan's id.
    pub plan: String,
    pub ledger: Ledger,
    /// The units that may run meanwhile.
    pub known: BTreeMap<UnitName, PathBuf>,
    pub settings: Settings,
    pub sessions: Sessions,
    /// It goes on with another's work: what the manager has read isn't known then.
    pub resumed: bool,
}

/// The sessions that are taken on the signers' devices now.
pub fn sessions(host: &Host, inventory: &Inventory, history: &History) -> Sessions {
    Sessions::of(inventory, history, (host.clock.now(), host.clock.elapsed()))
}

/// Performs a program, and closes the operation when it is done.
///
/// # Errors
/// Half-way, where the journal or the service manager fails: the operation stays open.
pub fn carry_out(
    host: &mut Host,
    ui: Ui,
    mut task: Task,
    program: &Program,
) -> Result<End, Failure> {
    let id = task.id;
    let half_way = |e: anyhow::Error| {
        Failure::half_way(format!(
            "operation {id} stopped: {e:#}\n`kmsctl status` shows what is true now and what to type"
        ))
        .of(id)
        .next(&["kmsctl status"])
    };
    let begun = events::Event::Begun {
        operation: id,
        verb: task.verb,
        plan: &task.plan,
        steps: program.steps().count(),
    };
    events::show(ui, begun);
    let end = perform(host, ui, &mut task, program).map_err(half_way)?;
    if end == End::Done {
        task.journal.close(host).map_err(half_way)?;
    }
    Ok(end)
}

fn perform(host: &mut Host, ui: Ui, task: &mut Task, program: &Program) -> Result<End> {
    interrupt::watch()?;
    let mut progress = Progress::new(ui);
    let mut run = Run {
        host,
        journal: &mut task.journal,
        ledger: &mut task.ledger,
        settings: task.settings,
        interrupt: interrupt::raised(),
        events: &mut |event| progress.show(&event),
        known: std::mem::take(&mut task.known),
        sessions: std::mem::take(&mut task.sessions),
        started: BTreeSet::new(),
        proven: BTreeSet::new(),
        resumed: task.resumed,
        changed: task.resumed,
    };
    let end = run.perform(program);
    progress.finish();
    end
}

/// What was said before a question or a wait, so that after it only what is new is.
#[derive(Default)]
pub struct Shown(Option<Vec<Finding>>);

impl Shown {
    /// As [`judge`], each finding once. Inputs that changed while nobody looked weren't confirmed by any answer (rule S7).
    ///
    /// # Errors
    /// The blocking findings.
    pub fn judge(&mut self, ui: Ui, mut findings: Vec<Finding>, what: &str) -> Result<(), Failure> {
        if let Some(said) = &self.0 {
            findings.retain(|f| f.blocks() || !said.contains(f));
            for finding in &mut findings {
                if finding.code == Code::InputChanged && !finding.blocks() {
                    finding.severity = Severity::Block;
                    finding.remedy = "look at the change, and type the command again".into();
                }
            }
        }
        self.0.get_or_insert_default().extend_from_slice(&findings);
        judge(ui, findings, what)
    }
}

/// Refuses where findings block; says the others.
pub fn judge(ui: Ui, mut findings: Vec<Finding>, what: &str) -> Result<(), Failure> {
    findings.sort();
    findings.dedup();
    let mut text = String::new();
    ui::plan::findings(&mut text, &findings);
    if findings.iter().any(Finding::blocks) {
        return Err(Failure::refused(format!("{what}:\n{}", text.trim())));
    }
    if !findings.is_empty() {
        ui.note(text.trim());
    }
    Ok(())
}

/// Where each signer of a plan stands, a line each.
pub fn standing(plan: &Plan, inventory: &Inventory) -> String {
    let mut out = String::new();
    for moving in &plan.moves {
        let runs = [&moving.old, &moving.new]
            .into_iter()
            .filter_map(|unit| inventory.signer(unit))
            .filter(|signer| signer.is_up());
        let runs: Vec<String> = runs
            .map(|signer| {
                let heights = signer.chains.iter().map(|c| match c.state.height() {
                    Some(state) => format!("{} at {state}", c.id),
                    None => format!("{} not signed", c.id),
                });
                format!(
                    "{} runs ({})",
                    signer.unit.name,
                    heights.collect::<Vec<_>>().join(", ")
                )
            })
            .collect();
        let runs = if runs.is_empty() {
            "neither unit runs".to_owned()
        } else {
            runs.join(", ")
        };
        ui::line(&mut out, format_args!("{}: {runs}", moving.signer));
    }
    out
}

/// What went wrong, a line a failure.
pub fn explain(end: &End) -> String {
    let End::Stopped {
        failures,
        interrupted,
    } = end
    else {
        return String::new();
    };
    let mut out = String::new();
    for (step, error) in failures {
        ui::line(&mut out, format_args!("{step}: {error}"));
    }
    if *interrupted {
        ui::line(
            &mut out,
            format_args!("interrupted: what was under way was brought to an end"),
        );
    }
    out
}

/// Binaries that are to be started and are no longer those of the plan (rule S7).
pub fn binaries<'a>(
    plan: &Plan,
    files: &dyn Files,
    programs: impl Iterator<Item = &'a PathBuf>,
) -> Vec<Finding> {
    let programs: BTreeSet<&PathBuf> = programs.collect();
    let known = programs
        .into_iter()
        .filter_map(|p| Some((p, plan.binaries.get(p)?)));
    let changed = known.filter(|(path, then)| files.fingerprint(path).ok().as_ref() != Some(*then));
    changed
        .map(|(path, _)| {
            let message =
                "it is no longer the binary that was there when the plan was made, or can't be read";
            Finding::block(Code::InputChanged, message)
                .at(path)
                .remedy("put that tmkms back: another may not take the config, or the protocol")
        })
        .collect()
}
