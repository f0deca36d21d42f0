//! `doctor` on a real machine: each finding that only a machine has is caused once, mended as it says, and gone.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::fleet::{self, Fleet, HOME, Keys};
use crate::kmsctl::{self, NEW_CHAIN, eventually, kmsctl};
use crate::machine::{Lab, Machine};
use crate::parts::{FakeValidator, MockYubihsm, Protocol};

const FLEET: Fleet = Fleet {
    signers: 2,
    protocol: Protocol::V033,
    keys: Keys::Yubihsm,
};
const KMS: &str = "/data_tmkms/tmkms/kms/commercio";

/// What a sound machine's doctor says nevertheless: the mock's login may do everything, no unit runs its connector, and
/// the clock is the test machine's.
const EXPECTED: [&str; 3] = ["hsm-login-broad", "connector-away", "clock-adrift"];

#[test]
fn what_a_machine_has_is_found_and_mended() -> Result<()> {
    let lab = Lab::open()?;
    let machine = Machine::boot(&lab, |root| {
        FLEET.write(&lab, root)?;
        kmsctl::install(root)
    })?;
    let hsm = MockYubihsm::start(&machine, fleet::CONNECTOR, &[1, 2])?;
    let listen = fleet::listen(1);
    let _one = FakeValidator::start(&machine, &listen, fleet::OLD_CHAIN, Protocol::V033, None)?;
    machine.sh(&format!(
        "chmod 600 {KMS}/*.key; systemctl enable --now tmkms-01 tmkms-02; mkdir -p /var/lib/kmsctl; chmod 700 /var/lib/kmsctl"
    ))?;
    let away = |report: &Value| found(report, "validators").len();
    eventually("the one validator's connection is seen", || {
        Ok(away(&report(&machine)?) == 1)
    })?;
    let sound = report(&machine)?;
    ensure!(
        found(&sound, "validators")[0]["message"]
            .to_string()
            .contains(&fleet::listen(2)),
        "{sound}"
    );
    let _two = FakeValidator::start(
        &machine,
        &fleet::listen(2),
        fleet::OLD_CHAIN,
        Protocol::V033,
        None,
    )?;
    eventually("both validators' connections are seen", || {
        Ok(away(&report(&machine)?) == 0)
    })?;
    let sound = report(&machine)?;
    clean(&sound)?;
    clock(&machine, &sound)?;
    for check in sound["checks"].as_array().context("checks")? {
        let judged = &check["judged"];
        let expected = match check["check"].as_str() {
            Some("plan" | "peers") => "not",
            Some("clock") => continue,
            _ => "whole",
        };
        assert_eq!(judged, expected, "{check}");
    }

    units(&machine)?;
    files(&machine)?;
    sandbox(&machine)?;
    binaries(&machine)?;
    disks(&machine)?;
    stray(&machine)?;
    drop(hsm);
    let gone = report(&machine)?;
    let finding = &found(&gone, "devices")[0];
    ensure!(
        finding["code"] == "connector-away" && finding["severity"] == "block",
        "{finding}"
    );
    ensure!(
        finding.to_string().contains("Connection refused"),
        "{finding}"
    );
    Ok(())
}

fn report(machine: &Machine) -> Result<Value> {
    let said = kmsctl(machine, &["doctor", "--json"])?;
    serde_json::from_str(&said.output.stdout).with_context(|| format!("{said:?}"))
}

fn found<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
    let checks = report["checks"].as_array().into_iter().flatten();
    let findings = checks
        .filter(|c| c["check"] == check)
        .filter_map(|c| c["findings"].as_array());
    findings.flatten().collect()
}

/// Nothing but what the test machine always has.
fn clean(report: &Value) -> Result<()> {
    let checks = report["checks"].as_array().context("checks")?;
    let findings = checks
        .iter()
        .filter_map(|c| c["findings"].as_array())
        .flatten();
    for finding in findings {
        let code = finding["code"].as_str().context("a code")?;
        ensure!(
            EXPECTED.contains(&code) && finding["severity"] != "block",
            "{finding}"
        );
    }
    Ok(())
}

