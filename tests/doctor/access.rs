//! What the users of units can do, by the rights of a real filesystem.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{CONFIGS, Host, UNITS};
use crate::{SEED, accounts, check, doctor, finds, mode, sound};

#[test]
fn whose_user_is_unknown_is_not_judged() {
    let host = Host::of("commercio");
    let report = doctor(&host, &[], 0);
    assert_eq!(
        check(&report, "access")["unjudged"],
        "the user tmkms isn't in /etc/passwd"
    );
    host.edit(
        &format!("{UNITS}/tmkms-01.service"),
        "User=tmkms",
        "User=root",
    );
    let report = doctor(&host, &[], 0);
    assert_eq!(check(&report, "access")["judged"], "in_part");
    let host = sound();
    host.edit(
        &format!("{UNITS}/tmkms-01.service"),
        "User=tmkms",
        "User=tmkms\nDynamicUser=yes",
    );
    let report = doctor(&host, &[], 0);
    assert!(
        check(&report, "access")
            .to_string()
            .contains("DynamicUser=")
    );
}

#[test]
fn access() {
    let host = sound();
    accounts(&host, 3999);
    let config = host.path(&format!("{CONFIGS}/tmkms.02.toml"));
    let mode = |mode| fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
    // Another's files: readable, and none of their folders to be written in.
    fs::set_permissions(host.path(CONFIGS), fs::Permissions::from_mode(0o755)).unwrap();
    let report = doctor(&host, &[], 3);
    let says = [
        "can't write in this folder (0755 ",
        "the state file's folder",
        &format!("`chmod g+wx /{CONFIGS}`"),
    ];
    finds(&report, "access", "block", "access-denied", &says);
    assert!(!report.to_string().contains("can't read it"), "{report}");
    mode(0o600);
    let says = [
        "tmkms, as whom tmkms-02.service runs, can't read it (0600 ",
        "the config",
        &format!("`chmod g+r /{CONFIGS}/tmkms.02.toml`"),
    ];
    finds(
        &doctor(&host, &[], 3),
        "access",
        "block",
        "access-denied",
        &says,
    );
    // The same is in a plan's way.
    let plan = ["plan", "--new-chain", "commercio-3"];
    host.kmsctl(&plan)
        .exits(3)
        .says(&["block[access-denied]", "can't read it"]);
    host.kmsctl(&[&plan[..], &["--signer", "tmkms-01", "--json"]].concat())
        .exits(3);
    // Without the group, the file is to be given away.
    host.edit(
        "etc/passwd",
        &format!(":{}::", rustix::process::getgid().as_raw()),
        ":3999::",
    );
    mode(0o600);
    let says = [
        "can't read it",
        &format!("`chown tmkms /{CONFIGS}/tmkms.02.toml`"),
    ];
    finds(
        &doctor(&host, &[], 3),
        "access",
        "block",
        "access-denied",
        &says,
    );
    // A folder on the way.
    let folder = host.path("data_tmkms");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let says = [
        "can't pass this folder (0700 ",
        "the config /data_tmkms",
        "`chmod o+x /data_tmkms`",
    ];
    finds(
        &doctor(&host, &[], 3),
        "access",
        "block",
        "access-denied",
        &says,
    );
    // A group of the unit's own counts.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o710)).unwrap();
    let gid = rustix::process::getgid().as_raw();
    for number in ["01", "02", "03"] {
        host.edit(
            &format!("{UNITS}/tmkms-{number}.service"),
            "User=tmkms",
            &format!("User=tmkms\nGroup={gid}"),
        );
    }
    let report = doctor(&host, &[], 3);
    assert!(!report.to_string().contains("can't pass"), "{report}");
}

/// Gives one more user rights on a file, as `setfacl -m u:UID:RIGHTS` does.
pub fn grant(host: &Host, path: &str, uid: u32, rights: u16) {
    list(host, path, (0x02, rights, uid), 0);
}

/// Gives a file an access control list: its owner's, its group's, one other's.
pub fn list(host: &Host, path: &str, other: (u16, u16, u32), group: u16) {
    let entries: [(u16, u16, u32); 5] = [
        (0x01, 6, u32::MAX),
        other,
        (0x04, group, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 0, u32::MAX),
    ];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let (name, flags) = ("system.posix_acl_access", rustix::fs::XattrFlags::empty());
    rustix::fs::setxattr(host.path(path), name, &list, flags)
        .expect("the temporary folder's filesystem keeps access control lists");
}

