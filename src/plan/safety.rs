//! What speaks against a plan: rules S1, S2, S4, S6, S7 and S10 as findings, with the place, the reason and the remedy.
//! Pure: judges what was observed, after the plan's effects.

mod binaries;
mod configs;
pub mod identity;
mod keys;
mod meeting;
mod places;
mod states;
mod ties;
mod validators;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tmkms_core::config::KeyRef;
use tmkms_core::protocol::TmkmsVersion;

pub use binaries::spoken;
pub use keys::signs;
pub use states::startable;

use super::decide::Draft;
use super::{Height, Move, Observed, Plan, Request, SeenKey};
use crate::content::Fingerprint;
use crate::finding::{Code, Finding, Severity};
use crate::inventory::{Inventory, Signer, SignerProcess, StateReading};
use crate::ledger::Ledger;
use crate::paths::ManagedPath;
use crate::peers::{Here, Peers};
use crate::unit::UnitName;

/// What stands where a plan wants to write, and what its new state files say.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Only what is there; links are not followed.
    pub targets: BTreeMap<PathBuf, Found>,
    pub states: BTreeMap<PathBuf, StateReading>,
    /// What stands where a link is to enable a new unit, in words, unless it is that link.
    pub links: BTreeMap<PathBuf, String>,
    /// The drop-ins that are there for each new unit's name and not for the old one's.
    pub drop_ins: BTreeMap<UnitName, Vec<PathBuf>>,
    /// The tmkms that is asked for, if one is.
    pub binary: Option<Binary>,
    /// What the tmkms that will run each new unit refuses in its config, where its version is known.
    pub refused: BTreeMap<UnitName, Vec<Finding>>,
    /// What the users of moving signers' units can't do.
    pub denied: Vec<Finding>,
    /// Programs of old units that aren't there any more, though their processes may still run.
    pub missing_programs: BTreeSet<PathBuf>,
}

/// A tmkms binary.
#[derive(Clone, Debug)]
pub struct Binary {
    /// It is there and may be executed; none where nothing is ever executed.
    pub runs: Option<bool>,
    pub version: Option<TmkmsVersion>,
    pub fingerprint: Option<Fingerprint>,
}

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    File(Vec<u8>),
    /// A link, a folder or a device, said in words.
    Other(String),
    Unreadable(String),
}

/// Everything that checks look at.
struct Case<'a> {
    inventory: &'a Inventory,
    request: &'a Request,
    moves: &'a [Move],
    around: &'a Surroundings,
    ledger: &'a Ledger,
}

impl Case<'_> {
    fn moves(&self, signer: &Signer) -> bool {
        self.moves.iter().any(|m| m.old == signer.unit.name)
    }
}

/// Makes a draft a plan: with its id, and the findings that speak against it.
pub fn judge(
    inventory: &Inventory,
    request: &Request,
    draft: Draft,
    around: &Surroundings,
    ledger: &Ledger,
    peers: &Peers,
) -> Plan {
    let case = Case {
        inventory,
        request,
        moves: &draft.moves,
        around,
        ledger,
    };
    let mut findings = draft.findings;
    findings.extend(units(&case));
    findings.extend(shared_keys(inventory));
    findings.extend(against(inventory, ledger, &draft.moves, Side::New));
    findings.extend(identity::findings(inventory, |s| case.moves(s)));
    findings.extend(around.denied.iter().cloned());
    findings.extend(binaries::findings(&case));
    findings.extend(states::findings(&case));
    findings.extend(places::findings(&case));
    findings.extend(validators::findings(&case));
    findings.extend(configs::findings(&case, &findings));
    findings.extend(ties::findings(&case));
    if let Some(from) = &draft.from {
        let mut heights = draft.heights.clone();
        heights.extend(peers.heights(from.as_str()));
        findings.extend(laggards(&heights, from.as_str(), request.max_spread));
        findings.extend(peers.findings(&inventory.host, from.as_str()));
        let here = Here::of(&inventory.host, &inventory.keys, &draft.moves);
        findings.extend(peers.sharing(&here));
        if peers.asked == 0 {
            let message = "that no other host signs with these keys is not checked";
            let remedy = "declare your other hosts (--peer), or compare `kmsctl heights` with them before `apply`";
            findings.push(Finding::info(Code::NoPeers, message).remedy(remedy));
        }
    }
    for finding in &mut findings {
        if finding.code.acceptable() && request.accept.contains(&finding.code) && finding.blocks() {
            finding.severity = Severity::Warn;
            finding.message += " (accepted)";
        }
    }
    findings.sort_by(|a, b| {
        (b.severity, &a.code, &a.signer, a).cmp(&(a.severity, &b.code, &b.signer, b))
    });
    findings.dedup();
    let mut binaries = draft.binaries;
    let asked = around.binary.as_ref().and_then(|b| b.fingerprint.clone());
    if let (Some(path), Some(fingerprint)) = (&request.binary, asked) {
        binaries.insert(path.clone(), fingerprint);
    }
    let keys = seen_keys(inventory, &draft.moves);
    let mut plan = Plan {
        format_version: super::FORMAT_VERSION,
        id: String::new(),
        request: request.clone(),
        suffix: draft.suffix,
        from: draft.from,
        moves: draft.moves,
        inputs: draft.inputs,
        binaries,
        observed: Observed {
            host: inventory.host.clone(),
            at: inventory.observed_at,
            heights: draft.heights,
            keys,
        },
        findings,
    };
    plan.id = plan.compute_id();
    plan
}

