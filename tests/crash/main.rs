//! The crash matrix: kmsctl's own verbs on a fleet in memory, over the one model of systemd, killed everywhere.
//!
//! Every rule is judged after every change of the world by a witness that knows what really happened. A failing run
//! names its seed; `KMSCTL_CRASH_SEED=N cargo test --test crash` runs that one again, `KMSCTL_CRASH_SEEDS=N` more of them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod broken;
#[path = "../support/dice.rs"]
mod dice;
mod disk;
mod fate;
mod fleet;
mod hands;
mod night;
mod state;
mod systemd;
mod witness;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};

use disk::Loss;
use fate::{Dice, Fate, OtherHand};
use kmsctl::exit::Exit;
use night::{Night, Said};
use state::State;

#[test]
fn a_quiet_night() {
    let night = Night::planned(Fate::kind(1));
    night.ends(true, "apply");
    night.ends(false, "rollback");
    night.ends(true, "apply again");
    assert!(matches!(night.kmsctl("apply"), Said::Done));
}

/// Every instant of a switch of the fleet, from before its first change to after its last.
fn instants(verb: &str, night: &Night) -> Vec<State> {
    // Whoever goes back has stopped the new chain's validators.
    night.world.state.borrow_mut().fate.new_chain_lives = verb == "apply";
    night.world.film();
    let said = night.kmsctl(verb);
    night.sound(verb);
    assert!(matches!(said, Said::Done), "{said:?}");
    night.world.filmed()
}

/// Runs a test on each case, on all processors.
fn each<T: Sync>(cases: &[T], test: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    test(case);
                }
            });
        }
    });
}

/// One death at every instant, of the process and of the machine, and both ways on. An instant that leaves the same to
/// be seen as the one before it is the same: the process's death forgets nothing, the machine's what isn't durable.
fn one_death(verb: &str, night: &Night) {
    let instants = instants(verb, night);
    let mut deaths = Vec::new();
    for dark in [false, true] {
        let mut before = None;
        for (n, instant) in instants.iter().enumerate() {
            let seen = Some((instant.disk.seen(dark), instant.jobs() * usize::from(!dark)));
            if seen != before {
                deaths.extend([true, false].map(|to_new| (n, dark, to_new)));
            }
            before = seen;
        }
    }
    assert!(deaths.len() > 150, "{}", deaths.len());
    let floors = night.floors;
    each(&deaths, |(n, dark, to_new)| {
        let who = if *dark { "the machine" } else { "kmsctl" };
        let way = if *to_new { "on" } else { "back" };
        let at = format!("{verb}, {who} dead after change {n}, then {way}");
        let mut night = Night::of(instants[*n].clone());
        night.floors = floors;
        if *dark {
            night.power_cut(Loss::Everything, true);
        } else {
            night.world.process_ends();
            night.finish_jobs();
        }
        night.sound(&at);
        night.ends(*to_new, &at);
        night.power_cut(Loss::Everything, true);
        night.sound(&at);
        night.stands(*to_new, &format!("{at}, and dark at the end"));
        if !*to_new {
            // Taken back, it can be tried again, and its floors are laid again.
            night.world.state.borrow_mut().fate.new_chain_lives = true;
            night.ends(true, &format!("{at}, and another try"));
        }
    });
}

#[test]
fn apply_dies_once_anywhere() {
    let mut night = Night::planned(Fate::kind(2));
    night.floors = true;
    one_death("apply", &night);
}

#[test]
fn rollback_dies_once_anywhere() {
    let mut night = Night::planned(Fate::kind(3));
    night.floors = true;
    night.ends(true, "apply");
    one_death("rollback", &night);
}

