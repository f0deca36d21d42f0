//! The runbook against kmsctl itself: two hosts of one kind, one moved by kmsctl and one by its runbook, end alike at every
//! stage of the night.

mod killed;
mod refused;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::fence::halted;
use crate::fleet::{self, Fleet, Keys};
use crate::kmsctl::{self, NEW_CHAIN, kmsctl, new_unit, unit_now};
use crate::machine::{Lab, Machine, Output};
use crate::night::{refuses, sign, validators};
use crate::parts::{MockYubihsm, PASSWORD, Protocol};
use crate::sampler::Sampler;
use crate::tree::Tree;
use crate::units;

const NUMBERS: [u8; 3] = [1, 2, 3];
const HALT: u64 = 2_233_550;
const RUNBOOK: &str = "/root/runbook.sh";
const EVIDENCE: &str = "/root/night's evidence";
/// Everything that either may have a hand in.
const HOST: [&str; 3] = ["/etc/systemd/system", "/etc/kmsctl", "/data_tmkms"];
const PLAN: [&str; 5] = ["plan", "--new-chain", NEW_CHAIN, "--runbook", RUNBOOK];
const LOOK: [&str; 4] = ["plan", "--new-chain", NEW_CHAIN, "--detailed-exitcode"];

/// The host without what differs from machine to machine: generated keys, and how far was signed.
fn host(machine: &Machine) -> Result<Tree> {
    let tree = Tree::of(machine, &HOST)?;
    Ok(tree.only(|path| !path.contains("priv_validator_state") && !path.ends_with(".key")))
}

fn runbook(machine: &Machine, words: &[&str]) -> Result<Output> {
    machine.run(&[&["env", "SOAK=0.3", RUNBOOK], words].concat())
}

#[track_caller]
fn exits(output: Output, code: i32) -> Output {
    assert_eq!(
        output.code,
        Some(code),
        "stdout:\n{}\nstderr:\n{}",
        output.stdout,
        output.stderr
    );
    output
}

/// What moves a host at each stage of the night.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Kmsctl,
    Runbook,
}

/// The host after each stage.
struct Night {
    planned: Tree,
    staged: Tree,
    switched: Tree,
    back: Tree,
    unstaged: Tree,
}

#[test]
fn the_runbook_ends_where_kmsctl_ends() -> Result<()> {
    let lab = Lab::open()?;
    let kmsctl = night(&lab, By::Kmsctl).context("by kmsctl")?;
    let runbook = night(&lab, By::Runbook).context("by the runbook")?;
    ensure!(
        kmsctl.switched.len() > kmsctl.planned.len() && kmsctl.staged != kmsctl.switched,
        "nothing was compared"
    );
    kmsctl.planned.is_still(&runbook.planned);
    kmsctl.staged.is_still(&runbook.staged);
    kmsctl.switched.is_still(&runbook.switched);
    kmsctl.back.is_still(&runbook.back);
    kmsctl.unstaged.is_still(&runbook.unstaged);
    runbook.planned.is_still(&runbook.unstaged);
    Ok(())
}

