//! Signers that stay, and stop with one that moves: they would go dark with it and stay so.

use std::collections::BTreeMap;

use super::Case;
use crate::finding::{Code, Finding};
use crate::unit::{UnitName, UnitText};

/// The settings that stop a unit with another (systemd.unit(5)), or keep it from starting without it.
const STOPS_WITH: [&str; 5] = [
    "Requires",
    "Requisite",
    "BindsTo",
    "PartOf",
    "StopPropagatedFrom",
];

pub fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let moving: BTreeMap<&str, &UnitName> = case
        .moves
        .iter()
        .map(|m| (m.old.as_str(), &m.old))
        .collect();
    let old = |name: &str| moving.get(name).copied();
    let stays = |unit: &UnitName| old(unit.as_str()).is_none();
    for signer in case.inventory.current().filter(|s| stays(&s.unit.name)) {
        let unit = &signer.unit;
        let paths = std::iter::once(&unit.fragment).chain(&unit.drop_ins);
        for (path, text) in paths.zip(unit.texts()) {
            // What can't be read is refused where it moves.
            let parsed = UnitText::parse(text).unwrap_or_default();
            let ties = parsed
                .settings
                .iter()
                .filter(|s| s.section == "Unit" && STOPS_WITH.contains(&s.key.as_str()));
            for setting in ties {
                for old in setting.value.split_whitespace().filter_map(old) {
                    let message = format!(
                        "{}= stops {} with {old}, which moves: it would go dark, and stay so while {old} is closed",
                        setting.key, unit.name
                    );
                    findings.push(
                        Finding::block(Code::SignersTied, message)
                            .of(signer.name())
                            .at(path)
                            .line(setting.line)
                            .remedy(
                                "let each signer stand alone: use After= at most; then plan again",
                            ),
                    );
                }
            }
        }
    }
    findings
}
