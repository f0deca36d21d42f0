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
    Words { error: clap::Error, json: bool },
    /// The settings file can't be taken.
    Settings { failure: Failure, json: bool },
}

/// Reads a command line.
///
/// # Errors
/// It isn't complete, or the host's settings can't be taken.
pub fn command_line(words: &[OsString]) -> Result<Cli, Unread> {
    // What was meant can't be asked of a command line that wasn't read.
    let mut json = words.iter().any(|word| word == "--json");
    let settings = |failure: Failure| Unread::Settings { failure, json };
    let mut command = Cli::command();
    if let Some(root) = settings_root(&command, words)
        && let Some(text) = read(&root).map_err(settings)?
    {
        let path = Path::new(settings::PATH);
        let live = root == Path::new("/");
        command = settings::with_defaults(command, path, &text, live).map_err(|e| {
            let next =
                "mend the line, or leave the file alone with --no-settings; nothing was done";
            settings(Failure::refused(format!("{e}\n{next}")))
        })?;
        json |= command.get_arguments().any(|arg| {
            arg.get_id() == "json" && arg.get_default_values().iter().any(|v| v == "true")
        });
    }
    let unread = |error| Unread::Words { error, json };
    let matches = command.try_get_matches_from(words).map_err(unread)?;
    Cli::from_arg_matches(&matches).map_err(unread)
}

/// Below which root the settings lie; none where the verb looks at no host, or leaves them alone.
fn settings_root(command: &clap::Command, words: &[OsString]) -> Option<PathBuf> {
    // As much as can be known before the settings are.
    let early = command.clone().ignore_errors(true);
    let early = early.try_get_matches_from(words).ok()?;
    let verb = early.subcommand_name()?;
    let alone = HOSTLESS.contains(&verb) || words.iter().any(|word| word == "--no-settings");
    let root = early.get_one::<PathBuf>("root").cloned();
    (!alone).then(|| root.unwrap_or_else(|| PathBuf::from("/")))
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
    pub fn say(&self) -> Exit {
        let (Unread::Words { json, .. } | Unread::Settings { json, .. }) = self;
        let ui = Ui {
            json: *json,
            quiet: false,
            verbose: false,
            yes: false,
            no_input: true,
        };
        match self {
            Unread::Words { error, .. } => {
                // There is nobody left to tell when the stream is gone.
                error.print().ok();
                if !error.use_stderr() {
                    return Exit::Done;
                }
                let failure = Failure::usage(error.render().to_string().trim());
                failure::json(ui, Prints::Document, &failure, &failure.error.to_string());
                Exit::Usage
            }
            Unread::Settings { failure, .. } => {
                let sentence = format!("{:#}", failure.error);
                failure::show(ui, Prints::Document, failure, &sentence);
                failure.exit
            }
        }
    }
}
