//! The night itself, three ways on one booted machine: the guide's commands one by one, its four kinds of command once
//! for all signers, and `kmsctl apply`. What is prepared days ahead is prepared before the clock runs, each way.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::dark;
use crate::figures::{Spread, median, milliseconds, seconds};
use crate::fleet::{self, Fleet, Keys};
use crate::machine::{Lab, Machine};
use crate::parts::Protocol;

pub const SIZES: [u8; 3] = [3, 50, 200];
/// How often a way is gone; the guide's loop once, for it takes a minute.
const RUNS: usize = 3;
const NEW_CHAIN: &str = "commercio-3";
const PROGRAM: &str = "/usr/local/bin/kmsctl";
/// No way takes longer, unless something is wrong.
const LIMIT: Duration = Duration::from_secs(300);
/// What starting signers leaves behind, such as their first try to reach a validator, isn't the next way's.
const REST: Duration = Duration::from_secs(2);
const SLOW_FSYNC: &str = "fsync,fdatasync:delay_exit=5ms";

/// One size of a fleet, all ways.
#[derive(Debug, Serialize)]
pub struct Compared {
    signers: u8,
    guide: Way,
    batched: Way,
    kmsctl: Way,
    /// The same with 5 ms added to each of kmsctl's own fsyncs.
    kmsctl_slow_fsync: Way,
    fsyncs: usize,
    kmsctl_to_batched: f64,
    guide_to_kmsctl: f64,
    /// `kmsctl status` once they have switched, in seconds.
    status_s: f64,
}

/// A way to switch, the medians of its runs.
#[derive(Debug, Serialize)]
struct Way {
    runs: usize,
    wall_s: f64,
    dark_ms: Spread,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Switches(Vec<Compared>);

pub fn measure(program: &Path, sizes: &[u8]) -> Result<Switches> {
    let compare = |&signers: &u8| {
        println!("Switching {signers} signers …");
        compare(program, signers).with_context(|| format!("switching {signers} signers"))
    };
    Ok(Switches(sizes.iter().map(compare).collect::<Result<_>>()?))
}

fn compare(program: &Path, signers: u8) -> Result<Compared> {
    let lab = Lab::open()?;
    let host = Host::boot(&lab, program, signers)?;
    let (old, new) = (host.units("service"), host.units("v3.service"));

    host.write_by_hand()?;
    let guide = host.way(1, &host.guide(), || host.back_by_hand(), None)?;
    let four = format!(
        "systemctl stop {old}; systemctl disable {old}; systemctl enable {new}; systemctl start {new}"
    );
    let batched = host.way(RUNS, &four, || host.back_by_hand(), None)?;
    host.take_away_by_hand()?;

    let apply = format!("{PROGRAM} apply --yes --no-canary --soak 0s");
    host.stage()?;
    let mut statuses = Vec::new();
    let back = || {
        for _ in 0..RUNS {
            let (time, _) = host.timed(&format!("{PROGRAM} status"), None)?;
            statuses.push(time);
        }
        host.back_and_stage()
    };
    let kmsctl = host.way(RUNS, &apply, back, None)?;
    let trace = host.folder.path().join("fsyncs");
    let kmsctl_slow_fsync = host.way(1, &apply, || Ok(()), Some(&trace))?;
    let traced = fs::read_to_string(&trace).context("reading strace's list")?;
    let fsyncs = traced.lines().filter(|l| l.contains("(DELAYED)")).count();
    ensure!(fsyncs > 0, "strace delayed no fsync: {traced}");
    Ok(Compared {
        signers,
        kmsctl_to_batched: kmsctl.wall_s / batched.wall_s,
        guide_to_kmsctl: guide.wall_s / kmsctl.wall_s,
        guide,
        batched,
        kmsctl,
        kmsctl_slow_fsync,
        fsyncs,
        status_s: median(statuses)?,
    })
}

/// The guide's host with many signers, softsign keys and real tmkms; no validator runs.
struct Host {
    machine: Machine,
    fleet: Fleet,
    /// Outside the machine.
    folder: tempfile::TempDir,
}

impl Host {
    fn boot(lab: &Lab, program: &Path, signers: u8) -> Result<Host> {
        let fleet = Fleet {
            signers,
            protocol: Protocol::V033,
            keys: Keys::Softsign,
        };
        let machine = Machine::boot(lab, |root| {
            fleet.write(lab, root)?;
            let units: Vec<String> = (1..=signers).map(fleet::unit_name).collect();
            fleet::enable(root, &units)?;
            let to = root.join(PROGRAM.trim_start_matches('/'));
            fs::copy(program, to).context("copying kmsctl into the root")?;
            Ok(())
        })?;
        let host = Host {
            machine,
            fleet,
            folder: tempfile::tempdir().context("making a folder")?,
        };
        host.all_run("service")?;
        Ok(host)
    }

