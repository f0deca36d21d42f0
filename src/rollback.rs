//! The way back: what an operation's plan is undone by, and whether it may be. Pure.

use std::path::Path;

use crate::finding::{Code, Finding};
use crate::inventory::{Inventory, Signer};
use crate::plan::program::Program;
use crate::plan::{ChainFile, Move, Plan, steps};

/// The inverse of an applied plan.
pub fn program(plan: &Plan) -> Program {
    steps::back(plan)
}

/// What changed at the old signers since the plan was made (rule S7, back): told and confirmed, and refused only where
/// chain id, key, state file or binary would differ.
pub fn changes(plan: &Plan, inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for moving in &plan.moves {
        let Some(signer) = inventory.signer(&moving.old) else {
            let message = format!("{} is gone: there is nothing to go back to", moving.old);
            findings.push(Finding::block(Code::UnitUnreadable, message).of(&moving.signer).remedy(
                "put the unit and its config back as the operation's journal shows them, then roll back",
            ));
            continue;
        };
        findings.extend(identity(moving, signer));
        for (path, text) in [
            (&signer.config.path, &signer.config.text),
            (&signer.unit.fragment, &signer.unit.text),
        ] {
            let then = plan.inputs.iter().find(|i| i.path == *path);
            let now = plain(path, text);
            if then.is_some_and(|i| i.text != now) {
                let message = "it was changed since the plan was made; it will run as it is now";
                findings.push(
                    Finding::warn(Code::ConfigInvalid, message)
                        .of(&moving.signer)
                        .at(path),
                );
            }
        }
    }
    findings
}

fn plain(path: &Path, text: &str) -> String {
    use crate::content::Role;
    let role = if path.extension().is_some_and(|e| e == "toml") {
        Role::Config
    } else {
        Role::Unit
    };
    crate::render::without_secrets(role, text).unwrap_or_default()
}

fn identity(moving: &Move, signer: &Signer) -> Option<Finding> {
    let now: Vec<ChainFile> = signer
        .chains
        .iter()
        .map(|c| ChainFile {
            chain: c.id.clone(),
            state_file: c.state_file.clone(),
            keys: c.keys.clone(),
        })
        .collect();
    let same = now.len() == moving.old_chains().count()
        && moving.old_chains().all(|then| now.contains(then));
    let binary = signer
        .unit
        .exec
        .first()
        .is_some_and(|p| Path::new(p) == moving.program);
    if same && binary {
        return None;
    }
    Some(
        Finding::block(
            Code::ConfigInvalid,
            "its chains, keys, state files or binary are no longer those that were moved",
        )
        .of(&moving.signer)
        .at(&signer.config.path)
        .remedy("put the config and the unit back as they were when the plan was made"),
    )
}
