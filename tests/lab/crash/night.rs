//! A night of ten signers on one machine: deaths, the promised ends after them, and validators that want other blocks
//! signed at the heights that were.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::witness::Witness;
use crate::dice::Dice;
use crate::fleet::{self, Fleet, Keys, OLD_CHAIN};
use crate::kmsctl::{self, NEW_CHAIN, PROGRAM, kmsctl, new_unit};
use crate::machine::{Lab, Machine, Running};
use crate::parts::{FakeValidator, Message, Protocol, Signing, Vote};
use crate::sampler::Sampler;
use crate::tree::Tree;

const SIGNERS: u8 = 10;
const FLEET: Fleet = Fleet {
    signers: SIGNERS,
    protocol: Protocol::V033,
    keys: Keys::Softsign,
};
/// Where the chain halts. Each chain is signed one height further whenever it is signed.
const HALT: u64 = 2_233_550;
const SOON: Duration = Duration::from_secs(30);
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Process,
    Machine,
}

pub struct Night {
    machine: Machine,
    sampler: Sampler,
    death: Death,
    dice: Dice,
    /// What a switch takes here, when nobody is watched.
    takes: Duration,
    /// Each signer's key.
    keys: BTreeMap<u8, String>,
    /// How far each chain was signed.
    heights: BTreeMap<&'static str, u64>,
    /// No block is ever proposed twice, so that signing again is always a double signature.
    blocks: u64,
    witness: Witness,
}

#[expect(
    clippy::print_stderr,
    reason = "the story of a night, which cargo shows where it fails"
)]
fn tell(what: &str) {
    eprintln!("crash: {what}");
}

impl Night {
    /// The fleet runs on the old chain, and has signed it.
    pub fn begins(seed: u64, death: Death) -> Result<Night> {
        tell(&format!("KMSCTL_LAB_SEED={seed}"));
        let lab = Lab::open()?;
        let machine = Machine::boot(&lab, |root| {
            FLEET.write(&lab, root)?;
            kmsctl::install(root)?;
            let units: Vec<String> = (1..=SIGNERS).map(fleet::unit_name).collect();
            fleet::enable(root, &units)
        })?;
        let mut night = Night {
            sampler: Sampler::start(&machine),
            machine,
            death,
            dice: Dice::of(seed),
            takes: Duration::ZERO,
            keys: BTreeMap::new(),
            heights: BTreeMap::from([(OLD_CHAIN, HALT - 1), (NEW_CHAIN, HALT - 1)]),
            blocks: 0,
            witness: Witness::default(),
        };
        night.signs(false)?;
        kmsctl(&night.machine, &["plan", "--new-chain", NEW_CHAIN])?.exits(0);
        let apply = [
            PROGRAM,
            "apply",
            "--yes",
            "--json",
            "--no-canary",
            "--soak",
            "0s",
        ];
        let mut apply = night.machine.spawn(&apply)?;
        begun(&mut apply)?;
        let begun = Instant::now();
        let ended = apply.wait(SOON)?.context("a switch doesn't end")?;
        ensure!(ended.success(), "{}", apply.said());
        night.takes = begun.elapsed();
        night.stands(true)?;
        night.signs(true)?;
        night.ends(false)?;
        night.signs(false)?;
        Ok(night)
    }

    /// Whether the next run dies as well.
    pub fn dies_again(&mut self) -> bool {
        self.dice.chance(3)
    }

    /// Kills a verb, or the machine under it, at some instant; false where it had ended by then. Nothing signs meanwhile,
    /// so that no state file may change, whatever was cut short.
    pub fn killed(&mut self, verb: &str) -> Result<bool> {
        let states = self.states()?;
        let parallel = (1 + self.dice.below(6)).to_string();
        let mut words = vec![PROGRAM, verb, "--yes", "--json", "--parallel", &parallel];
        if verb == "apply" && self.dice.chance(2) {
            words.push("--no-canary");
        }
        // The canary is watched, and the others after it.
        let soak = Duration::from_millis([0, 300][self.dice.below(2)]);
        let (soak, takes) = (format!("{soak:?}"), self.takes + 2 * soak);
        words.extend(["--soak", &soak]);
        let mut running = self.machine.spawn(&words)?;
        begun(&mut running)?;
        let after = takes.mul_f64(self.dice.below(1000) as f64 / 1000.0);
        thread::sleep(after);
        let died = running.wait(Duration::ZERO)?.is_none();
        if self.death == Death::Machine {
            self.machine.power_cut()?;
        }
        let said = running.said();
        drop(running);
        let last = said.lines().last().unwrap_or_default();
        tell(&format!("{verb} after {after:?}, died: {died}: {last}"));
        if self.death == Death::Machine {
            self.machine.boot_again()?;
        }
        self.kept(&states)?;
        self.never_both_open()?;
        kmsctl(&self.machine, &["status"])?.exits(0);
        Ok(died)
    }

    /// Goes to the new chain, or back to the old one, as kmsctl says.
    pub fn ends(&mut self, to_new: bool) -> Result<()> {
        let states = self.states()?;
        let verb = if to_new { "apply" } else { "rollback" };
        tell(verb);
        let said = kmsctl(&self.machine, &[verb, "--yes", "--soak", "0s"])?;
        if to_new || said.output.code == Some(0) {
            drop(said.exits(0));
        } else if said.output.stderr.contains("`kmsctl unstage`") {
            // No signer was touched before it died.
            drop(said.exits(3));
            tell("unstage");
            kmsctl(&self.machine, &["unstage", "--yes"])?.exits(0);
        }
        self.stands(to_new)?;
        self.kept(&states)
    }

