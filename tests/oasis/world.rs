//! A fleet of key managers in memory, by the rules of section 9 and of oasis-core as they were read: databases that only
//! the enclave that sealed them opens, registrations by epoch, a committee drawn at each, replication from a node that
//! holds the secrets, and only from old to new. It knows the truth; what a node says of itself is printed and read back
//! through the same readers as a real node's.

use std::cell::RefCell;

use kmsctl::journal::OperationId;
use kmsctl::kms::oasis::answer::Answer;
use kmsctl::kms::oasis::fleet::Terms;
use kmsctl::kms::oasis::ids::{Checksum, Epoch, Mrenclave, Version};
use kmsctl::kms::oasis::proofs::Verifications;
use kmsctl::kms::oasis::published::{Evidence, Half, Leaving, NodeRow};
use kmsctl::kms::oasis::status::NodeStatus;
use kmsctl::kms::oasis::verify::{Expectation, verify};

use crate::bundles::RUNTIME;
use stand_in_oasis_node::answer::{self, InitResponse, OnChain, Registered, SHAPES};

const SECRETS: [u8; 32] = [5; 32];
const POLICY: [u8; 32] = [6; 32];
/// Seconds; the first is epoch 0's.
const EPOCH: i64 = 60;
const MIDNIGHT: i64 = 1_782_864_000;
/// How long replicating takes.
const REPLICATION: i64 = 20;

/// Which bundle, and which enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bundle {
    Old,
    New,
}

impl Bundle {
    pub fn enclave(self) -> Mrenclave {
        Mrenclave::new([if self == Bundle::Old { 60 } else { 70 }; 32])
    }

    fn version(self) -> Version {
        Version::new(0, if self == Bundle::Old { 6 } else { 7 }, 0)
    }
}

/// A database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub by: Bundle,
    /// It holds the fleet's secrets, and not something else.
    pub right: bool,
}

/// What is wrong with a node for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// `master secret generation N not replicated`
    NotReplicated,
    /// `key manager state corrupted`
    Corrupted,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub up: bool,
    started: i64,
    pub config: Bundle,
    pub place: Option<Sealed>,
    pub old_aside: Option<Sealed>,
    pub new_aside: Vec<Sealed>,
    replicated_at: Option<i64>,
    /// Since its process began: when, until which epoch.
    registered: Option<(i64, u64)>,
    /// On the chain, and in the committee of this epoch.
    committee: bool,
    pub trouble: Option<Trouble>,
    /// Its host doesn't answer.
    pub silent: bool,
    /// Stopped by kmsctl, and not a holder again since.
    pub away: bool,
    /// When it last held the secrets.
    pub last_held: i64,
    /// The epochs in which it was verified, since its config last changed.
    pub proofs: Vec<u64>,
    // What kmsctl remembers durably.
    pub claim: Option<i64>,
    pub half: Option<Half>,
    pub verifications: Verifications,
    /// On the bundle that its config names.
    pub ever_verified: bool,
    /// What it said last, read: asking twice in a second gives the same.
    read: RefCell<Option<(answer::Answer, NodeStatus)>>,
}

#[derive(Clone, Debug)]
pub struct World {
    pub now: i64,
    /// When the chain takes the new version: at the upgrade epoch or before.
    pub deployed: u64,
    pub terms: Terms,
    pub nodes: Vec<Node>,
}

impl World {
    /// A fleet on the old version, every node verified.
    pub fn of(nodes: usize, holders: usize, upgrade_epoch: u64) -> World {
        let node = Node {
            up: true,
            started: 0,
            config: Bundle::Old,
            place: Some(Sealed {
                by: Bundle::Old,
                right: true,
            }),
            old_aside: None,
            new_aside: Vec::new(),
            replicated_at: None,
            registered: Some((1, 2)),
            committee: true,
            trouble: None,
            silent: false,
            away: false,
            last_held: 2,
            proofs: Vec::new(),
            claim: None,
            half: None,
            verifications: Verifications::default(),
            ever_verified: false,
            read: RefCell::new(None),
        };
        World {
            now: 2,
            deployed: upgrade_epoch,
            terms: Terms {
                runtime: RUNTIME.parse().unwrap(),
                baseline: Checksum::new(SECRETS),
                policy: Checksum::new(POLICY),
                old: Bundle::Old.enclave(),
                new: Bundle::New.enclave(),
                holders,
                upgrade_epoch: Some(Epoch(upgrade_epoch)),
            },
            nodes: vec![node; nodes],
        }
    }

    pub fn epoch(&self) -> u64 {
        (self.now / EPOCH).unsigned_abs()
    }

