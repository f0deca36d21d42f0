//! The lab itself: is what it builds on true? Where one of these fails, no other lab test means anything.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::fleet::{self, Fleet, Keys};
use crate::machine::{Lab, Machine};
use crate::parts::{FakeValidator, Heights, Message, MockYubihsm, Protocol, Signing};
use crate::sampler::Sampler;

const SIGNERS: u8 = 3;
/// The heights that the Commercio night ends with on the old chain.
const FIRST: u64 = 2_233_546;
const LAST: u64 = 2_233_550;
const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_guides_fleet_signs_and_survives_a_power_cut_on_v0_34() -> Result<()> {
    signs_and_survives(Protocol::V034)
}

#[test]
fn the_guides_fleet_signs_and_survives_a_power_cut_on_v0_33() -> Result<()> {
    signs_and_survives(Protocol::V033)
}

fn signs_and_survives(protocol: Protocol) -> Result<()> {
    let lab = Lab::open()?;
    let fleet = Fleet {
        signers: SIGNERS,
        protocol,
        keys: Keys::Yubihsm,
    };
    let mut machine = Machine::boot(&lab, |root| {
        fleet.write(&lab, root)?;
        // One is started by the boot and the others by hand.
        fleet::enable(root, &[fleet::unit_name(1)])
    })?;
    let hsm = MockYubihsm::start(&machine, fleet::CONNECTOR, &[1, 2, 3])?;
    let mut validators = validators(&machine, protocol, Some(&hsm))?;
    let sampler = Sampler::start(&machine);
    machine.sh("systemctl start tmkms-02 tmkms-03")?;
    for (number, validator) in (1..).zip(&mut validators) {
        let key = validator
            .connected(SOON)?
            .with_context(|| format!("signer {number} doesn't come"))?;
        assert_eq!(key, hsm.public_key(number.into())?);
        assert_eq!(validator.run(FIRST, LAST, SOON)?.signed()?, 10);
        assert_eq!(height(&machine, number)?, LAST);
    }

    machine.power_cut()?;
    for (number, validator) in (1..).zip(&mut validators) {
        assert_eq!(validator.connected(Duration::from_millis(100))?, None);
        assert_eq!(
            height(&machine, number)?,
            LAST,
            "the disk is readable while the machine is off"
        );
    }

    machine.boot_again()?;
    assert_eq!(
        machine.sh("systemctl is-active 'tmkms-*'")?,
        "active\n",
        "only the enabled one"
    );
    machine.sh("systemctl start tmkms-02 tmkms-03")?;
    for (number, validator) in (1..).zip(&mut validators) {
        let other = validator.sign(Message::Precommit, LAST, 0, &"ab".repeat(32), SOON)?;
        ensure!(
            matches!(other, Signing::Refused { .. }),
            "another block at {LAST}: {other:?}"
        );
        assert_eq!(
            validator.run(LAST + 1, LAST + 1, SOON)?,
            Heights::Signed {
                last: LAST + 1,
                count: 2
            }
        );
        for message in [Message::Proposal, Message::Prevote, Message::Precommit] {
            let signed = validator.sign(message, LAST + 2, 0, &"cd".repeat(32), SOON)?;
            ensure!(
                matches!(signed, Signing::Signed { .. }),
                "{message:?}: {signed:?}"
            );
        }
        assert_eq!(height(&machine, number)?, LAST + 2);
        assert_eq!(
            validator.votes()?.len(),
            15,
            "what was verified is remembered over the power cut"
        );
    }
    let samples = sampler.stop()?;
    samples.one_at_a_time()?;
    assert_eq!(
        samples.most_at_once.len(),
        usize::from(SIGNERS),
        "{samples:?}"
    );
    machine.poweroff()
}

#[test]
fn two_processes_of_one_signer_are_seen() -> Result<()> {
    let lab = Lab::open()?;
    let fleet = Fleet {
        signers: 2,
        protocol: Protocol::V034,
        keys: Keys::Softsign,
    };
    let machine = Machine::boot(&lab, |root| fleet.write(&lab, root))?;
    machine.sh("systemctl start tmkms-01 tmkms-02")?;
    let config = fleet::config_path(1).replace(".01.toml", ".01.v3.toml");
    machine.sh(&format!(
        "sed s/state01.json/state01.v3.json/ {} >{config}",
        fleet::config_path(1)
    ))?;

    let before = Sampler::start(&machine);
    std::thread::sleep(Duration::from_millis(100));
    before.stop()?.one_at_a_time()?;

    let both = Sampler::start(&machine);
    let tmkms = format!("{}/.cargo/bin/tmkms", fleet::HOME);
    let stray = machine.spawn(&[
        "runuser", "-u", "tmkms", "--", &tmkms, "start", "-c", &config,
    ])?;
    std::thread::sleep(Duration::from_millis(300));
    drop(stray);
    let samples = both.stop()?;
    assert_eq!(samples.most_at_once.get("01"), Some(&2), "{samples:?}");
    assert_eq!(samples.most_at_once.get("02"), Some(&1), "{samples:?}");
    assert!(samples.one_at_a_time().is_err());
    Ok(())
}

