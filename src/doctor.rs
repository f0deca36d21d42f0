//! Everything about a host that could spoil the night, looked at before it: checks in a fixed order, each with the
//! findings that it made, the same that a plan makes.
//!
//! It changes nothing, starts nothing but programs that are asked their version, and dials nobody: a validator's listener
//! takes one connection, which is its signer's. What can't be judged, on this host or for this user, is said as such and
//! never taken for fine.

pub mod access;
pub mod coming;
pub mod files;
mod machine;
mod running;
pub mod sandbox;
mod secrets;
pub mod way;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::{Code, Finding};
use crate::host::Host;
use crate::inventory::Inventory;
use crate::ledger::Ledger;
use crate::peers::{Here, Peers};
use crate::plan::Plan;
use crate::plan::safety::{self, identity, signs};

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Check {
    /// Its stable name.
    pub check: &'static str,
    #[serde(flatten)]
    pub judged: Judged,
    /// What is so, where it was judged and nothing was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fine: Option<String>,
    pub findings: Vec<Finding>,
}

/// Whether a check could be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "judged", content = "unjudged")]
pub enum Judged {
    Whole,
    /// All but this.
    InPart(String),
    /// Not at all, and why.
    Not(String),
}

impl Check {
    fn of(check: &'static str, fine: String, findings: Vec<Finding>) -> Check {
        Check {
            check,
            judged: Judged::Whole,
            fine: findings.is_empty().then_some(fine),
            findings,
        }
    }

    fn not(self, why: &str) -> Check {
        Check {
            judged: Judged::Not(why.into()),
            fine: None,
            ..self
        }
    }

    fn in_part(self, but: String) -> Check {
        Check {
            judged: Judged::InPart(but),
            ..self
        }
    }
}

/// What there is to say of the coming plan.
pub enum Coming {
    Planned(Box<Plan>),
    /// There is none, or none can be made.
    None(String),
}

/// Examines a host; the devices were asked before.
pub fn examine(
    host: &mut Host,
    inventory: &Inventory,
    ledger: &Ledger,
    asked: &Peers,
    coming: &Coming,
) -> Vec<Check> {
    let mut checks = vec![
        units(inventory),
        processes(host, inventory),
        files::access(host, inventory),
        secrets::secrets(host, inventory),
        running::binaries(host, inventory),
        keys(inventory),
        peers(inventory, asked),
        machine::devices(host, inventory),
        running::validators(host, inventory),
        states(inventory, ledger),
        machine::clock(host),
        machine::space(host, inventory),
        machine::journal(host, inventory),
    ];
    let told: BTreeSet<(Code, String)> = checks
        .iter()
        .flat_map(|check| &check.findings)
        .map(|f| (f.code, f.message.clone()))
        .collect();
    checks.push(plan(coming, &told));
    checks
}

/// Units that can't be read, share a config, or wait for a reload; links that enable nothing; fences.
fn units(inventory: &Inventory) -> Check {
    let mut findings = inventory.problems.clone();
    findings.extend(safety::shared_configs(inventory));
    findings.extend(safety::unheeded(inventory, &[]));
    findings.extend(inventory.current().filter_map(safety::needs_reload));
    let (units, configs): (usize, BTreeSet<_>) = (
        inventory.current().count(),
        inventory.current().map(|s| s.config.real()).collect(),
    );
    let fine = format!("{units} signers on {} configs, all read", configs.len());
    Check::of("units", fine, findings)
}

/// Rule S4, and processes that run on another config than their unit names.
fn processes(host: &Host, inventory: &Inventory) -> Check {
    let fine = format!("{} tmkms run, each in its unit", inventory.processes.len());
    let check = Check::of("processes", fine, safety::processes(inventory));
    match host.modelled {
        true => check.in_part("a folder has no other processes than the modelled ones".into()),
        false => check,
    }
}

/// Whether each key can be had, and signs from one place.
fn keys(inventory: &Inventory) -> Check {
    let mut findings = identity::findings(inventory, |_| true);
    findings.extend(safety::shared_keys(inventory));
    findings.extend(identity::hygiene(inventory));
    let current = inventory.current().flat_map(|s| &s.chains);
    let names: BTreeSet<_> = current.flat_map(|c| &c.keys).collect();
    let unknown = names
        .iter()
        .filter(|key| inventory.keys.public(key).is_none())
        .count();
    let fine = format!("{} keys, none of them twice", names.len());
    let check = Check::of("keys", fine, findings);
    match unknown {
        0 => check,
        _ => check.in_part(format!(
            "{unknown} of {} keys are told apart by their names alone",
            names.len()
        )),
    }
}

/// Rule S1 across hosts.
fn peers(inventory: &Inventory, asked: &Peers) -> Check {
    let signers = inventory.current();
    let signs: Vec<_> = signers.map(|s| (&s.unit.name, signs(s))).collect();
    let here = Here {
        host: &inventory.host,
        keys: &inventory.keys,
        signs: signs
            .iter()
            .flat_map(|(unit, files)| files.iter().map(|file| (*unit, file)))
            .collect(),
        one: Vec::new(),
    };
    let mut findings = asked.unknown(&inventory.host);
    findings.extend(asked.sharing(&here));
    let fine = format!("{} asked, none has a key of this host", asked.asked);
    let check = Check::of("peers", fine, findings);
    match asked.asked {
        0 => check.not("no other host is declared (`--peer`)"),
        _ => check,
    }
}

/// Rules S6 and S10 for the state files as they are.
fn states(inventory: &Inventory, ledger: &Ledger) -> Check {
    let findings = inventory.current().flat_map(|signer| {
        let name = signer.name();
        let chains = signer.chains.iter();
        chains.filter_map(move |c| safety::startable(ledger, &name, &c.state_file, &c.state))
    });
    let fine = "each can be read, and is at least where the journals saw it".to_owned();
    Check::of("states", fine, findings.collect())
}

/// What a plan finds: names that are taken, protocols that a binary doesn't speak, files in the way.
fn plan(coming: &Coming, told: &BTreeSet<(Code, String)>) -> Check {
    match coming {
        Coming::None(why) => Check::of("plan", String::new(), Vec::new()).not(why),
        Coming::Planned(plan) => {
            let new = |f: &&Finding| {
                f.code != Code::NoPeers && !told.contains(&(f.code, f.message.clone()))
            };
            let fine = format!(
                "{} signers can go to {}",
                plan.moves.len(),
                plan.request.new_chain
            );
            let findings = plan.findings.iter().filter(new).cloned().collect();
            Check::of("plan", fine, findings)
        }
    }
}
