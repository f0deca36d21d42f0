//! The guide's night on real parts: planned, staged, switched, taken back and switched again, every signature verified.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::fleet::{self, Fleet, Keys};
use crate::kmsctl::{self, NEW_CHAIN, kmsctl};
use crate::machine::{Lab, Machine};
use crate::parts::{FakeValidator, Message, MockYubihsm, Protocol, Signing};
use crate::sampler::Sampler;
use crate::tree::Tree;

const FLEET: Fleet = Fleet {
    signers: 3,
    protocol: Protocol::V033,
    keys: Keys::Yubihsm,
};
const NUMBERS: [u8; 3] = [1, 2, 3];
/// Where the old chain halts.
const HALT: u64 = 2_233_550;
/// Five starts of each signer, which is all that the mock HSM's sixteen sessions are good for: it took one itself.
const STARTS: &str = "15\n";
const SOON: Duration = Duration::from_secs(20);
/// Everything that kmsctl may have a hand in.
const HOST: [&str; 3] = ["/etc/systemd/system", "/etc/kmsctl", "/data_tmkms"];

fn is_state(path: &str) -> bool {
    path.contains("priv_validator_state")
}

fn is_old_state(path: &str) -> bool {
    is_state(path) && !path.contains(".v3.")
}

#[test]
fn the_guides_night() -> Result<()> {
    let lab = Lab::open()?;
    let machine = Machine::boot(&lab, |root| {
        FLEET.write(&lab, root)?;
        kmsctl::install(root)?;
        // Modes that no umask gives, to see them kept.
        mode(root, &fleet::config_path(2), 0o640)?;
        mode(root, &fleet::unit_path(3), 0o600)
    })?;
    let hsm = MockYubihsm::start(&machine, fleet::CONNECTOR, &[1, 2, 3])?;
    let sampler = Sampler::start(&machine);
    let mut old = validators(&machine, fleet::OLD_CHAIN, Protocol::V033, &hsm)?;
    machine.sh("systemctl enable --now tmkms-01 tmkms-02 tmkms-03")?;
    sign(&mut old, HALT - 9, HALT - 5)?;

    // Days ahead.
    let before = Tree::of(&machine, &HOST)?;
    let plan = ["plan", "--new-chain", NEW_CHAIN];
    let again = ["plan", "--new-chain", NEW_CHAIN, "--detailed-exitcode"];
    kmsctl(&machine, &plan)?.exits(0);
    kmsctl(&machine, &again)?.exits(10);
    before.is_still(&Tree::of(&machine, &HOST)?);
    kmsctl(&machine, &["stage", "--yes"])?.exits(0);
    let staged = Tree::of(&machine, &HOST)?;
    let there_before = |path: &str| before.get(path).is_ok();
    before.is_still(&staged.clone().only(there_before));
    is_the_guides(&before, &staged)?;
    sign(&mut old, HALT - 4, HALT)?;
    are_what_jq_prints(&machine, fleet::OLD_CHAIN, HALT)?;

    // The halt.
    drop(old);
    let halted = Tree::of(&machine, &HOST)?.only(is_old_state);
    ensure!(halted.len() == 3, "three signers have three state files");
    kmsctl(&machine, &["apply", "--yes", "--soak", "1"])?.exits(0);
    let mut new = validators(&machine, NEW_CHAIN, Protocol::V034, &hsm)?;
    sign(&mut new, HALT + 1, HALT + 3)?;
    are_what_jq_prints(&machine, NEW_CHAIN, HALT + 3)?;
    halted.is_still(&Tree::of(&machine, &HOST)?.only(is_old_state));
    kmsctl(&machine, &again)?.exits(0);
    let applied = Tree::of(&machine, &HOST)?;
    kmsctl(&machine, &["unstage", "--yes"])?
        .exits(3)
        .says(&["kmsctl rollback"]);
    applied.is_still(&Tree::of(&machine, &HOST)?);

    // The new chain fails.
    drop(new);
    let left = applied.only(|path| is_state(path) && !is_old_state(path));
    ensure!(left.len() == 3, "the new chain has state files of its own");
    kmsctl(&machine, &["rollback", "--yes", "--soak", "1"])?.exits(0);
    let mut old = validators(&machine, fleet::OLD_CHAIN, Protocol::V033, &hsm)?;
    refuses(&mut old, HALT)?;
    sign(&mut old, HALT + 1, HALT + 1)?;
    are_what_jq_prints(&machine, fleet::OLD_CHAIN, HALT + 1)?;
    left.is_still(&Tree::of(&machine, &HOST)?.only(|p| is_state(p) && !is_old_state(p)));
    kmsctl(&machine, &again)?.exits(10);

    // And is tried again.
    drop(old);
    kmsctl(&machine, &["apply", "--yes", "--soak", "1"])?.exits(0);
    let mut new = validators(&machine, NEW_CHAIN, Protocol::V034, &hsm)?;
    refuses(&mut new, HALT + 3)?;
    sign(&mut new, HALT + 4, HALT + 4)?;
    are_what_jq_prints(&machine, NEW_CHAIN, HALT + 4)?;
    kmsctl(&machine, &again)?.exits(0);

    // Given up: the host is as it was, but for how far it signed.
    drop(new);
    kmsctl(&machine, &["rollback", "--yes", "--soak", "1"])?.exits(0);
    kmsctl(&machine, &["unstage", "--yes"])?.exits(0);
    let no_state = |path: &str| !is_state(path);
    before
        .only(no_state)
        .is_still(&Tree::of(&machine, &HOST)?.only(no_state));

    let samples = sampler.stop()?;
    samples.one_at_a_time()?;
    assert_eq!(samples.most_at_once.len(), NUMBERS.len(), "{samples:?}");
    let starts = machine.sh("journalctl --quiet -t tmkms -o cat | grep -c 'starting up'")?;
    assert_eq!(starts, STARTS, "starts of all signers in all");
    Ok(())
}

