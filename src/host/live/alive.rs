//! Signing processes that were looked at once and still live: each proof that a signer is dead looks at all others, and
//! that signer is dark meanwhile.
//!
//! Each is held by a pidfd. While the process lives its number is nobody else's, and what was read of it holds: a tmkms
//! changes neither its arguments nor its control group. What isn't held must be read again, every time.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::inventory::SignerProcess;

/// Open files are few: a process may have 1024 where nobody raised that.
const MOST: usize = 512;

/// A process, and its control groups as `/proc` says them.
struct Held {
    life: OwnedFd,
    process: SignerProcess,
    groups: String,
}

#[derive(Default)]
pub struct Alive(BTreeMap<u32, Held>);

impl Alive {
    /// Lets go of those that ended.
    pub fn look(&mut self) -> Result<()> {
        let ended = ended(self.0.values().map(|held| &held.life))?;
        let mut ended = ended.into_iter();
        self.0.retain(|_, _| !ended.next().unwrap_or(true));
        Ok(())
    }

    pub fn process(&self, pid: u32) -> Option<&SignerProcess> {
        self.0.get(&pid).map(|held| &held.process)
    }

    pub fn groups(&self, pid: u32) -> Option<&str> {
        self.0.get(&pid).map(|held| held.groups.as_str())
    }

    /// Holds a process from now on, with what `read` says of it, if it is the same one before and after.
    pub fn hold(
        &mut self,
        pid: u32,
        read: impl FnOnce() -> Result<Option<(SignerProcess, String)>>,
    ) -> Result<()> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // A kernel or a limit that gives none: then it is read again each time.
        let life = number.and_then(|n| pidfd_open(n, PidfdFlags::empty()).ok());
        let Some(life) = life.filter(|_| self.0.len() < MOST) else {
            return Ok(());
        };
        let Some((process, groups)) = read()? else {
            return Ok(());
        };
        // What couldn't be read may be readable the next time.
        if process.config.is_some() && ended([&life])? == [false] {
            let held = Held {
                life,
                process,
                groups,
            };
            self.0.insert(pid, held);
        }
        Ok(())
    }
}

/// Which of these processes have ended.
fn ended<'a>(lives: impl IntoIterator<Item = &'a OwnedFd>) -> Result<Vec<bool>> {
    let lives = lives.into_iter();
    let mut lives: Vec<PollFd<'_>> = lives.map(|life| PollFd::new(life, PollFlags::IN)).collect();
    poll(&mut lives, Some(&Timespec::default())).context("looking which processes still live")?;
    Ok(lives
        .iter()
        .map(|life| !life.revents().is_empty())
        .collect())
}
