//! The live host: the machine that kmsctl runs on.

mod alive;

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use alive::Alive;
use anyhow::{Context, Result};
use tmkms_core::protocol::TmkmsVersion;

use super::files::Tree;
use super::memory::{Memory, OnDisk};
use super::sockets::Tables;
use super::systemd::Systemd;
use super::{Clock, Executable, Host, Left, Processes};
use super::{asked, logs};
use crate::accounts::Accounts;
use crate::inventory::{Connection, SignerProcess};
use crate::kms::tmkms;
use crate::unit::UnitName;

/// Opens the machine itself.
///
/// # Errors
/// No systemd on the system bus.
pub fn open() -> Result<Host> {
    let files = Tree::open(Path::new("/")).context("opening /")?;
    Ok(Host {
        name: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        files: Rc::new(files),
        services: Box::new(Systemd::connect(
            Tree::open(Path::new("/")).context("opening /")?,
        )?),
        processes: Box::new(Proc::default()),
        hsm: Box::new(super::hsm::Live),
        nodes: Box::new(super::nodes::Live),
        modelled: false,
        memory: Memory::new(Box::new(OnDisk::below(Path::new("/")))),
        clock: Box::new(WallClock(Instant::now())),
    })
}

/// What a tmkms may take to say its version, and how much of it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
const LONGEST_VERSION: u64 = 4096;

/// The machine's clock.
struct WallClock(Instant);

impl Clock for WallClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) -> Result<()> {
        std::thread::sleep(time);
        Ok(())
    }

    fn synchronised(&self) -> Option<bool> {
        asked::synchronised()
    }
}

/// `/proc`, and programs asked for their version.
#[derive(Default)]
struct Proc {
    alive: Alive,
}

impl Proc {
    fn signer(&mut self, pid: u32, folder: &Path) -> Result<Option<SignerProcess>> {
        if let Some(process) = self.alive.process(pid) {
            return Ok(Some(process.clone()));
        }
        let Some((process, _)) = signer_process(pid, folder)? else {
            return Ok(None);
        };
        self.alive.hold(pid, || signer_process(pid, folder))?;
        Ok(Some(process))
    }

    fn is_in(&self, pid: u32, folder: &Path, unit: &UnitName, control_group: &str) -> Result<bool> {
        let read;
        let groups = match self.alive.groups(pid) {
            Some(groups) => groups,
            None => {
                read = gone(std::fs::read_to_string(folder.join("cgroup")))
                    .with_context(|| format!("reading the control group of process {pid}"))?
                    .unwrap_or_default();
                &read
            }
        };
        let component = format!("/{unit}");
        let mut paths = groups.lines().filter_map(|l| l.splitn(3, ':').nth(2));
        Ok(paths.any(|path| {
            (!control_group.is_empty() && below(path, control_group))
                || path.ends_with(&component)
                || path.contains(&format!("{component}/"))
        }))
    }
}

impl Processes for Proc {
    fn signers(&mut self) -> Result<Vec<SignerProcess>> {
        let mut found = Vec::new();
        self.alive.look()?;
        for (pid, folder) in running()? {
            found.extend(self.signer(pid, &folder)?);
        }
        found.sort_by_key(|p| p.pid);
        Ok(found)
    }

    fn in_unit(&mut self, unit: &UnitName, control_group: &str) -> Result<Vec<u32>> {
        self.alive.look()?;
        let mut pids = Vec::new();
        for (pid, folder) in running()? {
            if self.is_in(pid, &folder, unit, control_group)? {
                pids.push(pid);
            }
        }
        Ok(pids)
    }

    fn left(&mut self, unit: &UnitName, control_group: &str) -> Result<Left> {
        self.alive.look()?;
        let (mut in_unit, mut signers) = (Vec::new(), Vec::new());
        for (pid, folder) in running()? {
            if self.is_in(pid, &folder, unit, control_group)? {
                in_unit.push(pid);
            }
            signers.extend(self.signer(pid, &folder)?);
        }
        signers.sort_by_key(|p| p.pid);
        Ok(Left { in_unit, signers })
    }

    fn connections(&mut self, pid: u32) -> Result<Vec<Connection>> {
        connections(&mut Tables::default(), pid)
    }

    fn connections_of(&mut self, pids: &[u32]) -> Vec<Result<Vec<Connection>>> {
        let mut tables = Tables::default();
        let found = pids.iter().map(|pid| connections(&mut tables, *pid));
        found.collect()
    }

    fn last_lines(
        &mut self,
        unit: &UnitName,
        since: jiff::Timestamp,
        lines: usize,
    ) -> Result<Vec<String>> {
        logs::last(unit, since, lines)
    }

