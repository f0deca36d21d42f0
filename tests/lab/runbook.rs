//! The runbook against kmsctl itself: two hosts of one kind, one moved by kmsctl and one by its runbook, end alike at every
//! stage of the night; and a runbook killed between two steps is run again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::XattrFlags;
use tmkms_core::state::SignState;

use crate::fence::halted;
use crate::fleet::{self, Fleet, Keys};
use crate::kmsctl::{self, NEW_CHAIN, kmsctl, new_unit, unit_now};
use crate::machine::{Lab, Machine, Output};
use crate::night::{refuses, sign, validators};
use crate::parts::{MockYubihsm, Protocol};
use crate::sampler::Sampler;
use crate::tree::Tree;
use crate::units;

const NUMBERS: [u8; 3] = [1, 2, 3];
const HALT: u64 = 2_233_550;
const RUNBOOK: &str = "/root/runbook.sh";
const EVIDENCE: &str = "/root/night's evidence";
/// Sourced by the runbook's bash before the runbook itself.
const CUT: &str = "/root/cut";
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
        !text.contains("PIN=1234") && !text.contains("not 1234") && !text.contains("\"password\""),
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
    let mut new = validators(&machine, NEW_CHAIN, Protocol::V034, &hsm)?;
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
    sign(&mut new, HALT + 1, HALT + 2)?;
    kmsctl(&machine, &LOOK)?.exits(0);
    drop(new);
    let mut old = validators(&machine, fleet::OLD_CHAIN, Protocol::V033, &hsm)?;
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
    let text = text.replace(&file, "password = \"password\" } # not 1234");
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

/// They are no part of a tree.
#[test]
fn a_runbook_keeps_attributes() -> Result<()> {
    let lab = Lab::open()?;
    let machine = softsign(&lab)?;
    let config = fleet::config_path(2);
    let kept = |path: &str| {
        let mut value = Vec::with_capacity(16);
        let read = rustix::fs::getxattr(
            machine.file(path),
            "user.kept",
            rustix::buffer::spare_capacity(&mut value),
        );
        read.map(|_| value)
            .with_context(|| format!("asking {path}"))
    };
    rustix::fs::setxattr(
        machine.file(&config),
        "user.kept",
        b"yes",
        XattrFlags::empty(),
    )
    .context("giving a config an attribute")?;
    exits(runbook(&machine, &["stage", EVIDENCE])?, 0);
    assert_eq!(kept(&config.replace(".toml", ".v3.toml"))?, b"yes");
    Ok(())
}

/// What jq takes and tmkms refuses, what tmkms takes and jq mistakes, and what both read.
const STATES: [&str; 25] = [
    r#"{"height":"200","round":"1","step":2,"block_id":{"hash":"","parts":{"total":0,"hash":""}}}"#,
    r#"{"height":"200","round":"1","step":2,"block_id":{"hash":"","part_set_header":{"total":0,"hash":""}}}"#,
    r#"{"height":"9007199254740993","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"999999999999999999","round":"2147483647","step":127,"block_id":null}"#,
    r#"{ "step":0, "other":[{},{}], "block_id":null, "round":"0", "height":"0" }"#,
    "",
    " ",
    "\0\0\0",
    "\u{feff}{\"height\":\"5\",\"round\":\"0\",\"step\":1,\"block_id\":null}",
    "{}",
    "[]",
    r#"["5","0",1,null]"#,
    r#"{"height":"5","round":"0","step":1}"#,
    r#"{"height":5,"round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":-1,"block_id":null}"#,
    r#"{"height":"-5","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"2147483648","step":1,"block_id":null}"#,
    r#"{"height":"5","height":"6","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":{"hash":""},"height":"5","block_id":null}"#,
    r#"{"height":"5\n6","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":null}{"height":"6","round":"0","step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":null} {}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":null,"other":1,"other":2}"#,
    r#"{"height":"5","round":"0","block_id":{"hash":""},"step":1,"block_id":null}"#,
    r#"{"height":"5","round":"0","step":1,"block_id":{"hash":"AB"#,
];

