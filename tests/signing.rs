//! After the switch: each new signer is seen signing, or is named with what it said last.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rustix::process::Signal;
use support::Host;
use support::signalled::signalled;

const NEW: [&str; 3] = ["tmkms-01.v3", "tmkms-02.v3", "tmkms-03.v3"];
const REFUSED: &str =
    "[commercio-3@tcp://10.0.0.2:26659] I/O error: Connection refused (os error 111)";

fn planned() -> Host {
    let host = Host::of("commercio");
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host
}

/// New units whose validators ask for a block every so many seconds; the others log what they can't do.
fn validators(host: &Host, units: &[&str], seconds: u64) {
    let faults: serde_json::Map<_, _> = NEW
        .iter()
        .map(|unit| {
            let faults = match units.contains(unit) {
                true => serde_json::json!({"validator": {"seconds": seconds, "until": 100}}),
                false => serde_json::json!({"log": [
                    "tmkms 0.12.2 starting up...",
                    "5 | password = \"not to be shown\"",
                    REFUSED,
                ]}),
            };
            (format!("{unit}.service"), faults)
        })
        .collect();
    let faults = serde_json::to_string(&faults).unwrap();
    host.write("run/kmsctl/faults.json", &faults);
}

#[test]
fn all_that_sign_is_done() {
    let host = planned();
    validators(&host, &NEW, 30);
    host.kmsctl(&["apply", "--yes", "--await-signing", "10m"])
        .exits(0)
        .says(&[
            "Waiting for at most 600 s until each of 3 chains has signed.",
            "tmkms-01: signed commercio-3 at 1/0/2",
            "3 signers are on commercio-3, and each started one signs.",
        ]);
}

#[test]
fn one_that_does_not_is_named_with_its_last_words_and_nothing_goes_back() {
    let host = planned();
    validators(&host, &["tmkms-01.v3", "tmkms-03.v3"], 30);
    let said = host
        .kmsctl(&["apply", "--yes", "--await-signing", "2m"])
        .exits(7);
    let all = said.all();
    assert!(!all.contains("not to be shown"), "{all}");
    assert!(!all.contains("tmkms-01: not seen"), "{all}");
    said.says(&[
        "tmkms-03: signed commercio-3 at",
        "tmkms-02: not seen signing commercio-3 in 120 s",
        "is still at 0/0/0",
        &format!("it logged: {REFUSED}"),
        "that means: no validator listens at its address yet",
        "`kmsctl rollback` goes back",
    ]);
    let status = host.json(&["status", "--json"]);
    assert!(
        status["operation"].is_null(),
        "the switch is done: {status}"
    );
    for row in status["signers"].as_array().unwrap() {
        let new = row["unit"].as_str().unwrap().contains(".v3");
        assert_eq!(row["active"], new, "{row}");
    }
    // It is waited for again, without switching anything.
    host.kmsctl(&["apply", "--yes", "--await-signing", "1m"])
        .exits(7)
        .says(&["tmkms-02: not seen signing"]);
    validators(&host, &NEW, 5);
    host.kmsctl(&["apply", "--yes", "--await-signing", "1m"])
        .exits(0)
        .says(&["tmkms-02: signed commercio-3"]);
}

#[test]
fn a_file_that_was_there_before_says_nothing_until_it_goes_on() {
    let host = Host::of("commercio");
    let ahead = r#"{"height":"7","round":"0","step":2,"block_id":null}"#;
    let file = format!(
        "{}/commercio_priv_validator_state01.v3.json",
        support::CONFIGS
    );
    host.write(&file, ahead);
    let plan = ["plan", "--new-chain", "commercio-3"];
    host.kmsctl(&[&plan[..], &["--accept", "state-unknown"]].concat())
        .exits(0);
    validators(&host, &["tmkms-02.v3", "tmkms-03.v3"], 5);
    let said = host
        .kmsctl(&["apply", "--yes", "--await-signing", "1m"])
        .exits(7)
        .says(&["tmkms-01: not seen signing", "is still at 7/0/2"]);
    assert!(!said.all().contains("tmkms-01: signed"), "{}", said.all());
    validators(&host, &NEW, 5);
    host.kmsctl(&["apply", "--yes", "--await-signing", "1m"])
        .exits(0)
        .says(&["tmkms-01: signed commercio-3 at 8/0/2"]);
}

