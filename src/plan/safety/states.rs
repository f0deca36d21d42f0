//! Rules S2, S3, S6 and S10 for state files: each belongs to one key and one chain, is at least where it was, and is a
//! regular file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tmkms_core::PublicKey;

use super::Case;
use super::keys::signs;
use super::meeting::Meetings;
use crate::finding::{Code, Finding};
use crate::inventory::StateReading;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::plan::{ChainFile, Move};
use crate::unit::UnitName;

pub fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let configs: Vec<ChainFile> = case.inventory.signers.iter().flat_map(signs).collect();
    let meetings = Meetings::of(&case.inventory.keys, configs.iter().enumerate());
    for moving in case.moves {
        if let Some(signer) = case.inventory.signer(&moving.old) {
            for chain in &signer.chains {
                let (path, reading) = (&chain.state_file, &chain.state);
                findings.extend(startable(case.ledger, &moving.signer, path, reading));
            }
        }
        // A chain that keeps its id keeps its file, which was judged above.
        for chain in moving.chains.iter().filter(|c| c.old.chain != c.new.chain) {
            findings.extend(new_state(case, moving, &chain.new));
            findings.extend(elsewhere(
                &case.inventory.keys,
                &configs,
                &meetings,
                moving,
                &chain.new,
            ));
        }
        findings.extend(identity(case.ledger, &case.inventory.keys, moving));
    }
    findings.extend(shared(case));
    findings
}

/// What keeps a signer from going on with its state file: the rules for one that was signed with.
pub fn startable(
    ledger: &Ledger,
    signer: &str,
    path: &Path,
    reading: &StateReading,
) -> Option<Finding> {
    let finding = |code, message: String, remedy: &str| {
        Some(
            Finding::block(code, message)
                .of(signer)
                .at(path)
                .remedy(remedy),
        )
    };
    let known = ledger.highest(path);
    let seen = known
        .map(|k| format!("; a journal saw it at {k}"))
        .unwrap_or_default();
    match reading {
        StateReading::Read(state) => match known {
            Some(highest) if *state < highest => finding(
                Code::StateBehind,
                format!("the state file is at {state}, and a journal saw it at {highest}"),
                "find the newer file; signing from the older one can sign twice",
            ),
            _ => None,
        },
        StateReading::Missing => finding(
            Code::StateUnreadable,
            format!("the state file is missing: tmkms would silently begin at height 0{seen}"),
            "find the file, or correct the config's path to it",
        ),
        StateReading::Link => finding(
            Code::StateLinked,
            "the state file is a symbolic link, which tmkms replaces by a file at its next signature".into(),
            "stop the signer, put the file itself there, start it again",
        ),
        StateReading::Unreadable(why) => finding(
            Code::StateUnreadable,
            format!("the state file can't be read: {why}{seen}"),
            "find out how far the key signed before you repair it; never begin a new one for this chain",
        ),
    }
}

fn new_state(case: &Case<'_>, moving: &Move, file: &ChainFile) -> Option<Finding> {
    let path = &file.state_file;
    let highest = case.ledger.highest(path);
    let finding = |code, message: String, remedy: &str| {
        Some(
            Finding::block(code, message)
                .of(&moving.signer)
                .at(path)
                .remedy(remedy),
        )
    };
    match (
        case.around
            .states
            .get(path)
            .unwrap_or(&StateReading::Missing),
        highest,
    ) {
        (StateReading::Missing, None) => None,
        (StateReading::Missing, Some(highest)) => finding(
            Code::StateUnreadable,
            format!("the new chain's state file is missing, and a journal saw it at {highest}"),
            "find the file: beginning again at 0 is a double signature waiting",
        ),
        (StateReading::Read(state), Some(highest)) if *state < highest => finding(
            Code::StateBehind,
            format!("the new chain's state file is at {state}, and a journal saw it at {highest}"),
            "find the newer file; signing from the older one can sign twice",
        ),
        (StateReading::Read(_), Some(_)) => None,
        (StateReading::Read(state), None) if case.ledger.leaving(path) == Some(*state) => None,
        (StateReading::Read(state), None) => finding(
            Code::StateUnknown,
            format!("a state file at {state} is in the new chain's place, and no journal knows it"),
            "if this key signed the new chain up to there, plan again with `--accept state-unknown`",
        ),
        (StateReading::Link, _) => finding(
            Code::StateLinked,
            "a symbolic link is in the new state file's place".into(),
            "take it away: tmkms would replace it at its first signature",
        ),
        (StateReading::Unreadable(why), _) => finding(
            Code::StateUnreadable,
            format!("what is in the new state file's place can't be read: {why}"),
            "find out what it is; kmsctl never touches an existing state file",
        ),
    }
}

