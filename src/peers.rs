//! Other hosts of the same operator, each asked by a command that prints its `kmsctl status --json`: whether they are as far
//! as this one, and whether one signs with a key that is used here.
//!
//! A peer that doesn't answer, or not in this form, is unknown; and unknown stops what it was needed for (rule S12).

mod keys;

use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use tmkms_core::state::SignState;

use crate::finding::{Code, Finding};
use crate::host::asked;
use crate::inventory::StateReading;
use crate::plan::Height;
use crate::ui::FORMAT_VERSION;

pub use keys::Here;

/// How long all of them together may take.
const LIMIT: Duration = Duration::from_secs(20);
/// How old an answer may be, and how far a clock may be ahead.
const FRESH: Duration = Duration::from_secs(600);
const AHEAD: Duration = Duration::from_secs(60);
/// No status is longer.
const LONGEST: u64 = 16 << 20;

/// A host to ask, and how: `NAME=COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// For `sh -c`.
    pub command: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        match text.split_once('=') {
            Some((name, command))
                if !name.is_empty() && name.chars().all(plain) && !command.trim().is_empty() =>
            {
                Ok(Peer {
                    name: name.to_owned(),
                    command: command.to_owned(),
                })
            }
            _ => Err(format!(
                "{text:?} is no NAME=COMMAND, such as 'km2=ssh km2 kmsctl status --json'"
            )),
        }
    }
}

/// What peers said.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// Those that were asked.
    pub asked: usize,
    answers: Vec<(String, Answer)>,
    unknown: Vec<Finding>,
}

/// The parts of a status that are needed; others may come and go.
#[derive(Clone, Debug, Deserialize)]
struct Answer {
    format_version: u32,
    host: String,
    observed_at: jiff::Timestamp,
    signers: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    signer: String,
    unit: String,
    retired: bool,
    chains: Vec<Chain>,
}

#[derive(Clone, Debug, Deserialize)]
struct Chain {
    id: String,
    state_file: std::path::PathBuf,
    /// None of a kmsctl that didn't tell them yet.
    #[serde(default)]
    keys: Vec<Key>,
    height: Option<u64>,
    round: Option<u32>,
    step: Option<u8>,
}

#[derive(Clone, Debug, Deserialize)]
struct Key {
    /// What that host's config calls it.
    name: String,
    /// In hex.
    public_key: Option<String>,
    /// Why it isn't known there.
    #[serde(default)]
    unknown: Option<String>,
}

/// Asks all of them at once.
pub fn ask(peers: &[Peer], now: jiff::Timestamp) -> Peers {
    let answers = say(peers).into_iter();
    let answers = answers.map(|said| fresh(answer(&said?)?, now));
    let mut said = Peers {
        asked: peers.len(),
        ..Peers::default()
    };
    for (peer, answer) in peers.iter().zip(answers) {
        match answer {
            Ok(answer) => said.answers.push((peer.name.clone(), answer)),
            Err(e) => {
                let message = format!("peer {} gave no answer that can be used: {e:#}", peer.name);
                // The command itself may hold a secret.
                let remedy =
                    "see what its command prints, as the command line or kmsctl.toml has it";
                said.unknown
                    .push(Finding::block(Code::PeerUnknown, message).remedy(remedy));
            }
        }
    }
    said
}

/// What all of them print, asked at once, in their order.
pub fn say(peers: &[Peer]) -> Vec<Result<Vec<u8>>> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = peers
            .iter()
            .map(|peer| scope.spawn(|| said(&peer.command)))
            .collect();
        let answered = asked.into_iter().map(|thread| thread.join());
        answered
            .map(|answer| answer.unwrap_or_else(|_| bail!("asking it failed")))
            .collect()
    })
}

fn said(command: &str) -> Result<Vec<u8>> {
    let mut shell = Command::new("sh");
    asked::output(shell.args(["-c", command]), LIMIT, LONGEST)
        .map_err(|e| anyhow!("its command {e:#}"))
}

fn answer(bytes: &[u8]) -> Result<Answer> {
    let answer: Answer =
        serde_json::from_slice(bytes).context("it isn't what `kmsctl status --json` prints")?;
    ensure!(
        answer.is_plain(),
        "its answer has control characters in a name"
    );
    ensure!(
        answer.format_version == FORMAT_VERSION,
        "its format is {}, and this kmsctl reads format {FORMAT_VERSION}: use the same kmsctl on both",
        answer.format_version
    );
    Ok(answer)
}

impl Answer {
    /// Nothing in it moves a terminal's cursor.
    fn is_plain(&self) -> bool {
        let plain = |text: &str| !text.chars().any(char::is_control);
        let chain = |c: &Chain| plain(&c.id) && c.state_file.to_str().is_some_and(plain);
        let row = |row: &Row| plain(&row.signer) && row.chains.iter().all(chain);
        plain(&self.host) && self.signers.iter().all(row)
    }
}

