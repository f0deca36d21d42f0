//! What changes while a question stands there, or while the halt is waited for: it is judged as if it had been so before,
//! and what nobody was shown wasn't confirmed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::signalled::meanwhile;
use support::terminal::{Answer, asked};
use support::{CONFIGS, Host, Tree};

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];

fn planned() -> Host {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    host
}

/// Half-way: the first signer is over, the second's new unit doesn't start, the third is where it was.
fn interrupted() -> Host {
    let host = planned();
    let faults = r#"{"tmkms-02.v3.service":{"start":"failed"}}"#;
    host.write("run/kmsctl/faults.json", faults);
    let alone = ["apply", "--yes", "--no-auto-rollback", "--parallel", "1"];
    host.kmsctl(&alone).exits(5);
    host.remove("run/kmsctl/faults.json");
    host
}

fn state(n: usize) -> String {
    format!("{CONFIGS}/commercio_priv_validator_state0{n}.json")
}

fn reconnects_no_more(host: &Host) {
    let config = format!("{CONFIGS}/tmkms.03.toml");
    host.edit(&config, "reconnect = true", "reconnect = false");
}

/// kmsctl's own effects: everything but what a test changed itself.
fn effects(host: &Host) -> Tree {
    let mut tree = host.tree();
    tree.retain(|path, _| {
        let path = path.to_string_lossy();
        !path.ends_with("tmkms.03.toml") && !path.ends_with("state03.json")
    });
    tree
}

/// Says yes after something happened: refused, for this reason, with nothing done.
#[track_caller]
fn refused(host: &Host, verb: &str, to: &str, meanwhile: &dyn Fn(&Host), says: &[&str]) {
    let before = effects(host);
    let answer = Answer {
        to,
        meanwhile,
        typed: "y",
    };
    asked(host, &[verb], &[answer]).exits(3).says(says);
    assert_eq!(effects(host), before);
}

#[test]
fn a_plan_is_made_again_after_its_question() {
    let question = "start them on commercio-3?";
    refused(
        &planned(),
        "apply",
        question,
        &reconnects_no_more,
        &["the host is no longer the one", "reconnect = false"],
    );
    refused(
        &planned(),
        "apply",
        question,
        &|host| host.edit(&state(3), "2233550", "2233500"),
        &["block[laggard]", "state03.json"],
    );
    let host = planned();
    let nothing = Answer {
        to: question,
        meanwhile: &|_| {},
        typed: "y",
    };
    asked(&host, &["apply"], &[nothing])
        .exits(0)
        .says(&["3 signers are on commercio-3"]);
}

#[test]
fn who_goes_on_is_judged_again_after_the_question() {
    let question = "Go on to commercio-3 with its 3 signers?";
    refused(
        &interrupted(),
        "apply",
        question,
        &reconnects_no_more,
        &["block[input-changed]", "type the command again"],
    );
    refused(
        &interrupted(),
        "apply",
        question,
        &|host| host.edit(&state(3), "2233550", "2233500"),
        &["block[laggard]", "state03.json"],
    );
}

#[test]
fn a_way_back_is_judged_again_after_its_question() {
    let question = "and go back to commercio-2_2?";
    let switched = || {
        let host = Host::of("commercio");
        host.switched();
        host
    };
    refused(
        &switched(),
        "rollback",
        question,
        &reconnects_no_more,
        &["block[input-changed]", "type the command again"],
    );
    refused(
        &switched(),
        "rollback",
        question,
        &|host| host.edit(&state(3), "2233550", "2233500"),
        &["state03.json", "2233500"],
    );
    // What was shown with the question is what was confirmed.
    let host = switched();
    reconnects_no_more(&host);
    let nothing = Answer {
        to: question,
        meanwhile: &|_| {},
        typed: "y",
    };
    let said = asked(&host, &["rollback"], &[nothing]).exits(0);
    assert_eq!(said.all().matches("warn[input-changed]").count(), 1);
    // A new signer that signs meanwhile makes it another question.
    let host = switched();
    let new = format!("{CONFIGS}/commercio_priv_validator_state01.v3.json");
    let signs = |host: &Host| host.edit(&new, r#""height":"0""#, r#""height":"9""#);
    let answers = [
        Answer {
            to: question,
            meanwhile: &signs,
            typed: "y",
        },
        Answer {
            to: "Type commercio-3 to go on",
            meanwhile: &|_| {},
            typed: "commercio-3\r",
        },
    ];
    asked(&host, &["rollback"], &answers)
        .exits(0)
        .says(&["tmkms-01 signed commercio-3 up to 9/0/0"]);
}

#[test]
fn who_goes_on_is_judged_again_after_the_wait() {
    let host = interrupted();
    let before = effects(&host);
    let wait = ["apply", "--yes", "--halt-height", "2233555"];
    let wait = [&wait[..], &["--wait-for-halt", "100000h"]].concat();
    let said = meanwhile(&host, &wait, "5 blocks to go", |host| {
        reconnects_no_more(host);
        // The one that is stopped and hasn't gone over counts as well.
        host.edit(&state(2), "2233550", "2233555");
        host.edit(&state(3), "2233550", "2233555");
    });
    said.exits(3)
        .says(&["block[input-changed]", "type the command again"]);
    let after = effects(&host);
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    let status = host.json(&["status", "--json"]);
    let rows = status["signers"].as_array().unwrap();
    let up = rows.iter().filter(|row| row["active"] == true);
    let up: Vec<&str> = up.map(|row| row["unit"].as_str().unwrap()).collect();
    assert_eq!(up, ["tmkms-01.v3.service", "tmkms-03.service"]);
}
