//! Bad input: each is a sentence with the full path, the reason and the next step, the right exit code, and nothing
//! written outside kmsctl's own folder.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use support::{CONFIGS, Host, UNITS};

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];

/// Runs a plan that must be refused, and checks that nothing changed.
#[track_caller]
fn refused(host: &Host, words: &[&str], says: &[&str]) {
    let before = host.tree();
    host.kmsctl(words).exits(3).says(says);
    assert_eq!(host.tree(), before, "nothing is written");
    if words[0] == "plan" && host.path("var/lib/kmsctl/plan.json").exists() {
        // A saved plan keeps its findings: apply repeats them.
        host.kmsctl(&["apply", "--yes"]).exits(3).says(&says[..1]);
        assert_eq!(host.tree(), before, "nothing is written by apply either");
    }
}

fn state(n: u8) -> String {
    format!("{CONFIGS}/commercio_priv_validator_state0{n}.json")
}

fn config(n: u8) -> String {
    format!("{CONFIGS}/tmkms.0{n}.toml")
}

fn unit(n: u8) -> String {
    format!("{UNITS}/tmkms-0{n}.service")
}

#[test]
fn a_config_that_is_not_toml() {
    let host = Host::of("commercio");
    host.edit(&config(2), "[[validator]]", "[[validator]");
    refused(
        &host,
        &PLAN,
        &[
            "block[config-invalid] /data_tmkms/tmkms/kms/commercio/tmkms.02.toml:6:",
            "mend",
        ],
    );
}

#[test]
fn a_config_that_is_not_utf_8() {
    let host = Host::of("commercio");
    std::fs::write(host.path(&config(2)), b"id = \"\xff\xfe\"\n").unwrap();
    refused(
        &host,
        &PLAN,
        &[
            "block[config-unreadable] /etc/systemd/system/tmkms-02.service:8:",
            "UTF-8",
        ],
    );
}

#[test]
fn a_unit_without_its_config() {
    let host = Host::of("commercio");
    host.remove(&config(3));
    let says = [
        "/etc/systemd/system/tmkms-03.service:8:",
        "tmkms.03.toml, which can't be read",
        "put the config there",
    ];
    refused(&host, &PLAN, &says);
}

#[test]
fn a_retired_unit_without_its_config_only_warns() {
    let host = Host::of("commercio");
    host.remove(&config(3));
    host.remove(&format!("{UNITS}/multi-user.target.wants/tmkms-03.service"));
    host.kmsctl(&PLAN)
        .exits(0)
        .says(&["warn[config-unreadable]"]);
}

#[test]
fn a_config_named_by_two_units() {
    let host = Host::of("commercio");
    host.edit(&unit(2), "tmkms.02.toml", "tmkms.01.toml");
    refused(
        &host,
        &PLAN,
        &[
            "block[config-shared] /data_tmkms/tmkms/kms/commercio/tmkms.01.toml",
            "disable and stop one",
        ],
    );
}

#[test]
fn a_state_file_that_is_missing_empty_or_garbled() {
    for (bytes, says) in [
        (None, "the state file is missing"),
        (Some(""), "can't be read"),
        (Some("{\"height\":\"22"), "can't be read"),
        (
            Some("{\"height\":2233550,\"round\":\"0\",\"step\":2,\"block_id\":null}"),
            "can't be read",
        ),
        (
            Some(
                "{\"height\":\"1\",\"height\":\"2\",\"round\":\"0\",\"step\":2,\"block_id\":null}",
            ),
            "can't be read",
        ),
    ] {
        let host = Host::of("commercio");
        match bytes {
            None => host.remove(&state(1)),
            Some(bytes) => host.write(&state(1), bytes),
        }
        let path = "block[state-unreadable] /data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state01.json";
        refused(&host, &PLAN, &[path, says]);
    }
}

#[test]
fn a_linked_state_file() {
    let host = Host::of("commercio");
    let text = host.read(&state(1));
    host.remove(&state(1));
    host.write("elsewhere.json", &text);
    host.link(&state(1), "/elsewhere.json");
    refused(&host, &PLAN, &["block[state-linked]", "symbolic link"]);
}