/// The staged configs and units are the guide's, byte for byte, with owner and mode of what they come from.
fn is_the_guides(before: &Tree, staged: &Tree) -> Result<()> {
    for number in NUMBERS {
        let config = FLEET
            .config(number)
            .replace(fleet::OLD_CHAIN, NEW_CHAIN)
            .replace(
                &format!("state{number:02}.json"),
                &format!("state{number:02}.v3.json"),
            )
            .replace("v0.33", "v0.34");
        let unit = fleet::unit(number).replace(".toml", ".v3.toml");
        for (from, text) in [
            (fleet::config_path(number), config),
            (fleet::unit_path(number), unit),
        ] {
            let to = from
                .replace(".toml", ".v3.toml")
                .replace(".service", ".v3.service");
            let (old, new) = (before.get(&from)?, staged.get(&to)?);
            assert_eq!(String::from_utf8_lossy(&new.content), text, "{to}");
            assert_eq!((new.mode, new.owner), (old.mode, old.owner), "{to}");
        }
    }
    Ok(())
}

fn mode(root: &Path, path: &str, mode: u32) -> Result<()> {
    let path = root.join(path.trim_start_matches('/'));
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("giving {} a mode", path.display()))
}

/// A validator of a chain for each signer, which takes no other key than the one that the signer has in the HSM.
pub fn validators(
    machine: &Machine,
    chain: &str,
    protocol: Protocol,
    hsm: &MockYubihsm,
) -> Result<Vec<FakeValidator>> {
    let start = |number: u8| {
        let key = hsm.public_key(number.into())?;
        FakeValidator::start(machine, &fleet::listen(number), chain, protocol, Some(key))
    };
    NUMBERS.into_iter().map(start).collect()
}

/// Every validator gets a prevote and a precommit of every height, and verifies them.
pub fn sign(validators: &mut [FakeValidator], from: u64, to: u64) -> Result<()> {
    for validator in validators {
        assert_eq!(
            validator.run(from, to, SOON)?.signed()?,
            2 * (to - from + 1)
        );
    }
    Ok(())
}

/// No signer signs another block at a height that its state file is at, nor below.
pub fn refuses(validators: &mut [FakeValidator], signed: u64) -> Result<()> {
    for validator in validators {
        for height in [signed, signed - 1] {
            let key = validator.connected(SOON)?;
            ensure!(key.is_some(), "no signer comes");
            let other = validator.sign(Message::Precommit, height, 0, &"ab".repeat(32), SOON)?;
            ensure!(
                matches!(other, Signing::Refused { .. }),
                "another block at {height}: {other:?}"
            );
        }
    }
    Ok(())
}

/// `heights` says what `jq -r .height` does, of the chain that is signed now.
fn are_what_jq_prints(machine: &Machine, chain: &str, height: u64) -> Result<()> {
    let heights = kmsctl::json(machine, &["heights", "--json"])?;
    let rows = heights["heights"].as_array().context("rows of heights")?;
    assert_eq!(rows.len(), NUMBERS.len(), "{heights}");
    for (row, number) in rows.iter().zip(NUMBERS) {
        assert_eq!(row["signer"], format!("tmkms-{number:02}"));
        assert_eq!(row["chain"], chain);
        assert_eq!(row["height"], height);
        let file = row["state_file"].as_str().context("a state file's path")?;
        let printed = machine.sh(&format!("jq -r .height {file}"))?;
        assert_eq!(printed.trim(), height.to_string(), "{file}");
    }
    Ok(())
}
