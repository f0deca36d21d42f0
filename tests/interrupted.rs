//! Killed before any effect, on the model: what is true then, and that both ways on lead to their ends.
//!
//! The machine goes on running here; that it may be cut off as well is the lab's part.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use support::held::{held, killed, steps};
use support::{Host, Said, Tree};

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];

/// Rules S1 and S3 at an instant: never two units of a signer up, no old state file touched; and the fence keeps at
/// least one of the two closed, once there are two.
fn sound(host: &Host, before: &Tree, to_new: bool, at: &str) {
    let status = host.json(&["status", "--json"]);
    let rows = status["signers"].as_array().unwrap();
    for signer in ["tmkms-01", "tmkms-02", "tmkms-03"] {
        let of: Vec<_> = rows.iter().filter(|r| r["signer"] == signer).collect();
        let up = of.iter().filter(|r| r["active"] == true).count();
        assert!(up <= 1, "{at}: {up} units of {signer} are up");
        if of.len() == 2 {
            let closed = of.iter().filter(|r| r["fence"] == "closed").count();
            assert!(closed >= 1, "{at}: no unit of {signer} is closed: {of:?}");
        }
        for row in of.iter().filter(|r| r["active"] == true) {
            // What is left may run while it is closed, until it is stopped; what took over may not.
            let took_over = row["unit"].as_str().unwrap().contains(".v3.") == to_new;
            assert!(
                !took_over || row["fence"] != "closed",
                "{at}: it wouldn't start again: {row}"
            );
        }
        if up == 0 {
            let notes = status["notes"].to_string();
            assert!(
                notes.contains(&format!("{signer} is dark")),
                "{at}: {notes}"
            );
            assert!(notes.contains("kmsctl rollback"), "{at}: {notes}");
        }
    }
    let after = host.tree();
    for (path, node) in before
        .iter()
        .filter(|(p, _)| p.to_string_lossy().contains("state0"))
    {
        assert_eq!(after.get(path), Some(node), "{at}: {}", path.display());
    }
}

/// All signers on the units that the word says, and nothing interrupted.
fn ends_on(host: &Host, new: bool, at: &str) {
    let status = host.json(&["status", "--json"]);
    assert_eq!(status["operation"], serde_json::Value::Null, "{at}");
    for row in status["signers"].as_array().unwrap() {
        let is_new = row["unit"].as_str().unwrap().contains(".v3.");
        assert_eq!(row["active"], is_new == new, "{at}: {row}");
        assert_eq!(row["enabled"], is_new == new, "{at}: {row}");
    }
}

fn planned() -> Host {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    host
}

fn all_right(said: Said, at: &str) {
    assert_eq!(said.code, 0, "{at}: {}", said.all());
}

#[test]
fn apply_killed_before_every_effect() {
    let words = ["apply", "--yes", "--json", "--parallel", "2"];
    let all = steps(&planned(), &words);
    assert!(all.len() > 40, "{all:?}");
    for step in &all {
        for way in ["apply", "rollback"] {
            let at = format!("apply killed before {step}, then {way}");
            let host = planned();
            let before = host.tree();
            killed(&host, &words, step);
            sound(&host, &before, true, &at);
            let said = host.kmsctl(&[way, "--yes"]);
            if way == "rollback" && said.code == 3 {
                // Nothing was switched yet: then unstaging is the way back.
                assert!(said.err.contains("kmsctl unstage"), "{at}: {}", said.all());
                all_right(host.kmsctl(&["unstage", "--yes"]), &at);
                assert_eq!(host.tree(), before, "{at}");
            } else {
                all_right(said, &at);
                ends_on(&host, way == "apply", &at);
            }
            sound(&host, &before, true, &at);
        }
    }
}

#[test]
fn rollback_killed_before_every_effect() {
    let words = ["rollback", "--yes", "--json", "--parallel", "2"];
    let switched = || {
        let host = planned();
        host.kmsctl(&["apply", "--yes"]).exits(0);
        host
    };
    for step in steps(&switched(), &words) {
        let at = format!("rollback killed before {step}");
        let host = switched();
        let before = host.tree();
        killed(&host, &words, &step);
        sound(&host, &before, false, &at);
        all_right(host.kmsctl(&["rollback", "--yes"]), &at);
        ends_on(&host, false, &at);
        all_right(host.kmsctl(&["apply", "--yes"]), &at);
        ends_on(&host, true, &at);

        let at = format!("{at}, then forward again");
        let host = switched();
        killed(&host, &words, &step);
        all_right(host.kmsctl(&["apply", "--yes"]), &at);
        ends_on(&host, true, &at);
        all_right(host.kmsctl(&["rollback", "--yes"]), &at);
        ends_on(&host, false, &at);
    }
}

