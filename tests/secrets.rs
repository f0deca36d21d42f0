//! Rule S11: no password reaches a plan, a journal, the screen or a log, whatever the verb and whatever goes wrong.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::fs;
use std::path::Path;

use support::secrets::PASSWORD;
use support::{CONFIGS, Host, UNITS};

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

/// A unit with secrets wherever one may stand in its text, most of them beside what the unit's name decides.
fn with_secrets(host: &Host) {
    let unit = format!("{UNITS}/tmkms-02.service");
    let secrets = format!(
        "LimitNOFILE=4096\nEnvironment=HSM_PIN=%p-{PASSWORD} \\\n  \"B={PASSWORD} %n\"\n\
         SetCredential=pin:%N-{PASSWORD}\n# Environment=PIN=%p-{PASSWORD} \\\n#   OTHER={PASSWORD}\n\
         ;SetCredential=pin:{PASSWORD}\nEnvironmentFile=/etc/default/tmkms-*\nExecStartPre=/bin/unlock ${{PIN}}"
    );
    host.edit(&unit, "LimitNOFILE=4096", &secrets);
    let file = format!("# {PASSWORD}\nPIN=\"{PASSWORD}\n{PASSWORD}\"\nMORE=\\{PASSWORD}\n");
    host.write("etc/default/tmkms-pins", &file);
}

#[test]
fn secrets_beside_what_the_name_decides() {
    let host = Host::of("commercio");
    with_secrets(&host);
    let before = host.read(&format!("{UNITS}/tmkms-02.service"));
    let out = host.path("out.json");
    let out = out.to_str().unwrap();
    for words in [
        &["plan", "--new-chain", "commercio-3", "--out", out][..],
        &["plan", "--new-chain", "commercio-3", "--json"],
        &["stage", "--yes", "-v"],
        &["apply", "--yes", "-v"],
        &["status", "--json"],
        &["rollback", "--yes", "--json"],
        &["history"],
    ] {
        let said = host.kmsctl(words);
        scan(&host, &said.all());
        said.exits(0);
    }
    let staged = host.read(&format!("{UNITS}/tmkms-02.v3.service"));
    let kept = before
        .replace("=%p-", "=tmkms-02-")
        .replace("%n", "tmkms-02.service");
    let kept = kept
        .replace("%N", "tmkms-02")
        .replace("# Environment=PIN=tmkms-02", "# Environment=PIN=%p");
    let wanted = kept.replace("tmkms.02.toml", "tmkms.02.v3.toml");
    assert_eq!(staged, wanted, "the values mean what they meant");
}

#[test]
fn a_refusal_shows_no_secret() {
    for (from, to, says) in [
        // Put into the command, which no tmkms would take.
        (
            "tmkms.02.toml",
            "tmkms.02.toml ${PIN}",
            "by a variable, a word",
        ),
        ("tmkms start", "tmkms start --pin ${HSM_PIN}", "\"--pin\""),
        ("=HSM_PIN=%p", "=HSM_PIN=%y", "%y is where"),
        ("=HSM_PIN=%p", "=\"HSM_PIN=%p", "a quote that isn't closed"),
        (
            "SetCredential=pin:%N",
            "SetCredential=pin:%Y",
            "%Y is where",
        ),
        (
            "EnvironmentFile=/etc/default/tmkms-*",
            "EnvironmentFile=/etc/default/none",
            "default/none isn't there",
        ),
        (
            "EnvironmentFile=/etc/default/tmkms-*",
            "EnvironmentFile=/etc/d*/tmkms",
            "a pattern that kmsctl",
        ),
        ("LimitNOFILE", "  LimitNOFILE", "an indented line"),
        (
            "LimitNOFILE",
            "UnsetEnvironment=TMKMS_CONFIG_FILE\nLimitNOFILE",
            "UnsetEnvironment= decides",
        ),
    ] {
        let host = Host::of("commercio");
        with_secrets(&host);
        host.edit(&format!("{UNITS}/tmkms-02.service"), from, to);
        for more in [&[][..], &["--json"]] {
            let said = host.kmsctl(&[&["plan", "--new-chain", "commercio-3"], more].concat());
            scan(&host, &said.all());
            assert!(
                said.code == 3 && (said.all().contains(says) || !more.is_empty()),
                "{to}: {}",
                said.all()
            );
        }
    }
    // A drop-in that the new unit inherits as it is.
    let host = Host::of("commercio");
    let drop_in = format!("[Service]\nEnvironment=PIN=%N-{PASSWORD}\n");
    host.write(&format!("{UNITS}/tmkms-.service.d/pin.conf"), &drop_in);
    let said = host
        .kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(3);
    scan(&host, &said.says(&["pin.conf:2", "it names %N"]).all());
}