    /// The promised end: every signer on one side, nothing enabled on the other, no operation open.
    fn stands(&self, new: bool) -> Result<()> {
        for number in 1..=SIGNERS {
            let units = [(fleet::unit_name(number), !new), (new_unit(number), new)];
            for (unit, here) in units {
                let enabled = fs::symlink_metadata(self.machine.file(WANTS).join(&unit)).is_ok();
                ensure!(enabled == here, "{unit}: enabled is {enabled}");
                let active = self.machine.run(&["systemctl", "is-active", &unit])?;
                let active = active.stdout.trim() == "active";
                ensure!(active == here, "{unit}: active is {active}");
            }
        }
        let status = kmsctl::json(&self.machine, &["status", "--json"])?;
        ensure!(
            status["operation"].is_null() && status["notes"] == serde_json::json!([]),
            "{status}"
        );
        Ok(())
    }

    /// A signer whose new unit is there has one unit closed at least.
    fn never_both_open(&self) -> Result<()> {
        for number in 1..=SIGNERS {
            let closed = |unit: String| {
                let marker = format!("/etc/kmsctl/fence/{unit}.closed");
                self.machine.file(marker).exists()
            };
            let staged = self.machine.file("/etc/systemd/system");
            ensure!(
                !staged.join(new_unit(number)).exists()
                    || closed(new_unit(number))
                    || closed(fleet::unit_name(number)),
                "nothing keeps the units of {number} apart"
            );
        }
        Ok(())
    }

    fn states(&self) -> Result<Tree> {
        let tree = Tree::of(&self.machine, &["/data_tmkms"])?;
        Ok(tree.only(|path| path.contains("priv_validator_state")))
    }

    /// Every state file that was there is as it was, to the byte.
    fn kept(&self, before: &Tree) -> Result<()> {
        let now = self.states()?;
        before.is_still(&now.only(|path| before.get(path).is_ok()));
        Ok(())
    }

    /// The validators of a chain come, want another block at the last height, which they don't get, and the next height
    /// signed, which they do; then they stop, as before a switch.
    pub fn signs(&mut self, new: bool) -> Result<()> {
        let (chain, protocol) = match new {
            true => (NEW_CHAIN, Protocol::V034),
            false => (OLD_CHAIN, Protocol::V033),
        };
        let last = self.heights[chain];
        let mut validators = Vec::new();
        for number in 1..=SIGNERS {
            let key = self.keys.get(&number).map(String::as_str);
            let listen = fleet::listen(number);
            let validator = FakeValidator::start(&self.machine, &listen, chain, protocol, key)?;
            self.blocks += 2;
            validators.push((number, validator, self.blocks));
        }
        // Before its first height a chain has nothing that could be signed twice.
        let signed = (last >= HALT).then_some(last);
        let signed = thread::scope(|scope| {
            let threads: Vec<_> = validators
                .into_iter()
                .map(|(number, validator, block)| {
                    (
                        number,
                        scope.spawn(move || signs(validator, signed, last + 1, block)),
                    )
                })
                .collect();
            let mut all = Vec::new();
            for (number, thread) in threads {
                let signed: Result<(String, Vec<Vote>)> =
                    thread.join().map_err(|_| anyhow!("a validator panicked"))?;
                let signed = signed.with_context(|| format!("signer {number} on {chain}"))?;
                all.push((number, signed));
            }
            anyhow::Ok(all)
        })?;
        for (number, (key, votes)) in signed {
            self.witness.saw(&key, chain, votes)?;
            self.keys.insert(number, key);
        }
        self.heights.insert(chain, last + 1);
        Ok(())
    }

    /// What was seen all night.
    pub fn over(self) -> Result<()> {
        let samples = self.sampler.stop()?;
        tell(&format!(
            "{} signatures, none of them twice; {samples:?}",
            self.witness.signatures()
        ));
        ensure!(
            samples.most_at_once.len() == usize::from(SIGNERS),
            "{samples:?}"
        );
        samples.one_at_a_time()
    }
}

/// Waits until a verb has opened its operation, or has ended.
fn begun(running: &mut Running) -> Result<()> {
    let until = Instant::now() + SOON;
    while !running.said().contains("\"begun\"") && running.wait(Duration::ZERO)?.is_none() {
        ensure!(Instant::now() < until, "nothing begins: {}", running.said());
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// One signer's validator; its key, and what was verified.
fn signs(
    mut validator: FakeValidator,
    signed: Option<u64>,
    next: u64,
    block: u64,
) -> Result<(String, Vec<Vote>)> {
    let block = |n: u64| format!("{:064x}", block + n);
    let key = validator.connected(SOON)?.context("no signer comes")?;
    if let Some(signed) = signed {
        let other = validator.sign(Message::Precommit, signed, 0, &block(0), SOON)?;
        ensure!(
            matches!(other, Signing::Refused { .. }),
            "another block at {signed}: {other:?}"
        );
    }
    for message in [Message::Prevote, Message::Precommit] {
        if let Signing::Refused { why } = validator.sign(message, next, 0, &block(1), SOON)? {
            bail!("{message:?} at {next}: {why}");
        }
    }
    Ok((key, validator.votes()?))
}
