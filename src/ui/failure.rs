//! An error as JSON, for a program that reads only standard output. The sentence for people goes to standard error.

use schemars::JsonSchema;
use serde::Serialize;

use super::events::{self, Event};
use super::{FORMAT_VERSION, Ui};
use crate::exit::{Exit, Failure};

/// What a verb prints with `--json` instead of its document.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Error")]
pub struct Error<'a> {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    /// What is wrong, where, and what to do, in the words that are on standard error.
    pub error: &'a str,
    /// The exit code.
    pub exit: u8,
    pub meaning: Exit,
    /// What may be typed next.
    pub next: &'a [&'a str],
}

/// What a verb prints with `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prints {
    /// One document.
    Document,
    /// An event a line.
    Events,
    /// Text, with `--json` as without.
    Text,
}

/// Says what failed in a shape that the verb's reader waits for. An error is said even with `--quiet`.
pub fn show(ui: Ui, prints: Prints, failure: &Failure, sentence: &str) {
    Ui { quiet: false, ..ui }.note(&format!("kmsctl: {sentence}"));
    json(ui, prints, failure, sentence);
}

/// Prints what failed with `--json`, and nothing without.
pub fn json(ui: Ui, prints: Prints, failure: &Failure, sentence: &str) {
    if !ui.json {
        return;
    }
    // Findings in a sentence are coloured for the eye.
    let plain = anstream::adapter::strip_str(sentence).to_string();
    let exit = failure.exit as u8;
    match prints {
        Prints::Text => {}
        Prints::Events => events::show(
            ui,
            Event::Ended {
                exit,
                meaning: failure.exit,
                operation: failure.operation,
                message: None,
                error: Some(&plain),
                next: failure.next,
            },
        ),
        Prints::Document => {
            let document = Error {
                format_version: FORMAT_VERSION,
                error: &plain,
                exit,
                meaning: failure.exit,
                next: failure.next,
            };
            // Where standard output is gone, the sentence was said.
            ui.json(&document).ok();
        }
    }
}
