//! This host's key managers as they are now: each is asked, its answer held against the seven conditions, and what it
//! proved is kept.
//!
//! A proof outlives every operation and needs no plan, so it is kept beside the journals, by unit. It is durable before
//! anybody is told of it: others may be counting on this node from then on. It must never be of another moment than the
//! answer that it is made from.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::discover::Node;
use crate::host::Host;
use crate::kms::oasis::extra_info::ExtraInfo;
use crate::kms::oasis::failure::{self, Sign};
use crate::kms::oasis::ids::Checksum;
use crate::kms::oasis::proofs::{Verifications, Verified};
use crate::kms::oasis::published::{Evidence, NodeRow};
use crate::kms::oasis::status::NodeStatus;
use crate::kms::oasis::verify::{Expectation, verify};
use crate::unit::UnitName;

/// Where proofs are kept, below kmsctl's own folder.
pub const PROOFS: &str = "key-managers.json";
/// The format that this kmsctl writes and reads.
const FORMAT: u32 = 1;
/// A node that waits says the same all the time: what is known by a line is among its last.
const LINES: usize = 400;

/// A node's own words at one moment.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: jiff::Timestamp,
    pub status: Result<NodeStatus, String>,
    started: Option<jiff::Timestamp>,
    pub signs: Vec<Sign>,
}

/// Asks a node.
pub fn ask(host: &mut Host, node: &Node) -> Asked {
    let question = node.question();
    let status = if node.run.is_up() {
        let said = host.nodes.control_status(&question);
        let said = said.map_err(|e| format!("it doesn't answer: {e:#}"));
        said.and_then(|text| NodeStatus::parse(&text).map_err(|e| e.to_string()))
    } else {
        Err(format!("{} doesn't run ({})", node.unit, node.run.active))
    };
    let started = host.nodes.started(&question);
    // Without the time of its start the lines of an earlier process would count.
    let lines = started.map(|since| host.processes.last_lines(&node.unit, since, LINES));
    let lines = lines.and_then(Result::ok).unwrap_or_default();
    let lines = lines.iter().map(String::as_str);
    Asked {
        at: host.clock.now(),
        signs: failure::recognise(lines, status.as_ref().ok()),
        status,
        started,
    }
}

impl Asked {
    /// The checksums of its secrets and of its policy, as it says them of itself.
    pub fn own_word(&self, node: &Node) -> Option<(Checksum, Checksum)> {
        let status = self.status.as_ref().ok()?;
        let runtime = status.registered(&node.config.runtime).next()?;
        let info = ExtraInfo::decode(runtime.extra_info.as_deref()?).ok()?;
        Some((info.checksum?, info.policy_checksum?))
    }

    /// The node's row, held against what others hold, where that is known; and the proof, where it proved everything.
    pub fn row(
        &self,
        node: &Node,
        others: Option<(Checksum, Checksum)>,
        kept: &Verifications,
    ) -> (NodeRow, Option<Verified>) {
        let status = self.status.as_ref();
        let bundle = node.bundle.as_ref();
        let answer = match (status, bundle) {
            (Ok(status), Ok(_)) => Ok(status),
            (Err(why), _) | (_, Err(why)) => Err(why.as_str()),
        };
        let (version, mrenclave) = match bundle {
            Ok(bundle) => (Some(bundle.version), Some(bundle.mrenclave)),
            Err(_) => (None, None),
        };
        let expected = Expectation {
            runtime: node.config.runtime,
            version: version.unwrap_or_default(),
            started: self.started,
            baseline: others.map(|(secrets, _)| secrets),
            policy: others.map(|(_, policy)| policy),
        };
        let verdict = verify(&expected, mrenclave, answer, self.at);
        let status = status.ok();
        let registered = status.and_then(|s| s.registered(&node.config.runtime).next());
        let evidence = registered.and_then(|runtime| {
            Some(Evidence {
                extra_info: runtime.extra_info.clone()?,
                rak: runtime.rak?,
            })
        });
        let own = self.own_word(node);
        let row = NodeRow {
            node: node.unit.stem().to_owned(),
            unit: node.unit.to_string(),
            runtime: node.config.runtime,
            identity: status.map(|s| s.node),
            version,
            mrenclave,
            leaving: None,
            conditions: verdict.conditions,
            epoch: status.and_then(|s| s.consensus.latest_epoch),
            checksum: own.map(|(secrets, _)| secrets),
            policy_checksum: own.map(|(_, policy)| policy),
            evidence,
            verifications: kept.clone(),
            failures: self.signs.clone(),
            half: None,
            finalized: false,
        };
        (row, verdict.verified)
    }
}

/// What this host's nodes proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proofs {
    format_version: u32,
    nodes: BTreeMap<UnitName, Verifications>,
}

impl Proofs {
    /// # Errors
    /// What is kept can't be read, or is of a newer kmsctl.
    pub fn read(host: &Host) -> Result<Proofs> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Some(bytes) = host.memory.read(PROOFS)? else {
            return Ok(Proofs {
                format_version: FORMAT,
                nodes: BTreeMap::new(),
            });
        };
        let place = || format!("reading {}", host.memory.path(PROOFS).display());
        let version: Version = serde_json::from_slice(&bytes).with_context(place)?;
        ensure!(
            version.format_version == FORMAT,
            "{} has format {}, and this kmsctl reads format {FORMAT}: use the kmsctl that wrote it",
            host.memory.path(PROOFS).display(),
            version.format_version
        );
        serde_json::from_slice(&bytes).with_context(place)
    }

    /// Those of a node, about what it is configured to run: of another bundle they say nothing.
    pub fn of(&self, node: &Node) -> Verifications {
        let kept = self.nodes.get(&node.unit).cloned().unwrap_or_default();
        let enclave = node.bundle.as_ref().ok().map(|bundle| bundle.mrenclave);
        match &kept.first {
            Some(first) if Some(first.mrenclave) == enclave => kept,
            _ => Verifications::default(),
        }
    }

    /// Keeps a proof durably; none takes away those before it.
    pub fn note(&mut self, host: &Host, node: &Node, proof: Option<Verified>) -> Result<()> {
        let before = self.nodes.get(&node.unit).cloned().unwrap_or_default();
        let mut kept = before.clone();
        match proof {
            Some(proof) => kept.add(proof),
            None => kept.failed(),
        }
        if kept == before {
            return Ok(());
        }
        self.nodes.insert(node.unit.clone(), kept);
        let bytes = serde_json::to_vec(self).context("writing what nodes proved")?;
        host.memory.replace(PROOFS, &bytes)
    }
}
