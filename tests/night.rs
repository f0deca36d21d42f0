//! The guide's night on the fixture: planned, staged, switched, taken back, and every byte where it belongs.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use snapbox::{assert_data_eq, file};
use support::{CONFIGS, Host, Tree, UNITS, files_below, fixture};

fn state_files(tree: &Tree) -> Tree {
    tree.clone()
        .into_iter()
        .filter(|(p, _)| p.to_str().unwrap().contains("state"))
        .collect()
}

/// Paths that are in one tree and not, or otherwise, in the other.
fn changed<'a>(before: &'a Tree, after: &'a Tree) -> Vec<&'a Path> {
    let in_both = before
        .iter()
        .filter(|(p, node)| after.get(*p) != Some(*node));
    let new = after.iter().filter(|(p, _)| !before.contains_key(*p));
    in_both.chain(new).map(|(p, _)| p.as_path()).collect()
}

#[test]
fn the_plan_reads_as_expected() {
    let host = Host::of("commercio");
    let said = host
        .kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    assert_data_eq!(
        said.out,
        file!["../fixtures/commercio/expected/plan.txt"].raw()
    );
}

#[test]
fn the_plan_as_json_is_the_saved_one_and_reads_as_expected() {
    let host = Host::of("commercio");
    let mut plan = host.json(&["plan", "--new-chain", "commercio-3", "--json"]);
    let saved: serde_json::Value =
        serde_json::from_str(&host.read("var/lib/kmsctl/plan.json")).unwrap();
    assert_eq!(plan, saved);
    plan["observed"]["at"] = "SOME TIME".into();
    let text = serde_json::to_string_pretty(&plan).unwrap() + "\n";
    assert_data_eq!(
        text,
        file!["../fixtures/commercio/expected/plan.json"].raw()
    );
}

#[test]
fn planning_twice_gives_one_id_whatever_the_heights() {
    let host = Host::of("commercio");
    let id =
        |host: &Host| host.json(&["plan", "--new-chain", "commercio-3", "--json"])["id"].clone();
    let first = id(&host);
    for n in 1..=3 {
        host.edit(
            &format!("{CONFIGS}/commercio_priv_validator_state0{n}.json"),
            "2233550",
            "2233551",
        );
    }
    assert_eq!(id(&host), first);
    host.edit(
        &format!("{CONFIGS}/tmkms.02.toml"),
        "reconnect = true",
        "reconnect = false",
    );
    assert_ne!(id(&host), first);
}

#[test]
fn staging_writes_the_guide_s_files_byte_for_byte_and_touches_nothing_else() {
    let host = Host::of("commercio");
    let config = host.path(&format!("{CONFIGS}/tmkms.01.toml"));
    fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&config, Some(1234), Some(2345)).unwrap();
    }
    let before = host.tree();
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    assert_eq!(
        host.tree(),
        before,
        "planning writes nothing outside its own folder"
    );
    host.kmsctl(&["stage", "--yes"]).exits(0);
    let after = host.tree();

    for (path, node) in files_below(&fixture("commercio").join("expected/staged")) {
        let staged = &after[&path];
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(
            text(&staged.content),
            text(&node.content),
            "{}",
            path.display()
        );
    }
    for (path, node) in &before {
        assert_eq!(
            after.get(path),
            Some(node),
            "{} is as it was",
            path.display()
        );
    }
    let new = &after[Path::new(&format!("{CONFIGS}/tmkms.01.v3.toml"))];
    assert_eq!(
        new.mode & 0o7777,
        0o640,
        "the mode of the config that it descends from"
    );
    if root {
        assert_eq!(new.owner, (1234, 2345), "and its owner");
    }
    let names: Vec<_> = changed(&before, &after)
        .into_iter()
        .map(|p| p.display().to_string())
        .collect();
    for name in &names {
        assert!(
            name.contains(".v3.") || name.contains("kmsctl") || name.ends_with(".service.d"),
            "{name}"
        );
    }
    assert!(
        !names.iter().any(|n| n.contains("state")),
        "no state file is made: {names:?}"
    );
}

#[test]
fn the_night_there_and_back_and_there_again() {
    let host = Host::of("commercio");
    let before = host.tree();
    let plan = ["plan", "--new-chain", "commercio-3", "--detailed-exitcode"];
    host.kmsctl(&plan).exits(10);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    let staged = host.tree();
    host.kmsctl(&plan).exits(10);
    host.kmsctl(&["apply", "--yes"])
        .exits(0)
        .says(&["3 signers are on commercio-3"]);
    host.kmsctl(&plan).exits(0).says(&["nothing to do"]);
    host.kmsctl(&["apply", "--yes"]).exits(0).says(&["already"]);

    let status = host.json(&["status", "--json"]);
    let rows = status["signers"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let new = row["unit"].as_str().unwrap().contains(".v3.");
        assert_eq!(row["active"], new, "{row}");
        assert_eq!(row["enabled"], new, "{row}");
        assert_eq!(row["retired"], !new, "{row}");
        assert_eq!(row["fence"], if new { "open" } else { "closed" }, "{row}");
    }

    // The new chain signs on, then its upgrade fails.
    let new_state = format!("{CONFIGS}/commercio_priv_validator_state02.v3.json");
    host.edit(&new_state, r#""height":"0""#, r#""height":"2233551""#);
    host.kmsctl(&["rollback", "--yes"])
        .exits(0)
        .says(&["on commercio-2_2 again"]);
    let mut back = host.tree();
    back.retain(|path, _| !path.to_str().unwrap().contains(".v3.json"));
    assert_eq!(
        changed(&staged, &back),
        Vec::<&Path>::new(),
        "the staged host is restored"
    );
    assert_eq!(state_files(&back), state_files(&before));
    host.kmsctl(&plan).exits(10);

    // The second try goes on with the new chain's file.
    host.kmsctl(&["apply", "--yes"]).exits(0);
    assert!(host.read(&new_state).contains("2233551"));
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    let mut end = host.tree();
    end.retain(|path, _| !path.to_str().unwrap().contains(".v3.json"));
    assert_eq!(end, before, "unstaging leaves the host as it was");
}

#[test]
fn one_signer_alone_and_then_the_rest() {
    let host = Host::of("commercio");
    let plan = ["plan", "--new-chain", "commercio-3"];
    host.kmsctl(&[&plan[..], &["--signer", "tmkms-02"]].concat())
        .exits(0)
        .says(&["1 signer to move"]);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&plan).exits(0).says(&["2 signers to move"]);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&[&plan[..], &["--detailed-exitcode"]].concat())
        .exits(0);
}

