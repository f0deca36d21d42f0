//! Long stories: several plans, ways there and back, deaths and hands in between. None may end with a lost fence, a
//! start below a known height, or signers that no verb brings up again.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use support::held::killed;
use support::{CONFIGS, Host, UNITS};

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];
const ONE_BY_ONE: [&str; 4] = ["--yes", "--json", "--parallel", "1"];

fn config(n: u8) -> String {
    format!("{CONFIGS}/tmkms.0{n}.v3.toml")
}

fn state(name: &str) -> String {
    format!("{CONFIGS}/commercio_priv_validator_{name}.json")
}

fn a_state(height: u64) -> String {
    format!(r#"{{"height":"{height}","round":"0","step":2,"block_id":null}}"#)
}

/// A verb with its words, killed before a step.
fn cut(host: &Host, verb: &str, step: &str) {
    killed(host, &[&[verb], &ONE_BY_ONE[..]].concat(), step);
}

/// Each signer runs from one unit, on this side, and the other is closed or gone.
#[track_caller]
fn all_on(host: &Host, new: bool) {
    let status = host.json(&["status", "--json"]);
    for row in status["signers"].as_array().unwrap() {
        let is_new = row["unit"].as_str().unwrap().contains(".v3.");
        assert_eq!(row["active"], is_new == new, "{row}");
        let closed = row["fence"] == "closed";
        assert_eq!(closed, is_new != new, "{row}");
    }
}

fn switched() -> Host {
    let host = Host::of("commercio");
    host.switched();
    host
}

/// A second chain in the first signer's config, with a key and a state file of its own.
fn a_second_chain(host: &Host) {
    let path = format!("{CONFIGS}/tmkms.01.toml");
    let own = host.read(&path);
    let chain = own[..own.find("[[validator]]").unwrap()].replace("commercio-2_2", "other-1");
    let chain = chain.replace("state01.json", "other.json");
    let keys = r#"keys = [{ chain_ids = ["commercio-2_2"], key = 1 }, { chain_ids = ["other-1"], key = 9 }]"#;
    let own = own.replace(
        r#"keys = [{ chain_ids = ["commercio-2_2"], key = 1 }]"#,
        keys,
    );
    host.write(&path, &format!("{chain}{own}"));
    host.write(&state("other"), &a_state(700));
}

#[test]
fn a_chain_that_stays_keeps_the_one_file_that_journals_know() {
    let host = Host::of("commercio");
    a_second_chain(&host);
    host.kmsctl(&PLAN)
        .exits(0)
        .says(&["other-1 keeps its state file"]);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&[&PLAN[..], &["--detailed-exitcode"]].concat())
        .exits(0);
    host.write(&state("stale"), &a_state(100));
    host.edit(&config(1), "validator_other.json", "validator_stale.json");
    host.kmsctl(&["plan", "--new-chain", "commercio-4"])
        .exits(3)
        .says(&[
            "block[state-elsewhere]",
            "validator_stale.json",
            "validator_other.json",
        ]);
}

#[test]
fn two_signers_can_t_swap_their_state_files() {
    let host = switched();
    for (n, from, to) in [
        (1, "state01.v3", "swap"),
        (2, "state02.v3", "state01.v3"),
        (1, "swap", "state02.v3"),
    ] {
        host.edit(
            &config(n),
            &format!("validator_{from}.json"),
            &format!("validator_{to}.json"),
        );
    }
    host.kmsctl(&["plan", "--new-chain", "commercio-4"])
        .exits(3)
        .says(&["block[state-elsewhere]", "block[state-shared]"]);
}

#[test]
fn another_chain_doesn_t_adopt_a_known_state_file() {
    let host = switched();
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    host.kmsctl(&[
        "plan",
        "--new-chain",
        "commerciox-3",
        "--from-chain",
        "commercio-2_2",
    ])
    .exits(3)
    .says(&["block[state-shared]", "state01.v3.json", "for commercio-3"]);
}

#[test]
fn a_suffix_of_one_s_own_is_no_second_owner() {
    let host = Host::of("commercio");
    a_second_chain(&host);
    let plan = ["plan", "--new-chain", "commercio-3", "--suffix", "third"];
    host.kmsctl(&plan).exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&[&plan[..], &["--detailed-exitcode"]].concat())
        .exits(0);
    host.kmsctl(&["plan", "--new-chain", "commercio-4"])
        .exits(0);
}

#[test]
fn a_switch_that_never_opened_a_signer_binds_no_file() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    cut(&host, "apply", "switch/enable");
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    host.kmsctl(&[&PLAN[..], &["--suffix", "c3"]].concat())
        .exits(0);
}

