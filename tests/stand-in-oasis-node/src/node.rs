//! The stand-in's life: lock and open the database, replicate, register at each epoch, answer.
//!
//! What it is told to do wrong stands in `<datadir>/stand-in-trouble`, as words: `panic`, `not-replicated`, `corrupted`,
//! `storage-corrupted`, `not-allowed`, `unknown-version`, `drops-out`, `not-ready`, `hangs`, `garbage`, `refuses`,
//! `rotation`, `insecure`, `empty-checksum`, `other-checksum`, `other-policy`, `forged`, `stale`, `not-in-committee`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::answer::{Answer, InitResponse, OnChain, Registered, Shape};
use crate::bundle::{self, Bundle};
use crate::chain::{Chain, Entry};
use crate::settings::{Config, Settings};

const TICK: Duration = Duration::from_millis(50);
/// A node that wasn't seen for so long doesn't run.
const GONE: Duration = Duration::from_secs(2);

/// What lies in a database. A real one is encrypted by the processor; this one only says by what it would be.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sealed {
    mrenclave: String,
    cpu: String,
    secrets: String,
}

/// Makes a database as if this bundle had sealed these secrets here long ago.
pub fn seal(settings: &Settings, config: &Config, secrets: &str) -> Result<(), String> {
    let bundle = bundle::read(&config.bundle)?;
    let database = config.database();
    fs::create_dir_all(&database).map_err(|e| format!("{}: {e}", database.display()))?;
    write(&database, settings, &bundle, secrets)
}

