//! Random nights over fleets of 2, 3, 4 and 7: operators who start when they like, deaths between any two acts, nodes that
//! fail, hosts that don't answer. Whatever happens, enough nodes hold the secrets; and each rule is what keeps it so.

use kmsctl::kms::oasis::fleet::holders;

use crate::operators::{Blind, Operator};
use crate::world::{Bundle, Trouble, World};

/// Random numbers from a seed (splitmix64), the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    fn chance(&mut self, once_in: usize) -> bool {
        self.below(once_in) == 0
    }
}

struct Night {
    world: World,
    operators: Vec<Operator>,
    dice: Dice,
    /// Nodes may still fail by themselves.
    failures: usize,
    broken: Vec<String>,
    story: Vec<String>,
}

impl Night {
    fn of(fleet: usize, seed: u64, blind: Option<Blind>) -> Night {
        let mut dice = Dice(seed);
        let most = fleet - fleet / 2;
        let asked = match dice.below(3) {
            0 => None,
            _ => Some(1 + dice.below(most)),
        };
        let needed = holders(fleet, asked).unwrap();
        let upgrade = 1 + dice.below(8) as u64;
        let operator = |n, dice: &mut Dice| Operator::of(n, fleet, blind, !dice.chance(8));
        let mut world = World::of(fleet, needed, upgrade);
        world.deployed = dice.below(upgrade as usize + 1) as u64;
        Night {
            world,
            operators: (0..fleet).map(|n| operator(n, &mut dice)).collect(),
            failures: dice.below(fleet.min(3)),
            dice,
            broken: Vec::new(),
            story: Vec::new(),
        }
    }

    fn tell(&mut self, what: impl Into<String>) {
        let (now, epoch) = (self.world.now, self.world.epoch());
        self.story
            .push(format!("{now} (epoch {epoch}): {}", what.into()));
    }

    fn goes_on(&mut self) {
        let n = self.dice.below(self.operators.len());
        let event = self.dice.below(100);
        match event {
            0..40 => {
                let at_work = |o: &&mut Operator| o.is_at_work();
                let mut busy: Vec<&mut Operator> =
                    self.operators.iter_mut().filter(at_work).collect();
                let which = self.dice.below(busy.len());
                if let Some(operator) = busy.get_mut(which) {
                    operator.acts(&mut self.world, self.dice.roll(), &mut self.broken);
                    let what = format!("{operator:?}")
                        .chars()
                        .take(160)
                        .collect::<String>();
                    self.tell(what);
                }
            }
            40..50 => {
                let seconds = 1 + self.dice.below(40) as i64;
                self.world.pass(seconds);
            }
            50..62 => self.world.verify(n),
            62..68 => {
                self.operators[n].applies(&self.world);
                self.tell(format!("km{n} applies"));
            }
            68..70 => {
                for operator in &mut self.operators {
                    operator.applies(&self.world);
                }
                self.tell("all apply at once");
            }
            70..80 => {
                self.operators[n].dies(&mut self.world);
                self.tell(format!("kmsctl on km{n} dies"));
            }
            80..88 => self.operators[n].resumes(&self.world),
            88..92 => {
                self.operators[n].goes_back(&self.world);
                self.tell(format!("km{n} goes back"));
            }
            92..95 => self.world.nodes[n].silent ^= true,
            95..97 if self.world.nodes[n].up && self.world.nodes[n].claim.is_none() => {
                // A crash, and systemd's automatic restart.
                self.world.stop(n);
                self.world.start(n);
            }
            97..99 => {
                let trouble = [None, Some(Trouble::NotReplicated), Some(Trouble::Corrupted)];
                self.world.nodes[n].trouble = trouble[self.dice.below(3)];
            }
            _ if self.failures > 0 && self.world.nodes[n].claim.is_none() => {
                self.failures -= 1;
                self.world.nodes[n].place = None;
                self.world.stop(n);
                self.tell(format!("km{n} loses its database by itself"));
            }
            _ => {}
        }
        self.judge();
    }

