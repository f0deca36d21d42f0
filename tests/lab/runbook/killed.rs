//! A runbook killed before any step, or in the middle of one, is run again, and either way takes over from the other.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{EVIDENCE, NUMBERS, RUNBOOK, exits, host, runbook, runs, softsign};
use crate::fleet;
use crate::kmsctl::new_unit;
use crate::machine::{Lab, Machine};
use crate::sampler::Sampler;

/// Sourced by the runbook's bash before the runbook itself.
const CUT: &str = "/root/cut";

#[test]
fn a_runbook_killed_before_any_step_is_run_again() -> Result<()> {
    let lab = Lab::open()?;
    let machine = softsign(&lab)?;
    let sampler = Sampler::start(&machine);
    let planned = host(&machine)?;
    // In the middle of a file, and between files.
    for at in [
        "run mkdir *fence",
        "run mv *tmkms.02.v3.toml",
        "step tmkms-03/stage/file-3 *",
        "step stage/reload *",
    ] {
        killed(&machine, "stage", at)?;
    }
    exits(runbook(&machine, &["stage", EVIDENCE])?, 0);
    let staged = host(&machine)?;
    exits(runbook(&machine, &["unstage", EVIDENCE])?, 0);
    planned.is_still(&host(&machine)?);
    exits(runbook(&machine, &["stage", EVIDENCE])?, 0);
    staged.is_still(&host(&machine)?);
    for (verb, leave, take) in [("switch", "old", "new"), ("back", "new", "old")] {
        let unit = if take == "new" {
            "tmkms-02.service"
        } else {
            "tmkms-02.v3.service"
        };
        let mut points = vec![
            format!("step {verb}/enable *"),
            format!("run mv *{unit}.closed"),
        ];
        let own =
            ["fenced", "stop", "prove", "record"].map(|s| format!("step tmkms-02/{s}-{leave} *"));
        let then =
            ["heights", "open", "start", "watch"].map(|s| format!("step tmkms-02/{s}-{take} *"));
        points.extend(own.into_iter().chain(then));
        points.extend(["disable", "reload"].map(|s| format!("step {verb}/{s} *")));
        // Each run goes on where the one before was killed.
        for at in points {
            killed(&machine, verb, &at)?;
            one_unit_may_start(&machine).with_context(|| at)?;
        }
        exits(runbook(&machine, &[verb, EVIDENCE])?, 0);
        runs(&machine, take == "new")?;
        if verb == "switch" {
            ensure!(host(&machine)? != staged, "the switch changes the host");
        }
    }
    staged.is_still(&host(&machine)?);
    // Either takes over from the other in the middle.
    for at in [
        "step tmkms-02/stop-old *",
        "step tmkms-02/open-new *",
        "step tmkms-02/start-new *",
    ] {
        killed(&machine, "switch", at)?;
        exits(runbook(&machine, &["back", EVIDENCE])?, 0);
        runs(&machine, false).context(at)?;
        staged.is_still(&host(&machine)?);
    }
    sampler.stop()?.one_at_a_time()
}

/// Runs the runbook until it is about to do a command, and kills it there.
fn killed(machine: &Machine, verb: &str, at: &str) -> Result<()> {
    let (word, rest) = at.split_once(' ').context("a command has words")?;
    let rest = rest.replace(' ', "\\ ");
    // A debug trap sees the command as it is written, and the steps' words by their function.
    let script = format!(
        "set -T\ntrap '[[ $BASH_COMMAND == \"{word} \"* && \"$BASH_COMMAND $*\" == *{rest}* ]] && kill -KILL $$' DEBUG\n"
    );
    fs::write(machine.file(CUT), script).context("writing what kills")?;
    let env = format!("BASH_ENV={CUT}");
    let output = machine.run(&["env", "SOAK=0.3", &env, "bash", RUNBOOK, verb, EVIDENCE])?;
    ensure!(
        output.code.is_none_or(|code| code == 137)
            && !output.stdout.contains(&format!("{verb}: done")),
        "it wasn't killed at {at}: {output:?}"
    );
    Ok(())
}

fn one_unit_may_start(machine: &Machine) -> Result<()> {
    for number in NUMBERS {
        let closed = |unit: &str| {
            fs::exists(machine.file(format!("/etc/kmsctl/fence/{unit}.closed")))
                .context("looking at a marker")
        };
        ensure!(
            closed(&fleet::unit_name(number))? || closed(&new_unit(number))?,
            "nothing keeps the units of {number} apart"
        );
    }
    Ok(())
}