fn write(
    database: &Path,
    settings: &Settings,
    bundle: &Bundle,
    secrets: &str,
) -> Result<(), String> {
    let sealed = Sealed {
        mrenclave: HEXLOWER.encode(&bundle.mrenclave),
        cpu: settings.cpu.clone(),
        secrets: secrets.to_owned(),
    };
    let path = database.join("sealed.json");
    let text = serde_json::to_vec(&sealed).map_err(|e| e.to_string())?;
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn log(level: &str, message: &str) {
    let line =
        json!({"level": level, "module": "stand-in", "msg": message, "ts": Timestamp::now()});
    // A closed journal is no reason to end.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Each message once.
#[derive(Default)]
struct Said(BTreeSet<String>);

impl Said {
    fn once(&mut self, level: &str, message: &str) {
        if self.0.insert(message.to_owned()) {
            log(level, message);
        }
    }
}

struct Node {
    settings: Settings,
    config: Config,
    bundle: Bundle,
    chain: Chain,
    /// Opened, or replicated.
    secrets: Option<String>,
    panicked: bool,
    asking_since: Option<Instant>,
    entry: Option<Entry>,
    /// When it first registered since its process began.
    registered: Option<Timestamp>,
    last_error: Option<String>,
    said: Said,
}

/// Runs until it is killed.
pub fn run(settings: Settings, config: Config) -> Result<(), String> {
    let bundle = bundle::read(&config.bundle)?;
    let chain = Chain::open(&settings.chain)?;
    let database = config.database();
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", database.display());
    fs::create_dir_all(&database).map_err(|e| wrong(&e))?;
    // As Badger does: on the folder itself, for as long as the process lives.
    let lock = File::open(&database).map_err(|e| wrong(&e))?;
    lock.try_lock()
        .map_err(|_| wrong(&"Cannot acquire directory lock"))?;
    let mut node = Node {
        secrets: None,
        panicked: false,
        asking_since: None,
        entry: None,
        registered: None,
        last_error: None,
        said: Said::default(),
        settings,
        config,
        bundle,
        chain,
    };
    node.open(&database);
    let answer = Arc::new(Mutex::new(node.answer()?));
    serve(&node.config, Arc::clone(&answer))?;
    loop {
        node.live(&database)?;
        let said = node.answer()?;
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = said;
        thread::sleep(TICK);
    }
}

impl Node {
    fn has(&self, trouble: &str) -> bool {
        self.config.trouble().iter().any(|word| word == trouble)
    }

    /// What is in the database, if this enclave on this processor sealed it.
    fn open(&mut self, database: &Path) {
        let Ok(text) = fs::read(database.join("sealed.json")) else {
            return;
        };
        let sealed: Option<Sealed> = serde_json::from_slice(&text).ok();
        let mine = sealed.filter(|sealed| {
            sealed.mrenclave == HEXLOWER.encode(&self.bundle.mrenclave)
                && sealed.cpu == self.settings.cpu
        });
        match mine {
            Some(sealed) => self.secrets = Some(sealed.secrets),
            None => self.panics(),
        }
    }

    fn panics(&mut self) {
        self.panicked = true;
        let message = "thread 'main' panicked at 'runtime execution failed: Enclave panicked.', \
                       runtime-loader/bin/main.rs:57:10";
        self.said.once("warn", message);
    }

    fn live(&mut self, database: &Path) -> Result<(), String> {
        if self.has("panic") {
            self.panics();
        }
        for (trouble, message) in [
            ("corrupted", "key manager state corrupted"),
            ("storage-corrupted", "storage corrupted"),
            (
                "unknown-version",
                "node running unknown runtime enclave version",
            ),
        ] {
            if self.has(trouble) {
                self.said.once("error", message);
                return Ok(());
            }
        }
        if self.panicked {
            return Ok(());
        }
        if self.secrets.is_none() {
            self.replicate(database)?;
        }
        if self.secrets.is_some() {
            self.register()?;
        }
        Ok(())
    }

    fn is_new(&self, version: [u16; 3]) -> bool {
        version >= self.chain.rules.new_version
    }

    fn replicate(&mut self, database: &Path) -> Result<(), String> {
        let now = Timestamp::now();
        let lives = |entry: &Entry| {
            now.duration_since(entry.seen).unsigned_abs() < GONE
                && (!self.is_new(entry.version) || self.is_new(self.bundle.version))
        };
        let mut committee = self.chain.committee(now)?.into_iter();
        let Some(giver) = committee
            .find(lives)
            .filter(|_| !self.has("not-replicated"))
        else {
            self.asking_since = None;
            self.said
                .once("error", "master secret generation 0 not replicated");
            return Ok(());
        };
        let since = *self.asking_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= Duration::from_millis(self.settings.replication_ms) {
            write(database, &self.settings, &self.bundle, &giver.gives)?;
            self.secrets = Some(giver.gives);
            log("info", "master secret replicated");
        }
        Ok(())
    }

    /// At each epoch, and seen at each tick.
    fn register(&mut self) -> Result<(), String> {
        let now = Timestamp::now();
        let epoch = self.chain.epoch(now);
        if self.has("drops-out") {
            self.last_error = Some("the key manager's status can't be decoded".into());
            return Ok(());
        }
        let early = self.is_new(self.bundle.version) && epoch < self.chain.rules.upgrade_epoch;
        if early || self.has("not-allowed") {
            let message = "registry: node update not allowed";
            self.last_error = Some(message.into());
            self.said
                .once("error", &format!("failed to register node: {message}"));
            return Ok(());
        }
        self.last_error = None;
        let secrets = self.secrets.clone().unwrap_or_default();
        let node = self.settings.node();
        let mut fresh = self.chain.entry(&node, self.bundle.version, &secrets, now);
        if let Some(before) = &self.entry
            && before.expiration >= epoch
        {
            fresh.since = before.since;
            if before.expiration == fresh.expiration {
                fresh.at = before.at;
            }
        }
        self.registered.get_or_insert(now);
        self.chain.put(&fresh)?;
        self.entry = Some(fresh);
        Ok(())
    }

    fn answer(&self) -> Result<Answer, String> {
        let now = Timestamp::now();
        let rules = &self.chain.rules;
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap_or_default();
        let has = |trouble: &str| self.has(trouble);
        let checksum = self.secrets.as_ref().map(|secrets| match () {
            () if has("empty-checksum") => Vec::new(),
            () if has("other-checksum") => vec![0xee; 32],
            () => Sha256::digest(bytes(secrets)).to_vec(),
        });
        let policy = if has("other-policy") {
            vec![0xee; 32]
        } else {
            bytes(&rules.policy)
        };
        let committee = self.chain.committee(now)?.into_iter();
        let mut nodes: Vec<[u8; 32]> = committee
            .filter_map(|entry| bytes(&entry.node).try_into().ok())
            .collect();
        if has("not-in-committee") {
            nodes.retain(|node| *node != self.settings.node());
        }
        let ready = self.registered.is_some() && !has("not-ready");
        let mut seed = self.bundle.mrenclave;
        seed[0] ^= self.settings.seed;
        Ok(Answer {
            software_version: self.settings.version.clone(),
            node: self.settings.node(),
            consensus: "ready".into(),
            latest_time: if has("stale") {
                "2020-01-01T00:00:00Z".into()
            } else {
                now.to_string()
            },
            epoch: self.chain.epoch(now),
            runtime: self.config.runtime.clone(),
            state: if ready { "ready" } else { "starting" }.into(),
            version: self.bundle.version,
            registered: self.entry.as_ref().map(|entry| Registered {
                at: entry.at.to_string(),
                expiration: entry.expiration,
                version: entry.version,
                seed,
                said: checksum.map(|checksum| InitResponse {
                    is_secure: !has("insecure"),
                    checksum,
                    policy_checksum: policy.clone(),
                    next_checksum: has("rotation").then(|| vec![0xdd; 32]),
                }),
                forged: has("forged"),
            }),
            last_error: self.last_error.clone(),
            policy_checksum: policy,
            on_chain: Some(OnChain {
                checksum: bytes(&rules.checksum),
                nodes,
            }),
        })
    }
}

fn serve(config: &Config, answer: Arc<Mutex<Answer>>) -> Result<(), String> {
    let path = &config.socket;
    // What a killed process left.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let config = config.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, answer) = (config.clone(), Arc::clone(&answer));
            thread::spawn(move || tell(stream, &config, &answer));
        }
    });
    Ok(())
}

fn tell(mut stream: UnixStream, config: &Config, answer: &Mutex<Answer>) {
    let trouble = config.trouble();
    let has = |word: &str| trouble.iter().any(|trouble| trouble == word);
    let mut wanted = String::new();
    if BufReader::new(&stream).read_line(&mut wanted).is_err() || has("refuses") {
        return;
    }
    if has("hangs") {
        thread::sleep(Duration::from_secs(3600));
    }
    let shape = match wanted.trim() {
        "flat" => Shape::Flat,
        "global-and-worker" => Shape::GlobalAndWorker,
        _ => Shape::Secrets,
    };
    let text = if has("garbage") {
        "{\"keymanager\": 7, \n\u{0}}}".to_owned()
    } else {
        let answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer.print(shape)
    };
    // Whoever asked may be gone.
    let _ = stream.write_all(text.as_bytes());
}

/// `control status`: the shape is the command line's own.
pub fn control_status(shape: Shape, socket: &Path) -> Result<String, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(|e| wrong(&e))?;
    let word = match shape {
        Shape::Flat => "flat",
        Shape::GlobalAndWorker => "global-and-worker",
        Shape::Secrets => "secrets",
    };
    writeln!(stream, "{word}").map_err(|e| wrong(&e))?;
    let text = std::io::read_to_string(stream).map_err(|e| wrong(&e))?;
    if text.is_empty() {
        return Err(wrong(&"rpc error: code = Unavailable"));
    }
    Ok(text)
}
