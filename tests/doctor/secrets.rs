//! Who else reads keys and passwords.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::access::list;
use crate::support::{CONFIGS, Host};
use crate::{SEED, accounts, check, doctor, finds, mode, sound};

#[test]
fn secrets() {
    let host = sound();
    let key = format!("{CONFIGS}/secret_connection01.key");
    host.write(&key, SEED);
    let mode =
        |mode| fs::set_permissions(host.path(&key), fs::Permissions::from_mode(mode)).unwrap();
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    mode(0o600);
    let report = doctor(&host, &[], 0);
    assert_eq!(check(&report, "secrets")["judged"], "whole");
    mode(0o604);
    let says = [
        "the connection's key can be read by everybody",
        &format!("`chmod go-rwx /{key}`"),
    ];
    finds(
        &doctor(&host, &[], 0),
        "secrets",
        "warn",
        "secret-exposed",
        &says,
    );
    // Nobody else comes to it.
    fs::set_permissions(host.path(CONFIGS), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(
        check(&doctor(&host, &[], 0), "secrets")["findings"],
        json!([])
    );
    // A config that holds a password is a secret as well.
    let host = sound();
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!("{CONFIGS}/tmkms.03.toml");
    host.edit(
        &config,
        "password_file = \"/data_tmkms/tmkms/kms/password\"",
        "password = \"made-up-and-inline\"",
    );
    fs::set_permissions(host.path(&config), fs::Permissions::from_mode(0o644)).unwrap();
    let report = doctor(&host, &[], 0);
    finds(
        &report,
        "secrets",
        "warn",
        "secret-exposed",
        &["the config can be read by everybody"],
    );
    assert!(!report.to_string().contains("made-up-and-inline"));
}

/// A host whose unit's user has the runner's uid, and a key file, closed; and who else may read what is open to a group.
fn with_key(at: &str) -> Host {
    let host = sound();
    for folder in [
        "",
        "data_tmkms",
        "data_tmkms/tmkms",
        "data_tmkms/tmkms/kms",
        CONFIGS,
    ] {
        mode(&host, folder, 0o755);
    }
    host.write(at, SEED);
    mode(&host, at, 0o600);
    host
}

fn exposed(host: &Host) -> Vec<Value> {
    let said = host.kmsctl(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let findings = check(&report, "secrets")["findings"].as_array().unwrap();
    findings.clone()
}

#[test]
fn a_secret_behind_a_link_is_judged_where_it_is() {
    let key = "vault/one.key";
    let host = with_key(key);
    let named = format!("{CONFIGS}/secret_connection01.key");
    host.link(&named, "/vault/one.key");
    assert!(exposed(&host).is_empty());
    mode(&host, key, 0o604);
    let found = exposed(&host);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["path"], "/vault/one.key");
    assert!(found[0].to_string().contains(&format!("names /{named}")));
    // By whom the folder it lies in lets in.
    mode(&host, "vault", 0o700);
    assert!(exposed(&host).is_empty());
}

#[test]
fn a_group_s_other_members_read_it() {
    let key = format!("{CONFIGS}/secret_connection01.key");
    let host = with_key(&key);
    mode(&host, &key, 0o640);
    let user = host.read("etc/passwd");
    assert!(exposed(&host).is_empty(), "its user is alone in the group");
    let gid = rustix::process::getgid().as_raw();
    host.write(
        "etc/passwd",
        &format!("{user}alice:x:4001:4001::/:/bin/sh\n"),
    );
    assert!(exposed(&host).is_empty());
    host.write("etc/group", &format!("tmkms:x:{gid}:alice,tmkms\n"));
    let found = exposed(&host);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].to_string().contains("the group tmkms (alice)"));
    // Whose own group it is, is a member as well.
    host.write("etc/group", &format!("tmkms:x:{gid}:\n"));
    host.write(
        "etc/passwd",
        &format!("{user}alice:x:4001:{gid}::/:/bin/sh\n"),
    );
    assert!(exposed(&host)[0].to_string().contains("(alice)"));
    mode(&host, CONFIGS, 0o700);
    assert!(exposed(&host).is_empty(), "alice doesn't come to it");
    // The group of a list is the file's own as well.
    mode(&host, CONFIGS, 0o755);
    mode(&host, &key, 0o600);
    list(&host, &key, (0x02, 0, 3997), 4);
    let found = exposed(&host);
    assert!(found[0].to_string().contains("(alice)"), "{found:#?}");
    let remedy = found[0]["remedy"].as_str().unwrap();
    assert!(remedy.contains("setfacl -b"), "{remedy}");
    list(&host, &key, (0x02, 0, 3997), 0);
    assert!(exposed(&host).is_empty());
}

#[test]
fn an_owner_that_is_neither_root_nor_the_signer_s_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let key = format!("{CONFIGS}/secret_connection01.key");
    let host = with_key(&key);
    accounts(&host, 3999);
    let owned = |uid| {
        std::os::unix::fs::chown(host.path(&key), Some(uid), None).unwrap();
        exposed(&host)
    };
    assert!(owned(3999).is_empty());
    assert!(owned(0).is_empty());
    let found = owned(3998);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].to_string().contains("its owner 3998"));
    let remedy = found[0]["remedy"].as_str().unwrap();
    assert!(remedy.starts_with("`chown tmkms /"), "{remedy}");
}

#[test]
fn a_user_of_the_moment_is_told_from_nobody() {
    let key = format!("{CONFIGS}/secret_connection01.key");
    let host = with_key(&key);
    host.edit(
        "etc/systemd/system/tmkms-01.service",
        "User=tmkms",
        "User=tmkms\nDynamicUser=yes",
    );
    mode(&host, &key, 0o640);
    let report = doctor(&host, &[], 0);
    let secrets = check(&report, "secrets");
    assert_eq!(
        (&secrets["judged"], &secrets["findings"]),
        (&json!("in_part"), &json!([]))
    );
    assert!(
        secrets["unjudged"]
            .as_str()
            .unwrap()
            .contains("DynamicUser=")
    );
    mode(&host, &key, 0o644);
    assert_eq!(exposed(&host).len(), 1);
}
