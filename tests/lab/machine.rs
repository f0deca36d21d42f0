//! A throw-away Debian machine with a real systemd as its pid 1, for tests that must not trust a model.
//!
//! Each machine has its own copy-on-write root, processes, cgroups and network, so several run side by side. Its disk
//! outlives a power cut and so does its network: what listens for the signers is elsewhere and keeps its memory.
//! It must never touch a process that it didn't start, nor leave a mount, a cgroup or a folder behind, not even where the
//! test panics or is killed.

mod host;
mod prepared;
mod running;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

pub use prepared::Lab;
pub use running::{Output, Running};

/// What a boot, a power cut or a power-off may take before the test fails.
const MACHINE_LIMIT: Duration = Duration::from_secs(60);
/// What one command in a machine may take, where the test doesn't say.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Joins the cgroups named before `--` and becomes the command after it.
const IN_CGROUPS: &str = r#"while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@""#;

/// One machine; gone without a trace when dropped.
pub struct Machine {
    lab: Lab,
    name: String,
    folder: PathBuf,
    cgroups: Vec<PathBuf>,
    caretaker: Child,
    power: Option<Power>,
    leader: Arc<AtomicI32>,
    outputs: AtomicUsize,
}

/// What exists only while the machine runs. The open namespace keeps its number from being given to another machine.
struct Power {
    nspawn: Child,
    leader: Option<OwnedFd>,
    namespace: Option<File>,
}

impl Machine {
    /// Boots a new machine, after `prepare` has written what it likes into the root folder.
    pub fn boot(lab: &Lab, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<Machine> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "kmsctl-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let cgroups = host::own_cgroups(&name)?;
        let folder = tempfile::Builder::new()
            .prefix("kmsctl-lab-")
            .tempdir()
            .context("making the machine's folder")?
            .keep();
        let caretaker = host::caretaker(&lab.root(), &folder, &name, &cgroups)
            .inspect_err(|_| drop(fs::remove_dir_all(&folder)))?;
        let mut machine = Machine {
            cgroups,
            leader: Arc::new(AtomicI32::new(0)),
            outputs: AtomicUsize::new(0),
            power: None,
            lab: lab.clone(),
            name,
            folder,
            caretaker,
        };
        host::mount_overlay(&lab.root(), &machine.folder)?;
        prepare(&machine.merged()).context("preparing the machine's root")?;
        machine.boot_again()?;
        Ok(machine)
    }

    /// What the machine was made from.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The machine's pid 1 as the host counts, 0 while it is off; follows the machine over reboots.
    pub fn leader(&self) -> Arc<AtomicI32> {
        Arc::clone(&self.leader)
    }

