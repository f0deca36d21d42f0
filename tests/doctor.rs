//! `doctor` on fixtures: each finding that a tree can have is caused once, and isn't there otherwise; and what a tree
//! can't say is said to be so. What only a machine has is in tests/lab/doctor.rs.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use support::{CONFIGS, Host, UNITS};

/// Made up: 32 bytes of 1, in base64.
const SEED: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const CHECKS: [&str; 13] = [
    "units",
    "processes",
    "access",
    "secrets",
    "binaries",
    "keys",
    "devices",
    "validators",
    "states",
    "clock",
    "space",
    "journal",
    "plan",
];

/// The guide's host, whose user is whoever runs the tests.
fn sound() -> Host {
    let host = Host::of("commercio");
    accounts(&host, rustix::process::getuid().as_raw());
    for folder in ["data_tmkms/tmkms/.cargo/bin", "etc"] {
        fs::create_dir_all(host.path(folder)).unwrap();
    }
    host
}

fn accounts(host: &Host, uid: u32) {
    let gid = rustix::process::getgid().as_raw();
    host.write(
        "etc/passwd",
        &format!("tmkms:x:{uid}:{gid}::/:/bin/false\n"),
    );
    host.write(
        "etc/group",
        &format!("tmkms:x:{gid}:\nkms:x:4000:operator,tmkms\n"),
    );
}

fn doctor(host: &Host, words: &[&str], code: i32) -> Value {
    let said = host
        .kmsctl(&[&["doctor", "--json"], words].concat())
        .exits(code);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let names: Vec<&str> = checks
        .iter()
        .map(|c| c["check"].as_str().unwrap())
        .collect();
    assert_eq!(names, CHECKS, "a fixed order");
    let blocks = checks
        .iter()
        .flat_map(|c| c["findings"].as_array().unwrap());
    let blocks = blocks.filter(|f| f["severity"] == "block").count();
    assert_eq!(code == 3, blocks > 0, "{report}");
    report
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|c| c["check"] == name).unwrap()
}

/// A check's one finding, with a remedy.
#[track_caller]
fn finds(report: &Value, name: &str, severity: &str, code: &str, says: &[&str]) {
    let findings = check(report, name)["findings"].as_array().unwrap();
    let fits = |f: &&Value| f["severity"] == severity && f["code"] == code;
    let said: Vec<String> = findings.iter().filter(fits).map(Value::to_string).collect();
    let whole = |f: &String| says.iter().all(|word| f.contains(word));
    assert!(
        said.iter().any(whole),
        "no {severity} {code} {says:?} in {findings:#?}"
    );
    assert!(
        findings
            .iter()
            .all(|f| !f["remedy"].as_str().unwrap().is_empty()),
        "{findings:#?}"
    );
}

#[test]
fn a_sound_tree_has_no_finding_and_says_what_it_can_not_say() {
    let report = doctor(&sound(), &[], 0);
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(check["findings"], json!([]), "{check}");
    }
    let judged = |name: &str| check(&report, name)["judged"].as_str().unwrap().to_owned();
    assert_eq!(judged("units"), "whole");
    assert_eq!(judged("access"), "whole");
    for name in [
        "secrets",
        "binaries",
        "devices",
        "validators",
        "clock",
        "space",
        "journal",
        "plan",
    ] {
        assert_eq!(judged(name), "not", "{name}");
        assert!(check(&report, name)["unjudged"].as_str().unwrap().len() > 10);
    }
    let said = sound().kmsctl(&["doctor"]).exits(0);
    said.says(&[
        "units       3 signers on 3 configs, all read\n",
        "clock       not judged: a folder has no clock\n",
        "Nothing was found.",
    ]);
}

#[test]
fn whose_user_is_unknown_is_not_judged() {
    let host = Host::of("commercio");
    let report = doctor(&host, &[], 0);
    assert_eq!(
        check(&report, "access")["unjudged"],
        "the user tmkms isn't in /etc/passwd"
    );
    host.edit(
        &format!("{UNITS}/tmkms-01.service"),
        "User=tmkms",
        "User=root",
    );
    let report = doctor(&host, &[], 0);
    assert_eq!(check(&report, "access")["judged"], "in_part");
    let host = sound();
    host.edit(
        &format!("{UNITS}/tmkms-01.service"),
        "User=tmkms",
        "User=tmkms\nDynamicUser=yes",
    );
    let report = doctor(&host, &[], 0);
    assert!(
        check(&report, "access")
            .to_string()
            .contains("DynamicUser=")
    );
}