#[test]
fn going_forward_from_a_way_back_looks_at_the_staged_files() {
    let host = switched();
    for n in 1..=3 {
        host.write(&state(&format!("state0{n}.v3")), &a_state(5000));
    }
    cut(&host, "rollback", "tmkms-01/open-old");
    host.edit(&config(1), "state01.v3.json", "state01.other.json");
    host.kmsctl(&["apply", "--yes"])
        .exits(5)
        .says(&["tmkms.01.v3.toml is no longer the plan's"]);
    assert!(
        !host.path(&state("state01.other")).exists(),
        "nothing began at 0"
    );
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    all_on(&host, false);
}

#[test]
fn the_fence_of_another_plan_s_unit_stays_closed() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host.kmsctl(&[&PLAN[..], &["--signer", "tmkms-01"]].concat())
        .exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    all_on(&host, false);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    let rows = host.json(&["status", "--json"]);
    assert_eq!(rows["signers"].as_array().unwrap().len(), 3, "{rows}");
    assert_eq!(
        host.tree(),
        Host::of("commercio")
            .tree()
            .into_iter()
            .chain(new_states(&host))
            .collect()
    );
}

/// The new chain's state files, which nobody takes away.
fn new_states(host: &Host) -> support::Tree {
    host.tree()
        .into_iter()
        .filter(|(path, _)| path.to_str().unwrap().ends_with(".v3.json"))
        .collect()
}

#[test]
fn forward_again_killed_anywhere_leaves_both_ways_open() {
    for step in [
        "switch/enable",
        "tmkms-01/stop-old",
        "tmkms-02/start-new",
        "tmkms-03/open-new",
        "switch/disable",
    ] {
        for way in ["apply", "rollback"] {
            let host = switched();
            cut(&host, "rollback", "tmkms-02/open-old");
            let all: Vec<String> = dry(&host, "apply");
            if !all.iter().any(|s| s == step) {
                continue;
            }
            killed_or_done(&host, step);
            host.kmsctl(&[way, "--yes"]).exits(0);
            all_on(&host, way == "apply");
            host.kmsctl(&["status"]).exits(0);
        }
    }
}