fn clock(machine: &Machine, report: &Value) -> Result<()> {
    let said = machine.sh("timedatectl show -p NTPSynchronized --value || true")?;
    let adrift = !found(report, "clock").is_empty();
    ensure!(adrift == (said.trim() == "no"), "{said:?} {report}");
    Ok(())
}

/// Causes a finding, types what its remedy says, and looks again. The finding, as it was.
fn mended(machine: &Machine, cause: &str, check: &str, code: &str) -> Result<Value> {
    machine.sh(cause)?;
    let sick = report(machine)?;
    let finding = found(&sick, check).into_iter().find(|f| f["code"] == code);
    let finding = finding
        .with_context(|| format!("{cause}: no {code} in {sick}"))?
        .clone();
    let remedy = finding["remedy"].as_str().context("a remedy")?;
    let command = remedy
        .split('`')
        .nth(1)
        .with_context(|| format!("no command in {remedy}"))?;
    machine.sh(command)?;
    clean(&report(machine)?).with_context(|| format!("after {command}"))?;
    Ok(finding)
}

fn units(machine: &Machine) -> Result<()> {
    let unit = fleet::unit_path(1);
    let cause = format!("sleep 1; echo '# changed' >>{unit}; touch {unit}");
    machine.sh(&cause)?;
    let sick = report(machine)?;
    ensure!(
        found(&sick, "units")
            .iter()
            .any(|f| f["code"] == "needs-daemon-reload"),
        "{sick}"
    );
    machine.sh("systemctl daemon-reload")?;
    clean(&report(machine)?)
}

/// What the user can't do the kernel doesn't let it, and once the printed command was typed it does.
fn files(machine: &Machine) -> Result<()> {
    let password = format!("{HOME}/kms/password");
    let (read, write) = (format!("cat {password}"), format!("test -w {KMS}"));
    let can = |what: &str| {
        let user = ["--reuid=2000", "--regid=2000", "--init-groups"];
        let words = [&["setpriv"], &user[..], &["sh", "-c", what]].concat();
        Ok::<bool, anyhow::Error>(machine.run(&words)?.code == Some(0))
    };
    for (cause, what) in [
        (format!("chown root:root {password}"), &read),
        (format!("chmod 200 {password}"), &read),
        (format!("chown root:tmkms {password}"), &read),
        (
            "chown root:root /data_tmkms; chmod 700 /data_tmkms".into(),
            &read,
        ),
        (format!("chown root:tmkms {KMS}; chmod 755 {KMS}"), &write),
        (format!("chown root:root {KMS}; chmod 755 {KMS}"), &write),
    ] {
        ensure!(can(what)?, "before {cause}");
        machine.sh(&cause)?;
        ensure!(!can(what)?, "after {cause}");
        let finding = mended(machine, ":", "access", "access-denied")?;
        ensure!(can(what)?, "{cause}: {finding}");
        machine.sh(&format!(
            "chown tmkms:tmkms {KMS} {password} /data_tmkms; chmod 755 {KMS} /data_tmkms; chmod 600 {password}"
        ))?;
    }
    let key = format!("{KMS}/secret_connection02.key");
    mended(
        machine,
        &format!("chmod 644 {key}"),
        "secrets",
        "secret-exposed",
    )?;
    Ok(())
}

