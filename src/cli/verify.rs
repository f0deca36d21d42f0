//! `verify`: whether this host's key managers hold the secrets, by what they and their enclaves say now; and again.

use std::time::Duration;

use clap::Args;

use super::watch::duration;
use crate::discover::{self, Node};
use crate::exit::{Exit, Failure, Outcome};
use crate::finding::Finding;
use crate::host::Host;
use crate::interrupt;
use crate::kms::oasis::answer::{Answer, agreed};
use crate::kms::oasis::failure::Class;
use crate::kms::oasis::ids::{Checksum, RuntimeId};
use crate::kms::oasis::published::NodeRow;
use crate::nodes::{self, Proofs};
use crate::peers::{self, Peer};
use crate::ui::nodes::{Live, Verification, text};
use crate::ui::{FORMAT_VERSION, Ui};

/// How often a wait looks. A block takes about six seconds.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Wait until they are verified
    #[arg(long)]
    watch: bool,
    /// Want them verified again: at a later epoch than first, and after a newer registration
    #[arg(long)]
    again: bool,
    /// How long to wait, such as 2h
    #[arg(long, value_name = "DURATION", default_value = "4h", value_parser = duration, requires = "watch")]
    within: Duration,
}

/// One look at all nodes.
struct Look {
    rows: Vec<NodeRow>,
    notes: Vec<String>,
    /// Each proved everything just now.
    verified: bool,
    /// What an operator must see to; waiting doesn't help.
    stop: Option<String>,
}

pub fn run(host: &mut Host, ui: Ui, peers: &[Peer], args: &VerifyArgs) -> Outcome {
    if args.watch {
        interrupt::watch()?;
    }
    let until = host.clock.elapsed() + args.within;
    let mut live = Live::new(ui);
    loop {
        let (nodes, problems) = discover::nodes(host)?;
        let blocks = || problems.iter().map(Finding::sentence);
        if nodes.is_empty() {
            let why: Vec<String> = blocks().collect();
            return Err(Failure::refused(match &why[..] {
                [] => "there is no key manager on this host: no unit runs `oasis-node --config CONFIG` on a key \
                       manager's config"
                    .to_owned(),
                why => why.join("\n"),
            }));
        }
        let mut look = look(host, &nodes, peers)?;
        look.notes.extend(blocks());
        let twice = look.rows.iter().all(|row| row.verifications.twice());
        let done = look.verified && problems.is_empty() && (twice || !args.again);
        let waits = args.watch && !done && look.stop.is_none() && !interrupt::is_raised();
        if waits && host.clock.elapsed() < until {
            live.show(&look.rows);
            interrupt::pause(&*host.clock, LOOK_AGAIN)?;
            continue;
        }
        live.finish();
        if look.verified && !done && problems.is_empty() {
            look.notes
                .push("It isn't verified again yet: that takes a later epoch.".into());
        }
        let document = Verification {
            format_version: FORMAT_VERSION,
            host: host.name.clone(),
            observed_at: host.clock.now(),
            key_managers: look.rows,
            verified: done,
            notes: look.notes,
        };
        if ui.json {
            ui.json(&document)?
        } else {
            ui.out(&text(&document))?
        }
        return Ok(match (done, waits) {
            (true, _) => Exit::Done,
            (false, true) => Exit::TimedOut,
            (false, false) => Exit::Refused,
        });
    }
}

fn look(host: &mut Host, nodes: &[Node], peers: &[Peer]) -> Result<Look, Failure> {
    let asked: Vec<nodes::Asked> = nodes.iter().map(|node| nodes::ask(host, node)).collect();
    let said = peers::say(peers);
    let mut notes = Vec::new();
    if peers.is_empty() {
        notes.push(
            "No other node was asked: name each with --peer, so that its checksum is compared with theirs."
                .to_owned(),
        );
    }
    // Nobody else may change what is kept meanwhile.
    let lock = host.memory.lock()?;
    let mut proofs = Proofs::read(host)?;
    let (mut rows, mut stop, mut all) = (Vec::new(), None, true);
    for (node, asked) in nodes.iter().zip(&asked) {
        let others = others(host, &node.config.runtime, peers, &said, &mut notes);
        let others = others.unwrap_or_else(|why| {
            stop = Some(why);
            None
        });
        let (row, proof) = asked.row(node, others, &proofs.of(node));
        let proof = proof.filter(|_| stop.is_none());
        all &= proof.is_some();
        if lock.is_some() {
            proofs.note(host, node, proof)?;
        }
        let worst = asked.signs.first();
        if let Some(sign) = worst.filter(|sign| sign.class >= Class::StopNode) {
            stop = Some(sign.to_string());
        }
        rows.push(NodeRow {
            verifications: proofs.of(node),
            ..row
        });
    }
    if lock.is_none() {
        notes.push("Another kmsctl changes this host now, so nothing of this is kept.".to_owned());
    }
    notes.extend(stop.clone());
    Ok(Look {
        rows,
        notes,
        verified: all && lock.is_some(),
        stop,
    })
}

/// What the other nodes of a runtime hold: all that prove anything, the same.
fn others(
    host: &Host,
    runtime: &RuntimeId,
    peers: &[Peer],
    said: &[anyhow::Result<Vec<u8>>],
    notes: &mut Vec<String>,
) -> Result<Option<(Checksum, Checksum)>, String> {
    let answers: Vec<(String, Answer)> = peers
        .iter()
        .zip(said)
        .map(|(peer, said)| {
            let answer = match said {
                Ok(bytes) => Answer::parse(bytes, runtime, host.clock.now()),
                Err(e) => Answer::Unknown(format!("{e:#}")),
            };
            (peer.name.clone(), answer)
        })
        .collect();
    for (name, answer) in &answers {
        match answer {
            Answer::Unknown(why) => {
                // What it said itself may be quoted there, and must move no terminal's cursor.
                let why: String = why.chars().filter(|c| !c.is_control()).collect();
                notes.push(format!("{name} is unknown: {why}"));
            }
            Answer::Known(row) if row.stops_the_fleet() => {
                return Err(format!(
                    "STOP THE FLEET: {name} replicated something else than the secrets; touch no node, and see `kmsctl \
                     status` there"
                ));
            }
            Answer::Known(_) => {}
        }
    }
    agreed(&answers).map_err(|names| {
        format!(
            "STOP THE FLEET: {} hold other secrets, or have another policy, than the others; touch no node until it is \
             known why",
            names.join(", ")
        )
    })
}
