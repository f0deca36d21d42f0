//! A snapshot of a running machine, carried out of it: the same plan, no secret, and the night rehearsed there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::fleet::{self, Fleet, Keys};
use crate::kmsctl::{self, NEW_CHAIN, eventually, kmsctl, unit_now};
use crate::machine::{Lab, Machine};
use crate::parts::Protocol;

const FLEET: Fleet = Fleet {
    signers: 3,
    protocol: Protocol::V033,
    keys: Keys::Softsign,
};
const PIN: &str = "tr0ub4dor-and-3";
const SNAPSHOT: &str = "/root/snapshot";

#[test]
fn a_snapshot_rehearses_elsewhere_what_the_machine_would_do() -> Result<()> {
    let lab = Lab::open()?;
    let machine = Machine::boot(&lab, |root| {
        FLEET.write(&lab, root)?;
        kmsctl::install(root)?;
        odd(root)
    })?;
    // One that runs and isn't enabled, one the other way round, one as usual.
    machine
        .sh("systemctl start tmkms-01 tmkms-02 tmkms-03 && systemctl enable tmkms-02 tmkms-03")?;
    for number in 1..=FLEET.signers {
        let unit = fleet::unit_name(number);
        let state = fleet::state_path(number).replacen("/data_tmkms", "/srv/kms", 1);
        eventually("a signer makes its state file", || {
            Ok(unit_now(&machine, &unit)?.runs() && machine.file(&state).exists())
        })?;
    }
    machine.sh("systemctl stop tmkms-02")?;
    let secrets = secrets(&machine)?;
    ensure!(secrets.len() == 7, "three connections, three keys, a PIN");

    let outside = tempfile::tempdir().context("making a folder")?;
    let days_ahead = take(&machine, outside.path(), "days-ahead")?;
    same_plan(&machine, &days_ahead)?;
    holds_none(&days_ahead, &secrets)?;
    let status = read_json(&days_ahead.join("run/kmsctl/snapshot.json"))?;
    let odd: Vec<(bool, bool)> = rows(&status)?
        .map(|row| (row["active"] == true, row["enabled"] == true))
        .collect();
    assert_eq!(odd, [(true, false), (false, true), (true, true)]);
    rehearse(&days_ahead)?;

    kmsctl(&machine, &["stage", "--yes"])?.exits(0);
    let staged = take(&machine, outside.path(), "staged")?;
    same_plan(&machine, &staged)?;
    holds_none(&staged, &secrets)?;
    rehearse(&staged)
}

/// Everything that the guide's host doesn't have: a linked folder, drop-ins, an inherited one, an environment file, a
/// unit of the vendor's that wants a signer.
fn odd(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("srv")).context("making /srv")?;
    fs::rename(root.join("data_tmkms"), root.join("srv/kms")).context("moving /data_tmkms")?;
    symlink("/srv/kms", root.join("data_tmkms")).context("linking /data_tmkms")?;
    let units = root.join("etc/systemd/system");
    for (path, text) in [
        (
            "tmkms-.service.d/10-nice.conf",
            "[Service]\nNice=1\n".to_owned(),
        ),
        (
            "tmkms-03.service.d/pin.conf",
            format!(
                "[Service]\nEnvironment=HSM_PIN={PIN} \\\n  RUST_LOG=info\nEnvironmentFile=-/etc/default/tmkms\n"
            ),
        ),
        ("../../default/tmkms", format!("HSM_PIN={PIN}\n")),
        // Nothing has loaded it, and it pulls a signer in nevertheless.
        (
            "../../../usr/lib/systemd/system/watch.service.d/kms.conf",
            "[Unit]\nUpholds=tmkms-03.service\n".to_owned(),
        ),
    ] {
        let path = units.join(path);
        let folder = path.parent().context("a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// What must stay in the machine.
fn secrets(machine: &Machine) -> Result<Vec<String>> {
    let mut secrets: Vec<String> = Vec::new();
    for number in 1..=FLEET.signers {
        for kind in ["secret_connection", "consensus"] {
            let path = format!("/srv/kms/tmkms/kms/commercio/{kind}{number:02}.key");
            let key = fs::read_to_string(machine.file(&path)).with_context(|| path.clone())?;
            ensure!(key.trim().len() == 44, "{path} is no key");
            secrets.push(key.trim().to_owned());
        }
    }
    secrets.push(PIN.to_owned());
    Ok(secrets)
}

/// Takes a snapshot and carries it out of the machine.
fn take(machine: &Machine, outside: &Path, name: &str) -> Result<std::path::PathBuf> {
    let inside = format!("{SNAPSHOT}-{name}");
    kmsctl(machine, &["snapshot", &inside])?.exits(0).says(&[
        "tmkms-01.service: running, not enabled",
        "tmkms-02.service: not running, enabled",
        "secret_connection01.key: a key file",
    ]);
    let place = outside.join(name);
    let copied = Command::new("cp")
        .arg("-a")
        .arg(machine.file(&inside))
        .arg(&place)
        .status();
    ensure!(copied.context("starting cp")?.success(), "copying {inside}");
    Ok(place)
}

/// A plan of the machine and one of the snapshot have one id.
fn same_plan(machine: &Machine, snapshot: &Path) -> Result<()> {
    let words = ["plan", "--new-chain", NEW_CHAIN, "--json"];
    let there = kmsctl::json(machine, &words)?;
    let output = Command::new(env!("CARGO_BIN_EXE_kmsctl"))
        .arg("--root")
        .arg(snapshot)
        .args(words)
        .output()
        .context("starting kmsctl")?;
    let here: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    assert_eq!(here["moves"], there["moves"]);
    assert_eq!(here["inputs"], there["inputs"]);
    assert_eq!(here["id"], there["id"]);
    let pulled = there["findings"].to_string();
    ensure!(
        pulled.contains("watch.service pulls tmkms-03.service in"),
        "{pulled}"
    );
    assert_eq!(here["moves"].as_array().map(Vec::len), Some(3));
    Ok(())
}

/// Looks for every secret in every byte below a folder.
fn holds_none(folder: &Path, secrets: &[String]) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.context("reading a folder")?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            holds_none(&path, secrets)?;
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            ensure!(!found, "a secret of the machine in {}", path.display());
        }
    }
    Ok(())
}

/// The script that operators run in CI.
fn rehearse(snapshot: &Path) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci/rehearse.sh");
    let output = Command::new("sh")
        .arg(script)
        .arg(snapshot)
        .arg(NEW_CHAIN)
        .env("KMSCTL", env!("CARGO_BIN_EXE_kmsctl"))
        .output()
        .context("starting rehearse.sh")?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
}

fn rows(document: &Value) -> Result<impl Iterator<Item = &Value>> {
    Ok(document["signers"]
        .as_array()
        .context("rows of signers")?
        .iter())
}
