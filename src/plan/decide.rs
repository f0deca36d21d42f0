//! Decides: which chain is left, which signers move and to what names. Pure.

mod files;
mod sandbox;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tmkms_core::chain_id::ChainId;

use super::{ChainFile, ChainMove, Height, Input, Move, Request};
use crate::content::Fingerprint;
use crate::finding::{Code, Finding};
use crate::inventory::{Inventory, Signer};
use crate::naming;
use crate::render::config::Wanted;
use files::Files;

/// What planning decides before the surroundings are looked at.
pub struct Draft {
    pub suffix: String,
    pub from: Option<ChainId>,
    pub moves: Vec<Move>,
    pub inputs: Vec<Input>,
    pub binaries: BTreeMap<PathBuf, Fingerprint>,
    pub heights: Vec<Height>,
    /// What stood in a decision's way.
    pub findings: Vec<Finding>,
}

/// Decides on the moves.
///
/// # Errors
/// A sentence with the next step, where the request doesn't fit the host: no signer, no chain or several, no suffix.
pub fn decide(inventory: &Inventory, request: &Request) -> Result<Draft, String> {
    for wanted in &request.signers {
        if !inventory
            .current()
            .any(|s| s.name() == wanted || s.unit.name.stem() == wanted)
        {
            let names: BTreeSet<&str> = inventory.current().map(Signer::name).collect();
            return Err(format!(
                "--signer {wanted}: no enabled or running signer has that name; there are: {}",
                list(names)
            ));
        }
    }
    let suffix = naming::suffix(&request.new_chain, request.suffix.as_deref())?;
    let mut draft = Draft {
        suffix,
        from: None,
        moves: Vec::new(),
        inputs: Vec::new(),
        binaries: BTreeMap::new(),
        heights: Vec::new(),
        findings: Vec::new(),
    };
    let Some(from) = from_chain(inventory, request)? else {
        return Ok(draft);
    };
    let mut inputs = BTreeMap::new();
    for signer in moving(inventory, request, &from) {
        match a_move(signer, request, &from, &draft.suffix, &mut inputs) {
            Ok(moving) => draft.moves.push(moving),
            Err(finding) => draft.findings.push(*finding),
        }
        if let (Some(program), Some(binary)) = (signer.unit.exec.first(), &signer.binary) {
            draft
                .binaries
                .insert(PathBuf::from(program), binary.clone());
        }
        draft.heights.extend(Height::of(signer));
    }
    draft.from = Some(from);
    draft.inputs = inputs.into_values().collect();
    Ok(draft)
}

fn moving<'a>(
    inventory: &'a Inventory,
    request: &'a Request,
    from: &'a ChainId,
) -> impl Iterator<Item = &'a Signer> {
    inventory.current().filter(|s| {
        let named = request.signers.is_empty()
            || request.signers.contains(s.name())
            || request.signers.contains(s.unit.name.stem());
        named && s.chains.iter().any(|c| c.id == from.as_str())
    })
}

