//! `doctor` as data and as text: a line a check, its findings below it.

use anstyle::{AnsiColor, Style};
use schemars::JsonSchema;
use serde::Serialize;

use super::{FORMAT_VERSION, count, line};
use crate::doctor::{Check, Judged};
use crate::finding::Severity;

const FINE: Style = AnsiColor::Green.on_default();
const UNJUDGED: Style = Style::new().dimmed();
/// As wide as the longest name of a check.
const WIDTH: usize = 11;

/// What `doctor --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Report {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    pub host: String,
    pub observed_at: jiff::Timestamp,
    /// Always the same ones, in the same order.
    pub checks: Vec<Check>,
}

/// The report as text.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    for check in &report.checks {
        let name = check.check;
        let found = count(check.findings.len(), "finding");
        let fine = check.fine.as_deref().unwrap_or_default();
        let says = match (&check.judged, check.findings.is_empty()) {
            (Judged::Not(why), true) => format!("{UNJUDGED}not judged: {why}{UNJUDGED:#}"),
            (Judged::Not(why), false) => format!("{found}; else not judged: {why}"),
            (Judged::InPart(but), true) => {
                format!("{FINE}{fine}{FINE:#}; not judged: {but}")
            }
            (Judged::InPart(but), false) => format!("{found}; not judged: {but}"),
            (Judged::Whole, true) => format!("{FINE}{fine}{FINE:#}"),
            (Judged::Whole, false) => found,
        };
        line(&mut out, format_args!("{name:WIDTH$} {says}"));
    }
    let findings = || report.checks.iter().flat_map(|check| &check.findings);
    let mut sorted: Vec<_> = findings().cloned().collect();
    sorted.sort_by_key(|f| std::cmp::Reverse(f.severity));
    super::plan::findings(&mut out, &sorted);
    let blocks = findings().filter(|f| f.severity == Severity::Block).count();
    let says = match (sorted.len(), blocks) {
        (0, _) => "Nothing was found.".to_owned(),
        (found, 0) => format!("{}, none of them in the way.", count(found, "finding")),
        (found, blocks) => format!("{}, {blocks} in the way.", count(found, "finding")),
    };
    line(&mut out, format_args!(""));
    line(&mut out, format_args!("{says}"));
    out
}
