//! Three stand-ins, read with kmsctl's own readers: the guide's night by hand, and each failure that one can be told.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kmsctl::host::nodes::{Live, Nodes, Question};
use kmsctl::kms::oasis::bundle::{Bundle, against};
use kmsctl::kms::oasis::config::{NodeConfig, apply};
use kmsctl::kms::oasis::failure::{Class, Failure, recognise};
use kmsctl::kms::oasis::ids::Checksum;
use kmsctl::kms::oasis::place::{AsidePath, DatabasePath};
use kmsctl::kms::oasis::proofs::Verifications;
use kmsctl::kms::oasis::status::NodeStatus;
use kmsctl::kms::oasis::verify::{Expectation, Holds, Verdict, verify};
use sha2::{Digest, Sha256};
use stand_in_oasis_node::bundle::make;
use stand_in_oasis_node::chain::Rules;
use stand_in_oasis_node::settings::{Settings, VARIABLE};

const RUNTIME: &str = "4000000000000000000000000000000000000000000000004a1a53dff2ae482d";
/// Made up, and nobody's.
const SECRETS: &str = "5a5a5a5a";
const POLICY: [u8; 32] = [6; 32];
const EPOCH: u64 = 700;
const LONG: Duration = Duration::from_secs(60);

struct Fleet {
    folder: tempfile::TempDir,
    nodes: Vec<Node>,
}

struct Node {
    folder: PathBuf,
    old: Bundle,
    new: Bundle,
    process: Option<Running>,
}

