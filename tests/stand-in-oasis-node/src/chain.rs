//! What the stand-ins share in place of a chain: a folder. Epochs follow the clock; a node's registration is a file.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How long a registration lasts.
const LASTS: u64 = 2;

/// The fixed things, in `chain.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rules {
    /// When epoch 0 began.
    pub begun: Timestamp,
    pub epoch_ms: u64,
    pub upgrade_epoch: u64,
    /// From this version on it is the new one.
    pub new_version: [u16; 3],
    /// SHA-256 of the secrets, in hex.
    pub checksum: String,
    pub policy: String,
}

/// A node's registration, and that it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub node: String,
    pub version: [u16; 3],
    pub at: Timestamp,
    /// Registered without a gap since this epoch.
    pub since: u64,
    pub expiration: u64,
    /// Written anew every tick while its process runs.
    pub seen: Timestamp,
    /// What it gives to those that may ask: the made-up secrets of the tests.
    pub gives: String,
}

pub struct Chain {
    folder: PathBuf,
    pub rules: Rules,
}

impl Chain {
    pub fn open(folder: &Path) -> Result<Chain, String> {
        let path = folder.join("chain.json");
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = fs::read(&path).map_err(|e| wrong(&e))?;
        Ok(Chain {
            folder: folder.to_owned(),
            rules: serde_json::from_slice(&text).map_err(|e| wrong(&e))?,
        })
    }

    #[must_use]
    pub fn epoch(&self, now: Timestamp) -> u64 {
        let since = now.duration_since(self.rules.begun).as_millis().max(0);
        u64::try_from(since).unwrap_or(0) / self.rules.epoch_ms.max(1)
    }

    /// What a node registers with.
    #[must_use]
    pub fn entry(&self, node: &[u8; 32], version: [u16; 3], gives: &str, now: Timestamp) -> Entry {
        let epoch = self.epoch(now);
        Entry {
            node: HEXLOWER.encode(node),
            version,
            at: now,
            since: epoch,
            expiration: epoch + LASTS,
            seen: now,
            gives: gives.to_owned(),
        }
    }

    pub fn put(&self, entry: &Entry) -> Result<(), String> {
        let folder = self.folder.join("nodes");
        let path = folder.join(format!("{}.json", entry.node));
        let new = folder.join(format!(".{}.new", entry.node));
        let text = serde_json::to_vec(entry).map_err(|e| e.to_string())?;
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Everybody who ever registered.
    pub fn entries(&self) -> Result<Vec<Entry>, String> {
        let folder = self.folder.join("nodes");
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", folder.display());
        let mut found = Vec::new();
        let Ok(names) = fs::read_dir(&folder) else {
            return Ok(found);
        };
        for name in names {
            let path = name.map_err(|e| wrong(&e))?.path();
            if path.extension().is_some_and(|e| e == "json") {
                let text = fs::read(&path).map_err(|e| wrong(&e))?;
                found.push(serde_json::from_slice(&text).map_err(|e| wrong(&e))?);
            }
        }
        Ok(found)
    }

    /// Drawn at the last change of epochs: who was registered before it, and still is.
    pub fn committee(&self, now: Timestamp) -> Result<Vec<Entry>, String> {
        let epoch = self.epoch(now);
        let sits = |entry: &Entry| entry.expiration >= epoch && entry.since < epoch;
        Ok(self.entries()?.into_iter().filter(sits).collect())
    }
}
