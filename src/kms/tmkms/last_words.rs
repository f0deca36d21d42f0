//! What a tmkms logged last, with what it means: said where one doesn't come up or doesn't sign.

use tmkms_core::log;

use crate::host::Host;
use crate::unit::UnitName;

/// How many lines are looked at, and how many of them are said.
const LOOKED_AT: usize = 20;
const SAID: usize = 3;

/// The last lines of a unit since its operation was opened, each on a line of its own and indented, and what the last of
/// them that is known means.
pub fn of(host: &mut Host, unit: &UnitName, since: jiff::Timestamp) -> String {
    let lines = match host.processes.last_lines(unit, since, LOOKED_AT) {
        Ok(lines) => lines,
        Err(e) => return format!("\n    what it logged can't be read: {e:#}"),
    };
    // One that didn't run logged nothing; what goes elsewhere can't be read here.
    let mut elsewhere = || {
        let output = host.services.view(unit).ok()?.output;
        let journal = output.contains("journal") || output == "inherit" || output == "kmsg";
        (!journal).then_some(output)
    };
    if lines.is_empty()
        && let Some(output) = elsewhere()
    {
        return format!(
            "\n    it doesn't log to the journal (StandardOutput={output}): look there"
        );
    }
    let mut out = String::new();
    let shown: Vec<&String> = lines.iter().filter(|l| log::is_showable(l)).collect();
    for line in &shown[shown.len().saturating_sub(SAID)..] {
        out += &format!("\n    it logged: {line}");
    }
    if let Some(meaning) = shown.iter().rev().find_map(|line| log::explain(line)) {
        out += &format!("\n    that means: {meaning}");
    }
    out
}
