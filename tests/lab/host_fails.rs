//! The host fails in the middle: a disk fills, /etc becomes read-only, the bus dies. kmsctl stops, says what is true, and
//! the way on that it names works once the host is mended.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::fleet;
use crate::kmsctl::{Said, eventually, go_on, held_before, kmsctl, new_unit, unit_now};
use crate::machine::Machine;
use crate::refusals::{APPLY, NUMBERS, PLAN, ROLLBACK, all_run, host, running, staged};
use crate::sampler::Sampler;

const MEMORY: &str = "/var/lib/kmsctl";
const UNITS: &str = "/etc/systemd/system";
/// One signer after the other, so that it is known where each stands.
const ONE_BY_ONE: [&str; 5] = ["apply", "--soak", "0s", "--parallel", "1"];

/// Where each signer runs: on its old unit, its new one, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Old,
    New,
    Neither,
}

/// Who runs, by systemd.
fn runs(machine: &Machine) -> Result<[On; 3]> {
    let mut runs = [On::Neither; 3];
    for (runs, number) in runs.iter_mut().zip(NUMBERS) {
        let old = unit_now(machine, &fleet::unit_name(number))?.runs();
        let new = unit_now(machine, &new_unit(number))?.runs();
        *runs = match (old, new) {
            (true, true) => bail!("both units of {number} run"),
            (true, false) => On::Old,
            (false, true) => On::New,
            (false, false) => On::Neither,
        };
    }
    Ok(runs)
}

/// `status` says who runs, and the ways on.
fn told(machine: &Machine, runs: [On; 3]) -> Result<()> {
    let mut status = kmsctl(machine, &["status"])?.exits(0);
    for (number, runs) in NUMBERS.into_iter().zip(runs) {
        let dark = format!("tmkms-{number:02} is dark");
        ensure!(
            status.output.stdout.contains(&dark) == (runs == On::Neither),
            "{status:?}"
        );
    }
    status = status.says(&["(apply) was interrupted", "`kmsctl apply` goes on"]);
    drop(status.says(&["`kmsctl rollback` goes back"]));
    Ok(())
}

fn stand(machine: &Machine, wanted: [On; 3]) -> Result<()> {
    let runs = runs(machine)?;
    ensure!(runs == wanted, "{runs:?}, not {wanted:?}");
    told(machine, runs)
}

/// Goes on in the way that is named, to its end; then there and back again, for nothing may be left in the way.
fn goes_on(machine: &Machine, to_new: bool) -> Result<()> {
    let ways = if to_new {
        [APPLY, ROLLBACK]
    } else {
        [ROLLBACK, APPLY]
    };
    for (way, new) in ways.into_iter().zip([to_new, !to_new]) {
        kmsctl(machine, &way)?.exits(0);
        all_run(machine, new)?;
    }
    if to_new {
        return Ok(());
    }
    kmsctl(machine, &ROLLBACK)?.exits(0);
    all_run(machine, false)
}

/// Puts a small disk of its own under a folder.
fn small_disk(machine: &Machine, folder: &str) -> Result<()> {
    machine.sh(&format!(
        "mkdir -p {folder}; cp -a {folder} /run/kept; mount -t tmpfs -o size=2m,mode=755 none {folder}
         cp -a /run/kept/. {folder}; rm -r /run/kept; systemctl daemon-reload"
    ))?;
    Ok(())
}

/// Fills a small disk, but for so many pages. A small file takes one.
fn fill(machine: &Machine, folder: &str, pages: u32) -> Result<()> {
    let full = machine.sh(&format!(
        "! head -c 8M /dev/zero 2>&1 >{folder}/fill || exit 1; truncate -s -{} {folder}/fill",
        4096 * pages
    ))?;
    ensure!(full.contains("No space left"), "it isn't full: {full}");
    Ok(())
}

fn free(machine: &Machine, folder: &str) -> Result<()> {
    fs::remove_file(machine.file(folder).join("fill")).context("making room")
}

