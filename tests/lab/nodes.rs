//! `verify` on a real machine: the stand-in for oasis-node under a real systemd, in the documented unit, as its own user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::json;
use stand_in_oasis_node::bundle::make;
use stand_in_oasis_node::chain::Rules;
use stand_in_oasis_node::settings::Settings;

use crate::kmsctl::{self, eventually, json as said, kmsctl};
use crate::machine::{Lab, Machine};

const RUNTIME: &str = "4000000000000000000000000000000000000000000000004a1a53dff2ae482d";
/// Made up, and nobody's; with its SHA-256.
const SECRETS: &str = "5a5a5a5a";
const CHECKSUM: &str = "967411641f205748bbbd223a23d4e06b6e609648102da0d886a709108a499889";
const TROUBLE: &str = "/node/data/stand-in-trouble";
/// As the Oasis docs have it.
const UNIT: &str = "[Unit]\nDescription=Oasis Node\nAfter=network.target\n[Service]\nType=simple\nUser=oasis\n\
    WorkingDirectory=/node/data\nExecStart=/node/bin/oasis-node --config /node/etc/config.yml\nRestart=on-failure\n\
    RestartSec=3\nLimitNOFILE=1024000\n[Install]\nWantedBy=multi-user.target\n";
/// Notes who asks.
const PROGRAM: &str = "#!/bin/sh\ncase \"$*\" in *control*) id -un >>/node/data/asked-by;; esac\n\
    exec /node/bin/stand-in-oasis-node \"$@\"\n";

/// Where cargo puts the stand-in, built now.
fn stand_in() -> Result<PathBuf> {
    let words = ["build", "--quiet", "-p", "stand-in-oasis-node"];
    let built = Command::new(env!("CARGO")).args(words).status();
    ensure!(
        built.context("running cargo")?.success(),
        "building the stand-in failed"
    );
    Ok(Path::new(env!("CARGO_BIN_EXE_kmsctl")).with_file_name("stand-in-oasis-node"))
}

fn install(root: &Path) -> Result<()> {
    let write = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    };
    let rules = Rules {
        begun: Timestamp::now(),
        epoch_ms: 3000,
        upgrade_epoch: 1_000_000,
        new_version: [0, 7, 0],
        checksum: CHECKSUM.into(),
        policy: "06".repeat(32),
    };
    let settings = Settings {
        chain: "/node/chain".into(),
        cpu: "cpu-1".into(),
        seed: 1,
        version: "26.1".into(),
        replication_ms: 200,
    };
    let config = format!(
        "mode: keymanager\ncommon:\n  data_dir: /node/data\nruntime:\n  paths: [\"/node/runtimes/km.orc\"]\n\
         keymanager: {{runtime_id: \"{RUNTIME}\"}}\n"
    );
    write("node/chain/chain.json", &serde_json::to_vec(&rules)?)?;
    write(
        "etc/stand-in-oasis-node.json",
        &serde_json::to_vec(&settings)?,
    )?;
    write("node/etc/config.yml", config.as_bytes())?;
    let bundle = make(RUNTIME, [0, 6, 0], b"enclave 6").map_err(anyhow::Error::msg)?;
    write("node/runtimes/km.orc", &bundle)?;
    write("etc/systemd/system/oasis-node.service", UNIT.as_bytes())?;
    write("node/bin/oasis-node", PROGRAM.as_bytes())?;
    fs::copy(stand_in()?, root.join("node/bin/stand-in-oasis-node")).context("the stand-in")?;
    fs::create_dir_all(root.join("node/data"))?;
    kmsctl::install(root)
}

#[test]
fn a_key_manager_is_verified_twice_and_its_troubles_are_known() -> Result<()> {
    let lab = Lab::open()?;
    let machine = Machine::boot(&lab, install)?;
    machine.sh(&format!(
        "useradd --system --user-group oasis; chmod 755 /node/bin/oasis-node; chown -R oasis: /node/data /node/chain
         runuser -u oasis -- /node/bin/stand-in-oasis-node seal --config /node/etc/config.yml --secrets {SECRETS}
         systemctl enable --now oasis-node"
    ))?;
    let ends = |words: &[&str]| -> Result<Option<i32>> { Ok(kmsctl(&machine, words)?.output.code) };
    eventually("the node is verified", || Ok(ends(&["verify"])? == Some(0)))?;
    let words = ["verify", "--watch", "--again", "--within", "40"];
    kmsctl(&machine, &words)?.exits(0).says(&["again at epoch"]);
    kmsctl(&machine, &["status"])?
        .exits(0)
        .says(&["all seven conditions hold", "again at epoch"]);
    let asked_by = machine.sh("sort -u /node/data/asked-by")?;
    ensure!(asked_by.trim() == "oasis", "asked by {asked_by}");

    // One that hangs is unknown, and keeps nobody waiting.
    machine.sh(&format!("echo hangs >{TROUBLE}"))?;
    kmsctl(&machine, &["verify"])?
        .exits(3)
        .says(&["1 UNKNOWN", "took longer than"]);
    machine.sh(&format!(
        "echo corrupted >{TROUBLE}; systemctl restart oasis-node"
    ))?;
    eventually("its log is read", || {
        let status = said(&machine, &["status", "--json"])?;
        Ok(status["key_managers"][0]["failures"][0]["failure"] == json!("state-corrupted"))
    })?;
    kmsctl(&machine, &["verify"])?
        .exits(3)
        .says(&["STOP THE FLEET"]);
    // What an earlier process said is over with it.
    machine.sh(&format!("rm {TROUBLE}; systemctl restart oasis-node"))?;
    eventually("it is verified anew", || Ok(ends(&["verify"])? == Some(0)))?;
    let status = said(&machine, &["status", "--json"])?;
    ensure!(
        status["key_managers"][0]["failures"] == json!([]),
        "{status}"
    );
    machine.sh("systemctl stop oasis-node")?;
    kmsctl(&machine, &["verify"])?
        .exits(3)
        .says(&["oasis-node.service doesn't run"]);
    Ok(())
}
