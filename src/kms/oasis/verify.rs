//! Whether a node holds the secrets: seven conditions on its own answer, each with what was expected and what was seen.
//!
//! All seven must hold. `ready` alone says too little: it is said once and stays, and since 23.0 a ready node may have an
//! empty checksum. What the answer doesn't say is unknown, and unknown doesn't hold. "Verified again" is all of it once
//! more, at a later epoch and with a newer registration.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extra_info::ExtraInfo;
use super::ids::{Checksum, Mrenclave, RuntimeId, Version};
use super::proofs::Verified;
use super::status::{NodeStatus, Runtime, Shape};

/// How old the newest block that a node knows may be. Blocks come every six seconds or so; a node that is behind by two
/// minutes doesn't see the committee of now.
pub const FRESH: Duration = Duration::from_secs(120);

/// What a node must show to be called verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    pub runtime: RuntimeId,
    pub version: Version,
    /// When its process began; unknown where systemd didn't say.
    pub started: Option<jiff::Timestamp>,
    /// What the others hold; none where nobody else proved anything: then the chain alone says it, and before 23.0 nobody.
    pub baseline: Option<Checksum>,
    pub policy: Option<Checksum>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    Yes,
    No,
    /// The answer doesn't say: as good as no.
    Unknown,
}

/// One of the seven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// 1 to 7.
    pub number: u8,
    pub holds: Holds,
    pub expected: String,
    pub seen: String,
}

/// What holds of a node's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub conditions: Vec<Condition>,
    /// What to remember of it; only where all seven hold.
    pub verified: Option<Verified>,
}

/// Holds a node's answer against what is expected. `answer` is none, with the reason, where it gave none that can be read.
pub fn verify(
    expected: &Expectation,
    enclave: Option<Mrenclave>,
    answer: Result<&NodeStatus, &str>,
    now: jiff::Timestamp,
) -> Verdict {
    let status = match answer {
        Ok(status) => status,
        Err(why) => return nothing_known(why),
    };
    let seen = Seen::of(expected, status);
    let conditions = vec![
        synced(status, now),
        ready(status),
        one_runtime(expected, status, &seen),
        registered(expected, status),
        secrets(expected, status, &seen),
        policy(expected, &seen),
        in_committee(status),
    ];
    let all = conditions.iter().all(|c| c.holds == Holds::Yes);
    let verified = enclave.filter(|_| all);
    let verified = verified.map(|enclave| seen.verified(expected, enclave, status, now));
    Verdict {
        verified: verified.flatten(),
        conditions,
    }
}

fn nothing_known(why: &str) -> Verdict {
    let expected = [
        "an answer",
        "ready",
        "one runtime, at its version",
        "registered since its start",
        "the baseline's checksum, signed",
        "the fleet's policy",
        "in the committee",
    ];
    let unknown = |(number, expected): (u8, &str)| Condition {
        number,
        holds: Holds::Unknown,
        expected: expected.to_owned(),
        seen: why.to_owned(),
    };
    Verdict {
        conditions: (1..).zip(expected).map(unknown).collect(),
        verified: None,
    }
}

/// What several conditions look at.
struct Seen<'s> {
    runtimes: Vec<&'s Runtime>,
    info: Option<Result<ExtraInfo, String>>,
}