#[test]
fn a_cold_standby_is_moved_without_being_started() {
    let host = Host::of("commercio");
    host.write(
        "run/kmsctl/services.json",
        r#"{"format_version":1,"starts":2,"units":{
            "tmkms-01.service":{"active":"active","sub":"running","main_pid":1001,"invocation":"1","restarts":0,"control_group":""},
            "tmkms-02.service":{"active":"active","sub":"running","main_pid":1002,"invocation":"2","restarts":0,"control_group":""}}}"#,
    );
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0)
        .says(&["run-state-odd", "tmkms-03"]);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    let status = host.json(&["status", "--json"]);
    let row = |unit: &str| {
        let rows = status["signers"].as_array().unwrap();
        rows.iter().find(|r| r["unit"] == unit).unwrap().clone()
    };
    assert_eq!(row("tmkms-01.v3.service")["active"], true);
    assert_eq!(row("tmkms-03.v3.service")["active"], false);
    assert_eq!(row("tmkms-03.v3.service")["enabled"], true);
}

#[test]
fn the_next_upgrade_replaces_the_suffix() {
    let host = Host::of("commercio");
    host.switched();
    host.kmsctl(&["plan", "--new-chain", "commercio-4"])
        .exits(0)
        .says(&[
            "tmkms-01.v3.service -> tmkms-01.v4.service",
            "tmkms.01.v4.toml",
        ]);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&["rollback", "--yes"])
        .exits(0)
        .says(&["on commercio-3 again"]);
    assert!(
        host.path(&format!(
            "{UNITS}/multi-user.target.wants/tmkms-01.v3.service"
        ))
        .is_symlink()
    );
}

#[test]
fn a_dry_run_shows_the_steps_and_does_none() {
    let host = Host::of("commercio");
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    let before = host.tree();
    let said = host.kmsctl(&["apply", "--dry-run"]).exits(0);
    let at = |step: &str| {
        said.out
            .find(step)
            .unwrap_or_else(|| panic!("no {step} in {}", said.out))
    };
    let order = [
        "stage/reload",
        "switch/enable",
        "tmkms-02/close-old",
        "tmkms-02/prove-old",
        "tmkms-02/start-new",
    ];
    assert!(
        order.windows(2).all(|w| at(w[0]) < at(w[1])),
        "{}",
        said.out
    );
    assert_eq!(host.tree(), before);
    let program = host.json(&["apply", "--dry-run", "--json"]);
    assert_eq!(program["program"]["lanes"].as_array().unwrap().len(), 3);
    host.kmsctl(&["history"])
        .exits(0)
        .says(&["Nothing was done"]);

    host.kmsctl(&["apply", "--yes"]).exits(0);
    let switched = host.tree();
    host.kmsctl(&["rollback", "--dry-run"])
        .exits(0)
        .says(&["tmkms-03/start-old"]);
    assert_eq!(host.tree(), switched);
}

#[test]
fn history_tells_what_was_done() {
    let host = Host::of("commercio");
    host.switched();
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.kmsctl(&["history"]).exits(0).says(&[
        "1  apply  commercio-2_2 -> commercio-3, 3 signers",
        "2  rollback",
        "after 1: done",
    ]);
    let says = [
        "commercio-2_2 was at 2233550/0/2",
        "tmkms-01/stop-old",
        "tmkms-03/watch-new",
    ];
    host.kmsctl(&["history", "1"]).exits(0).says(&says);
    let all = host.json(&["history", "--json"]);
    assert_eq!(all["operations"][1]["supersedes"], 1);
    let one = host.json(&["history", "1", "--json"]);
    assert!(
        one["records"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["record"] == "state" && r["bytes"].is_string())
    );
    host.kmsctl(&["history", "7"])
        .exits(3)
        .says(&["no operation 7"]);
}

#[test]
fn heights_are_for_a_pipe() {
    let host = Host::of("commercio");
    let heights = host.json(&["heights", "--json"]);
    assert_eq!(heights["format_version"], 1);
    assert_eq!(heights["heights"].as_array().unwrap().len(), 3);
    assert_eq!(heights["heights"][1]["height"], 2233550);
    assert_eq!(heights["heights"][1]["step"], 2);
}

#[test]
fn the_demo_runs_to_its_end() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kmsctl"))
        .arg("demo")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("nothing to do") && said.contains("gone now"),
        "{said}"
    );
}