fn dry(host: &Host, verb: &str) -> Vec<String> {
    let program = host.json(&[verb, "--dry-run", "--json"])["program"].clone();
    let steps = |of: &serde_json::Value| -> Vec<String> {
        of.as_array()
            .unwrap()
            .iter()
            .map(|s| s["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut all = steps(&program["before"]);
    for lane in program["lanes"].as_array().unwrap() {
        all.extend(steps(&lane["steps"]));
    }
    all.extend(steps(&program["after"]));
    all
}

/// Kills `apply` before a step, or lets it end where the step is done already.
fn killed_or_done(host: &Host, step: &str) {
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    let mut command = host.command(&[&["apply"], &ONE_BY_ONE[..]].concat());
    command
        .env("KMSCTL_HOLD_BEFORE", step)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().ok();
    child.wait().unwrap();
}

#[test]
fn a_way_forward_that_died_before_its_first_step_is_gone_on_with() {
    for way in ["apply", "rollback"] {
        let host = switched();
        cut(&host, "rollback", "tmkms-02/open-old");
        cut(&host, "apply", "tmkms-01/close-old");
        let journal = "var/lib/kmsctl/operations/0003/journal";
        let first = host.read(journal).lines().next().unwrap().to_owned() + "\n";
        host.write(journal, &first);
        host.kmsctl(&["status"])
            .exits(0)
            .says(&["tmkms-02 is dark", "kmsctl rollback"]);
        host.kmsctl(&["unstage", "--yes"]).exits(3);
        host.kmsctl(&[way, "--yes"]).exits(0);
        all_on(&host, way == "apply");
    }
}

#[test]
fn an_abandoned_way_back_can_be_gone_again() {
    let host = switched();
    cut(&host, "rollback", "tmkms-02/open-old");
    host.kmsctl(&["abandon", "2", "--yes"]).exits(0);
    host.kmsctl(&["status"]).says(&["tmkms-02 is dark"]);
    host.kmsctl(&["unstage", "--yes"]).exits(3);
    host.kmsctl(&PLAN).exits(3).says(&["block[fence-closed]"]);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    all_on(&host, false);
}

#[test]
fn a_failed_staging_of_the_next_upgrade_rolls_nothing_back() {
    let host = switched();
    host.kmsctl(&["plan", "--new-chain", "commercio-4"])
        .exits(0);
    host.write(&format!("{UNITS}/tmkms-02.v4.service.d"), "in the way\n");
    host.kmsctl(&["apply", "--yes"])
        .exits(5)
        .says(&["no signer was touched", "kmsctl unstage"]);
    host.kmsctl(&["rollback", "--yes"])
        .exits(3)
        .says(&["kmsctl unstage"]);
    all_on(&host, true);
    host.remove(&format!("{UNITS}/tmkms-02.v4.service.d"));
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&["rollback", "--yes"])
        .exits(0)
        .says(&["on commercio-3 again"]);
    host.kmsctl(&["rollback", "--yes"])
        .exits(0)
        .says(&["on commercio-2_2 again"]);
    host.kmsctl(&["rollback", "--yes"])
        .exits(3)
        .says(&["nothing was switched"]);
}

#[test]
fn a_spread_that_holds_a_resumed_switch_can_be_allowed() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    cut(&host, "apply", "tmkms-01/open-new");
    host.edit(&state("state02"), "2233550", "2233560");
    host.kmsctl(&["apply", "--yes"])
        .exits(3)
        .says(&["block[laggard]", "--max-spread"]);
    host.kmsctl(&["apply", "--yes", "--max-spread", "10"])
        .exits(0);
    all_on(&host, true);
}

#[test]
fn a_new_unit_that_was_deleted_is_no_dead_end() {
    let host = switched();
    // It was stopped and its unit deleted.
    let services = host.read("run/kmsctl/services.json");
    let mut services: serde_json::Value = serde_json::from_str(&services).unwrap();
    services["units"]
        .as_object_mut()
        .unwrap()
        .remove("tmkms-02.v3.service");
    services["loaded"]
        .as_object_mut()
        .unwrap()
        .remove("tmkms-02.v3.service");
    host.write("run/kmsctl/services.json", &services.to_string());
    host.remove(&format!("{UNITS}/tmkms-02.v3.service"));
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    let status = host.json(&["status", "--json"]);
    let old = status["signers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["active"] == true)
        .count();
    assert_eq!(old, 3, "{status}");
}

#[test]
fn links_that_no_install_asks_for_move_one_by_one() {
    let host = Host::of("commercio");
    let graphical = format!("{UNITS}/graphical.target.wants");
    host.remove(&format!("{UNITS}/multi-user.target.wants/tmkms-02.service"));
    std::fs::create_dir(host.path(&graphical)).unwrap();
    let target = "/etc/systemd/system/tmkms-02.service";
    host.link(&format!("{graphical}/tmkms-02.service"), target);
    host.kmsctl(&PLAN)
        .exits(0)
        .says(&["graphical.target.wants/tmkms-02.v3.service ->"]);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    let staged = host.tree();
    host.kmsctl(&["apply", "--yes"]).exits(0);
    let old = host.path(&format!("{graphical}/tmkms-02.service"));
    let new = host.path(&format!("{graphical}/tmkms-02.v3.service"));
    assert!(!old.is_symlink() && new.is_symlink());
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    let mut back = host.tree();
    back.retain(|path, _| !path.to_string_lossy().ends_with(".v3.json"));
    assert_eq!(back, staged);
}

#[test]
fn a_half_applied_fleet_is_not_called_done() {
    let host = Host::of("commercio");
    host.kmsctl(&[&PLAN[..], &["--signer", "tmkms-01"]].concat())
        .exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&["apply", "--yes"])
        .exits(0)
        .says(&["The plan's signers are on commercio-3 already"]);
}

#[test]
fn a_link_that_another_hand_made_meanwhile_is_put_back_and_said() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    killed(&host, &["apply", "--yes", "--json"], "switch/disable");
    let wants = format!("{UNITS}/graphical.target.wants");
    std::fs::create_dir(host.path(&wants)).unwrap();
    let link = format!("{wants}/tmkms-02.service");
    host.link(&link, "/etc/systemd/system/tmkms-02.service");
    host.kmsctl(&["apply", "--yes"])
        .exits(5)
        .says(&["graphical.target.wants", "which the plan doesn't name"]);
    assert!(host.path(&link).is_symlink(), "put back");
    host.remove(&link);
    host.kmsctl(&["apply", "--yes"]).exits(0);
}

#[test]
fn links_that_were_begun_are_no_mere_staging() {
    let host = Host::of("commercio");
    let wants = format!("{UNITS}/multi-user.target.wants");
    // Another spelling of the target than systemd's own: kmsctl sets this signer's links itself.
    host.remove(&format!("{wants}/tmkms-01.service"));
    host.link(&format!("{wants}/tmkms-01.service"), "../tmkms-01.service");
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    let staged = host.tree();
    killed(&host, &["apply", "--yes", "--json"], "switch/enable");
    assert_ne!(host.tree(), staged, "a link was set");
    host.kmsctl(&["unstage", "--yes"])
        .exits(3)
        .says(&["kmsctl rollback"]);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    assert_eq!(host.tree(), staged);
}
