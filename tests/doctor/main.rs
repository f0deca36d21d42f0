//! `doctor` on fixtures: each finding that a tree can have is caused once, and isn't there otherwise; and what a tree
//! can't say is said to be so. What only a machine has is in tests/lab/doctor.rs.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod coming;
mod sandbox;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use support::{CONFIGS, Host, UNITS};

fn mode(host: &Host, path: &str, mode: u32) {
    fs::set_permissions(host.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

/// Made up: 32 bytes of 1, in base64.
const SEED: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const CHECKS: [&str; 14] = [
    "units",
    "processes",
    "access",
    "secrets",
    "binaries",
    "keys",
    "peers",
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
    for check in checks.iter().filter(|c| c["check"] != "plan") {
        let listed = &documented()[check["check"].as_str().unwrap()];
        for finding in check["findings"].as_array().unwrap() {
            let code = finding["code"].as_str().unwrap();
            assert!(listed.contains(code), "docs/doctor.md: {finding}");
        }
    }
    let blocks = checks
        .iter()
        .flat_map(|c| c["findings"].as_array().unwrap());
    let blocks = blocks.filter(|f| f["severity"] == "block").count();
    assert_eq!(code == 3, blocks > 0, "{report}");
    report
}

/// The codes that docs/doctor.md lists, by check.
fn documented() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let page = include_str!("../../docs/doctor.md");
    let rows = page.lines().filter_map(|row| {
        let cells: Vec<&str> = row.strip_prefix("| ")?.split(" | ").collect();
        let codes = cells.get(2)?.split('`').skip(1).step_by(2).collect();
        CHECKS.contains(&cells[0]).then_some((cells[0], codes))
    });
    rows.collect()
}

#[test]
fn every_code_that_is_listed_is_caused_by_a_test() {
    let tests = [
        include_str!("main.rs"),
        include_str!("access.rs"),
        include_str!("secrets.rs"),
        include_str!("../keys/machine.rs"),
        include_str!("../keys/devices.rs"),
        include_str!("../keys/files.rs"),
        include_str!("../peers.rs"),
        include_str!("../guards.rs"),
        include_str!("../names.rs"),
        include_str!("../refusals.rs"),
        include_str!("../discovery/main.rs"),
        include_str!("../lab/doctor.rs"),
        include_str!("../lab/refusals.rs"),
    ];
    let documented = documented();
    assert_eq!(documented.len(), CHECKS.len());
    for code in documented
        .iter()
        .filter(|(check, _)| **check != "plan")
        .flat_map(|(_, c)| c)
    {
        let camel: String = code
            .split('-')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect();
        let forms = [
            format!("\"{code}\""),
            format!("[{code}]"),
            format!("Code::{camel},"),
            format!("Code::{camel})"),
        ];
        let caused = tests
            .iter()
            .any(|test| forms.iter().any(|form| test.contains(form)));
        assert!(caused, "no test causes {code}");
    }
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