#[test]
fn a_switch_killed_twice() {
    let words = ["apply", "--yes", "--json", "--parallel", "1"];
    for second in [
        "tmkms-02/open-new",
        "tmkms-03/close-old",
        "tmkms-03/start-new",
        "switch/disable",
    ] {
        for way in ["apply", "rollback"] {
            let at = format!("killed at tmkms-02/stop-old, then at {second}, then {way}");
            let host = planned();
            let before = host.tree();
            killed(&host, &words, "tmkms-02/stop-old");
            killed(&host, &words, second);
            sound(&host, &before, true, &at);
            all_right(host.kmsctl(&[way, "--yes"]), &at);
            ends_on(&host, way == "apply", &at);
        }
    }
}

#[test]
fn a_switch_goes_on_beside_no_signer_that_came_up_with_its_key() {
    let host = planned();
    killed(&host, &["apply", "--yes", "--json"], "tmkms-01/start-new");
    let config = |name: &str| format!("{}/{name}", support::CONFIGS);
    let text = host
        .read(&config("tmkms.01.toml"))
        .replace("commercio-2_2", "commercio-3");
    host.write(
        &config("hot.toml"),
        &text.replace("state01.json", "hot.json"),
    );
    let unit = host
        .read("etc/systemd/system/tmkms-01.service")
        .replace("tmkms.01.toml", "hot.toml");
    host.write("etc/systemd/system/tmkms-hot.service", &unit);
    host.link(
        "etc/systemd/system/multi-user.target.wants/tmkms-hot.service",
        "/etc/systemd/system/tmkms-hot.service",
    );
    let before = host.tree();
    host.kmsctl(&["apply", "--yes"])
        .exits(3)
        .says(&["block[key-shared]", "tmkms-hot.service"]);
    assert_eq!(host.tree(), before);
}

#[test]
fn another_plan_is_not_taken_for_the_interrupted_one() {
    let host = planned();
    let file = host.path("p.json");
    let file = file.to_str().unwrap();
    host.kmsctl(&[&PLAN[..], &["--signer", "tmkms-01", "--out", file]].concat())
        .exits(0);
    host.kmsctl(&PLAN).exits(0);
    killed(
        &host,
        &["apply", "--yes", "--json", "--parallel", "1"],
        "tmkms-02/stop-old",
    );
    host.kmsctl(&["apply", file, "--yes"])
        .exits(3)
        .says(&["of plan"]);
    host.kmsctl(&["apply", "/nonexistent.json", "--yes"])
        .exits(1)
        .says(&["/nonexistent.json"]);
    let saved = host.read("var/lib/kmsctl/plan.json");
    host.kmsctl(&PLAN).says(&["isn't saved"]);
    assert_eq!(host.read("var/lib/kmsctl/plan.json"), saved);
    // One that only staged gives way to the plan that is asked for.
    let host = planned();
    killed(
        &host,
        &["apply", "--yes", "--json"],
        "tmkms-02/stage/file-0",
    );
    host.kmsctl(&[&PLAN[..], &["--signer", "tmkms-01"]].concat())
        .exits(0);
    host.kmsctl(&["apply", "--yes"])
        .exits(0)
        .says(&["1 signer is on"]);
}

#[test]
fn what_can_t_be_asked_stays_as_half_way_as_it_was() {
    let services = "run/kmsctl/services.json";
    let host = planned();
    host.kmsctl(&["stage", "--yes"]).exits(0);
    // No service manager, as on a host whose bus is dead.
    let dead = |host: &Host| {
        let kept = host.read(services);
        host.write(services, "no answer");
        kept
    };
    let kept = dead(&host);
    host.kmsctl(&["apply", "--yes"]).exits(1);
    host.write(services, &kept);
    let alone = ["apply", "--yes", "--json", "--parallel", "1"];
    killed(&host, &alone, "tmkms-02/stop-old");
    let kept = dead(&host);
    for verb in ["apply", "rollback"] {
        host.kmsctl(&[verb, "--yes"]).exits(5).says(&[
            "operation 2 (apply) is still open, and nothing more of it was done (`kmsctl apply` goes on with it, \
             `kmsctl rollback` takes it back)",
            "services.json",
        ]);
    }
    let said = host.kmsctl(&["apply", "--yes", "--json"]).exits(5);
    let ended: serde_json::Value = serde_json::from_str(said.out.trim()).unwrap();
    assert_eq!(ended["operation"], 2, "{ended}");
    host.write(services, &kept);
    host.kmsctl(&["apply", "--yes"]).exits(0);
}