/// A full disk, or a bus that dies, at any instant of going on or of going back: the operation stays open, and the exit
/// code says so.
#[test]
fn who_can_t_go_on_is_half_way() {
    let interrupted = (0..).step_by(10).find_map(|n| {
        let night = Night::planned(Fate::kind(7));
        night.world.state.borrow_mut().fate.dies_in = Some(n);
        night.kmsctl("apply");
        night.finish_jobs();
        let touched = night.world.state.borrow().running.len() < fleet::SIGNERS - 1;
        (touched && night.is_half_way()).then(|| night.world.state.borrow().clone())
    });
    let interrupted = interrupted.unwrap();
    for verb in ["apply", "rollback"] {
        for n in 0.. {
            let at = format!("{verb}, and change {n} fails");
            let night = Night::of(interrupted.clone());
            {
                let fate = &mut night.world.state.borrow_mut().fate;
                (fate.dies_in, fate.fails_in) = (None, Some(n));
                fate.new_chain_lives = false;
            }
            let said = night.kmsctl(verb);
            night.sound(&at);
            if night.world.state.borrow().fate.fails_in.is_some() {
                assert!(matches!(said, Said::Done), "{at}: {said:?}");
                break;
            }
            if let Said::Failed(failure) = said {
                let half_way = match failure.exit {
                    Exit::HalfWay => true,
                    // What goes back by itself has ended.
                    Exit::TakenBack => !night.is_half_way(),
                    _ => false,
                };
                assert!(half_way, "{at}: {failure:?}");
            }
        }
    }
}

/// What a seed makes of a night: verbs that are disturbed in every way at once, one after another, and then an end.
fn a_wild_night(seed: u64, base: &State) {
    let mut dice = Dice::of(seed);
    let mut night = Night::of(base.clone());
    night.floors = seed.is_multiple_of(2);
    *night.world.second.borrow_mut() = Some(night.second());
    let mut story = format!("KMSCTL_CRASH_SEED={seed}");
    for act in 0..=dice.below(3) {
        let verb = ["apply", "apply", "apply", "rollback", "rollback", "stage"][dice.below(6)];
        let soon = [40, 150, 400][dice.below(3)];
        let mut at_times = |once_in| dice.chance(once_in).then(|| dice.below(soon));
        let (dies_in, fails_in) = (at_times(1), at_times(4));
        let hand_in = at_times(2);
        let hands = [OtherHand::StartAll, OtherHand::Reload, OtherHand::Kmsctl];
        night.world.state.borrow_mut().fate = Fate {
            dice: Dice::of(seed ^ act as u64),
            dies_in,
            fails_in,
            hand_in: hand_in.map(|at| (at, hands[dice.below(3)])),
            wild_jobs: dice.chance(2),
            lingers: dice.chance(4).then_some(4),
            old_chain_lives: dice.chance(4),
            new_chain_lives: dice.chance(2),
        };
        let fate = night.world.state.borrow().fate.clone();
        let said = night.kmsctl(verb);
        let now = night.world.story();
        story += &format!(
            "
{act}: {verb}: {said:?}
  {fate:?}
  {now}"
        );
        night.sound(&story);
        match dice.below(5) {
            0 => {
                let losses = [Loss::Nothing, Loss::Everything, Loss::Any];
                night.power_cut(losses[dice.below(3)], true)
            }
            1 => night.power_cut(Loss::Any, dice.chance(2)),
            // systemd does later what it was asked for.
            2 => {}
            _ => night.finish_jobs(),
        }
        story += &format!(
            "
  then {}",
            night.world.story()
        );
        night.sound(&story);
    }
    {
        let state = &mut *night.world.state.borrow_mut();
        state.fate = Fate::kind(seed);
        state.left_behind.clear();
    }
    night.finish_jobs();
    let to_new = dice.chance(2);
    night.ends(
        to_new,
        &format!(
            "{story}
at the end (new: {to_new})"
        ),
    );
}

/// Second deaths, failures, other hands, jobs in any order, and power cuts that forget any part of what wasn't synced.
#[test]
fn wild_nights() {
    let planned = Night::planned(Fate::kind(4));
    let bases = {
        let switched = Night::planned(Fate::kind(5));
        switched.ends(true, "apply");
        [
            planned.world.state.borrow().clone(),
            switched.world.state.borrow().clone(),
        ]
    };
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let seeds: Vec<u64> = match number("KMSCTL_CRASH_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("KMSCTL_CRASH_SEEDS").unwrap_or(2000)).collect(),
    };
    each(&seeds, |seed| {
        a_wild_night(*seed, &bases[usize::from(*seed % 4 == 3)]);
    });
}