#[test]
fn the_disk_is_full_at_stage() -> Result<()> {
    let machine = running()?;
    small_disk(&machine, UNITS)?;
    kmsctl(&machine, &PLAN)?.exits(0);
    fill(&machine, UNITS, 2)?;
    let before = host(&machine)?;
    let no_memory = |path: &str| !path.starts_with(MEMORY);
    let before = before.only(no_memory);
    let full = ["No space left on device", UNITS, "the host is as before"];
    for _ in 0..2 {
        kmsctl(&machine, &["stage", "--yes"])?.exits(1).says(&full);
        before.is_still(&host(&machine)?.only(no_memory));
        all_run(&machine, false)?;
    }
    free(&machine, UNITS)?;
    kmsctl(&machine, &["stage", "--yes"])?.exits(0);
    goes_on(&machine, true)
}

#[test]
fn the_disk_is_full_where_journals_are() -> Result<()> {
    let machine = running()?;
    small_disk(&machine, MEMORY)?;
    kmsctl(&machine, &PLAN)?.exits(0);
    fill(&machine, MEMORY, 1)?;
    let before = host(&machine)?;
    let no_memory = |path: &str| !path.starts_with(MEMORY);
    let before = before.only(no_memory);
    for verb in [&["stage", "--yes"], &APPLY[..]] {
        kmsctl(&machine, verb)?
            .exits(1)
            .says(&["No space left on device", "/var/lib/kmsctl/operations/"]);
        before.is_still(&host(&machine)?.only(no_memory));
        all_run(&machine, false)?;
    }
    free(&machine, MEMORY)?;
    kmsctl(&machine, &["stage", "--yes"])?.exits(0);

    // The whole switch has its room before it begins.
    let held = held_before(&machine, "tmkms-02/stop-old", &ONE_BY_ONE)?;
    fill(&machine, MEMORY, 0)?;
    go_on(&machine, held)?.exits(0);
    all_run(&machine, true)?;
    kmsctl(&machine, &ROLLBACK)?
        .exits(1)
        .says(&["No space left on device"]);
    all_run(&machine, true)?;
    free(&machine, MEMORY)?;
    kmsctl(&machine, &ROLLBACK)?.exits(0);
    all_run(&machine, false)
}

#[test]
fn the_disk_fills_in_the_middle_of_the_journal() -> Result<()> {
    let machine = running()?;
    small_disk(&machine, MEMORY)?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let sampler = Sampler::start(&machine);
    // How much the journal's last page still takes isn't known, but it isn't two whole signers.
    for (step, to_new) in [
        ("switch/enable", true),
        ("tmkms-01/open-new", false),
        ("tmkms-02/close-old", true),
    ] {
        let held = held_before(&machine, step, &ONE_BY_ONE)?;
        // Somebody takes the room away that the journal has.
        let journal = format!("$(ls -d {MEMORY}/operations/* | tail -n 1)/journal");
        machine.sh(&format!(
            "s=$(stat -c %s {journal}); o=$((s / 4096 * 4096 + 4096)); fallocate -n -p -o $o -l 1M {journal}
             truncate -s $o {journal}; truncate -s $s {journal}"
        ))?;
        fill(&machine, MEMORY, 0)?;
        let full = ["No space left on device", MEMORY];
        let said = go_on(&machine, held)?;
        said.exits(5)
            .says(&["No space left on device", "kmsctl status"]);
        let stand = runs(&machine)?;
        told(&machine, stand).context(step)?;
        for verb in [&APPLY, &ROLLBACK] {
            kmsctl(&machine, verb)?.exits(5).says(&full);
            ensure!(runs(&machine)? == stand, "{step}: something was done");
        }
        free(&machine, MEMORY)?;
        goes_on(&machine, to_new).context(step)?;
    }
    sampler.stop()?.one_at_a_time()
}

fn read_only(machine: &Machine, yes: bool) -> Result<()> {
    machine.sh(if yes {
        "mountpoint -q /etc || mount --bind /etc /etc; mount -o remount,bind,ro /etc"
    } else {
        "mount -o remount,bind,rw /etc"
    })?;
    Ok(())
}