fn night(lab: &Lab, by: By) -> Result<Night> {
    let machine = Machine::boot(lab, |root| {
        let fleet = Fleet {
            signers: 3,
            protocol: Protocol::V033,
            keys: Keys::Yubihsm,
        };
        fleet.write(lab, root)?;
        kmsctl::install(root)?;
        odd(root)
    })?;
    let hsm = MockYubihsm::start(&machine, fleet::CONNECTOR, &[1, 2, 3])?;
    let sampler = Sampler::start(&machine);
    let mut old = validators(&machine, fleet::OLD_CHAIN, Protocol::V033, &hsm)?;
    machine.sh("systemctl enable --now tmkms-01 tmkms-02 tmkms-03")?;
    sign(&mut old, HALT - 3, HALT - 1)?;
    kmsctl(&machine, &PLAN)?.exits(0);
    let planned = host(&machine)?;
    let text = fs::read_to_string(machine.file(RUNBOOK)).context("reading the runbook")?;
    ensure!(
        !text.contains("PIN=1234") && !text.contains("not 1234") && !text.contains(PASSWORD),
        "the runbook tells a password"
    );
    ensure!(
        text.contains("\n    set_link "),
        "the second name is moved as a link"
    );

    match by {
        By::Kmsctl => drop(kmsctl(&machine, &["stage", "--yes"])?.exits(0)),
        By::Runbook => {
            exits(runbook(&machine, &["check"])?, 0);
            planned.is_still(&host(&machine)?);
            let early = exits(runbook(&machine, &["switch", EVIDENCE])?, 3);
            assert!(early.stderr.contains("run `stage` first"), "{early:?}");
            planned.is_still(&host(&machine)?);
            exits(runbook(&machine, &["stage", EVIDENCE])?, 0);
        }
    }
    let staged = host(&machine)?;
    sign(&mut old, HALT, HALT)?;
    drop(old);
    match by {
        By::Kmsctl => drop(kmsctl(&machine, &["apply", "--yes", "--soak", "1"])?.exits(0)),
        By::Runbook => {
            let before = old_states(&machine)?;
            exits(runbook(&machine, &["check", EVIDENCE])?, 0);
            staged.is_still(&host(&machine)?);
            exits(runbook(&machine, &["switch", EVIDENCE])?, 0);
            before.is_still(&old_states(&machine)?);
            assert_eq!(evidence(&machine)?, [HALT; 3], "what was recorded");
            kmsctl_says(&machine, "v3", 0)?;
            for late in ["stage", "unstage"] {
                exits(runbook(&machine, &[late, EVIDENCE])?, 3);
            }
        }
    }
    let switched = host(&machine)?;
    let mut new = validators(&machine, NEW_CHAIN, Protocol::V034, &hsm)?;
    sign(&mut new, HALT + 1, HALT + 2)?;
    kmsctl(&machine, &LOOK)?.exits(0);
    drop(new);
    match by {
        By::Kmsctl => drop(kmsctl(&machine, &["rollback", "--yes", "--soak", "1"])?.exits(0)),
        By::Runbook => {
            // Nothing of the runbook is done twice.
            exits(runbook(&machine, &["switch", EVIDENCE])?, 0);
            switched.is_still(&host(&machine)?);
            exits(runbook(&machine, &["back", EVIDENCE])?, 0);
            let recorded = [HALT, HALT, HALT, HALT + 2, HALT + 2, HALT + 2];
            assert_eq!(evidence(&machine)?, recorded, "what was recorded");
            kmsctl_says(&machine, "old", 3)?;
        }
    }
    let back = host(&machine)?;
    let mut old = validators(&machine, fleet::OLD_CHAIN, Protocol::V033, &hsm)?;
    refuses(&mut old, HALT)?;
    sign(&mut old, HALT + 1, HALT + 1)?;
    match by {
        By::Kmsctl => drop(kmsctl(&machine, &["unstage", "--yes"])?.exits(0)),
        By::Runbook => drop(exits(runbook(&machine, &["unstage", EVIDENCE])?, 0)),
    }
    sampler.stop()?.one_at_a_time()?;
    Ok(Night {
        planned,
        staged,
        switched,
        back,
        unstaged: host(&machine)?,
    })
}

/// What no umask gives, a second name, a drop-in, and passwords that the runbook must not know.
fn odd(root: &Path) -> Result<()> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(at(path), fs::Permissions::from_mode(mode))
            .with_context(|| format!("giving {path} a mode"))
    };
    let config = at(&fleet::config_path(2));
    let text = fs::read_to_string(&config).context("reading a config")?;
    let file = format!("password_file = \"{}/kms/password\" }}", fleet::HOME);
    ensure!(text.contains(&file), "the config names no password file");
    let text = text.replace(&file, &format!("password = \"{PASSWORD}\" }} # not 1234"));
    fs::write(&config, text).context("writing a config")?;
    let unit = at(&fleet::unit_path(1));
    let text = fs::read_to_string(&unit).context("reading a unit")?;
    let also = "WantedBy=multi-user.target\nAlias=kms-first.service\n";
    fs::write(&unit, text.replace("WantedBy=multi-user.target\n", also))
        .context("writing a unit")?;
    let folder = "/etc/systemd/system/tmkms-03.service.d";
    fs::create_dir(at(folder)).context("making a drop-in's folder")?;
    let pin = format!("{folder}/pin.conf");
    fs::write(at(&pin), "[Service]\nEnvironment=PIN=1234 \\\n  A=b\n")
        .context("writing a drop-in")?;
    mode(&fleet::config_path(2), 0o640)?;
    mode(&fleet::unit_path(3), 0o600)?;
    mode(&pin, 0o640)
}

