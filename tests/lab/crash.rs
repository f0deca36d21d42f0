//! Ten signers, and kmsctl or the whole machine killed at random instants of their switch; then, by turns, it goes on to
//! the new chain or back to the old one, as kmsctl's own words say.
//!
//! The instants come from a seed, which is printed first: `KMSCTL_LAB_SEED=N` takes another one. A seed brings back the
//! instants, not what a real machine happened to do at them.

mod night;
mod witness;

use std::env;

use anyhow::{Context, Result, ensure};

use night::{Death, Night};

/// What the normal tier takes. The long one takes a new seed each time.
const SEED: u64 = 4;

fn seed() -> Result<u64> {
    match env::var("KMSCTL_LAB_SEED") {
        Ok(seed) => seed.parse().context("KMSCTL_LAB_SEED is no number"),
        Err(_) => Ok(SEED),
    }
}

#[test]
fn kmsctl_is_killed_eight_times() -> Result<()> {
    dies(8, Death::Process)
}

#[test]
fn the_power_is_cut_twice() -> Result<()> {
    dies(2, Death::Machine)
}

#[test]
#[ignore = "long tier: tests/lab/long"]
fn kmsctl_is_killed_fifty_times() -> Result<()> {
    dies(50, Death::Process)
}

#[test]
#[ignore = "long tier: tests/lab/long"]
fn the_power_is_cut_twelve_times() -> Result<()> {
    dies(12, Death::Machine)
}

/// Dies so many times in the middle of a switch, and gets to the promised end after each.
fn dies(times: usize, death: Death) -> Result<()> {
    let mut night = Night::begins(seed()?, death)?;
    let mut died = 0;
    // What ends before its instant counts as no death.
    for _ in 0..3 * times {
        if died == times {
            break;
        }
        if !night.killed("apply")? {
            night.ends(true)?;
            night.ends(false)?;
            continue;
        }
        died += 1;
        let to_new = died % 2 == 1;
        if night.dies_again() {
            night.killed(if to_new { "apply" } else { "rollback" })?;
        }
        night.ends(to_new)?;
        night.signs(to_new)?;
        if to_new {
            night.ends(false)?;
            night.signs(false)?;
        }
    }
    ensure!(died == times, "it died {died} times, not {times}");
    night.over()
}
