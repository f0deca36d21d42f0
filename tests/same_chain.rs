//! A chain that keeps its id: another protocol or another binary, with the state file kept. And `--binary`, `--config-dir`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{CONFIGS, Host, UNITS};

const SAME: [&str; 6] = [
    "plan",
    "--from-chain",
    "commercio-2_2",
    "--new-chain",
    "commercio-2_2",
    "--detailed-exitcode",
];
const STATE: &str = "commercio_priv_validator_state01.json";

fn same(more: &[&'static str]) -> Vec<&'static str> {
    [&SAME[..], more].concat()
}

#[test]
fn it_asks_for_a_suffix() {
    let host = Host::of("commercio");
    host.kmsctl(&SAME)
        .exits(3)
        .says(&["commercio-2_2 stays the chain's id", "--suffix"]);
}

#[test]
fn another_protocol_keeps_the_state_file_there_and_back() {
    let host = Host::of("commercio");
    let plan = same(&["--suffix", "v4", "--protocol", "v0.34"]);
    let before = host.tree();
    host.kmsctl(&plan)
        .exits(10)
        .says(&["which keeps its id", "protocol_version = \"v0.34\""]);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    let config = host.read(&format!("{CONFIGS}/tmkms.01.v4.toml"));
    assert!(config.contains(STATE), "{config}");
    assert!(config.contains("id = \"commercio-2_2\""), "{config}");
    let states = |tree: &support::Tree| {
        let all = tree
            .keys()
            .filter(|p| p.to_string_lossy().contains("validator_state"));
        all.count()
    };
    assert_eq!(states(&host.tree()), states(&before), "no new state file");
    host.kmsctl(&plan).exits(0).says(&["nothing to do"]);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.kmsctl(&plan).exits(10);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    assert_eq!(host.tree(), before);
}

#[test]
fn the_state_that_the_new_unit_signed_is_the_floor_of_the_way_back() {
    let host = Host::of("commercio");
    host.kmsctl(&same(&["--suffix", "v4", "--protocol", "v0.34"]))
        .exits(10);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    let path = format!("{CONFIGS}/{STATE}");
    let old = host.read(&path);
    host.write(&path, &old.replace("2233550", "2233590"));
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    // From here on nothing below what the new unit signed is started on.
    host.write(&path, &old);
    host.kmsctl(&["apply", "--yes"])
        .exits(3)
        .says(&["state-behind", "2233590"]);
}

#[test]
fn another_binary_with_and_without_a_new_chain() {
    for chain in ["commercio-2_2", "commercio-3"] {
        let host = Host::of("commercio");
        host.write("opt/tmkms/0.15.0/tmkms", "no program");
        let plan = [
            "plan",
            "--from-chain",
            "commercio-2_2",
            "--new-chain",
            chain,
            "--suffix",
            "v3",
            "--binary",
            "/opt/tmkms/0.15.0/tmkms",
            "--detailed-exitcode",
        ];
        host.kmsctl(&plan).exits(10).says(&[
            "the tmkms that is asked for",
            "/opt/tmkms/0.15.0/tmkms version",
        ]);
        host.kmsctl(&["apply", "--yes"]).exits(0);
        let unit = host.read(&format!("{UNITS}/tmkms-01.v3.service"));
        assert!(
            unit.contains("ExecStart=/opt/tmkms/0.15.0/tmkms start -c /data"),
            "{unit}"
        );
        host.kmsctl(&plan).exits(0);
        host.kmsctl(&["rollback", "--yes"]).exits(0);
        host.kmsctl(&plan).exits(10);
    }
}

#[test]
fn a_binary_that_is_changed_after_the_plan_is_seen() {
    let host = Host::of("commercio");
    host.write("opt/tmkms", "no program");
    host.kmsctl(&same(&["--suffix", "v3", "--binary", "/opt/tmkms"]))
        .exits(10);
    host.write("opt/tmkms", "another");
    host.kmsctl(&["stage", "--yes"])
        .exits(3)
        .says(&["/opt/tmkms: another binary is there now"]);
}

#[test]
fn paths_that_can_t_be_taken() {
    let host = Host::of("commercio");
    let plan = ["plan", "--new-chain", "commercio-3"];
    for (flag, path, exit, words) in [
        ("--binary", "tmkms", 2, "absolute path"),
        ("--binary", "/opt/../tmkms", 2, "absolute path"),
        ("--config-dir", "new", 2, "absolute path"),
        ("--config-dir", "/etc/tmkms", 3, "make the folder first"),
    ] {
        host.kmsctl(&[&plan[..], &[flag, path]].concat())
            .exits(exit)
            .says(&[path, words]);
    }
}

#[test]
fn new_configs_in_a_folder_of_their_own() {
    let host = Host::of("commercio");
    std::fs::create_dir_all(host.path("etc/tmkms")).unwrap();
    host.link("etc/kms", "/etc/tmkms");
    let plan = [
        "plan",
        "--new-chain",
        "commercio-3",
        "--config-dir",
        "/etc/kms",
    ];
    host.kmsctl(&plan).exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    let unit = host.read(&format!("{UNITS}/tmkms-01.v3.service"));
    assert!(unit.contains("-c /etc/tmkms/tmkms.01.v3.toml\n"), "{unit}");
    assert!(host.path("etc/tmkms/tmkms.03.v3.toml").is_file());
    host.kmsctl(&[&plan[..], &["--detailed-exitcode"]].concat())
        .exits(0);
}
