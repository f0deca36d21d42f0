//! A snapshot plans as its host does, holds no secret of it, and is there whole or not at all.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod host;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use host::{
    CONNECTION, CONSENSUS, OLD_PASSWORD, PASSWORD, PIN, host_of_secrets, secrets, soft_config,
};
use kmsctl::exit::Exit;
use kmsctl::host::model;
use kmsctl::snapshot::{self, folder::Unfinished};
use serde_json::Value;
use support::{CONFIGS, Host, Said, UNITS, files_below};
use tempfile::TempDir;

/// A place for snapshots.
struct Shelf(TempDir);

impl Shelf {
    fn new() -> Shelf {
        Shelf(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn take(&self, host: &Host, name: &str) -> Said {
        host.kmsctl(&["snapshot", self.path(name).to_str().unwrap()])
    }

    /// What is on it, half-written things included.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect()
    }
}

fn kmsctl(root: &Path, words: &[&str]) -> Said {
    let program = env!("CARGO_BIN_EXE_kmsctl");
    let output = Command::new(program)
        .arg("--root")
        .arg(root)
        .args(words)
        .output()
        .unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn plan(root: &Path) -> Value {
    let said = kmsctl(root, &["plan", "--new-chain", "commercio-3", "--json"]);
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e} in {said:?}"))
}

/// What a plan is without what it observed of time and heights.
fn comparable(mut plan: Value) -> Value {
    plan["observed"]["at"] = Value::Null;
    plan
}

#[test]
fn a_snapshot_plans_as_its_host_does() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    shelf.take(&host, "s").exits(0);
    let there = plan(host.root());
    let here = plan(&shelf.path("s"));
    assert_eq!(there["moves"].as_array().unwrap().len(), 3);
    assert_eq!(comparable(here), comparable(there), "id, findings and all");
    kmsctl(&shelf.path("s"), &["apply", "--yes"]).exits(0);
    kmsctl(&shelf.path("s"), &["rollback", "--yes"]).exits(0);
}

#[test]
fn templates_and_variables_and_what_pulls_a_unit_in_plan_as_on_the_host_too() {
    let (host, shelf) = (Host::of("commercio"), Shelf::new());
    for number in ["01", "02", "03"] {
        host.remove(&format!(
            "{UNITS}/multi-user.target.wants/tmkms-{number}.service"
        ));
        host.remove(&format!("{UNITS}/tmkms-{number}.service"));
    }
    host.write(
        &format!("{UNITS}/tmkms@.service"),
        &format!(
            "[Service]\nEnvironmentFile=/etc/default/tmkms-%i\nEnvironment=HSM_PIN={PIN}%N FOLDER=/{CONFIGS}\nSetCredential=pin:%p{PIN}\n\
             ExecStart=/b/tmkms start -c ${{FOLDER}}/tmkms.${{NUMBER}}.toml\n[Install]\nWantedBy=multi-user.target\n"
        ),
    );
    for number in ["01", "02"] {
        host.link(
            &format!("{UNITS}/multi-user.target.wants/tmkms@{number}.service"),
            "/etc/systemd/system/tmkms@.service",
        );
    }
    host.write(
        &format!("{UNITS}/kms.target"),
        &format!("[Unit]\n# of all\nWants=tmkms@03.service\n[X-Test]\nEnvironment=A={PIN}\n"),
    );
    // The third one isn't enabled: it runs, since another unit wants it.
    let units = r#"{"format_version":1,"starts":1,"units":{"tmkms@03.service":{"active":"active","sub":"running","main_pid":1001,"invocation":"01","restarts":0,"control_group":""}}}"#;
    host.write("run/kmsctl/services.json", units);
    for number in ["01", "02", "03"] {
        let text = format!("# {PIN}\nHSM_PIN=\"{PIN}\"\nNUMBER={number}\n");
        host.write(&format!("etc/default/tmkms-{number}"), &text);
    }
    shelf.take(&host, "s").exits(0);
    let (there, here) = (plan(host.root()), plan(&shelf.path("s")));
    assert_eq!(there["moves"].as_array().unwrap().len(), 3);
    assert_eq!(comparable(here), comparable(there));
    assert!(shelf.path("s").join(UNITS).join("kms.target").is_file());
    no_secret_below(&shelf.path("s"));
}

