//! May this node let go of its copy now? Decided on what every other node says at this moment, and on nothing else.
//!
//! Unknown is no: a peer that doesn't answer, answers late, answers for another runtime, or can't prove what it says,
//! stands in the way like one that says no. No flag changes that; the only number an operator may choose is how many other
//! holders there must be, never less than one.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::ids::{Checksum, Epoch, Mrenclave, NodeId, RuntimeId};
use super::published::{Half, NodeRow};

/// How many other holders an upgrade wants by default.
const HOLDERS: usize = 2;

/// What an upgrade was planned on: the same from its first step to its last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    pub runtime: RuntimeId,
    /// The one checksum that every node had before any was touched.
    pub baseline: Checksum,
    pub policy: Checksum,
    pub old: Mrenclave,
    pub new: Mrenclave,
    /// How many other verified holders there must be at any time.
    pub holders: usize,
    /// When the new version becomes the chain's; the second half waits for it.
    pub upgrade_epoch: Option<Epoch>,
}

impl Terms {
    /// Whether others may count on a node's copy: it holds the secrets now and stays.
    ///
    /// On the new version its own kmsctl must have noted a proof too, durably: only so does it know later, whatever it
    /// looks like then, that others may be counting on it (see [`way_back`](super::way_back)).
    pub fn counts(&self, row: &NodeRow) -> bool {
        row.holds(self.baseline, self.policy)
            && row.leaving.is_none()
            && (row.mrenclave == Some(self.old) || row.verifications.first.is_some())
    }
}

/// How many other holders a fleet can keep through an upgrade: as many as its smaller half's last node leaves behind.
///
/// # Errors
/// A fleet of one has no other holder; none or more than it can keep was asked for.
pub fn holders(fleet: usize, asked: Option<usize>) -> Result<usize, String> {
    let most = fleet - fleet / 2;
    match asked {
        _ if fleet < 2 => Err(
            "this node is the whole fleet: with its database gone nobody could give the secrets back"
                .to_owned(),
        ),
        None => Ok(HOLDERS.min(most)),
        Some(0) => Err("at least one other node must hold the secrets".to_owned()),
        Some(asked) if asked > most => Err(format!(
            "a fleet of {fleet} keeps at most {most} other holders while half of it is upgraded, and {asked} were asked for"
        )),
        Some(asked) => Ok(asked),
    }
}

/// This node.
#[derive(Clone, Copy, Debug)]
pub enum Me<'a> {
    /// Before the stop: it must itself be a holder, or something is wrong that an upgrade would hide.
    Running(&'a NodeRow),
    /// After it, with the half that was decided before.
    Stopped(NodeId, Half),
}

/// The rule that says no.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    FleetOfOne,
    /// A node replicated something else than the secrets.
    FleetStopped,
    Unknown,
    /// Two answers are of one node, or a peer is this node.
    SameNode,
    OtherLeaving,
    /// Neither on the enclave that is left nor on the one that comes.
    OtherEnclave,
    /// Its checksum or its policy isn't the baseline's.
    Differs,
    SelfNotVerified,
    TooFewHolders,
    HalfIsGone,
    EpochNotReached,
    NotVerifiedTwice,
    OldHalfDropped,
    NotConfirmed,
}

/// Why a node may not leave now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct No {
    pub rule: Rule,
    /// The peer that it is about; none where it is about the fleet or this node.
    pub peer: Option<String>,
    pub why: String,
}

