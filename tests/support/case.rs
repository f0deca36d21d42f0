//! A fixture's `case.toml`: the nights that its host goes through, and its broken twins.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Host, fixture};

/// A layout of the field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What operators have it, in a sentence.
    pub about: String,
    /// One upgrade each, in their order.
    pub night: Vec<Night>,
    /// The same host with something wrong.
    pub broken: Vec<Twin>,
}

/// An upgrade that goes well.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Night {
    /// The words after `plan`.
    pub plan: Vec<String>,
    /// Every finding's code, each once, sorted.
    pub findings: Vec<String>,
}

/// The host after some edits, on which a plan is refused and nothing is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Twin {
    pub name: String,
    /// How many nights it has behind it.
    #[serde(default)]
    pub nights: usize,
    #[serde(default)]
    pub edits: Vec<Edit>,
    /// The words after `plan`; by default the coming night's.
    pub plan: Option<Vec<String>>,
    #[serde(default = "refused")]
    pub exit: i32,
    /// What must be said: the full path, the reason, the next step.
    pub says: Vec<String>,
}

fn refused() -> i32 {
    3
}

/// A change of a host's tree; paths are seen from its root.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Edit {
    Write {
        write: String,
        text: String,
    },
    Replace {
        replace: String,
        from: String,
        with: String,
    },
    Remove {
        remove: String,
    },
    Link {
        link: String,
        to: String,
    },
}

impl Case {
    pub fn of(name: &str) -> Case {
        let path = fixture(name).join("case.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        toml_edit::de::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The names of all fixtures.
    pub fn names() -> Vec<String> {
        let entries = fs::read_dir(fixture("")).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Edit {
    pub fn make(&self, host: &Host) {
        match self {
            Edit::Write { write, text } => host.write(write, text),
            Edit::Replace {
                replace,
                from,
                with,
            } => host.edit(replace, from, with),
            Edit::Remove { remove } => {
                let path = host.path(remove);
                match fs::symlink_metadata(&path).unwrap().is_dir() {
                    true => fs::remove_dir(path).unwrap(),
                    false => host.remove(remove),
                }
            }
            Edit::Link { link, to } => {
                fs::create_dir_all(host.path(link).parent().unwrap()).unwrap();
                host.link(link, to);
            }
        }
    }
}

/// Where a night's golden files are.
pub fn expected(case: &str, night: usize) -> PathBuf {
    let folder = fixture(case).join("expected");
    match night {
        0 => folder,
        later => folder.join(format!("night-{}", later + 1)),
    }
}
