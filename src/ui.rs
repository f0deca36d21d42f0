//! Words to the user: data on stdout, progress and prompts on stderr, and no prompt without a terminal.

pub mod check;
pub mod doctor;
pub mod dry_run;
pub mod events;
pub mod failure;
pub mod history;
pub mod init;
pub mod nodes;
pub mod plan;
pub mod progress;
pub mod snapshot;
pub mod state;
pub mod status;
pub mod validator;
pub mod waiting;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::exit::Failure;
use crate::interrupt;

/// The format of what is printed with `--json`. A document that changes gets a number of its own then; a plan has its
/// own already, since it is read back.
pub const FORMAT_VERSION: u32 = 1;

/// How the user wants to be spoken to.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    pub json: bool,
    pub quiet: bool,
    pub verbose: bool,
    /// Every question is answered with yes.
    pub yes: bool,
    /// Nothing may be asked.
    pub no_input: bool,
}

impl Ui {
    /// Prints a result. Colours are taken out where nobody sees them.
    pub fn out(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        // All at once: written through a stream that strips, each line is a system call or several.
        let written = match anstream::AutoStream::choice(&stdout) {
            anstream::ColorChoice::Never => {
                let plain = anstream::adapter::strip_str(text).to_string();
                stdout.write_all(plain.as_bytes())
            }
            _ => stdout.write_all(text.as_bytes()),
        };
        written
            .and_then(|()| stdout.flush())
            .context("writing to standard output")
    }

    /// Prints one JSON document.
    pub fn json<T: Serialize>(&self, value: &T) -> Result<()> {
        let mut text = serde_json::to_string(value).context("writing JSON")?;
        text.push('\n');
        self.out(&text)
    }

    /// Says something beside the result.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            // There is nobody left to tell when stderr is gone.
            writeln!(anstream::stderr(), "{text}").ok();
        }
    }

    /// Whether a question can be put to somebody.
    pub fn can_ask(&self) -> bool {
        !self.no_input && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks before something changes.
    ///
    /// # Errors
    /// No, or nobody to ask: then the message names `--yes`.
    pub fn confirm(&self, question: &str) -> Result<(), Failure> {
        let answer = || {
            let ask = dialoguer::Confirm::new().with_prompt(question);
            ask.default(false).interact()
        };
        self.ask(question, answer)
    }

    /// Asks for a name to be typed, where a slip of one key would be too little.
    ///
    /// # Errors
    /// Another word, or nobody to ask.
    pub fn confirm_by_name(&self, question: &str, name: &str) -> Result<(), Failure> {
        let answer = || {
            let prompt = format!("{question} Type {name} to go on");
            let ask = dialoguer::Input::<String>::new().with_prompt(prompt);
            Ok(ask.allow_empty(true).interact_text()?.trim() == name)
        };
        self.ask(question, answer)
    }

    fn ask(
        &self,
        question: &str,
        answer: impl FnOnce() -> dialoguer::Result<bool>,
    ) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !self.can_ask() {
            return Err(Failure::usage(format!(
                "{question} There is no terminal to ask at: answer with --yes"
            )));
        }
        match self.answered(answer)? {
            true => Ok(()),
            false => Err(Failure::from(anyhow::anyhow!(
                "not confirmed; nothing was changed"
            ))),
        }
    }

    /// Puts questions to somebody who was seen to be there.
    ///
    /// # Errors
    /// No answer.
    pub fn answered<T>(&self, answer: impl FnOnce() -> dialoguer::Result<T>) -> Result<T, Failure> {
        // The prompt answers Ctrl-C by raising SIGINT, which would end kmsctl with the cursor hidden; with a handler it
        // comes back as an error.
        interrupt::watch_for_ctrl_c()?;
        answer().map_err(|e| {
            // An interrupted prompt leaves the cursor hidden.
            dialoguer::console::Term::stderr().show_cursor().ok();
            Failure::from(anyhow::anyhow!("no answer ({e}); nothing was changed"))
        })
    }
}

/// A number of things, in words.
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Writes a line into a text. Writing to memory doesn't fail.
pub(crate) fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    text.write_fmt(args).ok();
    text.push('\n');
}