impl<'s> Seen<'s> {
    fn of(expected: &Expectation, status: &'s NodeStatus) -> Seen<'s> {
        let runtimes: Vec<&Runtime> = status.registered(&expected.runtime).collect();
        let text = runtimes.first().and_then(|r| r.extra_info.as_deref());
        Seen {
            info: text.map(ExtraInfo::decode),
            runtimes,
        }
    }

    fn verified(
        &self,
        expected: &Expectation,
        mrenclave: Mrenclave,
        status: &NodeStatus,
        at: jiff::Timestamp,
    ) -> Option<Verified> {
        let info = self.info.as_ref()?.as_ref().ok()?;
        Some(Verified {
            at,
            epoch: status.consensus.latest_epoch?,
            registered_at: status.registration.last_registration?,
            version: expected.version,
            mrenclave,
            checksum: info.checksum?,
            policy_checksum: info.policy_checksum?,
        })
    }
}

fn condition(
    number: u8,
    holds: Option<bool>,
    expected: impl Into<String>,
    seen: impl Into<String>,
) -> Condition {
    Condition {
        number,
        holds: match holds {
            Some(true) => Holds::Yes,
            Some(false) => Holds::No,
            None => Holds::Unknown,
        },
        expected: expected.into(),
        seen: seen.into(),
    }
}

/// A time as an operator compares it.
fn moment(at: Option<jiff::Timestamp>) -> String {
    shown(at.map(|at| at.strftime("%F %T UTC").to_string()))
}

fn shown<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

fn synced(status: &NodeStatus, now: jiff::Timestamp) -> Condition {
    let consensus = &status.consensus;
    let age = consensus.latest_time.map(|at| now.duration_since(at));
    let fresh = age.map(|age| age.unsigned_abs() <= FRESH);
    let known = consensus.latest_epoch.is_some().then_some(true);
    let ready = Some(consensus.state == "ready");
    condition(
        1,
        all([ready, fresh, known]),
        format!(
            "consensus ready, its latest block at most {} s old",
            FRESH.as_secs()
        ),
        format!(
            "{}, block of {}, epoch {}",
            consensus.state,
            moment(consensus.latest_time),
            shown(consensus.latest_epoch)
        ),
    )
}

/// No beats unknown: what is wrong is said first.
fn all<const N: usize>(parts: [Option<bool>; N]) -> Option<bool> {
    if parts.contains(&Some(false)) {
        return Some(false);
    }
    parts.iter().all(|p| *p == Some(true)).then_some(true)
}

fn ready(status: &NodeStatus) -> Condition {
    let states = &status.key_manager.states;
    let seen: Vec<String> = states
        .iter()
        .map(|(field, state)| format!("{field} is {state}"))
        .collect();
    let fields: Vec<&str> = states.iter().map(|(field, _)| *field).collect();
    condition(
        2,
        Some(!states.is_empty() && status.key_manager.is_ready()),
        format!("ready in {}", fields.join(" and ")),
        seen.join(", "),
    )
}

fn one_runtime(expected: &Expectation, status: &NodeStatus, seen: &Seen<'_>) -> Condition {
    let versions: Vec<String> = seen
        .runtimes
        .iter()
        .map(|r| r.version.to_string())
        .collect();
    let id = status.key_manager.runtime;
    let active = status.key_manager.active_version;
    let holds = if status.registration.descriptor.is_none() {
        None
    } else {
        Some(
            id == expected.runtime
                && matches!(&seen.runtimes[..], [one] if one.version == expected.version)
                && active.is_none_or(|version| version == expected.version),
        )
    };
    condition(
        3,
        holds,
        format!(
            "{} registered once, at {}",
            expected.runtime, expected.version
        ),
        match &versions[..] {
            [] => format!("{id} runs, and no registration of it"),
            versions => format!("{id} runs, registered at {}", versions.join(" and ")),
        },
    )
}

fn registered(expected: &Expectation, status: &NodeStatus) -> Condition {
    let registration = &status.registration;
    let after = match (expected.started, registration.last_registration) {
        (Some(started), Some(at)) => Some(at > started),
        (_, None) => Some(false),
        (None, Some(_)) => None,
    };
    let expiration = registration.descriptor.as_ref().and_then(|d| d.expiration);
    let lives = match (expiration, status.consensus.latest_epoch) {
        (Some(expiration), Some(epoch)) => Some(expiration >= epoch),
        _ => None,
    };
    // 22.2 doesn't show attempts.
    let shows_attempts = status.key_manager.shape != Shape::Flat;
    let attempt = match registration.last_attempt_successful {
        Some(successful) => Some(successful),
        None if shows_attempts => None,
        None => Some(true),
    };
    let error = registration.last_error.as_deref();
    condition(
        4,
        all([after, lives, attempt]),
        format!(
            "registered after its start ({}), the last attempt successful, not expired at epoch {}",
            moment(expected.started),
            shown(status.consensus.latest_epoch)
        ),
        format!(
            "registered {}, expires at epoch {}{}",
            moment(registration.last_registration),
            shown(expiration),
            error
                .map(|e| format!(", last error: {e}"))
                .unwrap_or_default()
        ),
    )
}

fn secrets(expected: &Expectation, status: &NodeStatus, seen: &Seen<'_>) -> Condition {
    let wanted = format!(
        "signed by its enclave, secure, checksum {}",
        match expected.baseline {
            Some(baseline) => baseline.to_string(),
            None => "as on the chain".to_owned(),
        }
    );
    let info = match &seen.info {
        None => return condition(5, None, wanted, "no extra_info"),
        Some(Err(why)) => return condition(5, None, wanted, why.clone()),
        Some(Ok(info)) => info,
    };
    let rak = seen.runtimes.first().and_then(|r| r.rak);
    let signed = rak.map(|rak| info.is_signed_by(&rak));
    let baseline = info
        .checksum
        .map(|c| expected.baseline.is_none_or(|baseline| c == baseline));
    let (on_chain, said) = match (&status.key_manager.on_chain, status.key_manager.shape) {
        // 22.2 doesn't show it.
        (None, Shape::Flat) => match expected.baseline {
            Some(_) => (Some(true), String::new()),
            None => (None, ", and nothing to hold it against".to_owned()),
        },
        (None, _) => (None, ", the chain's unknown".to_owned()),
        (Some(chain), _) => (
            chain
                .checksum
                .map(|c| Some(c) == info.checksum && chain.id == expected.runtime),
            format!(", the chain's {}", shown(chain.checksum)),
        ),
    };
    let signature = match signed {
        Some(true) => "signed",
        Some(false) => "NOT signed by its enclave",
        None => "no key to check the signature with",
    };
    let secure = if info.is_secure {
        "secure"
    } else {
        "not secure"
    };
    condition(
        5,
        all([signed, Some(info.is_secure), baseline, on_chain]),
        wanted,
        format!(
            "{signature}, {secure}, checksum {}{said}",
            shown(info.checksum)
        ),
    )
}

fn policy(expected: &Expectation, seen: &Seen<'_>) -> Condition {
    let policy = match expected.policy {
        Some(policy) => policy.to_string(),
        None => "of any kind".to_owned(),
    };
    let wanted = format!("policy {policy}, no rotation under way");
    let Some(Ok(info)) = &seen.info else {
        return condition(6, None, wanted, "no extra_info that can be read");
    };
    let same = info
        .policy_checksum
        .map(|p| expected.policy.is_none_or(|policy| p == policy));
    let rotation = if info.next_checksum.is_some() {
        ", a rotation of the master secret is under way: wait for it"
    } else {
        ""
    };
    condition(
        6,
        all([same, Some(info.next_checksum.is_none())]),
        wanted,
        format!("policy {}{rotation}", shown(info.policy_checksum)),
    )
}

fn in_committee(status: &NodeStatus) -> Condition {
    let node = status.node;
    let wanted = format!("{node} in the committee on the chain");
    let described = status.registration.descriptor.as_ref().and_then(|d| d.node);
    if described.is_some_and(|id| id != node) {
        return condition(
            7,
            Some(false),
            wanted,
            "its registration names another node",
        );
    }
    match (&status.key_manager.on_chain, status.key_manager.shape) {
        (None, Shape::Flat) => condition(7, Some(true), wanted, "22.2 doesn't show the committee"),
        (None, _) => condition(7, None, wanted, "the committee isn't known yet"),
        (Some(chain), _) => condition(
            7,
            Some(chain.nodes.contains(&node)),
            wanted,
            format!("a committee of {}", chain.nodes.len()),
        ),
    }
}