#[test]
fn machines_side_by_side_share_nothing() -> Result<()> {
    let lab = Lab::open()?;
    let fleet = Fleet {
        signers: 1,
        protocol: Protocol::V034,
        keys: Keys::Softsign,
    };
    let boot = || {
        Machine::boot(&lab, |root| {
            fleet.write(&lab, root)?;
            fleet::enable(root, &[fleet::unit_name(1)])
        })
    };
    let (mut one, other) = (boot()?, boot()?);
    let listen = fleet::listen(1);
    let mut first = FakeValidator::start(&one, &listen, fleet::OLD_CHAIN, Protocol::V034, None)?;
    let mut second = FakeValidator::start(&other, &listen, fleet::OLD_CHAIN, Protocol::V034, None)?;
    let keys = (first.connected(SOON)?, second.connected(SOON)?);
    assert!(
        keys.0.is_some() && keys.1.is_some() && keys.0 != keys.1,
        "{keys:?}"
    );
    let processes = "systemctl show -p ControlGroup --value tmkms-01 | xargs -I{} cat /sys/fs/cgroup{}/cgroup.procs";
    assert_eq!(
        one.sh(processes)?.lines().count(),
        1,
        "a unit's cgroup holds its own machine's process only"
    );

    one.power_cut()?;
    assert_eq!(first.connected(Duration::from_millis(100))?, None);
    assert_eq!(second.run(1, 3, SOON)?.signed()?, 6);
    one.boot_again()?;
    assert_eq!(first.connected(SOON)?, keys.0);
    Ok(())
}

#[test]
fn a_power_cut_takes_everything_that_ran() -> Result<()> {
    let lab = Lab::open()?;
    let mut machine = Machine::boot(&lab, |_| Ok(()))?;
    machine.sh("echo kept >/root/kept; echo lost >/run/lost; setsid sleep 1000 >&- 2>&- &")?;
    let mut entered = machine.spawn(&["sh", "-c", "echo begun; sleep 1000"])?;
    let late = machine.run_for(Duration::from_millis(100), &["sleep", "1000"]);
    assert!(
        late.is_err(),
        "a command that doesn't end is an error: {late:?}"
    );
    assert_eq!(
        machine.run(&["false"])?.code,
        Some(1),
        "a command that fails is an answer"
    );
    let space = fs::metadata(machine.file("/proc/1/ns/pid"))?.ino();

    machine.power_cut()?;
    assert!(entered.wait(SOON)?.is_some_and(|status| !status.success()));
    assert_eq!(entered.said(), "begun\n");
    let living = fs::read_dir("/proc")?
        .flatten()
        .filter(|it| fs::metadata(it.path().join("ns/pid")).is_ok_and(|it| it.ino() == space));
    // The number may be given to another machine as soon as it is free: then these aren't its old processes.
    let old = living.filter(|it| {
        fs::read(it.path().join("cmdline")).is_ok_and(|it| it.starts_with(b"sleep\0"))
    });
    assert_eq!(old.count(), 0);

    machine.boot_again()?;
    assert_eq!(
        machine.sh("cat /root/kept; ls /run/lost || true")?,
        "kept\n"
    );
    assert_eq!(machine.sh("pgrep -c sleep || true")?, "0\n");
    Ok(())
}

/// A validator for each signer; with an HSM it insists on the key that the signer has there.
fn validators(
    machine: &Machine,
    protocol: Protocol,
    hsm: Option<&MockYubihsm>,
) -> Result<Vec<FakeValidator>> {
    (1..=SIGNERS)
        .map(|number| {
            let key = hsm.map(|hsm| hsm.public_key(number.into())).transpose()?;
            FakeValidator::start(
                machine,
                &fleet::listen(number),
                fleet::OLD_CHAIN,
                protocol,
                key,
            )
        })
        .collect()
}

/// The height in a signer's state file, read from the machine's disk.
fn height(machine: &Machine, number: u8) -> Result<u64> {
    let path = machine.file(fleet::state_path(number));
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let state: Value = serde_json::from_str(&text).with_context(|| format!("reading {text}"))?;
    let height = state["height"].as_str().context("a height is a string")?;
    height
        .parse()
        .with_context(|| format!("reading the height {height}"))
}
