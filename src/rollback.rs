//! The way back: what a plan is undone by, and whether it may be. Pure.

use std::collections::BTreeSet;
use std::path::Path;

use crate::content::Role;
use crate::finding::{Code, Finding};
use crate::inventory::{Inventory, Signer};
use crate::paths::ManagedPath;
use crate::plan::program::{Action, Program, Step, StepId};
use crate::plan::{ChainFile, Move, Plan, steps};
use crate::render;
use crate::unit::UnitName;

/// The inverse of an applied plan, on a host where these units run.
pub fn program(plan: &Plan, inventory: &Inventory) -> Program {
    let up = inventory.signers.iter().filter(|s| s.is_up());
    let running: BTreeSet<UnitName> = up.map(|s| s.unit.name.clone()).collect();
    steps::back(plan, &running)
}

/// The drop-ins by which a plan's units heed their fences.
pub fn fences(plan: &Plan) -> impl Iterator<Item = ManagedPath> {
    let files = plan.moves.iter().flat_map(|m| &m.files);
    files
        .filter(|file| file.role == Role::Fence)
        .map(|file| file.path.clone())
}

/// Lets a way back begin by writing the fences' drop-ins that are gone: without them a marker keeps nobody from starting,
/// and systemd, which still knows them, forgets them at its next reload.
pub fn fence_again(program: &mut Program, plan: &Plan, gone: &BTreeSet<ManagedPath>) {
    let staged = steps::stage(plan).before;
    let again = staged.into_iter().filter(|step| match &step.action {
        Action::MakeFolder { path } => gone.iter().any(|g| g.as_path().starts_with(path.as_path())),
        Action::Write { path, .. } => gone.contains(path),
        Action::Reload => !gone.is_empty(),
        _ => false,
    });
    let again = again.map(|step| Step {
        id: StepId(format!("{}-again", step.id)),
        ..step
    });
    program.before.splice(0..0, again.collect::<Vec<_>>());
}

/// What forbids going back to the old signers (rule S7, back): they are gone, or their chain id, key, state file or
/// binary would differ.
pub fn against(plan: &Plan, inventory: &Inventory) -> Vec<Finding> {
    let findings = plan
        .moves
        .iter()
        .filter_map(|moving| match inventory.signer(&moving.old) {
            Some(signer) => identity(moving, signer),
            None => {
                let message = format!("{} is gone: there is nothing to go back to", moving.old);
                let remedy = "put the unit and its config back as they were when the plan was made";
                let finding = Finding::block(Code::UnitUnreadable, message).of(&moving.signer);
                Some(finding.remedy(remedy))
            }
        });
    findings.collect()
}

/// What other hands changed at the old signers' files since the plan was made, as diffs, secrets left out.
pub fn changed(plan: &Plan, inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for signer in plan.moves.iter().filter_map(|m| inventory.signer(&m.old)) {
        let unit = &signer.unit;
        let mut files = vec![
            (Role::Config, &signer.config.path, &signer.config.text),
            (Role::Unit, &unit.fragment, &unit.text),
        ];
        let drop_ins = unit.drop_ins.iter().zip(&unit.drop_in_texts);
        files.extend(drop_ins.map(|(path, text)| (Role::DropIn, path, text)));
        for (role, path, text) in files {
            let then = plan
                .inputs
                .iter()
                .find(|i| i.path == *path)
                .map_or("", |i| &i.text);
            let now = render::without_secrets(role, text).unwrap_or_default();
            if then != now {
                let diff = render::difference(("then", then), ("now", &now));
                let message = format!(
                    "it was changed since the plan was made:\n{}",
                    diff.trim_end()
                );
                findings.push(
                    Finding::warn(Code::InputChanged, message)
                        .of(signer.name())
                        .at(path),
                );
            }
        }
    }
    findings
}

fn identity(moving: &Move, signer: &Signer) -> Option<Finding> {
    let now: Vec<ChainFile> = signer.chains.iter().map(ChainFile::of).collect();
    let same = now.len() == moving.old_chains().count()
        && moving.old_chains().all(|then| now.contains(then));
    let binary = signer
        .unit
        .exec
        .first()
        .is_some_and(|p| Path::new(p) == moving.old_program);
    if same && binary {
        return None;
    }
    let message = "its chains, keys, state files or binary are no longer those that were moved";
    Some(
        Finding::block(Code::InputChanged, message)
            .of(&moving.signer)
            .at(&signer.config.path)
            .remedy("put the config and the unit back as they were when the plan was made"),
    )
}
