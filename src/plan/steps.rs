//! The programs of a plan: staging, the switch, the way back, unstaging. Each follows from the plan alone, so that
//! `apply` has nothing left to choose. The order is the design's fence: see the table there.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::program::{Action, Lane, Program, Step, StepId};
use super::{ChainFile, Move, Plan};
use crate::content::Role;
use crate::paths::{ManagedLink, ManagedPath};
use crate::unit::UnitName;

fn step(id: impl Into<String>, action: Action, because: &str) -> Step {
    Step {
        id: StepId(id.into()),
        action,
        because: because.to_owned(),
    }
}

/// Writes the plan's files. Disturbs no running service.
pub fn stage(plan: &Plan) -> Program {
    let mut steps = Vec::new();
    if plan.moves.is_empty() {
        return Program::default();
    }
    for (n, path) in ManagedPath::fence_folders().into_iter().enumerate() {
        let because = "the fence's markers lie on the root filesystem, there at boot";
        steps.push(step(
            format!("stage/fence-folder-{n}"),
            Action::MakeFolder { path },
            because,
        ));
    }
    for moving in &plan.moves {
        let id = |name: &str| format!("{}/stage/{name}", moving.signer);
        steps.push(step(
            id("close-new"),
            Action::CloseFence {
                unit: moving.new.clone(),
            },
            "nothing may start the new unit before the switch",
        ));
        for (n, path) in moving.drop_in_folders().into_iter().enumerate() {
            steps.push(step(
                id(&format!("folder-{n}")),
                Action::MakeFolder { path },
                "a unit's drop-ins go there",
            ));
        }
        for (n, file) in moving.files.iter().enumerate() {
            let because = match file.role {
                Role::Config => "the new chain's config",
                Role::Unit => "the unit that runs it",
                Role::DropIn => "the old unit's drop-in, which the new name doesn't inherit",
                Role::Fence => "its marker decides who may start",
            };
            let action = Action::Write {
                role: file.role,
                path: file.path.clone(),
                content: file.content.clone(),
            };
            steps.push(step(id(&format!("file-{n}")), action, because));
        }
    }
    steps.push(step(
        "stage/reload",
        Action::Reload,
        "systemd reads the new units and drop-ins",
    ));
    let units = plan
        .moves
        .iter()
        .flat_map(|m| [m.new.clone(), m.old.clone()])
        .collect();
    steps.push(step(
        "stage/fenced",
        Action::CheckFenced { units },
        "what systemd hasn't loaded keeps nothing apart",
    ));
    Program {
        before: steps,
        ..Program::default()
    }
}

/// Takes the staged files away; only those that kmsctl wrote.
pub fn unstage(plan: &Plan, written: &BTreeSet<ManagedPath>) -> Program {
    let mut steps = Vec::new();
    for moving in &plan.moves {
        let id = |name: &str| format!("{}/unstage/{name}", moving.signer);
        // The unit before its drop-in, so that there is never a unit without its fence.
        let order = |role: Role| match role {
            Role::Unit => 0,
            Role::Config => 1,
            Role::DropIn => 2,
            Role::Fence => 3,
        };
        let mut files: Vec<_> = moving
            .files
            .iter()
            .enumerate()
            .filter(|(_, f)| written.contains(&f.path))
            .collect();
        files.sort_by_key(|(n, f)| (order(f.role), *n));
        for (n, file) in files {
            let action = Action::Remove {
                role: file.role,
                path: file.path.clone(),
                content: file.content.clone(),
            };
            steps.push(step(id(&format!("file-{n}")), action, "staged by kmsctl"));
        }
        for (n, path) in moving.drop_in_folders().into_iter().enumerate() {
            if written.contains(&path) {
                let action = Action::RemoveFolder { path };
                steps.push(step(id(&format!("folder-{n}")), action, "made by kmsctl"));
            }
        }
        // Another plan may have staged the unit: then its fence stays closed.
        if written.contains(&ManagedPath::fence(&moving.new)) {
            steps.push(step(
                id("open-new"),
                Action::OpenFence {
                    unit: moving.new.clone(),
                },
                "there is no new unit left to keep from starting",
            ));
        }
    }
    for (n, path) in ManagedPath::fence_folders().into_iter().enumerate().rev() {
        if written.contains(&path) {
            let action = Action::RemoveFolder { path };
            steps.push(step(
                format!("unstage/fence-folder-{n}"),
                action,
                "made by kmsctl",
            ));
        }
    }
    steps.push(step(
        "unstage/reload",
        Action::Reload,
        "systemd forgets the staged units",
    ));
    Program {
        before: steps,
        ..Program::default()
    }
}

/// Which way a signer goes.
struct Way<'a> {
    /// `old` and `new` as seen from this way: what is left, and what takes over.
    leave: &'a UnitName,
    take: &'a UnitName,
    leave_word: &'static str,
    take_word: &'static str,
    start: bool,
    leave_files: Vec<ChainFile>,
    take_files: Vec<ChainFile>,
}

