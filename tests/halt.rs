//! The gates before a switch and before a way back: the chain that is left has stopped, everywhere, at its height.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rustix::process::Signal;
use support::signalled::signalled;
use support::{Host, Tree};

const STATE_02: &str = "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state02.json";
const STANDS: u64 = 2_233_550;

fn planned() -> Host {
    let host = Host::of("commercio");
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host
}

/// Gives units a validator each.
fn validators(host: &Host, units: &[&str], seconds: u64, until: u64, ends: bool) {
    let validator = serde_json::json!({"seconds": seconds, "until": until, "ends": ends});
    let faults: serde_json::Map<_, _> = units
        .iter()
        .map(|unit| {
            let faults = serde_json::json!({"validator": validator});
            (format!("{unit}.service"), faults)
        })
        .collect();
    let faults = serde_json::to_string(&faults).unwrap();
    host.write("run/kmsctl/faults.json", &faults);
}

const OLD: [&str; 3] = ["tmkms-01", "tmkms-02", "tmkms-03"];
const NEW: [&str; 3] = ["tmkms-01.v3", "tmkms-02.v3", "tmkms-03.v3"];

fn up(host: &Host) -> Vec<String> {
    let status = host.json(&["status", "--json"]);
    let rows = status["signers"].as_array().unwrap().clone();
    let rows = rows.into_iter().filter(|row| row["active"] == true);
    rows.map(|row| {
        row["unit"]
            .as_str()
            .unwrap()
            .trim_end_matches(".service")
            .to_owned()
    })
    .collect()
}

#[test]
fn a_chain_that_goes_on_is_not_left() {
    let host = planned();
    validators(&host, &["tmkms-02"], 6, STANDS + 100, false);
    host.kmsctl(&["apply", "--yes"]).exits(3).says(&[
        "1 of 3 signers are connected to a validator: watching for 15 s",
        "block[chain-not-halted]",
        "state02.json: commercio-2_2 signs on while it is watched: 2233550/0/2, then 2233551/0/2",
        "--wait-for-halt",
    ]);
    assert_eq!(up(&host), OLD);
    let status = host.json(&["status", "--json"]);
    assert!(status["operation"].is_null(), "nothing was begun: {status}");
}

#[test]
fn a_connected_validator_that_is_silent_is_watched_and_none_is_not() {
    let host = planned();
    validators(&host, &OLD, 6, STANDS, false);
    host.kmsctl(&["apply", "--yes"])
        .exits(0)
        .says(&["3 of 3 signers are connected"]);
    let host = planned();
    let said = host.kmsctl(&["apply", "--yes"]).exits(0);
    assert!(!said.all().contains("watching for"), "{}", said.all());
}

#[test]
fn the_halt_height_is_reached_by_all_and_passed_by_none() {
    for (height, exit, says) in [
        (STANDS + 1, 3, "block[below-halt-height]"),
        (STANDS, 0, "3 signers are on commercio-3"),
        (STANDS - 1, 0, "3 signers are on commercio-3"),
        (STANDS - 2, 3, "block[old-signer-past-halt]"),
    ] {
        let host = planned();
        let height = height.to_string();
        host.kmsctl(&["apply", "--yes", "--halt-height", &height])
            .exits(exit)
            .says(&[says]);
        let expected = if exit == 0 { NEW } else { OLD };
        assert_eq!(up(&host), expected, "{height}");
    }
}

#[test]
fn a_height_that_is_only_prevoted_is_not_halted() {
    let host = Host::of("commercio");
    host.edit(STATE_02, "\"step\":2", "\"step\":1");
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    let height = STANDS.to_string();
    host.kmsctl(&["apply", "--yes", "--halt-height", &height])
        .exits(3)
        .says(&["commercio-2_2 is at 2233550/0/1", "isn't precommitted"]);
}

#[test]
fn the_halt_is_waited_for_and_then_nobody_is_asked() {
    let host = planned();
    let halt = (STANDS + 10).to_string();
    let wait = [
        "apply",
        "--yes",
        "--halt-height",
        &halt,
        "--wait-for-halt",
        "5m",
    ];
    validators(&host, &OLD, 6, STANDS + 10, true);
    host.kmsctl(&wait).exits(0).says(&[
        "tmkms-01: commercio-2_2 at 2233550/0/2, 10 blocks to go, validator connected, still for 0 s",
        "tmkms-03: commercio-2_2 at 2233560/0/2, at the halt height, no validator",
        "3 signers are on commercio-3",
    ]);
    assert_eq!(up(&host), NEW);
}

