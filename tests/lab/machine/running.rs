//! Programs that a test started: never waited for without a bound, never left behind.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// None where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A started program, killed with its children when dropped.
pub struct Running {
    child: Child,
    output: Option<PathBuf>,
    stands_between: bool,
}

impl Running {
    /// Starts `command` in a process group of its own, so that what stands between (nsenter) dies with it.
    /// `stands_between` where it does nothing but wait for the program, its child in another pid namespace.
    pub(super) fn start(
        mut command: Command,
        output: Option<PathBuf>,
        stands_between: bool,
    ) -> Result<Running> {
        let program = command.get_program().to_owned();
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Running {
            child,
            output,
            stands_between,
        })
    }

    /// Waits for the end. None where `limit` passes first: then it is still running.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + limit;
        loop {
            let ended = self
                .child
                .try_wait()
                .context("waiting for a started program")?;
            if ended.is_some() || Instant::now() >= until {
                return Ok(ended);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end and gives what was said. Where `limit` passes first it is killed, and that is an error.
    pub(super) fn finish(mut self, limit: Duration) -> Result<Output> {
        let stdout = Collected::from(self.child.stdout.take());
        let stderr = Collected::from(self.child.stderr.take());
        let ended = self.wait(limit)?;
        drop(self);
        let (stdout, stderr) = (stdout.take(), stderr.take());
        match ended {
            Some(status) => Ok(Output {
                code: status.code(),
                stdout,
                stderr,
            }),
            None => bail!("no end within {limit:?}; it said: {stdout}{stderr}"),
        }
    }

    /// What it has said so far, where that goes to a file: both streams of a program in the machine, stderr of one outside.
    pub fn said(&self) -> String {
        let said = self.output.as_ref().and_then(|path| fs::read(path).ok());
        String::from_utf8_lossy(&said.unwrap_or_default()).into_owned()
    }

    /// Its stdin and stdout, once, where they are pipes.
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        Some((self.child.stdin.take()?, self.child.stdout.take()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it has been waited for, its number may be somebody else's.
        if let Ok(None) = self.child.try_wait() {
            if self.stands_between {
                kill_the_child_of(self.child.id());
            }
            if let Ok(Some(group)) = i32::try_from(self.child.id()).map(Pid::from_raw) {
                let _gone_already = kill_process_group(group, Signal::KILL);
            }
            let _status = self.child.wait();
        }
    }
}

/// Kills what nsenter waits for, so that nsenter itself reaps it. An orphan would be left to the host's init, and a machine
/// isn't off until that has looked.
fn kill_the_child_of(nsenter: u32) {
    let folder = format!("/proc/{nsenter}");
    let children = fs::read_to_string(format!("{folder}/task/{nsenter}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        if let Ok(Some(child)) = child.parse().map(Pid::from_raw) {
            let _gone_already = kill_process(child, Signal::KILL);
        }
    }
    let until = Instant::now() + Duration::from_secs(1);
    let ended = || fs::read_to_string(format!("{folder}/stat")).is_ok_and(|it| it.contains(") Z "));
    while !ended() && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Reads a pipe to its end beside the test, so that neither a full pipe nor a child that keeps it open stops anything.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

impl Collected {
    fn from(pipe: Option<impl Read + Send + 'static>) -> Collected {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = channel();
        if let Some(mut pipe) = pipe {
            let bytes = Arc::clone(&bytes);
            thread::spawn(move || {
                let mut part = [0; 8192];
                while let Ok(count @ 1..) = pipe.read(&mut part) {
                    bytes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend_from_slice(&part[..count]);
                }
                drop(end);
            });
        }
        Collected { bytes, ended }
    }

    /// What has been read; after the program's end the rest is waited for, but not for ever.
    fn take(&self) -> String {
        let _ended = self.ended.recv_timeout(Duration::from_millis(500));
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
