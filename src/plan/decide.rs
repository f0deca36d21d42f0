//! Decides: which chain is left, which signers move and to what names. Pure.
//!
//! Signers switch one by one, several at a time, each behind its own fence. So an order or a wish (`After=`, `Before=`,
//! `Wants=`) between two that move goes over to their new names, and whatever stops or starts one with the other
//! (`Requires=`, `BindsTo=`, `PartOf=`, …) is refused: the one would go dark outside its own switch, or wouldn't start
//! because the other's fence is still closed.

mod files;
mod sandbox;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use tmkms_core::chain_id::ChainId;

use super::{ChainFile, ChainMove, Height, Input, Move, Request};
use crate::content::{Fingerprint, NewFile};
use crate::finding::{Code, Finding};
use crate::inventory::{Inventory, Signer};
use crate::naming;
use crate::render::config::Wanted;
use files::{Files, Successors};

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
            .any(|s| s.name() == *wanted || s.unit.name.stem() == wanted)
        {
            let names: BTreeSet<String> = inventory.current().map(Signer::name).collect();
            let mut message =
                format!("--signer {wanted}: no enabled or running signer has that name");
            if names.is_empty() {
                message += ", and there is none";
            } else {
                message += "; there are: ";
                message += &list(names.iter().map(String::as_str));
            }
            // One that can't be read has a name, too.
            let about = |problem: &&Finding| {
                names.is_empty() || problem.signer.as_ref().is_some_and(|s| s == wanted)
            };
            for problem in inventory.problems.iter().filter(about) {
                message += &format!("\n{problem}");
            }
            return Err(message);
        }
    }
    if request.same_chain() && request.suffix.is_none() {
        return Err(format!(
            "{} stays the chain's id, so the new names need a suffix of their own: give one with --suffix, such as \
             `--suffix v4`",
            request.new_chain
        ));
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
    let signers: Vec<&Signer> = moving(inventory, request, &from)
        .filter(|s| !request.same_chain() || !is_there(s, request, &draft.suffix))
        .collect();
    let units = signers.iter().map(|s| &s.unit.name);
    let successors: Successors = units
        .filter_map(|old| Some((old.clone(), naming::unit(old, &draft.suffix).ok()?)))
        .collect();
    let movers = signers.iter().map(|signer| Mover {
        signer,
        request,
        from: &from,
        suffix: &draft.suffix,
        successors: &successors,
    });
    let (moves, refused) = all_moves(&movers.collect::<Vec<_>>(), &mut inputs);
    draft.moves = moves;
    draft.findings = refused;
    for signer in signers {
        if let (Some(program), Some(binary)) = (signer.unit.exec.first(), &signer.binary) {
            draft
                .binaries
                .insert(PathBuf::from(program), binary.clone());
        }
        draft.heights.extend(Height::of(signer));
    }
    draft.findings.extend(collisions(&draft.moves));
    draft.from = (!draft.moves.is_empty() || !draft.findings.is_empty()).then_some(from);
    draft.inputs = inputs.into_values().collect();
    Ok(draft)
}

/// What two threads do in no time isn't worth one.
const ENOUGH_FOR_A_THREAD: usize = 256;