#[test]
fn no_signer() {
    let host = Host::of("commercio");
    for n in 1..=3 {
        host.remove(&unit(n));
        host.remove(&format!(
            "{UNITS}/multi-user.target.wants/tmkms-0{n}.service"
        ));
    }
    refused(&host, &PLAN, &["no signer found", "--root"]);
}

#[test]
fn a_chain_that_no_signer_or_several_sign() {
    let host = Host::of("commercio");
    refused(
        &host,
        &["plan", "--new-chain", "haqq_11235-2"],
        &["they sign: commercio-2_2", "--from-chain"],
    );
    let host = Host::of("commercio");
    host.edit(&config(3), "commercio-2_2", "commercio-1");
    refused(
        &host,
        &PLAN,
        &["commercio-1, commercio-2_2", "--from-chain"],
    );
    refused(
        &host,
        &[
            "plan",
            "--new-chain",
            "commercio-3",
            "--from-chain",
            "other-1",
        ],
        &["no signer signs"],
    );
    refused(
        &host,
        &["plan", "--new-chain", "commercio-3", "--signer", "tmkms-09"],
        &["--signer tmkms-09", "tmkms-01"],
    );
    host.kmsctl(&[&PLAN[..], &["--from-chain", "commercio-2_2"]].concat())
        .exits(0);
}

#[test]
fn an_id_without_a_revision_or_not_an_id() {
    let host = Host::of("commercio");
    refused(
        &host,
        &[
            "plan",
            "--new-chain",
            "commercio",
            "--from-chain",
            "commercio-2_2",
        ],
        &["no revision", "--suffix"],
    );
    host.kmsctl(&["plan", "--new-chain", "a b"]).exits(2);
    host.kmsctl(&[
        "plan",
        "--new-chain",
        "commercio-3",
        "--accept",
        "key-shared",
    ])
    .exits(2);
}

#[test]
fn a_file_in_the_way() {
    let host = Host::of("commercio");
    host.write(&format!("{CONFIGS}/tmkms.02.v3.toml"), "# mine\n");
    let says = [
        "block[file-in-the-way] /data_tmkms/tmkms/kms/commercio/tmkms.02.v3.toml",
        "never overwritten",
    ];
    refused(&host, &PLAN, &says);
}

#[test]
fn a_link_or_a_folder_where_a_file_should_be() {
    let host = Host::of("commercio");
    host.link(&format!("{UNITS}/tmkms-02.v3.service"), "/somewhere/else");
    refused(
        &host,
        &PLAN,
        &[
            "block[not-a-file] /etc/systemd/system/tmkms-02.v3.service",
            "a link to",
        ],
    );
    let host = Host::of("commercio");
    std::fs::create_dir(host.path(&format!("{CONFIGS}/tmkms.02.v3.toml"))).unwrap();
    refused(&host, &PLAN, &["block[not-a-file]", "a folder"]);
}

#[test]
fn a_new_state_file_that_no_journal_knows() {
    let host = Host::of("commercio");
    let new = format!("{CONFIGS}/commercio_priv_validator_state02.v3.json");
    host.write(
        &new,
        r#"{"height":"77","round":"0","step":2,"block_id":null}"#,
    );
    refused(
        &host,
        &PLAN,
        &[
            "block[state-unknown]",
            "at 77/0/2",
            "--accept state-unknown",
        ],
    );
    host.kmsctl(&[&PLAN[..], &["--accept", "state-unknown"]].concat())
        .exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    assert!(host.read(&new).contains("77"), "it is kept as it is");
}

#[test]
fn one_key_in_two_signers() {
    let host = Host::of("commercio");
    host.edit(&config(2), "key = 2 }]", "key = 1 }]");
    let says = [
        "block[key-shared] /data_tmkms/tmkms/kms/commercio/tmkms.01.toml",
        "YubiHSM 9876543210 key 1",
    ];
    refused(&host, &PLAN, &says);
}

#[test]
fn one_state_file_in_two_signers() {
    let host = Host::of("commercio");
    host.edit(&config(2), "state02.json", "state01.json");
    refused(
        &host,
        &PLAN,
        &["block[state-shared]", "state01.json", "tmkms-02.service"],
    );
}

