//! What a runbook refuses on a real host, and what of a file it keeps.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::XattrFlags;
use tmkms_core::state::SignState;

use super::{EVIDENCE, RUNBOOK, exits, runbook, runs, softsign};
use crate::fleet;
use crate::kmsctl::{new_unit, unit_now};
use crate::machine::Lab;
use crate::sampler::Sampler;

/// What forbids kmsctl to go on forbids it to the runbook, with every signer as it should be meanwhile.
#[test]
fn a_runbook_refuses_what_kmsctl_refuses() -> Result<()> {
    let lab = Lab::open()?;
    let machine = softsign(&lab)?;
    let sampler = Sampler::start(&machine);
    let refused = |words: &[&str], why: &str| -> Result<()> {
        let said = exits(runbook(&machine, words)?, 3);
        ensure!(said.stderr.contains(why), "{why:?} isn't said: {said:?}");
        Ok(())
    };
    let put = |path: &str, from: &str, to: &str| -> Result<()> {
        let path = machine.file(path);
        let text = fs::read_to_string(&path).context("reading a file")?;
        ensure!(text.contains(from), "{text} has no {from}");
        fs::write(&path, text.replace(from, to)).context("changing a file")
    };

    let lock = ["flock", "/var/lib/kmsctl/lock", RUNBOOK, "stage", EVIDENCE];
    let held = exits(machine.run(&lock)?, 3);
    ensure!(held.stderr.contains("is at work on this host"), "{held:?}");
    refused(&["back", EVIDENCE], "isn't there")?;
    let config = fleet::config_path(3);
    put(&config, "reconnect = true", "reconnect = false")?;
    refused(
        &["stage", EVIDENCE],
        "no longer what the plan was made from",
    )?;
    put(&config, "reconnect = false", "reconnect = true")?;
    exits(runbook(&machine, &["stage", EVIDENCE])?, 0);

    let staged = config.replace(".toml", ".v3.toml");
    put(&staged, "reconnect = true", "reconnect = false")?;
    refused(&["switch", EVIDENCE], "isn't what the plan writes")?;
    put(&staged, "reconnect = false", "reconnect = true")?;
    let state = fleet::state_path(2);
    put(&state, "2233550", "2233540")?;
    refused(&["switch", EVIDENCE], "tmkms-02.service")?;
    put(&state, "2233540", "2233550")?;
    runs(&machine, false)?;

    // A signer that no unit of the plan runs, on a config that one of them runs.
    let tmkms = format!("{}/.cargo/bin/tmkms start -c {config}", fleet::HOME);
    machine.sh(&format!("systemd-run --quiet --unit=another {tmkms}"))?;
    refused(
        &["switch", EVIDENCE],
        "isn't the main process of a known unit",
    )?;
    let first = [fleet::unit_name(1), new_unit(1)].map(|unit| unit_now(&machine, &unit));
    for unit in first {
        ensure!(
            !unit?.runs(),
            "the first signer is dark until the other is gone"
        );
    }
    machine.sh("systemctl stop another")?;
    exits(runbook(&machine, &["switch", EVIDENCE])?, 0);
    runs(&machine, true)?;

    put(&state, "2233550", "2233540")?;
    refused(&["back", EVIDENCE], "starting on it could sign twice")?;
    put(&state, "2233540", "2233550")?;
    refused(&["stage", EVIDENCE], "has begun")?;
    exits(runbook(&machine, &["back", EVIDENCE])?, 0);
    runs(&machine, false)?;
    // The stray and the third signer's own unit were the test's two of one key.
    let most = sampler.stop()?.most_at_once;
    ensure!(most["01"] == 1 && most["02"] == 1, "{most:?}");
    Ok(())
}

