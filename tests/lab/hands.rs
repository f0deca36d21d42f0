//! Other hands in the middle: other kmsctls at once, and an operator who starts, stops, restarts and reloads. A key never
//! has two processes, what is said is true, and what is named as the way on works.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::fleet;
use crate::kmsctl::{self, PROGRAM, comes_to, go_on, held_before, kmsctl};
use crate::machine::Machine;
use crate::refusals::{ROLLBACK, all_run, staged};
use crate::sampler::Sampler;

const SOON: Duration = Duration::from_secs(30);
const ONE_BY_ONE: [&str; 5] = ["apply", "--soak", "0s", "--parallel", "1"];

fn closed(machine: &Machine) -> Result<()> {
    let status = kmsctl::json(machine, &["status", "--json"])?;
    ensure!(status["operation"].is_null(), "{status}");
    Ok(())
}

#[test]
fn one_of_many_at_once() -> Result<()> {
    let machine = staged()?;
    let sampler = Sampler::start(&machine);
    let others = ["another kmsctl is changing this host"];
    for (verb, new, late) in [
        ("apply", true, "are on commercio-3 already"),
        ("rollback", false, "taken back already"),
    ] {
        let words = [PROGRAM, verb, "--yes", "--soak", "0s"];
        let all: Result<Vec<_>> = (0..5).map(|_| machine.spawn(&words)).collect();
        let mut did = 0;
        for mut one in all? {
            let status = one.wait(SOON)?.context("it doesn't end")?;
            let said = one.said();
            let came_late = said.contains(late) || others.iter().any(|o| said.contains(o));
            match status.code() {
                Some(0) if !came_late => did += 1,
                Some(0 | 3) if came_late => {}
                code => anyhow::bail!("{verb} ended with {code:?}: {said}"),
            }
        }
        ensure!(did == 1, "{did} of them did it");
        all_run(&machine, new)?;
        closed(&machine)?;
    }
    sampler.stop()?.one_at_a_time()
}

/// What an operator types while kmsctl is held before a step, all of which it gets over by itself.
#[test]
fn hands_that_are_got_over() -> Result<()> {
    let machine = staged()?;
    let sampler = Sampler::start(&machine);
    let (restart, reload) = (
        "systemctl restart 'tmkms-*' || true",
        "systemctl daemon-reload",
    );
    // A closed unit says so to whoever starts it.
    let refused = |unit: &str| {
        format!(
            "! systemctl start {unit} 2>&1 | tee /run/said || exit 1; grep 'Assertion failed' /run/said"
        )
    };
    let (old, new) = (fleet::unit_name(2), kmsctl::new_unit(2));
    for (step, script) in [
        ("switch/enable", reload.to_owned()),
        ("tmkms-02/close-old", restart.to_owned()),
        ("tmkms-02/stop-old", reload.to_owned()),
        ("tmkms-02/stop-old", restart.to_owned()),
        ("tmkms-02/stop-old", refused(&new)),
        (
            "tmkms-02/stop-old",
            "systemctl stop tmkms-02 tmkms-03".to_owned(),
        ),
        ("tmkms-02/record-old", refused(&old)),
        ("tmkms-02/open-new", refused(&old)),
        ("tmkms-02/open-new", refused(&new)),
        ("tmkms-02/open-new", restart.to_owned()),
        ("tmkms-02/start-new", refused(&old)),
        ("tmkms-02/start-new", format!("systemctl start {new}")),
        ("tmkms-02/start-new", reload.to_owned()),
        ("tmkms-02/watch-new", restart.to_owned()),
        ("tmkms-02/watch-new", reload.to_owned()),
        ("switch/disable", restart.to_owned()),
        ("switch/disable", reload.to_owned()),
        ("switch/reload", refused(&old)),
    ] {
        let at = format!("{script} before {step}");
        let held = held_before(&machine, step, &ONE_BY_ONE)?;
        machine.sh(&script).with_context(|| at.clone())?;
        go_on(&machine, held)?.exits(0);
        all_run(&machine, true).context(at)?;
        closed(&machine)?;
        kmsctl(&machine, &["rollback", "--yes", "--soak", "0s"])?.exits(0);
        all_run(&machine, false)?;
    }
    sampler.stop()?.one_at_a_time()
}

/// What looks like a new signer that doesn't stay up, while it is watched: everything goes back.
#[test]
fn hands_at_a_signer_that_is_watched() -> Result<()> {
    let machine = staged()?;
    let sampler = Sampler::start(&machine);
    let words = [
        PROGRAM,
        "apply",
        "--yes",
        "--json",
        "--soak",
        "2s",
        "--parallel",
        "1",
    ];
    for (script, why) in [
        (
            "systemctl stop tmkms-01.v3",
            "inactive (dead) after its start",
        ),
        (
            "systemctl restart 'tmkms-*' || true",
            "was restarted while it was watched",
        ),
    ] {
        let mut apply = machine.spawn(&words)?;
        comes_to(&mut apply, "tmkms-01/watch-new")?;
        machine.sh(script)?;
        let status = apply.wait(SOON)?.context("it doesn't end")?;
        let said = apply.said();
        ensure!(
            status.code() == Some(4) && said.contains(why) && said.contains("taken back"),
            "{script}: {status}: {said}"
        );
        all_run(&machine, false).context(script)?;
        closed(&machine)?;
    }
    // A reload is no restart.
    let mut apply = machine.spawn(&words)?;
    comes_to(&mut apply, "tmkms-01/watch-new")?;
    machine.sh("systemctl daemon-reload")?;
    let status = apply.wait(SOON)?.context("it doesn't end")?;
    ensure!(status.success(), "{status}: {}", apply.said());
    all_run(&machine, true)?;
    kmsctl(&machine, &ROLLBACK)?.exits(0);
    sampler.stop()?.one_at_a_time()
}

/// A signer that was switched and watched ends while the others are switched: that isn't called done, either way.
#[test]
fn what_was_switched_ends_before_the_others_are() -> Result<()> {
    let machine = staged()?;
    let sampler = Sampler::start(&machine);
    let dead = "is inactive (dead) after its start";
    let held = held_before(&machine, "tmkms-02/stop-old", &ONE_BY_ONE)?;
    machine.sh("systemctl stop tmkms-01.v3")?;
    let said = go_on(&machine, held)?.exits(4);
    said.says(&["tmkms-01.v3.service", dead, "taken back to commercio-2_2"]);
    all_run(&machine, false)?;
    closed(&machine)?;

    let held = held_before(&machine, "tmkms-02/stop-old", &ONE_BY_ONE)?;
    go_on(&machine, held)?.exits(0);
    let back = ["rollback", "--soak", "0s", "--parallel", "1"];
    let held = held_before(&machine, "tmkms-02/stop-new", &back)?;
    machine.sh("systemctl stop tmkms-01")?;
    let said = go_on(&machine, held)?.exits(5);
    said.says(&["tmkms-01.service", dead, "`kmsctl rollback` goes on"]);
    kmsctl(&machine, &["status"])?
        .exits(0)
        .says(&["tmkms-01 is dark: its old unit may start"]);
    kmsctl(&machine, &ROLLBACK)?.exits(0);
    all_run(&machine, false)?;
    closed(&machine)?;
    sampler.stop()?.one_at_a_time()
}