#[test]
fn units() {
    let host = sound();
    let unit = host.read(&format!("{UNITS}/tmkms-01.service"));
    host.write(&format!("{UNITS}/tmkms-09.service"), &unit);
    host.link(
        &format!("{UNITS}/multi-user.target.wants/tmkms-09.service"),
        "/etc/systemd/system/tmkms-09.service",
    );
    let report = doctor(&host, &[], 3);
    finds(
        &report,
        "units",
        "block",
        "config-shared",
        &["tmkms-01.service", "tmkms-09.service", "tmkms.01.toml"],
    );
    finds(
        &report,
        "keys",
        "block",
        "key-shared",
        &["tmkms-01.service", "tmkms-09.service"],
    );
    let host = sound();
    host.edit(
        &format!("{CONFIGS}/tmkms.02.toml"),
        "[[validator]]",
        "[[validator]",
    );
    finds(
        &doctor(&host, &[], 3),
        "units",
        "block",
        "config-invalid",
        &["tmkms.02.toml"],
    );
    let host = sound();
    host.write("etc/kmsctl/fence/tmkms-02.service.closed", "");
    finds(
        &doctor(&host, &[], 0),
        "units",
        "warn",
        "fence-unheeded",
        &["tmkms-02.service"],
    );
}

#[test]
fn access() {
    let host = sound();
    accounts(&host, 3999);
    let config = host.path(&format!("{CONFIGS}/tmkms.02.toml"));
    let mode = |mode| fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
    // Another's files: readable, and none of their folders to be written in.
    fs::set_permissions(host.path(CONFIGS), fs::Permissions::from_mode(0o755)).unwrap();
    let report = doctor(&host, &[], 3);
    let says = [
        "can't write in this folder (0755 ",
        "the state file's folder",
        &format!("`chmod g+wx /{CONFIGS}`"),
    ];
    finds(&report, "access", "block", "access-denied", &says);
    assert!(!report.to_string().contains("can't read it"), "{report}");
    mode(0o600);
    let says = [
        "tmkms, as whom tmkms-02.service runs, can't read it (0600 ",
        "the config",
        &format!("`chmod g+r /{CONFIGS}/tmkms.02.toml`"),
    ];
    finds(
        &doctor(&host, &[], 3),
        "access",
        "block",
        "access-denied",
        &says,
    );
    // The same is in a plan's way.
    let plan = ["plan", "--new-chain", "commercio-3"];
    host.kmsctl(&plan)
        .exits(3)
        .says(&["block[access-denied]", "can't read it"]);
    host.kmsctl(&[&plan[..], &["--signer", "tmkms-01", "--json"]].concat())
        .exits(3);
    // Without the group, the file is to be given away.
    host.edit(
        "etc/passwd",
        &format!(":{}::", rustix::process::getgid().as_raw()),
        ":3999::",
    );
    mode(0o600);
    let says = [
        "can't read it",
        &format!("`chown tmkms /{CONFIGS}/tmkms.02.toml`"),
    ];
    finds(
        &doctor(&host, &[], 3),
        "access",
        "block",
        "access-denied",
        &says,
    );
    // A folder on the way.
    let folder = host.path("data_tmkms");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let says = [
        "can't pass this folder (0700 ",
        "the config /data_tmkms",
        "`chmod o+x /data_tmkms`",
    ];
    finds(
        &doctor(&host, &[], 3),
        "access",
        "block",
        "access-denied",
        &says,
    );
    // A group of the unit's own counts.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o710)).unwrap();
    let gid = rustix::process::getgid().as_raw();
    for number in ["01", "02", "03"] {
        host.edit(
            &format!("{UNITS}/tmkms-{number}.service"),
            "User=tmkms",
            &format!("User=tmkms\nGroup={gid}"),
        );
    }
    let report = doctor(&host, &[], 3);
    assert!(!report.to_string().contains("can't pass"), "{report}");
}