impl fmt::Display for No {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => write!(f, "{peer}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// The answers of one moment, sorted.
struct Fleet<'a> {
    terms: &'a Terms,
    me: Me<'a>,
    peers: Vec<(&'a str, &'a NodeRow)>,
    found: Vec<No>,
}

/// Whether this node may let go of its copy, and with which half; or everything that speaks against it.
///
/// `confirmed` is the operator's own word for the second half.
pub fn may_leave(
    terms: &Terms,
    me: Me<'_>,
    answers: &[(String, Answer)],
    confirmed: bool,
) -> Result<Half, Vec<No>> {
    let mut fleet = Fleet {
        terms,
        me,
        peers: Vec::new(),
        found: Vec::new(),
    };
    if answers.is_empty() || terms.holders == 0 {
        fleet.no(
            Rule::FleetOfOne,
            None,
            "no other node is known to hold the secrets",
        );
    }
    for (name, answer) in answers {
        match answer {
            Answer::Known(row) => fleet.peers.push((name, row)),
            Answer::Unknown(why) => fleet.no(Rule::Unknown, Some(name), why.clone()),
        }
    }
    fleet.nobody_stops_it();
    fleet.each_is_itself();
    fleet.nobody_else_leaves();
    fleet.all_have_the_baseline();
    let half = fleet.half(answers.len() + 1);
    match half {
        Half::First => fleet.first_half(),
        Half::Second => fleet.second_half(confirmed),
    }
    if fleet.found.is_empty() {
        Ok(half)
    } else {
        Err(fleet.found)
    }
}

impl Fleet<'_> {
    fn no(&mut self, rule: Rule, peer: Option<&str>, why: impl Into<String>) {
        self.found.push(No {
            rule,
            peer: peer.map(str::to_owned),
            why: why.into(),
        });
    }

    fn each_is_itself(&mut self) {
        let me = match self.me {
            Me::Running(row) => row.identity,
            Me::Stopped(identity, _) => Some(identity),
        };
        let mut seen: Vec<NodeId> = me.into_iter().collect();
        for (name, row) in self.peers.clone() {
            match row.identity {
                Some(identity) if seen.contains(&identity) => {
                    let why = format!(
                        "it is node {identity}, which is counted already: a copy counts once"
                    );
                    self.no(Rule::SameNode, Some(name), why);
                }
                Some(identity) => seen.push(identity),
                None => self.no(
                    Rule::Unknown,
                    Some(name),
                    "the node there doesn't say who it is",
                ),
            }
        }
    }

    fn nobody_stops_it(&mut self) {
        let why =
            "it replicated something else than the secrets: touch no node until it is known why";
        for (name, row) in self.peers.clone() {
            if row.stops_the_fleet() {
                self.no(Rule::FleetStopped, Some(name), why);
            }
        }
        if let Me::Running(row) = self.me
            && row.stops_the_fleet()
        {
            self.no(Rule::FleetStopped, None, "this node replicated something else than the secrets: touch no node until it is known why");
        }
    }

    fn nobody_else_leaves(&mut self) {
        for (name, row) in self.peers.clone() {
            if let Some(leaving) = &row.leaving {
                let why = format!(
                    "it is leaving itself (operation {} there, since {}): one node at a time",
                    leaving.operation, leaving.since
                );
                self.no(Rule::OtherLeaving, Some(name), why);
            }
        }
    }

    /// What another node holds under the baseline's name must be the baseline; a new one that holds nothing yet is none.
    fn all_have_the_baseline(&mut self) {
        for (name, row) in self.peers.clone() {
            let Some(enclave) = row.mrenclave else {
                self.no(Rule::Unknown, Some(name), "its bundle can't be read there");
                continue;
            };
            if enclave != self.terms.old && enclave != self.terms.new {
                let why = format!(
                    "it runs enclave {enclave}, neither the one that is left nor the one that comes"
                );
                self.no(Rule::OtherEnclave, Some(name), why);
            }
            let differs = |seen: Option<Checksum>, wanted| seen.is_some_and(|seen| seen != wanted);
            if differs(row.checksum, self.terms.baseline)
                || differs(row.policy_checksum, self.terms.policy)
            {
                let why = "its checksum isn't the one that every node had at first: stop, and find out why";
                self.no(Rule::Differs, Some(name), why);
            }
        }
        // Its own word that it leaves is out already.
        if let Me::Running(row) = self.me
            && !row.holds(self.terms.baseline, self.terms.policy)
        {
            let why = "this node itself isn't verified: see `kmsctl verify`";
            self.no(Rule::SelfNotVerified, None, why);
        }
    }