    fn numbers(&self) -> impl Iterator<Item = u8> {
        1..=self.fleet.signers
    }

    /// The names of all signers' units, in the order of their numbers.
    fn names(&self, suffix: &str) -> Vec<String> {
        let named = |n| fleet::unit_name(n).replace("service", suffix);
        self.numbers().map(named).collect()
    }

    fn units(&self, suffix: &str) -> String {
        self.names(suffix).join(" ")
    }

    /// What the guide's operator types at the halt.
    fn guide(&self) -> String {
        let mut typed = String::new();
        for unit in self.names("service") {
            typed += &format!("systemctl stop {unit}\nsystemctl disable {unit}\n");
        }
        for number in self.numbers() {
            typed += &format!("cat {} | jq -r .height\n", fleet::state_path(number));
        }
        for unit in self.names("v3.service") {
            typed += &format!("systemctl enable {unit}\nsystemctl start {unit}\n");
        }
        typed
    }

    /// Goes a way some times, each time from where it began.
    fn way(
        &self,
        runs: usize,
        script: &str,
        mut back: impl FnMut() -> Result<()>,
        trace: Option<&Path>,
    ) -> Result<Way> {
        let pairs: Vec<(String, String)> = self
            .names("service")
            .into_iter()
            .zip(self.names("v3.service"))
            .collect();
        let (mut walls, mut darks) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            thread::sleep(REST);
            let (wall, said) = self.timed(script, trace)?;
            self.all_run("v3.service")
                .with_context(|| format!("after:\n{said}"))?;
            walls.push(wall);
            darks.push(Spread::of(&dark::times(&self.machine, &pairs)?)?);
            back()?;
        }
        Ok(Way {
            runs,
            wall_s: median(walls)?,
            dark_ms: Spread::median(&darks)?,
        })
    }

    /// How long a script takes in the machine, by a clock there, and what it said. With `trace`, each of its fsyncs takes
    /// 5 ms longer and is listed there: a filter in the kernel lets strace see these calls alone, so nothing else is slower.
    fn timed(&self, script: &str, trace: Option<&Path>) -> Result<(f64, String)> {
        let log = "/run/bench.log";
        let whole = format!(
            "set -euo pipefail; begun=$EPOCHREALTIME; {{ {script}\n}} >{log} 2>&1; echo $begun $EPOCHREALTIME"
        );
        let output = match trace {
            None => self.machine.run_for(LIMIT, &["bash", "-c", &whole])?,
            Some(trace) => {
                let leader = self.machine.leader().load(Ordering::SeqCst).to_string();
                let mut strace = Command::new("strace");
                strace.args(["--follow-forks", "--seccomp-bpf", "--output"]);
                strace.arg(trace).args(["--trace", "fsync,fdatasync"]);
                strace.args(["--inject", SLOW_FSYNC]);
                strace.args(["nsenter", "-t", &leader, "-a", "--", "bash", "-c", &whole]);
                let output = strace.output().context("starting strace")?;
                crate::machine::Output {
                    code: output.status.code(),
                    stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
                }
            }
        };
        let said = fs::read_to_string(self.machine.file(log)).unwrap_or_default();
        ensure!(
            output.code == Some(0),
            "it ended with {:?}:\n{said}{}",
            output.code,
            output.stderr
        );
        let times: Vec<f64> = output
            .stdout
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context("reading the times")?;
        let [begun, ended] = times[..] else {
            anyhow::bail!("no two times in {:?}", output.stdout);
        };
        Ok((ended - begun, said))
    }

