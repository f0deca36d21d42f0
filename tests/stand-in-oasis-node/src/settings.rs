//! Where a stand-in finds its things: a node's config, searched and not parsed, and a settings file of its own.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::answer::Shape;

/// Where the settings lie, unless this variable names another file.
pub const VARIABLE: &str = "STAND_IN_OASIS_NODE";
const SETTINGS: &str = "/etc/stand-in-oasis-node.json";

/// What a real node gets from its machine and its network.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The folder that stands for the chain.
    pub chain: PathBuf,
    /// The name of its processor: what is sealed on another doesn't open.
    pub cpu: String,
    /// Of its identity and its enclaves' keys.
    pub seed: u8,
    /// `22.2`, `23.0` or `26.1`: what the command line prints.
    pub version: String,
    pub replication_ms: u64,
}

impl Settings {
    pub fn read() -> Result<Settings, String> {
        let path =
            std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from(SETTINGS), PathBuf::from);
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = fs::read(&path).map_err(|e| wrong(&e))?;
        serde_json::from_slice(&text).map_err(|e| wrong(&e))
    }

    #[must_use]
    pub fn shape(&self) -> Shape {
        match self.version.split('.').next() {
            Some("22") => Shape::Flat,
            Some("23") => Shape::GlobalAndWorker,
            _ => Shape::Secrets,
        }
    }

    /// Its identity.
    #[must_use]
    pub fn node(&self) -> [u8; 32] {
        [self.seed; 32]
    }
}

/// What a node's config says.
#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    pub runtime: String,
    pub bundle: PathBuf,
    pub socket: PathBuf,
}

impl Config {
    pub fn read(path: &Path) -> Result<Config, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = fs::read_to_string(path).map_err(|e| wrong(&e))?;
        let text: String = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().to_owned() + "\n")
            .collect();
        let word = |key: &str| {
            let (_, after) = text.split_once(key)?;
            let ends = |c: char| c.is_whitespace() || "\"',{}[]".contains(c);
            after
                .split(ends)
                .find(|word| !word.is_empty() && *word != "-")
        };
        let data_dir = word("data_dir:").or_else(|| word("datadir:"));
        let data_dir = PathBuf::from(data_dir.ok_or_else(|| wrong(&"no data dir"))?);
        let id = |word: &&str| word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
        let runtime = text.split(|c: char| !c.is_ascii_hexdigit()).find(id);
        let bundle = word("paths:").filter(|path| path.ends_with(".orc"));
        Ok(Config {
            runtime: runtime.ok_or_else(|| wrong(&"no runtime id"))?.to_owned(),
            bundle: bundle.ok_or_else(|| wrong(&"no bundle"))?.into(),
            socket: word("internal_socket_path:")
                .map_or_else(|| data_dir.join("internal.sock"), PathBuf::from),
            data_dir,
        })
    }

    /// The sealed database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        let runtime = self.data_dir.join("runtimes").join(&self.runtime);
        runtime.join("worker-local-storage.badger.db")
    }

    /// What the node is told to do wrong, read anew all the time.
    #[must_use]
    pub fn trouble(&self) -> Vec<String> {
        let text = fs::read_to_string(self.data_dir.join("stand-in-trouble"));
        let text = text.unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }
}
