//! Names of one file are one name to `check`, whatever links and spellings lead to it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::corpus;
use super::support::{CONFIGS, Host, UNITS};

/// What `check` says of a config on a desk.
fn codes(desk: &Path, config: &str) -> BTreeSet<String> {
    fs::write(desk.join("some.toml"), config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kmsctl"))
        .args([
            "check",
            "--json",
            "--no-settings",
            "--tmkms",
            "0.14.0",
            "some.toml",
        ])
        .current_dir(desk)
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = document["configs"][0]["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|f| f["code"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_state_file_is_one_file_by_every_name() {
    let desk = corpus::desk();
    symlink("state", desk.path().join("other")).unwrap();
    let plain = String::from_utf8(corpus::configs()["plain"].clone()).unwrap();
    let second = |path: &str| {
        let chain = plain.split("[[validator]]").next().unwrap();
        let chain = chain
            .replace("orbit-1", "comet-1")
            .replace("state/signed.json", path);
        assert!(chain.contains(path), "{chain}");
        codes(desk.path(), &format!("{chain}{plain}"))
    };
    for path in [
        "state/signed.json",
        "./state/signed.json",
        "state/../state/signed.json",
        "other/signed.json",
    ] {
        assert!(second(path).contains("state-shared"), "{path}");
    }
    assert!(!second("state/new.json").contains("state-shared"));
    symlink("signed.json", desk.path().join("state/link.json")).unwrap();
    assert!(second("state/link.json").contains("state-linked"));
}

#[test]
fn a_config_that_two_units_spell_in_two_ways_is_one_config() {
    let host = Host::of("commercio");
    let count = |host: &Host| {
        let said = host.kmsctl(&["check", "--json", "--tmkms", "0.12.2"]);
        let document: Value = serde_json::from_str(&said.out).unwrap();
        document["configs"].as_array().unwrap().len()
    };
    assert_eq!(count(&host), 3);
    host.link("kms", &format!("/{CONFIGS}"));
    let unit = host.read(&format!("{UNITS}/tmkms-01.service"));
    let spelled = unit.replace(&format!("-c /{CONFIGS}/"), "-c /kms/");
    assert_ne!(spelled, unit);
    host.write(&format!("{UNITS}/tmkms-09.service"), &spelled);
    assert_eq!(count(&host), 3);
    // Another folder to start in makes another of it: relative paths begin there.
    let elsewhere = spelled.replace(".cargo/bin\nExec", "kms\nExec");
    assert_ne!(elsewhere, spelled);
    host.write(&format!("{UNITS}/tmkms-09.service"), &elsewhere);
    assert_eq!(count(&host), 4);
    // The one that is named is found by every name.
    let said = host.kmsctl(&["check", "--tmkms", "0.12.2", "/kms/tmkms.02.toml"]);
    assert!(said.all().contains("/kms/tmkms.02.toml"), "{said:?}");
}