#[test]
fn a_runbook_reads_state_files_as_kmsctl_does() -> Result<()> {
    let lab = Lab::open()?;
    let machine = softsign(&lab)?;
    let script = fs::read_to_string(machine.file(RUNBOOK)).context("reading the runbook")?;
    let words = script
        .strip_suffix("main \"$@\"\n")
        .context("the runbook's end")?;
    let reading = format!("{words}read_state /root/state\nprintf '%s' \"$state\"\n");
    fs::write(machine.file("/root/reading"), reading).context("writing a script")?;
    let mut read = 0;
    for bytes in STATES {
        fs::write(machine.file("/root/state"), bytes).context("writing a state file")?;
        let said = machine.run(&["bash", "/root/reading"])?;
        match SignState::parse(bytes.as_bytes()) {
            Ok(state) => {
                let wanted = format!("{} {} {}", state.height, state.round, state.step);
                assert_eq!(exits(said, 0).stdout, wanted, "{bytes:?}");
                read += 1;
            }
            Err(error) => {
                let said = exits(said, 3);
                assert!(
                    said.stderr.contains("REFUSED: /root/state"),
                    "{bytes:?}: {error}: {said:?}"
                );
            }
        }
    }
    ensure!(read == 5, "{read} of the texts are state files");
    Ok(())
}

/// The host's shellcheck, which `tests/lab/prepare` installs.
#[test]
fn a_runbook_is_sound_bash() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/commercio/expected/runbook.sh");
    let checked = Command::new("shellcheck").arg(&path).output();
    let checked = checked.context("starting shellcheck: start this test with tests/run")?;
    let said = String::from_utf8_lossy(&checked.stdout);
    ensure!(checked.status.success(), "{said}");
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

#[test]
fn a_runbook_killed_before_any_step_is_run_again() -> Result<()> {
    let lab = Lab::open()?;
    let machine = softsign(&lab)?;
    let sampler = Sampler::start(&machine);
    let planned = host(&machine)?;
    // In the middle of a file, and between files.
    for at in [
        "run mkdir *fence",
        "run mv *tmkms.02.v3.toml",
        "step tmkms-03/stage/file-3 *",
        "step stage/reload *",
    ] {
        killed(&machine, "stage", at)?;
    }
    exits(runbook(&machine, &["stage", EVIDENCE])?, 0);
    let staged = host(&machine)?;
    exits(runbook(&machine, &["unstage", EVIDENCE])?, 0);
    planned.is_still(&host(&machine)?);
    exits(runbook(&machine, &["stage", EVIDENCE])?, 0);
    staged.is_still(&host(&machine)?);
    for (verb, leave, take) in [("switch", "old", "new"), ("back", "new", "old")] {
        let unit = if take == "new" {
            "tmkms-02.service"
        } else {
            "tmkms-02.v3.service"
        };
        let mut points = vec![
            format!("step {verb}/enable *"),
            format!("run mv *{unit}.closed"),
        ];
        let own =
            ["fenced", "stop", "prove", "record"].map(|s| format!("step tmkms-02/{s}-{leave} *"));
        let then =
            ["heights", "open", "start", "watch"].map(|s| format!("step tmkms-02/{s}-{take} *"));
        points.extend(own.into_iter().chain(then));
        points.extend(["disable", "reload"].map(|s| format!("step {verb}/{s} *")));
        // Each run goes on where the one before was killed.
        for at in points {
            killed(&machine, verb, &at)?;
            one_unit_may_start(&machine).with_context(|| at)?;
        }
        exits(runbook(&machine, &[verb, EVIDENCE])?, 0);
        runs(&machine, take == "new")?;
        if verb == "switch" {
            ensure!(host(&machine)? != staged, "the switch changes the host");
        }
    }
    staged.is_still(&host(&machine)?);
    // Either takes over from the other in the middle.
    for at in [
        "step tmkms-02/stop-old *",
        "step tmkms-02/open-new *",
        "step tmkms-02/start-new *",
    ] {
        killed(&machine, "switch", at)?;
        exits(runbook(&machine, &["back", EVIDENCE])?, 0);
        runs(&machine, false).context(at)?;
        staged.is_still(&host(&machine)?);
    }
    sampler.stop()?.one_at_a_time()
}

