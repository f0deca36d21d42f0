//! Names and paths that can't be: too long, not UTF-8. Git keeps them badly, so they are made here.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use support::Host;

const PLAN: [&str; 3] = ["plan", "--new-chain", "haqq_11235-2"];
const UNIT: &str = "etc/systemd/system/tmkms.service";
const CONFIG: &str = "/root/tmkms/config/tmkms.toml";

/// A plan that is refused, in words, and after which nothing has been written and nothing can be.
#[track_caller]
fn refused(host: &Host, code: i32, says: &[&str]) {
    let before = host.tree();
    let said = host.kmsctl(&PLAN).exits(code).says(says);
    assert!(
        !said.all().contains(host.root().to_str().unwrap()),
        "{said:?}"
    );
    for verb in ["stage", "apply"] {
        let said = host.kmsctl(&[verb, "--yes"]);
        assert_ne!(said.code, 0, "{verb}: {said:?}");
    }
    assert_eq!(host.tree(), before);
}

fn not_utf_8(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// The fixture's host with its config under another name in its folder.
fn renamed(name: &str) -> Host {
    let host = Host::of("haqq");
    let folder = host.path("root/tmkms/config");
    fs::rename(folder.join("tmkms.toml"), folder.join(name)).unwrap();
    host.edit(UNIT, CONFIG, &format!("/root/tmkms/config/{name}"));
    host
}

#[test]
fn a_path_of_4096_bytes() {
    let host = Host::of("haqq");
    let folder = format!("/{}", "a".repeat(199)).repeat(20);
    let path = format!("{folder}/{}.toml", "b".repeat(4096 - folder.len() - 6));
    assert_eq!(path.len(), 4096);
    host.edit(UNIT, CONFIG, &path);
    let says = [
        "block[config-unreadable] /etc/systemd/system/tmkms.service:6:",
        path.as_str(),
        "File name too long",
        "put the config there",
    ];
    refused(&host, 3, &says);
}

#[test]
fn a_new_config_whose_name_would_be_too_long() {
    // 243 bytes are the most that leave room for the temporary name; `.v2` takes three.
    let fits = renamed(&format!("{}.toml", "b".repeat(235)));
    fits.kmsctl(&PLAN).exits(0);
    fits.kmsctl(&["stage", "--yes"]).exits(0);
    let name = format!("{}.toml", "b".repeat(236));
    let says = [
        &format!("block[name-taken] /root/tmkms/config/{name}"),
        "would be 244 bytes long",
        "--suffix",
    ];
    refused(&renamed(&name), 3, &says);
}

#[test]
fn a_new_unit_whose_name_would_be_too_long() {
    let with = |length: usize| {
        let host = Host::of("haqq");
        let name = format!("{}.service", "t".repeat(length - 8));
        let wants = "etc/systemd/system/multi-user.target.wants";
        fs::rename(
            host.path(UNIT),
            host.path(&format!("etc/systemd/system/{name}")),
        )
        .unwrap();
        host.remove(&format!("{wants}/tmkms.service"));
        host.link(
            &format!("{wants}/{name}"),
            &format!("/etc/systemd/system/{name}"),
        );
        (host, name)
    };
    let (fits, _) = with(233);
    fits.kmsctl(&PLAN).exits(0);
    fits.kmsctl(&["apply", "--yes"]).exits(0);
    let (host, name) = with(234);
    let says = [
        &format!("block[name-taken] /etc/systemd/system/{name}"),
        "would be 237 bytes long",
        "--suffix",
    ];
    refused(&host, 3, &says);
}

#[test]
fn a_unit_that_names_its_config_in_another_encoding() {
    let host = Host::of("haqq");
    let text = fs::read(host.path(UNIT)).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, tail) = text.split_once("config/tmkms").unwrap();
    let bytes = [head.as_bytes(), b"config/\xfcmkms", tail.as_bytes()].concat();
    fs::write(host.path(UNIT), bytes).unwrap();
    let says = [
        "block[unit-unreadable]",
        "/etc/systemd/system/tmkms.service isn't UTF-8",
        "mend the unit",
    ];
    refused(&host, 3, &says);
}

#[test]
fn a_link_to_a_folder_whose_name_is_not_utf_8() {
    for (folder, says) in [
        (
            "root/tmkms/config",
            [
                "block[config-unreadable] /etc/systemd/system/tmkms.service:6:",
                "/root/tmkms/\u{fffd}, a name that isn't UTF-8",
                "rename it",
            ],
        ),
        (
            "root/tmkms/config/state",
            [
                "block[state-unreadable] /root/tmkms/config/state/priv_validator_state.json",
                "/root/tmkms/config/\u{fffd}/priv_validator_state.json, a name that isn't UTF-8",
                "rename it",
            ],
        ),
    ] {
        let host = Host::of("haqq");
        let folder = host.path(folder);
        fs::rename(&folder, folder.with_file_name(not_utf_8(b"\xff"))).unwrap();
        symlink(not_utf_8(b"\xff"), folder).unwrap();
        refused(&host, 3, &says);
    }
}

#[test]
fn a_drop_in_whose_name_is_not_utf_8() {
    let host = Host::of("haqq");
    let folder = host.path("etc/systemd/system/tmkms.service.d");
    fs::create_dir(&folder).unwrap();
    let drop_in = "[Service]\nExecStart=\nExecStart=/root/.cargo/bin/tmkms start -c /other.toml\n";
    fs::write(folder.join(not_utf_8(b"\xff.conf")), drop_in).unwrap();
    let says = [
        "/etc/systemd/system/tmkms.service.d/\u{fffd}.conf",
        "isn't UTF-8",
        "rename it",
    ];
    refused(&host, 1, &says);
}

#[test]
fn a_file_beside_whose_name_is_not_utf_8_is_nobody_s_business() {
    let host = Host::of("haqq");
    for folder in ["etc/systemd/system", "root/tmkms/config"] {
        fs::write(host.path(folder).join(not_utf_8(b"tmkms\xff.service")), "x").unwrap();
    }
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
}
