//! The same configs on real binaries.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::corpus::{self, VERSIONS, Verdict, Verdicts};
use super::recorded::{check, differs};

/// Where `tests/lab/prepare` and `tests/lab/oracle` keep what they built.
fn cache() -> PathBuf {
    if let Some(cache) = std::env::var_os("KMSCTL_LAB_CACHE") {
        return cache.into();
    }
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base =
        base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    base.join("kmsctl-lab")
}

fn binary(version: &str) -> PathBuf {
    let path = cache().join(format!("tmkms-{version}/bin/tmkms"));
    assert!(path.exists(), "no {}: run tests/lab/oracle", path.display());
    path
}

/// A mock YubiHSM of its own, since it gives no session back.
struct Hsm {
    child: Child,
    address: String,
}

impl Hsm {
    fn start() -> Hsm {
        let mut child = Command::new(cache().join("parts/mock-yubihsm-connector"))
            .args(["--listen", "127.0.0.1:0", "--keys", "1,2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = said["listening"].as_str().unwrap().to_owned();
        Hsm { child, address }
    }
}

impl Drop for Hsm {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The connector that the corpus names.
const CONNECTOR: &[u8] = b"127.0.0.1:12345";

/// Runs a tmkms on a config until it has said what it does.
pub fn verdict(tmkms: &Path, config: &[u8]) -> Verdict {
    let desk = corpus::desk();
    let path = desk.path().join("tmkms.toml");
    let at = config.windows(CONNECTOR.len()).position(|w| w == CONNECTOR);
    // It keeps nothing for the next one: each config has an HSM of its own.
    let hsm = at.map(|_| Hsm::start());
    match (&hsm, at) {
        (Some(hsm), Some(at)) => {
            let (before, after) = (&config[..at], &config[at + CONNECTOR.len()..]);
            fs::write(&path, [before, hsm.address.as_bytes(), after].concat()).unwrap();
        }
        _ => fs::write(&path, config).unwrap(),
    }
    let mut child = Command::new(tmkms)
        .args(["start", "-c", "tmkms.toml"])
        .current_dir(desk.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = Arc::new(Mutex::new(String::new()));
    let out = collect(child.stdout.take().unwrap(), &said);
    let errors = Arc::new(Mutex::new(String::new()));
    let err = collect(child.stderr.take().unwrap(), &errors);
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        let dials = said.lock().unwrap().contains('@');
        let waited = began.elapsed();
        // A connection that failed once is tried again for ever; what would exit for it exits at once.
        if (dials && waited > Duration::from_millis(150) && settled(&mut child))
            || waited > Duration::from_secs(20)
        {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(10));
    };
    out.join().unwrap();
    err.join().unwrap();
    let Some(status) = status else {
        return Verdict::Runs;
    };
    let errors = errors.lock().unwrap();
    // The identity key is read before anything is dialled, and its errors are of the same kind.
    let network = errors.contains("exited with error")
        && errors.contains("I/O error")
        && !errors.contains(" key from ");
    match status.code() {
        Some(0) => Verdict::Ends,
        Some(1) if network => Verdict::Runs,
        Some(1) => Verdict::Refuses,
        Some(101) | None => Verdict::Panics,
        other => panic!("tmkms exited with {other:?}: {errors}"),
    }
}

fn settled(child: &mut Child) -> bool {
    thread::sleep(Duration::from_millis(150));
    child.try_wait().unwrap().is_none()
}

fn collect(
    mut from: impl Read + Send + 'static,
    into: &Arc<Mutex<String>>,
) -> thread::JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            into.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    })
}

/// What versions do with configs, a few at a time.
pub fn verdicts(version: &str, configs: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Verdict> {
    let tmkms = binary(version);
    let all: Vec<(&String, &Vec<u8>)> = configs.iter().collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((name, config)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = verdict(&tmkms, config);
                    found.lock().unwrap().insert((*name).clone(), verdict);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Twenty on the version that the lab has, one of each kind.
#[test]
fn twenty_configs_live_on_one_binary() {
    let chosen = [
        "plain",
        "no-validator",
        "no-providers",
        "unknown-in-chain",
        "chain-id-fifty-one",
        "chain-twice",
        "key-format-cosmos-json",
        "sign-extensions-true",
        "state-int-height",
        "state-missing",
        "state-folder-missing",
        "state-hook-no-words",
        "protocol-legacy",
        "protocol-v0_38",
        "addr-no-port",
        "no-secret-key",
        "no-secret-key-once",
        "softsign-long64",
        "yubihsm-serial-large",
        "toml-inline-over-lines",
    ];
    let mut configs = corpus::configs();
    configs.retain(|name, _| chosen.contains(&name.as_str()));
    assert_eq!(configs.len(), 20);
    let rows = check("0.12.2", &configs);
    for (name, verdict) in verdicts("0.12.2", &configs) {
        assert_eq!(differs(&rows[&name], verdict), None, "{name}");
    }
}

#[test]
#[ignore = "the long tier's: tests/lab/oracle builds the other binaries"]
fn all_configs_live_on_all_binaries() {
    let configs = corpus::configs();
    let mut found = Verdicts::new();
    for (at, version) in VERSIONS.iter().enumerate() {
        for (name, verdict) in verdicts(version, &configs) {
            found.entry(name).or_insert([Verdict::Runs; VERSIONS.len()])[at] = verdict;
        }
    }
    if std::env::var_os("KMSCTL_ORACLE_RECORD").is_some() {
        corpus::record(&found);
    }
    assert_eq!(
        found,
        corpus::recorded(),
        "`tests/lab/oracle --record` writes what the binaries do now"
    );
}
