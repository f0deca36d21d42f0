//! The way to a file: every folder and link that leads there, so that it can be laid out again. It follows links as the
//! host itself does and never leads out of the host's root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::{Entry, Files};
use crate::inventory::FileFacts;

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A way, and its end.
#[derive(Debug, Default)]
pub struct Trail {
    /// By their link-free paths.
    pub folders: Vec<(PathBuf, FileFacts)>,
    /// Each with the target that it names.
    pub links: Vec<(PathBuf, PathBuf)>,
    pub end: End,
}

/// What a way leads to, by its link-free path.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum End {
    File(PathBuf, FileFacts),
    Folder(PathBuf),
    /// A device or a socket.
    Other(PathBuf),
    /// Nothing is there, or nothing that the rest of the path could be in.
    #[default]
    Nothing,
}

/// Follows a path to its end.
///
/// # Errors
/// Something on the way can't be looked at; links in a circle.
pub fn follow(files: &dyn Files, path: &Path) -> Result<Trail> {
    let mut trail = Trail::default();
    let mut at = PathBuf::from("/");
    let mut ahead = VecDeque::new();
    put_in_front(&mut ahead, path);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let context = || format!("looking at {}", next.display());
        match files.entry(&next).with_context(context)? {
            None => return Ok(trail),
            Some(Entry::Folder(facts)) => {
                trail.folders.push((next.clone(), facts));
                at = next;
            }
            Some(Entry::Link(target)) => {
                if trail.links.len() == MOST_LINKS {
                    bail!("{}: links that lead in a circle", path.display());
                }
                put_in_front(&mut ahead, &target);
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                trail.links.push((next, target));
            }
            Some(_) if !ahead.is_empty() => return Ok(trail),
            Some(Entry::File(facts)) => {
                trail.end = End::File(next, facts);
                return Ok(trail);
            }
            Some(Entry::Other) => {
                trail.end = End::Other(next);
                return Ok(trail);
            }
        }
    }
    trail.end = End::Folder(at);
    Ok(trail)
}

fn put_in_front(ahead: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}
