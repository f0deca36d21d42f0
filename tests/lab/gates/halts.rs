//! A chain that goes on is neither left nor gone back from, and its halt can be waited for.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::asking::while_asking;
use super::unix_socket::SilentValidator;
use super::{
    APPLY, HALT, ROLLBACK, SOON, Standing, comes_to_say, connected, machine, staged, validator,
};
use crate::fence::halted;
use crate::fleet::{self, Keys, OLD_CHAIN};
use crate::kmsctl::{NEW_CHAIN, PROGRAM, kmsctl, new_unit, unit_now};
use crate::machine::Machine;
use crate::night::sign;
use crate::parts::{FakeValidator, MockYubihsm, Protocol};

/// What kmsctl takes for a chain's silence.
const WATCH: Duration = Duration::from_secs(15);
const SOCKET: &str = "/run/validator-03.sock";

#[test]
fn a_chain_that_goes_on_is_neither_left_nor_gone_back_from() -> Result<()> {
    let machine = machine(3, Keys::Softsign, |_, root| {
        let config = root.join(fleet::config_path(3).trim_start_matches('/'));
        let text = fs::read_to_string(&config).context("reading a config")?;
        let tcp = format!("tcp://{}", fleet::listen(3));
        ensure!(text.contains(&tcp), "signer 3 dials another address");
        let text = text.replace(&tcp, &format!("unix://{SOCKET}"));
        fs::write(&config, text).context("writing a config")?;
        (1..=3).try_for_each(|number| halted(root, number))
    })?;
    let unix = SilentValidator::start(&machine, SOCKET)?;
    let mut old = validators(&machine, OLD_CHAIN)?;
    machine.sh("systemctl enable --now tmkms-01 tmkms-02 tmkms-03")?;
    connected(&mut old)?;
    unix.has_taken(1)?;
    staged(&machine)?;

    let before = Standing::of(&machine, 3)?;
    while_asking(&mut old[1], HALT, || {
        let said = kmsctl(&machine, &APPLY)?.exits(3);
        said.says(&[
            "3 of 3 signers are connected to a validator: watching for 15 s",
            "chain-not-halted",
            &fleet::state_path(2),
            "commercio-2_2 signs on while it is watched",
        ]);
        Ok(())
    })?;
    before.is_still(&Standing::of(&machine, 3)?);

    // Connected and silent: it is only looked at for a while.
    let begun = Instant::now();
    kmsctl(&machine, &APPLY)?
        .exits(0)
        .says(&["3 of 3 signers are connected"]);
    ensure!(begun.elapsed() >= WATCH, "{:?}", begun.elapsed());
    drop(old);

    // The same before the way back.
    let mut new = validators(&machine, NEW_CHAIN)?;
    sign(&mut new, HALT + 1, HALT + 1)?;
    unix.has_taken(2)?;
    let before = Standing::of(&machine, 3)?;
    while_asking(&mut new[0], HALT + 1, || {
        let said = kmsctl(&machine, &ROLLBACK)?.exits(3);
        said.says(&[
            "3 of 3 signers are connected",
            "chain-not-halted",
            &fleet::state_path(1).replace(".json", ".v3.json"),
            "commercio-3 signs on while it is watched",
        ]);
        Ok(())
    })?;
    before.is_still(&Standing::of(&machine, 3)?);

    // Once its validators are gone, nobody is watched but the signer whose validator is on a unix socket.
    drop(new);
    kmsctl(&machine, &ROLLBACK)?
        .exits(0)
        .says(&["1 of 3 signers are connected"]);
    unix.close()?;
    let said = kmsctl(&machine, &APPLY)?.exits(0);
    ensure!(!said.output.stderr.contains("watching"), "{said:?}");
    for number in 1..=3 {
        let (old, new) = (fleet::unit_name(number), new_unit(number));
        ensure!(!unit_now(&machine, &old)?.runs(), "{old} runs");
        ensure!(unit_now(&machine, &new)?.runs(), "{new} doesn't run");
    }
    Ok(())
}

