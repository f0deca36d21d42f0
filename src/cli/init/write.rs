//! A new signer's folders and files, written as a whole or taken back as a whole.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};
use crate::host::files::{Made, Tree};
use crate::inventory::FileFacts;
use crate::paths::NewPath;

/// What to make, in order.
#[derive(Debug)]
pub struct Plan {
    own: FileFacts,
    items: Vec<Item>,
}

struct Item {
    path: NewPath,
    is: FileFacts,
    /// None for a folder.
    content: Option<Zeroizing<String>>,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04o}", self.path, self.is.mode)
    }
}

impl Plan {
    /// Nothing yet, for an owner.
    pub fn new(own: FileFacts) -> Plan {
        Plan {
            own,
            items: Vec::new(),
        }
    }

    pub fn folder(&mut self, path: NewPath, is: FileFacts) {
        if !self.items.iter().any(|item| item.path == path) {
            self.items.push(Item {
                path,
                is,
                content: None,
            });
        }
    }

    /// A key file: its owner's alone.
    pub fn secret(&mut self, path: &NewPath, content: Zeroizing<String>) {
        self.items.push(Item {
            path: path.clone(),
            is: FileFacts {
                mode: 0o600,
                ..self.own
            },
            content: Some(content),
        });
    }

    /// Another file of the signer's own.
    pub fn own(&mut self, path: &NewPath, content: String) {
        self.secret(path, Zeroizing::new(content));
    }

    /// A file that everybody may read and root alone may change.
    pub fn root(&mut self, path: &NewPath, content: String) {
        let is = FileFacts {
            uid: 0,
            gid: 0,
            mode: 0o644,
        };
        self.items.push(Item {
            path: path.clone(),
            is,
            content: Some(Zeroizing::new(content)),
        });
    }

    /// What a path will be, with its content where it is a file.
    pub fn item(&self, path: &Path) -> Option<(FileFacts, Option<&str>)> {
        let mut items = self.items.iter();
        let item = items.find(|item| item.path.as_path() == path)?;
        let content = item.content.as_ref().map(|content| content.as_str());
        Some((item.is, content))
    }

    /// The files, folders left out.
    pub fn files(&self) -> Vec<NewPath> {
        let files = self.items.iter().filter(|item| item.content.is_some());
        files.map(|item| item.path.clone()).collect()
    }

    pub fn count(&self) -> usize {
        self.files().len()
    }

    /// Makes everything, or leaves nothing of it behind. A signal that asks to end is heeded between two files, and then
    /// everything is taken back.
    ///
    /// # Errors
    /// What couldn't be made, and what couldn't be taken back either.
    pub fn carry_out(&self, files: &Tree) -> Result<(), Failure> {
        let ended = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&ended))
                .context("watching for signals")?;
        }
        let mut made: Vec<Made> = Vec::new();
        for item in &self.items {
            let result = match ended.load(Ordering::SeqCst) {
                true => Err(anyhow!("a signal asked to end")),
                false => item
                    .make(files, &mut made)
                    .with_context(|| format!("writing {}", item.path)),
            };
            if let Err(error) = result {
                return Err(take_back(files, &made, error));
            }
        }
        Ok(())
    }
}

impl Item {
    fn make(&self, files: &Tree, made: &mut Vec<Made>) -> std::io::Result<()> {
        match &self.content {
            Some(content) => files.create_file(&self.path, content.as_bytes(), self.is, made),
            None => files.create_new_folder(&self.path, self.is, made),
        }
    }
}

fn take_back(files: &Tree, made: &[Made], error: anyhow::Error) -> Failure {
    let mut left = Vec::new();
    for one in made.iter().rev() {
        if let Err(e) = files.take_back(one) {
            left.push(format!("{} ({e})", one.path()));
        }
    }
    if left.is_empty() {
        return Failure::from(error.context("nothing of the new signer is left behind"));
    }
    let mut failure = Failure::from(error.context(format!(
        "these are left behind, take them away by hand: {}",
        left.join(", ")
    )));
    failure.exit = Exit::HalfWay;
    failure
}