struct Running {
    child: Child,
    started: Timestamp,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Fleet {
    /// On the old version since long ago; the upgrade epoch is so many epochs away.
    fn of(upgrade: u64) -> Fleet {
        let folder = tempfile::tempdir().unwrap();
        let chain = folder.path().join("chain");
        fs::create_dir(&chain).unwrap();
        let rules = Rules {
            begun: Timestamp::now(),
            epoch_ms: EPOCH,
            upgrade_epoch: upgrade,
            new_version: [0, 7, 0],
            checksum: Checksum::new(Sha256::digest([0x5a; 4]).into()).to_string(),
            policy: Checksum::new(POLICY).to_string(),
        };
        let rules = serde_json::to_vec(&rules).unwrap();
        fs::write(chain.join("chain.json"), rules).unwrap();
        let versions = ["22.2", "23.0", "26.1"];
        let nodes = (1..).zip(versions).map(|(seed, version)| {
            let folder = folder.path().join(format!("km{seed}"));
            Node::install(folder, &chain, seed, version)
        });
        let nodes = nodes.collect();
        let mut fleet = Fleet { folder, nodes };
        for node in &mut fleet.nodes {
            node.command(&["seal", "--secrets", SECRETS])
                .status()
                .unwrap();
            node.start();
        }
        for node in &fleet.nodes {
            node.until(|verdict| verdict.verified.is_some());
        }
        fleet
    }

    fn epoch(&self) -> u64 {
        let chain = self.folder.path().join("chain");
        let chain = stand_in_oasis_node::chain::Chain::open(&chain).unwrap();
        chain.epoch(Timestamp::now())
    }
}

impl Node {
    fn install(folder: PathBuf, chain: &Path, seed: u8, version: &str) -> Node {
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        let bundle = |minor: u16, file: &str| {
            let enclave = format!("enclave {minor}");
            let bytes = make(RUNTIME, [0, minor, 0], enclave.as_bytes()).unwrap();
            fs::write(folder.join(file), &bytes).unwrap();
            Bundle::read(&bytes).unwrap()
        };
        let (old, new) = (bundle(6, "old.orc"), bundle(7, "new.orc"));
        let settings = Settings {
            chain: chain.to_owned(),
            cpu: format!("cpu-{seed}"),
            seed,
            version: version.into(),
            replication_ms: 200,
        };
        let settings = serde_json::to_vec(&settings).unwrap();
        fs::write(folder.join("settings.json"), settings).unwrap();
        let config = format!(
            "mode: keymanager\ncommon:\n  data_dir: {}\nruntime:\n  paths: [\"{}\"]  # one\n\
             keymanager: {{runtime_id: \"{RUNTIME}\"}}\n",
            data.display(),
            folder.join("old.orc").display()
        );
        fs::write(folder.join("config.yml"), config).unwrap();
        Node {
            folder,
            old,
            new,
            process: None,
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stand-in-oasis-node"));
        command
            .args(words)
            .arg("--config")
            .arg(self.folder.join("config.yml"))
            .env(VARIABLE, self.folder.join("settings.json"));
        command
    }

    fn start(&mut self) {
        let started = Timestamp::now();
        let mut child = self.command(&[]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, said) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                said.lock().unwrap().push(line);
            }
        });
        self.process = Some(Running {
            child,
            started,
            lines,
        });
    }

    fn said(&self) -> Vec<String> {
        self.process.as_ref().unwrap().lines.lock().unwrap().clone()
    }

    fn config(&self) -> (NodeConfig, String) {
        let text = fs::read_to_string(self.folder.join("config.yml")).unwrap();
        (NodeConfig::parse(&text).unwrap(), text)
    }

    fn database(&self) -> DatabasePath {
        let (config, _) = self.config();
        DatabasePath::of(&config.data_dir, &config.runtime).unwrap()
    }

    fn ask(&self) -> Result<NodeStatus, String> {
        let socket = format!("unix:{}", self.config().0.socket.display());
        let output = self
            .command(&["control", "status", "-a", &socket])
            .output()
            .unwrap();
        if output.status.code() != Some(0) {
            return Err(format!("exit {:?}", output.status.code()));
        }
        let text = String::from_utf8(output.stdout).map_err(|e| e.to_string())?;
        NodeStatus::parse(&text).map_err(|e| e.to_string())
    }

    fn verdict(&self) -> Verdict {
        let is_new = self.config().0.bundle.ends_with("new.orc");
        let bundle = if is_new { &self.new } else { &self.old };
        let expected = Expectation {
            runtime: bundle.runtime,
            version: bundle.version,
            started: self.process.as_ref().map(|p| p.started),
            baseline: Some(Checksum::new(Sha256::digest([0x5a; 4]).into())),
            policy: Some(Checksum::new(POLICY)),
        };
        let status = self.ask();
        let status = status.as_ref().map_err(String::as_str);
        verify(&expected, Some(bundle.mrenclave), status, Timestamp::now())
    }

    fn until(&self, holds: impl Fn(&Verdict) -> bool) -> Verdict {
        let begun = Instant::now();
        loop {
            let verdict = self.verdict();
            if holds(&verdict) {
                return verdict;
            }
            assert!(begun.elapsed() < LONG, "{verdict:#?}\n{:#?}", self.said());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn until_failure(&self, failure: Failure, class: Class) {
        let begun = Instant::now();
        loop {
            let (lines, status) = (self.said(), self.ask().ok());
            let found = recognise(lines.iter().map(String::as_str), status.as_ref());
            if found
                .first()
                .is_some_and(|s| s.failure == failure && s.class == class)
            {
                return;
            }
            assert!(begun.elapsed() < LONG, "{failure:?}: {found:?}\n{lines:#?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn trouble(&self, words: &str) {
        fs::write(self.config().0.data_dir.join("stand-in-trouble"), words).unwrap();
    }

    /// Section "Upgrade Nodes" of the guide, with the move in place of the wipe.
    fn upgrade(&mut self) {
        let id = RUNTIME.parse().unwrap();
        assert_eq!(against(&self.new, &self.old, &id), Vec::<String>::new());
        let database = self.database();
        let locked = || File::open(database.as_path()).unwrap().try_lock().is_err();
        assert!(locked());
        self.process = None;
        assert!(!locked());
        let aside = AsidePath::of(&database, &self.old.mrenclave, 1);
        fs::create_dir_all(aside.as_path().parent().unwrap()).unwrap();
        fs::rename(database.as_path(), aside.as_path()).unwrap();
        let (config, text) = self.config();
        let edit = config
            .point_at(&text, &self.folder.join("new.orc"))
            .unwrap();
        let path = self.folder.join("config.yml");
        fs::write(path, apply(&text, &edit).unwrap()).unwrap();
        self.start();
    }

    fn twice(&self) -> Verifications {
        let mut both = Verifications::default();
        let begun = Instant::now();
        while !both.twice() {
            if let Some(verified) = self.verdict().verified {
                both.add(verified);
            }
            assert!(begun.elapsed() < LONG, "{both:?}");
            thread::sleep(Duration::from_millis(50));
        }
        both
    }
}

#[test]
fn the_guide_s_night_runs_on_three_stand_ins() {
    let mut fleet = Fleet::of(14);
    fleet.nodes[0].upgrade();
    if fleet.epoch() < 12 {
        fleet.nodes[0].until_failure(Failure::UpdateNotAllowed, Class::Wait);
        assert_eq!(fleet.nodes[0].verdict().verified, None);
    }
    for old in &fleet.nodes[1..] {
        assert!(old.until(|v| v.verified.is_some()).verified.is_some());
    }
    assert!(fleet.nodes[0].twice().twice());
    assert!(fleet.epoch() > 14);
    for n in [1, 2] {
        fleet.nodes[n].upgrade();
        assert!(fleet.nodes[n].twice().twice());
    }
}

#[test]
fn what_isn_t_moved_away_doesn_t_open_and_goes_back_as_it_was() {
    let mut fleet = Fleet::of(0);
    let node = &mut fleet.nodes[2];
    node.process = None;
    let (config, text) = node.config();
    let edit = config
        .point_at(&text, &node.folder.join("new.orc"))
        .unwrap();
    let path = node.folder.join("config.yml");
    fs::write(&path, apply(&text, &edit).unwrap()).unwrap();
    node.start();
    node.until_failure(Failure::EnclavePanicked, Class::StopNode);
    assert!(node.ask().unwrap().key_manager.is_starting());
    node.process = None;
    fs::write(&path, text).unwrap();
    node.start();
    node.until(|verdict| verdict.verified.is_some());
    // Another node's database doesn't open here: another processor sealed it.
    let theirs = fleet.nodes[1].database().as_path().join("sealed.json");
    let node = &mut fleet.nodes[2];
    node.process = None;
    fs::copy(theirs, node.database().as_path().join("sealed.json")).unwrap();
    node.start();
    node.until_failure(Failure::EnclavePanicked, Class::StopNode);
}

#[test]
fn two_of_them_can_t_have_one_database() {
    let fleet = Fleet::of(0);
    let second = fleet.nodes[0].command(&[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("directory lock"));
}

#[test]
fn every_failure_that_it_is_told_is_seen() {
    let mut fleet = Fleet::of(0);
    let node = &mut fleet.nodes[2];
    for (words, conditions) in [
        ("stale", &[1][..]),
        ("not-ready", &[2]),
        ("insecure", &[5]),
        ("empty-checksum", &[5]),
        ("other-checksum", &[5]),
        ("forged", &[5]),
        ("other-policy", &[6]),
        ("rotation", &[6]),
        ("not-in-committee", &[7]),
        ("garbage", &[1, 2, 3, 4, 5, 6, 7]),
        ("refuses", &[1, 2, 3, 4, 5, 6, 7]),
    ] {
        node.trouble(words);
        node.until(|verdict| {
            let failing = verdict.conditions.iter().filter(|c| c.holds != Holds::Yes);
            let failing: BTreeSet<u8> = failing.map(|c| c.number).collect();
            conditions.iter().all(|c| failing.contains(c))
        });
        node.trouble("");
        node.until(|verdict| verdict.verified.is_some());
    }
    // The registration runs out.
    node.trouble("drops-out");
    node.until(|verdict| verdict.conditions[3].holds == Holds::No);
    for (words, failure, class) in [
        ("not-replicated", Failure::NotReplicated, Class::Hold),
        ("corrupted", Failure::StateCorrupted, Class::StopFleet),
        (
            "storage-corrupted",
            Failure::StateCorrupted,
            Class::StopFleet,
        ),
        (
            "unknown-version",
            Failure::UnknownEnclaveVersion,
            Class::StopNode,
        ),
        ("panic", Failure::EnclavePanicked, Class::StopNode),
        ("not-allowed", Failure::UpdateNotAllowed, Class::Wait),
    ] {
        node.process = None;
        if words == "not-replicated" {
            fs::remove_dir_all(node.database().as_path()).unwrap();
        } else {
            node.command(&["seal", "--secrets", SECRETS])
                .status()
                .unwrap();
        }
        node.trouble(words);
        node.start();
        node.until_failure(failure, class);
    }
}

/// As a unit's program is: found by its path, with nothing in its environment.
fn program(node: &Node) -> PathBuf {
    let path = node.folder.join("oasis-node");
    let script = format!(
        "#!/bin/sh\n{VARIABLE}={} exec {} \"$@\"\n",
        node.folder.join("settings.json").display(),
        env!("CARGO_BIN_EXE_stand-in-oasis-node")
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn kmsctl_asks_a_node_by_its_own_command_line_and_not_for_ever() {
    let fleet = Fleet::of(0);
    let unit = "oasis-node.service".parse().unwrap();
    for node in &fleet.nodes {
        let (program, config) = (program(node), node.config().0);
        let process = node.process.as_ref().unwrap();
        let question = Question {
            unit: &unit,
            program: &program,
            user: "",
            socket: &config.socket,
            main_pid: process.child.id(),
        };
        let said = Live.control_status(&question).unwrap();
        let status = NodeStatus::parse(&said).unwrap();
        assert_eq!(status.key_manager.runtime, config.runtime);
        let began = Live.started(&question).unwrap();
        let apart = process.started.duration_since(began).unsigned_abs();
        assert!(apart < Duration::from_secs(3), "{apart:?}");
        for (trouble, why) in [("refuses", "128"), ("hangs", "longer than")] {
            node.trouble(trouble);
            let asked = Instant::now();
            let error = format!("{:#}", Live.control_status(&question).unwrap_err());
            assert!(error.contains(why), "{error}");
            assert!(asked.elapsed() < Duration::from_secs(20));
        }
        let gone = Question {
            user: "nobody-here",
            ..question
        };
        assert!(Live.control_status(&gone).is_err());
    }
}

#[test]
fn one_that_hangs_doesn_t_answer_by_itself() {
    let fleet = Fleet::of(0);
    fleet.nodes[0].trouble("hangs");
    let socket = format!("unix:{}", fleet.nodes[0].config().0.socket.display());
    let mut asking = fleet.nodes[0]
        .command(&["control", "status", "-a", &socket])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(1));
    assert!(asking.try_wait().unwrap().is_none());
    asking.kill().unwrap();
    asking.wait().unwrap();
}