fn old_states(machine: &Machine) -> Result<Tree> {
    let tree = Tree::of(machine, &HOST)?;
    let tree = tree.only(|p| p.contains("priv_validator_state") && !p.contains(".v3."));
    ensure!(tree.len() == 3, "three signers have three state files");
    Ok(tree)
}

/// The heights of the copies that the runbook kept, in order.
fn evidence(machine: &Machine) -> Result<Vec<u64>> {
    let found = machine.sh(&format!(
        "shopt -s nullglob; for f in {}/*.[0-9]*; do jq -r .height \"$f\"; done | sort -n",
        EVIDENCE.replace(' ', "\\ ").replace('\'', "\\'")
    ))?;
    let height = |line: &str| line.parse().context("reading a height");
    found.lines().map(height).collect()
}

/// kmsctl's journals know nothing of a runbook, and still it says what is true.
fn kmsctl_says(machine: &Machine, runs: &str, code: i32) -> Result<()> {
    let status = kmsctl::json(machine, &["status", "--json"])?;
    assert!(status["operation"].is_null(), "{status}");
    let rows = status["signers"].as_array().context("rows of the status")?;
    for row in rows {
        let is_new = row["unit"].as_str().is_some_and(|u| u.contains(".v3."));
        let active = is_new == (runs == "v3");
        assert_eq!(row["active"], active, "{row}");
        assert_eq!(row["enabled"], active, "{row}");
        assert_eq!(
            row["fence"],
            if active { "open" } else { "closed" },
            "{row}"
        );
    }
    let look = kmsctl(machine, &LOOK)?;
    let look = look.exits(code);
    if code == 3 {
        // The new chain was signed, and no journal saw that: it is for the operator to say so.
        look.says(&["--accept state-unknown"]);
    }
    Ok(())
}

/// Signers that run since the boot, halted at one height, with the plan made.
fn softsign(lab: &Lab) -> Result<Machine> {
    let machine = Machine::boot(lab, |root| {
        let fleet = Fleet {
            signers: 3,
            protocol: Protocol::V033,
            keys: Keys::Softsign,
        };
        fleet.write(lab, root)?;
        NUMBERS.iter().try_for_each(|n| halted(root, *n))?;
        kmsctl::install(root)?;
        fleet::enable(root, &NUMBERS.map(fleet::unit_name))
    })?;
    kmsctl(&machine, &PLAN)?.exits(0);
    Ok(machine)
}

fn runs(machine: &Machine, new: bool) -> Result<()> {
    for number in NUMBERS {
        let (old, its) = (
            unit_now(machine, &fleet::unit_name(number))?,
            unit_now(machine, &new_unit(number))?,
        );
        ensure!(
            old.runs() != new && its.runs() == new && old.enabled != new && its.enabled == new,
            "signer {number}: {old:?}, {its:?}"
        );
    }
    Ok(())
}

/// Templates, links of every kind, second names: what kmsctl leaves and what its runbook leaves are the same.
#[test]
fn a_runbook_moves_every_kind_of_unit() -> Result<()> {
    let lab = Lab::open()?;
    let machine = units::every_kind(&lab)?;
    let host = || -> Result<Tree> {
        let tree = Tree::of(&machine, &units::HOST)?;
        Ok(tree.only(|path| !path.contains("priv_validator_state")))
    };
    let before = host()?;
    kmsctl(&machine, &PLAN)?.exits(0);
    kmsctl(&machine, &["stage", "--yes"])?.exits(0);
    let staged = host()?;
    kmsctl(&machine, &["apply", "--yes", "--soak", "1"])?.exits(0);
    let switched = host()?;
    kmsctl(&machine, &["rollback", "--yes", "--soak", "1"])?.exits(0);
    kmsctl(&machine, &["unstage", "--yes"])?.exits(0);
    before.is_still(&host()?);

    kmsctl(&machine, &PLAN)?.exits(0);
    let sampler = Sampler::start(&machine);
    exits(runbook(&machine, &["stage", EVIDENCE])?, 0);
    staged.is_still(&host()?);
    exits(runbook(&machine, &["switch", EVIDENCE])?, 0);
    units::sides(&machine, false)?;
    switched.is_still(&host()?);
    exits(runbook(&machine, &["back", EVIDENCE])?, 0);
    units::sides(&machine, true)?;
    staged.is_still(&host()?);
    exits(runbook(&machine, &["unstage", EVIDENCE])?, 0);
    before.is_still(&host()?);
    sampler.stop()?.one_at_a_time()
}
