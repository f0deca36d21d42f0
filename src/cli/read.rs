//! Reads a command line, with the defaults that the host's own settings file gives.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches};

use super::Cli;
use crate::exit::{Exit, Failure};
use crate::host::Files;
use crate::host::files::Tree;
use crate::settings;
use crate::ui::Ui;
use crate::ui::failure::{self, Prints};

/// Why a command line couldn't be read.
pub enum Unread {
    /// It isn't complete, or it asks for help.
    Words(clap::Error),
    /// The settings file can't be taken.
    Settings(Failure),
}

/// Reads a command line.
pub fn command_line(words: &[OsString]) -> Result<Cli, Unread> {
    let mut command = Cli::command();
    // What can be known before the settings are: which host is meant, and whether any is.
    let early = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(words);
    if let Ok(early) = early
        && early
            .subcommand_name()
            .is_some_and(|verb| !HOSTLESS.contains(&verb))
    {
        let root = early.get_one::<PathBuf>("root");
        let root = root.map_or(Path::new("/"), PathBuf::as_path);
        if let Some(text) = read(root).map_err(Unread::Settings)? {
            let path = Path::new(settings::PATH);
            command = settings::with_defaults(command, path, &text).map_err(|e| {
                let next = "mend the line or take it away; nothing was done";
                Unread::Settings(Failure::refused(format!("{e}\n{next}")))
            })?;
        }
    }
    let matches = command.try_get_matches_from(words).map_err(Unread::Words)?;
    Cli::from_arg_matches(&matches).map_err(Unread::Words)
}

/// The verbs that look at no host.
const HOSTLESS: [&str; 4] = ["completions", "demo", "help", "man"];

/// The settings of a host; none where it has no such file.
fn read(root: &Path) -> Result<Option<String>, Failure> {
    let path = Path::new(settings::PATH);
    let refused = |why: String| Failure::refused(format!("{}: {why}", path.display()));
    // A root that can't be opened is said where the host is opened.
    let Ok(tree) = Tree::open(root) else {
        return Ok(None);
    };
    match tree.read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(refused("it isn't UTF-8".into())),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(refused(format!("it can't be read: {e}"))),
    }
}

impl Unread {
    /// Says it on standard error, and with `--json` on standard output.
    pub fn say(&self, words: &[OsString]) -> Exit {
        // What was meant can't be asked of a command line that wasn't read.
        let ui = Ui {
            json: words.iter().any(|word| word == "--json"),
            quiet: false,
            verbose: false,
            yes: false,
            no_input: true,
        };
        match self {
            Unread::Words(error) => {
                // There is nobody left to tell when the stream is gone.
                error.print().ok();
                if !error.use_stderr() {
                    return Exit::Done;
                }
                let failure = Failure::usage(error.render().to_string().trim());
                failure::json(ui, Prints::Document, &failure, &failure.error.to_string());
                Exit::Usage
            }
            Unread::Settings(failure) => {
                failure::show(
                    ui,
                    Prints::Document,
                    failure,
                    &format!("{:#}", failure.error),
                );
                failure.exit
            }
        }
    }
}