#[test]
fn secrets() {
    let host = sound();
    let key = format!("{CONFIGS}/secret_connection01.key");
    host.write(&key, SEED);
    let mode =
        |mode| fs::set_permissions(host.path(&key), fs::Permissions::from_mode(mode)).unwrap();
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    mode(0o600);
    let report = doctor(&host, &[], 0);
    assert_eq!(check(&report, "secrets")["judged"], "whole");
    mode(0o604);
    let says = [
        "the connection's key can be read by everybody",
        &format!("`chmod go-rwx /{key}`"),
    ];
    finds(
        &doctor(&host, &[], 0),
        "secrets",
        "warn",
        "secret-exposed",
        &says,
    );
    // Nobody else comes to it.
    fs::set_permissions(host.path(CONFIGS), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(
        check(&doctor(&host, &[], 0), "secrets")["findings"],
        json!([])
    );
    // A config that holds a password is a secret as well.
    let host = sound();
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!("{CONFIGS}/tmkms.03.toml");
    host.edit(
        &config,
        "password_file = \"/data_tmkms/tmkms/kms/password\"",
        "password = \"made-up-and-inline\"",
    );
    fs::set_permissions(host.path(&config), fs::Permissions::from_mode(0o644)).unwrap();
    let report = doctor(&host, &[], 0);
    finds(
        &report,
        "secrets",
        "warn",
        "secret-exposed",
        &["the config can be read by everybody"],
    );
    assert!(!report.to_string().contains("made-up-and-inline"));
}

#[test]
fn keys_and_states() {
    let host = sound();
    let config = format!("{CONFIGS}/tmkms.01.toml");
    let text = host.read(&config);
    let (before, _) = text.split_once("[[providers.yubihsm]]").unwrap();
    let provider = "[[providers.softsign]]\nchain_ids = [\"commercio-2_2\"]\npath = \"/k\"\n";
    host.write(&config, &format!("{before}{provider}"));
    host.write("k", SEED);
    let report = doctor(&host, &[], 0);
    assert!(
        check(&report, "keys")["unjudged"]
            .as_str()
            .unwrap()
            .contains("2 of 3 keys")
    );
    host.write("k", &SEED[..20]);
    finds(
        &doctor(&host, &[], 3),
        "keys",
        "block",
        "key-unfit",
        &["15 bytes"],
    );
    host.write(
        &format!("{CONFIGS}/commercio_priv_validator_state02.json"),
        "",
    );
    finds(
        &doctor(&host, &[], 3),
        "states",
        "block",
        "state-unreadable",
        &["state02.json"],
    );
}

#[test]
fn the_journal_of_a_unit_that_logs_elsewhere() {
    let host = sound();
    host.edit(
        &format!("{UNITS}/tmkms-03.service"),
        "Restart=always",
        "Restart=always\nStandardOutput=append:/var/log/k",
    );
    let report = doctor(&host, &[], 0);
    finds(
        &report,
        "journal",
        "info",
        "journal-unread",
        &["StandardOutput=append:/var/log/k", "tmkms-03.service"],
    );
}

#[test]
fn the_coming_plan() {
    let host = sound();
    // Below --root no binary is asked for its version, which a plan warns of.
    let report = doctor(&host, &["--new-chain", "commercio-3"], 0);
    finds(
        &report,
        "plan",
        "warn",
        "version-unknown",
        &[".cargo/bin/tmkms"],
    );
    host.write(&format!("{CONFIGS}/tmkms.02.v3.toml"), "somebody's");
    let report = doctor(&host, &["--new-chain", "commercio-3"], 3);
    finds(
        &report,
        "plan",
        "block",
        "file-in-the-way",
        &["tmkms.02.v3.toml"],
    );
    // The saved plan is judged without being named.
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(3);
    finds(
        &doctor(&host, &[], 3),
        "plan",
        "block",
        "file-in-the-way",
        &["tmkms.02.v3.toml"],
    );
    host.remove(&format!("{CONFIGS}/tmkms.02.v3.toml"));
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    let report = doctor(&host, &[], 0);
    assert!(
        check(&report, "plan")["unjudged"]
            .as_str()
            .unwrap()
            .contains("there already"),
        "{report}"
    );
    // No such chain.
    host.kmsctl(&["doctor", "--new-chain", "nowhere-3"])
        .exits(3);
}