    /// Whether a node holds the secrets, in truth: it runs, its enclave opens its database, it is registered.
    pub fn holds(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.up
            && self.opens(n)
            && node.place.is_some_and(|sealed| sealed.right)
            && node
                .registered
                .is_some_and(|(_, until)| until >= self.epoch())
    }

    fn opens(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.place.is_some_and(|sealed| sealed.by == node.config)
    }

    pub fn holders(&self) -> usize {
        (0..self.nodes.len()).filter(|n| self.holds(*n)).count()
    }

    /// Nodes that hold nothing though kmsctl didn't take them away.
    pub fn failed_by_themselves(&self) -> usize {
        let failed = |n: &usize| !self.holds(*n) && !self.nodes[*n].away;
        (0..self.nodes.len()).filter(failed).count()
    }

    /// Databases that could still give the secrets back, running or not.
    pub fn copies(&self) -> usize {
        let copies = |node: &Node| {
            let all = [node.place, node.old_aside];
            let all = all.into_iter().flatten().chain(node.new_aside.clone());
            all.filter(|sealed| sealed.right).count()
        };
        self.nodes.iter().map(copies).sum()
    }

    /// Time goes by, second for second.
    pub fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            let before = self.epoch();
            self.now += 1;
            let new_epoch = self.epoch() > before;
            for n in 0..self.nodes.len() {
                if new_epoch {
                    let until = self.nodes[n].registered.map(|r| r.1);
                    self.nodes[n].committee = until.is_some_and(|until| until >= self.epoch());
                }
                self.live(n, new_epoch);
            }
            self.look();
        }
    }

    fn live(&mut self, n: usize, new_epoch: bool) {
        if !self.nodes[n].up {
            return;
        }
        if self.nodes[n].place.is_none() {
            self.replicate(n);
        }
        let may_register = self.nodes[n].config == Bundle::Old || self.epoch() >= self.deployed;
        let due = new_epoch || self.nodes[n].registered.is_none();
        if self.opens(n) && may_register && due {
            self.nodes[n].registered = Some((self.now, self.epoch() + 2));
        }
    }

    fn replicate(&mut self, n: usize) {
        let me = &self.nodes[n];
        let may_give = |m: &usize| {
            let giver = &self.nodes[*m];
            *m != n && self.holds(*m) && giver.config <= me.config
        };
        let giver = (0..self.nodes.len()).find(may_give);
        let config = me.config;
        let (Some(_), false) = (giver, me.trouble == Some(Trouble::NotReplicated)) else {
            self.nodes[n].replicated_at = None;
            return;
        };
        let now = self.now;
        let me = &mut self.nodes[n];
        let at = *me.replicated_at.get_or_insert(now + REPLICATION);
        if now >= at {
            me.replicated_at = None;
            me.place = Some(Sealed {
                by: config,
                right: me.trouble != Some(Trouble::Corrupted),
            });
        }
    }

    /// Keeps who holds what at this moment.
    pub fn look(&mut self) {
        for n in 0..self.nodes.len() {
            if self.holds(n) {
                self.nodes[n].last_held = self.now;
                self.nodes[n].away = false;
            }
        }
    }

    pub fn start(&mut self, n: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        if !node.up {
            node.up = true;
            node.started = now;
            node.registered = None;
        }
    }

    pub fn stop(&mut self, n: usize) {
        self.nodes[n].up = false;
        self.nodes[n].registered = None;
        self.nodes[n].replicated_at = None;
    }

    /// Its config names another bundle: what was proven before isn't about this.
    pub fn point(&mut self, n: usize, bundle: Bundle) {
        let node = &mut self.nodes[n];
        if node.config != bundle {
            node.config = bundle;
            node.proofs.clear();
            node.verifications = Verifications::default();
            node.ever_verified = false;
        }
    }

    pub fn time(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(MIDNIGHT + self.now).unwrap()
    }

    fn at(&self, second: i64) -> String {
        jiff::Timestamp::from_second(MIDNIGHT + second)
            .unwrap()
            .to_string()
    }

    /// What `control status` prints there, read.
    fn status(&self, n: usize) -> Option<NodeStatus> {
        let says = self.says(n)?;
        let mut read = self.nodes[n].read.borrow_mut();
        match &*read {
            Some((before, status)) if *before == says => Some(status.clone()),
            _ => {
                // Each node runs another oasis-node.
                let text = says.print(SHAPES[n % SHAPES.len()]);
                let status = NodeStatus::parse(&text).unwrap();
                *read = Some((says, status.clone()));
                Some(status)
            }
        }
    }

    fn says(&self, n: usize) -> Option<answer::Answer> {
        let node = &self.nodes[n];
        if !node.up {
            return None;
        }
        let opens = self.opens(n);
        let checksum = |sealed: Sealed| if sealed.right { SECRETS } else { [4; 32] };
        let version = node.config.version();
        let version = [version.major, version.minor, version.patch];
        let early = node.config == Bundle::New && node.registered.is_none() && opens;
        let said = node.place.filter(|_| opens).map(|sealed| InitResponse {
            is_secure: true,
            checksum: checksum(sealed).to_vec(),
            policy_checksum: POLICY.to_vec(),
            next_checksum: None,
        });
        let committee = (0..self.nodes.len()).filter(|m| self.nodes[*m].committee);
        Some(answer::Answer {
            software_version: "26.1".into(),
            node: id(n),
            consensus: "ready".into(),
            latest_time: self.at(self.now),
            epoch: self.epoch(),
            runtime: RUNTIME.into(),
            state: if node.registered.is_some() {
                "ready"
            } else {
                "starting"
            }
            .into(),
            version,
            registered: node.registered.map(|(at, expiration)| Registered {
                at: self.at(at),
                expiration,
                version,
                seed: [n as u8 * 2 + node.config as u8 + 1; 32],
                said,
                forged: false,
            }),
            last_error: early.then(|| "registry: node update not allowed".into()),
            policy_checksum: POLICY.to_vec(),
            on_chain: Some(OnChain {
                checksum: SECRETS.to_vec(),
                nodes: committee.map(id).collect(),
            }),
        })
    }

    /// Its row in `kmsctl status --json`, asked now.
    pub fn row(&self, n: usize) -> NodeRow {
        let node = &self.nodes[n];
        let status = self.status(n);
        let status = status.as_ref().ok_or("exit 128");
        let expected = Expectation {
            runtime: self.terms.runtime,
            version: node.config.version(),
            started: Some(jiff::Timestamp::from_second(MIDNIGHT + node.started).unwrap()),
            baseline: Some(self.terms.baseline),
            policy: Some(self.terms.policy),
        };
        let verdict = verify(&expected, Some(node.config.enclave()), status, self.time());
        let runtime = status
            .ok()
            .and_then(|s| s.registered(&self.terms.runtime).next());
        let evidence = runtime.and_then(|r| {
            Some(Evidence {
                extra_info: r.extra_info.clone()?,
                rak: r.rak?,
            })
        });
        let verified = verdict.verified;
        NodeRow {
            node: format!("km{n}"),
            unit: "oasis-node.service".into(),
            runtime: self.terms.runtime,
            identity: status.ok().map(|s| s.node),
            version: Some(node.config.version()),
            mrenclave: Some(node.config.enclave()),
            leaving: node.claim.map(|at| Leaving {
                operation: OperationId(1),
                since: jiff::Timestamp::from_second(MIDNIGHT + at).unwrap(),
            }),
            conditions: verdict.conditions,
            epoch: status.ok().and_then(|s| s.consensus.latest_epoch),
            checksum: verified.as_ref().map(|v| v.checksum),
            policy_checksum: verified.as_ref().map(|v| v.policy_checksum),
            evidence,
            verifications: node.verifications.clone(),
            failures: Vec::new(),
            half: node.half,
            finalized: false,
        }
    }

    /// What a peer gets from it.
    pub fn answer(&self, n: usize) -> Answer {
        if self.nodes[n].silent {
            return Answer::Unknown("it didn't answer in 10 s".into());
        }
        let mut row = self.row(n);
        // kmsctl knows whose host it is on while the node is down.
        row.identity = Some(kmsctl::kms::oasis::ids::NodeId::new(id(n)));
        let document = serde_json::json!({
            "format_version": 1, "observed_at": self.time(), "key_managers": [row],
        });
        Answer::parse(
            document.to_string().as_bytes(),
            &self.terms.runtime,
            self.time(),
        )
    }

    /// `kmsctl verify` there.
    pub fn verify(&mut self, n: usize) {
        let node = &self.nodes[n];
        let status = self.status(n);
        let expected = Expectation {
            runtime: self.terms.runtime,
            version: node.config.version(),
            started: Some(jiff::Timestamp::from_second(MIDNIGHT + node.started).unwrap()),
            baseline: Some(self.terms.baseline),
            policy: Some(self.terms.policy),
        };
        let status = status.as_ref().ok_or("exit 128");
        let verdict = verify(&expected, Some(node.config.enclave()), status, self.time());
        let epoch = self.epoch();
        let node = &mut self.nodes[n];
        match verdict.verified {
            Some(verified) => {
                node.verifications.add(verified);
                node.proofs.push(epoch);
                node.ever_verified = true;
            }
            None => {
                node.verifications.failed();
                node.proofs.clear();
            }
        }
    }
}

pub fn id(n: usize) -> [u8; 32] {
    [n as u8 + 1; 32]
}
