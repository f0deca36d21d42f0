//! Other hosts are asked before a plan and before a switch: as far as this one, and known, or nothing is begun.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{CONFIGS, Host, Said};

/// Made up: 32 bytes of 1 and of 2, in base64; and the public half of the first, in hex.
const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const OTHER_KEY: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const PUBLIC: &str = "8A88E3DD7409F195FD52DB2D3CBA5D72CA6709BF1D94121BF3748801B40F6F5C";

/// Gives a fleet's second signer a key in a file.
fn with_key(host: &Host, file: &str, key: &str) {
    let config = format!("{CONFIGS}/tmkms.02.toml");
    let text = host.read(&config);
    let (before, _) = text.split_once("[[providers.yubihsm]]").unwrap();
    let provider =
        format!("[[providers.softsign]]\nchain_ids = [\"commercio-2_2\"]\npath = \"/{file}\"\n");
    host.write(&config, &format!("{before}{provider}"));
    host.write(file, key);
}

/// A fleet and another one, each with one key in a file, under different names.
fn with_keys(here: &str, there: &str) -> (Host, Other) {
    let (host, other) = (Host::of("commercio"), Other::new());
    with_key(&host, "here.key", here);
    with_key(&other.host, "there.key", there);
    (host, other)
}

/// Stops and disables the other host's second signer.
fn retire(other: &Other) {
    let wants = "etc/systemd/system/multi-user.target.wants/tmkms-02.service";
    other.host.remove(wants);
}

/// Another host with the same fleet, whose status a peer's command prints.
struct Other {
    host: Host,
}

impl Other {
    fn new() -> Other {
        Other {
            host: Host::of("commercio"),
        }
    }

    /// Its second signer is so many blocks from where the fixture's signers are.
    fn behind(self, blocks: u64) -> Other {
        let at = format!("{}", 2_233_550 - blocks);
        let file = format!("{CONFIGS}/commercio_priv_validator_state02.json");
        self.host.edit(&file, "2233550", &at);
        self
    }

    fn peer(&self) -> String {
        let kmsctl = env!("CARGO_BIN_EXE_kmsctl");
        let root = self.host.root().display();
        // A model is nameless: this one is another host than the one that asks.
        format!(
            "km2={kmsctl} --root {root} status --json | sed 's/\"host\":\"model\"/\"host\":\"km2\"/'"
        )
    }
}

fn plan(host: &Host, peer: &str) -> Said {
    host.kmsctl(&["plan", "--new-chain", "commercio-3", "--peer", peer])
}

#[test]
fn peers_at_the_same_height_are_fine_and_said() {
    let (host, other) = (Host::of("commercio"), Other::new());
    let said = plan(&host, &other.peer()).exits(0);
    assert!(!said.all().contains("no-peers"), "{}", said.all());
    host.kmsctl(&["apply", "--yes", "--peer", &other.peer()])
        .exits(0);
}

#[test]
fn a_peer_that_is_behind_or_ahead_is_named_with_its_height() {
    let (host, other) = (Host::of("commercio"), Other::new().behind(7));
    plan(&host, &other.peer()).exits(3).says(&[
        "block[laggard]",
        "km2:tmkms-02 is at height 2233543, 7 blocks behind",
    ]);
    let planned = host.kmsctl(&["plan", "--new-chain", "commercio-3"]);
    planned.exits(0).says(&["no-peers"]);
    host.kmsctl(&["apply", "--yes", "--peer", &other.peer()])
        .exits(3)
        .says(&["block[laggard]"]);
    let near = Other::new().behind(1);
    host.kmsctl(&["apply", "--yes", "--peer", &near.peer()])
        .exits(0);
}

#[test]
fn a_peer_that_cannot_be_asked_stops_the_switch_and_the_going_on() {
    let host = Host::of("commercio");
    plan(&host, "km2=exit 255").exits(3).says(&[
        "block[peer-unknown]",
        "peer km2 gave no answer that can be used: its command failed",
        "see what its command prints",
    ]);
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["stage", "--yes", "--peer", "km2=exit 255"])
        .exits(0);
    host.write(
        "run/kmsctl/faults.json",
        r#"{"tmkms-02.v3.service":{"start":"failed"}}"#,
    );
    host.kmsctl(&["apply", "--yes", "--no-auto-rollback"])
        .exits(5);
    host.remove("run/kmsctl/faults.json");
    host.kmsctl(&["apply", "--yes", "--peer", "km2=echo"])
        .exits(3)
        .says(&[
            "block[peer-unknown]",
            "it isn't what `kmsctl status --json` prints",
        ]);
    let other = Other::new();
    host.kmsctl(&["apply", "--yes", "--peer", &other.peer()])
        .exits(0);
}

#[test]
fn a_folder_s_settings_name_no_command_that_is_run() {
    let host = Host::of("commercio");
    let mark = host.path("ran");
    let settings = format!(
        "[[peer]]\nname = \"km2\"\ncommand = \"touch {}\"\n",
        mark.display()
    );
    host.write("etc/kmsctl/kmsctl.toml", &settings);
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0)
        .says(&["no-peers"]);
    assert!(!mark.exists(), "a command of the folder was run");
}

