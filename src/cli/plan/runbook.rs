//! `plan --runbook`: the plan as a shell script, with what the host and the journals know beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tmkms_core::state::SignState;

use super::save::Kind;
use crate::discover::{self, Versions};
use crate::host::Host;
use crate::journal::store::History;
use crate::ledger::Ledger;
use crate::plan::{Plan, safety};
use crate::render::runbook;

/// Saves the plan as a runbook, or says why not. What a rule forbids isn't to be done by hand either.
pub fn save(
    host: &mut Host,
    plan: &Plan,
    path: &Path,
    history: &History,
) -> anyhow::Result<String> {
    let shown = path.display();
    if plan.blocks().next().is_some() {
        return Ok(format!(
            "No runbook was written to {shown}: first mend what is in the way."
        ));
    }
    if plan.moves.is_empty() {
        return Ok(format!(
            "No runbook was written to {shown}: there is nothing to do."
        ));
    }
    let inventory = discover::inventory(host, Versions::Skip)?;
    let ledger = Ledger::of(&history.0);
    let around = runbook::Around {
        others: safety::known(&inventory, &[]).into_keys().collect(),
        floors: floors(plan, &ledger),
    };
    let text = runbook::text(plan, &around)?;
    let kind = Kind {
        name: "runbook",
        mode: 0o700,
        is_one: runbook::is_runbook,
    };
    kind.save(path, text.as_bytes())?;
    Ok(format!(
        "Wrote the runbook {shown}: read it, then `{shown} check` as root."
    ))
}

/// How far every state file of the plan was ever seen.
fn floors(plan: &Plan, ledger: &Ledger) -> BTreeMap<PathBuf, SignState> {
    let mut floors = BTreeMap::new();
    let seen = plan.observed.heights.iter();
    let seen = seen.filter_map(|h| Some((&h.state_file, h.reading.height()?)));
    let files = plan
        .moves
        .iter()
        .flat_map(|m| m.old_chains().chain(m.new_chains()));
    let journalled = files.filter_map(|f| Some((&f.state_file, ledger.highest(&f.state_file)?)));
    for (file, state) in seen.chain(journalled) {
        let floor = floors.entry(file.clone()).or_insert(state);
        *floor = state.max(*floor);
    }
    floors
}