/// Rule S2 by the journals, for every file that a move leaves or takes: one key and chain, one file, both ways round.
pub fn identity(ledger: &Ledger, keys: &Keys, moving: &Move) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in moving.old_chains().chain(moving.new_chains()) {
        let path = &file.state_file;
        let publics: BTreeSet<PublicKey> =
            file.keys.iter().filter_map(|k| keys.public(k)).collect();
        if let Some(known) = ledger
            .state_files(&file.keys, &publics, &file.chain)
            .find(|p| p != path)
        {
            findings.push(kept_elsewhere(moving, file, known));
        }
        if let Some(other) = ledger.other_owner(file, &publics) {
            let key = other
                .keys
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            let message = format!(
                "the journals know this file as the state of {key} for {}: it says nothing about {}",
                other.chain, file.chain
            );
            let remedy = "give the config its own state file back";
            findings.push(
                Finding::block(Code::StateShared, message)
                    .of(&moving.signer)
                    .at(path)
                    .remedy(remedy),
            );
        }
    }
    findings
}

fn kept_elsewhere(moving: &Move, file: &ChainFile, known: &Path) -> Finding {
    let message = format!(
        "this key's state for {} is kept in {}: another file would be a double signature waiting",
        file.chain,
        known.display()
    );
    Finding::block(Code::StateElsewhere, message)
        .of(&moving.signer)
        .at(&file.state_file)
        .remedy(
            "plan with the suffix that gives the known file, or give the config its own file back",
        )
}

/// Rule S2 by the configs found, enabled or not: no other file is named for the key on the new chain.
fn elsewhere<'a>(
    keys: &Keys,
    configs: &[ChainFile],
    meetings: &Meetings<'a>,
    moving: &Move,
    file: &'a ChainFile,
) -> Option<Finding> {
    let files = meetings.with(file).into_iter().map(|n| &configs[n]);
    let same = |f: &&ChainFile| f.chain == file.chain && keys.shared(&f.keys, &file.keys).is_some();
    let mut others = files
        .filter(same)
        .filter(|f| f.state_file != file.state_file);
    others
        .next()
        .map(|known| kept_elsewhere(moving, file, &known.state_file))
}

/// No two signers on one state file, a plan's own old and new unit excepted.
fn shared(case: &Case<'_>) -> Vec<Finding> {
    let mut owners: Vec<(String, ChainFile)> = Vec::new();
    let by_unit: BTreeMap<&UnitName, &Move> = case
        .moves
        .iter()
        .rev()
        .flat_map(|m| [(&m.old, m), (&m.new, m)])
        .collect();
    for signer in &case.inventory.signers {
        let moving = by_unit.get(&signer.unit.name);
        let name = moving.map_or(signer.unit.name.to_string(), |m| m.old.to_string());
        owners.extend(signs(signer).into_iter().map(|f| (name.clone(), f)));
    }
    for moving in case.moves {
        owners.extend(
            moving
                .new_chains()
                .map(|f| (moving.old.to_string(), f.clone())),
        );
    }
    let mut findings = Vec::new();
    let meetings = Meetings::of(
        &case.inventory.keys,
        owners.iter().map(|(_, f)| f).enumerate(),
    );
    for (n, m) in meetings.pairs() {
        let ((a, file), (b, other)) = (&owners[n], &owners[m]);
        // A retired unit and its successor keep one key's state for one chain: one history, not two.
        let shared = case.inventory.keys.shared(&file.keys, &other.keys);
        let one = file.chain == other.chain && shared.is_some();
        if file.state_file == other.state_file && !one {
            let message = format!(
                "{a} ({}) and {b} ({}) keep their state in this one file: one overwrites the other's protection",
                file.chain, other.chain
            );
            findings.push(
                Finding::block(Code::StateShared, message)
                    .of(signer_of(a))
                    .at(&file.state_file)
                    .remedy("give each key and chain a state file of its own"),
            );
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

fn signer_of(unit: &str) -> String {
    let name = unit.parse::<UnitName>();
    name.map_or_else(|_| unit.to_owned(), |name| name.signer())
}
