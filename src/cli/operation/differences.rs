//! Why a saved plan no longer holds, in words: what differs between it and the one that would be made now.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::inventory::UnitLink;
use crate::plan::{Input, Move, Plan};
use crate::{render, ui};

/// What differs, a line or a diff each.
pub fn differences(saved: &Plan, fresh: &Plan) -> String {
    let mut out = String::new();
    let old = |path| saved.inputs.iter().find(|i: &&Input| i.path == path);
    for now in &fresh.inputs {
        match old(now.path.clone()) {
            None => ui::line(
                &mut out,
                format_args!("{}: new to the plan", now.path.display()),
            ),
            Some(then) if then.text != now.text => {
                let name = now.path.display().to_string();
                let diff = render::difference((&name, &then.text), (&name, &now.text));
                out.push_str(&diff);
            }
            Some(_) => {}
        }
    }
    for then in &saved.inputs {
        if !fresh.inputs.iter().any(|i| i.path == then.path) {
            ui::line(
                &mut out,
                format_args!("{}: no longer part of it", then.path.display()),
            );
        }
    }
    for now in &fresh.moves {
        if let Some(then) = saved.moves.iter().find(|m| m.signer == now.signer) {
            difference(&mut out, then, now);
        }
    }
    let programs: BTreeSet<&PathBuf> = fresh.binaries.keys().chain(saved.binaries.keys()).collect();
    for path in programs {
        if saved.binaries.get(path) != fresh.binaries.get(path) {
            ui::line(
                &mut out,
                format_args!("{}: another binary is there now, or none", path.display()),
            );
        }
    }
    if out.is_empty() {
        out.push_str("the request or kmsctl itself differs\n");
    }
    out
}

fn difference(out: &mut String, then: &Move, now: &Move) {
    let running = |start| if start { "running" } else { "not running" };
    if then.start != now.start {
        let (then, at) = (running(then.start), running(now.start));
        ui::line(out, format_args!("{}: was {then}, and is {at}", now.old));
    }
    if then.enablement.old != now.enablement.old {
        let text = |links: &[UnitLink]| {
            let links: Vec<String> = links.iter().map(|l| l.link.to_string()).collect();
            if links.is_empty() {
                "nothing".to_owned()
            } else {
                links.join(", ")
            }
        };
        let (then, at) = (text(&then.enablement.old), text(&now.enablement.old));
        ui::line(
            out,
            format_args!("{}: was enabled by {then}, and is by {at}", now.old),
        );
    }
}
