//! `--initial-height`: nothing below the new chain's first height can be signed, and no state file is touched for it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{CONFIGS, Host};

const FIRST: &str = "2233551";
const FLOOR: &str = r#"{"height":"2233550","round":"2147483647","step":127,"block_id":null}"#;

fn planned() -> Host {
    let host = Host::of("commercio");
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host
}

fn new_state(n: usize) -> String {
    format!("{CONFIGS}/commercio_priv_validator_state0{n}.v3.json")
}

#[test]
fn floors_are_laid_and_withdrawn_where_nothing_was_signed() {
    let host = planned();
    host.kmsctl(&["apply", "--yes", "--initial-height", FIRST])
        .exits(0);
    for n in 1..=3 {
        assert_eq!(host.read(&new_state(n)), FLOOR);
        let old = new_state(n).replace(".v3", "");
        let mode = |path: &str| host.tree()[std::path::Path::new(path)].mode;
        assert_eq!(mode(&new_state(n)), mode(&old));
    }
    let status = host.json(&["status", "--json"]);
    let text = status.to_string();
    assert!(text.contains("\"height\":2233550"), "{text}");
    // The second one signs; only its file stays.
    let signed = r#"{"height":"2233551","round":"0","step":2,"block_id":null}"#;
    host.write(&new_state(2), signed);
    host.kmsctl(&["rollback", "--yes"])
        .exits(0)
        .says(&["tmkms-02 signed commercio-3 up to 2233551/0/2"]);
    assert_eq!(host.read(&new_state(2)), signed);
    for n in [1, 3] {
        assert!(!host.path(&new_state(n)).exists(), "{n}");
    }
    // Another try may have another floor, or none.
    host.kmsctl(&["apply", "--yes"]).exits(0);
    assert_eq!(host.read(&new_state(2)), signed);
    assert!(host.read(&new_state(1)).contains("\"height\":\"0\""));
}

#[test]
fn a_switch_that_fails_takes_its_floors_back() {
    let host = planned();
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-02.v3.service":{"start":"failed"}}"#,
    );
    host.kmsctl(&["apply", "--yes", "--initial-height", FIRST])
        .exits(4)
        .says(&["`kmsctl apply --initial-height 2233551` tries again"]);
    for n in 1..=3 {
        assert!(!host.path(&new_state(n)).exists(), "{n}");
    }
    host.remove("run/kmsctl/faults.json");
    host.kmsctl(&["apply", "--yes", "--initial-height", "2233500"])
        .exits(0);
    assert!(host.read(&new_state(1)).contains("2233499"));
}

#[test]
fn floors_are_kept_where_a_way_back_was_interrupted_and_left_again() {
    let host = planned();
    let fails = |unit: &str| {
        let faults = format!(r#"{{"{unit}.service":{{"start":"failed"}}}}"#);
        host.write("run/kmsctl/faults.json", &faults);
    };
    fails("tmkms-03.v3");
    let apply = ["apply", "--yes", "--no-auto-rollback", "--halt-height"];
    let heights = ["2233550", "--initial-height", FIRST];
    host.kmsctl(&[&apply[..], &heights].concat()).exits(5);
    // Neither going on nor going forward again takes another height.
    let other = ["apply", "--yes", "--initial-height", "2233500"];
    let begun = "was begun with --initial-height 2233551";
    host.kmsctl(&other).exits(3).says(&[begun]);
    fails("tmkms-01");
    host.kmsctl(&["rollback", "--yes"]).exits(5);
    host.remove("run/kmsctl/faults.json");
    host.kmsctl(&other).exits(3).says(&[begun]);
    // Withdrawn, they are laid again.
    assert!(!host.path(&new_state(2)).exists());
    host.kmsctl(&["apply", "--yes"]).exits(0).says(&[
        "The halt height is 2233550, as it was begun with.",
        "The new chain's first height is 2233551, as it was begun with.",
    ]);
    for n in 1..=3 {
        assert_eq!(host.read(&new_state(n)), FLOOR, "{n}");
    }
    // Once all is taken back, another one may be asked for.
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.kmsctl(&other).exits(0);
    assert!(host.read(&new_state(1)).contains("2233499"));
}

#[test]
fn a_floor_above_the_next_height_is_refused_before_anything_is_stopped() {
    let host = planned();
    let before = host.tree();
    host.kmsctl(&["apply", "--yes", "--initial-height", "2233552"])
        .exits(3)
        .says(&["block[floor-too-high]", "is 2233550"]);
    assert_eq!(host.tree(), before);
}

#[test]
fn a_state_file_that_is_there_is_never_raised() {
    let host = Host::of("commercio");
    host.switched();
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    let there = host.read(&new_state(1));
    host.kmsctl(&["apply", "--yes", "--initial-height", FIRST])
        .exits(3)
        .says(&["block[floor-in-the-way]", "state01.v3.json", "is at 0/0/0"]);
    assert_eq!(host.read(&new_state(1)), there);
    host.kmsctl(&["apply", "--yes"]).exits(0);
}

#[test]
fn a_floor_that_is_lost_is_a_lost_state_file() {
    let host = planned();
    host.kmsctl(&["apply", "--yes", "--initial-height", FIRST])
        .exits(0);
    host.remove(&new_state(3));
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(3).says(&[
        "state03.v3.json",
        "is missing, and a journal saw it at 2233550",
    ]);
}
