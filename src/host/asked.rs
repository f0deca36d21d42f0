//! Programs that are asked a question: never for longer than they may take, and never for more than they may say.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// What one of the host's own programs may take and say.
const LIMIT: Duration = Duration::from_secs(5);
const LONGEST: u64 = 1 << 20;
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What a program says on its standard output.
///
/// # Errors
/// It isn't there, fails, takes too long, says too much, or leaves its output open to a program that it left behind.
pub fn output(command: &mut Command, limit: Duration, longest: u64) -> Result<Vec<u8>> {
    let until = Instant::now() + limit;
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("running it")?;
    let output = child.stdout.take().context("reading what it says")?;
    // It may say more than a pipe holds.
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.take(longest + 1).read_to_end(&mut bytes);
        read.map(|_| bytes)
    });
    let status = loop {
        match child.try_wait().context("waiting for it")? {
            Some(status) => break status,
            None if Instant::now() > until => {
                child.kill().ok();
                child.wait().context("waiting for it")?;
                bail!("took longer than {} s", limit.as_secs());
            }
            None => std::thread::sleep(LOOK_AGAIN),
        }
    };
    ensure!(
        status.success() || reader.is_finished(),
        "failed ({status})"
    );
    while !reader.is_finished() {
        ensure!(Instant::now() < until, "doesn't end its output");
        std::thread::sleep(LOOK_AGAIN);
    }
    let Ok(bytes) = reader.join() else {
        bail!("reading what it says failed");
    };
    let bytes = bytes.context("reading what it says")?;
    // Who says too much isn't heard to the end, and may fail for that.
    ensure!(bytes.len() as u64 <= longest, "says too much");
    ensure!(status.success(), "failed ({status})");
    Ok(bytes)
}

/// What one of the host's own programs says.
///
/// # Errors
/// As [`output`], with the program's name.
pub fn says(program: &str, words: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(words).env("LC_ALL", "C");
    output(&mut command, LIMIT, LONGEST).with_context(|| format!("asking {program}"))
}

fn text(program: &str, words: &[&str]) -> Option<String> {
    String::from_utf8(says(program, words).ok()?).ok()
}

/// Whether the clock is synchronised, as systemd says; none where it doesn't.
pub fn synchronised() -> Option<bool> {
    let words = ["show", "--property=NTPSynchronized", "--value"];
    match text("timedatectl", &words)?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Whether whoever runs kmsctl may read what units log; none without a journalctl.
pub fn reads_journal() -> Option<bool> {
    let words = ["--quiet", "--lines=1", "--output=cat", "_PID=1"];
    Some(!text("journalctl", &words)?.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Vec<u8>> {
        let mut command = Command::new("sh");
        output(
            command.args(["-c", script]),
            Duration::from_secs(1),
            100_000,
        )
    }

    #[test]
    fn what_is_said_in_time_and_measure_is_taken() {
        assert_eq!(shell("printf yes; printf no >&2").unwrap(), b"yes");
        // More than a pipe holds, and no more than is allowed.
        assert_eq!(shell("yes | head -c 90000").unwrap().len(), 90_000);
    }

    #[test]
    fn all_else_is_an_error_and_none_takes_for_ever() {
        let begun = Instant::now();
        for (script, why) in [
            ("exit 3", "failed"),
            ("kill $$", "failed"),
            ("sleep 60", "longer than 1 s"),
            ("yes | head -c 200000", "too much"),
            ("sleep 20 & printf x", "doesn't end"),
            ("sleep 20 & exit 3", "failed"),
        ] {
            let error = shell(script).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{script}: {error:#}");
        }
        let none = output(&mut Command::new("/no/such"), Duration::from_secs(1), 1);
        assert!(none.is_err());
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
}