    fn tmkms_version(&mut self, program: &Path, user: &str) -> Result<Option<TmkmsVersion>> {
        let Some((uid, gid)) = user_ids(user)? else {
            return Ok(None);
        };
        let mut command = Command::new(program);
        command.arg("version").env_clear().current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(uid).gid(gid);
        }
        // 0.11.0 has no such command; whatever doesn't answer at once has no answer.
        let said = asked::output(&mut command, ANSWERS_WITHIN, LONGEST_VERSION);
        let said = said.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(said.and_then(|text| text.trim().parse().ok()))
    }

    fn is_program(&self, path: &Path) -> Option<bool> {
        let executable = |meta: std::fs::Metadata| meta.is_file() && meta.mode() & 0o111 != 0;
        Some(std::fs::metadata(path).is_ok_and(executable))
    }

    fn runs(&mut self, pid: u32, program: &Path) -> Result<Option<Executable>> {
        let exe = PathBuf::from(format!("/proc/{pid}/exe"));
        let Some(running) = gone(std::fs::metadata(&exe)).context("looking at the process")? else {
            return Ok(None);
        };
        let there = match std::fs::metadata(program) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Some(Executable::Gone));
            }
            other => other.with_context(|| format!("looking at {}", program.display()))?,
        };
        let same = (running.dev(), running.ino()) == (there.dev(), there.ino());
        Ok(Some(match same {
            true => Executable::Same,
            false => Executable::Other,
        }))
    }

    fn reads_journal(&mut self) -> Option<bool> {
        asked::reads_journal()
    }

    fn operator(&self) -> String {
        let uid = rustix::process::getuid().as_raw();
        match std::env::var("SUDO_USER") {
            Ok(user) if user.len() < 64 && user.chars().all(|c| c.is_ascii_graphic()) => {
                format!("{user} (uid {uid})")
            }
            _ => format!("uid {uid}"),
        }
    }
}

fn connections(tables: &mut Tables, pid: u32) -> Result<Vec<Connection>> {
    let found = tables.established(&Path::new("/proc").join(pid.to_string()));
    found.with_context(|| format!("looking at the connections of process {pid}"))
}

/// The processes there are now, with their folders in `/proc`.
fn running() -> Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("reading /proc")? {
        let entry = entry.context("reading /proc")?;
        if let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) {
            found.push((pid, entry.path()));
        }
    }
    Ok(found)
}

fn below(path: &str, group: &str) -> bool {
    path.strip_prefix(group)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A process may end while it is looked at: then there is nothing to say of it.
fn gone<T>(read: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A process that signs, and its control groups.
fn signer_process(pid: u32, folder: &Path) -> Result<Option<(SignerProcess, String)>> {
    let context = || format!("looking at process {pid}");
    let Some(raw) = gone(std::fs::read(folder.join("cmdline"))).with_context(context)? else {
        return Ok(None);
    };
    let argv: Vec<String> = raw
        .split(|b| *b == 0)
        .filter(|a| !a.is_empty())
        .map(|a| String::from_utf8_lossy(a).into_owned())
        .collect();
    if !argv.iter().skip(1).any(|a| a == "start") {
        return Ok(None);
    }
    // Unreadable without root; then argv[0] alone decides.
    let program = std::fs::read_link(folder.join("exe")).ok();
    let named = |p: &Path| {
        p.file_name()
            .is_some_and(|n| n.to_string_lossy().to_lowercase().contains("tmkms"))
    };
    let is_tmkms =
        program.as_deref().is_some_and(named) || argv.first().is_some_and(|a| named(Path::new(a)));
    if !is_tmkms {
        return Ok(None);
    }
    let Some(groups) =
        gone(std::fs::read_to_string(folder.join("cgroup"))).with_context(context)?
    else {
        return Ok(None);
    };
    let unit = groups
        .lines()
        .filter_map(|l| l.splitn(3, ':').nth(2))
        .find_map(|path| {
            path.rsplit('/')
                .find(|c| c.ends_with(".service"))
                .map(str::to_owned)
        });
    let directory = std::fs::read_link(folder.join("cwd")).ok();
    let variable = std::fs::read(folder.join("environ")).ok().and_then(|raw| {
        raw.split(|b| *b == 0).find_map(|entry| {
            let entry = std::str::from_utf8(entry).ok()?;
            entry
                .strip_prefix(tmkms::CONFIG_VARIABLE)?
                .strip_prefix('=')
                .map(str::to_owned)
        })
    });
    let config = directory.and_then(|d| tmkms::config_path(&argv, variable.as_deref(), &d).ok());
    let process = SignerProcess {
        pid,
        argv,
        unit,
        config,
    };
    Ok(Some((process, groups)))
}

/// The numeric user and group of a unit's `User=`; root where it names none.
pub(super) fn user_ids(user: &str) -> Result<Option<(u32, u32)>> {
    if user.is_empty() {
        return Ok(Some((0, 0)));
    }
    let text = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let accounts = Accounts::parse(&text, "");
    Ok(accounts.known(user).map(|user| (user.uid, user.gid)))
}
