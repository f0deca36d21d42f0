//! `check` says of every config of the corpus what the binaries did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::corpus::{self, VERSIONS, Verdict};

/// What `check --json` says of configs lying in a desk, by name.
pub fn check(version: &str, configs: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Value> {
    let desk = corpus::desk();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmsctl"));
    command.args(["check", "--json", "--no-settings", "--tmkms", version]);
    for (name, bytes) in configs {
        let file = format!("{name}.toml");
        fs::write(desk.path().join(&file), bytes).unwrap();
        command.arg(file);
    }
    let output = command.current_dir(desk.path()).output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{e}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let rows = document["configs"].as_array().unwrap().clone();
    let name = |row: &Value| {
        let config = row["config"].as_str().unwrap();
        config.strip_suffix(".toml").unwrap().to_owned()
    };
    rows.into_iter().map(|row| (name(&row), row)).collect()
}

/// Where `check` and a tmkms differ, in a line; nothing where they agree.
///
/// v0.33 on 0.13 and 0.14 is the one case that only a validator brings out: tmkms starts, and panics once one answers.
pub fn differs(row: &Value, verdict: Verdict) -> Option<String> {
    let starts = row["starts"].as_bool().unwrap();
    let findings = row["findings"].as_array().unwrap();
    let blocks: Vec<&Value> = findings
        .iter()
        .filter(|f| f["severity"] == "block")
        .collect();
    let panics_later = |finding: &&Value| {
        finding["code"] == "protocol-refused"
            && finding["message"]
                .as_str()
                .unwrap()
                .contains("as soon as a validator")
    };
    let starts = starts || (!blocks.is_empty() && blocks.iter().all(panics_later));
    if starts == verdict.starts() {
        return None;
    }
    let words: Vec<String> = blocks
        .iter()
        .map(|b| format!("{}: {}", b["code"], b["message"]))
        .collect();
    Some(format!("tmkms {verdict}, and check says {words:?}"))
}

/// The oracle can't tell: without a validator it starts.
#[test]
fn v0_33_is_refused_where_a_validator_makes_it_panic() {
    let configs: BTreeMap<String, Vec<u8>> = corpus::configs()
        .into_iter()
        .filter(|(name, _)| name == "protocol-v0_33")
        .collect();
    assert_eq!(configs.len(), 1);
    for version in ["0.13.1", "0.14.0"] {
        for (name, row) in check(version, &configs) {
            assert_eq!(row["starts"], false, "{version} {name}");
        }
    }
    let some = check("0.12.2", &configs);
    assert!(some.values().any(|row| row["starts"] == true));
}

#[test]
fn check_says_of_every_config_what_each_tmkms_did() {
    let configs = corpus::configs();
    let recorded = corpus::recorded();
    assert!(configs.len() >= 120, "{}", configs.len());
    let names = |map: Vec<&String>| map.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(configs.keys().collect()),
        names(recorded.keys().collect())
    );
    let mut wrong = String::new();
    for (at, version) in VERSIONS.iter().enumerate() {
        let rows = check(version, &configs);
        for (name, row) in &rows {
            if let Some(how) = differs(row, recorded[name][at]) {
                writeln!(wrong, "{version} {name}: {how}").unwrap();
            }
        }
        assert_eq!(rows.len(), configs.len());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Whatever check has to say, some config of the corpus makes it say.
#[test]
fn every_remark_is_made_of_some_config() {
    let source = include_str!("../../tmkms-core/src/check.rs");
    let kinds = source.split_once("pub enum Kind {").unwrap().1;
    let kinds = kinds.split_once('}').unwrap().0;
    let code = |kind: &str| {
        let words = kind.char_indices().flat_map(|(at, c)| {
            let dash = (at > 0 && c.is_ascii_uppercase()).then_some('-');
            dash.into_iter().chain([c.to_ascii_lowercase()])
        });
        words.collect::<String>()
    };
    let all: BTreeSet<String> = kinds
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .map(code)
        .collect();
    assert!(all.len() > 30, "{all:?}");
    let mut made = BTreeSet::new();
    let configs = corpus::configs();
    for version in VERSIONS {
        for row in check(version, &configs).values() {
            let codes = row["findings"].as_array().unwrap().iter();
            made.extend(codes.map(|f| f["code"].as_str().unwrap().to_owned()));
        }
    }
    let never: Vec<&String> = all.difference(&made).collect();
    // A link isn't kept in a repository: tests/check/names.rs makes one.
    assert_eq!(never, ["state-linked"]);
    let unknown: Vec<&String> = made.difference(&all).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
