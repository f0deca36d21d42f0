//! What `--json` prints, against the schemas in docs/schemas: those are generated from the very types that are printed,
//! every verb's real output fits them, and nothing else does.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod fit;
mod generated;
#[path = "../support/mod.rs"]
mod support;

use serde_json::{Value, json};

use fit::fits;
use support::{CONFIGS, Host, Said, UNITS};

/// Runs a verb that prints one document.
#[track_caller]
fn document(host: &Host, words: &[&str], code: i32, schema: &str) -> Value {
    let said = host.kmsctl(&[words, &["--json"]].concat()).exits(code);
    only(&said, schema)
}

#[track_caller]
fn only(said: &Said, schema: &str) -> Value {
    assert!(said.out.ends_with('\n'), "{said:?}");
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
    fits(schema, said.out.trim_end())
}

/// Runs a verb that fails before it has a document to print.
#[track_caller]
fn error(host: &Host, words: &[&str], code: i32) -> Value {
    let said = host.kmsctl(&[words, &["--json"]].concat()).exits(code);
    let error = only(&said, "error");
    assert_eq!(error["exit"], code, "{error}");
    let sentence = error["error"].as_str().unwrap();
    assert!(said.err.contains(sentence), "{said:?}");
    error
}

/// Runs a verb that performs a program: its events, the last of which says how it ended.
#[track_caller]
fn events(host: &Host, words: &[&str], code: i32) -> Vec<Value> {
    let words = [words, &["--yes", "--json", "--soak", "0"]].concat();
    let watches = ["apply", "rollback"].contains(&words[0]);
    let words = if watches {
        &words[..]
    } else {
        &words[..words.len() - 2]
    };
    let said = host.kmsctl(words).exits(code);
    let events: Vec<Value> = said.out.lines().map(|line| fits("event", line)).collect();
    let is = |name: &'static str| move |e: &&Value| e["event"] == name;
    assert_eq!(events.iter().filter(is("ended")).count(), 1, "{said:?}");
    let ended = events.last().unwrap();
    assert_eq!(ended["event"], "ended", "{said:?}");
    assert_eq!(ended["exit"], code, "{said:?}");
    assert_eq!(events.len() > 1, events[0]["event"] == "begun", "{said:?}");
    let sentence = ended[if code == 0 { "message" } else { "error" }].as_str();
    assert!(said.err.contains(sentence.unwrap()), "{said:?}");
    events
}

/// How many events have this name.
fn count(events: &[Value], name: &str) -> usize {
    events.iter().filter(|e| e["event"] == name).count()
}

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];

#[test]
fn the_night_there_and_back() {
    let host = Host::of("commercio");
    document(&host, &["history"], 0, "history");
    document(&host, &["status"], 0, "status");
    document(&host, &["heights"], 0, "heights");
    document(
        &host,
        &["doctor", "--new-chain", "commercio-3"],
        0,
        "doctor",
    );
    let plan = document(&host, &PLAN, 0, "plan");
    let staged = events(&host, &["stage"], 0);
    assert_eq!(
        staged[0]["steps"].as_u64(),
        Some(count(&staged, "done") as u64)
    );
    assert_eq!(staged.last().unwrap()["next"], json!(["kmsctl apply"]));

    let dry = document(&host, &["apply", "--dry-run"], 0, "dry-run");
    assert_eq!((&dry["verb"], &dry["plan"]), (&json!("apply"), &plan["id"]));
    let applied = events(&host, &["apply"], 0);
    assert_eq!(applied[0]["plan"], plan["id"]);
    assert_eq!(
        applied[0]["steps"].as_u64(),
        Some(count(&applied, "done") as u64)
    );
    assert_eq!(count(&applied, "signer_done"), 3);
    assert_eq!(applied.last().unwrap()["operation"], 2);
    document(&host, &["status"], 0, "status");

    // Nothing is left to do.
    document(&host, &PLAN, 0, "plan");
    assert_eq!(events(&host, &["apply"], 0).len(), 1);
    assert_eq!(events(&host, &["stage"], 0).len(), 1);
    let dry = document(&host, &["apply", "--dry-run"], 0, "dry-run");
    assert_eq!(dry["program"]["lanes"], json!([]));

    document(&host, &["rollback", "--dry-run"], 0, "dry-run");
    let back = events(&host, &["rollback"], 0);
    assert_eq!(back.last().unwrap()["next"], json!(["kmsctl unstage"]));
    events(&host, &["unstage"], 0);
    assert_eq!(events(&host, &["unstage"], 0).len(), 1);
    let history = document(&host, &["history"], 0, "history");
    assert_eq!(history["operations"].as_array().unwrap().len(), 4);
    for id in ["1", "2", "3", "4"] {
        document(&host, &["history", id], 0, "operation");
    }
}

