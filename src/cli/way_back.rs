//! The way back as an operation of its own: looked at, judged, gone. Asked for by hand, or by a switch that failed.

use super::operation::{self, Task};
use crate::apply::{End, Settings};
use crate::discover::{self, Versions};
use crate::exit::Failure;
use crate::finding::Finding;
use crate::floor;
use crate::host::Host;
use crate::inventory::Inventory;
use crate::journal::store::{History, Opening, Writer};
use crate::journal::{Journal, OperationId, Verb};
use crate::ledger::Ledger;
use crate::plan::halt::{Halts, guard};
use crate::plan::program::Program;
use crate::plan::safety::Side;
use crate::plan::{Plan, safety, steps};
use crate::rollback;
use crate::ui::Ui;

/// Which operation is undone.
pub struct Way<'a> {
    pub plan: &'a Plan,
    pub undone: OperationId,
    /// A way back that was interrupted, and is gone on with.
    pub resumed: Option<&'a Journal>,
}

/// What was seen before it.
pub struct Look {
    pub inventory: Inventory,
    ledger: Ledger,
    findings: Vec<Finding>,
}

impl Look {
    /// Refuses where findings block; says the others.
    ///
    /// # Errors
    /// The blocking findings.
    pub fn judge(&self, ui: Ui) -> Result<(), Failure> {
        operation::judge(ui, self.findings.clone(), "the way back is blocked")
    }
}

/// Looks at the host, and at everything that forbids the way back or should be known, before anything is stopped.
///
/// # Errors
/// The host can't be asked.
pub fn look(host: &mut Host, way: &Way<'_>, history: &History) -> Result<Look, Failure> {
    let plan = way.plan;
    let ledger = Ledger::of(&history.0);
    let inventory = discover::inventory(host, Versions::Skip)?;
    let mut findings = rollback::against(plan, &inventory);
    findings.extend(rollback::changed(plan, &inventory));
    let starting = plan.moves.iter().filter(|m| m.start);
    let programs = starting.map(|m| &m.old_program);
    findings.extend(operation::binaries(plan, &*host.files, programs));
    findings.extend(safety::against(&inventory, &ledger, &plan.moves, Side::Old));
    for moving in &plan.moves {
        for file in moving.old_chains() {
            let path = &file.state_file;
            let reading = discover::state(&*host.files, path);
            findings.extend(safety::startable(&ledger, &moving.signer, path, &reading));
        }
    }
    Ok(Look {
        inventory,
        ledger,
        findings,
    })
}

impl Way<'_> {
    /// What is performed.
    pub fn program(&self, inventory: &Inventory) -> Program {
        let program = match self.resumed {
            Some(open) => {
                let program = open.program.clone();
                operation::started_since(program, open, inventory, |running| {
                    steps::back(self.plan, running)
                })
            }
            None => rollback::program(self.plan, inventory),
        };
        operation::not_recorded_twice(program, inventory)
    }
}

/// Goes back; the operation that did it, and how it ended.
///
/// # Errors
/// Half-way, where the journal or the service manager fails.
pub fn go(
    host: &mut Host,
    ui: Ui,
    way: &Way<'_>,
    history: &History,
    look: Look,
    halts: &Halts,
    settings: Settings,
) -> Result<(OperationId, End), Failure> {
    let plan = way.plan;
    let mut program = way.program(&look.inventory);
    guard(&mut program, halts);
    if let Some(undone) = history.get(way.undone) {
        floor::withdraw(&mut program, &undone.program);
    }
    let (journal, id) = match way.resumed {
        Some(open) => (Writer::resume(host, open, &program)?, open.operation),
        None => {
            let opening = Opening {
                verb: Verb::Rollback,
                supersedes: Some(way.undone),
                plan,
                program: &program,
            };
            Writer::open(host, history, &opening)?
        }
    };
    let task = Task {
        journal,
        id,
        verb: Verb::Rollback,
        plan: plan.id.clone(),
        known: safety::known(&look.inventory, &plan.moves),
        sessions: operation::sessions(host, &look.inventory, history),
        ledger: look.ledger,
        settings,
        resumed: history.open().is_some(),
    };
    let end = operation::carry_out(host, ui, task, &program)?;
    Ok((id, end))
}
