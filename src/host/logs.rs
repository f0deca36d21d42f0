//! What a unit's processes logged, by the `journalctl` program. It explains and proves nothing.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::unit::UnitName;

/// How long the program may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The last lines of this boot that a unit's processes logged since a time, oldest first, without colours and control
/// characters.
///
/// # Errors
/// The program isn't there, fails, or takes too long.
pub fn last(unit: &UnitName, since: jiff::Timestamp, lines: usize) -> Result<Vec<String>> {
    let micros = since.as_microsecond();
    let mut child = Command::new("journalctl")
        .args(["-q", "-b", "-a", "-o", "cat", "-n", &lines.to_string()])
        .arg(format!(
            "--since=@{}.{:06}",
            micros / 1_000_000,
            micros % 1_000_000
        ))
        .arg(format!("_SYSTEMD_UNIT={unit}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("running journalctl")?;
    let mut output = child.stdout.take().context("reading journalctl")?;
    // A line may be longer than what a pipe holds.
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| bytes)
    });
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait().context("waiting for journalctl")? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill().ok();
                child.wait().context("waiting for journalctl")?;
                bail!("journalctl took longer than {} s", LIMIT.as_secs());
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if !status.success() {
        bail!("journalctl failed ({status})");
    }
    match reader.join() {
        Ok(bytes) => Ok(plain(&bytes.context("reading journalctl")?)),
        Err(_) => bail!("reading journalctl"),
    }
}

/// Bytes as a terminal would get them, as lines of plain text.
fn plain(bytes: &[u8]) -> Vec<String> {
    let text = anstream::adapter::strip_bytes(bytes).into_vec();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(|line| {
        let visible = line.chars().filter(|c| !c.is_control());
        visible.collect::<String>()
    });
    lines.filter(|line| !line.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_control_characters_are_taken_out() {
        let bytes = b"\x1b[32m2026\x1b[0m \x1b[1mINFO\x1b[0m signed\x07\r\n\n\x1b]0;title\x07x\n";
        assert_eq!(plain(bytes), ["2026 INFO signed", "x"]);
    }
}
