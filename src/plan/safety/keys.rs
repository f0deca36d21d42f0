//! Rules S1 and S2 among the units that run or may run: one key signs one chain from one of them, with one state file.
//! One key is one public key, whatever its names; where that isn't known, the names decide.

use std::collections::BTreeSet;
use std::path::Path;

use tmkms_core::config::{KeyFormat, KeyRef};

use super::Side;
use super::meeting::Meetings;
use crate::finding::{Code, Finding};
use crate::inventory::{Inventory, Signer};
use crate::keys::Keys;
use crate::plan::{ChainFile, Move};
use crate::unit::UnitName;

/// A unit that may run, and what it signs then.
pub struct Runner<'a> {
    unit: &'a UnitName,
    config: &'a Path,
    /// How its chain shows keys.
    format: Option<&'a KeyFormat>,
    files: Vec<ChainFile>,
}

/// What every signer signs, in the order of its config.
pub fn signs(signer: &Signer) -> Vec<ChainFile> {
    signer.chains.iter().map(ChainFile::of).collect()
}

/// The units that run now or may at the next boot.
pub fn now(inventory: &Inventory) -> Vec<Runner<'_>> {
    let runners = inventory.current().map(|s| Runner {
        unit: &s.unit.name,
        config: &s.config.path,
        format: format(s),
        files: signs(s),
    });
    runners.collect()
}

/// The units that run once a program has ended: the plan's on one side, and every other current one.
pub fn after<'a>(inventory: &'a Inventory, moves: &'a [Move], side: Side) -> Vec<Runner<'a>> {
    let planned = moves.iter().map(|m| match side {
        Side::Old => Runner {
            unit: &m.old,
            config: &m.old_config,
            format: inventory.signer(&m.old).and_then(format),
            files: m.old_chains().cloned().collect(),
        },
        Side::New => Runner {
            unit: &m.new,
            config: &m.new_config,
            format: inventory.signer(&m.old).and_then(format),
            files: m.new_chains().cloned().collect(),
        },
    });
    let mut runners: Vec<Runner<'_>> = planned.collect();
    let of_plan: BTreeSet<&UnitName> = moves.iter().flat_map(|m| [&m.old, &m.new]).collect();
    let others = now(inventory).into_iter();
    runners.extend(others.filter(|r| !of_plan.contains(r.unit)));
    runners
}

fn format(signer: &Signer) -> Option<&KeyFormat> {
    signer.config.view.chains.first().map(|c| &c.key_format)
}

/// Rules S1 and S2 among units that may run: no two with one key on one chain, no two with one state file.
pub fn findings(runners: &[Runner<'_>], keys: &Keys) -> Vec<Finding> {
    let mut findings = Vec::new();
    let files = runners.iter().enumerate();
    let meetings = Meetings::of(
        keys,
        files.flat_map(|(n, r)| r.files.iter().map(move |f| (n, f))),
    );
    for (n, m) in meetings.pairs() {
        let (a, b) = (&runners[n], &runners[m]);
        for (file_a, file_b) in pairs(&a.files, &b.files) {
            let finding = |code, message| {
                Finding::block(code, message)
                    .of(a.unit.signer())
                    .at(a.config)
                    .remedy("stop and disable one of the two before anything else")
            };
            let one = keys
                .shared(&file_a.keys, &file_b.keys)
                .filter(|_| file_a.chain == file_b.chain);
            if let Some((key_a, key_b)) = one {
                let message = format!(
                    "{} signs {} from {} and from {} ({}): a double signature waiting",
                    names(keys, key_a, key_b, a.format),
                    file_a.chain,
                    a.unit,
                    b.unit,
                    b.config.display()
                );
                findings.push(finding(Code::KeyShared, message));
            } else if file_a.state_file == file_b.state_file {
                let message = format!(
                    "{} and {} would keep their state in the one file {}",
                    a.unit,
                    b.unit,
                    file_a.state_file.display()
                );
                findings.push(finding(Code::StateShared, message));
            }
        }
    }
    findings
}

/// One key by the names that two configs have for it.
fn names(keys: &Keys, a: &KeyRef, b: &KeyRef, format: Option<&KeyFormat>) -> String {
    match keys.public(a) {
        Some(public) if a != b => {
            let shown = format.and_then(|f| public.displayed(f));
            let shown = shown.unwrap_or_else(|| public.to_hex());
            format!("one key, {shown}, is {a} as well as {b}, and")
        }
        _ => a.to_string(),
    }
}

fn pairs<'a>(
    a: &'a [ChainFile],
    b: &'a [ChainFile],
) -> impl Iterator<Item = (&'a ChainFile, &'a ChainFile)> {
    a.iter().flat_map(move |a| b.iter().map(move |b| (a, b)))
}
