//! A switch that fails goes back by itself as long as no new signer has signed; and the first signer goes alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{CONFIGS, Host};

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];

/// A planned and staged fleet; services then fail as asked for.
fn failing(faults: &str) -> Host {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host.write("run/kmsctl/faults.json", faults);
    host
}

/// Which units run, in their order.
fn running(host: &Host) -> Vec<String> {
    let status = host.json(&["status", "--json"]);
    let rows = status["signers"].as_array().unwrap().clone();
    let up = rows.into_iter().filter(|row| row["active"] == true);
    let mut units: Vec<String> = up
        .map(|row| row["unit"].as_str().unwrap().to_owned())
        .collect();
    units.sort();
    units
}

const OLD: [&str; 3] = ["tmkms-01.service", "tmkms-02.service", "tmkms-03.service"];

#[test]
fn a_new_signer_that_does_not_come_up_takes_all_back() {
    for fault in ["failed", "timeout", "crash"] {
        let host = failing(&format!(
            r#"{{"tmkms-02.v3.service":{{"start":"{fault}"}}}}"#
        ));
        let staged = host.tree();
        host.kmsctl(&["apply", "--yes"]).exits(4).says(&[
            "tmkms-02.v3.service",
            "everything goes back",
            "taken back to commercio-2_2 by operation 3",
            "tmkms-02: tmkms-02.service runs",
        ]);
        assert_eq!(running(&host), OLD, "{fault}");
        let mut back = host.tree();
        back.retain(|path, _| !path.to_string_lossy().ends_with(".v3.json"));
        assert_eq!(back, staged, "{fault}");
        let status = host.json(&["status", "--json"]);
        assert!(status["operation"].is_null(), "{status}");
        // Mended, it goes on.
        host.remove("run/kmsctl/faults.json");
        host.kmsctl(&["apply", "--yes"]).exits(0);
    }
}

#[test]
fn once_one_has_signed_nothing_goes_back_by_itself() {
    // The state file of the first one, which goes alone, stands where an earlier try left it, and it signs.
    let host = Host::of("commercio");
    host.switched();
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-01.v3.service":{"signs":7},"tmkms-02.v3.service":{"start":"failed"}}"#,
    );
    host.kmsctl(&["apply", "--yes"]).exits(5).says(&[
        "nothing is taken back by itself",
        "tmkms-01 signed commercio-3 up to 7/0/2",
        "`kmsctl rollback` goes back",
    ]);
    assert!(running(&host).contains(&"tmkms-01.v3.service".to_owned()));
    let question = host.kmsctl(&["rollback"]).exits(2);
    question.says(&["tmkms-01 signed commercio-3 up to 7/0/2"]);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    assert_eq!(running(&host), OLD);
}