    fn judge(&mut self) {
        let (holders, failed) = (self.world.holders(), self.world.failed_by_themselves());
        let wanted = self.world.terms.holders;
        if holders + failed < wanted {
            self.broken.push(format!(
                "floor: {holders} hold the secrets, {failed} failed by themselves, not {wanted}"
            ));
        }
        if holders == 0 && failed == 0 {
            self.broken.push("nobody holds the secrets".into());
        }
        if self.world.copies() == 0 {
            self.broken.push("the secrets are lost for ever".into());
        }
    }
}

/// What broke in one night, and how it came about.
fn night(fleet: usize, seed: u64, blind: Option<Blind>) -> Option<(Vec<String>, Vec<String>)> {
    let mut night = Night::of(fleet, seed, blind);
    for _ in 0..400 {
        night.goes_on();
        if !night.broken.is_empty() {
            return Some((night.broken, night.story));
        }
    }
    None
}

const FLEETS: [usize; 4] = [2, 3, 4, 7];

/// `KMSCTL_SEEDS` nights for each fleet, where it is set.
fn seeds() -> u64 {
    let asked = std::env::var("KMSCTL_SEEDS").ok();
    asked.map_or(25, |seeds| seeds.parse().unwrap())
}

#[test]
fn whatever_happens_enough_nodes_hold_the_secrets() {
    for fleet in FLEETS {
        for seed in 0..seeds() {
            if let Some((broken, story)) = night(fleet, seed, None) {
                panic!(
                    "fleet of {fleet}, seed {seed}: {broken:?}\n{}",
                    story.join("\n")
                );
            }
        }
    }
}

/// The test of the test: without any of the rules some night goes wrong, in the way that the rule is there for.
#[test]
fn without_any_of_the_rules_some_night_goes_wrong() {
    for (blind, fleet, how) in [
        (Blind::ToLeaving, 3, "holders"),
        (Blind::ClaimsLate, 3, "holders"),
        (Blind::TrustsItsMemory, 3, "holders"),
        (Blind::AsksOnce, 3, "holders"),
        (Blind::TakesOldAnswers, 3, "holders"),
        (Blind::ToConditions, 3, "holders"),
        (Blind::ToHalves, 3, "half"),
        (Blind::ToTheEpoch, 2, "epoch"),
        (Blind::ToVerifiedTwice, 2, "twice"),
        (Blind::ToHolders, 3, "holders"),
        (Blind::GoesBackFreely, 2, "holders"),
    ] {
        let shows = |b: &String| b.starts_with(how) || (how == "holders" && b.starts_with("floor"));
        let told = |broken: &[String]| broken.iter().any(shows);
        let goes_wrong = |seed| night(fleet, seed, Some(blind)).is_some_and(|(b, _)| told(&b));
        assert!(
            (0..400).any(goes_wrong),
            "{blind:?}: no night of a fleet of {fleet} shows {how:?} without it"
        );
    }
}

/// Nothing of the above is worth much if nobody ever gets anywhere: in the guide's order everybody does.
#[test]
fn in_the_guide_s_order_the_whole_fleet_is_upgraded() {
    for fleet in FLEETS {
        for seed in 0..3 {
            let mut night = Night::of(fleet, seed, None);
            let operator = |n| Operator::of(n, fleet, None, true);
            night.operators = (0..fleet).map(operator).collect();
            let old = |world: &World| world.nodes.iter().position(|n| n.config == Bundle::Old);
            let mut events = 0;
            while let Some(next) = old(&night.world) {
                if !night.operators.iter().any(Operator::is_at_work) {
                    night.operators[next].applies(&night.world);
                }
                let chance = night.dice.roll();
                for operator in &mut night.operators {
                    operator.acts(&mut night.world, chance, &mut night.broken);
                }
                night.world.pass(3);
                (0..fleet).for_each(|n| night.world.verify(n));
                night.judge();
                events += 1;
                assert!(events < 2000, "fleet of {fleet}, seed {seed}: stuck");
            }
            night.world.pass(200);
            assert_eq!(night.world.holders(), fleet);
            assert_eq!(night.broken, Vec::<String>::new());
        }
    }
}
