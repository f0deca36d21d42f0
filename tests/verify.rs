//! `kmsctl verify` and the key managers of `status`: stand-ins' answers, recorded in a folder that stands for a host.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/mod.rs"]
mod support;

use serde_json::{Value, json};
use stand_in_oasis_node::answer::{SHAPES, Shape};

use support::oasis::{RECORDED, UNIT, bundle, holder, host, records, says};
use support::{Host, Said, UNITS};

/// Another host's `kmsctl status --json` as a peer.
fn peer(other: &Host) -> String {
    format!(
        "km2={} --root {} status --json",
        env!("CARGO_BIN_EXE_kmsctl"),
        other.root().display()
    )
}

fn verify(host: &Host, peer: &str, words: &[&str]) -> Said {
    host.kmsctl(&[&["verify", "--peer", peer], words].concat())
}

fn row(host: &Host) -> Value {
    let status = host.json(&["status", "--json"]);
    status["key_managers"][0].clone()
}

#[test]
fn a_holder_is_verified_and_an_epoch_later_again_in_each_shape() {
    let other = host();
    records(&other, &holder(2, 100, 600), Shape::Secrets);
    let peer = peer(&other);
    for shape in SHAPES {
        let host = host();
        let first = holder(1, 100, 600);
        records(&host, &first, shape);
        assert_eq!(row(&host)["verifications"]["first"], Value::Null);
        verify(&host, &peer, &[])
            .exits(0)
            .says(&["verified at epoch 100", "not again yet"]);
        let kept = row(&host);
        assert_eq!(kept["verifications"]["first"]["epoch"], 100);
        assert_eq!(kept["verifications"]["again"], Value::Null);
        verify(&host, &peer, &["--again"])
            .exits(3)
            .says(&["It isn't verified again yet"]);
        // A later epoch alone isn't enough: it must have registered anew.
        let mut later = holder(1, 101, 600);
        later.registered = first.registered;
        records(&host, &later, shape);
        verify(&host, &peer, &["--again"]).exits(3);
        records(&host, &holder(1, 101, 10), shape);
        verify(&host, &peer, &["--again"]).exits(0);
        host.kmsctl(&["status"]).exits(0).says(&[
            "all seven conditions hold",
            "verified at epoch 100",
            "again at epoch 101",
        ]);
        // What doesn't hold any more takes the proofs with it.
        let mut starting = holder(1, 102, 5);
        starting.state = "starting".into();
        records(&host, &starting, shape);
        verify(&host, &peer, &[])
            .exits(3)
            .says(&["2 NO: ", "is starting"]);
        assert_eq!(row(&host)["verifications"]["first"], Value::Null);
    }
}

#[test]
fn before_23_0_nobody_but_another_node_says_that_the_checksum_is_right() {
    let (host, other) = (host(), host());
    records(&host, &holder(1, 100, 600), Shape::Flat);
    host.kmsctl(&["verify"]).exits(3).says(&[
        "5 UNKNOWN",
        "nothing to hold it against",
        "name each with --peer",
    ]);
    records(&other, &holder(2, 100, 600), Shape::Flat);
    verify(&host, &peer(&other), &[]).exits(0);
    // The chain says it since.
    records(&host, &holder(1, 100, 600), Shape::GlobalAndWorker);
    host.kmsctl(&["verify"]).exits(0);
    let mut differs = holder(1, 100, 600);
    differs.on_chain.as_mut().unwrap().checksum = vec![9; 32];
    records(&host, &differs, Shape::Secrets);
    host.kmsctl(&["verify"]).exits(3).says(&["5 NO"]);
}

#[test]
fn others_that_hold_something_else_stop_the_fleet() {
    let (host, second, third) = (host(), host(), host());
    records(&host, &holder(1, 100, 600), Shape::Flat);
    records(&second, &holder(2, 100, 600), Shape::Flat);
    let mut odd = holder(3, 100, 600);
    odd.registered
        .as_mut()
        .unwrap()
        .said
        .as_mut()
        .unwrap()
        .checksum = vec![7; 32];
    records(&third, &odd, Shape::Flat);
    let third = peer(&third).replacen("km2", "km3", 1);
    let words = ["verify", "--peer", &peer(&second), "--peer", &third];
    host.kmsctl(&words)
        .exits(3)
        .says(&["STOP THE FLEET: km3 hold other secrets"]);
    assert_eq!(row(&host)["verifications"]["first"], Value::Null);
    // One that proves nothing is no reason to stop, and none to believe.
    let alone = ["verify", "--peer", &third];
    host.kmsctl(&alone).exits(3).says(&["5 NO"]);
    for (command, why) in [
        ("km2=exit 1", "failed"),
        ("km2=echo '{}'", "isn't what `kmsctl status --json` prints"),
        ("km2=printf '%s' '{\"format_version\":9}'", "format 9"),
        (
            "km2=printf '%s' '{\"format_version\":1,\"observed_at\":\"2026-01-01T00:00:00Z\",\"key_managers\":[{\"\\u001b[2J\":1}]}'",
            "unknown field",
        ),
    ] {
        let said = verify(&host, command, &[]).exits(3);
        let quoted = host
            .kmsctl(&["verify", "--json", "--peer", command])
            .exits(3);
        assert!(!quoted.out.contains("\\u001b"), "{quoted:?}");
        said.says(&["km2 is unknown", why, "5 UNKNOWN"]);
    }
}