#[test]
fn access_control_lists_of_a_real_filesystem() {
    let host = sound();
    accounts(&host, 3999);
    // Not by its group either.
    let groups = host.read("etc/passwd");
    let gid = rustix::process::getgid().as_raw();
    host.write(
        "etc/passwd",
        &groups.replace(&format!(":{gid}::"), ":3999::"),
    );
    host.write("etc/group", "kms:x:3999:\n");
    for folder in [
        "",
        "data_tmkms",
        "data_tmkms/tmkms",
        "data_tmkms/tmkms/kms",
        CONFIGS,
    ] {
        fs::set_permissions(host.path(folder), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let config = format!("{CONFIGS}/tmkms.02.toml");
    fs::set_permissions(host.path(&config), fs::Permissions::from_mode(0o600)).unwrap();
    let denied = |host: &Host, code| {
        let report = doctor(host, &[], code);
        let access = check(&report, "access")["findings"].as_array().unwrap();
        let mut about = access
            .iter()
            .filter(|f| f["path"] == format!("/{config}") && f["code"] == "access-denied");
        about.next().map(Value::to_string)
    };
    assert!(denied(&host, 3).unwrap().contains("chown tmkms"));
    grant(&host, &config, 3999, 4);
    assert_eq!(denied(&host, 0), None, "the list lets it read");
    grant(&host, &config, 3999, 0);
    let still = denied(&host, 3).unwrap();
    assert!(
        still.contains(&format!("`setfacl -m u:tmkms:r /{config}`")),
        "{still}"
    );
    grant(&host, &config, 3998, 4);
    assert!(denied(&host, 3).is_some(), "it is another's right");
    // A key that the list shows to a second user is exposed.
    let key = format!("{CONFIGS}/secret_connection01.key");
    host.write(&key, SEED);
    fs::set_permissions(host.path(&key), fs::Permissions::from_mode(0o600)).unwrap();
    let exposed = |report: &Value| {
        check(report, "secrets")
            .to_string()
            .contains("secret-exposed")
    };
    assert!(!exposed(&doctor(&host, &[], 3)));
    grant(&host, &key, 3997, 4);
    assert!(exposed(&doctor(&host, &[], 3)));
}

/// Everybody's but the unit's user's: the runner's own.
fn of_another(user: &str) -> Host {
    let host = sound();
    host.write("etc/passwd", &format!("{user}\n"));
    host.write("etc/group", "kms:x:3999:\n");
    for folder in ["", "etc", CONFIGS] {
        mode(&host, folder, 0o777);
    }
    host
}

fn about<'a>(report: &'a Value, path: &str) -> Vec<&'a Value> {
    let findings = check(report, "access")["findings"].as_array().unwrap();
    findings.iter().filter(|f| f["path"] == path).collect()
}

#[test]
fn each_folder_on_the_way_is_passed_links_and_all() {
    let host = of_another("tmkms:x:3999:3999::/:/bin/false");
    let config = format!("{CONFIGS}/tmkms.02.toml");
    let named = "/hop/over/inner/password";
    host.edit(&config, "/data_tmkms/tmkms/kms/password", named);
    fs::create_dir_all(host.path("hop")).unwrap();
    fs::create_dir_all(host.path("open/deep/inner")).unwrap();
    host.link("hop/over", "/open/deep");
    host.write("open/deep/inner/password", "made-up-and-on-the-way\n");
    assert!(about(&doctor(&host, &[], 0), "/hop").is_empty());
    // Where the link stands is no part of where it leads.
    mode(&host, "hop", 0o700);
    let report = doctor(&host, &[], 3);
    let found = about(&report, "/hop");
    assert_eq!(found.len(), 1, "{report:#}");
    assert_eq!(found[0]["remedy"], "`chmod o+x /hop`");
    mode(&host, "hop", 0o711);
    mode(&host, "open/deep", 0o700);
    let report = doctor(&host, &[], 3);
    assert_eq!(about(&report, "/open/deep").len(), 1, "{report:#}");
    mode(&host, "open/deep", 0o711);
    doctor(&host, &[], 0);
    // A link to itself ends somewhere.
    host.remove("hop/over");
    host.link("hop/over", "over");
    let report = doctor(&host, &[], 0);
    let unjudged = check(&report, "access")["unjudged"].as_str().unwrap();
    assert!(unjudged.contains(named), "{unjudged}");
}