#[test]
fn a_word_that_is_no_peer_is_refused() {
    let host = Host::of("commercio");
    plan(&host, "km2").exits(2).says(&["is no NAME=COMMAND"]);
}

#[test]
fn one_key_on_two_hosts_is_a_double_signature_waiting() {
    let (host, other) = with_keys(KEY, KEY);
    let says = [
        "block[key-shared]",
        PUBLIC,
        "signs commercio-2_2 from tmkms-02.service on peer km2",
        "belongs to tmkms-02.service here",
        "there: `systemctl disable --now tmkms-02.service`",
    ];
    plan(&host, &other.peer()).exits(3).says(&says);
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["apply", "--yes", "--peer", &other.peer()])
        .exits(3)
        .says(&says);
    // No flag overrules rule S1.
    host.kmsctl(&[
        "plan",
        "--new-chain",
        "commercio-3",
        "--accept",
        "key-shared",
    ])
    .exits(2);
    // A retired signer of that key is the other host's copy, which nothing starts.
    retire(&other);
    let said = plan(&host, &other.peer()).exits(0);
    assert!(!said.all().contains("key-shared"), "{}", said.all());
    host.kmsctl(&["apply", "--yes", "--peer", &other.peer()])
        .exits(0);
}

#[test]
fn another_key_or_another_chain_is_no_clash() {
    let (host, other) = with_keys(KEY, OTHER_KEY);
    let said = plan(&host, &other.peer()).exits(0);
    assert!(!said.all().contains("key-shared"), "{}", said.all());
    let (host, other) = with_keys(KEY, KEY);
    let config = format!("{CONFIGS}/tmkms.02.toml");
    let text = other
        .host
        .read(&config)
        .replace("commercio-2_2", "elsewhere-1");
    other.host.write(&config, &text);
    let said = plan(&host, &other.peer()).exits(0);
    assert!(!said.all().contains("key-shared"), "{}", said.all());
}

#[test]
fn a_peer_that_signs_the_new_chain_already_counts() {
    let (host, other) = with_keys(KEY, KEY);
    other.host.switched();
    plan(&host, &other.peer()).exits(3).says(&[
        "block[key-shared]",
        "signs commercio-3 from tmkms-02.v3.service on peer km2",
    ]);
}

#[test]
fn going_on_and_going_back_look_at_peers_keys_as_well() {
    let (host, other) = with_keys(KEY, KEY);
    let (km2, fault) = (
        other.peer(),
        r#"{"tmkms-02.v3.service":{"start":"failed"}}"#,
    );
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host.write("run/kmsctl/faults.json", fault);
    host.kmsctl(&["apply", "--yes", "--no-auto-rollback"])
        .exits(5);
    host.remove("run/kmsctl/faults.json");
    let half = host.tree();
    let says = ["block[key-shared]", PUBLIC, "on peer km2"];
    for verb in ["apply", "rollback"] {
        host.kmsctl(&[verb, "--yes", "--peer", &km2])
            .exits(3)
            .says(&says);
        assert_eq!(host.tree(), half, "{verb} touched something");
    }
    // One that can't be asked stops the way back as well (rule S12); undeclared, it isn't asked.
    host.kmsctl(&["rollback", "--yes", "--peer", "km2=exit 255"])
        .exits(3)
        .says(&["block[peer-unknown]"]);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    // The whole way back of a whole switch.
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&["rollback", "--yes", "--peer", &km2])
        .exits(3)
        .says(&says);
    retire(&other);
    host.kmsctl(&["rollback", "--yes", "--peer", &km2]).exits(0);
}

#[test]
fn keys_that_are_not_told_are_said() {
    // On both hosts most keys are in devices, which nobody asks for a folder.
    let (host, other) = with_keys(KEY, OTHER_KEY);
    let said = plan(&host, &other.peer()).exits(0);
    said.says(&[
        "warn[key-unknown]",
        "peer km2 doesn't tell the public key of tmkms-01.service (YubiHSM",
        "isn't known here: that no peer signs with it is not checked",
    ]);
    // A kmsctl that doesn't tell keys yet.
    let peer = format!("{} | sed 's/\"keys\"/\"others\"/g'", other.peer());
    plan(&host, &peer)
        .exits(0)
        .says(&["tmkms-02.service (commercio-2_2 tells no key)"]);
}

#[test]
fn doctor_asks_peers_without_a_plan() {
    let (host, other) = with_keys(KEY, KEY);
    let peers = |words: &[&str], code| {
        let said = host.kmsctl(&[&["doctor", "--json"], words].concat());
        let report: Value = serde_json::from_str(&said.exits(code).out).unwrap();
        let checks = report["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|c| c["check"] == "peers")
            .unwrap()
            .clone()
    };
    let check = peers(&["--peer", &other.peer()], 3);
    let codes: Vec<&Value> = check["findings"].as_array().unwrap().iter().collect();
    assert!(codes.iter().any(|f| f["code"] == "key-shared"), "{check}");
    let check = peers(&["--peer", "km2=exit 255"], 3);
    assert_eq!(check["findings"][0]["code"], "peer-unknown", "{check}");
    let check = peers(&[], 0);
    assert_eq!(check["judged"], "not", "{check}");
    retire(&other);
    let check = peers(&["--peer", &other.peer()], 0);
    assert!(!check.to_string().contains("key-shared"), "{check}");
}