/// Every run of every test is scanned; here the scan itself.
#[test]
fn the_scan_knows_the_secrets_of_a_host() {
    let host = Host::of("commercio");
    let seed = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    host.write("keys/one.key", &format!("{seed}\n"));
    host.write("keys/password", "made-up-password\n");
    host.write(
        "keys/two.json",
        r#"{"priv_key":{"type":"x","value":"made-up-json-key"}}"#,
    );
    let inline = r#"password = "made-up-inline""#;
    let file = r#"password_file = "/data_tmkms/tmkms/kms/password""#;
    host.edit(&format!("{CONFIGS}/tmkms.02.toml"), file, inline);
    let secrets = support::secrets::of(host.root());
    for secret in [
        PASSWORD,
        seed,
        "made-up-password",
        "made-up-json-key",
        "made-up-inline",
    ] {
        assert!(secrets.iter().any(|s| s == secret), "{secret}");
        let told = format!("before {secret} after");
        let caught = std::panic::catch_unwind(|| {
            support::secrets::assert_none(&secrets, "a text", told.as_bytes())
        });
        assert!(caught.is_err(), "{secret}");
    }
    for verb in [
        &["status"][..],
        &["plan", "--new-chain", "commercio-3"],
        &["doctor"],
        &["snapshot", "/nowhere/x"],
    ] {
        host.kmsctl(verb);
    }
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

/// What a panic or a log line may show of values that hold others' texts.
#[test]
fn debug_shows_no_text() {
    use kmsctl::check::source::Source;
    use kmsctl::inventory::FileFacts;
    use kmsctl::plan::safety::Found;
    use kmsctl::snapshot::Node;
    use kmsctl::unit::UnitText;
    use kmsctl::unit::variables::Variables;
    use tmkms_core::config::SoftsignFormat;
    use tmkms_core::keys::{KeyFile, SecretKey};

    let bytes = PASSWORD.as_bytes().to_vec();
    let config = Source::of(format!("password = \"{PASSWORD}\"\n"));
    let facts = FileFacts {
        uid: 0,
        gid: 0,
        mode: 0o600,
    };
    let unit =
        UnitText::parse(&format!("[Service]\nEnvironment=HSM_PASSWORD={PASSWORD}\n")).unwrap();
    let mut variables = Variables::default();
    variables.assign(&[format!("HSM_PASSWORD={PASSWORD}")]);
    let shown = format!(
        "{config:?} {:?} {:?} {unit:?} {variables:?}",
        Found::File(bytes.clone()),
        Node::File(facts, bytes.clone())
    );
    assert!(!shown.contains(PASSWORD), "{shown}");
    // Nor as numbers.
    assert!(
        !shown.contains(&format!("{}, {}", bytes[0], bytes[1])),
        "{shown}"
    );
    let seed = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let secret = SecretKey::read(seed.as_bytes(), SoftsignFormat::Base64).unwrap();
    let file = KeyFile::read(seed.as_bytes(), SoftsignFormat::Base64).unwrap();
    let shown = format!("{secret:?} {file:?}");
    assert!(
        !shown.contains("AQEB") && !shown.contains("1, 1"),
        "{shown}"
    );
    assert!(!shown.contains("01010101"), "{shown}");
}