#[test]
fn a_file_that_was_there_before_holds_nothing_until_it_goes_on() {
    let file = format!("{CONFIGS}/commercio_priv_validator_state01.v3.json");
    for (signs, exit) in [("", 4), (r#""tmkms-01.v3.service":{"signs":8},"#, 5)] {
        let host = Host::of("commercio");
        let ahead = r#"{"height":"7","round":"0","step":2,"block_id":null}"#;
        host.write(&file, ahead);
        host.kmsctl(&[&PLAN[..], &["--accept", "state-unknown"]].concat())
            .exits(0);
        let failing = format!(r#"{{{signs}"tmkms-02.v3.service":{{"start":"failed"}}}}"#);
        host.write("run/kmsctl/faults.json", &failing);
        host.kmsctl(&["apply", "--yes"]).exits(exit);
        if exit == 4 {
            assert_eq!(running(&host), OLD);
            assert_eq!(host.read(&file), ahead);
        }
    }
}

#[test]
fn a_chain_that_keeps_its_file_holds_nothing() {
    let host = Host::of("commercio");
    let chain = "commercio-2_2";
    let plan = [
        "--from-chain",
        chain,
        "--new-chain",
        chain,
        "--suffix",
        "v2b",
    ];
    host.kmsctl(&[&["plan", "--protocol", "v0.34"], &plan[..]].concat())
        .exits(0);
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-01.v2b.service":{"signs":2233600},"tmkms-02.v2b.service":{"start":"failed"}}"#,
    );
    host.kmsctl(&["apply", "--yes"])
        .exits(4)
        .says(&["tmkms-01.service runs (commercio-2_2 at 2233600/0/2)"]);
    assert_eq!(running(&host), OLD);
}

#[test]
fn it_can_be_left_as_it_is() {
    let host = failing(r#"{"tmkms-02.v3.service":{"start":"failed"}}"#);
    host.kmsctl(&["apply", "--yes", "--no-auto-rollback"])
        .exits(5)
        .says(&["the switch isn't complete"]);
    assert!(!running(&host).contains(&"tmkms-02.service".to_owned()));
    host.kmsctl(&["rollback", "--yes"]).exits(0);
}

#[test]
fn one_that_systemd_starts_again_and_again_is_dark() {
    let host = failing(r#"{"tmkms-02.v3.service":{"start":"crash"}}"#);
    host.kmsctl(&["apply", "--yes", "--no-auto-rollback"])
        .exits(5);
    let said = host.kmsctl(&["status"]).exits(0).says(&[
        "tmkms-02 is dark: tmkms-02.v3.service is activating (auto-restart), and no process of it runs; see \
         `journalctl -u tmkms-02.v3.service`.",
    ]);
    assert!(!said.all().contains("tmkms-01 is dark"), "{}", said.all());
}

#[test]
fn a_way_back_that_fails_too_comes_first_and_with_the_commands() {
    let host = failing(
        r#"{"tmkms-02.v3.service":{"start":"failed"},"tmkms-02.service":{"start":"failed"}}"#,
    );
    let said = host.kmsctl(&["apply", "--yes"]).exits(5);
    let said = said.says(&[
        "touch /etc/kmsctl/fence/tmkms-02.v3.service.closed && systemctl stop tmkms-02.v3.service; pgrep -af",
        "rm -f /etc/kmsctl/fence/tmkms-02.service.closed && systemctl start tmkms-02.service",
        "the switch had failed before: tmkms-02/start-new",
    ]);
    let last = said.err.rsplit("kmsctl: ").next().unwrap();
    assert!(last.starts_with("THE WAY BACK FAILED TOO"), "{}", said.err);
    host.kmsctl(&["status"])
        .exits(0)
        .says(&["(rollback) was interrupted"]);
}

#[test]
fn an_old_signer_that_does_not_stop_is_no_reason_to_start_it_again() {
    let host = failing(r#"{"tmkms-02.service":{"stop":"timeout"}}"#);
    host.kmsctl(&["apply", "--yes"])
        .exits(5)
        .says(&["tmkms-02/stop-old", "the switch isn't complete"]);
}

#[test]
fn the_first_signer_goes_alone_and_is_watched_before_the_others() {
    let order = |words: &[&str]| -> Vec<String> {
        let host = Host::of("commercio");
        host.kmsctl(&PLAN).exits(0);
        let said = host.kmsctl(words).exits(0);
        let events = said.out.lines().map(|l| serde_json::from_str(l).unwrap());
        events
            .filter(|e: &serde_json::Value| e["event"] == "doing")
            .map(|e| e["step"].as_str().unwrap().to_owned())
            .collect()
    };
    let at = |steps: &[String], id: &str| steps.iter().position(|s| s == id).unwrap();
    let alone = order(&["apply", "--yes", "--json"]);
    assert!(at(&alone, "tmkms-01/watch-new") < at(&alone, "tmkms-02/close-old"));
    let together = order(&["apply", "--yes", "--json", "--no-canary"]);
    assert!(at(&together, "tmkms-01/watch-new") > at(&together, "tmkms-02/close-old"));
    // A canary that fails leaves the others on the old chain, untouched.
    let host = failing(r#"{"tmkms-01.v3.service":{"start":"failed"}}"#);
    host.kmsctl(&["apply", "--yes", "--json"]).exits(4);
    let said = host.kmsctl(&["history", "2"]).exits(0);
    assert!(!said.all().contains("tmkms-02/close-old"), "{}", said.all());
    assert_eq!(running(&host), OLD);
}

#[test]
fn times_are_written_as_people_write_them() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    for soak in ["5", "10s", "1m 30s", "0s"] {
        host.kmsctl(&["apply", "--dry-run", "--soak", soak])
            .exits(0);
    }
    for soak in ["ten", "-5s", "10x"] {
        host.kmsctl(&["apply", "--dry-run", &format!("--soak={soak}")])
            .exits(2)
            .says(&[soak, "no time such as 10s"]);
    }
    assert!(host.path(&format!("{CONFIGS}/tmkms.01.toml")).is_file());
}

#[test]
fn a_way_back_fences_again_what_lost_its_drop_ins() {
    for reloaded in [false, true] {
        let host = failing(r#"{"tmkms-02.v3.service":{"start":"failed"}}"#);
        host.kmsctl(&["apply", "--yes", "--no-auto-rollback"])
            .exits(5);
        let drop_ins: Vec<_> = host
            .tree()
            .into_keys()
            .map(|path| path.to_string_lossy().into_owned())
            .filter(|path| path.ends_with("/zz-kmsctl.conf"))
            .collect();
        assert_eq!(drop_ins.len(), 6, "{drop_ins:?}");
        let content: Vec<String> = drop_ins.iter().map(|path| host.read(path)).collect();
        drop_ins.iter().for_each(|path| host.remove(path));
        if reloaded {
            // systemd has forgotten them as well.
            host.edit("run/kmsctl/services.json", "\"loaded\"", "\"forgotten\"");
        }
        let dry = host.kmsctl(&["rollback", "--dry-run"]).exits(0);
        dry.says(&["zz-kmsctl.conf"]);
        host.kmsctl(&["rollback", "--yes"]).exits(0);
        assert_eq!(running(&host), OLD);
        for (path, text) in drop_ins.iter().zip(&content) {
            assert_eq!(&host.read(path), text, "{path}");
        }
        let status = host.json(&["status", "--json"]);
        for row in status["signers"].as_array().unwrap() {
            let fence = match row["retired"].as_bool().unwrap() {
                true => "closed",
                false => "open",
            };
            assert_eq!(row["fence"], fence, "{row}");
        }
        // Nothing to mend: nothing is said of it.
        host.remove("run/kmsctl/faults.json");
        host.kmsctl(&["apply", "--yes"]).exits(0);
        let dry = host.kmsctl(&["rollback", "--dry-run"]).exits(0);
        assert!(!dry.all().contains("zz-kmsctl.conf"), "{}", dry.all());
    }
}