#[test]
fn whatever_file_pulls_a_unit_in_is_taken_along() {
    let (host, shelf) = (Host::of("commercio"), Shelf::new());
    host.remove(&format!("{UNITS}/multi-user.target.wants/tmkms-03.service"));
    let drop_in = "usr/lib/systemd/system/watch.service.d/kms.conf";
    host.write(drop_in, "[Unit]\nUpholds=tmkms-03.service\n");
    // Masks say as much as files.
    host.write(
        &format!("{UNITS}/tmkms-.service.d/x.conf"),
        "[Service]\nNice=1\n",
    );
    fs::create_dir(host.path(&format!("{UNITS}/tmkms-01.service.d"))).unwrap();
    let masks = [
        format!("{UNITS}/tmkms-01.service.d/x.conf"),
        format!("{UNITS}/multi-user.target.wants/tmkms-03.service"),
    ];
    masks.iter().for_each(|mask| host.link(mask, "/dev/null"));
    shelf.take(&host, "s").exits(0);
    let (there, here) = (plan(host.root()), plan(&shelf.path("s")));
    assert_eq!(there["moves"].as_array().unwrap().len(), 3);
    assert_eq!(comparable(here), comparable(there));
    assert!(shelf.path("s").join(drop_in).is_file());
    for mask in masks {
        assert!(shelf.path("s").join(mask).is_symlink());
    }
}

#[test]
fn it_does_so_after_every_step_of_a_night_too() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    for (step, words) in [
        &["stage", "--yes"][..],
        &["apply", "--yes"],
        &["rollback", "--yes"],
        &["unstage", "--yes"],
    ]
    .iter()
    .enumerate()
    {
        host.kmsctl(words).exits(0);
        let name = format!("after-{step}");
        shelf.take(&host, &name).exits(0);
        let (there, here) = (plan(host.root()), plan(&shelf.path(&name)));
        assert_eq!(comparable(here), comparable(there), "after {words:?}");
        no_secret_below(&shelf.path(&name));
    }
    // The new chain's state file is nobody's by now, and counts: rule S6.
    let state = format!("{CONFIGS}/commercio_priv_validator_state01.v3.json");
    let copied = fs::read_to_string(shelf.path("after-3").join(&state)).unwrap();
    assert_eq!(copied, host.read(&state));
    kmsctl(&shelf.path("after-3"), &["apply", "--yes"]).exits(0);
}

fn no_secret_below(root: &Path) {
    for (path, node) in files_below(root) {
        let text = String::from_utf8_lossy(&node.content).into_owned();
        for secret in secrets() {
            assert!(!text.contains(&secret), "{secret} in {}", path.display());
        }
    }
}

#[test]
fn no_secret_is_in_it_nor_said() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    for words in [&["snapshot"][..], &["snapshot", "--json"]] {
        let place = shelf.path(&format!("s{}", words.len()));
        let words: Vec<&str> = words
            .iter()
            .copied()
            .chain([place.to_str().unwrap()])
            .collect();
        let said = host.kmsctl(&words).exits(0).all();
        for secret in secrets() {
            assert!(!said.contains(&secret), "{secret} is said");
        }
        no_secret_below(&place);
    }
    // All the places that hold one are there, under their names.
    for path in [
        &format!("{CONFIGS}/secret_connection02.key"),
        "data_tmkms/tmkms/kms/password",
        "etc/default/tmkms",
        "k/priv_validator_key.json",
        &format!("{UNITS}/tmkms-02.service.d/pin.conf"),
    ] {
        let (there, here) = (host.path(path), shelf.path("s1").join(path));
        assert_ne!(
            fs::read(&there).unwrap(),
            fs::read(&here).unwrap(),
            "{path}"
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().mode();
        assert_eq!(mode(&there), mode(&here), "{path}");
    }
    // And whoever has two snapshots finds nothing that both have.
    let password =
        |name: &str| fs::read(shelf.path(name).join("data_tmkms/tmkms/kms/password")).unwrap();
    assert_ne!(password("s1"), password("s2"));
}

