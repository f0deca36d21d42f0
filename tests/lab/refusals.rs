//! What a real host puts in kmsctl's way: another kmsctl, no bus, no permission, strays, edits, a tmkms that won't run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::fleet::{self, Fleet, Keys};
use crate::kmsctl::{
    self, NEW_CHAIN, PROGRAM, Said, comes_to, eventually, held_before, kmsctl, new_unit, unit_now,
};
use crate::machine::{Lab, Machine};
use crate::parts::Protocol;
use crate::tree::Tree;

const FLEET: Fleet = Fleet {
    signers: 3,
    protocol: Protocol::V033,
    keys: Keys::Softsign,
};
pub const NUMBERS: [u8; 3] = [1, 2, 3];
pub const PLAN: [&str; 3] = ["plan", "--new-chain", NEW_CHAIN];
pub const APPLY: [&str; 4] = ["apply", "--yes", "--soak", "1"];
pub const ROLLBACK: [&str; 4] = ["rollback", "--yes", "--soak", "1"];
const SOON: Duration = Duration::from_secs(20);
const HOST: [&str; 3] = ["/etc", "/data_tmkms", "/var/lib/kmsctl"];

/// A machine whose signers run.
pub fn running() -> Result<Machine> {
    prepared(|_| Ok(()))
}

pub fn prepared(more: impl FnOnce(&Path) -> Result<()>) -> Result<Machine> {
    let lab = Lab::open()?;
    Machine::boot(&lab, |root| {
        FLEET.write(&lab, root)?;
        kmsctl::install(root)?;
        fleet::enable(root, &NUMBERS.map(fleet::unit_name))?;
        more(root)
    })
}

/// Runs kmsctl, which must refuse with an exit code and words, and leave the host and its own memory as they were.
fn refused(machine: &Machine, words: &[&str], code: i32, says: &[&str]) -> Result<()> {
    let before = host(machine)?;
    kmsctl(machine, words)?.exits(code).says(says);
    before.is_still(&host(machine)?);
    all_run(machine, false)
}

/// The host's files and kmsctl's memory, but for the lock, which has nothing in it, and the saved plan.
pub fn host(machine: &Machine) -> Result<Tree> {
    let passing = ["/var/lib/kmsctl/lock", "/var/lib/kmsctl/plan.json"];
    Ok(Tree::of(machine, &HOST)?.only(|path| !passing.contains(&path)))
}

/// Every signer runs, on the new chain or on the old.
pub fn all_run(machine: &Machine, new: bool) -> Result<()> {
    for number in NUMBERS {
        for (unit, wanted) in [(fleet::unit_name(number), !new), (new_unit(number), new)] {
            let now = unit_now(machine, &unit)?;
            ensure!(now.runs() == wanted, "{unit}: {now:?}");
        }
    }
    Ok(())
}

#[test]
fn only_one_kmsctl_at_a_time() -> Result<()> {
    let machine = running()?;
    kmsctl(&machine, &PLAN)?.exits(0);
    kmsctl(&machine, &["stage", "--yes"])?.exits(0);
    let first = held_before(&machine, "tmkms-01/close-old", &["apply"])?;
    for verb in ["apply", "rollback", "stage", "unstage"] {
        let says = ["another kmsctl", "/var/lib/kmsctl/lock"];
        refused(&machine, &[verb, "--yes"], 3, &says)?;
    }
    kmsctl(&machine, &["status"])?.exits(0);
    drop(first);
    kmsctl(&machine, &APPLY)?.exits(0);
    all_run(&machine, true)
}

#[test]
fn no_bus_and_no_permission() -> Result<()> {
    let machine = running()?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let before = host(&machine)?;
    for verb in ["plan --new-chain commercio-3", "stage --yes", "apply --yes"] {
        let line = format!("runuser -u nobody -- {PROGRAM} {verb}");
        let output = machine.run(&["sh", "-c", &line])?;
        let said = Said {
            words: line,
            output,
        };
        said.exits(1).says(&["/var/lib/kmsctl/", "denied", "root"]);
    }
    machine.sh("systemctl stop dbus.socket dbus.service")?;
    for verb in [&PLAN[..], &["stage", "--yes"], &["apply", "--yes"]] {
        kmsctl(&machine, verb)?
            .exits(1)
            .says(&["systemd can't be reached over D-Bus", "dbus service"]);
    }
    before.is_still(&host(&machine)?);
    machine.sh("systemctl start dbus.socket")?;
    all_run(&machine, false)
}

