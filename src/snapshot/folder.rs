//! Writes nodes into a new folder. A folder of the name is there only when all is in it; nothing is written through a link,
//! and nothing that is there is touched.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid};
use tempfile::TempDir;

use super::{Node, Nodes};
use crate::exit::Failure;
use crate::inventory::FileFacts;

/// A tree that isn't finished: under a name of its own beside the wanted one, and gone when this is dropped.
pub struct Unfinished {
    folder: TempDir,
    wanted: PathBuf,
    /// The wanted folder is there and empty.
    replaces: bool,
}

impl Unfinished {
    /// Begins a tree that is to be at `wanted`.
    ///
    /// # Errors
    /// Refused where anything but an empty folder is there.
    pub fn begin(wanted: &Path) -> Result<Unfinished, Failure> {
        let context = || format!("looking at {}", wanted.display());
        let replaces = match fs::symlink_metadata(wanted) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(anyhow::Error::from(e).context(context()).into()),
            Ok(meta) if meta.is_dir() => {
                if fs::read_dir(wanted).with_context(context)?.next().is_some() {
                    return Err(Failure::refused(format!(
                        "{}: the folder isn't empty; name a new one",
                        wanted.display()
                    )));
                }
                true
            }
            Ok(_) => {
                return Err(Failure::refused(format!(
                    "{}: something else than a folder is there; name a new one",
                    wanted.display()
                )));
            }
        };
        // `.` and `x/..` have a name as well, once they are spelled out.
        let spelled = std::path::absolute(wanted).with_context(context)?;
        let wanted = match fs::canonicalize(&spelled) {
            Ok(real) => real,
            Err(_) => spelled,
        };
        // It is replaced by a whole one, and who is in it would be left in the empty one.
        if std::env::current_dir().is_ok_and(|here| here == wanted) {
            return Err(Failure::refused(format!(
                "{}: you are in this folder; name a new one",
                wanted.display()
            )));
        }
        let parent = wanted.parent().unwrap_or(Path::new("/"));
        let folder = tempfile::Builder::new()
            .prefix(".kmsctl-snapshot-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .with_context(|| format!("making a folder in {}", parent.display()))?;
        Ok(Unfinished {
            folder,
            wanted,
            replaces,
        })
    }

    /// Where the tree is now.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes all nodes, durably.
    ///
    /// # Errors
    /// What couldn't be written, by its place in the tree.
    pub fn write(&self, nodes: &Nodes) -> Result<()> {
        let root = rustix::fs::open(
            self.path(),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .context("opening the new folder")?;
        let context = |path: &Path| format!("writing {} into the snapshot", path.display());
        for (path, node) in nodes {
            put(&root, path, node).with_context(|| context(path))?;
        }
        // From the inside out: a folder that may not be written to is filled by then.
        for (path, node) in nodes.iter().rev() {
            if let Node::Folder(facts) = node {
                close(&root, path, facts).with_context(|| context(path))?;
            }
        }
        rustix::fs::fsync(&root).context("making the snapshot durable")?;
        Ok(())
    }

    /// Gives the tree its name.
    ///
    /// # Errors
    /// Something came to that name meanwhile.
    pub fn finish(self) -> Result<PathBuf> {
        let context = || format!("giving the snapshot its name {}", self.wanted.display());
        let flags = if self.replaces {
            // An empty folder only: of another one the kernel says that it isn't.
            RenameFlags::empty()
        } else {
            RenameFlags::NOREPLACE
        };
        let here = rustix::fs::CWD;
        rustix::fs::renameat_with(here, self.path(), here, &self.wanted, flags)
            .with_context(context)?;
        let _its_old_name = self.folder.keep();
        if let Some(parent) = self.wanted.parent() {
            File::open(parent)
                .and_then(|folder| folder.sync_all())
                .with_context(context)?;
        }
        Ok(self.wanted)
    }
}

/// Opens a path of the tree, no link on the way.
fn open(root: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    Ok(rustix::fs::openat2(
        root,
        below,
        flags | OFlags::CLOEXEC,
        Mode::from_raw_mode(if flags.contains(OFlags::CREATE) {
            0o600
        } else {
            0
        }),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?)
}

fn put(root: &OwnedFd, path: &Path, node: &Node) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a path without a name");
    let name = path.file_name().ok_or_else(invalid)?;
    let folder = path.parent().ok_or_else(invalid)?;
    let folder = open(root, folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
    match node {
        Node::Folder(_) => rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o700))?,
        Node::Link(target) => rustix::fs::symlinkat(target, &folder, name)?,
        Node::File(facts, bytes) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut file = File::from(open(root, path, flags)?);
            file.write_all(bytes)?;
            own(&file, facts, 0)?;
            file.sync_all()?;
        }
    }
    Ok(())
}

fn close(root: &OwnedFd, path: &Path, facts: &FileFacts) -> io::Result<()> {
    let folder = File::from(open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?);
    // Who isn't root couldn't take the tree away again, nor rehearse in it.
    let at_least = if is_root() { 0 } else { 0o700 };
    own(&folder, facts, at_least)?;
    folder.sync_all()
}

/// Gives a file its mode, and as root its owner: nobody else can.
fn own(file: &File, facts: &FileFacts, at_least: u32) -> io::Result<()> {
    if is_root() {
        let (uid, gid) = (Uid::from_raw(facts.uid), Gid::from_raw(facts.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    Ok(rustix::fs::fchmod(
        file,
        Mode::from_raw_mode(facts.mode | at_least),
    )?)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