/// What doctor says of a unit's own view of the files is what systemd makes of it.
fn sandbox(machine: &Machine) -> Result<()> {
    let folder = "/etc/systemd/system/tmkms-01.service.d";
    let state = format!("{KMS}/commercio_priv_validator_state01.json");
    let (writable, read_only) = (
        format!("ReadWritePaths={KMS}"),
        format!("ReadOnlyPaths={KMS}"),
    );
    let hidden = format!("InaccessiblePaths={HOME}/kms");
    let mount = format!("ReadWritePaths=-{state}");
    let cases: [&[&str]; 9] = [
        &["ProtectSystem=full", "ProtectHome=yes"],
        &["ProtectSystem=strict"],
        &["ProtectSystem=strict", &writable],
        &["ProtectSystem=strict", &writable, &mount],
        &[&read_only],
        &[&writable, &read_only],
        &[&hidden],
        &[&hidden, &writable],
        &[&mount],
    ];
    // As tmkms does it: another file beside the state file, renamed over it.
    let writes = format!("cp -a {state} {state}.lab && mv -T {state}.lab {state}");
    for settings in cases {
        let mut words = vec!["systemd-run", "--quiet", "--wait", "-p", "User=tmkms"];
        words.extend(settings.iter().flat_map(|setting| ["-p", *setting]));
        words.extend(["sh", "-c", writes.as_str()]);
        let can = machine.run(&words)?.code == Some(0);
        let text = format!("[Service]\n{}", settings.join("\n"));
        machine.sh(&format!(
            "mkdir -p {folder}; echo '{text}' >{folder}/50-lab.conf; systemctl daemon-reload"
        ))?;
        let said = report(machine)?;
        let denied = !found(&said, "access").is_empty();
        ensure!(
            can != denied,
            "{settings:?}: systemd lets it: {can}; {said}"
        );
        machine.sh(&format!(
            "rm -rf {folder} {state}.lab; systemctl daemon-reload"
        ))?;
    }
    clean(&report(machine)?)
}

fn binaries(machine: &Machine) -> Result<()> {
    let tmkms = format!("{HOME}/.cargo/bin/tmkms");
    machine.sh(&format!(
        "cp -a {tmkms} {tmkms}.new; mv {tmkms}.new {tmkms}"
    ))?;
    let sick = report(machine)?;
    ensure!(
        found(&sick, "binaries")
            .iter()
            .filter(|f| f["code"] == "binary-replaced")
            .count()
            == 2,
        "{sick}"
    );
    machine.sh("systemctl restart tmkms-01 tmkms-02")?;
    eventually("the new binary runs and is connected", || {
        Ok(clean(&report(machine)?).is_ok())
    })?;
    let config = fleet::config_path(1);
    machine.sh(&format!(
        "cp -a {config} /root/config; sed -i s/v0.33/v0.38/ {config}"
    ))?;
    let sick = report(machine)?;
    let refused = found(&sick, "binaries");
    ensure!(
        refused
            .iter()
            .any(|f| f["code"] == "protocol-refused" && f.to_string().contains("tmkms 0.12.2")),
        "{sick}"
    );
    machine.sh(&format!("cp -a /root/config {config}"))?;
    clean(&report(machine)?)
}

fn disks(machine: &Machine) -> Result<()> {
    machine.sh("mount -t tmpfs -o size=200k,mode=700 tmpfs /var/lib/kmsctl")?;
    let sick = report(machine)?;
    let full = found(&sick, "space");
    ensure!(
        full.iter()
            .any(|f| f["code"] == "disk-full" && f["path"] == "/var/lib/kmsctl"),
        "{sick}"
    );
    machine.sh("umount /var/lib/kmsctl")?;
    clean(&report(machine)?)
}

fn stray(machine: &Machine) -> Result<()> {
    let config = format!("{KMS}/other.toml");
    machine.sh(&format!(
        "sed -e s/state01/state09/ -e s/127.0.1.1:/127.0.1.9:/ {} >{config}",
        fleet::config_path(1)
    ))?;
    let tmkms = format!("{HOME}/.cargo/bin/tmkms");
    let mut running = machine.spawn(&[tmkms.as_str(), "start", "-c", config.as_str()])?;
    eventually("a stray process is seen", || {
        let sick = report(machine)?;
        let strays = found(&sick, "processes");
        Ok(strays
            .iter()
            .any(|f| f["code"] == "stray-process" && f.to_string().contains(&config)))
    })?;
    let plan = ["plan", "--new-chain", NEW_CHAIN];
    kmsctl(machine, &plan)?
        .exits(3)
        .says(&["block[stray-process]"]);
    // Its remedy names the process.
    mended(machine, ":", "processes", "stray-process")?;
    running.wait(std::time::Duration::from_secs(10))?;
    machine.sh(&format!("rm {config}"))?;
    clean(&report(machine)?)
}