#[test]
fn what_goes_wrong_is_said_with_what_to_do() {
    let host = host();
    let mut early = holder(1, 100, 600);
    early.last_error = Some("failed: registry: node update not allowed".into());
    records(&host, &early, Shape::Secrets);
    host.kmsctl(&["verify"])
        .exits(3)
        .says(&["4 NO", "wait: the old version is still registered"]);
    records(&host, &holder(1, 100, 600), Shape::Secrets);
    let log =
        json!({UNIT: {"log": ["{\"level\":\"error\",\"msg\":\"key manager state corrupted\"}"]}});
    host.write("run/kmsctl/faults.json", &log.to_string());
    // A ready node whose state is corrupted isn't waited for.
    host.kmsctl(&["verify", "--watch", "--again"])
        .exits(3)
        .says(&["STOP THE FLEET", "touch no node"]);
    host.kmsctl(&["status"]).exits(0).says(&["STOP THE FLEET"]);
    assert_eq!(row(&host)["failures"][0]["failure"], "state-corrupted");
    // It stops the other nodes' operators as well.
    let other = support::oasis::host();
    records(&other, &holder(2, 100, 600), Shape::Secrets);
    verify(&other, &peer(&host), &[])
        .exits(3)
        .says(&["STOP THE FLEET: km2 replicated something else"]);
    assert_eq!(row(&other)["verifications"]["first"], Value::Null);
}

#[test]
fn what_can_t_be_read_is_seven_times_unknown() {
    let host = host();
    for (status, why) in [
        ("", "no line of it begins"),
        ("{\"keymanager\": 7, \n\u{0}}}", "JSON"),
        ("level=info\n", "no line of it begins"),
    ] {
        says(&host, status);
        host.kmsctl(&["verify"])
            .exits(3)
            .says(&["1 UNKNOWN", "7 UNKNOWN", why]);
    }
    host.remove(RECORDED);
    host.kmsctl(&["verify"])
        .exits(3)
        .says(&["records no answer"]);
    records(&host, &holder(1, 100, 600), Shape::Secrets);
    host.write("node/runtimes/old.orc", "no zip");
    host.kmsctl(&["verify"])
        .exits(3)
        .says(&["/node/runtimes/old.orc", "zip"]);
    bundle(&host, 6);
    host.kmsctl(&["verify"]).exits(0);
    // The same answer, and another bundle in the config's place: what was proven isn't about that.
    bundle(&host, 7);
    assert_eq!(row(&host)["verifications"]["first"], Value::Null);
    host.kmsctl(&["verify"]).exits(3).says(&["3 NO"]);
    bundle(&host, 6);
    host.remove(&format!("{UNITS}/multi-user.target.wants/{UNIT}"));
    host.kmsctl(&["verify"])
        .exits(3)
        .says(&["oasis-node.service doesn't run"]);
}

#[test]
fn a_wait_ends_with_the_proof_or_with_its_time() {
    let (host, other) = (host(), host());
    records(&other, &holder(2, 100, 600), Shape::Secrets);
    records(&host, &holder(1, 100, 600), Shape::Secrets);
    let ready = host.read(RECORDED);
    let mut starting = holder(1, 100, 600);
    starting.state = "starting".into();
    records(&host, &starting, Shape::Secrets);
    let said = verify(&host, &peer(&other), &["--watch", "--within", "30"]).exits(6);
    said.says(&[
        "keymanager.status is starting",
        "epoch 100, checksum 0505050505050505",
    ]);
    // Becomes ready once the other node was asked.
    host.write("ready.json", &ready);
    let becomes = format!(
        "km2=cp {} {}; {}",
        host.path("ready.json").display(),
        host.path(RECORDED).display(),
        peer(&other).trim_start_matches("km2=")
    );
    verify(&host, &becomes, &["--watch"]).exits(0);
}

#[test]
fn another_kind_of_node_is_left_alone_and_an_unreadable_one_is_not_passed_over() {
    let host = host();
    let config = host.read("node/etc/config.yml");
    host.write(
        "node/etc/config.yml",
        "mode: client\ncommon:\n  data_dir: /node/data\n",
    );
    host.kmsctl(&["verify"])
        .exits(3)
        .says(&["there is no key manager on this host"]);
    assert_eq!(host.json(&["status", "--json"])["key_managers"], json!([]));
    host.write(
        "node/etc/config.yml",
        &config.replace("/node/data", "${DATA}"),
    );
    host.kmsctl(&["verify"])
        .exits(3)
        .says(&["/node/etc/config.yml", "holds a variable"]);
    host.kmsctl(&["status"])
        .exits(0)
        .says(&["config-unreadable", "holds a variable"]);
    host.write("node/etc/config.yml", &config);
    let unit = format!("{UNITS}/{UNIT}");
    host.edit(&unit, " --config /node/etc/config.yml", "");
    host.kmsctl(&["verify"])
        .exits(3)
        .says(&["without `--config`"]);
}