#[test]
fn the_signers_of_the_plan_that_is_named_are_waited_for() {
    let host = Host::of("commercio");
    let [first, rest, all] = ["first.json", "rest.json", "all.json"].map(|n| host.path(n));
    let [first, rest, all] = [&first, &rest, &all].map(|path| path.to_str().unwrap());
    let plan = |file: &str, signers: &[&str]| {
        let words = ["plan", "--new-chain", "commercio-3", "--out", file];
        host.kmsctl(&[&words[..], signers].concat()).exits(0);
    };
    let wait = |file: &str| host.kmsctl(&["apply", file, "--yes", "--await-signing", "1m"]);
    plan(all, &[]);
    plan(first, &["--signer", "tmkms-01"]);
    host.kmsctl(&["apply", first, "--yes"]).exits(0);
    plan(rest, &[]);
    host.kmsctl(&["apply", rest, "--yes"]).exits(0);
    validators(&host, &["tmkms-01.v3"], 5);
    wait(first)
        .exits(0)
        .says(&["each of 1 chain", "tmkms-01: signed commercio-3"]);
    wait(rest).exits(7).says(&["each of 2 chains"]);
    // Its signers are there, and no operation of it brought them.
    wait(all)
        .exits(3)
        .says(&["no operation that stands switched the signers of plan"]);
    // One that has nothing left to move means the newest switch.
    let words = ["plan", "--new-chain", "commercio-3"];
    host.kmsctl(&words).exits(0).says(&["nothing to do"]);
    host.kmsctl(&["apply", "--yes", "--await-signing", "1m"])
        .exits(7)
        .says(&["each of 2 chains"]);
}

#[test]
fn a_signer_is_asked_once_what_it_logged_and_one_that_ended_is_told_at_once() {
    let host = Host::of("chains-in-one-config");
    let says = r#"{"tmkms.v8.service":{"log":["[comet-8@tcp://192.0.2.11:26658] I/O error: Connection refused (os error 111)"]}}"#;
    host.write("run/kmsctl/faults.json", says);
    host.kmsctl(&["plan", "--new-chain", "comet-8"]).exits(0);
    let said = host
        .kmsctl(&["apply", "--yes", "--await-signing", "1m"])
        .exits(7);
    let all = said.all();
    assert_eq!(all.matches("not seen signing").count(), 3, "{all}");
    assert_eq!(all.matches("it logged:").count(), 1, "{all}");
    let services = "run/kmsctl/services.json";
    let mut kept: serde_json::Value = serde_json::from_str(&host.read(services)).unwrap();
    let run = &mut kept["units"]["tmkms.v8.service"];
    (run["active"], run["sub"], run["main_pid"]) = ("failed".into(), "dead".into(), 0.into());
    host.write(services, &kept.to_string());
    let said = host.kmsctl(&["apply", "--yes", "--await-signing", "1m"]);
    let all = said.exits(7).all();
    let at = |words: &str| all.find(words).unwrap_or_else(|| panic!("{words}: {all}"));
    assert!(at("tmkms.v8.service is failed (dead)") < at("not seen signing"));
    assert_eq!(all.matches("it logged:").count(), 2, "{all}");
}

#[test]
fn ctrl_c_ends_the_wait_and_says_what_is_so() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let host = planned();
        validators(&host, &["tmkms-01.v3"], 1);
        let words = ["apply", "--yes", "--await-signing", "100000h"];
        let said = signalled(&host, &words, "tmkms-01: signed", signal).exits(7);
        assert!(!said.all().contains("tmkms-01: not seen"), "{said:?}");
        said.says(&[
            "interrupted while waiting for signatures",
            "tmkms-02: not seen signing commercio-3 in",
            "everything is switched and nothing was taken back",
        ]);
        let status = host.json(&["status", "--json"]);
        assert!(status["operation"].is_null(), "{status}");
    }
}

#[test]
fn what_a_failed_start_logged_is_said_and_journalled() {
    let host = planned();
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-01.v3.service":{"start":"crash","log":["error: unknown field `x`, expected `id`","3 | password = \"pst\""]}}"#,
    );
    let said = host.kmsctl(&["apply", "--yes"]).exits(4);
    assert!(!said.all().contains("pst"), "{said:?}");
    said.says(&[
        "it logged: error: unknown field `x`",
        "that means: tmkms doesn't take its config",
    ]);
    let history = host.kmsctl(&["history", "--json"]).exits(0);
    assert!(!history.all().contains("pst"));
    let operation = host.kmsctl(&["history", "1", "--json"]).exits(0);
    operation.says(&["unknown field `x`"]);
}

#[test]
fn one_that_logs_elsewhere_is_said_to() {
    let host = Host::of("commercio");
    let unit = "etc/systemd/system/tmkms-02.service";
    host.edit(
        unit,
        "[Service]\n",
        "[Service]\nStandardOutput=append:/var/log/tmkms.log\n",
    );
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-02.v3.service":{"start":"crash"}}"#,
    );
    host.kmsctl(&["apply", "--yes"])
        .exits(4)
        .says(&["it doesn't log to the journal (StandardOutput=append): look there"]);
}

#[test]
fn signatures_are_told_as_events() {
    let host = planned();
    validators(&host, &NEW, 30);
    let said = host
        .kmsctl(&["apply", "--yes", "--json", "--await-signing", "10m"])
        .exits(0);
    let lines = said.out.lines();
    let events: Vec<serde_json::Value> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
    let signed = events.iter().filter(|e| e["event"] == "signed");
    let mut signers: Vec<&str> = signed.map(|e| e["signer"].as_str().unwrap()).collect();
    signers.sort();
    assert_eq!(signers, ["tmkms-01", "tmkms-02", "tmkms-03"]);
}
