//! Floors under a new chain, and who doesn't sign it: nothing at the old chain's last height is signed again, whatever is
//! asked for, and each signer that stays silent is named with what it logged.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{APPLY, HALT, ROLLBACK, SOON, connected, machine, staged, validator};
use crate::fence::halted;
use crate::fleet::{self, Keys};
use crate::kmsctl::{NEW_CHAIN, kmsctl, new_unit, unit_now};
use crate::machine::Lab;
use crate::parts::{FakeValidator, Message, Signing};
use crate::tree::Tree;

const FLOOR: &str = r#"{"height":"2233550","round":"2147483647","step":127,"block_id":null}"#;
const NUMBERS: [u8; 4] = [1, 2, 3, 4];
/// A mode that no umask gives, and a group that isn't the signer's own.
const MODE: u32 = 0o640;
const GROUP: u32 = 0;

fn new_state(number: u8) -> String {
    fleet::state_path(number).replace(".json", ".v3.json")
}

#[test]
fn nothing_below_a_floor_is_signed_and_who_signs_nothing_is_named() -> Result<()> {
    let machine = machine(4, Keys::Softsign, |_, root| {
        NUMBERS.iter().try_for_each(|n| old_state(root, *n))?;
        let folder = root.join("etc/systemd/system/tmkms-04.service.d");
        fs::create_dir(&folder).context("making a drop-in's folder")?;
        let log = "[Service]\nStandardOutput=append:/var/log/tmkms-04.log\n";
        fs::write(folder.join("log.conf"), log).context("writing a drop-in")
    })?;
    machine.sh("systemctl enable --now tmkms-01 tmkms-02 tmkms-03 tmkms-04")?;
    staged(&machine)?;
    let first = (HALT + 1).to_string();
    let too_high = (HALT + 2).to_string();
    kmsctl(
        &machine,
        &[&APPLY[..], &["--initial-height", &too_high]].concat(),
    )?
    .exits(3)
    .says(&["floor-too-high"]);
    kmsctl(
        &machine,
        &[&APPLY[..], &["--initial-height", &first]].concat(),
    )?
    .exits(0);
    let tree = Tree::of(&machine, &["/data_tmkms"])?;
    for number in NUMBERS {
        let floor = tree.get(&new_state(number))?;
        assert_eq!(String::from_utf8_lossy(&floor.content), FLOOR, "{number}");
        let old = tree.get(&fleet::state_path(number))?;
        assert_eq!((floor.mode & 0o7777, floor.owner.1), (MODE, GROUP));
        assert_eq!((floor.mode, floor.owner), (old.mode, old.owner));
        let unit = unit_now(&machine, &new_unit(number))?;
        ensure!(unit.runs(), "{number} doesn't run on its floor: {unit:?}");
    }

    // Signer 1 is asked, 3's validator is on another chain, and nobody listens for 2 and 4.
    let checks_the_chain = Lab::open()?.checks_the_chain();
    let elsewhere = match checks_the_chain {
        true => "commercio-4",
        // It would sign, with its own chain's id.
        false => NEW_CHAIN,
    };
    let mut asks = validator(&machine, 1, NEW_CHAIN)?;
    let silent = validator(&machine, 3, elsewhere)?;
    refuses_below_its_floor(&mut asks)?;
    let now = Tree::of(&machine, &["/data_tmkms"])?;
    assert_eq!(now.get(&new_state(1))?.content, FLOOR.as_bytes());
    assert_eq!(asks.run(HALT + 1, HALT + 1, SOON)?.signed()?, 2);

    let said = kmsctl(&machine, &["apply", "--yes", "--await-signing", "3s"])?.exits(7);
    ensure!(!said.output.stderr.contains('\x1b'), "{said:?}");
    ensure!(
        !said.output.stderr.contains("tmkms-01: not seen"),
        "{said:?}"
    );
    said.says(&[
        "tmkms-01: signed commercio-3 at 2233551/0/2",
        "tmkms-02: not seen signing commercio-3 in 3 s",
        &format!("{} is still at 2233550/2147483647/127", new_state(2)),
        "Connection refused",
        "that means: no validator listens at its address yet",
        "tmkms-03: not seen signing",
        match checks_the_chain {
            true => "that means: its validator is still on another chain",
            false => "that means: it is connected and wasn't asked to sign",
        },
        "tmkms-04: not seen signing",
        "it doesn't log to the journal (StandardOutput=append",
    ]);

    // The way back takes the floors along that nobody signed on.
    let signed = Tree::of(&machine, &["/data_tmkms"])?;
    drop((asks, silent));
    kmsctl(&machine, &ROLLBACK)?
        .exits(0)
        .says(&["tmkms-01 signed commercio-3 up to 2233551/0/2"]);
    let back = Tree::of(&machine, &["/data_tmkms"])?;
    let state = |path: &str| path.contains("priv_validator_state");
    let withdrawn = [2, 3, 4].map(new_state);
    let stays = |path: &str| state(path) && !withdrawn.iter().any(|w| w == path);
    signed.only(stays).is_still(&back.only(state));
    Ok(())
}

/// Every kind of vote, in the lowest and the highest rounds.
fn refuses_below_its_floor(validator: &mut FakeValidator) -> Result<()> {
    for message in [Message::Proposal, Message::Prevote, Message::Precommit] {
        for (height, round) in [(HALT, 0), (HALT, 1), (HALT, i32::MAX.unsigned_abs())] {
            connected(std::slice::from_mut(validator))?;
            let block = "ab".repeat(32);
            let vote = validator.sign(message, height, round, &block, SOON)?;
            ensure!(
                matches!(&vote, Signing::Refused { why } if why.starts_with("refused")),
                "{message:?} at {height}/{round}: {vote:?}"
            );
        }
    }
    Ok(())
}

fn old_state(root: &Path, number: u8) -> Result<()> {
    halted(root, number)?;
    let path = root.join(fleet::state_path(number).trim_start_matches('/'));
    chown(&path, None, Some(GROUP)).context("giving a state file a group")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).context("giving it a mode")
}