#[test]
fn a_wait_ends_in_time_and_changes_nothing() {
    let halt = (STANDS + 10).to_string();
    let wait = |limit: &str| {
        let words = ["apply", "--yes", "--halt-height", &halt, "--wait-for-halt"];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        words.push(limit.to_owned());
        words
    };
    // Not there yet; there, and still connected; there, and not still for long enough.
    for (until, ends, limit, says) in [
        (STANDS + 5, true, "2m", "5 blocks to go, no validator"),
        (
            STANDS + 10,
            false,
            "5m",
            "at the halt height, validator connected",
        ),
        (
            STANDS + 10,
            true,
            "70s",
            "at the halt height, no validator, still for 10 s",
        ),
    ] {
        let host = planned();
        validators(&host, &OLD, 6, until, ends);
        let words = wait(limit);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let before = host.tree();
        host.kmsctl(&words)
            .exits(6)
            .says(&["the chain didn't halt at 2233560 in time", says]);
        assert_eq!(up(&host), OLD);
        let paths = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&host.tree()), paths(&before));
        assert!(host.json(&["status", "--json"])["operation"].is_null());
    }
}

#[test]
fn ctrl_c_ends_the_wait_and_changes_nothing() {
    let host = planned();
    let before = host.tree();
    let halt = (STANDS + 10).to_string();
    let wait = ["apply", "--yes", "--halt-height", &halt];
    let wait = [&wait[..], &["--wait-for-halt", "100000h"]].concat();
    signalled(&host, &wait, "10 blocks to go", Signal::INT)
        .exits(6)
        .says(&["the wait for the halt at 2233560 was interrupted, and nothing was changed"]);
    assert_eq!(host.tree(), before);
    assert!(host.json(&["status", "--json"])["operation"].is_null());
}

#[test]
fn an_old_signer_past_the_halt_ends_the_wait_at_once() {
    let host = planned();
    validators(&host, &["tmkms-02"], 6, STANDS + 100, false);
    let halt = (STANDS + 3).to_string();
    host.kmsctl(&[
        "apply",
        "--yes",
        "--halt-height",
        &halt,
        "--wait-for-halt",
        "1h",
    ])
    .exits(3)
    .says(&["block[old-signer-past-halt]", "is at 2233555/0/2"]);
    assert_eq!(up(&host), OLD);
}

#[test]
fn a_dry_run_is_refused_as_the_switch_would_be() {
    let past = (STANDS - 2).to_string();
    let below = (STANDS + 1).to_string();
    let (there, first) = (STANDS.to_string(), (STANDS + 2).to_string());
    for (words, says) in [
        (vec!["--halt-height", &past], "block[old-signer-past-halt]"),
        (
            vec!["--halt-height", &past, "--wait-for-halt", "1h"],
            "block[old-signer-past-halt]",
        ),
        (vec!["--halt-height", &below], "block[below-halt-height]"),
        (vec!["--initial-height", &first], "block[floor-too-high]"),
    ] {
        let host = planned();
        let before = host.tree();
        let dry = [&["apply", "--dry-run"][..], &words].concat();
        let said = host.kmsctl(&dry).exits(3).says(&[says]);
        assert!(said.out.contains("tmkms-03/start-new"), "{said:?}");
        host.kmsctl(&[&dry[..], &["--json"]].concat())
            .exits(3)
            .says(&[says]);
        host.kmsctl(&[&["apply", "--yes"][..], &words].concat())
            .exits(3)
            .says(&[says]);
        assert_eq!(host.tree(), before);
    }
    let host = planned();
    validators(&host, &["tmkms-02"], 6, STANDS + 100, false);
    host.kmsctl(&["apply", "--dry-run"])
        .exits(3)
        .says(&["block[chain-not-halted]"]);
    // What would be waited for isn't, and what is guarded and laid is shown.
    let host = planned();
    let height = (STANDS + 1).to_string();
    let wait = ["--halt-height", &below, "--wait-for-halt", "1h"];
    host.kmsctl(&[&["apply", "--dry-run"][..], &wait].concat())
        .exits(0)
        .says(&["It would wait for the halt at 2233551 first"]);
    let passes = ["--halt-height", &there, "--initial-height", &height];
    host.kmsctl(&[&["apply", "--dry-run"][..], &passes].concat())
        .exits(0)
        .says(&[
            "tmkms-02/halted-old",
            "tmkms-02/floor-0",
            "Nothing was done.",
        ]);
}

