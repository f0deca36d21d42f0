//! The gates of a switch and of a way back on real parts: whether the chain has stopped, whether it stopped where it was
//! said to, whether the new signers sign, and what is said of one that doesn't.
//!
//! The validators speak v0.34, so every story holds on tmkms 0.12.2 and on a newer one (`tests/lab/gates-long`). What
//! a gate refuses must leave the host as it was, and each signer in the run that it was in.

mod asking;
mod floors;
mod halts;
mod last_words;
mod unix_socket;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::fleet::{self, Fleet, Keys};
use crate::kmsctl::{self, NEW_CHAIN, UnitNow, kmsctl, new_unit, unit_now};
use crate::machine::{Lab, Machine, Running};
use crate::parts::{FakeValidator, Protocol};
use crate::tree::Tree;

/// Where the old chain halts.
const HALT: u64 = 2_233_550;
const APPLY: [&str; 4] = ["apply", "--yes", "--soak", "1"];
const ROLLBACK: [&str; 4] = ["rollback", "--yes", "--soak", "1"];
const SOON: Duration = Duration::from_secs(20);

/// A machine of the guide's fleet, none of whose signers runs yet.
fn machine(
    signers: u8,
    keys: Keys,
    more: impl FnOnce(&Lab, &Path) -> Result<()>,
) -> Result<Machine> {
    let lab = Lab::open()?;
    let protocol = Protocol::V034;
    let fleet = Fleet {
        signers,
        protocol,
        keys,
    };
    Machine::boot(&lab, |root| {
        fleet.write(&lab, root)?;
        kmsctl::install(root)?;
        more(&lab, root)
    })
}

/// Plans and stages the new chain, as is done days ahead.
fn staged(machine: &Machine) -> Result<()> {
    kmsctl(machine, &["plan", "--new-chain", NEW_CHAIN])?.exits(0);
    kmsctl(machine, &["stage", "--yes"])?.exits(0);
    Ok(())
}

/// A validator of a chain where a signer dials it.
fn validator(machine: &Machine, number: u8, chain: &str) -> Result<FakeValidator> {
    let listen = fleet::listen(number);
    FakeValidator::start(machine, &listen, chain, Protocol::V034, None)
}

/// Waits until a signer is connected to each.
fn connected(validators: &mut [FakeValidator]) -> Result<()> {
    for validator in validators {
        ensure!(validator.connected(SOON)?.is_some(), "no signer comes");
    }
    Ok(())
}

/// Waits until a run of kmsctl has said something.
fn comes_to_say(run: &mut Running, words: &str) -> Result<()> {
    let until = Instant::now() + SOON;
    while !run.said().contains(words) {
        if let Some(status) = run.wait(Duration::from_millis(20))? {
            bail!("{words:?} was never said, {status}:\n{}", run.said());
        }
        ensure!(
            Instant::now() < until,
            "{words:?} isn't said:\n{}",
            run.said()
        );
    }
    Ok(())
}

/// What a refusal may not touch: files but for what the chains themselves sign, kmsctl's memory, and the runs of all units.
struct Standing {
    files: Tree,
    units: Vec<(UnitNow, UnitNow)>,
}

impl Standing {
    fn of(machine: &Machine, signers: u8) -> Result<Standing> {
        let passing = ["/var/lib/kmsctl/lock", "/var/lib/kmsctl/plan.json"];
        let files = Tree::of(machine, &["/etc", "/data_tmkms", "/var/lib/kmsctl"])?
            .only(|path| !passing.contains(&path) && !path.contains("priv_validator_state"));
        let of = |number| -> Result<(UnitNow, UnitNow)> {
            let old = unit_now(machine, &fleet::unit_name(number))?;
            Ok((old, unit_now(machine, &new_unit(number))?))
        };
        let units = (1..=signers).map(of).collect::<Result<_>>()?;
        Ok(Standing { files, units })
    }

    #[track_caller]
    fn is_still(&self, now: &Standing) {
        self.files.is_still(&now.files);
        assert_eq!(self.units, now.units);
    }
}
