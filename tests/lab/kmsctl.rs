//! The program under test in a machine, and what systemd itself says of the signers that it moves.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::fleet;
use crate::machine::{Machine, Output, Running};

/// The chain that the guide goes to.
pub const NEW_CHAIN: &str = "commercio-3";
pub const PROGRAM: &str = "/usr/local/bin/kmsctl";
/// What kmsctl may take to come to a step.
const SOON: Duration = Duration::from_secs(30);
/// What it may take to come to its end.
const END: Duration = Duration::from_secs(60);
/// While it isn't there, what is held stays.
const GO_ON: &str = "/run/go-on";

/// Puts kmsctl into a root.
pub fn install(root: &Path) -> Result<()> {
    let to = root.join(PROGRAM.trim_start_matches('/'));
    fs::copy(env!("CARGO_BIN_EXE_kmsctl"), to).context("copying kmsctl into the root")?;
    Ok(())
}

/// Runs kmsctl as root, without a terminal.
pub fn kmsctl(machine: &Machine, words: &[&str]) -> Result<Said> {
    let argv: Vec<&str> = [PROGRAM].iter().chain(words).copied().collect();
    let output = machine.run(&argv)?;
    let words = words.join(" ");
    no_key_in(machine, &words, &output)?;
    Ok(Said { words, output })
}

/// Where keys and passwords of machines are, as fixtures or made by `init`.
const SECRETS: &str = r#"
    set +e; cd /; here="data_tmkms srv root home var/lib/tmkms"
    find $here -xdev -type f -size -8k -exec grep -hoE '^[A-Za-z0-9+/]{43}=$' {} + 2>/dev/null
    find $here -xdev -type f -name '*.json' -exec jq -r '.priv_key.value? // empty' {} + 2>/dev/null
    find $here -xdev -type f -name password -exec sed -e '$a\' {} + 2>/dev/null
    true"#;

/// Rule S11: no key and no password is said or kept.
fn no_key_in(machine: &Machine, words: &str, output: &Output) -> Result<()> {
    let secrets = machine.sh(SECRETS)?;
    for secret in secrets.lines().filter(|line| line.len() >= 12) {
        let said = output.stdout.contains(secret) || output.stderr.contains(secret);
        ensure!(!said, "kmsctl {words} says a key or a password");
        let kept = machine.run(&["grep", "-rqF", "--", secret, "/var/lib/kmsctl"])?;
        ensure!(
            kept.code != Some(0),
            "kmsctl {words} keeps a key or a password"
        );
    }
    Ok(())
}

/// The scan bites: a run that said this would fail.
pub fn is_scanned_for(machine: &Machine, secret: &str) -> Result<()> {
    let told = Output {
        code: Some(0),
        stdout: format!("before {secret} after"),
        stderr: String::new(),
    };
    let caught = no_key_in(machine, "of this test", &told).is_err();
    ensure!(caught, "a secret of the machine isn't looked for");
    Ok(())
}

/// One JSON document of kmsctl's.
pub fn json(machine: &Machine, words: &[&str]) -> Result<Value> {
    let said = kmsctl(machine, words)?.exits(0);
    serde_json::from_str(&said.output.stdout).with_context(|| format!("reading {said:?}"))
}

/// What a run of kmsctl said.
#[derive(Debug)]
pub struct Said {
    pub words: String,
    pub output: Output,
}

impl Said {
    #[track_caller]
    pub fn exits(self, code: i32) -> Said {
        let Said { words, output } = &self;
        assert_eq!(
            output.code,
            Some(code),
            "kmsctl {words}\nstdout:\n{}\nstderr:\n{}",
            output.stdout,
            output.stderr
        );
        self
    }

    #[track_caller]
    pub fn says(self, words: &[&str]) -> Said {
        let all = format!("{}{}", self.output.stdout, self.output.stderr);
        for word in words {
            assert!(
                all.contains(word),
                "{word:?} isn't said by kmsctl {} in:\n{all}",
                self.words
            );
        }
        self
    }
}

/// Starts a verb and returns when it stands right before a step's effect; it stays there until [`go_on`].
pub fn held_before(machine: &Machine, step: &str, words: &[&str]) -> Result<Running> {
    let hold = format!("KMSCTL_HOLD_BEFORE={step}");
    let until = format!("KMSCTL_HOLD_UNTIL={GO_ON}");
    let mut argv = vec!["env", &hold, &until, PROGRAM];
    argv.extend(words);
    argv.extend(["--yes", "--json"]);
    let mut running = machine.spawn(&argv)?;
    comes_to(&mut running, step)?;
    Ok(running)
}

/// Lets a verb that is held go on to its end.
pub fn go_on(machine: &Machine, mut held: Running) -> Result<Said> {
    let flag = machine.file(GO_ON);
    fs::write(&flag, "").context("letting kmsctl go on")?;
    let status = held.wait(END)?.context("it doesn't end")?;
    fs::remove_file(&flag).context("holding the next one again")?;
    Ok(Said {
        words: "that was held".to_owned(),
        output: Output {
            code: status.code(),
            stdout: held.said(),
            stderr: String::new(),
        },
    })
}

/// Waits until a run with `--json` says that it is about to do a step.
pub fn comes_to(running: &mut Running, step: &str) -> Result<()> {
    let until = Instant::now() + SOON;
    loop {
        let said = running.said();
        let doing = said.lines().any(|line| {
            serde_json::from_str::<Value>(line)
                .is_ok_and(|event| event["event"] == "doing" && event["step"] == step)
        });
        if doing {
            return Ok(());
        }
        if let Some(status) = running.wait(Duration::from_millis(5))? {
            bail!("{step} was never come to, {status}:\n{said}");
        }
        ensure!(Instant::now() < until, "{step} isn't come to:\n{said}");
    }
}

/// The unit of signer N on the new chain.
pub fn new_unit(number: u8) -> String {
    fleet::unit_name(number).replace(".service", ".v3.service")
}

/// What systemd says of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitNow {
    pub active: String,
    /// The run: it changes with every start.
    pub invocation: String,
    pub main_pid: u32,
    pub enabled: bool,
}

impl UnitNow {
    pub fn runs(&self) -> bool {
        self.active == "active" && self.main_pid != 0
    }
}

/// Asks systemd about one unit.
pub fn unit_now(machine: &Machine, unit: &str) -> Result<UnitNow> {
    // `show` remembers from its last reload whether a unit is enabled; `is-enabled` looks at the links.
    let said = machine.sh(&format!(
        "systemctl show -p ActiveState,InvocationID,MainPID {unit}; echo Enabled=$(systemctl is-enabled {unit} 2>&1)"
    ))?;
    let value = |name: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .with_context(|| format!("systemd says no {name} of {unit}: {said}"))
    };
    Ok(UnitNow {
        active: value("ActiveState")?.to_owned(),
        invocation: value("InvocationID")?.to_owned(),
        main_pid: value("MainPID")?.parse().context("reading a pid")?,
        enabled: value("Enabled")? == "enabled",
    })
}

/// Waits for something that systemd does in its own time.
pub fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + SOON;
    while !holds()? {
        ensure!(Instant::now() < until, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
