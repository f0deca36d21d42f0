//! Operators, one a node: each drives the real decisions step by step, may die between any two of them, and may be made
//! blind to one rule, to see that the rule is what keeps the fleet whole.

use kmsctl::kms::oasis::answer::Answer;
use kmsctl::kms::oasis::claim::{Found, Next, Stand, back_off};
use kmsctl::kms::oasis::fleet::{Me, may_leave};
use kmsctl::kms::oasis::ids::{Epoch, NodeId};
use kmsctl::kms::oasis::published::Half;
use kmsctl::kms::oasis::verify::Holds;
use kmsctl::kms::oasis::way_back::{against_leaving_back, takes_a_copy_away};

use crate::world::{Bundle, World, id};

/// A rule that an operator doesn't see, for the tests of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blind {
    /// Others that are leaving.
    ToLeaving,
    /// Says that it is leaving only when it stops.
    ClaimsLate,
    /// Keeps its word and its place in memory: a death takes the word back, and the next run goes on where it was.
    TrustsItsMemory,
    /// Asks before the stop only.
    AsksOnce,
    /// Takes an answer of before where there is none now.
    TakesOldAnswers,
    /// Counts every node as a holder.
    ToConditions,
    /// Doesn't see that half of the fleet has gone.
    ToHalves,
    ToTheEpoch,
    ToVerifiedTwice,
    /// Is content with one other holder.
    ToHolders,
    /// Goes back without asking.
    GoesBackFreely,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward(Stand),
    Back(Back),
}

/// The way back: the same order, without the halves, and asking only where a copy would be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    Claim,
    Ask,
    Stop { asks: bool },
    AskAgain,
    Swap,
    Start,
    Withdraw,
}

#[derive(Clone, Debug)]
pub struct Operator {
    n: usize,
    blind: Option<Blind>,
    confirms: bool,
    way: Option<Way>,
    dead: bool,
    left_at: Option<Way>,
    /// What came back so far, and since when it is being asked.
    asked: Vec<(String, Answer)>,
    asking_since: i64,
    remembered: Vec<Option<Answer>>,
    attempt: u32,
    not_before: i64,
}