#[test]
fn a_halt_is_waited_for_and_the_connector_is_no_validator() -> Result<()> {
    let machine = machine(2, Keys::Yubihsm, |_, _| Ok(()))?;
    let hsm = MockYubihsm::start(&machine, fleet::CONNECTOR, &[1, 2])?;
    let mut old = of_hsm(&machine, OLD_CHAIN, &hsm)?;
    machine.sh("systemctl enable --now tmkms-01 tmkms-02")?;
    sign(&mut old, HALT - 9, HALT - 3)?;
    staged(&machine)?;
    is_connected_to_the_device(&machine, &fleet::unit_name(1))?;

    let before = Standing::of(&machine, 2)?;
    let halt = HALT.to_string();
    let waiting = |height: &str, wait: &str| -> Result<_> {
        let flags = [
            "--halt-height",
            height,
            "--wait-for-halt",
            wait,
            "--still",
            "1s",
        ];
        kmsctl(&machine, &[&APPLY[..], &flags].concat())
    };
    waiting(&halt, "3s")?.exits(6).says(&[
        "the chain didn't halt at 2233550 in time, and nothing was changed",
        "tmkms-02: commercio-2_2 at 2233547/0/2, 3 blocks to go, validator connected",
    ]);
    waiting(&(HALT - 10).to_string(), "20s")?
        .exits(3)
        .says(&["old-signer-past-halt", &fleet::state_path(2)]);
    before.is_still(&Standing::of(&machine, 2)?);

    // The night: it waits, the chain comes to its halt, its validators stop, and the signers go.
    let mut words = vec![PROGRAM];
    words.extend(APPLY);
    words.extend([
        "--halt-height",
        &halt,
        "--wait-for-halt",
        "2m",
        "--still",
        "2s",
    ]);
    words.extend(["--await-signing", "1m"]);
    let mut apply = machine.spawn(&words)?;
    comes_to_say(&mut apply, "3 blocks to go")?;
    sign(&mut old, HALT - 2, HALT)?;
    let early = apply.wait(Duration::from_secs(4))?;
    ensure!(early.is_none(), "{early:?}: {}", apply.said());
    let now = Standing::of(&machine, 2)?;
    assert_eq!(before.units, now.units, "a connected validator may go on");
    drop(old);
    comes_to_say(
        &mut apply,
        "Waiting for at most 60 s until each of 2 chains has signed.",
    )?;
    let mut new = of_hsm(&machine, NEW_CHAIN, &hsm)?;
    sign(&mut new, HALT + 1, HALT + 2)?;
    let end = apply.wait(SOON)?.context("apply waits on and on")?;
    let said = apply.said();
    ensure!(end.code() == Some(0), "{end}: {said}");
    for words in [
        "tmkms-01: signed commercio-3 at 22335",
        "each started one signs",
    ] {
        ensure!(said.contains(words), "{words:?} isn't said:\n{said}");
    }
    ensure!(!said.contains('\x1b'), "{said:?}");

    // Only the device is connected.
    drop(new);
    is_connected_to_the_device(&machine, &new_unit(1))?;
    let said = kmsctl(&machine, &ROLLBACK)?.exits(0);
    ensure!(!said.output.stderr.contains("watching"), "{said:?}");
    Ok(())
}

/// The validators of signers 1 and 2.
fn validators(machine: &Machine, chain: &str) -> Result<Vec<FakeValidator>> {
    let each = (1..=2).map(|number| validator(machine, number, chain));
    each.collect()
}

fn of_hsm(machine: &Machine, chain: &str, hsm: &MockYubihsm) -> Result<Vec<FakeValidator>> {
    let each = (1..=2).map(|number: u8| {
        let key = Some(hsm.public_key(number.into())?);
        FakeValidator::start(machine, &fleet::listen(number), chain, Protocol::V034, key)
    });
    each.collect()
}

/// Otherwise nothing is shown by its not being taken for a validator.
fn is_connected_to_the_device(machine: &Machine, unit: &str) -> Result<()> {
    let pid = unit_now(machine, unit)?.main_pid;
    let found = machine.sh(&format!(
        "ss -Htnp state established dst {} | grep -c pid={pid},",
        fleet::CONNECTOR
    ))?;
    ensure!(found.trim() == "1", "{found} connections to the device");
    Ok(())
}
