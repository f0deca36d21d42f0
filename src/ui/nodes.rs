//! Key managers as text: what each shows, condition by condition, and the live line while they are waited for.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use schemars::JsonSchema;
use serde::Serialize;

use super::{FORMAT_VERSION, Ui, line};
use crate::kms::oasis::proofs::Verified;
use crate::kms::oasis::published::NodeRow;
use crate::kms::oasis::verify::Holds;

/// What `verify --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Verification {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    pub host: String,
    pub observed_at: jiff::Timestamp,
    /// What was asked for holds: verified, or with `--again` verified again.
    pub verified: bool,
    pub key_managers: Vec<NodeRow>,
    /// What to know and to do, in sentences.
    pub notes: Vec<String>,
}

/// All seven conditions of each node.
pub fn text(verification: &Verification) -> String {
    let mut out = String::new();
    for row in &verification.key_managers {
        head(&mut out, row);
        for condition in &row.conditions {
            let word = match condition.holds {
                Holds::Yes => "yes",
                Holds::No => "NO",
                Holds::Unknown => "UNKNOWN",
            };
            let number = condition.number;
            line(
                &mut out,
                format_args!("  {number} {word}: {}", condition.seen),
            );
            if condition.holds != Holds::Yes {
                line(
                    &mut out,
                    format_args!("      wanted: {}", condition.expected),
                );
            }
        }
        tail(&mut out, row);
    }
    if !verification.notes.is_empty() {
        line(&mut out, format_args!(""));
    }
    for note in &verification.notes {
        line(&mut out, format_args!("{note}"));
    }
    out
}

/// A node in few lines, for `status`.
pub fn row(out: &mut String, row: &NodeRow) {
    head(out, row);
    let fails: Vec<_> = row
        .conditions
        .iter()
        .filter(|c| c.holds != Holds::Yes)
        .collect();
    for condition in &fails {
        let number = condition.number;
        line(
            out,
            format_args!("  condition {number} doesn't hold: {}", condition.seen),
        );
    }
    if fails.is_empty() {
        line(out, format_args!("  all seven conditions hold"));
    }
    tail(out, row);
}

fn shown<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

fn head(out: &mut String, row: &NodeRow) {
    line(
        out,
        format_args!(
            "{}  {}  key manager of {}, version {}, enclave {}, epoch {}",
            row.node,
            row.unit,
            row.runtime,
            shown(row.version),
            shown(row.mrenclave.map(|m| m.short())),
            shown(row.epoch)
        ),
    );
}

fn tail(out: &mut String, row: &NodeRow) {
    for sign in &row.failures {
        line(out, format_args!("  it says: {}", sign.line));
        line(out, format_args!("  {sign}"));
    }
    let at = |proof: &Verified| {
        format!(
            "at epoch {} ({})",
            proof.epoch,
            proof.at.strftime("%F %T UTC")
        )
    };
    let kept = &row.verifications;
    let text = match (&kept.first, &kept.again) {
        (None, _) => "not verified by `kmsctl verify` yet".to_owned(),
        (Some(first), None) => format!("verified {}, not again yet", at(first)),
        (Some(first), Some(again)) => format!("verified {}, again {}", at(first), at(again)),
    };
    line(out, format_args!("  {text}"));
}

/// How a node is, on one line.
fn sentence(row: &NodeRow) -> String {
    let fails: Vec<String> = row
        .conditions
        .iter()
        .filter(|c| c.holds != Holds::Yes)
        .map(|c| c.number.to_string())
        .collect();
    let state = row.conditions.iter().find(|c| c.number == 2);
    let held = match &fails[..] {
        [] => "all conditions hold".to_owned(),
        fails => format!("conditions {} don't hold", fails.join(", ")),
    };
    format!(
        "{}: {}; epoch {}, checksum {}; {held}",
        row.node,
        state.map_or("", |c| &c.seen),
        shown(row.epoch),
        shown(
            row.checksum
                .map(|c| c.to_string().chars().take(16).collect::<String>())
        ),
    )
}

/// The wait: a live line a node on a terminal, a line whenever something changes elsewhere.
pub struct Live {
    ui: Ui,
    bar: Option<ProgressBar>,
    told: String,
}

impl Live {
    pub fn new(ui: Ui) -> Live {
        Live {
            ui,
            bar: None,
            told: String::new(),
        }
    }

    pub fn show(&mut self, rows: &[NodeRow]) {
        let now = rows.iter().map(sentence).collect::<Vec<_>>().join(" | ");
        if self.ui.json || self.ui.quiet {
            return;
        }
        if std::io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| {
                let bar = ProgressBar::new_spinner();
                if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                    bar.set_style(style);
                }
                bar
            });
            bar.set_message(now);
            bar.tick();
        } else if now != self.told {
            self.ui.note(&now);
            self.told = now;
        }
    }

    /// Takes the line away: what was seen last is printed whole.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
