//! A folder that stands for a key manager's host: the documented unit and config, a stand-in's bundle and its answer, recorded.

#![allow(dead_code, reason = "each test target uses a part of this")]

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use stand_in_oasis_node::answer::{Answer, InitResponse, OnChain, Registered, Shape};
use stand_in_oasis_node::bundle::make;

use super::{Host, UNITS};

const RUNTIME: &str = "4000000000000000000000000000000000000000000000004a1a53dff2ae482d";
pub const UNIT: &str = "oasis-node.service";
pub const RECORDED: &str = "run/kmsctl/nodes.json";

/// The documented unit and config (facts of oasis-core 23.0 and later).
pub fn host() -> Host {
    let host = Host::bare();
    let unit = "[Unit]\nDescription=Oasis Node\nAfter=network.target\n[Service]\nType=simple\nUser=oasis\n\
                WorkingDirectory=/node/data\nExecStart=/node/bin/oasis-node --config /node/etc/config.yml\n\
                Restart=on-failure\n[Install]\nWantedBy=multi-user.target\n";
    host.write(&format!("{UNITS}/{UNIT}"), unit);
    let wants = format!("{UNITS}/multi-user.target.wants");
    fs::create_dir_all(host.path(&wants)).unwrap();
    host.link(&format!("{wants}/{UNIT}"), &format!("/{UNITS}/{UNIT}"));
    let config = format!(
        "mode: keymanager\ncommon:\n  data_dir: /node/data\nruntime:\n  paths: [\"/node/runtimes/old.orc\"]\n\
         keymanager: {{runtime_id: \"{RUNTIME}\"}}\n"
    );
    host.write("node/etc/config.yml", &config);
    bundle(&host, 6);
    host
}

pub fn bundle(host: &Host, minor: u16) {
    let path = host.path("node/runtimes/old.orc");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let enclave = format!("enclave {minor}");
    fs::write(
        path,
        make(RUNTIME, [0, minor, 0], enclave.as_bytes()).unwrap(),
    )
    .unwrap();
}

pub fn ago(seconds: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_secs(seconds)
}

/// A node that holds the secrets, registered so many seconds ago.
pub fn holder(node: u8, epoch: u64, registered: i64) -> Answer {
    Answer {
        software_version: "26.1".into(),
        node: [node; 32],
        consensus: "ready".into(),
        latest_time: ago(5).to_string(),
        epoch,
        runtime: RUNTIME.into(),
        state: "ready".into(),
        version: [0, 6, 0],
        registered: Some(Registered {
            at: ago(registered).to_string(),
            expiration: epoch + 2,
            version: [0, 6, 0],
            seed: [node; 32],
            said: Some(InitResponse {
                is_secure: true,
                checksum: vec![5; 32],
                policy_checksum: vec![6; 32],
                next_checksum: None,
            }),
            forged: false,
        }),
        last_error: None,
        policy_checksum: vec![6; 32],
        on_chain: Some(OnChain {
            checksum: vec![5; 32],
            nodes: vec![[1; 32], [2; 32]],
        }),
    }
}

pub fn records(host: &Host, answer: &Answer, shape: Shape) {
    let status = format!("ts=now level=info\n{}", answer.print(shape));
    says(host, &status);
}

pub fn says(host: &Host, status: &str) {
    let recorded = json!({UNIT: {"started": ago(900), "status": status}});
    host.write(RECORDED, &recorded.to_string());
}