    fn on(&self, enclave: Mrenclave) -> Vec<(&str, &NodeRow)> {
        let peers = self.peers.iter().copied();
        peers
            .filter(|(_, row)| row.mrenclave == Some(enclave))
            .collect()
    }

    /// The half that this node would go with: the first until floor(n/2) have gone.
    fn half(&self, fleet: usize) -> Half {
        match self.me {
            Me::Stopped(_, half) => half,
            Me::Running(_) if self.on(self.terms.new).len() < fleet / 2 => Half::First,
            Me::Running(_) => Half::Second,
        }
    }

    fn enough(&mut self, holders: usize, which: &str) {
        let wanted = self.terms.holders;
        if holders < wanted {
            let why = format!(
                "{holders} other verified holders {which}, and at least {wanted} must stay"
            );
            self.no(Rule::TooFewHolders, None, why);
        }
    }

    fn first_half(&mut self) {
        let gone = self.on(self.terms.new).len();
        if gone >= self.peers.len().div_ceil(2) {
            let why = format!(
                "{gone} of {} nodes are on the new version: half of the fleet",
                self.peers.len() + 1
            );
            self.no(Rule::HalfIsGone, None, why);
        }
        let old = self.on(self.terms.old);
        let holders = old.iter().filter(|(_, row)| self.terms.counts(row)).count();
        self.enough(holders, "on the old version");
    }

    fn second_half(&mut self, confirmed: bool) {
        let epochs = self.peers.iter().map(|(_, row)| row.epoch);
        let mine = match self.me {
            Me::Running(row) => Some(row.epoch),
            Me::Stopped(..) => None,
        };
        // The slowest node's: none of them may still be before it.
        let epoch = epochs.chain(mine).min().flatten();
        match (self.terms.upgrade_epoch, epoch) {
            (Some(upgrade), Some(now)) if now >= upgrade => {}
            (Some(upgrade), now) => {
                let now = now.map_or("unknown".to_owned(), |epoch| epoch.to_string());
                let why = format!(
                    "the second half goes at epoch {upgrade} or later, and the fleet's epoch is {now}"
                );
                self.no(Rule::EpochNotReached, None, why);
            }
            (None, _) => {
                let why =
                    "the second half needs the upgrade epoch: plan again with --upgrade-epoch";
                self.no(Rule::EpochNotReached, None, why);
            }
        }
        let new: Vec<(String, bool, bool)> = self
            .on(self.terms.new)
            .iter()
            .map(|(name, row)| {
                let second = row.half == Some(Half::Second);
                let twice = second || row.verifications.twice();
                ((*name).to_owned(), self.terms.counts(row), twice)
            })
            .collect();
        for (name, holds, twice) in new {
            if !holds || !twice {
                let why = if holds {
                    "it was verified once: verify it again one epoch later"
                } else {
                    "it is on the new version, and isn't verified now"
                };
                self.no(Rule::NotVerifiedTwice, Some(&name), why);
            }
        }
        let dropped: Vec<String> = self
            .on(self.terms.old)
            .iter()
            .filter(|(_, row)| !row.is_registered())
            .map(|(name, _)| (*name).to_owned())
            .collect();
        for name in dropped {
            let why = "it is on the old version and no longer registered: the old enclave may not read the new \
                       status; look at it again one epoch later";
            self.no(Rule::OldHalfDropped, Some(&name), why);
        }
        let holders = self
            .peers
            .iter()
            .filter(|(_, row)| self.terms.counts(row))
            .count();
        self.enough(holders, "in the fleet");
        if !confirmed {
            let why = "the second half wipes the last old copies: it wants your confirmation";
            self.no(Rule::NotConfirmed, None, why);
        }
    }
}
