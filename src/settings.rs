//! `/etc/kmsctl/kmsctl.toml`: this host's own defaults for every flag.
//!
//! A key is a flag's long name: at the top those of every verb, and in a table named like a verb its own. The file is
//! read against the command line's own description, so that what it may say can't differ from what kmsctl takes. It
//! turns off no rule, since no flag does.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use toml_edit::{Document, Item, Key, Table, TableLike, Value};

use crate::unit::line_of;

/// Where the file lies on a host.
pub const PATH: &str = "/etc/kmsctl/kmsctl.toml";

/// Flags that are no settings: which host's file this is, files that are written, what one plan's operator overrules after
/// looking at it, and what is true of one new signer only.
pub const NO_SETTINGS: [&str; 19] = [
    "root",
    "no_settings",
    "help",
    "version",
    "out",
    "runbook",
    "accept",
    // Of one signer, one key or one file.
    "import",
    "generate",
    "state",
    "height",
    "new_validator",
    "name",
    "unit",
    "config",
    "check",
    "undo",
    // Of one question.
    "watch",
    "again",
];

/// The flag that tables stand for, `[[peer]]`.
const PEERS: &str = "peers";

/// Why a settings file can't be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    pub path: PathBuf,
    /// 1-based.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, line) = (self.path.display(), self.line);
        write!(f, "{path}:{line}: {}", self.message)
    }
}

impl std::error::Error for SettingsError {}

/// A command line whose flags have the file's values as their defaults.
///
/// `peers` says whether its peers are taken: what a folder that stands for a host names is never executed.
///
/// # Errors
/// No TOML, a key that is no flag, a value that the flag doesn't take: with its line.
pub fn with_defaults(
    command: Command,
    path: &Path,
    text: &str,
    peers: bool,
) -> Result<Command, SettingsError> {
    let error = |at: usize, message: String| SettingsError {
        path: path.to_owned(),
        line: line_of(text, at),
        message,
    };
    let document = Document::parse(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        error(at, format!("this isn't TOML: {}", e.message()))
    })?;
    let reader = Reader {
        peers,
        error: &error,
    };
    let mut command = command;
    for (key, item) in entries(document.as_table()) {
        let verb = command.find_subcommand(key.get()).cloned();
        command = match (item.as_table_like(), verb) {
            (Some(table), Some(verb)) => {
                let name = verb.get_name().to_owned();
                let whose = format!("`kmsctl {name}`");
                let mut verb = verb;
                for (key, item) in entries(table) {
                    verb = reader.set(verb, key, item, &whose)?;
                }
                command.mut_subcommand(name, |_| verb)
            }
            (Some(_), None) => {
                let message = format!("there is no verb {:?}", key.get());
                return Err(error(start(key), message));
            }
            (None, _) => reader.set(command, key, item, "every verb")?,
        };
    }
    Ok(command)
}

fn entries(table: &dyn TableLike) -> Vec<(&Key, &Item)> {
    let keys = table.iter().map(|(name, _)| name);
    keys.filter_map(|name| table.get_key_value(name)).collect()
}

fn start(key: &Key) -> usize {
    key.span().map_or(0, |span| span.start)
}

struct Reader<'a> {
    /// Whether peers are taken.
    peers: bool,
    error: &'a dyn Fn(usize, String) -> SettingsError,
}

impl Reader<'_> {
    /// Sets one flag's default.
    fn set(
        &self,
        command: Command,
        key: &Key,
        item: &Item,
        whose: &str,
    ) -> Result<Command, SettingsError> {
        let found = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(key.get()));
        let usable = |arg: &&Arg| !NO_SETTINGS.contains(&arg.get_id().as_str());
        let Some(arg) = found.filter(usable).cloned() else {
            let message = format!(
                "there is no flag --{} of {whose} that could be set",
                key.get()
            );
            return Err((self.error)(start(key), message));
        };
        let at = item.span().map_or_else(|| start(key), |span| span.start);
        if arg.get_id() == PEERS && !self.peers {
            return Ok(command);
        }
        let values = values(&arg, item).map_err(|why| (self.error)(at, why))?;
        accepted(&arg, &values).map_err(|why| (self.error)(at, why))?;
        Ok(command.mut_arg(arg.get_id(), |arg| {
            let arg = arg.required(false).default_values(values);
            if !is_switch(&arg) {
                return arg;
            }
            // What the file switches on, `--flag=false` switches off.
            arg.action(ArgAction::Set)
                .value_parser(clap::value_parser!(bool))
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
        }))
    }
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// The words that a value stands for on the command line.
fn values(arg: &Arg, item: &Item) -> Result<Vec<String>, String> {
    let flag = arg.get_long().unwrap_or_default();
    let switch = is_switch(arg);
    let word = |value: &Value| match value {
        Value::Boolean(yes) if switch => Ok(yes.value().to_string()),
        Value::String(text) if !switch => Ok(text.value().clone()),
        Value::Integer(number) if !switch => Ok(number.value().to_string()),
        _ if switch => Err(format!("--{flag} is switched on or off: true or false")),
        other => Err(format!("--{flag} takes no {}", other.type_name())),
    };
    if let (PEERS, Some(tables)) = (arg.get_id().as_str(), item.as_array_of_tables()) {
        return tables.iter().map(peer).collect();
    }
    match item.as_value() {
        Some(Value::Array(list)) if matches!(arg.get_action(), ArgAction::Append) => {
            list.iter().map(word).collect()
        }
        Some(value) => Ok(vec![word(value)?]),
        None => Err(format!("--{flag} takes no table")),
    }
}

/// A `[[peer]]` with its name and its command, as the flag's word.
fn peer(table: &Table) -> Result<String, String> {
    let part = |key: &str| {
        let text = table.get(key).and_then(Item::as_str);
        text.ok_or_else(|| {
            format!("a [[peer]] has a name and a command, each a text: {key} is missing")
        })
    };
    if let Some((other, _)) = table
        .iter()
        .find(|(key, _)| !matches!(*key, "name" | "command"))
    {
        return Err(format!(
            "a [[peer]] has a name and a command, and no {other}"
        ));
    }
    Ok(format!("{}={}", part("name")?, part("command")?))
}

/// Lets the flag itself judge its values.
fn accepted(arg: &Arg, values: &[String]) -> Result<(), String> {
    if is_switch(arg) {
        return Ok(());
    }
    let flag = arg.get_long().unwrap_or_default();
    for value in values {
        let alone = Command::new("kmsctl")
            .no_binary_name(true)
            .arg(arg.clone().required(false));
        if let Err(e) = alone.try_get_matches_from([format!("--{flag}={value}")]) {
            let why = e.to_string();
            let why = why.lines().next().unwrap_or_default();
            return Err(why.trim_start_matches("error: ").to_owned());
        }
    }
    Ok(())
}
