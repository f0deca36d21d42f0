//! The way back as an operation of its own: looked at, judged, gone. Asked for by hand, or by a switch that failed.
//!
//! By hand, peers and devices are asked as for a plan, so that rule S1 is judged by public keys. One that follows a failed
//! switch begins while signers are dark, minutes after the switch asked them about the same keys on both chains: it asks
//! nobody again.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::operation::{self, Shown, Task};
use crate::apply::{End, Settings};
use crate::discover::{self, Versions};
use crate::exit::Failure;
use crate::finding::Finding;
use crate::floor;
use crate::host::{Files, Host};
use crate::inventory::Inventory;
use crate::journal::store::{History, Opening, Writer};
use crate::journal::{Journal, OperationId, Verb};
use crate::ledger::Ledger;
use crate::peers::{Here, Peers};
use crate::plan::halt::{Halts, guard};
use crate::plan::program::Program;
use crate::plan::safety::Side;
use crate::plan::{Plan, safety, steps};
use crate::ui::Ui;
use crate::{resumed, rollback};

/// Which operation is undone.
pub struct Way<'a> {
    pub plan: &'a Plan,
    pub undone: OperationId,
    /// A way back that was interrupted, and is gone on with.
    pub resumed: Option<&'a Journal>,
    pub asks: Asks<'a>,
}

/// Who is asked about keys.
pub enum Asks<'a> {
    /// The devices, and the peers, which have been.
    All(&'a Peers),
    Nobody,
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
    pub fn judge(&self, ui: Ui, shown: &mut Shown) -> Result<(), Failure> {
        shown.judge(ui, self.findings.clone(), "the way back is blocked")
    }
}

/// Looks at the host, and at everything that forbids the way back or should be known, before anything is stopped.
///
/// # Errors
/// The host can't be asked.
pub fn look(host: &mut Host, way: &Way<'_>, history: &History) -> Result<Look, Failure> {
    let plan = way.plan;
    let ledger = Ledger::of(&history.0);
    let inventory = match way.asks {
        Asks::All(_) => operation::with_devices(host)?,
        Asks::Nobody => discover::inventory(host, Versions::Skip)?,
    };
    let mut findings = rollback::against(plan, &inventory);
    findings.extend(rollback::changed(plan, &inventory));
    let starting = plan.moves.iter().filter(|m| m.start);
    let programs = starting.map(|m| &m.old_program);
    findings.extend(operation::binaries(plan, &*host.files, programs));
    findings.extend(safety::against(&inventory, &ledger, &plan.moves, Side::Old));
    if let Asks::All(peers) = way.asks {
        findings.extend(peers.unknown(&inventory.host));
        let here = Here::of(&inventory.host, &inventory.keys, &plan.moves);
        findings.extend(peers.sharing(&here));
    }
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
    fn unguarded(&self, files: &dyn Files, inventory: &Inventory) -> Result<Program> {
        let program = match self.resumed {
            Some(open) => {
                let program = open.program.clone();
                resumed::started_since(program, open, inventory, |running| {
                    steps::back(self.plan, running)
                })
            }
            None => rollback::program(self.plan, inventory),
        };
        let mut program = resumed::not_recorded_twice(program, inventory);
        let mut gone = BTreeSet::new();
        for path in rollback::fences(self.plan) {
            let entry = files.entry(path.as_path());
            if entry
                .with_context(|| format!("looking at {path}"))?
                .is_none()
            {
                gone.insert(path);
            }
        }
        rollback::fence_again(&mut program, self.plan, &gone);
        Ok(program)
    }

    /// What is performed, with the new signers held to where they are, and the floors taken away that were laid.
    ///
    /// # Errors
    /// A fence's drop-in can't be looked at.
    pub fn program(
        &self,
        files: &dyn Files,
        inventory: &Inventory,
        history: &History,
        halts: &Halts,
    ) -> Result<Program> {
        let mut program = self.unguarded(files, inventory)?;
        guard(&mut program, halts);
        let undone = history.get(self.undone).into_iter();
        for operation in undone.flat_map(|undone| history.taken_up(undone)) {
            floor::withdraw(&mut program, &operation.program);
        }
        Ok(program)
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
    let program = way.program(&*host.files, &look.inventory, history, halts)?;
    let journal = match way.resumed {
        Some(open) => Writer::resume(host, open, &program).map(|journal| (journal, open.operation)),
        None => {
            let opening = Opening {
                verb: Verb::Rollback,
                supersedes: Some(way.undone),
                plan,
                program: &program,
            };
            Writer::open(host, history, &opening)
        }
    };
    let (journal, id) = journal.map_err(Failure::from)?;
    let task = Task {
        journal,
        id,
        verb: Verb::Rollback,
        plan: plan.id.clone(),
        known: safety::known(&look.inventory, &plan.moves),
        sessions: operation::sessions(host, &look.inventory, history),
        ledger: look.ledger,
        settings: Settings {
            stops_at_failure: false,
            ..settings
        },
        resumed: history.open().is_some(),
    };
    let end = operation::carry_out(host, ui, task, &program)?;
    Ok((id, end))
}
