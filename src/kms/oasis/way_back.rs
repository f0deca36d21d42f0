//! The way back: when the old database may be put in its place again, and when it may be deleted for good.
//!
//! Only the same host's own database, moved by kmsctl and never since: it is sealed to this processor, and a copy from
//! elsewhere would be worse than none. Deleting it is the point of no return, and only ever asked for by name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::fleet::{No, Rule, Terms};
use super::ids::NodeId;
use super::published::NodeRow;

/// What tells one folder from any other, a copy of it included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    /// The host's machine id.
    pub machine: String,
}

/// What is found where the old database was laid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// As the journal recorded it right after the move; none where it never did.
    pub recorded: Option<Identity>,
    /// As it is now; none where nothing is there.
    pub found: Option<Identity>,
    pub finalized: bool,
}

/// Why a node can't go back to its old database; none where it can.
pub fn against_going_back(aside: &Aside) -> Option<&'static str> {
    match (&aside.recorded, &aside.found) {
        _ if aside.finalized => Some(
            "it was finalized: the old database is gone for good, and the secrets are with the new enclave only",
        ),
        (None, _) => Some("no journal of this host moved it there: it may come from elsewhere"),
        (Some(_), None) => Some("the old database is no longer where it was laid"),
        (Some(then), Some(now)) if then != now => {
            Some("it isn't the folder that was laid there: a copy, or another host's")
        }
        _ => None,
    }
}

/// Whether a node that goes back must ask first: others may be counting on its copy, now or since it was first verified
/// on the new version. One that was never verified there goes back freely, whoever is silent: it can only add a copy.
///
/// That it looks unwell now says nothing: a node between two automatic restarts is a holder to everybody else.
pub fn takes_a_copy_away(row: &NodeRow, terms: &Terms, ever_verified: bool) -> bool {
    ever_verified || row.holds(terms.baseline, terms.policy)
}

/// Why a node that holds the secrets may not go back now: the same count as forward, without the halves.
pub fn against_leaving_back(me: NodeId, terms: &Terms, answers: &[(String, Answer)]) -> Vec<No> {
    let mut found = others(Some(me), answers);
    let holders = holders(terms, answers);
    if holders < terms.holders.max(1) {
        found.push(No {
            rule: Rule::TooFewHolders,
            peer: None,
            why: format!(
                "{holders} other verified holders, and at least {} must stay",
                terms.holders.max(1)
            ),
        });
    }
    found
}

/// Why the old database may not be deleted yet: the whole fleet must be on the new enclave, verified twice, and still.
pub fn against_finalizing(me: &NodeRow, terms: &Terms, answers: &[(String, Answer)]) -> Vec<No> {
    let mut found = others(me.identity, answers);
    let known = answers.iter().filter_map(|(name, answer)| match answer {
        Answer::Known(row) => Some((Some(name), &**row)),
        Answer::Unknown(_) => None,
    });
    for (name, row) in known.chain([(None, me)]) {
        let why = if row.mrenclave != Some(terms.new) {
            "it isn't on the new version yet: the old databases are its way back"
        } else if !row.holds(terms.baseline, terms.policy) {
            "it isn't verified now"
        } else if !row.verifications.twice() {
            "it was verified once: verify it again one epoch later"
        } else {
            continue;
        };
        found.push(No {
            rule: Rule::NotVerifiedTwice,
            peer: name.cloned(),
            why: why.to_owned(),
        });
    }
    if holders(terms, answers) < terms.holders.max(1) {
        found.push(No {
            rule: Rule::TooFewHolders,
            peer: None,
            why: "too few other verified holders".to_owned(),
        });
    }
    found
}

fn holders(terms: &Terms, answers: &[(String, Answer)]) -> usize {
    let holds = |answer: &Answer| match answer {
        Answer::Known(row) => terms.counts(row),
        Answer::Unknown(_) => false,
    };
    answers.iter().filter(|(_, answer)| holds(answer)).count()
}

/// Everybody answers, is somebody else, and stays.
fn others(me: Option<NodeId>, answers: &[(String, Answer)]) -> Vec<No> {
    let mut found = Vec::new();
    let mut seen: Vec<NodeId> = me.into_iter().collect();
    for (name, answer) in answers {
        let no = match answer {
            Answer::Unknown(why) => Some((Rule::Unknown, why.clone())),
            Answer::Known(row) => match row.identity {
                None => Some((
                    Rule::Unknown,
                    "the node there doesn't say who it is".to_owned(),
                )),
                Some(id) if seen.contains(&id) => Some((
                    Rule::SameNode,
                    format!("it is node {id}, which is counted already"),
                )),
                Some(_) if row.stops_the_fleet() => Some((
                    Rule::FleetStopped,
                    "it replicated something else than the secrets".to_owned(),
                )),
                Some(_) if row.leaving.is_some() => {
                    Some((Rule::OtherLeaving, "it is leaving itself".to_owned()))
                }
                Some(id) => {
                    seen.push(id);
                    None
                }
            },
        };
        if let Some((rule, why)) = no {
            found.push(No {
                rule,
                peer: Some(name.clone()),
                why,
            });
        }
    }
    found
}
