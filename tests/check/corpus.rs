//! The configs, the files that they name, and the recorded verdicts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The versions whose verdicts are recorded, in the columns' order.
pub const VERSIONS: [&str; 4] = ["0.10.1", "0.12.2", "0.14.0", "0.15.0"];

/// What a tmkms did with a config while no validator was listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It went on running, or ended only because nobody answered (`reconnect = false`).
    Runs,
    /// It exited with 0.
    Ends,
    /// It exited with 1.
    Refuses,
    /// It exited with 101, or was killed by its own stack.
    Panics,
}

impl Verdict {
    pub const ALL: [Verdict; 4] = [
        Verdict::Runs,
        Verdict::Ends,
        Verdict::Refuses,
        Verdict::Panics,
    ];

    pub fn starts(self) -> bool {
        matches!(self, Verdict::Runs | Verdict::Ends)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Runs => "runs",
            Verdict::Ends => "ends",
            Verdict::Refuses => "refuses",
            Verdict::Panics => "panics",
        })
    }
}

/// Where this test's material is.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check")
}

/// All configs by name, sorted.
pub fn configs() -> BTreeMap<String, Vec<u8>> {
    let mut configs = BTreeMap::new();
    for entry in fs::read_dir(folder().join("corpus")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            configs.insert(name, fs::read(&path).unwrap());
        }
    }
    configs
}

/// A fresh copy of the files that the configs name.
pub fn desk() -> tempfile::TempDir {
    let desk = tempfile::tempdir().unwrap();
    copy(&folder().join("corpus/files"), desk.path());
    desk
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// What each version did, by config.
pub type Verdicts = BTreeMap<String, [Verdict; VERSIONS.len()]>;

pub fn recorded() -> Verdicts {
    let text = fs::read_to_string(folder().join("verdicts.txt")).unwrap();
    let mut verdicts = Verdicts::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap().to_owned();
        let row = VERSIONS.map(|_| {
            let word = words.next().unwrap();
            let known = Verdict::ALL.iter().find(|v| v.to_string() == word);
            *known.unwrap_or_else(|| panic!("verdicts.txt: {word} in {line:?}"))
        });
        verdicts.insert(name, row);
    }
    verdicts
}

#[cfg(feature = "lab")]
pub fn record(verdicts: &Verdicts) {
    let mut text = String::from(
        "# What real tmkms binaries did with the configs in corpus/, no validator listening: written by\n\
         # `tests/lab/oracle --record`, and by no hand.\n",
    );
    let width = verdicts.keys().map(String::len).max().unwrap_or_default();
    text += &format!("#{:width$}", "", width = width - 1);
    for version in VERSIONS {
        text += &format!("  {version:7}");
    }
    text = text.trim_end().to_owned() + "\n";
    for (name, row) in verdicts {
        let row = row.map(|v| format!("  {v:7}")).concat();
        text += &format!("{}\n", format!("{name:width$}{row}").trim_end());
    }
    fs::write(folder().join("verdicts.txt"), text).unwrap();
}