#[test]
fn what_only_staged_keeps_its_floors() {
    let words = ["apply", "--yes", "--json", "--initial-height", "2233551"];
    let first_state = format!(
        "{}/commercio_priv_validator_state01.v3.json",
        support::CONFIGS
    );
    let host = planned();
    killed(&host, &words, "tmkms-02/stage/file-0");
    host.kmsctl(&["apply", "--yes"])
        .exits(0)
        .says(&["The new chain's first height is 2233551, as it was begun with."]);
    assert!(host.read(&first_state).contains(r#""height":"2233550""#));
    // Nothing was laid yet: another one may be asked for.
    let host = planned();
    killed(&host, &words, "tmkms-02/stage/file-0");
    host.kmsctl(&["apply", "--yes", "--initial-height", "2233501"])
        .exits(0);
    assert!(host.read(&first_state).contains(r#""height":"2233500""#));
}

#[test]
fn staging_and_unstaging_killed_before_every_effect() {
    let stage = ["stage", "--yes", "--json"];
    let unstage = ["unstage", "--yes", "--json"];
    let staged = || {
        let host = planned();
        host.kmsctl(&["stage", "--yes"]).exits(0);
        host
    };
    for step in steps(&planned(), &stage) {
        for way in ["stage", "unstage", "apply"] {
            let at = format!("stage killed before {step}, then {way}");
            let host = planned();
            let before = host.tree();
            killed(&host, &stage, &step);
            sound(&host, &before, true, &at);
            all_right(host.kmsctl(&[way, "--yes"]), &at);
            match way {
                "stage" => assert_eq!(host.tree(), staged().tree(), "{at}"),
                "unstage" => assert_eq!(host.tree(), before, "{at}"),
                _ => ends_on(&host, true, &at),
            }
        }
    }
    for step in steps(&staged(), &unstage) {
        let at = format!("unstage killed before {step}");
        let host = staged();
        killed(&host, &unstage, &step);
        host.kmsctl(&["stage", "--yes"])
            .exits(3)
            .says(&["kmsctl unstage"]);
        all_right(host.kmsctl(&["unstage", "--yes"]), &at);
        assert_eq!(host.tree(), planned().tree(), "{at}");
    }
}

#[test]
fn two_at_once() {
    let host = planned();
    let first = held(&host, &["apply", "--yes", "--json"], "tmkms-02/start-new");
    for verb in ["apply", "rollback", "stage", "unstage"] {
        host.kmsctl(&[verb, "--yes"])
            .exits(3)
            .says(&["another kmsctl", "/var/lib/kmsctl/lock"]);
    }
    host.kmsctl(&["status"])
        .exits(0)
        .says(&["Operation 1 (apply)"]);
    drop(first);
    host.kmsctl(&["apply", "--yes"]).exits(0);
}

#[test]
fn a_fence_that_was_written_and_never_loaded_is_loaded_before_it_counts() {
    for (verb, ends_new) in [("stage", false), ("apply", true)] {
        let host = planned();
        // From here on the manager has a memory of what it loaded.
        host.kmsctl(&["stage", "--yes"]).exits(0);
        host.kmsctl(&["unstage", "--yes"]).exits(0);
        killed(&host, &["stage", "--yes", "--json"], "stage/reload");
        let at = format!("stage killed before its reload, then {verb}");
        all_right(host.kmsctl(&[verb, "--yes"]), &at);
        let kept: serde_json::Value =
            serde_json::from_str(&host.read("run/kmsctl/services.json")).unwrap();
        let marker = "/etc/kmsctl/fence/tmkms-02.service.closed";
        assert_eq!(
            kept["loaded"]["tmkms-02.service"][0], marker,
            "{at}: {kept}"
        );
        ends_on(&host, ends_new, &at);
    }
}

#[test]
fn an_abandoned_operation_is_closed_and_can_still_be_rolled_back() {
    let host = planned();
    host.kmsctl(&["abandon", "1", "--yes"])
        .exits(3)
        .says(&["none is"]);
    killed(
        &host,
        &["apply", "--yes", "--json", "--parallel", "1"],
        "tmkms-02/start-new",
    );
    let before = host.tree();
    host.kmsctl(&["abandon", "2", "--yes"])
        .exits(3)
        .says(&["operation 1 (apply) is"]);
    host.kmsctl(&["abandon", "1"]).exits(2).says(&["--yes"]);
    host.kmsctl(&["abandon", "1", "--yes"]).exits(0);
    assert_eq!(host.tree(), before, "nothing is done or undone");
    assert_eq!(
        host.json(&["status", "--json"])["operation"],
        serde_json::Value::Null
    );
    host.kmsctl(&["history"]).says(&["abandoned"]);
    all_right(host.kmsctl(&["rollback", "--yes"]), "after abandon");
    ends_on(&host, false, "after abandon");
}
