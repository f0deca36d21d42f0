//! What a unit's processes logged, by the `journalctl` program. It explains and proves nothing.

use anyhow::Result;

use super::asked;
use crate::unit::UnitName;

/// The last lines of this boot that a unit's processes logged since a time, oldest first, without colours and control
/// characters.
///
/// # Errors
/// The program isn't there, fails, or takes too long.
pub fn last(unit: &UnitName, since: jiff::Timestamp, lines: usize) -> Result<Vec<String>> {
    let micros = since.as_microsecond();
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let since = format!("--since=@{seconds}.{micros:06}");
    let (lines, unit) = (lines.to_string(), format!("_SYSTEMD_UNIT={unit}"));
    let words = ["-q", "-b", "-a", "-o", "cat", "-n", &lines, &since, &unit];
    Ok(plain(&asked::says("journalctl", &words)?))
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