/// Runs the runbook until it is about to do a command, and kills it there.
fn killed(machine: &Machine, verb: &str, at: &str) -> Result<()> {
    let (word, rest) = at.split_once(' ').context("a command has words")?;
    let rest = rest.replace(' ', "\\ ");
    // A debug trap sees the command as it is written, and the steps' words by their function.
    let script = format!(
        "set -T\ntrap '[[ $BASH_COMMAND == \"{word} \"* && \"$BASH_COMMAND $*\" == *{rest}* ]] && kill -KILL $$' DEBUG\n"
    );
    fs::write(machine.file(CUT), script).context("writing what kills")?;
    let env = format!("BASH_ENV={CUT}");
    let output = machine.run(&["env", "SOAK=0.3", &env, "bash", RUNBOOK, verb, EVIDENCE])?;
    ensure!(
        output.code.is_none_or(|code| code == 137)
            && !output.stdout.contains(&format!("{verb}: done")),
        "it wasn't killed at {at}: {output:?}"
    );
    Ok(())
}

fn one_unit_may_start(machine: &Machine) -> Result<()> {
    for number in NUMBERS {
        let closed = |unit: &str| {
            fs::exists(machine.file(format!("/etc/kmsctl/fence/{unit}.closed")))
                .context("looking at a marker")
        };
        ensure!(
            closed(&fleet::unit_name(number))? || closed(&new_unit(number))?,
            "nothing keeps the units of {number} apart"
        );
    }
    Ok(())
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

/// What forbids kmsctl to go on forbids it to the runbook, with every signer as it should be meanwhile.
#[test]
fn a_runbook_refuses_what_kmsctl_refuses() -> Result<()> {
    let lab = Lab::open()?;
    let machine = softsign(&lab)?;
    let sampler = Sampler::start(&machine);
    let refused = |words: &[&str], why: &str| -> Result<()> {
        let said = exits(runbook(&machine, words)?, 3);
        ensure!(said.stderr.contains(why), "{why:?} isn't said: {said:?}");
        Ok(())
    };
    let put = |path: &str, from: &str, to: &str| -> Result<()> {
        let path = machine.file(path);
        let text = fs::read_to_string(&path).context("reading a file")?;
        ensure!(text.contains(from), "{text} has no {from}");
        fs::write(&path, text.replace(from, to)).context("changing a file")
    };

    let lock = ["flock", "/var/lib/kmsctl/lock", RUNBOOK, "stage", EVIDENCE];
    let held = exits(machine.run(&lock)?, 3);
    ensure!(held.stderr.contains("is at work on this host"), "{held:?}");
    refused(&["back", EVIDENCE], "isn't there")?;
    let config = fleet::config_path(3);
    put(&config, "reconnect = true", "reconnect = false")?;
    refused(
        &["stage", EVIDENCE],
        "no longer what the plan was made from",
    )?;
    put(&config, "reconnect = false", "reconnect = true")?;
    exits(runbook(&machine, &["stage", EVIDENCE])?, 0);

    let staged = config.replace(".toml", ".v3.toml");
    put(&staged, "reconnect = true", "reconnect = false")?;
    refused(&["switch", EVIDENCE], "isn't what the plan writes")?;
    put(&staged, "reconnect = false", "reconnect = true")?;
    let state = fleet::state_path(2);
    put(&state, "2233550", "2233540")?;
    refused(&["switch", EVIDENCE], "tmkms-02.service")?;
    put(&state, "2233540", "2233550")?;
    runs(&machine, false)?;

    // A signer that no unit of the plan runs, on a config that one of them runs.
    let tmkms = format!("{}/.cargo/bin/tmkms start -c {config}", fleet::HOME);
    machine.sh(&format!("systemd-run --quiet --unit=another {tmkms}"))?;
    refused(
        &["switch", EVIDENCE],
        "isn't the main process of a known unit",
    )?;
    let first = [fleet::unit_name(1), new_unit(1)].map(|unit| unit_now(&machine, &unit));
    for unit in first {
        ensure!(
            !unit?.runs(),
            "the first signer is dark until the other is gone"
        );
    }
    machine.sh("systemctl stop another")?;
    exits(runbook(&machine, &["switch", EVIDENCE])?, 0);
    runs(&machine, true)?;

    put(&state, "2233550", "2233540")?;
    refused(&["back", EVIDENCE], "starting on it could sign twice")?;
    put(&state, "2233540", "2233550")?;
    refused(&["stage", EVIDENCE], "has begun")?;
    exits(runbook(&machine, &["back", EVIDENCE])?, 0);
    runs(&machine, false)?;
    // The stray and the third signer's own unit were the test's two of one key.
    let most = sampler.stop()?.most_at_once;
    ensure!(most["01"] == 1 && most["02"] == 1, "{most:?}");
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
