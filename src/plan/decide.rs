//! Decides: which chain is left, which signers move, what each new file holds. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tmkms_core::chain_id::ChainId;

use super::{ChainFile, ChainMove, Height, Input, Move, Request};
use crate::content::{Content, NewFile, Role};
use crate::finding::{Code, Finding};
use crate::inventory::{Inventory, Signer};
use crate::kms::tmkms;
use crate::naming;
use crate::paths::{ManagedPath, Protected};
use crate::render::unit::Moved;
use crate::render::{self, config, drop_in};

/// What planning decides before the surroundings are looked at.
pub struct Draft {
    pub suffix: String,
    pub from: Option<ChainId>,
    pub moves: Vec<Move>,
    pub inputs: Vec<Input>,
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
        draft
            .heights
            .extend(signer.chains.iter().map(|chain| Height {
                signer: signer.name().to_owned(),
                chain: chain.id.clone(),
                state_file: chain.state_file.clone(),
                reading: chain.state.clone(),
            }));
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
            "no signer found: no enabled or running unit's ExecStart runs `tmkms start`",
        );
        if let Some(process) = inventory.processes.first() {
            message += &format!(
                ", but process {} does: give it a unit of its own, kmsctl moves signers that systemd runs",
                process.pid
            );
        } else if let Some(problem) = inventory.problems.first() {
            message += &format!("\n{problem}");
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
    inputs: &mut BTreeMap<std::path::PathBuf, Input>,
) -> Result<Move, Box<Finding>> {
    let name = signer.name();
    let refuse = |path: &Path, line: usize, message: String| {
        let remedy = "change it by hand to a form that can be edited, then plan again";
        Box::new(
            Finding::block(Code::EditRefused, message)
                .of(name)
                .at(path)
                .line(line)
                .remedy(remedy),
        )
    };
    let taken = |path: &Path, message: String| {
        let remedy = "give another suffix with --suffix";
        Box::new(
            Finding::block(Code::NameTaken, message)
                .of(name)
                .at(path)
                .remedy(remedy),
        )
    };
    let unit = &signer.unit;
    let config_file = &signer.config;
    let new = naming::unit(&unit.name, suffix).map_err(|e| taken(&unit.fragment, e))?;
    if new == unit.name {
        let message = format!("the new unit would have the current one's name {new}");
        return Err(taken(&unit.fragment, message));
    }
    let wanted = config::Wanted {
        from,
        to: &request.new_chain,
        suffix,
        protocol: request.protocol,
    };
    let edits = config::edits(&config_file.text, &config_file.view, &wanted)
        .map_err(|(line, why)| refuse(&config_file.path, line, why))?;
    let chains = chain_moves(signer, request, from, suffix);
    for chain in &chains {
        if chain.old.state_file == chain.new.state_file {
            let message = "the new chain's state file would be the old chain's".to_owned();
            return Err(taken(&chain.old.state_file, message));
        }
    }
    let old_config = config_file.path.to_string_lossy().into_owned();
    let new_config = naming::path(&old_config, suffix);
    if new_config == old_config {
        return Err(taken(
            &config_file.path,
            "the new config would be the current one".into(),
        ));
    }
    let mut protected = protected(signer);
    for chain in &chains {
        protected.insert(chain.new.state_file.clone());
    }
    let file_name = Path::new(&new_config).file_name().unwrap_or_default();
    let config_path = ManagedPath::config(config_file.folder.join(file_name), &protected)
        .map_err(|e| refuse(&config_file.path, 1, e.to_string()))?;

    let mut files = Vec::new();
    let mut derive = |role: Role, path: ManagedPath, source: &Path, text: &str, edits| {
        let unreadable = |e: String| refuse(source, 1, e);
        let content = render::derived(role, source, text, edits).map_err(unreadable)?;
        let plain = render::without_secrets(role, text).map_err(unreadable)?;
        inputs.insert(
            source.to_owned(),
            Input {
                path: source.to_owned(),
                text: plain,
            },
        );
        files.push(NewFile {
            role,
            path,
            content,
        });
        Ok::<(), Box<Finding>>(())
    };
    derive(
        Role::Config,
        config_path,
        &config_file.path,
        &config_file.text,
        edits,
    )?;

    let written = tmkms::config_argument(&unit.exec)
        .map(|(_, path)| path.to_owned())
        .or_else(|| unit.config_variable.clone())
        .unwrap_or_default();
    let new_written = naming::path(&written, suffix);
    let state_paths: Vec<(String, String)> = chains
        .iter()
        .map(|c| {
            let text = |path: &Path| path.to_string_lossy().into_owned();
            (text(&c.old.state_file), text(&c.new.state_file))
        })
        .collect();
    let mut moved = vec![Moved {
        from: &written,
        to: &new_written,
        why: "the new unit starts on the new config",
    }];
    moved.extend(state_paths.iter().map(|(from, to)| Moved {
        from,
        to,
        why: "the unit names the state file",
    }));
    if written.is_empty() {
        let message = "the unit starts tmkms on ./tmkms.toml, which it doesn't name".to_owned();
        return Err(refuse(&unit.fragment, 1, message));
    }
    let mut names_config = false;
    let mut texts = vec![(
        Role::Unit,
        ManagedPath::unit(&new),
        unit.fragment.clone(),
        unit.text.clone(),
    )];
    for (path, text) in unit.drop_ins.iter().zip(&unit.drop_in_texts) {
        // A drop-in of a prefix or of all services is inherited by the new name.
        let Some(file) = render::unit::own_drop_in(path, unit.name.as_str()) else {
            continue;
        };
        let target =
            ManagedPath::other_drop_in(&new, &file).map_err(|e| refuse(path, 1, e.to_string()))?;
        texts.push((Role::DropIn, target, path.clone(), text.clone()));
    }
    for (role, path, source, text) in texts {
        let edits =
            render::unit::edits(&text, &moved).map_err(|(line, why)| refuse(&source, line, why))?;
        names_config |= edits.iter().any(|c| c.edit.from == written);
        derive(role, path, &source, &text, edits)?;
    }
    if !names_config {
        let message =
            format!("the unit's text doesn't name {written} in a form that can be edited");
        return Err(refuse(&unit.fragment, 1, message));
    }
    // A fence's drop-in comes before its unit, so that there is never a unit without its fence.
    let exec = is_simple(unit);
    let mut fenced = Vec::new();
    for unit in [&new, &unit.name] {
        let text = drop_in::fence(unit, exec)
            .map_err(|e| refuse(ManagedPath::drop_in(unit).as_path(), 1, format!("{e:#}")))?;
        let content = Content::Text { text };
        fenced.push(NewFile {
            role: Role::Fence,
            path: ManagedPath::drop_in(unit),
            content,
        });
    }
    fenced.append(&mut files);
    Ok(Move {
        signer: name.to_owned(),
        old: unit.name.clone(),
        start: unit.run.is_up(),
        old_links: unit.links.clone(),
        new_links: unit.links.iter().map(|l| naming::link(l, &new)).collect(),
        new,
        program: Path::new(&unit.exec[0]).to_owned(),
        old_config: config_file.path.clone(),
        new_config: tmkms::absolute(&new_config, &unit.working_directory),
        chains,
        stays: stays(signer, from),
        files: fenced,
    })
}

