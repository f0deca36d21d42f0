//! What another node's `kmsctl status --json` says of it, or why that is unknown.
//!
//! An answer that is old, of another format or runtime, or of several nodes must never count as one.

use serde::Deserialize;

use super::fleet::{No, Rule};
use super::ids::{Checksum, RuntimeId};
use super::published::NodeRow;

/// How old a peer's answer may be, by its own clock and ours: it was asked a moment ago, and clocks differ a little.
pub const MOMENT: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// What came back from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Known(Box<NodeRow>),
    Unknown(String),
}

impl Answer {
    /// Reads a peer's `kmsctl status --json`.
    pub fn parse(stdout: &[u8], runtime: &RuntimeId, now: jiff::Timestamp) -> Answer {
        match read(stdout, runtime, now) {
            Ok(row) => Answer::Known(Box::new(row)),
            Err(why) => Answer::Unknown(why),
        }
    }
}

fn read(stdout: &[u8], runtime: &RuntimeId, now: jiff::Timestamp) -> Result<NodeRow, String> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    #[derive(Deserialize)]
    struct Document {
        observed_at: jiff::Timestamp,
        key_managers: Vec<NodeRow>,
    }
    let wrong = |e: serde_json::Error| format!("it isn't what `kmsctl status --json` prints: {e}");
    let version: Version = serde_json::from_slice(stdout).map_err(wrong)?;
    let ours = crate::ui::FORMAT_VERSION;
    if version.format_version != ours {
        return Err(format!(
            "it has format {}, and this kmsctl reads format {ours}",
            version.format_version
        ));
    }
    let document: Document = serde_json::from_slice(stdout).map_err(wrong)?;
    let age = now.duration_since(document.observed_at);
    if age.abs() > MOMENT {
        return Err(format!(
            "it is of {}, and here it is {now}: too old, or the clocks differ",
            document.observed_at
        ));
    }
    let rows = document.key_managers.into_iter();
    let mut rows: Vec<NodeRow> = rows.filter(|row| row.runtime == *runtime).collect();
    match (rows.pop(), rows.len()) {
        (Some(row), 0) => Ok(row),
        (Some(_), more) => Err(format!(
            "it has {} key managers of runtime {runtime}, and one is expected",
            more + 1
        )),
        (None, _) => Err(format!("it has no key manager of runtime {runtime}")),
    }
}

/// The checksums of the secrets and of the policy that all who prove anything have in common; none where nobody does.
///
/// # Errors
/// They differ: the names of those that differ from the first.
pub fn agreed(answers: &[(String, Answer)]) -> Result<Option<(Checksum, Checksum)>, Vec<String>> {
    let (mut common, mut differ) = (None, Vec::new());
    for (name, answer) in answers {
        let Answer::Known(row) = answer else {
            continue;
        };
        let says = row.checksum.zip(row.policy_checksum);
        match (says, common) {
            (Some((secrets, policy)), _) if !row.holds(secrets, policy) => {}
            (Some(says), None) => common = Some(says),
            (Some(says), Some(first)) if says != first => differ.push(name.clone()),
            _ => {}
        }
    }
    match differ.is_empty() {
        true => Ok(common),
        false => Err(differ),
    }
}

/// The one checksum of a whole fleet, before any node is touched; what differs or is unknown, by node.
pub fn baseline(rows: &[(String, Answer)]) -> Result<(Checksum, Checksum), Vec<No>> {
    let mut found = Vec::new();
    let mut common: Option<(Checksum, Checksum)> = None;
    for (name, answer) in rows {
        let row = match answer {
            Answer::Known(row) => row,
            Answer::Unknown(why) => {
                found.push(No {
                    rule: Rule::Unknown,
                    peer: Some(name.clone()),
                    why: why.clone(),
                });
                continue;
            }
        };
        let says = row
            .checksum
            .zip(row.policy_checksum)
            .filter(|(secrets, policy)| row.holds(*secrets, *policy));
        let wrong = match (says, common) {
            (None, _) => Some((Rule::Unknown, "it isn't verified")),
            (Some(says), Some(others)) if says != others => {
                Some((Rule::Differs, "its checksum isn't that of the others"))
            }
            (Some(says), _) => {
                common = Some(says);
                None
            }
        };
        if let Some((rule, why)) = wrong {
            found.push(No {
                rule,
                peer: Some(name.clone()),
                why: why.to_owned(),
            });
        }
    }
    match common {
        Some(common) if found.is_empty() && rows.len() > 1 => Ok(common),
        _ if rows.len() < 2 => Err(vec![No {
            rule: Rule::FleetOfOne,
            peer: None,
            why: "no other node is known to hold the secrets".to_owned(),
        }]),
        _ => Err(found),
    }
}
