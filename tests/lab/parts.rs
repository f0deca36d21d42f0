//! Drives the stand-ins of tests/lab/parts from a test: a fake validator and a mock YubiHSM.
//!
//! They run outside the machine but in its network, so a power cut doesn't take them and what a validator has verified isn't
//! forgotten. Nothing here waits without a bound, and a double signature is never just a field in an answer: every call
//! fails once one was seen.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::machine::{Machine, Running};

/// What a part may take on top of the wait that it was asked for.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// What a validator speaks with its signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    V033,
    V034,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::V033 => "v0.33",
            Protocol::V034 => "v0.34",
        })
    }
}

/// What a validator has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    Proposal,
    Prevote,
    Precommit,
}

impl Message {
    fn name(self) -> &'static str {
        match self {
            Message::Proposal => "proposal",
            Message::Prevote => "prevote",
            Message::Precommit => "precommit",
        }
    }
}

/// How a request for one signature ended. Signed means verified; keys and signatures are hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signing {
    Signed {
        public_key: String,
        signature: String,
    },
    Refused {
        why: String,
    },
}

/// How a run of heights ended: a prevote and a precommit for each, `count` of them verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heights {
    Signed {
        last: u64,
        count: u64,
    },
    Refused {
        height: u64,
        why: String,
        count: u64,
    },
}

impl Heights {
    /// The number of signatures, where all were given.
    pub fn signed(self) -> Result<u64> {
        match self {
            Heights::Signed { count, .. } => Ok(count),
            Heights::Refused { height, why, .. } => bail!("not signed at {height}: {why}"),
        }
    }
}

/// A verified vote, in hex where it is bytes; an empty block is nil.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    pub message: String,
    pub height: u64,
    pub round: u64,
    pub block: String,
    pub signature: String,
}

/// A validator of one chain at one address, waiting for its signer to dial in.
pub struct FakeValidator(Part);

impl FakeValidator {
    /// Starts to listen at `listen`, `127.0.1.1:26658` for instance. With a public key (hex), a signer with another one is
    /// never asked for anything.
    pub fn start(
        machine: &Machine,
        listen: &str,
        chain_id: &str,
        protocol: Protocol,
        public_key: Option<&str>,
    ) -> Result<FakeValidator> {
        let protocol = protocol.to_string();
        let mut args = vec![
            "--listen",
            listen,
            "--chain-id",
            chain_id,
            "--protocol",
            &protocol,
        ];
        if let Some(public_key) = public_key {
            args.extend(["--public-key", public_key]);
        }
        let (part, _greeting) = Part::start(machine, "fake-validator", &args)?;
        Ok(FakeValidator(part))
    }

    /// Asks for one signature. The block is 64 hex digits, or empty for nil.
    pub fn sign(
        &mut self,
        message: Message,
        height: u64,
        round: u32,
        block: &str,
        within: Duration,
    ) -> Result<Signing> {
        let answer = self.0.ask(
            &json!({"sign": {
                "type": message.name(), "height": height, "round": round, "block": block,
                "within_ms": milliseconds(within),
            }}),
            within,
        )?;
        Ok(if boolean(&answer, "signed")? {
            Signing::Signed {
                public_key: text(&answer, "public_key")?,
                signature: text(&answer, "signature")?,
            }
        } else {
            Signing::Refused {
                why: text(&answer, "why")?,
            }
        })
    }

    /// Asks for a prevote and a precommit at every height from `from` to `to`, `within` for all of them.
    pub fn run(&mut self, from: u64, to: u64, within: Duration) -> Result<Heights> {
        let command = json!({"run": {"from": from, "to": to, "within_ms": milliseconds(within)}});
        let answer = self.0.ask(&command, within)?;
        let count = number(&answer, "count")?;
        Ok(if boolean(&answer, "signed")? {
            Heights::Signed {
                last: number(&answer, "last")?,
                count,
            }
        } else {
            Heights::Refused {
                height: number(&answer, "height")?,
                why: text(&answer, "why")?,
                count,
            }
        })
    }

    /// Waits for a signer that answers; gives its public key, or None where none came.
    pub fn connected(&mut self, within: Duration) -> Result<Option<String>> {
        let command = json!({"connected": {"within_ms": milliseconds(within)}});
        let answer = self.0.ask(&command, within)?;
        Ok(if boolean(&answer, "connected")? {
            Some(text(&answer, "public_key")?)
        } else {
            None
        })
    }

