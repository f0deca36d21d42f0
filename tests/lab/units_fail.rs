//! Units that don't do as they are asked: a stop that hangs, a start that fails, a crash-loop into the start limit. What
//! is true then is said, and the way on that is named works once the unit is mended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::fleet;
use crate::kmsctl::{self, PROGRAM, comes_to, kmsctl, new_unit, unit_now};
use crate::machine::Machine;
use crate::refusals::{APPLY, NUMBERS, PLAN, ROLLBACK, all_run, prepared};
use crate::sampler::Sampler;

/// While one of these is there, the unit of 02 on that side doesn't come up.
const OLD_BROKEN: &str = "/run/old-broken";
const NEW_BROKEN: &str = "/run/new-broken";
/// Where 02 has what is in front of its tmkms.
const WRAPPER: &str = "/opt/wrapped/tmkms";

fn program(root: &Path, path: &str, script: &str) -> Result<()> {
    let path = root.join(path.trim_start_matches('/'));
    let folder = path.parent().context("a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(&path, script).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("making it executable")
}

fn edit(root: &Path, from: &str, to: &str) -> Result<()> {
    let path = root.join(fleet::unit_path(2).trim_start_matches('/'));
    let text = fs::read_to_string(&path).context("reading a unit")?;
    ensure!(text.contains(from), "no {from:?} in {text}");
    fs::write(&path, text.replace(from, to)).context("writing a unit")
}

/// Signer 02 has a script in front of its tmkms, and more lines in its unit.
fn wrapped(script: &str, lines: &str) -> Result<Machine> {
    let real = format!("{}/.cargo/bin/tmkms", fleet::HOME);
    let machine = prepared(|root| {
        program(
            root,
            WRAPPER,
            &format!("#!/bin/sh\n{script}\nexec {real} \"$@\"\n"),
        )?;
        edit(
            root,
            &format!("ExecStart={real}"),
            &format!("ExecStart={WRAPPER}"),
        )?;
        edit(root, "[Service]\n", &format!("[Service]\n{lines}"))
    })?;
    kmsctl(&machine, &PLAN)?.exits(0);
    Ok(machine)
}

/// The side that is broken from now on, or mended.
fn broken(machine: &Machine, flag: &str, yes: bool) -> Result<()> {
    let flag = machine.file(flag);
    if yes {
        fs::write(flag, "").context("breaking a unit")
    } else {
        fs::remove_file(flag).context("mending a unit")
    }
}

/// Only these signers run, and on the old side or the new one as said.
fn run(machine: &Machine, new: [Option<bool>; 3]) -> Result<()> {
    for (number, new) in NUMBERS.into_iter().zip(new) {
        let runs = [fleet::unit_name(number), new_unit(number)]
            .map(|unit| unit_now(machine, &unit).map(|now| now.active == "active"));
        let [old_runs, new_runs] = runs;
        ensure!(
            (old_runs?, new_runs?) == (new == Some(false), new == Some(true)),
            "signer {number} should run: {new:?}"
        );
    }
    Ok(())
}

fn open(machine: &Machine) -> Result<bool> {
    Ok(!kmsctl::json(machine, &["status", "--json"])?["operation"].is_null())
}

#[test]
fn a_stop_that_hangs_until_its_time_out() -> Result<()> {
    // What is ignored stays ignored in the program that a shell becomes.
    let machine = wrapped("trap '' TERM", "TimeoutStopSec=2\n")?;
    let sampler = Sampler::start(&machine);
    kmsctl(&machine, &APPLY)?.exits(0);
    all_run(&machine, true)?;
    let unit = fleet::unit_name(2);
    let said = machine.sh(&format!("journalctl -q -o cat -u {unit}"))?;
    ensure!(
        said.contains("timed out. Killing"),
        "it doesn't hang: {said}"
    );
    kmsctl(&machine, &ROLLBACK)?.exits(0);
    all_run(&machine, false)?;

    // kmsctl dies while the stop hangs, and the next one doesn't wait for it.
    for (verb, new) in [(&ROLLBACK, false), (&APPLY, true)] {
        let words = [
            PROGRAM,
            "apply",
            "--yes",
            "--json",
            "--soak",
            "0s",
            "--no-canary",
        ];
        let mut apply = machine.spawn(&words)?;
        comes_to(&mut apply, "tmkms-02/stop-old")?;
        thread::sleep(Duration::from_millis(200));
        drop(apply);
        ensure!(
            unit_now(&machine, &unit)?.active == "deactivating",
            "{unit} doesn't hang"
        );
        kmsctl(&machine, verb)?.exits(0);
        all_run(&machine, new)?;
        ensure!(!open(&machine)?, "an operation is open");
    }
    sampler.stop()?.one_at_a_time()
}

#[test]
fn a_start_that_fails() -> Result<()> {
    let check = format!("ExecStartPre=/opt/check {}\n", fleet::config_path(2));
    let script = format!(
        "#!/bin/sh\ncase $1 in *.v3.toml) [ ! -e {NEW_BROKEN} ];; *) [ ! -e {OLD_BROKEN} ];; esac\n"
    );
    let machine = prepared(|root| {
        program(root, "/opt/check", &script)?;
        edit(root, "[Service]\n", &format!("[Service]\n{check}"))
    })?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let sampler = Sampler::start(&machine);
    broken(&machine, NEW_BROKEN, true)?;
    let failed = "systemd couldn't start tmkms-02.v3.service";
    let log = "journalctl -u tmkms-02.v3.service";
    kmsctl(&machine, &APPLY)?.exits(4).says(&[
        failed,
        log,
        "taken back to commercio-2_2",
        "`kmsctl apply`",
    ]);
    all_run(&machine, false)?;
    ensure!(!open(&machine)?, "an operation is open");

    // It stays where it is, and either way on works.
    for (mended, verb, new) in [(false, &ROLLBACK, false), (true, &APPLY, true)] {
        let stay = [&APPLY[..], &["--no-auto-rollback", "--parallel", "1"]].concat();
        kmsctl(&machine, &stay)?.exits(5).says(&[
            failed,
            log,
            "`kmsctl apply` goes on",
            "`kmsctl rollback` goes",
        ]);
        run(&machine, [Some(true), None, Some(false)])?;
        // systemd tries it again and again.
        let status = kmsctl(&machine, &["status"])?.exits(0);
        status.says(&[
            "tmkms-02.v3.service  activating (auto-restart)",
            "`kmsctl apply` goes on",
        ]);
        if mended {
            broken(&machine, NEW_BROKEN, false)?;
        }
        kmsctl(&machine, verb)?.exits(0);
        all_run(&machine, new)?;
    }
    kmsctl(&machine, &ROLLBACK)?.exits(0);

    // Neither starts: what is said is what a hand can do.
    for by_hand in [false, true] {
        broken(&machine, NEW_BROKEN, true)?;
        broken(&machine, OLD_BROKEN, true)?;
        let said = kmsctl(&machine, &APPLY)?.exits(5).says(&[
            "THE WAY BACK FAILED TOO",
            failed,
            "systemd couldn't start tmkms-02.service",
            "`kmsctl rollback` tries it again",
        ]);
        run(&machine, [Some(false), None, Some(false)])?;
        ensure!(open(&machine)?, "no operation is open");
        broken(&machine, NEW_BROKEN, false)?;
        broken(&machine, OLD_BROKEN, false)?;
        if by_hand {
            let text = &said.output.stderr;
            let commands = text.lines().filter(|line| {
                line.contains("systemctl stop tmkms-02.v3")
                    || line.contains("systemctl start tmkms-02.")
            });
            let commands: Vec<&str> = commands.collect();
            ensure!(commands.len() == 2, "what a hand can do isn't said: {text}");
            // Where nothing is left, pgrep finds nothing.
            let script = commands.join("\n").replace("pgrep", "! pgrep");
            let script = format!("set -eu\n{script}\n");
            fs::write(machine.file("/root/by-hand"), script).context("writing what is said")?;
            machine.sh("bash /root/by-hand")?;
            all_run(&machine, false)?;
            let closed = machine.run(&["systemctl", "start", "tmkms-02.v3"])?;
            ensure!(
                closed.code == Some(1),
                "the new one is open as well: {closed:?}"
            );
        }
        kmsctl(&machine, &ROLLBACK)?.exits(0);
        all_run(&machine, false)?;
        ensure!(!open(&machine)?, "an operation is open");
    }
    sampler.stop()?.one_at_a_time()
}

#[test]
fn a_crash_loop_into_the_start_limit() -> Result<()> {
    let script = format!(
        "[ $1 != version ] || exec {real} version
case $* in *.v3.toml) f={NEW_BROKEN};; *) f={OLD_BROKEN};; esac
[ ! -e $f ] || {{ sleep 0.2; exit 1; }}",
        real = format_args!("{}/.cargo/bin/tmkms", fleet::HOME)
    );
    let machine = wrapped(&script, "")?;
    machine.sh(&format!(
        "sed -i s/RestartSec=3/RestartSec=0.1/ {}; systemctl daemon-reload",
        fleet::unit_path(2)
    ))?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let sampler = Sampler::start(&machine);
    let limit = |unit: &str| -> Result<()> {
        let said = machine.sh(&format!("journalctl -q -o cat -u {unit}"))?;
        ensure!(said.contains("repeated too quickly"), "{unit}: {said}");
        Ok(())
    };
    broken(&machine, NEW_BROKEN, true)?;
    // Long enough for five starts, and the first signer is watched before.
    let apply = ["apply", "--yes", "--soak", "3s"];
    for _ in 0..2 {
        let says = [
            "tmkms-02.v3.service is failed (failed)",
            "taken back to commercio-2_2",
        ];
        kmsctl(&machine, &apply)?.exits(4).says(&says);
        limit("tmkms-02.v3.service")?;
        all_run(&machine, false)?;
    }
    broken(&machine, NEW_BROKEN, false)?;
    kmsctl(&machine, &APPLY)?.exits(0);
    all_run(&machine, true)?;

    // The way back can be stuck in the same way.
    broken(&machine, OLD_BROKEN, true)?;
    let rollback = ["rollback", "--yes", "--soak", "3s"];
    kmsctl(&machine, &rollback)?.exits(5).says(&[
        "tmkms-02.service is failed (failed)",
        "`kmsctl rollback` goes on",
        "`kmsctl apply`",
    ]);
    limit("tmkms-02.service")?;
    run(&machine, [Some(false), None, Some(false)])?;
    let status = kmsctl(&machine, &["status"])?.exits(0);
    status.says(&["tmkms-02 is dark", "its old unit may start and doesn't run"]);
    broken(&machine, OLD_BROKEN, false)?;
    kmsctl(&machine, &ROLLBACK)?.exits(0);
    all_run(&machine, false)?;
    sampler.stop()?.one_at_a_time()
}