/// The chain that is left; none where every signer of the chain has the new id already.
fn from_chain(inventory: &Inventory, request: &Request) -> Result<Option<ChainId>, String> {
    let new = &request.new_chain;
    let ids: BTreeSet<&str> = inventory
        .current()
        .flat_map(|s| s.chains.iter().map(|c| c.id.as_str()))
        .collect();
    if ids.is_empty() {
        let mut message = String::from(
            "no signer found: no enabled or running unit that can be read has an ExecStart that runs `tmkms start`",
        );
        // A unit that can't be read explains its process, too.
        if !inventory.problems.is_empty() {
            for problem in &inventory.problems {
                message += &format!("\n{problem}");
            }
        } else if let Some(process) = inventory.processes.first() {
            message += &format!(
                ", but process {} does: give it a unit of its own, kmsctl moves signers that systemd runs",
                process.pid
            );
        } else {
            message += "; see `systemctl list-units` for the signers' units, or give `--root` the right folder";
        }
        return Err(message);
    }
    if let Some(from) = &request.from_chain {
        if from == new {
            return Err(format!("--from-chain {from} is the new chain itself"));
        }
        if !ids.contains(from.as_str()) && !ids.contains(new.as_str()) {
            return Err(format!(
                "no signer signs --from-chain {from}; they sign: {}",
                list(ids)
            ));
        }
        return Ok(ids.contains(from.as_str()).then(|| from.clone()));
    }
    let same_name: Vec<ChainId> = ids
        .iter()
        .filter_map(|id| id.parse::<ChainId>().ok())
        .filter(|id| id.name() == new.name() && id != new)
        .collect();
    match &same_name[..] {
        [from] => Ok(Some(from.clone())),
        [] if ids.contains(new.as_str()) => Ok(None),
        [] => Err(format!(
            "no signer signs a chain named {:?}; they sign: {}. Name the one to leave with --from-chain",
            new.name(),
            list(ids)
        )),
        several => Err(format!(
            "several chains are named {:?}: {}. Name the one to leave with --from-chain",
            new.name(),
            list(several.iter().map(ChainId::as_str))
        )),
    }
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn a_move(
    signer: &Signer,
    request: &Request,
    from: &ChainId,
    suffix: &str,
    inputs: &mut BTreeMap<PathBuf, Input>,
) -> Result<Move, Box<Finding>> {
    let unit = &signer.unit;
    let new = naming::unit(&unit.name, suffix).map_err(|e| taken(signer, &unit.fragment, e))?;
    if new == unit.name {
        let message = format!("the new unit would have the current one's name {new}");
        return Err(taken(signer, &unit.fragment, message));
    }
    let chains = chain_moves(signer, request, from, suffix);
    if let Some(chain) = chains.iter().find(|c| c.old.state_file == c.new.state_file) {
        let message = "the new chain's state file would be the old chain's".to_owned();
        return Err(taken(signer, &chain.old.state_file, message));
    }
    let new_config = naming::path(&signer.config.path.to_string_lossy(), suffix);
    if Path::new(&new_config) == signer.config.path {
        let message = "the new config would be the current one".to_owned();
        return Err(taken(signer, &signer.config.path, message));
    }
    let wanted = Wanted {
        from,
        to: &request.new_chain,
        suffix,
        protocol: request.protocol,
    };
    let files = Files {
        signer,
        chains: &chains,
        new: &new,
        wanted,
        inputs,
    }
    .all()?;
    Ok(Move {
        signer: signer.name().to_owned(),
        old: unit.name.clone(),
        start: unit.run.is_up(),
        old_links: unit.links.clone(),
        new_links: unit.links.iter().map(|l| naming::link(l, &new)).collect(),
        new,
        program: Path::new(&unit.exec[0]).to_owned(),
        old_config: signer.config.path.clone(),
        new_config: PathBuf::from(new_config),
        stays: stays(signer, from),
        chains,
        files,
    })
}

fn taken(signer: &Signer, path: &Path, message: String) -> Box<Finding> {
    let finding = Finding::block(Code::NameTaken, message)
        .of(signer.name())
        .at(path);
    Box::new(finding.remedy("give another suffix with --suffix"))
}

fn chain_moves(signer: &Signer, request: &Request, from: &ChainId, suffix: &str) -> Vec<ChainMove> {
    let pairs = signer.chains.iter().zip(&signer.config.view.chains);
    pairs
        .filter(|(chain, _)| chain.id == from.as_str())
        .map(|(chain, written)| {
            let old_name = chain
                .state_file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            let new_name = match &written.state_file {
                Some(_) => naming::file_name(&old_name, suffix),
                None => format!("{}_priv_validator_state.json", request.new_chain),
            };
            let old = ChainFile::of(chain);
            let new = ChainFile {
                chain: request.new_chain.to_string(),
                state_file: chain.state_file.with_file_name(new_name),
                keys: chain.keys.clone(),
            };
            ChainMove { old, new }
        })
        .collect()
}

fn stays(signer: &Signer, from: &ChainId) -> Vec<ChainFile> {
    signer
        .chains
        .iter()
        .filter(|c| c.id != from.as_str())
        .map(ChainFile::of)
        .collect()
}