fn is_simple(unit: &crate::inventory::Unit) -> bool {
    let mut kind = None;
    for text in std::iter::once(&unit.text).chain(&unit.drop_in_texts) {
        if let Ok(parsed) = crate::unit::UnitText::parse(text)
            && let Some(value) = parsed.last("Service", "Type")
        {
            kind = Some(value.to_owned());
        }
    }
    kind.is_none_or(|k| k == "simple")
}

fn chain_moves(signer: &Signer, request: &Request, from: &ChainId, suffix: &str) -> Vec<ChainMove> {
    let directory = &signer.unit.working_directory;
    let view = &signer.config.view;
    let pairs = signer.chains.iter().zip(&view.chains);
    pairs
        .filter(|(chain, _)| chain.id == from.as_str())
        .map(|(chain, written)| {
            let new_state = match &written.state_file {
                Some(path) => naming::path(&path.value, suffix),
                None => format!("{}_priv_validator_state.json", request.new_chain),
            };
            ChainMove {
                old: chain_file(chain),
                new: ChainFile {
                    chain: request.new_chain.to_string(),
                    state_file: tmkms::absolute(&new_state, directory),
                    keys: chain.keys.clone(),
                },
            }
        })
        .collect()
}

fn chain_file(chain: &crate::inventory::SignerChain) -> ChainFile {
    ChainFile {
        chain: chain.id.clone(),
        state_file: chain.state_file.clone(),
        keys: chain.keys.clone(),
    }
}

fn stays(signer: &Signer, from: &ChainId) -> Vec<ChainFile> {
    signer
        .chains
        .iter()
        .filter(|c| c.id != from.as_str())
        .map(chain_file)
        .collect()
}

/// Every file that a signer's config names as state, key or password.
fn protected(signer: &Signer) -> Protected {
    let mut protected = Protected::default();
    let at = |path: &str| tmkms::absolute(path, &signer.unit.working_directory);
    for chain in &signer.chains {
        protected.insert(chain.state_file.clone());
    }
    let view = &signer.config.view;
    for path in view.validators.iter().filter_map(|v| v.secret_key.as_ref()) {
        protected.insert(at(&path.value));
    }
    for provider in &view.softsign {
        protected.insert(at(&provider.path.value));
    }
    for file in view
        .yubihsm
        .iter()
        .filter_map(|p| p.auth.password_file.as_ref())
    {
        protected.insert(at(&file.value));
    }
    protected
}
