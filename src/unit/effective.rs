//! What a unit means: its fragment and drop-ins put together as systemd does, for one name of it.
//!
//! The live host asks systemd itself. This reading serves `--root`, and proves of every new unit that it starts what the
//! plan says before a byte of it is written.

use std::path::PathBuf;

use super::words::{self, Variables, expand};
use super::{Setting, UnitName, UnitText};

/// A unit as it would be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// argv of each ExecStart, beginning with the program's own path; variables are not put in yet.
    pub exec: Vec<Vec<String>>,
    pub user: String,
    /// `/` where the unit says nothing.
    pub working_directory: PathBuf,
    pub variables: Variables,
    /// Its `EnvironmentFile=`s.
    pub environment_files: Vec<PathBuf>,
    pub kind: String,
    /// The paths whose existence bars a start (`AssertPathExists=!…`).
    pub barred_by: Vec<PathBuf>,
}

impl Effective {
    /// Reads what a unit of this name means.
    ///
    /// # Errors
    /// A specifier or a quoting that can't be read; with the setting's own line, which is its own file's.
    pub fn of(name: &UnitName, text: &UnitText) -> Result<Effective, String> {
        let explain =
            |setting: &Setting, e: String| format!("line {}, {}=: {e}", setting.line, setting.key);
        let mut exec = Vec::new();
        for setting in text.list("Service", "ExecStart") {
            exec.push(argv(&setting.value, name).map_err(|e| explain(setting, e))?);
        }
        let mut variables = Variables::default();
        for setting in text.list("Service", "Environment") {
            let words = words::split(&setting.value).map_err(|e| explain(setting, e))?;
            // One that only a running systemd can tell is left as it is: no config is named by it.
            let words: Vec<String> = words
                .into_iter()
                .map(|w| expand(&w, name).unwrap_or(w))
                .collect();
            variables.assign(&words);
        }
        let mut environment_files = Vec::new();
        for setting in text.list("Service", "EnvironmentFile") {
            let path = expand(setting.value.trim_start_matches('-'), name);
            environment_files.push(PathBuf::from(path.map_err(|e| explain(setting, e))?));
        }
        let one = |key: &str| text.list("Service", key).last().copied();
        let directory = match one("WorkingDirectory") {
            Some(setting) => expand(setting.value.trim_start_matches('-'), name)
                .map_err(|e| explain(setting, e))?,
            None => "/".into(),
        };
        let directory = if directory == "~" {
            "/root".into()
        } else {
            directory
        };
        let asserted = text.list("Unit", "AssertPathExists");
        Ok(Effective {
            exec,
            user: one("User").map_or_else(String::new, |s| {
                expand(&s.value, name).unwrap_or_else(|_| s.value.clone())
            }),
            working_directory: PathBuf::from(directory),
            variables,
            environment_files,
            kind: one("Type").map_or_else(|| "simple".into(), |s| s.value.clone()),
            barred_by: asserted
                .iter()
                .filter_map(|a| a.value.strip_prefix('!'))
                .map(PathBuf::from)
                .collect(),
        })
    }
}

/// An Exec line's words, beginning with what is really run: after `@` the second word is only what the program is told
/// that its name is.
fn argv(value: &str, name: &UnitName) -> Result<Vec<String>, String> {
    let line = value.trim_start_matches(PREFIXES);
    let mut argv = Vec::new();
    for word in words::split(line)? {
        argv.push(expand(&word, name)?);
    }
    if value[..value.len() - line.len()].contains('@') && argv.len() > 1 {
        argv.remove(1);
    }
    Ok(argv)
}

/// What may stand before the program of an Exec line (systemd.service(5)).
pub const PREFIXES: [char; 5] = ['-', '@', ':', '+', '!'];