impl Operator {
    pub fn of(n: usize, fleet: usize, blind: Option<Blind>, confirms: bool) -> Operator {
        Operator {
            n,
            blind,
            confirms,
            way: None,
            dead: false,
            left_at: None,
            asked: Vec::new(),
            asking_since: 0,
            remembered: vec![None; fleet],
            attempt: 0,
            not_before: 0,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.way.is_none() && !self.dead
    }

    pub fn is_at_work(&self) -> bool {
        self.way.is_some()
    }

    /// `kmsctl apply`
    pub fn applies(&mut self, world: &World) {
        if self.is_idle() && world.nodes[self.n].config == Bundle::Old {
            self.way = Some(Way::Forward(Stand::Staying));
        }
    }

    /// `kmsctl rollback`, of what was done or of what a death left.
    pub fn goes_back(&mut self, world: &World) {
        let node = &world.nodes[self.n];
        let open = self.dead || self.is_idle();
        if open && node.old_aside.is_some() {
            self.dead = false;
            self.left_at = None;
            self.asked.clear();
            self.way = Some(Way::Back(Back::Claim));
        }
    }

    pub fn dies(&mut self, world: &mut World) {
        if let Some(way) = self.way.take() {
            self.dead = true;
            self.asked.clear();
            if self.blind == Some(Blind::TrustsItsMemory) {
                world.nodes[self.n].claim = None;
                self.left_at = Some(way);
            }
        }
    }

    /// The next `kmsctl apply` after a death.
    pub fn resumes(&mut self, world: &World) {
        if !std::mem::take(&mut self.dead) {
            return;
        }
        if self.left_at.is_some() {
            self.way = self.left_at.take();
            return;
        }
        let node = &world.nodes[self.n];
        let stand = Stand::found(Found {
            claimed: node.claim.is_some(),
            up: node.up,
            moved: node.old_aside.is_some(),
            half: node.half,
        });
        self.way = (stand != Stand::Staying).then_some(Way::Forward(stand));
    }

    /// One durable act, or one question to one peer.
    pub fn acts(&mut self, world: &mut World, chance: u64, broken: &mut Vec<String>) {
        match self.way {
            None => {}
            Some(_) if world.now < self.not_before => {}
            Some(Way::Forward(stand)) => self.forward(stand, world, chance, broken),
            Some(Way::Back(back)) => self.back(back, world, broken),
        }
        world.look();
    }

    fn forward(&mut self, stand: Stand, world: &mut World, chance: u64, broken: &mut Vec<String>) {
        let n = self.n;
        let mut after = stand.done();
        match stand.next() {
            Next::Claim if self.blind == Some(Blind::ClaimsLate) => {}
            Next::Claim => world.nodes[n].claim = Some(world.now),
            Next::Ask => match self.ask(world) {
                false => return,
                true => {
                    let answer = self.decide(world, None);
                    after = stand.answered(&answer);
                    if let Ok(half) = answer {
                        world.nodes[n].half = Some(half);
                    }
                }
            },
            Next::Stop => {
                world.nodes[n].claim.get_or_insert(world.now);
                self.witness(world, None, broken);
                world.stop(n);
                world.nodes[n].away = true;
            }
            Next::AskAgain(half) if self.blind == Some(Blind::AsksOnce) => {
                after = stand.answered(&Ok(half));
                self.asking_since = world.now;
            }
            Next::AskAgain(half) => match self.ask(world) {
                false => return,
                true => after = stand.answered(&self.decide(world, Some(half))),
            },
            Next::Move => {
                self.witness(world, world.nodes[n].half, broken);
                let node = &mut world.nodes[n];
                node.old_aside = node.place.take();
            }
            Next::StartNew => {
                world.point(n, Bundle::New);
                world.start(n);
            }
            Next::StartOld => world.start(n),
            Next::Withdraw => {
                world.nodes[n].claim = None;
                if world.nodes[n].config == Bundle::Old {
                    world.nodes[n].half = None;
                    self.attempt += 1;
                    self.not_before = world.now + back_off(self.attempt, chance).as_secs() as i64;
                }
                let again = world.nodes[n].config == Bundle::Old && self.attempt < 3;
                self.way = again.then_some(Way::Forward(Stand::Staying));
                if !again {
                    self.attempt = 0;
                }
                return;
            }
        }
        self.way = Some(Way::Forward(after));
    }

    fn back(&mut self, back: Back, world: &mut World, broken: &mut Vec<String>) {
        let n = self.n;
        let next = match back {
            Back::Claim => {
                world.nodes[n].claim = Some(world.now);
                match world.nodes[n].up {
                    true if self.blind == Some(Blind::GoesBackFreely) => Back::Stop { asks: false },
                    true if takes_a_copy_away(
                        &world.row(n),
                        &world.terms,
                        world.nodes[n].ever_verified,
                    ) =>
                    {
                        Back::Ask
                    }
                    true => Back::Stop { asks: false },
                    false => Back::Swap,
                }
            }
            Back::Ask | Back::AskAgain => {
                if !self.ask(world) {
                    return;
                }
                let me = NodeId::new(id(n));
                let answers = std::mem::take(&mut self.asked);
                let free = against_leaving_back(me, &world.terms, &answers).is_empty();
                match (back, free) {
                    (Back::Ask, true) => Back::Stop { asks: true },
                    (Back::Ask, false) => Back::Withdraw,
                    (_, true) => Back::Swap,
                    (_, false) => Back::Start,
                }
            }
            Back::Stop { asks } => {
                if asks {
                    self.witness(world, None, broken);
                }
                world.stop(n);
                world.nodes[n].away = true;
                if asks { Back::AskAgain } else { Back::Swap }
            }
            Back::Swap => {
                let node = &mut world.nodes[n];
                node.new_aside.extend(node.place.take());
                node.place = node.old_aside.take();
                node.half = None;
                world.point(n, Bundle::Old);
                Back::Start
            }
            Back::Start => {
                world.start(n);
                Back::Withdraw
            }
            Back::Withdraw => {
                world.nodes[n].claim = None;
                self.way = None;
                return;
            }
        };
        self.way = Some(Way::Back(next));
    }

    /// Asks one peer more; true once all were asked. Answers are of different moments, as in life.
    fn ask(&mut self, world: &World) -> bool {
        let peers: Vec<usize> = (0..world.nodes.len()).filter(|m| *m != self.n).collect();
        let Some(peer) = peers.get(self.asked.len()) else {
            return true;
        };
        if self.asked.is_empty() {
            self.asking_since = world.now;
        }
        let mut answer = world.answer(*peer);
        if self.blind == Some(Blind::TakesOldAnswers) {
            match (&answer, &self.remembered[*peer]) {
                (Answer::Unknown(_), Some(before)) => answer = before.clone(),
                _ => self.remembered[*peer] = Some(answer.clone()),
            }
        }
        self.asked.push((format!("km{peer}"), answer));
        false
    }

    fn decide(
        &mut self,
        world: &World,
        stopped: Option<Half>,
    ) -> Result<Half, Vec<kmsctl::kms::oasis::fleet::No>> {
        let mut answers = std::mem::take(&mut self.asked);
        let mut terms = world.terms.clone();
        let row = world.row(self.n);
        for (_, answer) in &mut answers {
            if let Answer::Known(row) = answer {
                match self.blind {
                    Some(Blind::ToLeaving) => row.leaving = None,
                    Some(Blind::ToConditions) => {
                        for condition in &mut row.conditions {
                            condition.holds = Holds::Yes;
                        }
                        row.checksum = Some(terms.baseline);
                        row.policy_checksum = Some(terms.policy);
                        row.evidence = self.own_evidence(world);
                    }
                    Some(Blind::ToHalves) => row.mrenclave = Some(terms.old),
                    Some(Blind::ToVerifiedTwice) => row.half = Some(Half::Second),
                    _ => {}
                }
            }
        }
        match self.blind {
            Some(Blind::ToTheEpoch) => terms.upgrade_epoch = Some(Epoch(0)),
            Some(Blind::ToHolders) => terms.holders = 1,
            _ => {}
        }
        let me = match stopped {
            Some(half) => Me::Stopped(NodeId::new(id(self.n)), half),
            None => Me::Running(&row),
        };
        may_leave(&terms, me, &answers, self.confirms)
    }

    /// Somebody's good signature.
    fn own_evidence(&self, world: &World) -> Option<kmsctl::kms::oasis::published::Evidence> {
        let nodes = 0..world.nodes.len();
        nodes
            .filter(|n| world.holds(*n))
            .find_map(|n| world.row(n).evidence)
    }

    /// Whether enough others held the secrets while this one asked; of what failed since it can't know.
    fn witness(&self, world: &World, moves: Option<Half>, broken: &mut Vec<String>) {
        let others = || (0..world.nodes.len()).filter(|m| *m != self.n);
        let held = |m: &usize| world.nodes[*m].last_held >= self.asking_since;
        let holders = others().filter(held).count();
        let name = self.n;
        if holders < world.terms.holders {
            let wanted = world.terms.holders;
            broken.push(format!(
                "holders: km{name} lets go with {holders} others, not {wanted}"
            ));
        }
        let new = || others().filter(|m| world.nodes[*m].config == Bundle::New);
        let half = world.nodes.len() / 2;
        match moves {
            None => {}
            Some(Half::First) => {
                let old = others().filter(|m| world.nodes[*m].config == Bundle::Old);
                if old.filter(held).count() < world.terms.holders {
                    broken.push(format!(
                        "holders: km{name} goes first with too few old ones left"
                    ));
                }
                if new().count() >= half {
                    broken.push(format!("half: km{name} goes first, and half has gone"));
                }
            }
            Some(Half::Second) => {
                if Some(Epoch(world.epoch())) < world.terms.upgrade_epoch {
                    broken.push(format!("epoch: km{name} goes at epoch {}", world.epoch()));
                }
                for m in new().filter(|m| world.nodes[*m].half == Some(Half::First)) {
                    let mut proofs = world.nodes[m].proofs.clone();
                    proofs.dedup();
                    if proofs.len() < 2 {
                        broken.push(format!(
                            "twice: km{name} goes, and km{m} was verified in {proofs:?}"
                        ));
                    }
                }
            }
        }
    }
}