#[test]
fn a_dry_run_of_what_was_interrupted_is_refused_as_going_on_would_be() {
    let host = planned();
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-02.v3.service":{"start":"failed"}}"#,
    );
    let alone = ["apply", "--yes", "--no-auto-rollback", "--parallel", "1"];
    host.kmsctl(&alone).exits(5);
    validators(&host, &["tmkms-03", "tmkms-01.v3"], 6, STANDS + 100, false);
    for (verb, says) in [
        ("apply", "state03.json: commercio-2_2 signs on"),
        ("rollback", "state01.v3.json: commercio-3 signs on"),
    ] {
        let said = host.kmsctl(&[verb, "--dry-run"]).exits(3);
        said.says(&["block[chain-not-halted]", says]);
    }
    assert_eq!(up(&host), ["tmkms-01.v3", "tmkms-03"]);
}

#[test]
fn a_wait_says_for_what() {
    let host = planned();
    host.kmsctl(&["apply", "--yes", "--wait-for-halt", "2h"])
        .exits(2)
        .says(&["--wait-for-halt needs --halt-height"]);
}

#[test]
fn what_is_signed_between_the_gate_and_the_stop_takes_all_back() {
    // Its blocks come every 20 s: none in the 15 s of the watch, one while the first signer is soaked.
    let host = planned();
    validators(&host, &["tmkms-02"], 20, STANDS + 1, false);
    host.kmsctl(&["apply", "--yes"]).exits(4).says(&[
        "tmkms-02/halted-old",
        "was 2233550/0/2 when this began and is 2233551/0/2: its chain hasn't stopped",
        "taken back to commercio-2_2",
    ]);
    assert_eq!(up(&host), OLD);
}

#[test]
fn going_on_asks_for_each_gate_again() {
    let host = planned();
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-02.v3.service":{"start":"failed"}}"#,
    );
    let alone = ["apply", "--yes", "--no-auto-rollback", "--parallel", "1"];
    host.kmsctl(&alone).exits(5);
    assert_eq!(up(&host), ["tmkms-01.v3", "tmkms-03"]);
    validators(&host, &["tmkms-03"], 6, STANDS + 1, false);
    host.kmsctl(&["apply", "--yes"])
        .exits(3)
        .says(&["block[chain-not-halted]", "state03.json"]);
    assert_eq!(up(&host), ["tmkms-01.v3", "tmkms-03"]);
    let halt = (STANDS + 5).to_string();
    host.kmsctl(&["apply", "--yes", "--halt-height", &halt])
        .exits(3)
        .says(&["block[below-halt-height]"]);
    // It has signed one more since the operation began, and it stands still now.
    host.remove("run/kmsctl/faults.json");
    host.kmsctl(&["apply", "--yes", "--max-spread", "1"])
        .exits(0);
    assert_eq!(up(&host), NEW);
}

#[test]
fn a_signer_that_was_stopped_too_late_is_held_to_what_it_signed() {
    let host = planned();
    validators(&host, &["tmkms-02"], 20, STANDS + 1, false);
    let apply = ["apply", "--yes", "--no-auto-rollback", "--parallel", "1"];
    let late = "was 2233550/0/2 when this began and is 2233551/0/2";
    host.kmsctl(&apply).exits(5).says(&[late]);
    host.remove("run/kmsctl/faults.json");
    // Stopped or not, how far it signed counts.
    host.kmsctl(&[&apply[..], &["--max-spread", "0"]].concat())
        .exits(3)
        .says(&["block[laggard]", "1 blocks behind tmkms-02 at 2233551"]);
    let below = (STANDS + 2).to_string();
    host.kmsctl(&[&apply[..], &["--halt-height", &below]].concat())
        .exits(3)
        .says(&["block[below-halt-height]", "state02.json"]);
    let past = (STANDS - 1).to_string();
    host.kmsctl(&[&apply[..], &["--halt-height", &past]].concat())
        .exits(3)
        .says(&["block[old-signer-past-halt]", "state02.json"]);
    let halt = STANDS.to_string();
    host.kmsctl(&[&apply[..], &["--halt-height", &halt]].concat())
        .exits(0);
    assert_eq!(up(&host), NEW);
}

