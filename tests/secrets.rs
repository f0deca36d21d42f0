//! Rule S11: no password reaches a plan, a journal, the screen or a log, whatever the verb and whatever goes wrong.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::fs;
use std::path::Path;

use support::{CONFIGS, Host};

const PASSWORD: &str = "correct-horse-battery-staple";

fn scan(host: &Host, said: &str) {
    assert!(!said.contains(PASSWORD), "printed: {said}");
    scan_folder(&host.path("var/lib/kmsctl"));
    scan_folder(&host.path("run"));
    let out = fs::read_to_string(host.path("out.json")).unwrap_or_default();
    assert!(!out.contains(PASSWORD), "kept in out.json");
}

fn scan_folder(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scan_folder(&path);
        } else {
            let text = fs::read(&path).unwrap();
            let found = text
                .windows(PASSWORD.len())
                .any(|w| w == PASSWORD.as_bytes());
            assert!(!found, "kept in {}", path.display());
        }
    }
}

#[test]
fn a_password_stays_in_its_config() {
    let host = Host::of("commercio");
    let config = format!("{CONFIGS}/tmkms.02.toml");
    host.edit(
        &config,
        r#"password_file = "/data_tmkms/tmkms/kms/password""#,
        &format!(r#"password = "{PASSWORD}""#),
    );
    // A unit may hold one too, in its own text or in a drop-in.
    let secret = format!("LimitNOFILE=4096\nEnvironment=\"HSM_PIN={PASSWORD}\" OTHER=1");
    host.edit(
        "etc/systemd/system/tmkms-02.service",
        "LimitNOFILE=4096",
        &secret,
    );
    let drop_in = format!("[Service]\nSetCredential=pin:{PASSWORD}\n");
    host.write("etc/systemd/system/tmkms-02.service.d/pin.conf", &drop_in);
    let out = host.path("out.json");
    let out = out.to_str().unwrap();
    let mut exits = Vec::new();
    for words in [
        &["plan", "--new-chain", "commercio-3", "--out", out][..],
        &["plan", "--new-chain", "commercio-3", "--json"],
        &["stage", "--yes", "-v"],
        &["apply", "--yes", "-v"],
        &["status", "--json"],
        &["rollback", "--yes", "--json"],
        &["status"],
    ] {
        let said = host.kmsctl(words);
        exits.push(said.code);
        scan(&host, &said.all());
    }
    assert_eq!(exits, [0; 7], "the whole way was gone");
    assert!(
        host.read("etc/systemd/system/tmkms-02.v3.service")
            .contains(PASSWORD)
    );
    assert!(
        host.read("etc/systemd/system/tmkms-02.v3.service.d/pin.conf")
            .contains(PASSWORD)
    );
    let staged = host.read(&format!("{CONFIGS}/tmkms.02.v3.toml"));
    assert!(
        staged.contains(PASSWORD),
        "the new config has it, as the old one does"
    );

    // A staged file that was changed is shown as a diff as well.
    let staged = format!("{CONFIGS}/tmkms.02.v3.toml");
    host.edit(&staged, "reconnect = true", "reconnect = false");
    scan(
        &host,
        &host
            .kmsctl(&["apply", "--yes"])
            .exits(3)
            .says(&["-reconnect = true"])
            .all(),
    );
    host.edit(&staged, "reconnect = false", "reconnect = true");

    // Changed inputs are shown as a diff; broken ones as an error with a line.
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    host.edit(&config, "reconnect = true", "reconnect = false");
    scan(&host, &host.kmsctl(&["apply", "--yes"]).exits(3).all());
    host.edit(
        "etc/systemd/system/tmkms-02.service",
        "RestartSec=3",
        "RestartSec=4",
    );
    scan(
        &host,
        &host
            .kmsctl(&["apply", "--yes"])
            .exits(3)
            .says(&["-RestartSec=3"])
            .all(),
    );
    host.edit(&config, "auth = {", "auth = ");
    scan(
        &host,
        &host
            .kmsctl(&["plan", "--new-chain", "commercio-3"])
            .exits(3)
            .all(),
    );
}

#[test]
fn no_fixture_holds_a_key_or_a_password() {
    fn walk(folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                walk(&path);
                continue;
            }
            assert!(
                !name.ends_with(".key") && name != "password",
                "{}",
                path.display()
            );
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains("password ="), "{}", path.display());
        }
    }
    walk(&support::fixture(""));
}
