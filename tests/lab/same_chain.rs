//! A chain that keeps its id moves to another binary on real parts: one state file through it all, every signature
//! verified, never two processes of the key.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::fleet::{self, Fleet, Keys, OLD_CHAIN};
use crate::kmsctl::{self, kmsctl};
use crate::machine::{Lab, Machine};
use crate::parts::{FakeValidator, Message, Protocol, Signing};
use crate::sampler::Sampler;

const FLEET: Fleet = Fleet {
    signers: 1,
    protocol: Protocol::V034,
    keys: Keys::Softsign,
};
const NEW_BINARY: &str = "/opt/tmkms/tmkms";
const PLAN: [&str; 10] = [
    "plan",
    "--from-chain",
    OLD_CHAIN,
    "--new-chain",
    OLD_CHAIN,
    "--suffix",
    "v2b",
    "--binary",
    NEW_BINARY,
    "--detailed-exitcode",
];
const SOON: Duration = Duration::from_secs(20);

#[test]
fn another_binary_goes_on_where_the_last_one_signed() -> Result<()> {
    let lab = Lab::open()?;
    let machine = Machine::boot(&lab, |root| {
        FLEET.write(&lab, root)?;
        kmsctl::install(root)
    })?;
    let sampler = Sampler::start(&machine);
    machine.sh("systemctl enable --now tmkms-01")?;
    let listen = fleet::listen(1);
    let mut validator = FakeValidator::start(&machine, &listen, OLD_CHAIN, Protocol::V034, None)?;
    signs(&mut validator, 1, 10)?;

    kmsctl(&machine, &PLAN)?
        .exits(3)
        .says(&[NEW_BINARY, "no program is there"]);
    machine.sh(&format!(
        "install -D {}/.cargo/bin/tmkms {NEW_BINARY}",
        fleet::HOME
    ))?;
    // It speaks what tmkms 0.12.2 does, and says so itself.
    kmsctl(&machine, &[&PLAN[..], &["--protocol", "v0.38"]].concat())?
        .exits(3)
        .says(&["tmkms 0.12.2 (/opt/tmkms/tmkms) doesn't work with v0.38"]);
    kmsctl(&machine, &PLAN)?.exits(10);
    kmsctl(&machine, &["apply", "--yes", "--soak", "1"])?.exits(0);
    runs(&machine, "tmkms-01.v2b", NEW_BINARY)?;
    refuses(&mut validator, 10)?;
    signs(&mut validator, 11, 12)?;
    kmsctl(&machine, &PLAN)?.exits(0);

    kmsctl(&machine, &["rollback", "--yes", "--soak", "1"])?.exits(0);
    runs(
        &machine,
        "tmkms-01",
        &format!("{}/.cargo/bin/tmkms", fleet::HOME),
    )?;
    refuses(&mut validator, 12)?;
    signs(&mut validator, 13, 14)?;
    let states = machine.sh(&format!(
        "ls {}/kms/commercio/ | grep -c state",
        fleet::HOME
    ))?;
    ensure!(
        states.trim() == "1",
        "the state file is the only one: {states}"
    );
    sampler.stop()?.one_at_a_time()
}

fn signs(validator: &mut FakeValidator, from: u64, to: u64) -> Result<()> {
    let signed = validator.run(from, to, SOON)?.signed()?;
    ensure!(signed == 2 * (to - from + 1), "{signed} signatures");
    Ok(())
}

/// No other block is signed at a height that was signed.
fn refuses(validator: &mut FakeValidator, signed: u64) -> Result<()> {
    ensure!(validator.connected(SOON)?.is_some(), "no signer comes");
    let other = validator.sign(Message::Precommit, signed, 0, &"ab".repeat(32), SOON)?;
    ensure!(
        matches!(other, Signing::Refused { .. }),
        "another block at {signed}: {other:?}"
    );
    Ok(())
}

fn runs(machine: &Machine, unit: &str, program: &str) -> Result<()> {
    let exe = machine.sh(&format!(
        "readlink /proc/$(systemctl show -p MainPID --value {unit})/exe"
    ))?;
    ensure!(exe.trim() == program, "{unit} runs {exe}");
    Ok(())
}