#[test]
fn etc_is_read_only() -> Result<()> {
    let machine = running()?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let before = host(&machine)?.only(|path| !path.starts_with(MEMORY));
    read_only(&machine, true)?;
    kmsctl(&machine, &["stage", "--yes"])?.exits(1).says(&[
        "/etc/kmsctl",
        "Read-only file system",
        "the host is as before",
    ]);
    kmsctl(&machine, &APPLY)?.exits(5).says(&[
        "/etc/kmsctl",
        "Read-only file system",
        "no signer was touched",
    ]);
    before.is_still(&host(&machine)?.only(|path| !path.starts_with(MEMORY)));
    all_run(&machine, false)?;
    read_only(&machine, false)?;
    let sampler = Sampler::start(&machine);
    goes_on(&machine, true)?;

    for (step, path, two, to_new) in [
        (
            "tmkms-02/close-old",
            "tmkms-02.service.closed",
            On::Old,
            true,
        ),
        (
            "tmkms-02/open-new",
            "tmkms-02.v3.service.closed",
            On::Neither,
            false,
        ),
        (
            "tmkms-02/stop-old",
            "tmkms-02.v3.service.closed",
            On::Neither,
            true,
        ),
    ] {
        let held = held_before(&machine, step, &ONE_BY_ONE)?;
        read_only(&machine, true)?;
        let path = format!("/etc/kmsctl/fence/{path}");
        let said: Said = go_on(&machine, held)?;
        said.exits(5).says(&[
            &path,
            "Read-only file system",
            "kmsctl apply",
            "kmsctl rollback",
        ]);
        stand(&machine, [On::New, two, On::Old]).context(step)?;
        // Neither way works before it is mended, and nothing gets worse.
        for verb in [&APPLY, &ROLLBACK] {
            kmsctl(&machine, verb)?
                .exits(5)
                .says(&["Read-only file system"]);
        }
        read_only(&machine, false)?;
        goes_on(&machine, to_new).context(step)?;
    }
    sampler.stop()?.one_at_a_time()
}

#[test]
fn the_bus_dies_in_the_middle() -> Result<()> {
    let machine = staged()?;
    let sampler = Sampler::start(&machine);
    for (step, two, to_new) in [
        ("tmkms-02/stop-old", On::Old, true),
        ("tmkms-02/start-new", On::Neither, false),
    ] {
        let held = held_before(&machine, step, &ONE_BY_ONE)?;
        machine.sh("systemctl stop dbus.socket dbus.service")?;
        go_on(&machine, held)?.exits(5).says(&["kmsctl status"]);
        let verb = if to_new { &APPLY[..] } else { &ROLLBACK };
        // What was half-way before is so still.
        for (verb, code) in [(&["status"][..], 1), (verb, 5)] {
            kmsctl(&machine, verb)?
                .exits(code)
                .says(&["systemd can't be reached over D-Bus", "dbus service"]);
        }
        machine.sh("systemctl start dbus.socket")?;
        eventually("a bus", || {
            Ok(kmsctl(&machine, &["status"])?.output.code == Some(0))
        })?;
        stand(&machine, [On::New, two, On::Old]).context(step)?;
        goes_on(&machine, to_new).context(step)?;
    }
    // One that is killed comes back by its socket, and kmsctl's own connection doesn't.
    let held = held_before(&machine, "tmkms-02/watch-new", &ONE_BY_ONE)?;
    machine.sh("kill -KILL $(systemctl show -p MainPID --value dbus)")?;
    go_on(&machine, held)?.exits(5).says(&["kmsctl status"]);
    eventually("a bus", || {
        Ok(kmsctl(&machine, &["status"])?.output.code == Some(0))
    })?;
    stand(&machine, [On::New, On::New, On::Old])?;
    goes_on(&machine, true)?;
    sampler.stop()?.one_at_a_time()
}