fn fresh(answer: Answer, now: jiff::Timestamp) -> Result<Answer> {
    let age = now.duration_since(answer.observed_at);
    match Duration::try_from(age) {
        Ok(age) => ensure!(
            age <= FRESH,
            "its answer is from {}, {} s ago: more than {} s",
            answer.observed_at,
            age.as_secs(),
            FRESH.as_secs()
        ),
        Err(_) => ensure!(
            age.unsigned_abs() <= AHEAD,
            "its answer is from {}, which is yet to come: compare the clocks",
            answer.observed_at
        ),
    }
    Ok(answer)
}

impl Peers {
    /// How far the peers' current signers are on a chain.
    pub fn heights(&self, chain: &str) -> Vec<Height> {
        let mut heights = Vec::new();
        for (peer, answer) in &self.answers {
            for row in answer.signers.iter().filter(|row| !row.retired) {
                for there in row.chains.iter().filter(|c| c.id == chain) {
                    let reading = match (there.height, there.round, there.step) {
                        (Some(height), Some(round), Some(step)) => StateReading::Read(SignState {
                            height,
                            round,
                            step,
                        }),
                        _ => StateReading::Missing,
                    };
                    heights.push(Height {
                        signer: format!("{peer}:{}", row.signer),
                        chain: there.id.clone(),
                        state_file: there.state_file.clone(),
                        reading,
                    });
                }
            }
        }
        heights
    }

    /// The peers that are unknown, or that are this very host.
    pub fn unknown(&self, host: &str) -> Vec<Finding> {
        let mut findings = self.unknown.clone();
        for (peer, answer) in self.answers.iter().filter(|(_, a)| a.host == host) {
            let message = format!(
                "peer {peer} answers as {}, which is this host: it says nothing of another",
                answer.host
            );
            let remedy = "correct the peer's command";
            findings.push(Finding::block(Code::PeerUnknown, message).remedy(remedy));
        }
        findings
    }

    /// What stands against a move off a chain: peers that are unknown, or whose heights are, or that are this very host.
    pub fn findings(&self, host: &str, chain: &str) -> Vec<Finding> {
        let mut findings = self.unknown(host);
        for height in self.heights(chain) {
            if height.reading.height().is_none() {
                let message = format!(
                    "how far {} signed {chain} can't be read there",
                    height.signer
                );
                let remedy = "see `kmsctl heights` on that host";
                findings.push(Finding::block(Code::PeerUnknown, message).remedy(remedy));
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn said(seconds_ago: i64, rest: &str) -> Peers {
        let at = now() - jiff::SignedDuration::from_secs(seconds_ago);
        let text = format!(
            r#"{{"format_version":1,"host":"km2","observed_at":"{at}","signers":[{rest}],"more":1}}"#
        );
        let command = format!("printf '%s' '{text}'");
        let name = "km2".to_owned();
        ask(&[Peer { name, command }], now())
    }

    const ROW: &str = r#"{"signer":"a","unit":"a.service","retired":false,"chains":[{"id":"x-1","state_file":"/s","height":7,"round":0,"step":2}]}"#;

    #[test]
    fn an_answer_is_taken_while_it_is_fresh() {
        for (ago, taken) in [
            (0, true),
            (599, true),
            (601, false),
            (-30, true),
            (-90, false),
        ] {
            let peers = said(ago, ROW);
            assert_eq!(peers.findings("km1", "x-1").is_empty(), taken, "{ago}");
            assert_eq!(peers.heights("x-1").len(), usize::from(taken), "{ago}");
        }
    }

    /// A retired signer's height is that of the day it was left: it would hold up every later night.
    #[test]
    fn retired_signers_have_no_height() {
        let retired = ROW.replace("false", "true");
        assert!(said(0, &retired).heights("x-1").is_empty());
        let both = format!("{ROW},{}", retired.replace("\"height\":7", "\"height\":3"));
        let heights = said(0, &both).heights("x-1");
        assert_eq!(heights.len(), 1, "{heights:?}");
        assert_eq!(heights[0].reading.height().map(|at| at.height), Some(7));
    }

    #[test]
    fn what_is_not_known_stands_against_the_move() {
        let unreadable = ROW.replace("\"height\":7", "\"height\":null");
        assert_eq!(said(0, &unreadable).findings("km1", "x-1").len(), 1);
        assert_eq!(said(0, &unreadable).findings("km1", "x-2").len(), 0);
        assert_eq!(
            said(0, ROW).findings("km2", "x-1").len(),
            1,
            "this very host"
        );
        for command in [
            "exit 1",
            "echo",
            "echo '{}'",
            "printf '\\377'",
            "kill $$",
            "yes | head -c 20000000",
        ] {
            let peer = Peer {
                name: "km2".into(),
                command: command.into(),
            };
            let peers = ask(&[peer], now());
            assert_eq!(peers.findings("km1", "x-1").len(), 1, "{command}");
        }
    }

    #[test]
    fn a_peer_is_a_name_and_a_command() {
        let peer: Peer = "km2=ssh -o X=y km2 kmsctl status --json".parse().unwrap();
        assert_eq!(peer.name, "km2");
        assert_eq!(peer.command, "ssh -o X=y km2 kmsctl status --json");
        for odd in ["", "km2", "=x", "km2=", "km2= ", "a b=c", "a;b=c"] {
            assert!(odd.parse::<Peer>().is_err(), "{odd}");
        }
    }
}