#[test]
fn a_stray_signer_and_a_second_unit_of_one_config() -> Result<()> {
    let machine = running()?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let signer = format!(
        "{}/.cargo/bin/tmkms start -c {}",
        fleet::HOME,
        fleet::config_path(2)
    );
    // A scope isn't a unit that has a config: its process belongs to nobody.
    let scope = format!("systemd-run --scope --uid=tmkms {signer}");
    let mut stray = machine.spawn(&["sh", "-c", &format!("exec {scope}")])?;
    let pids = "pgrep -f '[t]mkms start -c .*02[.]toml' | sort -n";
    eventually("a stray signer", || {
        Ok(machine.sh(pids)?.lines().count() == 2)
    })?;
    let main = unit_now(&machine, &fleet::unit_name(2))?
        .main_pid
        .to_string();
    let all = machine.sh(pids)?;
    let pid = all
        .lines()
        .find(|pid| *pid != main)
        .context("a stray pid")?;
    let says = ["stray-process", &format!("process {pid} "), "tmkms.02.toml"];
    refused(&machine, &APPLY, 3, &says)?;
    machine.sh(&format!("kill {pid}"))?;
    ensure!(stray.wait(SOON)?.is_some(), "the stray stays");

    machine.sh(&format!("systemd-run --unit=second --uid=tmkms {signer}"))?;
    let says = ["second.service", "tmkms-02.service", "tmkms.02.toml"];
    refused(&machine, &APPLY, 3, &says)?;
    machine.sh("systemctl stop second")?;
    kmsctl(&machine, &APPLY)?.exits(0);
    all_run(&machine, true)
}

/// A machine with the plan staged.
pub fn staged() -> Result<Machine> {
    let machine = running()?;
    kmsctl(&machine, &PLAN)?.exits(0);
    kmsctl(&machine, &["stage", "--yes"])?.exits(0);
    Ok(machine)
}

#[test]
fn a_config_that_was_edited_since_the_plan() -> Result<()> {
    let machine = staged()?;
    let config = fleet::config_path(1);
    machine.sh(&format!("sed -i s/127.0.1.1:/127.0.1.9:/ {config}"))?;
    let says = [config.as_str(), "127.0.1.1:26658", "127.0.1.9:26658"];
    refused(&machine, &APPLY, 3, &says)?;
    machine.sh(&format!("sed -i s/127.0.1.9:/127.0.1.1:/ {config}"))?;
    kmsctl(&machine, &APPLY)?.exits(0);
    all_run(&machine, true)
}

#[test]
fn a_staged_file_that_was_edited() -> Result<()> {
    let machine = staged()?;
    let config = fleet::config_path(1).replace(".toml", ".v3.toml");
    machine.sh(&format!(
        "cp -p {config} /root/kept; echo '# a hand' >>{config}"
    ))?;
    refused(&machine, &APPLY, 3, &[&config, "# a hand"])?;
    machine.sh(&format!("cp -p /root/kept {config}"))?;
    kmsctl(&machine, &APPLY)?.exits(0);
    all_run(&machine, true)
}

#[test]
fn a_unit_that_systemd_has_not_read_again() -> Result<()> {
    let machine = staged()?;
    let unit = fleet::unit_path(3);
    // The text is the same, but systemd can't know that.
    machine.sh(&format!("touch -d '+1 minute' {unit}"))?;
    let says = ["needs-daemon-reload", &unit, "systemctl daemon-reload"];
    refused(&machine, &APPLY, 3, &says)?;
    refused(&machine, &PLAN, 3, &says)?;
    machine.sh("systemctl daemon-reload")?;
    kmsctl(&machine, &APPLY)?.exits(0);
    all_run(&machine, true)
}

#[test]
fn a_new_unit_that_crash_loops_is_seen_and_taken_back() -> Result<()> {
    let bin = format!("{}/.cargo/bin", fleet::HOME);
    let machine = prepared(|root| {
        // A tmkms that doesn't say its version, so that nothing says beforehand what it will refuse.
        let bin = root.join(bin.trim_start_matches('/'));
        fs::rename(bin.join("tmkms"), bin.join("tmkms-real")).context("moving tmkms")?;
        let script = "#!/bin/sh\n[ \"$1\" != version ] || exit 1\nexec \"$0-real\" \"$@\"\n";
        fs::write(bin.join("tmkms"), script).context("writing a script")?;
        fs::set_permissions(bin.join("tmkms"), fs::Permissions::from_mode(0o755))
            .context("making it executable")
    })?;
    kmsctl(&machine, &[&PLAN[..], &["--protocol", "v0.38"]].concat())?
        .exits(0)
        .says(&["version-unknown"]);
    let heights = kmsctl::json(&machine, &["heights", "--json"])?["heights"].clone();
    kmsctl(&machine, &APPLY)?.exits(4).says(&[
        "tmkms-01.v3.service",
        "journalctl -u tmkms-01.v3.service",
        "taken back to commercio-2_2",
        "tmkms-01: tmkms-01.service runs",
    ]);
    all_run(&machine, false)?;
    let status = kmsctl::json(&machine, &["status", "--json"])?;
    assert!(status["operation"].is_null(), "{status}");
    assert_eq!(
        kmsctl::json(&machine, &["heights", "--json"])?["heights"],
        heights
    );
    kmsctl(&machine, &["unstage", "--yes"])?.exits(0);
    Ok(())
}

