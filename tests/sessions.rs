//! A YubiHSM has sixteen sessions, and those of ended signers stay taken for 30 s: a switch waits for them in time, and a
//! full device is no reason to go back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::Host;

/// A fleet on one device.
fn fleet(signers: usize) -> Host {
    let host = Host::of("commercio");
    for n in 4..=signers {
        let n = format!("{n:02}");
        for path in [
            "data_tmkms/tmkms/kms/commercio/tmkms.01.toml",
            "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state01.json",
            "etc/systemd/system/tmkms-01.service",
        ] {
            let text = host.read(path).replace("01", &n);
            let key: usize = n.parse().unwrap();
            let text = text.replace("key = 1 }]", &format!("key = {key} }}]"));
            host.write(&path.replace("01", &n), &text);
        }
        let unit = format!("tmkms-{n}.service");
        host.link(
            &format!("etc/systemd/system/multi-user.target.wants/{unit}"),
            &format!("/etc/systemd/system/{unit}"),
        );
    }
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host
}

fn running(host: &Host) -> (usize, usize) {
    let status = host.json(&["status", "--json"]);
    let rows = status["signers"].as_array().unwrap();
    let up = rows.iter().filter(|row| row["active"] == true);
    let units: Vec<&str> = up.map(|row| row["unit"].as_str().unwrap()).collect();
    let new = units.iter().filter(|unit| unit.contains(".v3.")).count();
    (units.len() - new, new)
}

#[test]
fn more_signers_than_there_are_slots_for_their_successors_go_there_and_back() {
    // Twelve hold twelve slots, and each that is stopped leaves one taken. Sixteen leave none free to begin with.
    for signers in [12, 15, 16] {
        let host = fleet(signers);
        for _ in 0..2 {
            let apply = ["apply", "--yes", "--no-canary", "--soak", "0s"];
            let said = host.kmsctl(&apply).exits(0);
            assert!(!said.all().contains("sessions full"), "{said:?}");
            assert_eq!(running(&host), (0, signers));
            let said = host.kmsctl(&["rollback", "--yes", "--soak", "0s"]).exits(0);
            assert!(!said.all().contains("sessions full"), "{said:?}");
            assert_eq!(running(&host), (signers, 0));
        }
    }
}

#[test]
fn sessions_that_others_hold_are_waited_for() {
    let host = fleet(3);
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-02.v3.service":{"foreign_sessions":[16,35]}}"#,
    );
    host.kmsctl(&["apply", "--yes"]).exits(0);
    assert_eq!(running(&host), (0, 3));
}

#[test]
fn but_not_for_ever() {
    let host = fleet(3);
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-02.v3.service":{"foreign_sessions":[16,3600]}}"#,
    );
    // The old ones would need its sessions as well: nothing goes back by itself.
    host.kmsctl(&["apply", "--yes"]).exits(5).says(&[
        "it logged: error: sessions full (max 16)",
        "those of ended signers become free after 30 s",
        "`kmsctl apply` goes on",
    ]);
    assert_eq!(running(&host), (0, 2));
    host.remove("run/kmsctl/faults.json");
    host.kmsctl(&["apply", "--yes"]).exits(0);
    assert_eq!(running(&host), (0, 3));
}