/// Each signer's move or what stands in its way, in the signers' order; and what they are made from. None needs another's,
/// so a large fleet's are made by all processors.
fn all_moves(
    movers: &[Mover<'_>],
    inputs: &mut BTreeMap<PathBuf, Input>,
) -> (Vec<Move>, Vec<Finding>) {
    let some = |movers: &[Mover<'_>]| {
        let mut inputs = BTreeMap::new();
        let made: Vec<_> = movers.iter().map(|m| m.a_move(&mut inputs)).collect();
        (made, inputs)
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = processors.min(movers.len() / ENOUGH_FOR_A_THREAD).max(1);
    let share = movers.len().div_ceil(threads).max(1);
    let shares: Vec<_> = thread::scope(|scope| {
        let (first, others) = movers.split_at(share.min(movers.len()));
        let others = others.chunks(share);
        let others: Vec<_> = others.map(|c| scope.spawn(move || some(c))).collect();
        let first = some(first);
        let others = others.into_iter().map(|thread| match thread.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        [first].into_iter().chain(others).collect()
    });
    let (mut moves, mut refused) = (Vec::with_capacity(movers.len()), Vec::new());
    for (made, seen) in shares {
        for one in made {
            match one {
                Ok(moving) => moves.push(moving),
                Err(finding) => refused.push(*finding),
            }
        }
        inputs.extend(seen);
    }
    (moves, refused)
}

fn moving<'a>(
    inventory: &'a Inventory,
    request: &'a Request,
    from: &'a ChainId,
) -> impl Iterator<Item = &'a Signer> {
    inventory.current().filter(|s| {
        let named = request.signers.is_empty()
            || request.signers.contains(&s.name())
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
            message += &match &process.unit {
                Some(unit) => format!(
                    ", but process {} of {unit} does: that unit's file can't be read; mend it, then plan again",
                    process.pid
                ),
                None => format!(
                    ", but process {} does: give it a unit of its own, kmsctl moves signers that systemd runs",
                    process.pid
                ),
            };
        } else if !inventory.signers.is_empty() {
            let retired = inventory.signers.iter().map(|s| s.unit.name.as_str());
            message += &format!(
                "; these do, and neither run nor are enabled: {}. Enable and start those that should sign",
                list(retired)
            );
        } else {
            message += "; see `systemctl list-units` for the signers' units, or give `--root` the right folder";
        }
        return Err(message);
    }
    if let Some(from) = &request.from_chain {
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

/// Whether a signer of a chain that keeps its id is where the request wants it.
fn is_there(signer: &Signer, request: &Request, suffix: &str) -> bool {
    let named = naming::unit(&signer.unit.name, suffix).is_ok_and(|new| new == signer.unit.name);
    let runs = request
        .binary
        .as_ref()
        .is_none_or(|b| signer.program() == b);
    let validators = signer.config.view.validators.iter();
    let mut of_chain = validators.filter(|v| v.chain_id.value == request.new_chain.as_str());
    let speaks = request.protocol.is_none_or(|wanted| {
        of_chain.all(|v| {
            v.protocol_version
                .as_ref()
                .is_none_or(|p| p.value == wanted.as_str())
        })
    });
    let folder = request.config_dir.as_ref();
    let lies = folder.is_none_or(|f| signer.config.folder == *f);
    named && runs && speaks && lies
}

/// Two signers that would write one file differently.
fn collisions(moves: &[Move]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut earlier: BTreeMap<&Path, Vec<(&Move, &NewFile)>> = BTreeMap::new();
    for moving in moves {
        for file in &moving.files {
            let there = earlier.entry(file.path.as_path()).or_default();
            let same = |f: &NewFile| f.content.gives_same(&file.content);
            let mut others = there.iter().filter(|(m, _)| m.old != moving.old);
            let other = others.find(|(_, f)| !same(f)).map(|(m, _)| *m);
            // Of those that give one text the first is enough.
            if !there.iter().any(|(_, f)| same(f)) {
                there.push((moving, file));
            }
            let Some(other) = other else {
                continue;
            };
            let message = format!(
                "{} and {} would write this file, each with another content",
                other.old, moving.old
            );
            findings.push(
                Finding::block(Code::NameTaken, message)
                    .of(&moving.signer)
                    .at(file.path.as_path())
                    .remedy("give their units or configs names that differ in more than a suffix"),
            );
        }
    }
    findings
}

/// A signer, and what is wanted of it.
struct Mover<'a> {
    signer: &'a Signer,
    request: &'a Request,
    from: &'a ChainId,
    suffix: &'a str,
    successors: &'a Successors,
}

impl Mover<'_> {
    fn a_move(&self, inputs: &mut BTreeMap<PathBuf, Input>) -> Result<Move, Box<Finding>> {
        let (signer, suffix) = (self.signer, self.suffix);
        let unit = &signer.unit;
        let new = naming::unit(&unit.name, suffix).map_err(|e| self.taken(&unit.fragment, e))?;
        if new == unit.name {
            let message = format!("the new unit would have the current one's name {new}");
            return Err(self.taken(&unit.fragment, message));
        }
        let chains = self.chain_moves();
        let same = |c: &ChainMove| c.old.state_file == c.new.state_file;
        if let Some(chain) = chains
            .iter()
            .find(|c| same(c) && !self.request.same_chain())
        {
            let message = "the new chain's state file would be the old chain's".to_owned();
            return Err(self.taken(&chain.old.state_file, message));
        }
        let new_config = self.new_config();
        naming::fits(&new_config).map_err(|e| self.taken(&signer.config.path, e))?;
        if new_config == signer.config.path {
            let message = "the new config would be the current one".to_owned();
            return Err(self.taken(&signer.config.path, message));
        }
        let wanted = Wanted {
            from: self.from,
            to: &self.request.new_chain,
            suffix,
            protocol: self.request.protocol,
        };
        let program = self.request.binary.as_deref().unwrap_or(signer.program());
        let files = Files {
            signer,
            chains: &chains,
            new: &new,
            new_config: &new_config,
            program,
            wanted,
            successors: self.successors,
            inputs,
        };
        let enablement = files.enablement();
        let files = files.all()?;
        Ok(Move {
            signer: signer.name(),
            old: unit.name.clone(),
            start: unit.run.is_up(),
            enablement,
            new,
            old_program: signer.program().to_owned(),
            new_program: program.to_owned(),
            old_config: signer.config.path.clone(),
            new_config,
            stays: stays(signer, self.from),
            chains,
            files,
        })
    }

    fn taken(&self, path: &Path, message: String) -> Box<Finding> {
        let finding = Finding::block(Code::NameTaken, message)
            .of(self.signer.name())
            .at(path);
        Box::new(finding.remedy("give another suffix with --suffix"))
    }

    /// As the new unit spells it.
    fn new_config(&self) -> PathBuf {
        let old = self.signer.config.path.to_string_lossy();
        let new = PathBuf::from(naming::path(&old, self.suffix));
        match (&self.request.config_dir, new.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => new,
        }
    }

    fn chain_moves(&self) -> Vec<ChainMove> {
        let (signer, request) = (self.signer, self.request);
        let pairs = signer.chains.iter().zip(&signer.config.view.chains);
        pairs
            .filter(|(chain, _)| chain.id == self.from.as_str())
            .map(|(chain, written)| {
                let old = ChainFile::of(chain);
                let mut new = ChainFile {
                    chain: request.new_chain.to_string(),
                    ..old.clone()
                };
                let old_name = chain
                    .state_file
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy();
                if !request.same_chain() {
                    let name = match &written.state_file {
                        Some(_) => naming::file_name(&old_name, self.suffix),
                        None => format!("{}_priv_validator_state.json", request.new_chain),
                    };
                    new.state_file = chain.state_file.with_file_name(name);
                }
                ChainMove { old, new }
            })
            .collect()
    }
}

fn stays(signer: &Signer, from: &ChainId) -> Vec<ChainFile> {
    signer
        .chains
        .iter()
        .filter(|c| c.id != from.as_str())
        .map(ChainFile::of)
        .collect()
}