#[test]
fn placeholders_keep_shape_and_tell_equal_from_different() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    shelf.take(&host, "s").exits(0);
    let read = |path: &str| fs::read_to_string(shelf.path("s").join(path)).unwrap();
    let key = |n: u8| read(&format!("{CONFIGS}/secret_connection{n:02}.key"));
    assert_eq!(key(1), key(3));
    assert_ne!(key(1), key(2));
    assert_eq!(key(1).len(), CONNECTION[0].len());
    assert!(key(1).ends_with("=\n"));
    let json: Value = serde_json::from_str(&read("k/priv_validator_key.json")).unwrap();
    assert_eq!(json["priv_key"]["type"], "tendermint/PrivKeyEd25519");
    assert_eq!(
        json["priv_key"]["value"].as_str().unwrap().len(),
        CONSENSUS.len()
    );
    // A pair of halves that belong together, so that a plan judges it as it judges the host's.
    let kind = tmkms_core::config::SoftsignFormat::Json;
    let text = serde_json::to_vec(&json).unwrap();
    assert!(tmkms_core::SecretKey::read(&text, kind).is_ok());
    let password = read("data_tmkms/tmkms/kms/password");
    assert_eq!(password.len(), PASSWORD.len() + 1);
    let config = read(&format!("{CONFIGS}/tmkms.02.toml"));
    assert!(
        config.contains(&format!("password = \"{}\"", password.trim())),
        "{config}"
    );
    assert_eq!(
        config.len(),
        host.read(&format!("{CONFIGS}/tmkms.02.toml")).len()
    );
    assert!(config.contains("# a comment that stays\n"));
    assert_eq!(
        read(&format!("{CONFIGS}/tmkms.01.toml")),
        host.read(&format!("{CONFIGS}/tmkms.01.toml"))
    );
    assert!(read("opt/soft.service").contains("TMKMS_CONFIG_FILE=/home/current/tmkms.toml PIN2="));
    assert!(!read("opt/soft.service").contains("abcd"));
}

#[test]
fn links_are_links_and_lead_to_what_is_inside() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    shelf.take(&host, "s").exits(0);
    let root = shelf.path("s");
    for path in [
        "home",
        "k/current",
        &format!("{UNITS}/soft.service"),
        &format!("{UNITS}/by-another-name.service"),
        &format!("{UNITS}/multi-user.target.wants/soft.service"),
        &format!("{UNITS}/multi-user.target.wants/tmkms-01.service"),
    ] {
        assert_eq!(
            fs::read_link(root.join(path)).unwrap(),
            fs::read_link(host.path(path)).unwrap()
        );
    }
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
    for inside in ["k/real/tmkms.toml", "k/real/state.json", "opt/soft.service"] {
        assert!(root.join(inside).is_file(), "{inside}");
    }
}

#[test]
fn what_runs_and_what_is_enabled_come_out_as_they_are() {
    let (host, shelf) = (Host::of("commercio"), Shelf::new());
    // What runs is written down by the first change.
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    let mut running: Value = serde_json::from_str(&host.read("run/kmsctl/services.json")).unwrap();
    running["units"]["tmkms-01.service"]["active"] = "inactive".into();
    running["units"]["tmkms-01.service"]["main_pid"] = 0.into();
    host.write("run/kmsctl/services.json", &running.to_string());
    host.remove(&format!("{UNITS}/multi-user.target.wants/tmkms-02.service"));
    let said = shelf.take(&host, "s").exits(0);
    said.says(&[
        "tmkms-01.service: not running, enabled",
        "tmkms-02.service: running, not enabled",
        "tmkms-03.service: running, enabled",
        "tmkms-03.v3.service: not running, not enabled",
    ]);
    let (there, here) = (plan(host.root()), plan(&shelf.path("s")));
    assert_eq!(comparable(here), comparable(there));
}

