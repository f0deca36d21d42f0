//! A bench to put the parts on: the two programs, real tmkms processes, and a folder for each test.
//!
//! Ends only the processes it started, each by its own handle.

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

/// The tmkms under test. Without one there is nothing to prove, so a missing variable fails the test.
pub fn tmkms_binary() -> PathBuf {
    std::env::var_os("KMSCTL_LAB_TMKMS")
        .map(PathBuf::from)
        .expect("KMSCTL_LAB_TMKMS must name a tmkms 0.12.2 binary with softsign and yubihsm")
}

/// A program that talks JSON lines.
pub struct Part {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// Its first line.
    pub hello: Value,
}

impl Part {
    /// Starts a fake validator on a free port of `ip`.
    pub fn validator(ip: &str, chain_id: &str, protocol: &str, more: &[&str]) -> Self {
        let listen = format!("{ip}:0");
        let mut args = vec![
            "--listen",
            &listen,
            "--chain-id",
            chain_id,
            "--protocol",
            protocol,
        ];
        args.extend(more);
        Self::start(env!("CARGO_BIN_EXE_fake-validator"), &args)
    }

    /// Starts a mock YubiHSM on a free port.
    pub fn yubihsm(keys: &str) -> Self {
        let args = ["--listen", "127.0.0.1:0", "--keys", keys];
        Self::start(env!("CARGO_BIN_EXE_mock-yubihsm-connector"), &args)
    }

    fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting a part");
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let hello = read(&mut stdout);
        Self {
            child,
            stdin,
            stdout,
            hello,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        self.hello["listening"].as_str().expect("an address")
    }

    /// Where it listens, with its node id in front, which tmkms then checks.
    pub fn address_with_id(&self) -> String {
        format!(
            "{}@{}",
            self.hello["peer_id"].as_str().expect("a node id"),
            self.address()
        )
    }

    /// Sends one line as it is and reads one.
    pub fn tell(&mut self, line: &str) -> Value {
        let stdin = self.stdin.as_mut().expect("still open");
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .expect("writing a command");
        read(&mut self.stdout)
    }

    /// Asks for one signature.
    pub fn sign(&mut self, kind: &str, height: u64, round: u32, block: &str) -> Value {
        let sign = json!({ "type": kind, "height": height, "round": round, "block": block, "within_ms": 10_000 });
        self.tell(&json!({ "sign": sign }).to_string())
    }

    /// Asks for every height of a range.
    pub fn run(&mut self, from: u64, to: u64) -> Value {
        self.tell(&json!({ "run": { "from": from, "to": to, "within_ms": 60_000 } }).to_string())
    }

    /// Asks whether a signer is there.
    pub fn connected(&mut self, within_ms: u64) -> Value {
        self.tell(&json!({ "connected": { "within_ms": within_ms } }).to_string())
    }

    /// Closes its stdin and waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        self.stdin = None;
        self.child.wait().expect("waiting for a part")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(stdout: &mut impl BufRead) -> Value {
    let mut line = String::new();
    stdout.read_line(&mut line).expect("reading an answer");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON: {line:?}: {error}"))
}

/// A folder with a tmkms.toml and what belongs to it.
pub struct Signer {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Signer {
    /// A signer with a new software key.
    pub fn softsign(chain_id: &str, protocol: &str, validator: &str) -> Self {
        let signer = Self::empty();
        signer.keygen("consensus.key");
        signer.softsign_config(chain_id, protocol, validator);
        signer
    }

    /// A second signer with the same software key, and no memory of what the first one signed.
    pub fn twin(&self, chain_id: &str, protocol: &str, validator: &str) -> Self {
        let signer = Self::empty();
        fs::copy(self.path("consensus.key"), signer.path("consensus.key")).expect("copying a key");
        signer.softsign_config(chain_id, protocol, validator);
        signer
    }

    /// A signer with key `key` of the YubiHSM at `hsm`.
    pub fn yubihsm(chain_id: &str, protocol: &str, validator: &str, hsm: &str, key: u16) -> Self {
        let signer = Self::empty();
        fs::write(signer.path("password"), "password\n").expect("writing the password");
        let provider = format!(
            r#"
[[providers.yubihsm]]
adapter = {{ type = "http", addr = "tcp://{hsm}" }}
auth = {{ key = 1, password_file = "password" }}
keys = [{{ chain_ids = ["{chain_id}"], key = {key}, type = "consensus" }}]
serial_number = "0123456789"
"#
        );
        signer.configure(chain_id, protocol, validator, &provider);
        signer
    }

    fn softsign_config(&self, chain_id: &str, protocol: &str, validator: &str) {
        let provider = format!(
            r#"
[[providers.softsign]]
chain_ids = ["{chain_id}"]
key_type = "consensus"
path = "consensus.key"
"#
        );
        self.configure(chain_id, protocol, validator, &provider);
    }

    /// Starts tmkms.
    pub fn start(&mut self) {
        self.stop();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("opening the log");
        let child = Command::new(tmkms_binary())
            .args(["start", "-c", "tmkms.toml"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("one log for both"))
            .stdout(log)
            .spawn()
            .expect("starting tmkms");
        self.child = Some(child);
    }

    /// Kills tmkms and waits for its end.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What tmkms printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a folder for a signer");
        let signer = Self {
            folder,
            child: None,
        };
        signer.keygen("identity.key");
        signer
    }

    fn keygen(&self, name: &str) {
        let made = Command::new(tmkms_binary())
            .args(["softsign", "keygen", "-t", "consensus", name])
            .current_dir(self.folder.path())
            .output()
            .expect("starting tmkms");
        assert!(made.status.success(), "{made:?}");
    }

    fn configure(&self, chain_id: &str, protocol: &str, validator: &str, provider: &str) {
        let config = format!(
            r#"
[[chain]]
id = "{chain_id}"
key_format = {{ type = "bech32", account_key_prefix = "did:com:pub", consensus_key_prefix = "did:com:valconspub" }}
state_file = "{chain_id}.json"

[[validator]]
chain_id = "{chain_id}"
addr = "tcp://{validator}"
secret_key = "identity.key"
protocol_version = "{protocol}"
reconnect = true
{provider}"#
        );
        fs::write(self.path("tmkms.toml"), config).expect("writing tmkms.toml");
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.stop();
    }
}