#[test]
fn the_halt_height_it_was_begun_with_is_kept() {
    let host = planned();
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-02.v3.service":{"start":"failed"}}"#,
    );
    let height = STANDS.to_string();
    let alone = ["apply", "--yes", "--no-auto-rollback", "--parallel", "1"];
    host.kmsctl(&[&alone[..], &["--halt-height", &height]].concat())
        .exits(5);
    validators(&host, &["tmkms-03"], 5, STANDS + 9, true);
    let file = format!("{}/commercio_priv_validator_state03.json", support::CONFIGS);
    host.edit(&file, "2233550", "2233555");
    host.kmsctl(&["apply", "--yes", "--max-spread", "9"])
        .exits(3)
        .says(&["The halt height is 2233550, as it was begun with."]);
}

#[test]
fn the_way_back_is_guarded_by_the_new_chain() {
    let host = planned();
    host.kmsctl(&["apply", "--yes"]).exits(0);
    validators(&host, &["tmkms-03.v3"], 6, 100, false);
    host.kmsctl(&["rollback", "--yes"]).exits(3).says(&[
        "1 of 3 signers are connected",
        "block[chain-not-halted]",
        "commercio-3 signs on while it is watched: 0/0/0, then 1/0/2",
        "stop its validators first",
    ]);
    assert_eq!(up(&host), NEW);
    host.remove("run/kmsctl/faults.json");
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    assert_eq!(up(&host), OLD);
}

#[test]
fn a_validator_of_a_chain_that_stays_may_stay_connected() {
    let asks_for = |chain: &str| {
        let host = Host::of("chains-in-one-config");
        host.kmsctl(&["plan", "--new-chain", "comet-8"]).exits(0);
        let validator = serde_json::json!({"seconds": 6, "until": 9_999_999, "chain": chain});
        let faults = serde_json::json!({"tmkms.service": {"validator": validator}});
        host.write("run/kmsctl/faults.json", &faults.to_string());
        host
    };
    let halt = ["--halt-height", "880021", "--wait-for-halt", "5m"];
    let wait = [&["apply", "--yes"][..], &halt].concat();
    let host = asks_for("orbit-1");
    host.kmsctl(&wait)
        .exits(0)
        .says(&["comet-7 at 880021/1/2, at the halt height, no validator"]);
    let host = asks_for("orbit-1");
    let said = host.kmsctl(&["apply", "--yes"]).exits(0);
    assert!(!said.all().contains("watching for"), "{}", said.all());
    let host = asks_for("comet-7");
    host.kmsctl(&["apply", "--yes"])
        .exits(3)
        .says(&["block[chain-not-halted]", "comet-7 signs on"]);
}

#[test]
fn a_chain_that_keeps_its_id_need_not_stop() {
    let host = Host::of("commercio");
    let chain = "commercio-2_2";
    host.kmsctl(&[
        "plan",
        "--from-chain",
        chain,
        "--new-chain",
        chain,
        "--suffix",
        "v2b",
        "--protocol",
        "v0.34",
    ])
    .exits(0);
    validators(&host, &OLD, 2, STANDS + 1000, false);
    host.kmsctl(&["apply", "--yes"]).exits(0);
}

#[test]
fn the_wait_is_told_as_events() {
    let host = planned();
    let halt = (STANDS + 2).to_string();
    validators(&host, &OLD, 6, STANDS + 2, true);
    let said = host
        .kmsctl(&[
            "apply",
            "--yes",
            "--json",
            "--halt-height",
            &halt,
            "--wait-for-halt",
            "5m",
        ])
        .exits(0);
    let events: Vec<serde_json::Value> = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first: Vec<&serde_json::Value> = events
        .iter()
        .filter(|e| e["event"] == "waiting" && e["signer"] == "tmkms-01")
        .collect();
    let heights: Vec<u64> = first
        .iter()
        .map(|e| e["height"].as_u64().unwrap())
        .collect();
    assert_eq!(heights, [STANDS, STANDS + 1, STANDS + 2]);
    assert_eq!(first[0]["connected"], true);
    assert_eq!(first[2]["connected"], false);
    assert_eq!(first[2]["halt_height"], STANDS + 2);
}
