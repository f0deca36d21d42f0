//! `plan --runbook`: the plan as a shell script, with what the host and the journals know beside it.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tmkms_core::state::SignState;

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
    replace_runbook(path, text.as_bytes()).with_context(|| format!("writing {shown}"))?;
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

/// Writes a script that root will run: whole or not at all, for its owner alone, and over nothing but a runbook.
fn replace_runbook(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => anyhow::ensure!(
            meta.is_file() && runbook::is_runbook(&std::fs::read(path)?),
            "what is there is no runbook of kmsctl, and it is kept: give another name"
        ),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