/// What is known of the keys that move.
fn seen_keys(inventory: &Inventory, moves: &[Move]) -> Vec<SeenKey> {
    let files = moves
        .iter()
        .flat_map(|m| m.old_chains().chain(m.new_chains()));
    let keys: BTreeSet<&KeyRef> = files.flat_map(|file| &file.keys).collect();
    let seen = keys.into_iter().filter_map(|key| {
        Some(SeenKey {
            key: key.clone(),
            public: inventory.keys.public(key)?.to_hex(),
        })
    });
    seen.collect()
}

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

fn units(case: &Case<'_>) -> Vec<Finding> {
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

/// Which of a plan's units are to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Old,
    New,
}

/// What forbids a program's end: rules S1, S2 and S4, and signers that can't be read. The same for the plan, for going
/// on with it, and for the way back.
pub fn against(inventory: &Inventory, ledger: &Ledger, moves: &[Move], side: Side) -> Vec<Finding> {
    let mut findings = keys::findings(&keys::after(inventory, moves, side), &inventory.keys);
    let identity = |m| states::identity(ledger, &inventory.keys, m);
    findings.extend(moves.iter().flat_map(identity));
    findings.extend(processes(inventory));
    findings.extend(inventory.problems.iter().cloned());
    findings
}

/// Processes that sign and aren't what is judged.
pub fn processes(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = strays(inventory);
    findings.extend(on_other_configs(inventory));
    findings
}

/// Rules S1 and S2 among the units that run now or may at the next boot.
pub fn shared_keys(inventory: &Inventory) -> Vec<Finding> {
    keys::findings(&keys::now(inventory), &inventory.keys)
}

/// The units that may run while a program does, and their configs: those that were judged.
pub fn known(inventory: &Inventory, moves: &[Move]) -> BTreeMap<UnitName, PathBuf> {
    let planned = moves.iter().flat_map(|m| {
        [
            (m.old.clone(), m.old_config.clone()),
            (m.new.clone(), m.new_config.clone()),
        ]
    });
    let current = inventory
        .current()
        .map(|s| (s.unit.name.clone(), s.config.path.clone()));
    planned.chain(current).collect()
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

/// Signers whose height of the moving chain is further from the highest than the spread allows.
pub fn laggards(heights: &[Height], chain: &str, spread: u64) -> Vec<Finding> {
    let read = || {
        heights
            .iter()
            .filter(|h| h.chain == chain)
            .filter_map(|h| Some((h, h.reading.height()?)))
    };
    let Some((first, highest)) = read().max_by_key(|(_, state)| state.height) else {
        return Vec::new();
    };
    read()
        .filter(|(_, state)| highest.height - state.height > spread)
        .map(|(lagging, state)| {
            let message = format!(
                "{} is at height {}, {} blocks behind {} at {} (allowed: {spread})",
                lagging.signer,
                state.height,
                highest.height - state.height,
                first.signer,
                highest.height
            );
            Finding::block(Code::Laggard, message)
                .of(&lagging.signer)
                .at(&lagging.state_file)
                .remedy("find out why it stopped signing; allow it with --max-spread, or plan without it (--signer)")
        })
        .collect()
}