fn lane(moving: &Move, way: Way<'_>) -> Lane {
    let id = |name: &str, word: &str| format!("{}/{name}-{word}", moving.signer);
    let (leave, take) = (way.leave_word, way.take_word);
    let mut steps = vec![
        step(
            id("close", leave),
            Action::CloseFence {
                unit: way.leave.clone(),
            },
            "from here on a boot, a crash-loop or a hand can't start it again",
        ),
        step(
            id("fenced", leave),
            Action::CheckFenced {
                units: vec![way.leave.clone()],
            },
            "the marker counts only where systemd heeds it",
        ),
        step(
            id("stop", leave),
            Action::Stop {
                unit: way.leave.clone(),
            },
            "one signer a key",
        ),
        step(
            id("prove", leave),
            Action::ProveStopped {
                unit: way.leave.clone(),
            },
            "two signers of one key are a double signature",
        ),
        step(
            id("record", leave),
            Action::Record {
                files: way.leave_files,
            },
            "how far the key signed is evidence, and the floor of every later start",
        ),
        step(
            id("heights", take),
            Action::CheckHeights {
                files: way.take_files.clone(),
            },
            "tmkms would silently begin at 0 on a lost state file",
        ),
        step(
            id("open", take),
            Action::OpenFence {
                unit: way.take.clone(),
            },
            "the other unit is proven dead",
        ),
    ];
    if way.start {
        let unit = way.take.clone();
        steps.push(step(
            id("start", take),
            Action::Start { unit },
            "the old unit ran",
        ));
        let action = Action::Watch {
            unit: way.take.clone(),
            files: way.take_files,
        };
        steps.push(step(
            id("watch", take),
            action,
            "a started job says nothing about a running signer",
        ));
    }
    Lane {
        signer: moving.signer.clone(),
        steps,
    }
}

/// The units that systemd itself enables or disables, with their links.
fn by_systemd(plan: &Plan, new: bool) -> (Vec<UnitName>, Vec<PathBuf>) {
    let mut units = Vec::new();
    let mut paths = Vec::new();
    for moving in &plan.moves {
        let enablement = &moving.enablement;
        if !enablement.by_systemd || enablement.old.is_empty() {
            continue;
        }
        let (unit, links) = if new {
            (&moving.new, &enablement.new)
        } else {
            (&moving.old, &enablement.old)
        };
        units.push(unit.clone());
        paths.extend(links.iter().map(|l| PathBuf::from(l.link.clone())));
    }
    (units, paths)
}

/// The links that kmsctl itself makes before the switch, and those that it changes after it.
fn link_by_link(plan: &Plan, id: &str, to_new: bool) -> (Vec<Step>, Vec<Step>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for moving in &plan.moves {
        let enablement = &moving.enablement;
        let set = |steps: &mut Vec<Step>, link: &ManagedLink, way: [Option<&PathBuf>; 2], why| {
            let [from, to] = way.map(|target| target.cloned());
            let what = match (&from, &to) {
                (None, _) => "link",
                (_, None) => "unlink",
                _ => "alias",
            };
            let id = format!("{id}/{what}-{}", steps.len());
            let link = link.clone();
            steps.push(step(id, Action::SetLink { link, from, to }, why));
        };
        if !enablement.by_systemd {
            let (leave, take) = if to_new {
                (&enablement.old, &enablement.new)
            } else {
                (&enablement.new, &enablement.old)
            };
            for link in take {
                let why = "once the fence opens, a boot starts it; until then it can't start";
                set(&mut before, &link.link, [None, Some(&link.target)], why);
            }
            for link in leave {
                let why = "what was left doesn't come back, and the fence keeps it closed";
                set(&mut after, &link.link, [Some(&link.target), None], why);
            }
        }
        for alias in &enablement.aliases {
            let (from, to) = if to_new {
                (&alias.old, &alias.new)
            } else {
                (&alias.new, &alias.old)
            };
            let why = "the second name means the unit that runs";
            set(&mut after, &alias.link, [Some(from), Some(to)], why);
        }
    }
    (before, after)
}

fn around(plan: &Plan, id: &str, to_new: bool) -> (Vec<Step>, Vec<Step>) {
    let (mut before, mut after) = link_by_link(plan, id, to_new);
    let (units, links) = by_systemd(plan, to_new);
    if !units.is_empty() {
        before.push(step(
            format!("{id}/enable"),
            Action::Enable { units, links },
            "once the fence opens, a boot starts it; until then it can't start",
        ));
        let (units, links) = by_systemd(plan, !to_new);
        after.push(step(
            format!("{id}/disable"),
            Action::Disable { units, links },
            "what was left doesn't come back, and the fence keeps it closed",
        ));
    }
    if !after.is_empty() {
        after.push(step(
            format!("{id}/reload"),
            Action::Reload,
            "systemd sees what is enabled",
        ));
    }
    (before, after)
}

/// From the old units to the new ones. `running` are old units whose signers count as running, whatever they did when
/// the plan was made.
pub fn switch(plan: &Plan, running: &BTreeSet<UnitName>) -> Program {
    let (before, after) = around(plan, "switch", true);
    let lanes = plan.moves.iter().map(|m| {
        lane(
            m,
            Way {
                leave: &m.old,
                take: &m.new,
                leave_word: "old",
                take_word: "new",
                start: m.start || running.contains(&m.old),
                leave_files: m.old_chains().cloned().collect(),
                take_files: m.new_chains().cloned().collect(),
            },
        )
    });
    Program {
        before,
        lanes: lanes.collect(),
        after,
    }
}

/// The mirror image of [`switch`]: staged files stay, inert. `running` are the new units that run now: their signers
/// are started again on the old units even where those didn't run before.
pub fn back(plan: &Plan, running: &BTreeSet<UnitName>) -> Program {
    let (before, after) = around(plan, "back", false);
    let lanes = plan.moves.iter().map(|m| {
        lane(
            m,
            Way {
                leave: &m.new,
                take: &m.old,
                leave_word: "new",
                take_word: "old",
                start: m.start || running.contains(&m.new),
                leave_files: m.new_chains().cloned().collect(),
                take_files: m.old_chains().cloned().collect(),
            },
        )
    });
    Program {
        before,
        lanes: lanes.collect(),
        after,
    }
}
