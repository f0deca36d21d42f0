//! Asking a node how it is: `oasis-node control status` on the machine, a recorded answer in a folder.
//!
//! The node's own socket can do everything with it. Only its own command line is run, as the node's own user, and nothing
//! but `control status` is ever asked.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::{Files, asked};
use crate::unit::UnitName;

/// A node that is well answers within a second. It is asked while others may wait for this host's own answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(8);
/// The fullest status has some hundred kilobytes.
const LONGEST: u64 = 8 << 20;
/// A recorded answer for each node of a folder that stands for a host, below its root.
pub const RECORDED: &str = "/run/kmsctl/nodes.json";

/// A node, and how to ask it.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    pub unit: &'a UnitName,
    /// The unit's own: another version's prints another shape.
    pub program: &'a Path,
    pub user: &'a str,
    pub socket: &'a Path,
    pub main_pid: u32,
}

/// Who asks nodes.
pub trait Nodes {
    /// What `control status` prints, log lines and all.
    ///
    /// # Errors
    /// No answer, whatever the reason: the node's state is unknown then.
    fn control_status(&mut self, node: &Question<'_>) -> Result<String>;
    /// When its process began; none where that can't be said.
    fn started(&mut self, node: &Question<'_>) -> Option<jiff::Timestamp>;
}

/// The machine's own.
pub struct Live;

impl Nodes for Live {
    fn control_status(&mut self, node: &Question<'_>) -> Result<String> {
        let user = super::live::user_ids(node.user)?;
        let (uid, gid) = user.with_context(|| format!("user {} isn't known", node.user))?;
        let mut command = Command::new(node.program);
        let address = format!("unix:{}", node.socket.display());
        command
            .args(["control", "status", "-a", &address])
            .env_clear()
            .current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(uid).gid(gid);
        }
        let said = asked::output(&mut command, ANSWERS_WITHIN, LONGEST)
            .with_context(|| format!("`{} control status`", node.program.display()))?;
        String::from_utf8(said).map_err(|_| anyhow!("its answer isn't UTF-8"))
    }

    fn started(&mut self, node: &Question<'_>) -> Option<jiff::Timestamp> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.main_pid)).ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        began(&stat, &uptime, jiff::Timestamp::now())
    }
}

/// When a process began, by its own line and how long the machine is up (proc(5)). To a hundredth of a second: what an
/// earlier process logged a moment before must not count as this one's, and the boot's own time is told in whole seconds.
fn began(process: &str, uptime: &str, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
    /// `USER_HZ`: the same on every Linux that systemd runs on.
    const TICKS: i64 = 100;
    let (seconds, rest) = uptime.split_whitespace().next()?.split_once('.')?;
    let hundredths: i64 = rest.get(..2)?.parse().ok()?;
    let up = seconds.parse::<i64>().ok()?.checked_mul(TICKS)?;
    let up = up.checked_add(hundredths)?;
    // The program's name may hold anything, a bracket too.
    let (_, after) = process.rsplit_once(')')?;
    let ticks: i64 = after.split_whitespace().nth(19)?.parse().ok()?;
    let age = up.checked_sub(ticks)?.checked_mul(1000 / TICKS)?;
    now.checked_sub(jiff::SignedDuration::from_millis(age)).ok()
}

/// What a folder's nodes say: nothing of the tree is ever run.
pub struct Recorded(pub Rc<dyn Files>);

/// A node's answer, kept beside the modelled services.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    pub started: Option<jiff::Timestamp>,
    /// What `control status` printed.
    pub status: String,
}

impl Recorded {
    fn of(&self, unit: &UnitName) -> Result<Recording> {
        let context = || format!("reading {RECORDED}");
        let bytes = match self.0.read(&PathBuf::from(RECORDED)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                bail!("below --root no node is asked, and {RECORDED} records no answer")
            }
            Err(e) => return Err(e).with_context(context),
        };
        let mut recorded: BTreeMap<UnitName, Recording> =
            serde_json::from_slice(&bytes).with_context(context)?;
        recorded
            .remove(unit)
            .with_context(|| format!("{RECORDED} records no answer of {unit}"))
    }
}

impl Nodes for Recorded {
    fn control_status(&mut self, node: &Question<'_>) -> Result<String> {
        Ok(self.of(node.unit)?.status)
    }

    fn started(&mut self, node: &Question<'_>) -> Option<jiff::Timestamp> {
        self.of(node.unit).ok()?.started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_began_so_long_after_the_boot() {
        let now = "2026-07-01T08:40:40Z".parse().unwrap();
        let process =
            "77 (oasis) 5 (node) S 1 77 77 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 9 0 250 1 1\n";
        let at = began(process, "102.75 50.00\n", now).unwrap();
        assert_eq!(at.to_string(), "2026-07-01T08:38:59.75Z");
        assert_eq!(began("77 (x) S", "102.75 50.00", now), None);
        assert_eq!(began(process, "", now), None);
    }
}
