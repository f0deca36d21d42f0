//! The runbook as a text: it reads as expected, is bash, holds no secret, and no name can break out of it. What it does
//! on a host is the lab's to judge.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kmsctl::plan::Plan;
use kmsctl::render::runbook::{self, Around};
use snapbox::{assert_data_eq, file};
use support::{CONFIGS, Host, fixture};

const PLAN: [&str; 4] = ["plan", "--new-chain", "commercio-3", "--runbook"];
/// Quotes of all kinds, a command, a variable, a glob, blanks, a line end and what a comment would be.
const HOSTILE: &str = "it's \"a\" $(touch pwned) `touch pwned` $HOME * ;\n# \\ é";

fn written(host: &Host) -> (PathBuf, String) {
    let path = host.path("runbook.sh");
    host.kmsctl(&[&PLAN[..], &[path.to_str().unwrap()]].concat())
        .exits(0)
        .says(&["Wrote the runbook"]);
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

/// Runs a script's words in bash, its last line replaced.
fn bash(script: &str, end: &str, folder: &Path) -> Output {
    let words = script.strip_suffix("main \"$@\"\n").unwrap();
    let mut child = Command::new("bash")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!("{words}{end}\n");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn exits(output: &Output, code: i32) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn the_runbook_reads_as_expected() {
    let (_, text) = written(&Host::of("commercio"));
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    assert_data_eq!(
        text,
        file!["../fixtures/commercio/expected/runbook.sh"].raw()
    );
}

#[test]
fn it_is_bash_for_its_owner_alone() {
    let host = Host::of("commercio");
    let (path, _) = written(&host);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let checked = Command::new("bash").arg("-n").arg(&path).output().unwrap();
    exits(&checked, 0);
    let used = Command::new(&path).arg("swich").output().unwrap();
    assert!(exits(&used, 2).contains("usage:"));
}

#[test]
fn only_a_runbook_is_replaced_and_what_is_forbidden_is_in_none() {
    let host = Host::of("commercio");
    let (path, text) = written(&host);
    let plan = [&PLAN[..], &[path.to_str().unwrap()]].concat();
    fs::write(&path, format!("{text}# changed\n")).unwrap();
    host.kmsctl(&plan).exits(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    fs::write(&path, "#!/bin/sh\necho mine\n").unwrap();
    host.kmsctl(&plan)
        .exits(1)
        .says(&["is no runbook of kmsctl"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "#!/bin/sh\necho mine\n");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    host.kmsctl(&plan)
        .exits(1)
        .says(&["is no runbook of kmsctl"]);
    fs::remove_file(&path).unwrap();

    host.remove(&format!("{CONFIGS}/commercio_priv_validator_state02.json"));
    host.kmsctl(&plan)
        .exits(3)
        .says(&["No runbook was written"]);
    assert!(!path.exists());
}

#[test]
fn nothing_to_do_is_no_runbook() {
    let host = Host::of("commercio");
    host.switched();
    let path = host.path("runbook.sh");
    host.kmsctl(&[&PLAN[..], &[path.to_str().unwrap()]].concat())
        .exits(0)
        .says(&["there is nothing to do"]);
    assert!(!path.exists());
}

/// The plan of the fixture with one text replaced wherever it stands.
fn renamed(from: &str, to: &str) -> Plan {
    let plan = Host::of("commercio").json(&["plan", "--new-chain", "commercio-3", "--json"]);
    fn walk(value: &mut serde_json::Value, from: &str, to: &str) {
        match value {
            serde_json::Value::String(text) => *text = text.replace(from, to),
            serde_json::Value::Array(all) => all.iter_mut().for_each(|v| walk(v, from, to)),
            serde_json::Value::Object(all) => all.values_mut().for_each(|v| walk(v, from, to)),
            _ => {}
        }
    }
    let mut plan = plan;
    walk(&mut plan, from, to);
    serde_json::from_value(plan).unwrap()
}

#[test]
fn no_name_breaks_out() {
    let mut plan = renamed("/data_tmkms/", &format!("/{HOSTILE}/"));
    plan.moves[0].signer = HOSTILE.to_owned();
    plan.moves[1].old = "a\\x2d$HOME.service".replace('$', "\\x24").parse().unwrap();
    let text = runbook::text(&plan, &Around::default()).unwrap();
    let words = [
        "unchanged",
        "unchanged_but_secrets",
        "before_switch",
        "unused",
        "agree",
        "make_folder",
        "close_new",
        "close_fence",
        "open_fence",
        "open_made_fence",
        "derive",
        "write_like",
        "write_plain",
        "remove",
        "remove_folder",
        "reload",
        "fenced",
        "enable",
        "disable",
        "set_link",
        "stop",
        "stays_down",
        "prove_stopped",
        "record",
        "at_least",
        "start",
        "watch",
        "step",
    ];
    let said = words
        .map(|w| format!("{w}() {{ printf '%s\\0' \"$@\"; }}\n"))
        .concat();
    let end = format!(
        "{said}text() {{ printf '%s\\0' \"$(cat)\"; }}\nmode=do verb=back\ninputs; not_begun; not_used; heights_agree\n\
         stage_steps; switch_steps; back; unstage"
    );
    let folder = tempfile::tempdir().unwrap();
    let output = bash(&text, &end, folder.path());
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "something was run"
    );
    let given: Vec<&[u8]> = output.stdout.split(|b| *b == 0).collect();
    let mut wanted: Vec<String> = vec![format!("{HOSTILE}/stop-old")];
    for moving in &plan.moves {
        for path in [&moving.old_config, &moving.new_config] {
            wanted.push(path.to_str().unwrap().to_owned());
        }
        for chain in moving.old_chains().chain(moving.new_chains()) {
            wanted.push(chain.state_file.to_str().unwrap().to_owned());
        }
        wanted.push(moving.old.to_string());
    }
    for word in wanted {
        assert!(
            given.contains(&word.as_bytes()),
            "{word:?} isn't a word of its own"
        );
    }
}

#[test]
fn a_config_is_derived_byte_by_byte_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let configs = root.join(HOSTILE);
    fs::create_dir(&configs).unwrap();
    fs::create_dir(root.join("evidence")).unwrap();
    let original = fixture("commercio").join("host").join(CONFIGS);
    for n in 1..=3 {
        let name = format!("tmkms.0{n}.toml");
        fs::copy(original.join(&name), configs.join(&name)).unwrap();
    }
    let old = configs.join("tmkms.02.toml");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o641)).unwrap();
    // What a run that was killed leaves.
    fs::write(configs.join(".tmkms.01.v3.toml.runbook-new"), "half").unwrap();
    let to = format!("{}/tmkms.", configs.display());
    let plan = renamed("/data_tmkms/tmkms/kms/commercio/tmkms.", &to);
    let text = runbook::text(&plan, &Around::default()).unwrap();
    let end = format!(
        "evidence={}\nmode=do verb=stage\n\
         make_folder() {{ :; }}; close_new() {{ :; }}; write_plain() {{ :; }}; reload() {{ :; }}; fenced() {{ :; }}\n\
         eval \"$(declare -f derive | sed '1s/derive/derived/')\"\n\
         derive() {{ if [[ $1 == *.toml ]]; then derived \"$@\"; fi; }}\n\
         write_like() {{ if [[ $2 == *.toml ]]; then write \"$2\" \"$1\"; fi; }}\nstage_steps",
        root.join("evidence").display()
    );
    let said = exits(&bash(&text, &end, &root), 0);
    assert!(
        said.contains("cp --attributes-only") || said.contains("'cp'"),
        "{said}"
    );
    let staged = fixture("commercio").join("expected/staged").join(CONFIGS);
    for n in 1..=3 {
        let name = format!("tmkms.0{n}.v3.toml");
        let new = configs.join(&name);
        assert_eq!(
            fs::read(&new).unwrap(),
            fs::read(staged.join(&name)).unwrap(),
            "{name}"
        );
    }
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&configs.join("tmkms.02.v3.toml")), mode(&old));
    assert_eq!(
        fs::read_dir(&configs).unwrap().count(),
        6,
        "nothing else is left"
    );
    let again = exits(&bash(&text, &end, &root), 0);
    assert_eq!(again.matches("it is so already").count(), 3, "{again}");

    // Another file is never written over, and another source is none to derive from.
    fs::write(configs.join("tmkms.01.v3.toml"), "another's").unwrap();
    assert!(exits(&bash(&text, &end, &root), 3).contains("REFUSED"));
    assert_eq!(
        fs::read(configs.join("tmkms.01.v3.toml")).unwrap(),
        b"another's"
    );
    fs::remove_file(configs.join("tmkms.01.v3.toml")).unwrap();
    let source = configs.join("tmkms.01.toml");
    let changed = fs::read_to_string(&source)
        .unwrap()
        .replace("v0.33", "v0.34");
    fs::write(&source, changed).unwrap();
    assert!(exits(&bash(&text, &end, &root), 3).contains("the file was changed"));
    assert!(!configs.join("tmkms.01.v3.toml").exists());
}

