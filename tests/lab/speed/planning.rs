//! Large fleets in a folder (`--root`): what planning costs beside a shell loop, and what looking at one costs.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::figures::{median, seconds};
use crate::fleet::{self, Fleet, Keys};
use crate::parts::Protocol;

const SMALL: u32 = 1_000;
const LARGE: u32 = 10_000;
const RUNS: usize = 5;
const STARTS: usize = 50;
/// Where a shell loop puts what it makes, beside the tree.
const MADE: &str = "made";

/// What `plan` renders, by the tools at hand: the guide's two files a signer and the fence's three, and its height.
const LOOP: &str = r#"
set -euo pipefail
cd "$1"
kms=data_tmkms/tmkms/kms/commercio units=etc/systemd/system
mkdir -p "made/$units" "made/$kms" made/etc/kmsctl/fence
for config in "$kms"/tmkms.*.toml; do
    n=${config#*tmkms.} n=${n%.toml}
    sed -e 's/commercio-2_2/commercio-3/g' -e "s/state$n.json/state$n.v3.json/" -e 's/v0\.33/v0.34/' \
        "$config" >"made/$kms/tmkms.$n.v3.toml"
    sed "s/tmkms\.$n\.toml/tmkms.$n.v3.toml/" "$units/tmkms-$n.service" >"made/$units/tmkms-$n.v3.service"
    for unit in "tmkms-$n" "tmkms-$n.v3"; do
        mkdir "made/$units/$unit.service.d"
        printf '[Unit]\nAssertPathExists=!/etc/kmsctl/fence/%s.service.closed\n\n[Service]\nType=exec\n' "$unit" \
            >"made/$units/$unit.service.d/zz-kmsctl.conf"
    done
    printf 'tmkms-%s.v3.service\n' "$n" >"made/etc/kmsctl/fence/tmkms-$n.v3.service.closed"
    jq -r .height "$kms/commercio_priv_validator_state$n.json"
done
"#;

#[derive(Debug, Serialize)]
pub struct Planning {
    plans: Vec<Planned>,
    /// The shell loop, over the smaller fleet.
    loop_signers: u32,
    loop_s: f64,
    loop_to_plan: f64,
    /// How much longer the larger fleet takes, a signer.
    growth: f64,
    status_200_s: f64,
    first_output_s: f64,
    first_help_s: f64,
}

#[derive(Debug, Serialize)]
struct Planned {
    signers: u32,
    wall_s: f64,
    peak_mb: f64,
}

pub fn measure(program: &Path) -> Result<Planning> {
    println!("Planning …");
    let small = Tree::write(SMALL)?;
    let plans = vec![small.plan(program)?, Tree::write(LARGE)?.plan(program)?];
    let loop_s = small.by_loop()?;
    let a_signer = |p: &Planned| p.wall_s / f64::from(p.signers);
    let mut status = Vec::new();
    let fleet = Tree::write(200)?;
    for _ in 0..RUNS {
        status.push(run(&mut fleet.kmsctl(program, &["status"]))?.0);
    }
    let first = |word: &str| {
        let times = (0..STARTS).map(|_| first_output(program, word));
        median(times.collect::<Result<Vec<_>>>()?)
    };
    Ok(Planning {
        loop_signers: SMALL,
        loop_to_plan: loop_s / plans[0].wall_s,
        loop_s,
        growth: a_signer(&plans[1]) / a_signer(&plans[0]),
        plans,
        status_200_s: median(status)?,
        first_output_s: first("--version")?,
        first_help_s: first("--help")?,
    })
}

/// The guide's host with any number of signers, as a folder.
struct Tree {
    folder: tempfile::TempDir,
    signers: u32,
}

impl Tree {
    fn write(signers: u32) -> Result<Tree> {
        let folder = tempfile::tempdir().context("making a folder")?;
        let guide = Fleet {
            signers: 1,
            protocol: Protocol::V033,
            keys: Keys::Yubihsm,
        };
        let tree = Tree { folder, signers };
        let wants = tree.path("/etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).context("making the unit folder")?;
        fs::create_dir_all(tree.path(&fleet::config_path(1)).with_file_name(""))
            .context("making the configs' folder")?;
        for number in 1..=signers {
            let numbered = |text: &str| text.replace("01.", &format!("{number:05}."));
            let [_, a, b, c] = number.to_be_bytes();
            let config = numbered(&guide.config(1))
                .replace(&fleet::listen(1), &format!("10.{a}.{b}.{c}:26658"))
                .replace("key = 1 }]", &format!("key = {number} }}]"));
            let state = r#"{"height":"2233550","round":"0","step":2,"block_id":null}"#;
            for (path, text) in [
                (fleet::config_path(1), config.as_str()),
                (fleet::unit_path(1), &numbered(&fleet::unit(1))),
                (fleet::state_path(1), state),
            ] {
                let path = tree.path(&numbered(&path));
                fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            }
            let unit = numbered(&fleet::unit_name(1));
            symlink(format!("/etc/systemd/system/{unit}"), wants.join(&unit))
                .with_context(|| format!("enabling {unit}"))?;
        }
        Ok(tree)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    fn kmsctl(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--root").arg(self.folder.path()).args(words);
        command
    }

    fn plan(&self, program: &Path) -> Result<Planned> {
        let (mut walls, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let mut plan = self.kmsctl(program, &["plan", "--new-chain", "commercio-3"]);
            let (wall, peak) = run(&mut plan)?;
            walls.push(wall);
            peaks.push(peak);
        }
        let saved = fs::read_to_string(self.path("/var/lib/kmsctl/plan.json"))?;
        let moves = saved.matches("\"new_config\"").count();
        ensure!(
            moves == usize::try_from(self.signers)?,
            "the plan moves {moves} of {} signers",
            self.signers
        );
        Ok(Planned {
            signers: self.signers,
            wall_s: median(walls)?,
            peak_mb: median(peaks)?,
        })
    }

    fn by_loop(&self) -> Result<f64> {
        let mut shell = Command::new("bash");
        shell.args(["-c", LOOP, "loop"]).arg(self.folder.path());
        let (wall, _) = run(&mut shell)?;
        let made = self.path(&format!("/{MADE}/etc/kmsctl/fence"));
        let made = fs::read_dir(made).context("looking at what the loop made")?;
        ensure!(
            made.count() == usize::try_from(self.signers)?,
            "the loop didn't make all files"
        );
        Ok(wall)
    }
}

/// How long a command takes, and the most memory in MB that it ever held. The kernel keeps the peak, and it is read every
/// two milliseconds until the end, so that only what was added in the last two could be missed.
fn run(command: &mut Command) -> Result<(f64, f64)> {
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting what is measured")?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    loop {
        let ended = child.try_wait().context("waiting for what is measured")?;
        if let Some(ended) = ended {
            let wall = begun.elapsed().as_secs_f64();
            let mut said = String::new();
            if let Some(stderr) = &mut child.stderr {
                stderr.read_to_string(&mut said).context("reading stderr")?;
            }
            ensure!(ended.success(), "{command:?} ended with {ended}: {said}");
            return Ok((wall, peak));
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
        peak = peak.max(kilobytes.unwrap_or_default() / 1024.0);
        thread::sleep(Duration::from_millis(2));
    }
}

/// How long it takes until the first byte comes.
fn first_output(program: &Path, word: &str) -> Result<f64> {
    let begun = Instant::now();
    let mut child = Command::new(program)
        .arg(word)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting kmsctl")?;
    let mut stdout = child.stdout.take().context("it has no output")?;
    stdout.read_exact(&mut [0]).context("reading its output")?;
    let time = begun.elapsed().as_secs_f64();
    drop(stdout);
    child.wait().context("waiting for kmsctl")?;
    Ok(time)
}

impl fmt::Display for Planning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | wall | peak memory |\n|---|---|---|")?;
        for it in &self.plans {
            let (wall, peak) = (seconds(it.wall_s), it.peak_mb);
            writeln!(
                f,
                "| `plan` of {} signers under `--root` | {wall} | {peak:.0} MB |",
                it.signers
            )?;
        }
        let (wall, times) = (seconds(self.loop_s), self.loop_to_plan);
        writeln!(
            f,
            "| a shell loop of sed and jq over {} signers: {times:.0} times as long | {wall} | |",
            self.loop_signers
        )?;
        for (what, time) in [
            ("`status` of 200 signers under `--root`", self.status_200_s),
            ("start to first output, `--version`", self.first_output_s),
            ("start to first output, `--help`", self.first_help_s),
        ] {
            writeln!(f, "| {what} | {} | |", seconds(time))?;
        }
        writeln!(
            f,
            "\nA signer of the larger fleet takes {:.2} times as long as one of the smaller.",
            self.growth
        )
    }
}
