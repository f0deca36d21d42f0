//! Folders of a machine as they were at one moment, and what is different at another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::machine::Machine;

/// What stands at a path: kind and mode, owner, and content or target.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    pub mode: u32,
    pub owner: (u32, u32),
    pub content: Vec<u8>,
}

/// Everything below some folders, by the path that it has in the machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    /// Reads whole folders. One that isn't there has nothing in it.
    pub fn of(machine: &Machine, folders: &[&str]) -> Result<Tree> {
        let mut nodes = BTreeMap::new();
        for folder in folders {
            walk(machine, Path::new(folder), &mut nodes)?;
        }
        Ok(Tree(nodes))
    }

    /// Only what `keep` says.
    pub fn only(mut self, keep: impl Fn(&str) -> bool) -> Tree {
        self.0.retain(|path, _| path.to_str().is_some_and(&keep));
        self
    }

    pub fn get(&self, path: &str) -> Result<&Node> {
        self.0
            .get(Path::new(path))
            .with_context(|| format!("{path} isn't there"))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Fails with the paths that differ, and how.
    #[track_caller]
    pub fn is_still(&self, now: &Tree) {
        let paths: BTreeSet<&PathBuf> = self.0.keys().chain(now.0.keys()).collect();
        let differences: Vec<String> = paths
            .into_iter()
            .filter_map(|path| {
                let how = match (self.0.get(path), now.0.get(path)) {
                    (Some(then), Some(now)) if then == now => return None,
                    (Some(then), Some(now)) if then.content != now.content => "other content",
                    (Some(then), Some(now)) if then.mode != now.mode => "another mode",
                    (Some(_), Some(_)) => "another owner",
                    (Some(_), None) => "gone",
                    (None, _) => "new",
                };
                Some(format!("{}: {how}", path.display()))
            })
            .collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

fn walk(machine: &Machine, path: &Path, nodes: &mut BTreeMap<PathBuf, Node>) -> Result<()> {
    let outside = machine.file(path);
    let context = || format!("reading {} of the machine", path.display());
    let Ok(meta) = fs::symlink_metadata(&outside) else {
        return Ok(());
    };
    let content = if meta.is_symlink() {
        let target = fs::read_link(&outside).with_context(context)?;
        target.into_os_string().into_encoded_bytes()
    } else if meta.is_dir() {
        for entry in fs::read_dir(&outside).with_context(context)? {
            walk(
                machine,
                &path.join(entry.with_context(context)?.file_name()),
                nodes,
            )?;
        }
        Vec::new()
    } else {
        fs::read(&outside).with_context(context)?
    };
    let node = Node {
        mode: meta.permissions().mode(),
        owner: (meta.uid(), meta.gid()),
        content,
    };
    nodes.insert(path.to_owned(), node);
    Ok(())
}
