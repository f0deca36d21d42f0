//! `state`: shown, and written as the other program's, where nothing is yet and never lower.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "init/key.rs"]
mod key;
mod support;

use support::{Host, UNITS};

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
    // High enough, and still not kmsctl's to make beside its signer.
    let high = ["state", "convert", "/root/priv_validator_state.json", state];
    host.kmsctl(&high)
        .exits(3)
        .says(&[state, "is where tmkms-01.service has its state"]);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    host.remove("etc/systemd/system/tmkms-01.service");
    retire(&host, "tmkms-01.service");
    host.kmsctl(&high).exits(0);
}

const SIGNER: &str = "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state01.json";

/// Stopped and disabled: it signs no more.
fn retire(host: &Host, unit: &str) {
    host.remove(&format!("{UNITS}/multi-user.target.wants/{unit}"));
    std::fs::remove_file(host.path("run/kmsctl/services.json")).ok();
}

#[test]
fn what_a_signer_goes_on_with_is_not_copied() {
    let host = host();
    let from = format!("/{SIGNER}");
    let back = ["state", "convert", &from, "/root/back.json"];
    let before = host.tree();
    host.kmsctl(&back).exits(3).says(&[
        &from,
        "is the state of tmkms-01.service, which runs",
        "systemctl disable --now tmkms-01.service",
    ]);
    // Another name for it is the same file.
    host.link("root/kms", "/data_tmkms/tmkms/kms");
    let linked = "/root/kms/commercio/commercio_priv_validator_state01.json";
    host.kmsctl(&["state", "convert", linked, "/root/back.json"])
        .exits(3)
        .says(&["which runs"]);
    host.remove("root/kms");
    assert_eq!(host.tree(), before);
    // The way back to a validator that signs itself.
    retire(&host, "tmkms-01.service");
    host.kmsctl(&back).exits(0);
    assert!(host.read("root/back.json").contains("\"2233550\""));
    // A unit that can't be read may have it.
    host.remove("root/back.json");
    host.edit(
        "data_tmkms/tmkms/kms/commercio/tmkms.02.toml",
        "[[chain]]",
        "[[chain]",
    );
    host.kmsctl(&back).exits(3).says(&[
        "/data_tmkms/tmkms/kms/commercio/tmkms.02.toml",
        "nobody knows whose state",
    ]);
    assert!(!host.path("root/back.json").exists());
}

#[test]
fn an_older_copy_than_the_journals_saw_is_refused() {
    let host = host();
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    retire(&host, "tmkms-01.service");
    let whole = host.read(SIGNER);
    let lower = whole.replace("2233550", "2233549");
    assert_ne!(lower, whole);
    host.write(SIGNER, &lower);
    let from = format!("/{SIGNER}");
    let back = ["state", "convert", &from, "/root/back.json"];
    host.kmsctl(&back).exits(3).says(&[
        &format!("{from} is at 2233549/0/2"),
        "journals saw it at 2233550/0/2",
        "find the newer file",
    ]);
    assert!(!host.path("root/back.json").exists());
    host.write(SIGNER, &whole);
    host.kmsctl(&back).exits(0);
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