    /// Everything this validator has verified, in order.
    pub fn votes(&mut self) -> Result<Vec<Vote>> {
        let answer = self.0.ask(&json!({"votes": {}}), Duration::ZERO)?;
        let votes = answer["votes"]
            .as_array()
            .with_context(|| format!("no votes in {answer}"))?;
        votes
            .iter()
            .map(|vote| {
                Ok(Vote {
                    message: text(vote, "type")?,
                    height: number(vote, "height")?,
                    round: number(vote, "round")?,
                    block: text(vote, "block")?,
                    signature: text(vote, "signature")?,
                })
            })
            .collect()
    }
}

/// The mock's password: made up, and a word that nothing else in a machine contains, so that it can be looked for.
pub const PASSWORD: &str = "made-up-quince-marmalade";

/// A mock YubiHSM behind the connector's HTTP: authentication key 1, [`PASSWORD`], serial number 0123456789.
/// It has sixteen sessions for its whole life and never gets one back: a dozen signer starts.
pub struct MockYubihsm {
    public_keys: BTreeMap<u16, String>,
    _part: Part,
}

impl MockYubihsm {
    /// Starts it at `listen`, with a made-up Ed25519 key at each of the ids.
    pub fn start(machine: &Machine, listen: &str, keys: &[u16]) -> Result<MockYubihsm> {
        let ids: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let ids = ids.join(",");
        let args = ["--listen", listen, "--keys", &ids, "--password", PASSWORD];
        let (part, greeting) = Part::start(machine, "mock-yubihsm-connector", &args)?;
        let mut public_keys = BTreeMap::new();
        for id in keys {
            public_keys.insert(*id, text(&greeting["public_keys"], &id.to_string())?);
        }
        Ok(MockYubihsm {
            public_keys,
            _part: part,
        })
    }

    /// The public key at an id, in hex.
    pub fn public_key(&self, id: u16) -> Result<&str> {
        let key = self.public_keys.get(&id);
        Ok(key.with_context(|| format!("the mock HSM was started without key {id}"))?)
    }
}

/// One running part: a JSON object a line in, one a line out. Its stdin stays open as long as it is to live.
struct Part {
    name: &'static str,
    stdin: ChildStdin,
    lines: Receiver<String>,
    running: Running,
}

impl Part {
    /// Starts a part and waits for its first line, which it prints when it listens.
    fn start(machine: &Machine, name: &'static str, args: &[&str]) -> Result<(Part, Value)> {
        let program = machine.lab().part(name).display().to_string();
        let mut argv = vec![program.as_str()];
        argv.extend(args);
        let mut running = machine.spawn_in_network(&argv)?;
        let (stdin, stdout) = running.pipes().context("a started part has no pipes")?;
        let (said, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        let part = Part {
            name,
            stdin,
            lines,
            running,
        };
        let greeting = part.answer(Duration::ZERO)?;
        text(&greeting, "listening")?;
        Ok((part, greeting))
    }

    fn ask(&mut self, command: &Value, within: Duration) -> Result<Value> {
        writeln!(self.stdin, "{command}")
            .with_context(|| format!("telling {} {command}: {}", self.name, self.running.said()))?;
        let answer = self.answer(within)?;
        ensure!(
            answer["error"].is_null(),
            "{} refuses {command}: {}",
            self.name,
            answer["error"]
        );
        ensure!(answer["conflict"].is_null(), "{}", answer["conflict"]);
        Ok(answer)
    }

    fn answer(&self, within: Duration) -> Result<Value> {
        let line = self
            .lines
            .recv_timeout(within + ANSWER_LIMIT)
            .with_context(|| format!("waiting for {}: {}", self.name, self.running.said()))?;
        serde_json::from_str(&line).with_context(|| format!("reading {line:?} from {}", self.name))
    }
}

fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

fn text(answer: &Value, field: &str) -> Result<String> {
    let text = answer[field].as_str();
    Ok(text
        .with_context(|| format!("no text {field:?} in {answer}"))?
        .to_owned())
}

fn number(answer: &Value, field: &str) -> Result<u64> {
    answer[field]
        .as_u64()
        .with_context(|| format!("no number {field:?} in {answer}"))
}

fn boolean(answer: &Value, field: &str) -> Result<bool> {
    answer[field]
        .as_bool()
        .with_context(|| format!("no boolean {field:?} in {answer}"))
}
