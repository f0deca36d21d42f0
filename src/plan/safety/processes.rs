//! Rule S4: who signs is the main process of a known unit, on the config that is judged.

use std::collections::BTreeMap;

use crate::finding::{Code, Finding};
use crate::inventory::{Inventory, SignerProcess};

/// Processes that sign and aren't what is judged.
pub fn processes(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = strays(inventory);
    findings.extend(on_other_configs(inventory));
    findings
}

/// Rule S4: every signing process is the main process of a known unit.
fn strays(inventory: &Inventory) -> Vec<Finding> {
    let known = |process: &SignerProcess| {
        let unit = process.unit.as_ref().and_then(|u| u.parse().ok());
        let signer = unit.and_then(|unit| inventory.signer(&unit));
        signer.is_some_and(|s| process.is_main(&s.unit.run, &s.config.real(), &inventory.processes))
    };
    let strays = inventory.processes.iter().filter(|p| !known(p));
    strays
        .map(|process| {
            let config = match &process.config {
                Some(path) => format!("on {}", path.display()),
                None => "on a config that can't be read".to_owned(),
            };
            let unit = match &process.unit {
                Some(unit) => format!("in {unit}, which is no signer's unit known here"),
                None => "outside systemd".to_owned(),
            };
            Finding::block(
                Code::StrayProcess,
                format!(
                    "process {} runs tmkms {config}, {unit}: it may sign with a key that moves",
                    process.pid
                ),
            )
            .remedy(format!(
                "end it (`kill {}`) or run it from a unit of its own",
                process.pid
            ))
        })
        .collect()
}

/// Signers whose process signs by another config than the one that is judged and moved: its chains, state files and keys
/// are others.
fn on_other_configs(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let processes = inventory.processes.iter().map(|p| (p.pid, p));
    let processes: BTreeMap<u32, &SignerProcess> = processes.collect();
    for signer in inventory.signers.iter().filter(|s| s.is_up()) {
        let (unit, config) = (&signer.unit.name, signer.config.real());
        let process = processes.get(&signer.unit.run.main_pid);
        let Some(process) = process.filter(|p| p.unit.as_deref() == Some(unit.as_str())) else {
            continue;
        };
        let (runs, remedy) = match &process.config {
            Some(runs) if *runs == config => continue,
            Some(runs) => (
                format!("on {}", runs.display()),
                format!(
                    "`systemctl restart {unit}` at a quiet moment if the unit is right, else put the unit or the file \
                     that it reads its variables from back"
                ),
            ),
            None => (
                "on a config that can't be read".to_owned(),
                "run kmsctl as root, who can read it".to_owned(),
            ),
        };
        let message = format!(
            "process {} of {unit} runs tmkms {runs}, and a start now would take {}: what it signs isn't what is judged",
            process.pid,
            config.display()
        );
        findings.push(
            Finding::block(Code::ProcessDiffers, message)
                .of(signer.name())
                .at(&signer.unit.fragment)
                .remedy(remedy),
        );
    }
    findings
}