#[test]
fn a_laggard() {
    let host = Host::of("commercio");
    host.edit(&state(3), "2233550", "2233540");
    let says = [
        "block[laggard]",
        "state03.json: tmkms-03 is at height 2233540, 10 blocks behind",
    ];
    refused(&host, &PLAN, &says);
    host.kmsctl(&[&PLAN[..], &["--max-spread", "10"]].concat())
        .exits(0);
}

#[test]
fn without_a_terminal_the_error_names_yes() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    let before = host.tree();
    host.kmsctl(&["apply"]).exits(2).says(&["--yes"]);
    assert_eq!(host.tree(), before);
}

#[test]
fn a_root_that_is_none_and_links_that_lead_out_of_it() {
    let host = Host::of("commercio");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kmsctl"))
        .args(["--root", "/nonexistent/host", "status"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/host"));

    let outside = tempfile::tempdir().unwrap();
    host.link("var", outside.path().to_str().unwrap());
    host.kmsctl(&PLAN).exits(1).says(&["/var is a link"]);
    assert_eq!(
        std::fs::read_dir(outside.path()).unwrap().count(),
        0,
        "nothing outside the root"
    );
}

#[test]
fn a_fleet_behind_a_linked_folder_stays_below_the_root() {
    let host = Host::of("commercio");
    std::fs::rename(host.path("data_tmkms"), host.path("srv")).unwrap();
    // Absolute, as operators make them: it means the host's /srv, not the machine's.
    host.link("data_tmkms", "/srv");
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    assert!(
        host.path("srv/tmkms/kms/commercio/tmkms.01.v3.toml")
            .is_file()
    );
}

#[test]
fn a_unit_that_systemd_would_only_warn_about() {
    let host = Host::of("commercio");
    host.edit(&unit(2), "Restart=always", "Restart");
    refused(
        &host,
        &PLAN,
        &[
            "block[unit-unreadable]",
            "/etc/systemd/system/tmkms-02.service",
            "line 9",
        ],
    );
    host.kmsctl(&["status"]).exits(0).says(&["unit-unreadable"]);
    // A unit that only mentions tmkms and neither runs nor is enabled is no reason to stop.
    let host = Host::of("commercio");
    host.write(
        &format!("{UNITS}/other.service"),
        "[Service]\nnot a setting, and tmkms\n",
    );
    host.kmsctl(&PLAN).exits(0).says(&["warn[unit-unreadable]"]);
}

#[test]
fn one_connector_is_one_device_whatever_serial_is_claimed() {
    let host = Host::of("commercio");
    host.edit(&config(2), "key = 2 }]", "key = 1 }]");
    host.edit(&config(2), "9876543210", "0123456789");
    refused(&host, &PLAN, &["block[key-shared]"]);
}

#[test]
fn one_state_file_by_two_names() {
    for spelling in [
        "/data_tmkms/alias",
        "/data_tmkms/tmkms/kms/commercio/../commercio",
    ] {
        let host = Host::of("commercio");
        host.link("data_tmkms/alias", "tmkms/kms/commercio");
        let name = "commercio_priv_validator_state01.json";
        let old = "/data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state02.json";
        host.edit(&config(2), old, &format!("{spelling}/{name}"));
        refused(&host, &PLAN, &["block[state-shared]", name]);
    }
}

#[test]
fn links_in_kmsctl_s_own_folder() {
    for name in ["operations", "lock", "plan.json"] {
        let host = Host::of("commercio");
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host.path("var/lib/kmsctl")).unwrap();
        let target = outside.path().join("x");
        if name == "operations" {
            std::fs::create_dir(&target).unwrap();
        }
        host.link(&format!("var/lib/kmsctl/{name}"), target.to_str().unwrap());
        host.kmsctl(&PLAN);
        host.kmsctl(&["stage", "--yes"])
            .exits(1)
            .says(&[&format!("/var/lib/kmsctl/{name} is a link")]);
        let left: Vec<_> = walk(outside.path());
        assert!(left.is_empty(), "{name}: {left:?} outside the root");
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path))
        } else {
            files.push(path)
        }
    }
    files
}
