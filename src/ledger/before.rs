//! How far state files were before operations could have them signed: what tells whether a new unit signed, since neither
//! a running process nor a file's height by itself does. A file may be there already, and ahead of all journals.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Ledger;
use crate::journal::{Journal, Record};
use crate::plan::program::{Action, StepId};
use crate::unit::UnitName;

impl Ledger {
    /// How far each new state file was when the first of some operations first let its unit start: by all that was
    /// journalled until then. `operations` took up one another, oldest first; `all` are the host's.
    pub fn before<'a>(
        all: impl IntoIterator<Item = &'a Journal>,
        operations: &[&'a Journal],
    ) -> Ledger {
        let first = operations.first().map(|j| j.operation);
        let all = all.into_iter();
        let earlier = all.filter(|j| first.is_none_or(|first| j.operation < first));
        let mut before = Ledger::of(earlier);
        let moves = operations.iter().flat_map(|j| &j.plan.moves);
        let files = moves.flat_map(|m| m.new_chains().map(|f| (f.state_file.as_path(), &m.new)));
        let signed_by: BTreeMap<&Path, &UnitName> = files.collect();
        let mut opened: BTreeSet<&UnitName> = BTreeSet::new();
        for journal in operations {
            let steps = journal.program.steps().map(|s| (&s.id, &s.action));
            let actions: BTreeMap<&StepId, &Action> = steps.collect();
            for record in &journal.records {
                let (path, state) = match record {
                    Record::Intent { step } => {
                        if let Some(Action::OpenFence { unit }) = actions.get(step) {
                            opened.insert(unit);
                        }
                        continue;
                    }
                    Record::State {
                        state_file, state, ..
                    } => (state_file.as_path(), *state),
                    Record::Done { step, already } => match actions.get(step) {
                        Some(Action::LayFloor { floor, .. }) => (floor.path(), floor.state()),
                        Some(Action::WithdrawFloor { floor }) if !already => {
                            before.forget(floor);
                            continue;
                        }
                        _ => continue,
                    },
                    _ => continue,
                };
                let unit = signed_by.get(path);
                if unit.is_none_or(|unit| !opened.contains(unit)) {
                    before.saw(path, state);
                }
            }
        }
        before
    }
}