#[test]
fn a_signer_that_outlives_its_stop_keeps_the_new_one_from_starting() -> Result<()> {
    let machine = prepared(|root| {
        let folder = root.join("etc/systemd/system/tmkms-02.service.d");
        fs::create_dir(&folder).context("making a drop-in's folder")?;
        fs::write(folder.join("kill.conf"), "[Service]\nKillMode=none\n").context("writing it")
    })?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let pid = unit_now(&machine, &fleet::unit_name(2))?.main_pid;
    let says = ["tmkms-02/prove-old", &pid.to_string(), "still run"];
    kmsctl(&machine, &APPLY)?.exits(5).says(&says);
    ensure!(
        !unit_now(&machine, &new_unit(2))?.runs(),
        "two signers of one key"
    );
    // Neither way goes on while it lives.
    let refused_again = |verb: &[&str]| -> Result<()> {
        kmsctl(&machine, verb)?
            .exits(3)
            .says(&[&format!("process {pid} ")]);
        Ok(())
    };
    refused_again(&APPLY)?;
    refused_again(&ROLLBACK)?;
    ensure!(
        !unit_now(&machine, &new_unit(2))?.runs(),
        "two signers of one key"
    );
    ensure!(
        !unit_now(&machine, &fleet::unit_name(2))?.runs(),
        "two signers of one key"
    );
    machine.sh(&format!("kill {pid}"))?;
    kmsctl(&machine, &APPLY)?.exits(0);
    all_run(&machine, true)
}

#[test]
fn an_interrupted_apply_goes_on() -> Result<()> {
    let machine = running()?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let line =
        format!("echo $$ >/run/pid; exec {PROGRAM} apply --yes --json --soak 3 --parallel 1");
    let mut apply = machine.spawn(&["sh", "-c", &line])?;
    comes_to(&mut apply, "tmkms-01/watch-new")?;
    machine.sh("kill -INT $(cat /run/pid)")?;
    let status = apply
        .wait(SOON)?
        .context("an interrupted apply goes on and on")?;
    ensure!(status.code() == Some(5), "{status}: {}", apply.said());
    let said = apply.said();
    ensure!(said.contains("interrupted"), "{said}");
    for number in NUMBERS {
        let old = unit_now(&machine, &fleet::unit_name(number))?;
        let new = unit_now(&machine, &new_unit(number))?;
        ensure!(
            old.runs() != new.runs(),
            "brought to an end: {old:?}, {new:?}"
        );
    }
    ensure!(
        unit_now(&machine, &new_unit(1))?.runs(),
        "the first was on its way"
    );
    kmsctl(&machine, &["status"])?
        .exits(0)
        .says(&["(apply) was interrupted", "`kmsctl apply` goes on"]);
    kmsctl(&machine, &APPLY)?.exits(0);
    all_run(&machine, true)?;
    kmsctl(&machine, &[&PLAN[..], &["--detailed-exitcode"]].concat())?.exits(0);
    Ok(())
}

#[test]
fn ctrl_c_at_the_prompt_leaves_the_cursor_and_the_host() -> Result<()> {
    let machine = running()?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let before = host(&machine)?;
    // What a user types reaches a terminal of its own once the question stands there.
    let typed = "until grep -q 'start them on' /root/screen; do sleep 0.02; done; sleep 0.2; printf '\\003'; sleep 1";
    let line = format!("({typed}) | TERM=xterm script -qefc '{PROGRAM} apply' /root/screen");
    let output = machine.run(&["sh", "-c", &line])?;
    let screen = fs::read_to_string(machine.file("/root/screen")).context("reading the screen")?;
    assert_eq!(output.code, Some(1), "{screen:?}");
    let shown = screen.rfind("\x1b[?25h");
    ensure!(shown.is_some(), "the cursor isn't shown again: {screen:?}");
    ensure!(
        shown > screen.rfind("\x1b[?25l"),
        "the cursor stays hidden: {screen:?}"
    );
    before.is_still(&host(&machine)?);
    all_run(&machine, false)
}
