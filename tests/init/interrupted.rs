//! `init` killed, or failed, at every moment of its writing: what a failure leaves is nothing, and what a kill leaves is told
//! by the next one, command by command, after which it goes through. There is never a second key, and none is lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::support::{Host, UNITS, secrets};
use super::{Init, KEY, host, key};

const HOME: &str = "root/tmkms/config";

fn kinds() -> [Init; 2] {
    let generated = Init::haqq().without("import").without("state");
    [Init::haqq(), generated.with(&[("generate", "")])]
}

impl Init {
    fn at(&self, host: &Host, variable: &str, moment: &str) -> Output {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = host.command(&words);
        let said = command.env(variable, moment).output().unwrap();
        // Those that were just made as well.
        let secrets = secrets::of(host.root());
        assert!(secrets.len() > 1, "the source of the import at least");
        secrets::assert_none(&secrets, moment, &said.stdout);
        secrets::assert_none(&secrets, moment, &said.stderr);
        said
    }
}

/// Every moment at which `init` makes something, in order.
fn moments(init: &Init) -> Vec<String> {
    let host = host("haqq_11235-1");
    let list = tempfile::NamedTempFile::new().unwrap();
    let said = init.at(&host, "KMSCTL_MOMENTS", list.path().to_str().unwrap());
    assert!(said.status.success(), "{said:?}");
    let moments = fs::read_to_string(list.path()).unwrap();
    let moments: Vec<String> = moments.lines().map(str::to_owned).collect();
    // Four folders, five files; none of them unseen.
    assert_eq!(moments.len(), (4 + 5) * 3, "{moments:?}");
    moments
}

#[test]
fn a_failure_at_any_moment_leaves_nothing_behind() {
    for init in kinds() {
        for moment in moments(&init) {
            let host = host("haqq_11235-1");
            let before = host.tree();
            let said = init.at(&host, "KMSCTL_FAILS_AT", &moment);
            let words = String::from_utf8_lossy(&said.stderr).into_owned();
            assert_eq!(said.status.code(), Some(1), "{moment}: {words}");
            assert!(
                words.contains("nothing of the new signer is left"),
                "{words}"
            );
            assert_eq!(host.tree(), before, "{moment}");
        }
    }
}

/// The consensus keys below a host's root, the source of an import left out.
fn keys(host: &Host) -> BTreeSet<String> {
    let tree = host.tree();
    let keys = tree.iter().filter(|(path, _)| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.contains("consensus.key")
    });
    keys.map(|(_, node)| String::from_utf8(node.content.clone()).unwrap())
        .filter(|key| !key.is_empty())
        .collect()
}

/// The commands that a refusal names, run in the host's tree: `rm` and `rmdir` of files and folders of the signer's home,
/// and nothing else.
#[track_caller]
fn heed(host: &Host, said: &str) {
    let commands = said.split('`').nth(1).unwrap_or_else(|| panic!("{said}"));
    for command in commands.split(" && ") {
        let mut words = command.split(' ');
        let program = words.next().unwrap();
        assert!(["rm", "rmdir"].contains(&program), "{command}");
        for path in words {
            assert!(Path::new(path).starts_with("/root/tmkms"), "{command}");
            let status = Command::new(program).arg(host.path(path)).status().unwrap();
            assert!(status.success(), "{command}");
        }
    }
}

/// What the next `init` does after a kill.
#[track_caller]
fn goes_on(host: &Host, init: &Init, moment: &str) {
    let left = host.tree();
    let made = keys(host);
    assert!(made.len() <= 1, "{moment}");
    let unit = host.path(UNITS).join("tmkms.service").exists();
    let said = init.run(host);
    if unit {
        // All of it was written: it is a signer, and stays the one that it is.
        let said = said.exits(3);
        assert_eq!(host.tree(), left, "{moment}");
        assert_eq!(made.len(), 1, "{moment}");
        said.says(&["an earlier init wrote this signer whole", "daemon-reload"]);
        return;
    }
    if said.code != 0 {
        let said = said.exits(3);
        assert_eq!(host.tree(), left, "{moment}: a refusal writes nothing");
        heed(host, &said.all());
        init.run(host).exits(0);
    }
    let made = keys(host);
    assert_eq!(made.len(), 1, "{moment}: one key");
    if init.0.iter().any(|(flag, _)| flag == "import") {
        let seed = tmkms_core::SecretKey::from_seed(&key::SEED);
        assert!(made.contains(seed.to_base64().as_str()), "{moment}");
        assert_eq!(host.read(KEY), key::file(), "{moment}: the source stays");
    }
    assert!(host.path(HOME).join("tmkms.toml").exists(), "{moment}");
}

#[test]
fn after_a_kill_at_any_moment_the_next_one_says_what_to_do() {
    for init in kinds() {
        for moment in moments(&init) {
            let host = host("haqq_11235-1");
            let said = init.at(&host, "KMSCTL_DIES_AT", &moment);
            assert_eq!(said.status.signal(), Some(9), "{moment}: {said:?}");
            goes_on(&host, &init, &moment);
        }
    }
}

#[test]
fn after_a_kill_at_some_time_as_well() {
    for init in kinds() {
        let started = std::time::Instant::now();
        init.run(&host("haqq_11235-1")).exits(0);
        let whole = started.elapsed();
        for n in 0..24_u32 {
            let host = host("haqq_11235-1");
            let words = init.words();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut command = host.command(&words);
            command.stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::null());
            let mut child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_micros(
                u64::from(n) * whole.as_micros() as u64 / 24,
            ));
            child.kill().unwrap();
            child.wait().unwrap();
            goes_on(&host, &init, &format!("killed after {n}/24"));
        }
    }
}
