//! The fence on a real systemd: power is cut before every effect of a switch and of a way back, and after a boot only the
//! right unit of each signer runs, or in the middle neither, whatever a hand types. Then what `status` says works.
//!
//! Lanes go one after another here, so that signer 02 stands at the step, 01 is through and 03 hasn't begun. Steps that
//! only look (`prove-…`, `heights-…`) have no effect to be held before: the next step stands for them.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::fleet::{self, Fleet, Keys};
use crate::kmsctl::{self, NEW_CHAIN, UnitNow, held_before, kmsctl, new_unit, unit_now};
use crate::machine::{Lab, Machine};
use crate::parts::Protocol;
use crate::sampler::Sampler;

const FLEET: Fleet = Fleet {
    signers: 3,
    protocol: Protocol::V033,
    keys: Keys::Softsign,
};
const NUMBERS: [u8; 3] = [1, 2, 3];
/// One signer after another, and watched no longer than it takes to see a crash.
const ONE_BY_ONE: [&str; 4] = ["--soak", "1", "--parallel", "1"];
const QUICK: [&str; 3] = ["--yes", "--soak", "1"];

/// Which unit of a signer may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Old,
    New,
    Neither,
}

use Right::{Neither, New, Old};

/// Where power is cut, and what is right for each of the three signers from then on.
type Point = (&'static str, [Right; 3]);

const SWITCH: [Point; 9] = [
    ("switch/enable", [Old, Old, Old]),
    ("tmkms-02/close-old", [New, Old, Old]),
    ("tmkms-02/stop-old", [New, Neither, Old]),
    ("tmkms-02/record-old", [New, Neither, Old]),
    ("tmkms-02/open-new", [New, Neither, Old]),
    ("tmkms-02/start-new", [New, New, Old]),
    ("tmkms-02/watch-new", [New, New, Old]),
    ("switch/disable", [New, New, New]),
    ("switch/reload", [New, New, New]),
];

const BACK: [Point; 9] = [
    ("back/enable", [New, New, New]),
    ("tmkms-02/close-new", [Old, New, New]),
    ("tmkms-02/stop-new", [Old, Neither, New]),
    ("tmkms-02/record-new", [Old, Neither, New]),
    ("tmkms-02/open-old", [Old, Neither, New]),
    ("tmkms-02/start-old", [Old, Old, New]),
    ("tmkms-02/watch-old", [Old, Old, New]),
    ("back/disable", [Old, Old, Old]),
    ("back/reload", [Old, Old, Old]),
];

#[test]
fn a_switch_cut_off_before_every_effect_goes_on() -> Result<()> {
    switch_cut_off(&["apply"])
}

#[test]
fn a_switch_cut_off_before_every_effect_goes_back() -> Result<()> {
    switch_cut_off(&["rollback"])
}

fn switch_cut_off(way: &[&str]) -> Result<()> {
    let mut machine = staged()?;
    let sampler = Sampler::start(&machine);
    restarted(&mut machine)?;
    nothing_disturbs(&machine, [Old; 3]).context("staged only")?;
    for (step, right) in SWITCH {
        cut_off(&mut machine, "apply", step, right).with_context(|| at("apply", step))?;
        let context = || format!("{}, then {}", at("apply", step), way.join(" "));
        kmsctl(&machine, &[way, &QUICK[..]].concat())?.exits(0);
        let end = if way == ["apply"] { New } else { Old };
        ended(&mut machine, end).with_context(context)?;
        if end == New {
            kmsctl(&machine, &[&["rollback"], &QUICK[..]].concat())?.exits(0);
            ended(&mut machine, Old).with_context(context)?;
        }
    }
    sampler.stop()?.one_at_a_time()
}

#[test]
fn a_way_back_cut_off_before_every_effect_goes_on() -> Result<()> {
    let mut machine = staged()?;
    let sampler = Sampler::start(&machine);
    for (step, right) in BACK {
        for (way, end) in [("apply", New), ("rollback", Old)] {
            kmsctl(&machine, &[&["apply"], &QUICK[..]].concat())?.exits(0);
            ended(&mut machine, New)?;
            cut_off(&mut machine, "rollback", step, right).with_context(|| at("rollback", step))?;
            let context = || format!("{}, then {way}", at("rollback", step));
            kmsctl(&machine, &[&[way], &QUICK[..]].concat())?.exits(0);
            ended(&mut machine, end).with_context(context)?;
        }
    }
    sampler.stop()?.one_at_a_time()
}

/// All three at once, where which of them is how far isn't known beforehand: the markers say it.
#[test]
fn a_switch_of_all_at_once_is_never_ambiguous() -> Result<()> {
    let mut machine = staged()?;
    let sampler = Sampler::start(&machine);
    for step in [
        "tmkms-01/stop-old",
        "tmkms-03/open-new",
        "tmkms-02/watch-new",
    ] {
        let held = held_before(&machine, step, &["apply", "--no-canary", "--soak", "1"])?;
        restarted(&mut machine)?;
        drop(held);
        let right = by_the_markers(&machine)?;
        nothing_disturbs(&machine, right).with_context(|| at("apply", step))?;
        kmsctl(&machine, &[&["rollback"], &QUICK[..]].concat())?.exits(0);
        ended(&mut machine, Old).with_context(|| at("apply", step))?;
    }
    sampler.stop()?.one_at_a_time()
}

/// Going on must not undo, not even for a moment, what was reached before the first power cut.
#[test]
fn a_switch_cut_off_twice_leaves_what_was_switched() -> Result<()> {
    let mut machine = staged()?;
    let sampler = Sampler::start(&machine);
    let (step, right) = ("tmkms-02/record-old", [New, Neither, Old]);
    cut_off(&mut machine, "apply", step, right)?;
    // All lanes at once now: 01 has nothing left to do, and 03 comes after 02.
    let held = held_before(&machine, step, &["apply", "--no-canary", "--soak", "1"])?;
    assert_eq!(by_the_markers(&machine)?, right, "while it goes on");
    restarted(&mut machine)?;
    drop(held);
    assert_eq!(by_the_markers(&machine)?, right, "after the second cut");
    tells(&machine, "apply", right)?;
    nothing_disturbs(&machine, right)?;
    kmsctl(&machine, &[&["apply"], &QUICK[..]].concat())?.exits(0);
    ended(&mut machine, New)?;
    sampler.stop()?.one_at_a_time()
}

fn at(verb: &str, step: &str) -> String {
    format!("{verb} cut off before {step}")
}

/// A machine whose signers run since its boot, halted at one height, with the plan staged.
fn staged() -> Result<Machine> {
    let lab = Lab::open()?;
    let machine = Machine::boot(&lab, |root| {
        FLEET.write(&lab, root)?;
        NUMBERS.iter().try_for_each(|n| halted(root, *n))?;
        kmsctl::install(root)?;
        fleet::enable(root, &NUMBERS.map(fleet::unit_name))
    })?;
    kmsctl(&machine, &["plan", "--new-chain", NEW_CHAIN])?.exits(0);
    kmsctl(&machine, &["stage", "--yes"])?.exits(0);
    Ok(machine)
}

/// A state file as tmkms leaves it at the halt.
pub fn halted(root: &Path, number: u8) -> Result<()> {
    let path = root.join(fleet::state_path(number).trim_start_matches('/'));
    let state = r#"{"height":"2233550","round":"0","step":2,"block_id":null}"#;
    fs::write(&path, state).with_context(|| format!("writing {}", path.display()))?;
    chown(&path, Some(fleet::TMKMS), Some(fleet::TMKMS)).context("giving a state file to tmkms")
}

/// Holds a verb before a step, cuts the power, boots, and looks at everything that Done-when 3 names.
fn cut_off(machine: &mut Machine, verb: &str, step: &str, right: [Right; 3]) -> Result<()> {
    let held = held_before(machine, step, &[&[verb], &ONE_BY_ONE[..]].concat())?;
    let both_enabled = !step.ends_with("/enable") && !step.ends_with("/reload");
    for number in NUMBERS {
        let (old, new) = units(machine, number)?;
        ensure!(
            (old.enabled && new.enabled) == both_enabled,
            "both units of {number} are enabled from the first effect to the last: {old:?}, {new:?}"
        );
    }
    restarted(machine)?;
    drop(held);
    assert_eq!(by_the_markers(machine)?, right, "what the fence says");
    tells(machine, verb, right)?;
    nothing_disturbs(machine, right)?;
    tells(machine, verb, right)
}

fn restarted(machine: &mut Machine) -> Result<()> {
    machine.power_cut()?;
    machine.boot_again()
}

fn units(machine: &Machine, number: u8) -> Result<(UnitNow, UnitNow)> {
    Ok((
        unit_now(machine, &fleet::unit_name(number))?,
        unit_now(machine, &new_unit(number))?,
    ))
}

/// Which unit of each signer the markers let start.
fn by_the_markers(machine: &Machine) -> Result<[Right; 3]> {
    let closed = |unit: String| {
        let marker = machine.file(format!("/etc/kmsctl/fence/{unit}.closed"));
        fs::exists(&marker).with_context(|| format!("looking for {}", marker.display()))
    };
    let mut right = [Neither; 3];
    for (right, number) in right.iter_mut().zip(NUMBERS) {
        *right = match (closed(fleet::unit_name(number))?, closed(new_unit(number))?) {
            (false, true) => Old,
            (true, false) => New,
            (true, true) => Neither,
            (false, false) => anyhow::bail!("no unit of signer {number} is closed"),
        };
    }
    Ok(right)
}

/// Only the right unit of each signer runs, or neither.
fn run(machine: &Machine, right: [Right; 3]) -> Result<Vec<(UnitNow, UnitNow)>> {
    let mut all = Vec::new();
    for (number, right) in NUMBERS.into_iter().zip(right) {
        let (old, new) = units(machine, number)?;
        ensure!(
            (old.runs(), new.runs()) == (right == Old, right == New),
            "of signer {number} should run: {right:?}, but the old is {old:?} and the new {new:?}"
        );
        all.push((old, new));
    }
    Ok(all)
}

/// Neither a hand that starts what mustn't run, nor one that restarts everything by a pattern, changes who runs.
fn nothing_disturbs(machine: &Machine, right: [Right; 3]) -> Result<()> {
    let before = run(machine, right)?;
    for (number, right) in NUMBERS.into_iter().zip(right) {
        for (unit, may) in [(fleet::unit_name(number), Old), (new_unit(number), New)] {
            if right != may {
                let started = machine.run(&["systemctl", "start", &unit])?;
                ensure!(
                    started.code == Some(1) && started.stderr.contains("Assertion failed"),
                    "a start of {unit}, which is closed: {started:?}"
                );
            }
        }
    }
    let after = run(machine, right)?;
    ensure!(before == after, "disturbed: {before:?} became {after:?}");
    // It fails where a closed unit is loaded, which is as it should be.
    let _failed_for_some = machine.run(&["systemctl", "restart", "tmkms-*"])?;
    run(machine, right)?;
    Ok(())
}

/// `status` names what was interrupted, each signer that is dark and no other, and what to type.
fn tells(machine: &Machine, verb: &str, right: [Right; 3]) -> Result<()> {
    let status = kmsctl::json(machine, &["status", "--json"])?;
    assert_eq!(status["operation"]["verb"], verb, "{status}");
    let notes: Vec<&str> = status["notes"]
        .as_array()
        .context("notes of the status")?
        .iter()
        .filter_map(|note| note.as_str())
        .collect();
    let text = kmsctl(machine, &["status"])?.exits(0).says(&notes);
    let text = text.says(&[
        &format!("({verb}) was interrupted"),
        "`kmsctl rollback` goes",
    ]);
    if verb == "apply" {
        text.says(&["`kmsctl apply` goes on"]);
    }
    for (number, right) in NUMBERS.into_iter().zip(right) {
        let dark = format!("tmkms-{number:02} is dark");
        assert_eq!(
            notes.iter().any(|note| note.starts_with(&dark)),
            right == Neither,
            "{right:?}: {notes:?}"
        );
    }
    let rows = status["signers"].as_array().context("rows of the status")?;
    assert_eq!(rows.len(), 2 * NUMBERS.len(), "{status}");
    for (number, right) in NUMBERS.into_iter().zip(right) {
        for (unit, its) in [(fleet::unit_name(number), Old), (new_unit(number), New)] {
            let row = rows.iter().find(|row| row["unit"] == unit);
            let row = row.with_context(|| format!("no row of {unit} in {status}"))?;
            assert_eq!(row["active"], right == its, "{row}");
            let fence = if right == its { "open" } else { "closed" };
            assert_eq!(row["fence"], fence, "{row}");
        }
    }
    Ok(())
}

/// The whole fleet is on one side, nothing is left open, and so it is after another power cut.
fn ended(machine: &mut Machine, right: Right) -> Result<()> {
    for round in ["at once", "after a power cut"] {
        let now = run(machine, [right; 3]).context(round)?;
        for (old, new) in now {
            assert_eq!(
                (old.enabled, new.enabled),
                (right == Old, right == New),
                "{round}"
            );
        }
        let status = kmsctl::json(machine, &["status", "--json"])?;
        assert!(status["operation"].is_null(), "{round}: {status}");
        assert_eq!(status["notes"], serde_json::json!([]), "{round}: {status}");
        if round == "at once" {
            restarted(machine)?;
            nothing_disturbs(machine, [right; 3])?;
        }
    }
    Ok(())
}