#[test]
fn a_switch_that_fails_half_way_and_is_given_up() {
    let host = Host::of("commercio");
    document(&host, &PLAN, 0, "plan");
    host.write(&format!("{UNITS}/tmkms-02.v3.service.d"), "in the way\n");
    // What a failed staging wrote is taken back by an operation of its own.
    let staged = events(&host, &["stage"], 1);
    assert_eq!(count(&staged, "begun"), 2);
    assert_eq!(count(&staged, "failed"), 1);
    assert_eq!(staged.last().unwrap()["operation"], 1);

    let applied = events(&host, &["apply"], 5);
    let ended = applied.last().unwrap();
    assert_eq!(
        (&ended["operation"], &ended["meaning"]),
        (&json!(3), &json!("half_way"))
    );
    assert_eq!(ended["next"], json!(["kmsctl apply", "kmsctl unstage"]));
    let status = document(&host, &["status"], 0, "status");
    assert_eq!(status["operation"]["id"], 3);
    let refused = events(&host, &["stage"], 3);
    assert_eq!(refused[0]["operation"], 3);
    document(&host, &["history", "3"], 0, "operation");
    assert_eq!(error(&host, &["abandon", "1"], 3)["meaning"], "refused");
    error(&host, &["abandon", "3"], 2);
    let given_up = document(&host, &["abandon", "3", "--yes"], 0, "abandon");
    assert_eq!(
        (&given_up["id"], &given_up["switched"]),
        (&json!(3), &json!(false))
    );
    document(&host, &["history"], 0, "history");
}

#[test]
fn configs_are_judged() {
    let host = Host::of("commercio");
    let config = format!("{CONFIGS}/tmkms.02.toml");
    let check = ["check", "--tmkms", "0.12.2"];
    let judged = document(&host, &check, 3, "check");
    assert_eq!(judged["configs"].as_array().unwrap().len(), 3);
    let found = &judged["configs"][0]["findings"][0];
    assert!(
        found["line"].is_u64() && found["column"].is_u64(),
        "{found}"
    );
    host.write(&config, "[[validator]\n");
    let one = document(
        &host,
        &[&check[..], &[config.as_str()]].concat(),
        3,
        "check",
    );
    assert_eq!(one["configs"][0]["findings"][0]["code"], "config-invalid");
    // Below --root nobody asks a binary.
    error(&host, &["check"], 2);
    error(&host, &["check", "--tmkms", "0.16.0"], 2);
}

#[test]
fn a_new_signer_and_its_validator() {
    let host = Host::bare();
    let init = [
        "init",
        "--yes",
        "--chain",
        "haqq_11235-1",
        "--bech32-prefix",
        "haqq",
        "--validator",
        "tcp://10.1.1.1:26658",
        "--home",
        "/root/kms",
        "--user",
        "root",
        "--generate",
    ];
    assert_eq!(document(&host, &init, 0, "init")["unit"], "tmkms.service");
    assert_eq!(error(&host, &init, 3)["meaning"], "refused");
    let state = "/root/kms/state/haqq_11235-1-consensus.json";
    document(&host, &["state", "show", state], 0, "state");
    document(
        &host,
        &["state", "convert", state, "/root/new.json"],
        0,
        "state",
    );
    host.write(
        "home/config/config.toml",
        "priv_validator_laddr = \"\"\n[p2p]\n[consensus]\n",
    );
    host.write("home/config/priv_validator_key.json", "");
    let validator = ["validator", "--config", "/home/config/config.toml", "--yes"];
    document(
        &host,
        &[&validator[..], &["--check"]].concat(),
        0,
        "validator",
    );
    let set = [&validator[..], &["--laddr", "tcp://0.0.0.0:1"]].concat();
    assert_eq!(document(&host, &set, 0, "validator")["changed"], true);
    document(
        &host,
        &[&validator[..], &["--undo"]].concat(),
        0,
        "validator",
    );
}

#[test]
fn errors_are_readable() {
    let host = Host::of("commercio");
    let shelf = tempfile::tempdir().unwrap();
    let place = shelf.path().join("snapshot");
    let snapshot = ["snapshot", place.to_str().unwrap()];
    document(&host, &snapshot, 0, "snapshot");
    error(&host, &snapshot, 3);
    error(&host, &["plan"], 2);
    error(&host, &["apply", "--parallel", "many"], 2);
    error(&host, &["plan", "--new-chain", "nowhere-3"], 3);
    error(&host, &["history", "7"], 3);
    let dry = error(&host, &["apply", "--dry-run"], 3);
    assert_eq!(dry["next"], json!(["kmsctl plan --new-chain ID"]));
    error(&host, &["rollback", "--dry-run"], 3);
    for verb in ["stage", "apply", "rollback"] {
        let ended = &events(&host, &[verb], 3)[0];
        assert_eq!(ended["operation"], Value::Null, "{ended}");
    }
    document(&host, &PLAN, 0, "plan");
    let said = host.kmsctl(&["apply", "--json"]).exits(2);
    assert_eq!(only(&said, "event")["meaning"], "usage");

    // Half a state file: what can be shown is shown, and why the rest isn't.
    let state = format!("{CONFIGS}/commercio_priv_validator_state02.json");
    host.write(&state, "{\"height\":\"22");
    let heights = document(&host, &["heights"], 3, "heights");
    assert!(heights["heights"][1]["unreadable"].is_string());
    let plan = document(&host, &PLAN, 3, "plan");
    assert_eq!(plan["findings"][0]["severity"], "block");
    document(&host, &["status"], 0, "status");
    // Findings are coloured for the eye, and only for that.
    let said = host.kmsctl(&["apply", "--yes", "--json", "--color", "always"]);
    let ended = only(&said.exits(3), "event");
    let sentence = ended["error"].as_str().unwrap();
    assert!(sentence.contains("block[state-unreadable]"), "{sentence}");
    assert!(!sentence.contains('\u{1b}'), "{sentence:?}");

    host.write(&format!("{CONFIGS}/tmkms.02.toml"), "[[validator]\n");
    let heights = document(&host, &["heights"], 3, "heights");
    assert_eq!(heights["problems"][0]["code"], "config-invalid");
    document(&host, &["status"], 0, "status");
}