#[test]
fn a_number_is_the_account_that_has_it() {
    let gid = rustix::process::getgid().as_raw();
    let host = of_another("tmkms:x:3999:3999::/:/bin/false");
    host.write("etc/group", &format!("kms:x:{gid}:tmkms\n"));
    let unit = format!("{UNITS}/tmkms-02.service");
    host.edit(&unit, "User=tmkms", "User=3999");
    let config = format!("{CONFIGS}/tmkms.02.toml");
    mode(&host, &config, 0o640);
    let report = doctor(&host, &[], 0);
    assert_eq!(check(&report, "access")["judged"], "whole", "{report:#}");
    host.write("etc/group", "kms:x:3999:\n");
    assert_eq!(
        about(&doctor(&host, &[], 3), &format!("/{config}")).len(),
        1
    );
    // systemd starts nothing as a number that is nobody's.
    host.edit(&unit, "User=3999", "User=3998");
    let report = doctor(&host, &[], 0);
    let unjudged = check(&report, "access")["unjudged"].as_str().unwrap();
    assert_eq!(unjudged, "the user 3998 isn't in /etc/passwd");
}

#[test]
fn root_runs_nothing_that_nobody_may_run() {
    let host = sound();
    for number in ["01", "02", "03"] {
        let unit = format!("{UNITS}/tmkms-{number}.service");
        host.edit(&unit, "User=tmkms", "User=root");
    }
    let program = "data_tmkms/tmkms/.cargo/bin/tmkms";
    host.program(program);
    assert_eq!(check(&doctor(&host, &[], 0), "access")["judged"], "whole");
    // A folder asks nothing of root.
    mode(&host, "data_tmkms/tmkms/.cargo", 0o600);
    doctor(&host, &[], 0);
    mode(&host, "data_tmkms/tmkms/.cargo", 0o755);
    mode(&host, program, 0o644);
    let report = doctor(&host, &[], 3);
    let found = about(&report, &format!("/{program}"));
    assert_eq!(found.len(), 3, "{report:#}");
    assert_eq!(found[0]["remedy"], format!("`chmod u+x /{program}`"));
}

#[test]
fn a_state_file_of_another_s_in_a_sticky_folder_can_t_be_replaced() {
    let host = of_another("tmkms:x:3999:3999::/:/bin/false");
    doctor(&host, &[], 0);
    mode(&host, CONFIGS, 0o1777);
    let report = doctor(&host, &[], 3);
    let state = format!("/{CONFIGS}/commercio_priv_validator_state01.json");
    let found = about(&report, &state);
    assert_eq!(found.len(), 1, "{report:#}");
    assert_eq!(found[0]["remedy"], format!("`chown tmkms {state}`"));
    assert!(found[0].to_string().contains("sticky"), "{found:?}");
    // Nor is it in the new unit's way: its state file isn't there yet.
    let said = host
        .kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(3);
    assert!(!said.all().contains("v3.json: "), "{said:?}");
}

#[test]
fn no_remedy_changes_the_system_s_own_folders() {
    let host = of_another("tmkms:x:3999:3999::/:/bin/false");
    let config = format!("{CONFIGS}/tmkms.02.toml");
    let password = "/data_tmkms/tmkms/kms/password";
    for folder in ["etc", "usr/share/kms", "var/lib", "root", "home"] {
        fs::create_dir_all(host.path(folder)).unwrap();
        host.write(&format!("{folder}/password"), "made-up-and-out-of-place\n");
        let place = format!("/{folder}/password");
        host.edit(&config, password, &place);
        mode(&host, folder, 0o700);
        let report = doctor(&host, &[], 3);
        let found = about(&report, &format!("/{folder}"));
        assert_eq!(found.len(), 1, "{report:#}");
        let remedy = found[0]["remedy"].as_str().unwrap();
        assert!(!remedy.contains("ch") || !remedy.contains('`'), "{remedy}");
        assert!(remedy.contains("elsewhere"), "{remedy}");
        mode(&host, folder, 0o755);
        host.edit(&config, &place, password);
    }
    mode(&host, "", 0o700);
    let report = doctor(&host, &[], 3);
    assert!(!report.to_string().contains("`ch"), "{report:#}");
}