#[test]
fn secrets_stay_out_and_what_is_around_them_is_checked() {
    const PASSWORD: &str = "correct-horse-battery-staple";
    let host = Host::of("commercio");
    let config = format!("{CONFIGS}/tmkms.02.toml");
    host.edit(
        &config,
        r#"password_file = "/data_tmkms/tmkms/kms/password" }"#,
        &format!(r#"password = '{PASSWORD}' }} # once {PASSWORD}"#),
    );
    let unit = "etc/systemd/system/tmkms-02.service";
    let pin = format!("Environment=PIN={PASSWORD} \\\n  A=b\nLimitNOFILE=");
    host.edit(unit, "LimitNOFILE=", &pin);
    let (_, text) = written(&host);
    assert!(!text.contains(PASSWORD), "the password is in the runbook");
    assert_eq!(text.matches("    unchanged_but_secrets /").count(), 2);

    // The files of the host, by where they are in this test.
    let root = host.root().display();
    let here: Vec<String> = text
        .lines()
        .map(|line| match line.strip_prefix("    unchanged ") {
            Some(words) => format!(
                "    unchanged {}",
                words.replacen(" /", &format!(" {root}/"), 1)
            ),
            None => line.replacen(
                "    unchanged_but_secrets /",
                &format!("    unchanged_but_secrets {root}/"),
                1,
            ),
        })
        .collect();
    let here = here.join("\n") + "\n";
    let inputs = || bash(&here, "verb=switch\ninputs", host.root());
    exits(&inputs(), 0);
    host.edit(&config, &format!("'{PASSWORD}'"), "'another'");
    host.edit(unit, &format!("PIN={PASSWORD}"), "PIN=another");
    exits(&inputs(), 0);
    for (path, from, to) in [
        (config.as_str(), "reconnect = true", "reconnect = false"),
        (config.as_str(), "key_format", "key_formal"),
        (config.as_str(), "9876543210\"\n", "9876543210\"\n\n"),
        (unit, "Restart=always", "Restart=no"),
        (unit, "[Install]", "User=root\n[Install]"),
    ] {
        host.edit(path, from, to);
        let said = exits(&inputs(), 3);
        assert!(
            said.contains("no longer what the plan was made from"),
            "{said}"
        );
        host.edit(path, to, from);
        exits(&inputs(), 0);
    }
}