    /// Each unit's main process is there, and is a tmkms.
    fn all_run(&self, suffix: &str) -> Result<()> {
        let units = self.units(suffix);
        let said = self.machine.sh(&format!(
            "systemctl show --value -p SubState,MainPID {units} | paste -sd' \\n' | sed 's/  */ /g'; \
             ps -C tmkms -o pid= | wc -l"
        ))?;
        let up = said.lines().filter(|l| l.contains("running")).count();
        let processes = said.lines().last().and_then(|l| l.trim().parse().ok());
        let signers = usize::from(self.fleet.signers);
        ensure!(
            up == signers && processes == Some(signers),
            "{up} of {signers} units run, with {processes:?} tmkms processes"
        );
        Ok(())
    }

    /// The new chain's configs and units, as the guide has them made by hand.
    fn write_by_hand(&self) -> Result<()> {
        for number in self.numbers() {
            let state = format!("state{number:02}.json");
            let config = self
                .fleet
                .config(number)
                .replace(fleet::OLD_CHAIN, NEW_CHAIN)
                .replace(&state, &state.replace(".json", ".v3.json"))
                .replace("v0.33", "v0.34");
            let unit = fleet::unit(number).replace(".toml", ".v3.toml");
            let config_path = fleet::config_path(number).replace(".toml", ".v3.toml");
            let unit_path = fleet::unit_path(number).replace(".service", ".v3.service");
            for (path, text) in [(config_path, config), (unit_path, unit)] {
                let path = self.machine.file(path);
                fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            }
        }
        self.machine.sh("systemctl daemon-reload")?;
        Ok(())
    }

    /// Back to the old chain, as if the new one had never run.
    fn back_by_hand(&self) -> Result<()> {
        let (old, new) = (self.units("service"), self.units("v3.service"));
        let home = fleet::HOME;
        self.machine.sh(&format!(
            "systemctl --quiet disable --now {new}; rm {home}/kms/commercio/*state*.v3.json; \
             systemctl --quiet enable --now {old}"
        ))?;
        self.all_run("service")
    }

    fn take_away_by_hand(&self) -> Result<()> {
        let home = fleet::HOME;
        self.machine.sh(&format!(
            "rm {home}/kms/commercio/*.v3.toml /etc/systemd/system/*.v3.service; systemctl daemon-reload"
        ))?;
        Ok(())
    }

    fn stage(&self) -> Result<()> {
        self.machine.sh(&format!(
            "{PROGRAM} plan --new-chain {NEW_CHAIN} >/dev/null; {PROGRAM} stage --yes"
        ))?;
        Ok(())
    }

    /// Back to the old chain and staged again, as if there had been no switch.
    fn back_and_stage(&self) -> Result<()> {
        let home = fleet::HOME;
        self.machine.sh(&format!(
            "{PROGRAM} rollback --yes --soak 0s; {PROGRAM} unstage --yes; \
             rm -r /var/lib/kmsctl {home}/kms/commercio/*state*.v3.json"
        ))?;
        self.all_run("service")?;
        self.stage()
    }
}

impl fmt::Display for Switches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| signers | way | wall | dark p50 | p99 | max |\n|---|---|---|---|---|---|"
        )?;
        for it in &self.0 {
            let slow = format!("`kmsctl apply`, 5 ms more for each of {} fsyncs", it.fsyncs);
            for (name, way) in [
                ("the guide, one systemctl at a time", &it.guide),
                ("four batched systemctl calls", &it.batched),
                ("`kmsctl apply --no-canary --soak 0s`", &it.kmsctl),
                (&slow, &it.kmsctl_slow_fsync),
            ] {
                let Spread { p50, p99, max } = way.dark_ms;
                writeln!(
                    f,
                    "| {} | {name} | {} | {} | {} | {} |",
                    it.signers,
                    seconds(way.wall_s),
                    milliseconds(p50),
                    milliseconds(p99),
                    milliseconds(max)
                )?;
            }
        }
        writeln!(
            f,
            "\n| signers | kmsctl to batched | the guide to kmsctl | `status` |\n|---|---|---|---|"
        )?;
        for it in &self.0 {
            writeln!(
                f,
                "| {} | {:.2} | {:.1} | {} |",
                it.signers,
                it.kmsctl_to_batched,
                it.guide_to_kmsctl,
                seconds(it.status_s)
            )?;
        }
        Ok(())
    }
}