#[test]
fn the_document_is_what_is_printed() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    let place = shelf.path("s");
    let printed = host.json(&["snapshot", "--json", place.to_str().unwrap()]);
    let kept = fs::read_to_string(place.join("run/kmsctl/snapshot.json")).unwrap();
    assert_eq!(printed, serde_json::from_str::<Value>(&kept).unwrap());
    assert!(kept.starts_with("{\n  \"format_version\": 1,"));
    let text = printed.to_string();
    for said in ["/b/tmkms", "secret_connection01.key", "Comments"] {
        assert!(text.contains(said), "no {said} in {text}");
    }
    // Nothing but placeholders differs between two of one host.
    shelf.take(&host, "again").exits(0);
    let (one, other) = (files_below(&place), files_below(&shelf.path("again")));
    let differ = one
        .iter()
        .filter(|(path, node)| other.get(*path) != Some(*node));
    let differ: Vec<String> = differ
        .map(|(path, _)| format!("/{}", path.display()))
        .collect();
    let replaced = printed["replaced"].as_array().unwrap();
    let replaced: Vec<&str> = replaced
        .iter()
        .map(|r| r["path"].as_str().unwrap())
        .collect();
    assert_eq!(differ, replaced);
    assert_eq!(one.len(), other.len());
}

#[test]
fn a_folder_that_isn_t_empty_is_refused_and_stays() {
    let (host, shelf) = (Host::of("commercio"), Shelf::new());
    fs::create_dir(shelf.path("full")).unwrap();
    fs::write(shelf.path("full/mine"), "mine").unwrap();
    shelf
        .take(&host, "full")
        .exits(3)
        .says(&["full: the folder isn't empty"]);
    assert_eq!(fs::read_to_string(shelf.path("full/mine")).unwrap(), "mine");
    symlink("full", shelf.path("link")).unwrap();
    shelf.take(&host, "link").exits(3).says(&["link"]);
    fs::create_dir(shelf.path("empty")).unwrap();
    let mut inside = host.command(&["snapshot", "."]);
    let inside = inside.current_dir(shelf.path("empty")).output().unwrap();
    assert_eq!(inside.status.code(), Some(3));
    shelf.take(&host, "empty").exits(0);
    assert!(shelf.path("empty/run/kmsctl/snapshot.json").is_file());
}

#[test]
fn a_key_that_can_t_be_read_ends_it_and_nothing_is_left() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    let key = host.path(&format!("{CONFIGS}/secret_connection02.key"));
    // Root reads everything but what is larger than any key.
    fs::File::options()
        .write(true)
        .open(&key)
        .unwrap()
        .set_len(17 << 20)
        .unwrap();
    let said = shelf.take(&host, "s").exits(1);
    said.says(&[
        "/data_tmkms/tmkms/kms/commercio/secret_connection02.key",
        "larger than 16 MiB",
    ]);
    assert!(shelf.names().is_empty(), "{:?}", shelf.names());
}

#[test]
fn a_key_s_text_in_another_place_ends_it() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    let unit = format!("{UNITS}/tmkms-01.service");
    host.edit(&unit, "[Unit]", &format!("[Unit]\n# {PASSWORD}"));
    let said = shelf.take(&host, "s").exits(1);
    let said = said.says(&["/etc/systemd/system/tmkms-01.service:2:"]);
    assert!(!said.all().contains(PASSWORD));
    assert!(shelf.names().is_empty(), "{:?}", shelf.names());
    // A short one may be there by chance: it is kept, and the operator is told where.
    host.edit(&unit, PASSWORD, "nothing");
    let old = format!("[Service]\n#Environment=HSM_PIN={OLD_PASSWORD}");
    host.edit(&unit, "[Service]", &old);
    host.edit("data_tmkms/tmkms/kms/password", PASSWORD, "Commercio");
    host.edit(&format!("{CONFIGS}/tmkms.02.toml"), PASSWORD, "Commercio");
    shelf.take(&host, "s").exits(0).says(&[
        "/etc/systemd/system/tmkms-01.service:3: a word here",
        "/etc/systemd/system/tmkms-01.service:7: a comment that may hold a secret",
    ]);
}

#[test]
fn a_host_with_a_signer_that_can_t_be_read_is_refused() {
    let (host, shelf) = (Host::of("commercio"), Shelf::new());
    host.remove(&format!("{CONFIGS}/tmkms.02.toml"));
    shelf
        .take(&host, "s")
        .exits(3)
        .says(&["tmkms.02.toml, which can't be read"]);
    assert!(shelf.names().is_empty(), "{:?}", shelf.names());
}