    /// Where an absolute path of the machine is found on the host, on or off. Absolute links aren't followed inside.
    /// What the machine keeps in memory only, like /run, is there while it is on.
    pub fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref().strip_prefix("/").unwrap_or(path.as_ref());
        match self.leader.load(Ordering::SeqCst) {
            0 => self.merged().join(path),
            leader => Path::new("/proc")
                .join(leader.to_string())
                .join("root")
                .join(path),
        }
    }

    /// Runs a command as root in the machine. A failing command is an answer, one that doesn't end is an error.
    pub fn run<S: AsRef<str>>(&self, argv: &[S]) -> Result<Output> {
        self.run_for(COMMAND_LIMIT, argv)
    }

    /// Runs a command that may take as long as `limit`.
    pub fn run_for<S: AsRef<str>>(&self, limit: Duration, argv: &[S]) -> Result<Output> {
        self.enter(argv, Stdio::piped(), Stdio::piped(), None)?
            .finish(limit)
            .with_context(|| {
                let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
                format!("running {} in the machine", words.join(" "))
            })
    }

    /// Runs a shell script in the machine that must succeed; gives its standard output.
    pub fn sh(&self, script: &str) -> Result<String> {
        let output = self.run(&["bash", "-euo", "pipefail", "-c", script])?;
        ensure!(
            output.code == Some(0),
            "{script:?} ended with {:?}: {}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        Ok(output.stdout)
    }

    /// Starts a command in the machine and lets it run; what it says is kept where a power cut doesn't take it.
    pub fn spawn<S: AsRef<str>>(&self, argv: &[S]) -> Result<Running> {
        let (file, path) = self.output()?;
        let also = file.try_clone().context("sharing the output file")?;
        self.enter(argv, file.into(), also.into(), Some(path))
    }

    /// Starts a program of the host in the machine's network, with pipes to its stdin and from its stdout.
    pub fn spawn_in_network<S: AsRef<str>>(&self, argv: &[S]) -> Result<Running> {
        let (stderr, path) = self.output()?;
        let network = format!("--net=/proc/{}/ns/net", self.caretaker.id());
        let mut command = Command::new("nsenter");
        command
            .arg(network)
            .arg("--")
            .args(argv.iter().map(AsRef::as_ref));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr);
        Running::start(command, Some(path), false)
    }

    fn output(&self) -> Result<(File, PathBuf)> {
        let number = self.outputs.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("output-{number}"));
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok((file, path))
    }

    fn enter<S: AsRef<str>>(
        &self,
        argv: &[S],
        stdout: Stdio,
        stderr: Stdio,
        output: Option<PathBuf>,
    ) -> Result<Running> {
        let leader = self.leader.load(Ordering::SeqCst);
        ensure!(leader != 0, "machine {} is off", self.name);
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &leader.to_string(), "-a", "--"])
            .args(argv.iter().map(AsRef::as_ref));
        command.env_clear().env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command.env("HOME", "/root").env("LANG", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Running::start(command, output, true)
    }

    /// Kills every process of the machine at once, and waits until the last is gone. What was written stays, synced or
    /// not: the page cache isn't the machine's, so lost writes are for another test.
    pub fn power_cut(&mut self) -> Result<()> {
        let mut power = self
            .power
            .take()
            .with_context(|| format!("machine {} is off already", self.name))?;
        // The kernel kills a pid namespace with its first process, so nobody in there sees another one die.
        if let Some(leader) = &power.leader {
            let _gone_already = pidfd_send_signal(leader, Signal::KILL);
        } else {
            power.nspawn.kill().context("killing systemd-nspawn")?;
        }
        self.settle(power)
    }

    /// Shuts the machine down as `systemctl poweroff` does.
    pub fn poweroff(&mut self) -> Result<()> {
        // The command may lose its answer to the shutdown that it asked for.
        let _answer = self.run(&["systemctl", "poweroff"])?;
        let power = self
            .power
            .take()
            .with_context(|| format!("machine {} is off already", self.name))?;
        self.settle(power)
    }

    /// Waits until nothing of the machine runs any more, and clears away the cgroups, as the end of a kernel would.
    fn settle(&mut self, mut power: Power) -> Result<()> {
        let until = Instant::now() + MACHINE_LIMIT;
        while power
            .nspawn
            .try_wait()
            .context("waiting for systemd-nspawn")?
            .is_none()
        {
            if Instant::now() > until {
                power.nspawn.kill().context("killing systemd-nspawn")?;
                bail!(
                    "systemd-nspawn of {} didn't end: {}",
                    self.name,
                    self.console()
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.leader.store(0, Ordering::SeqCst);
        loop {
            let left = match &power.namespace {
                Some(namespace) => host::living_in(namespace)?,
                None => Vec::new(),
            };
            if left.is_empty()
                && self
                    .cgroups
                    .iter()
                    .all(|cgroup| host::remove_cgroup(cgroup).is_ok())
            {
                break;
            }
            ensure!(
                Instant::now() < until,
                "processes of {} are still there: {left:?}",
                self.name
            );
            thread::sleep(Duration::from_millis(2));
        }
        fs::write(self.folder.join("pids"), "").context("noting that the machine is off")
    }

    /// Boots the machine from the disk it has, and waits until systemd says `running` or `degraded`.
    pub fn boot_again(&mut self) -> Result<()> {
        ensure!(self.power.is_none(), "machine {} is on already", self.name);
        let until = Instant::now() + MACHINE_LIMIT;
        let nspawn = self.nspawn()?;
        let id = nspawn.id();
        fs::write(self.folder.join("pids"), format!("{id}\n"))
            .context("noting systemd-nspawn's pid")?;
        self.power = Some(Power {
            nspawn,
            leader: None,
            namespace: None,
        });
        let leader = loop {
            match host::leader_of(id) {
                Some(leader) => break leader,
                None => self.still_booting(until)?,
            }
        };
        fs::write(self.folder.join("pids"), format!("{leader}\n{id}\n"))
            .context("noting the leader's pid")?;
        if let Some(power) = &mut self.power {
            let pid = Pid::from_raw(leader).context("the leader has no pid")?;
            power.leader =
                Some(pidfd_open(pid, PidfdFlags::empty()).context("holding the leader")?);
            power.namespace = Some(
                File::open(format!("/proc/{leader}/ns/pid"))
                    .context("holding the pid namespace")?,
            );
        }
        self.leader.store(leader, Ordering::SeqCst);
        loop {
            if self.file("/run/systemd/private").exists() {
                let answer =
                    self.run_for(MACHINE_LIMIT, &["systemctl", "is-system-running", "--wait"])?;
                if ["running", "degraded"].contains(&answer.stdout.trim()) {
                    return Ok(());
                }
            }
            self.still_booting(until)?;
        }
    }

    fn still_booting(&mut self, until: Instant) -> Result<()> {
        let ended = match &mut self.power {
            Some(power) => power
                .nspawn
                .try_wait()
                .context("looking at systemd-nspawn")?,
            None => None,
        };
        ensure!(
            ended.is_none(),
            "{} ended while booting ({ended:?}): {}",
            self.name,
            self.console()
        );
        ensure!(
            Instant::now() < until,
            "{} didn't boot within {MACHINE_LIMIT:?}: {}",
            self.name,
            self.console()
        );
        thread::sleep(Duration::from_millis(5));
        Ok(())
    }

    fn nspawn(&self) -> Result<Child> {
        for cgroup in &self.cgroups {
            fs::create_dir(cgroup)
                .with_context(|| format!("making the cgroup {}", cgroup.display()))?;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("console.log"))
            .context("opening console.log")?;
        let mut command = Command::new("sh");
        // A cgroup of its own: with --keep-unit all machines would share one, and see each other's processes in their units.
        command
            .args(["-c", IN_CGROUPS, "sh"])
            .args(&self.cgroups)
            .arg("--");
        command.args([
            "systemd-nspawn",
            "--register=no",
            "--keep-unit",
            "--kill-signal=SIGRTMIN+3",
            "--boot",
        ]);
        command.args([
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--machine",
            &self.name,
        ]);
        command.arg(format!(
            "--network-namespace-path=/proc/{}/ns/net",
            self.caretaker.id()
        ));
        command.arg("--directory").arg(self.merged());
        // Debian 12 has nothing but cgroup2 since its release, whatever the host that the lab runs on has.
        command
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .process_group(0);
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().context("sharing console.log")?)
            .stdout(log);
        command.spawn().context("starting systemd-nspawn")
    }

    /// The end of what the machine has said on its console.
    fn console(&self) -> String {
        let said = fs::read(self.folder.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&said[said.len().saturating_sub(2000)..]).into_owned()
    }

    fn merged(&self) -> PathBuf {
        self.folder.join("merged")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.power.is_some() {
            // Where this fails the test has failed before, with a better message.
            let _already_told = self.power_cut();
        }
        let _gone_already = self.caretaker.kill();
        let _status = self.caretaker.wait();
        host::forget(&self.name, &self.merged());
        host::unmount(&self.folder);
        for cgroup in &self.cgroups {
            let _not_there = host::remove_cgroup(cgroup);
        }
        let _not_there = fs::remove_dir_all(&self.folder);
    }
}
