//! Other hosts are asked before a plan and before a switch: as far as this one, and known, or nothing is begun.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{CONFIGS, Host, Said};

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
