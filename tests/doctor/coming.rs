//! What doctor says of the coming plan.

use std::fs;

use crate::support::{CONFIGS, Host, UNITS};
use crate::{accounts, check, doctor, finds, mode, sound};

#[test]
fn the_coming_plan() {
    let host = sound();
    let report = doctor(&host, &["--new-chain", "commercio-3"], 0);
    // Nothing of a folder is executed: what its tmkms is isn't known, and is all there is to say.
    finds(&report, "plan", "warn", "version-unknown", &["tmkms"]);
    let findings = check(&report, "plan")["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    host.write(&format!("{CONFIGS}/tmkms.02.v3.toml"), "somebody's");
    let report = doctor(&host, &["--new-chain", "commercio-3"], 3);
    finds(
        &report,
        "plan",
        "block",
        "file-in-the-way",
        &["tmkms.02.v3.toml"],
    );
    // The saved plan is judged without being named.
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(3);
    finds(
        &doctor(&host, &[], 3),
        "plan",
        "block",
        "file-in-the-way",
        &["tmkms.02.v3.toml"],
    );
    host.remove(&format!("{CONFIGS}/tmkms.02.v3.toml"));
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    let report = doctor(&host, &[], 0);
    assert!(
        check(&report, "plan")["unjudged"]
            .as_str()
            .unwrap()
            .contains("there already"),
        "{report}"
    );
    // No such chain.
    host.kmsctl(&["doctor", "--new-chain", "nowhere-3"])
        .exits(3);
}

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];

/// A plan judges what its new units' users will need, and not what the old ones have.
#[test]
fn the_new_unit_s_user_comes_to_what_is_new() {
    let host = sound();
    accounts(&host, 3999);
    for folder in ["", "etc", CONFIGS] {
        mode(&host, folder, 0o777);
    }
    fs::create_dir_all(host.path("new/kms")).unwrap();
    host.program("new/tmkms");
    let elsewhere = [&PLAN[..], &["--config-dir", "/new/kms"]].concat();
    let binary = [&PLAN[..], &["--binary", "/new/tmkms"]].concat();
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&elsewhere).exits(0);
    host.kmsctl(&binary).exits(0);
    mode(&host, "new", 0o700);
    for (words, what) in [
        (&elsewhere, "the config /new/kms/tmkms.01.v3.toml"),
        (&binary, "the program /new/tmkms"),
    ] {
        host.kmsctl(words).exits(3).says(&[
            "block[access-denied] /new: tmkms, as whom tmkms-01.v3.service runs, can't pass this folder",
            what,
            "`chmod g+x /new`",
        ]);
    }
    host.kmsctl(&PLAN).exits(0);
    mode(&host, "new", 0o755);
    mode(&host, "new/tmkms", 0o704);
    let said = host.kmsctl(&binary).exits(3);
    said.says(&[
        "block[access-denied] /new/tmkms: tmkms, as whom tmkms-01.v3.service runs, can't run it",
    ]);
    // What keeps both from something is said once.
    mode(&host, CONFIGS, 0o755);
    let said = host
        .kmsctl(&[&PLAN[..], &["--signer", "tmkms-01"]].concat())
        .exits(3);
    assert_eq!(said.all().matches("access-denied").count(), 1, "{said:?}");
}

/// The new unit's text is the old one's with the moved names put in.
#[test]
fn the_new_unit_s_own_view_counts() {
    let host = sound();
    let state = format!("/{CONFIGS}/commercio_priv_validator_state01.json");
    let unit = format!("{UNITS}/tmkms-01.service");
    host.edit(
        &unit,
        "User=tmkms",
        &format!("User=tmkms\nReadWritePaths=-{state}"),
    );
    let said = host.kmsctl(&PLAN).exits(3);
    said.says(&[
        "state01.v3.json: tmkms, as whom tmkms-01.v3.service runs, can't rename a new file over it",
    ]);
}

#[test]
fn a_plan_says_what_it_does_not_judge() {
    let unjudged = |host: &Host| {
        let said = host.kmsctl(&PLAN).exits(0);
        said.all().matches("warn[access-unjudged]").count()
    };
    let host = sound();
    assert_eq!(unjudged(&host), 0);
    // A folder without accounts is none that says whom its units run as.
    let host = sound();
    host.write("etc/passwd", "other:x:1:1::/:/bin/false\n");
    assert_eq!(unjudged(&host), 1);
    host.remove("etc/passwd");
    assert_eq!(unjudged(&host), 0);
}
