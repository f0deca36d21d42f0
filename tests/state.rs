//! `state`: shown, and written as the other program's, where nothing is yet and never lower.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "init/key.rs"]
mod key;
mod support;

use support::Host;

const COMETBFT: &str = "root/priv_validator_state.json";

fn host() -> Host {
    let host = Host::of("commercio");
    host.write(
        COMETBFT,
        &key::state("commercio-2_2", 2_233_600, &key::SEED),
    );
    host
}

#[test]
fn there_and_back() {
    let host = host();
    host.kmsctl(&["state", "show", "/root/priv_validator_state.json"])
        .exits(0)
        .says(&[
            "CometBFT's state file",
            "height 2233600, round 0, step 2: a precommit",
            &format!("for block {}", "AA".repeat(32)),
            "on chain commercio-2_2",
        ]);
    let before = host.tree();
    host.kmsctl(&[
        "state",
        "convert",
        "/root/priv_validator_state.json",
        "/root/tmkms.json",
    ])
    .exits(0);
    let tree = host.tree();
    assert_eq!(
        tree[std::path::Path::new("root/tmkms.json")].mode & 0o7777,
        0o600
    );
    assert_eq!(tree.len(), before.len() + 1);
    host.kmsctl(&["state", "show", "/root/tmkms.json"])
        .exits(0)
        .says(&["tmkms' state file", "2233600"]);
    host.kmsctl(&["state", "convert", "/root/tmkms.json", "/root/back.json"])
        .exits(0);
    assert_eq!(
        host.read("root/back.json"),
        "{\n  \"height\": \"2233600\",\n  \"round\": 0,\n  \"step\": 3\n}"
    );
    // The same format again is a copy, which is asked for.
    host.kmsctl(&[
        "state",
        "convert",
        "/root/tmkms.json",
        "/root/copy.json",
        "--format",
        "tmkms",
    ])
    .exits(0);
    assert_eq!(host.read("root/copy.json"), host.read("root/tmkms.json"));
}

#[test]
fn never_over_a_file_and_never_lower() {
    let host = host();
    let state = "/data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state01.json";
    let low = key::state("commercio-2_2", 5, &key::SEED);
    host.write("root/low.json", &low);
    // What the journals saw counts after the file is gone.
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    let before = host.tree();
    host.kmsctl(&["state", "convert", "/root/low.json", state])
        .exits(3)
        .says(&[
            state,
            "at 2233550/0/2",
            "would lower it",
            "never overwritten",
        ]);
    host.kmsctl(&["state", "convert", "/root/priv_validator_state.json", state])
        .exits(3)
        .says(&["never overwritten"]);
    assert_eq!(host.tree(), before);
    host.remove(state);
    host.kmsctl(&["state", "convert", "/root/low.json", state])
        .exits(3)
        .says(&["journals saw it at 2233550/0/2", "bring the file back"]);
    host.kmsctl(&["state", "convert", "/root/priv_validator_state.json", state])
        .exits(0);
}

#[test]
fn what_can_t_be_read_is_said_with_its_file() {
    let host = host();
    for (text, words) in [
        ("", "is empty"),
        ("{", "stops in the middle"),
        (r#"{"height":"1","round":0,"step":0}"#, "contradicts itself"),
        (
            r#"{"height":1.5,"round":0,"step":1}"#,
            "`height` must be a number",
        ),
    ] {
        host.write("root/bad.json", text);
        for verb in [
            &["state", "show", "/root/bad.json"][..],
            &["state", "convert", "/root/bad.json", "/root/x.json"],
        ] {
            host.kmsctl(verb)
                .exits(3)
                .says(&["/root/bad.json: ", words]);
        }
    }
    assert!(!host.path("root/x.json").exists());
    host.kmsctl(&["state", "show", "/root/none.json"])
        .exits(1)
        .says(&["reading /root/none.json"]);
}

/// No config and no unit reads it.
#[test]
fn any_name_is_good_enough_for_a_converted_file() {
    let host = host();
    let to = "/root/f\u{fc}r sp\u{e4}ter.json";
    host.kmsctl(&["state", "convert", &format!("/{COMETBFT}"), to])
        .exits(0);
    host.kmsctl(&["state", "show", to])
        .exits(0)
        .says(&["2233600"]);
}