/// What jq takes and tmkms refuses, what tmkms takes and jq mistakes, and what both read.
const STATES: [&str; 25] = [
    r#"{"height":"200","round":"1","step":2,"block_id":{"hash":"","parts":{"total":0,"hash":""}}}"#,
    r#"{"height":"200","round":"1","step":2,"block_id":{"hash":"","part_set_header":{"total":0,"hash":""}}}"#,
    r#"{"height":"9007199254740993","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"999999999999999999","round":"2147483647","step":127,"block_id":null}"#,
    r#"{ "step":0, "other":[{},{}], "block_id":null, "round":"0", "height":"0" }"#,
    "",
    " ",
    "\0\0\0",
    "\u{feff}{\"height\":\"5\",\"round\":\"0\",\"step\":1,\"block_id\":null}",
    "{}",
    "[]",
    r#"["5","0",1,null]"#,
    r#"{"height":"5","round":"0","step":1}"#,
    r#"{"height":5,"round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":-1,"block_id":null}"#,
    r#"{"height":"-5","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"2147483648","step":1,"block_id":null}"#,
    r#"{"height":"5","height":"6","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":{"hash":""},"height":"5","block_id":null}"#,
    r#"{"height":"5\n6","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":null}{"height":"6","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":null} {}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":null,"other":1,"other":2}"#,
    r#"{"height":"5","round":"0","block_id":{"hash":""},"step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":{"hash":"AB"#,
];

#[test]
fn a_runbook_reads_state_files_as_kmsctl_does() -> Result<()> {
    let lab = Lab::open()?;
    let machine = softsign(&lab)?;
    let script = fs::read_to_string(machine.file(RUNBOOK)).context("reading the runbook")?;
    let words = script
        .strip_suffix("main \"$@\"\n")
        .context("the runbook's end")?;
    let reading = format!("{words}read_state /root/state\nprintf '%s' \"$state\"\n");
    fs::write(machine.file("/root/reading"), reading).context("writing a script")?;
    let mut read = 0;
    for bytes in STATES {
        fs::write(machine.file("/root/state"), bytes).context("writing a state file")?;
        let said = machine.run(&["bash", "/root/reading"])?;
        match SignState::parse(bytes.as_bytes()) {
            Ok(state) => {
                let wanted = format!("{} {} {}", state.height, state.round, state.step);
                assert_eq!(exits(said, 0).stdout, wanted, "{bytes:?}");
                read += 1;
            }
            Err(error) => {
                let said = exits(said, 3);
                assert!(
                    said.stderr.contains("REFUSED: /root/state"),
                    "{bytes:?}: {error}: {said:?}"
                );
            }
        }
    }
    ensure!(read == 5, "{read} of the texts are state files");
    Ok(())
}

/// The host's shellcheck, which `tests/lab/prepare` installs.
#[test]
fn a_runbook_is_sound_bash() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/commercio/expected/runbook.sh");
    let checked = Command::new("shellcheck").arg(&path).output();
    let checked = checked.context("starting shellcheck: start this test with tests/run")?;
    let said = String::from_utf8_lossy(&checked.stdout);
    ensure!(checked.status.success(), "{said}");
    Ok(())
}

/// Extended attributes are no part of a tree.
#[test]
fn a_runbook_keeps_attributes() -> Result<()> {
    let lab = Lab::open()?;
    let machine = softsign(&lab)?;
    let config = fleet::config_path(2);
    let kept = |path: &str| {
        let mut value = Vec::with_capacity(16);
        let read = rustix::fs::getxattr(
            machine.file(path),
            "user.kept",
            rustix::buffer::spare_capacity(&mut value),
        );
        read.map(|_| value)
            .with_context(|| format!("asking {path}"))
    };
    rustix::fs::setxattr(
        machine.file(&config),
        "user.kept",
        b"yes",
        XattrFlags::empty(),
    )
    .context("giving a config an attribute")?;
    exits(runbook(&machine, &["stage", EVIDENCE])?, 0);
    assert_eq!(kept(&config.replace(".toml", ".v3.toml"))?, b"yes");
    Ok(())
}
