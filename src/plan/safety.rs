//! What speaks against a plan: rules S1, S2, S4, S6, S7 and S10 as findings, with the place, the reason and the remedy.
//! Pure: judges what was observed, after the plan's effects.

mod binaries;
mod configs;
pub mod identity;
mod keys;
mod meeting;
mod places;
mod processes;
mod states;
mod ties;
mod units;
mod validators;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use tmkms_core::config::KeyRef;
use tmkms_core::protocol::TmkmsVersion;

pub use binaries::spoken;
pub use keys::signs;
pub use processes::processes;
pub use states::startable;
pub use units::{needs_reload, shared_configs, unheeded};

use super::decide::Draft;
use super::{Height, Move, Observed, Plan, Request, SeenKey};
use crate::content::Fingerprint;
use crate::finding::{Code, Finding, Severity};
use crate::inventory::{Inventory, Signer, StateReading};
use crate::ledger::Ledger;
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
    /// What the users of moving signers' units, old and new, can't do, and what of it isn't judged.
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
#[derive(Clone, PartialEq, Eq)]
pub enum Found {
    File(Vec<u8>),
    /// A link, a folder or a device, said in words.
    Other(String),
    Unreadable(String),
}

/// A file in the way may be a config with a password in it (rule S11).
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::File(bytes) => write!(f, "File of {} bytes", bytes.len()),
            Found::Other(what) => write!(f, "Other({what})"),
            Found::Unreadable(why) => write!(f, "Unreadable({why})"),
        }
    }
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
    findings.extend(units::findings(&case));
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
