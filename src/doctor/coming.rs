//! A plan's new units judged before they are there: what their users will need of the new config's folder, the new
//! program and the new state files' folders, through the new units' own texts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::files::denied;
use crate::accounts::PASSWD;
use crate::content::Content;
use crate::finding::{Code, Finding};
use crate::host::Files;
use crate::inventory::{Inventory, Signer, SignerChain, StateReading};
use crate::plan::Move;
use crate::render;

/// What the users of moving signers' old and new units can't do, and what of it can't be judged.
///
/// `modelled` is a host that is a folder: without accounts in it, that users are unknown says nothing.
pub fn of_moves(
    files: &dyn Files,
    modelled: bool,
    inventory: &Inventory,
    moves: &[Move],
) -> Vec<Finding> {
    if modelled && !matches!(files.entry(Path::new(PASSWD)), Ok(Some(_))) {
        return Vec::new();
    }
    let old: Vec<&Signer> = moves
        .iter()
        .filter_map(|m| inventory.signer(&m.old))
        .collect();
    let new: Vec<Signer> = moves
        .iter()
        .filter_map(|m| Some(after(inventory.signer(&m.old)?, m)))
        .collect();
    let (mut findings, unjudged) = denied(files, old.into_iter().chain(&new));
    // What keeps the old unit from something keeps the new one from it as well, and is said once.
    let mut said = BTreeSet::new();
    findings.retain(|f| said.insert((f.signer.clone(), f.path.clone(), f.remedy.clone())));
    findings.extend(unjudged.into_iter().map(|what| {
        Finding::warn(
            Code::AccessUnjudged,
            format!("whether the units' users can do what their signers must isn't judged in part: {what}"),
        )
        .remedy("see for yourself that they can, before the night: `kmsctl doctor` says the same")
    }));
    findings
}

/// A signer as it will be found once its new unit is enabled.
fn after(signer: &Signer, moving: &Move) -> Signer {
    let mut new = signer.clone();
    new.unit.name = moving.new.clone();
    if let Some(program) = new.unit.exec.first_mut() {
        *program = moving.new_program.to_string_lossy().into_owned();
    }
    new.config.path = moving.new_config.clone();
    let chains = moving.new_chains().map(|chain| SignerChain {
        id: chain.chain.clone(),
        state_file: chain.state_file.clone(),
        state: StateReading::Missing,
        keys: chain.keys.clone(),
    });
    new.chains = chains.collect();
    if let Some((path, text)) = written(moving, &signer.unit.fragment, &signer.unit.text) {
        (new.unit.fragment, new.unit.text) = (path, text);
    }
    // A drop-in that isn't copied counts for the new unit as it is.
    let drop_ins = new.unit.drop_ins.iter_mut();
    for (path, text) in drop_ins.zip(&mut new.unit.drop_in_texts) {
        if let Some(copied) = written(moving, path, text) {
            (*path, *text) = copied;
        }
    }
    new
}

/// Where a unit's or a drop-in's text goes, and what it will be there.
fn written(moving: &Move, source: &Path, text: &str) -> Option<(PathBuf, String)> {
    moving.files.iter().find_map(|file| {
        let from = match &file.content {
            Content::Derived { source, .. } => source,
            Content::Text { .. } => return None,
        };
        let text = (from == source).then(|| render::text(file.role, &file.content, Some(text)))?;
        Some((file.path.as_path().to_owned(), text.ok()?))
    })
}
