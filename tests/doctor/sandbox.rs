//! What a unit's own view of the files takes from its process (systemd.exec(5)).

use std::fs;

use serde_json::Value;

use crate::support::{CONFIGS, Host, UNITS};
use crate::{check, doctor, sound};

/// What is in the way with some settings in one unit, and what isn't judged.
fn with(host: &Host, settings: &str) -> (Vec<Value>, String) {
    let unit = format!("{UNITS}/tmkms-01.service");
    let text = host.read(&unit);
    host.edit(&unit, "User=tmkms", &format!("User=tmkms\n{settings}"));
    let said = host.kmsctl(&["doctor", "--json"]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    host.write(&unit, &text);
    let access = check(&report, "access");
    let findings = access["findings"].as_array().unwrap();
    let unjudged = access["unjudged"].as_str().unwrap_or_default();
    let judged = if unjudged.is_empty() {
        "whole"
    } else {
        "in_part"
    };
    assert_eq!(access["judged"], judged, "{settings}: {access}");
    (findings.clone(), unjudged.to_owned())
}

#[test]
fn what_a_unit_makes_read_only_or_hides() {
    let host = sound();
    let folder = format!("/{CONFIGS}");
    let only = "can't write in this folder";
    for (settings, why) in [
        ("ProtectSystem=strict".to_owned(), only),
        (
            format!("ProtectSystem=strict\nReadWritePaths=/data_tmkms\nReadOnlyPaths={folder}"),
            only,
        ),
        (format!("ReadOnlyPaths=-{folder}"), only),
        ("ReadOnlyPaths=/data_tmkms".to_owned(), only),
        // Of both for one path the stricter holds.
        (
            format!("ReadWritePaths={folder}\nReadOnlyPaths={folder}"),
            only,
        ),
        (
            "InaccessiblePaths=/data_tmkms/tmkms/kms".to_owned(),
            "doesn't see it",
        ),
        // Nothing below it is given back.
        (
            format!("InaccessiblePaths=/data_tmkms/tmkms/kms\nReadWritePaths={folder}"),
            "doesn't see it",
        ),
    ] {
        let (findings, unjudged) = with(&host, &settings);
        assert_eq!(unjudged, "", "{settings}");
        let fits = |f: &&Value| {
            let said = f.to_string();
            said.contains(why) && said.contains("tmkms-01.service:")
        };
        assert!(
            findings.iter().any(|f| fits(&f)),
            "{settings}: {findings:#?}"
        );
        assert!(
            findings
                .iter()
                .all(|f| f["code"] == "access-denied" && f["severity"] == "block")
        );
    }
    let (findings, _) = with(&host, "ProtectSystem=strict");
    let said = findings[0].to_string();
    assert!(
        said.contains("(ProtectSystem=strict, /etc/systemd/system/tmkms-01.service:7)"),
        "{said}"
    );
    let remedy = findings[0]["remedy"].as_str().unwrap();
    assert!(
        remedy.contains(&format!("`ReadWritePaths={folder}`")),
        "{remedy}"
    );
}

#[test]
fn what_a_unit_leaves() {
    let host = sound();
    let folder = format!("/{CONFIGS}");
    host.link("lnk", &folder);
    let state = format!("{folder}/commercio_priv_validator_state01.json");
    for settings in [
        "ProtectSystem=yes".to_owned(),
        "ProtectSystem=full\nProtectHome=yes\nPrivateTmp=yes".to_owned(),
        "ProtectSystem=no\nProtectHome=no".to_owned(),
        format!("ProtectSystem=strict\nReadWritePaths={folder}"),
        "ProtectSystem=strict\nReadWritePaths=/data_tmkms".to_owned(),
        "ProtectSystem=strict\nReadWritePaths=/lnk".to_owned(),
        format!("ReadOnlyPaths={folder}\nReadOnlyPaths="),
        format!("ReadOnlyPaths=/data_tmkms\nReadWritePaths={folder}"),
        "InaccessiblePaths=/srv".to_owned(),
        // Says no more of the file than of its folder: systemd leaves it out.
        format!("ProtectSystem=strict\nReadWritePaths={folder} -{state}"),
    ] {
        let (findings, unjudged) = with(&host, &settings);
        assert_eq!(unjudged, "", "{settings}");
        assert!(findings.is_empty(), "{settings}: {findings:#?}");
    }
}

#[test]
fn what_a_unit_does_otherwise_is_said_to_be_unjudged() {
    let host = sound();
    for (settings, says) in [
        ("RootDirectory=/jail", "puts other files in the place"),
        ("BindPaths=/x:/data_tmkms", "it may be another file inside"),
        (
            "TemporaryFileSystem=/data_tmkms",
            "it may be another file inside",
        ),
        ("AppArmorProfile=tmkms", "what AppArmorProfile=tmkms of"),
        ("NoExecPaths=/", "what NoExecPaths=/ of"),
        ("ReadOnlyPaths=/run/%m", "what ReadOnlyPaths=/run/%m of"),
        ("ProtectSystem=perhaps", "what ProtectSystem=perhaps of"),
    ] {
        let (findings, unjudged) = with(&host, settings);
        assert!(unjudged.contains(says), "{settings}: {unjudged}");
        assert!(findings.is_empty(), "{settings}: {findings:#?}");
    }
}

#[test]
fn homes_and_the_unit_s_own_folders() {
    let host = sound();
    let config = format!("{CONFIGS}/tmkms.01.toml");
    let state = format!("{CONFIGS}/commercio_priv_validator_state01.json");
    for folder in ["home/kms", "var/lib/kms"] {
        fs::create_dir_all(host.path(folder)).unwrap();
        host.write(&format!("{folder}/state.json"), &host.read(&state));
    }
    host.edit(&config, &format!("/{state}"), "/home/kms/state.json");
    for (setting, says) in [
        ("ProtectHome=yes", "doesn't see it"),
        ("ProtectHome=read-only", "can't write in this folder"),
        (
            "ProtectSystem=strict\nProtectHome=read-only",
            "can't write in this folder",
        ),
    ] {
        let (findings, _) = with(&host, setting);
        assert!(
            findings.iter().any(|f| f.to_string().contains(says)),
            "{setting}: {findings:#?}"
        );
    }
    let (_, unjudged) = with(&host, "ProtectHome=tmpfs");
    assert!(unjudged.contains("/home/kms/state.json"), "{unjudged}");
    // Homes aren't made read-only by it.
    assert!(with(&host, "ProtectSystem=strict").0.is_empty());
    host.edit(&config, "/home/kms/state.json", "/var/lib/kms/state.json");
    assert!(!with(&host, "ProtectSystem=strict").0.is_empty());
    let own = with(&host, "ProtectSystem=strict\nStateDirectory=kms").0;
    assert!(own.is_empty(), "{own:#?}");
    // Less strict ones keep only the system's own folders.
    let mut place = "/var/lib/kms/state.json".to_owned();
    for (folder, yes, full) in [
        ("var/lib", false, false),
        ("etc", false, true),
        ("usr", true, true),
    ] {
        fs::create_dir_all(host.path(&format!("{folder}/kms"))).unwrap();
        let next = format!("/{folder}/kms/state.json");
        host.write(&next, &host.read("var/lib/kms/state.json"));
        host.edit(&config, &place, &next);
        place = next;
        for (setting, keeps) in [("yes", yes), ("full", full)] {
            let found = with(&host, &format!("ProtectSystem={setting}")).0;
            assert_eq!(!found.is_empty(), keeps, "{setting} {place}: {found:#?}");
        }
    }
}

/// tmkms renames a new state file over the old one, and over a mount nothing can be renamed.
#[test]
fn a_state_file_that_a_unit_makes_a_mount() {
    let host = sound();
    let state = format!("/{CONFIGS}/commercio_priv_validator_state01.json");
    let (findings, _) = with(&host, &format!("ReadWritePaths=-{state}"));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0]["path"], state);
    let said = findings[0].to_string();
    assert!(said.contains("makes a mount"), "{said}");
    doctor(&host, &[], 0);
}
