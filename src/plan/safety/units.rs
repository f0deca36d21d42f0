//! The units that move: one a config, loaded as they lie on disk, heeding their fences, and wanted by what is moved along.

use std::collections::BTreeMap;
use std::path::Path;

use super::Case;
use crate::finding::{Code, Finding};
use crate::inventory::{Inventory, Signer};
use crate::paths::ManagedPath;
use crate::plan::Move;
use crate::unit::UnitName;

/// Two units that start tmkms on one config.
pub fn shared_configs(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut by_config: BTreeMap<&Path, Vec<&Signer>> = BTreeMap::new();
    for signer in inventory.current() {
        let same = by_config.entry(&signer.config.path).or_default();
        same.push(signer);
    }
    for signer in inventory.current() {
        let unit = &signer.unit;
        let mut others = by_config[signer.config.path.as_path()].iter();
        if let Some(other) = others.find(|s| s.unit.name > unit.name) {
            let message = format!(
                "both {} and {} start tmkms on this config: two signers of one key",
                unit.name, other.unit.name
            );
            findings.push(
                Finding::block(Code::ConfigShared, message)
                    .of(signer.name())
                    .at(&signer.config.path)
                    .remedy(format!(
                        "disable and stop one of {} and {}",
                        unit.name, other.unit.name
                    )),
            );
        }
    }
    findings
}

/// A unit whose newest text systemd hasn't read.
pub fn needs_reload(signer: &Signer) -> Option<Finding> {
    signer.unit.needs_reload.then(|| {
        Finding::block(
            Code::NeedsDaemonReload,
            "systemd runs an older text of this unit than the one on disk",
        )
        .of(signer.name())
        .at(&signer.unit.fragment)
        .remedy("look at the change, then `systemctl daemon-reload`")
    })
}

pub fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = shared_configs(case.inventory);
    findings.extend(unheeded(case.inventory, case.moves));
    for moving in case.moves {
        let Some(signer) = case.inventory.signer(&moving.old) else {
            continue;
        };
        let unit = &signer.unit;
        findings.extend(needs_reload(signer));
        if unit.closed {
            let message = format!(
                "the fence of {} is closed: a switch or a way back was left half-way",
                unit.name
            );
            findings.push(
                Finding::block(Code::FenceClosed, message)
                    .of(signer.name())
                    .at(ManagedPath::fence(&unit.name).as_path())
                    .remedy("`kmsctl status` says which of its units runs and how to go on"),
            );
        }
        findings.extend(pulled_in(case, signer, moving));
        let enabled = !unit.links.is_empty() || !unit.pulled_in_by.is_empty();
        let odd = match (unit.run.is_up(), !enabled) {
            (false, false) => Some("is enabled and doesn't run: it is moved without being started"),
            (true, true) => Some("runs and isn't enabled: the new unit won't be enabled either"),
            _ => None,
        };
        if let Some(odd) = odd {
            let message = format!("{} {odd}", unit.name);
            let remedy = "start, stop, enable or disable it first if that isn't what you want";
            findings.push(
                Finding::warn(Code::RunStateOdd, message)
                    .of(signer.name())
                    .remedy(remedy),
            );
        }
    }
    findings
}

/// Units that may start although their fence's marker is there. Staging lets systemd heed it, and a signer that runs
/// would stay dark after a crash.
pub fn unheeded(inventory: &Inventory, moves: &[Move]) -> Vec<Finding> {
    let signers = inventory.signers.iter().filter(|s| s.unit.unheeded);
    signers
        .map(|signer| {
            let unit = &signer.unit.name;
            let message = format!(
                "the marker of {unit}'s fence is there, and systemd doesn't heed it: {unit} isn't closed, and may start"
            );
            let new = match moves.iter().any(|m| &m.old == unit) {
                true => Finding::block,
                false => Finding::warn,
            };
            let remedy = format!(
                "`systemctl daemon-reload` where {} is there and should count; else take the marker away",
                ManagedPath::drop_in(unit)
            );
            new(Code::FenceUnheeded, message)
                .of(signer.name())
                .at(ManagedPath::fence(unit).as_path())
                .remedy(remedy)
        })
        .collect()
}

/// What wants the old unit by a text or a link that isn't kmsctl's to change.
fn pulled_in(case: &Case<'_>, signer: &Signer, moving: &Move) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (old, new) = (&moving.old, &moving.new);
    for pull in &signer.unit.pulled_in_by {
        let by = &pull.by;
        // One that moves as well names the new unit from then on.
        let is = |unit: &UnitName| {
            unit.as_str() == by || unit.template().is_some_and(|t| t.as_str() == by)
        };
        if case.moves.iter().any(|m| is(&m.old)) {
            continue;
        }
        let needs = match pull.needs {
            true => format!(", and {by} stops with it and won't start again while it needs it"),
            false => String::new(),
        };
        let message = format!(
            "{by} pulls {old} in by a text or a link that kmsctl doesn't change; the new unit gets a link of its own, \
             and at each boot the closed one fails aloud{needs}"
        );
        findings.push(
            Finding::warn(Code::EnablementOdd, message)
                .of(signer.name())
                .at(pull.at.as_deref().unwrap_or(&signer.unit.fragment))
                .remedy(format!("after the switch let {by} name {new} instead")),
        );
    }
    findings
}