#[test]
fn what_a_hand_left_of_a_staging_is_taken_along() {
    let (host, shelf) = (Host::of("commercio"), Shelf::new());
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host.remove(&format!("{UNITS}/tmkms-01.v3.service"));
    shelf.take(&host, "s").exits(0);
    let fence = format!("{UNITS}/tmkms-01.v3.service.d/zz-kmsctl.conf");
    assert!(shelf.path("s").join(fence).is_file());
    let (there, here) = (plan(host.root()), plan(&shelf.path("s")));
    assert_eq!(comparable(here), comparable(there));
}

#[test]
fn a_host_that_can_t_be_had_without_its_secrets_is_refused() {
    let (host, shelf) = (Host::of("commercio"), Shelf::new());
    // As a key the file must be replaced, and as a config it must stay.
    let config = format!("{CONFIGS}/tmkms.01.toml");
    host.edit(
        &config,
        &format!("/{CONFIGS}/secret_connection01.key"),
        &format!("/{config}"),
    );
    shelf
        .take(&host, "s")
        .exits(3)
        .says(&["no snapshot was made", "tmkms-01.service: it is no signer"]);
    assert!(shelf.names().is_empty(), "{:?}", shelf.names());
}

#[test]
fn a_tree_that_reads_otherwise_than_its_host_is_never_finished() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    let wants = format!("{UNITS}/multi-user.target.wants/tmkms-01.service");
    for (path, what) in [
        (wants.as_str(), "tmkms-01.service: the links that enable it"),
        ("run/kmsctl/services.json", "soft.service: whether it runs"),
        (
            "k/real/state.json",
            "soft.service: its chains, state files or keys",
        ),
        ("k/current", "soft.service: it is no signer there"),
        (
            &format!("{UNITS}/tmkms-.service.d/10-limits.conf"),
            "tmkms-03.service: its drop-ins",
        ),
    ] {
        let mut open = model::open(host.root()).unwrap();
        let unfinished = Unfinished::begin(&shelf.path("s")).unwrap();
        let taken = snapshot::take(&mut open, [7; 32]).unwrap();
        unfinished.write(&taken.nodes).unwrap();
        taken.check(unfinished.path()).unwrap();
        fs::remove_file(unfinished.path().join(path)).unwrap();
        let refused = taken.check(unfinished.path()).unwrap_err();
        assert_eq!(refused.exit, Exit::Refused);
        assert!(
            refused.error.to_string().contains(what),
            "{}",
            refused.error
        );
        drop(unfinished);
        assert!(shelf.names().is_empty(), "{:?}", shelf.names());
    }
}

#[test]
fn the_ci_script_rehearses_a_snapshot_and_leaves_it_as_it_was() {
    let (host, shelf) = (host_of_secrets(), Shelf::new());
    shelf.take(&host, "s").exits(0);
    let before = files_below(&shelf.path("s"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci/rehearse.sh");
    let rehearse = |what: &Path, chain: &str| {
        let mut command = Command::new("sh");
        command.arg(&script).arg(what).arg(chain);
        command
            .env("KMSCTL", env!("CARGO_BIN_EXE_kmsctl"))
            .env("TMPDIR", shelf.0.path());
        let output = command.output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    };
    rehearse(&shelf.path("s"), "commercio-3")
        .exits(0)
        .says(&["rehearsed: there to commercio-3 and back again"]);
    assert_eq!(files_below(&shelf.path("s")), before);
    let packed = shelf.path("s.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(shelf.path("s"));
    assert!(
        tar.arg("-czf")
            .arg(&packed)
            .arg(".")
            .status()
            .unwrap()
            .success()
    );
    rehearse(&packed, "commercio-3").exits(0);
    // What is in the way on the host is in the way in the rehearsal.
    host.write(&format!("{CONFIGS}/tmkms.01.v3.toml"), &soft_config());
    shelf.take(&host, "t").exits(0);
    rehearse(&shelf.path("t"), "commercio-3")
        .exits(3)
        .says(&["tmkms.01.v3.toml"]);
    let mut left = shelf.names();
    left.sort();
    assert_eq!(left, ["s", "s.tar.gz", "t"]);
}
