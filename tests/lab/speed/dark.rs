//! How long each signer was dark: from systemd's "Stopped" of its old unit to "Started" of its new one, by the monotonic
//! clock of the machine's journal.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::machine::Machine;

/// systemd's catalogue: a stop job, a start job has finished.
const STOPPED: &str = "9d1aaa27d60140bd96365438aad20286";
const STARTED: &str = "39f53479d3a045ac8e11786248231fbf";

/// The dark time of each pair of an old and a new unit in their last switch, in milliseconds.
pub fn times(machine: &Machine, pairs: &[(String, String)]) -> Result<Vec<f64>> {
    let said = machine.sh(&format!(
        "journalctl --sync; journalctl --quiet --boot --output json \
         --output-fields UNIT,MESSAGE_ID,JOB_RESULT MESSAGE_ID={STOPPED} MESSAGE_ID={STARTED}"
    ))?;
    let mut last: BTreeMap<(String, String), f64> = BTreeMap::new();
    for line in said.lines() {
        let entry: Value = serde_json::from_str(line).context("reading the journal")?;
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        if text("JOB_RESULT") != "done" {
            continue;
        }
        let stamp: f64 = text("__MONOTONIC_TIMESTAMP")
            .parse()
            .with_context(|| format!("no time in {line}"))?;
        last.insert((text("UNIT"), text("MESSAGE_ID")), stamp / 1000.0);
    }
    let time = |unit: &str, what: &str| {
        let found = last.get(&(unit.to_owned(), what.to_owned())).copied();
        found.with_context(|| format!("the journal doesn't say when {unit} was stopped or started"))
    };
    pairs
        .iter()
        .map(|(old, new)| {
            let dark = time(new, STARTED)? - time(old, STOPPED)?;
            ensure!(dark > 0.0, "{new} was started before {old} was stopped");
            Ok(dark)
        })
        .collect()
}
