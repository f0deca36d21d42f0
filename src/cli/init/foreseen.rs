//! The host's files as they will be once a new signer's are made, for checks that are to judge them before. It never
//! changes anything.

use std::io;
use std::path::{Path, PathBuf};

use super::write::Plan;
use crate::content::Fingerprint;
use crate::floor::Floor;
use crate::host::files::Tree;
use crate::host::{Entry, Files, Like};
use crate::inventory::FileFacts;
use crate::paths::{ManagedLink, ManagedPath};

/// A host's files, and what is about to be made among them.
pub struct Foreseen<'a> {
    pub files: &'a Tree,
    pub plan: &'a Plan,
}

fn unchanged() -> io::Error {
    io::Error::new(
        io::ErrorKind::ReadOnlyFilesystem,
        "what is only foreseen can't be changed",
    )
}

impl Files for Foreseen<'_> {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        // A folder that stands for a host is its `/`, whoever owns it.
        if path == Path::new("/") {
            return Ok(Some(Entry::Folder(FileFacts {
                uid: 0,
                gid: 0,
                mode: 0o755,
            })));
        }
        match self.plan.item(path) {
            Some((is, None)) => Ok(Some(Entry::Folder(is))),
            Some((is, Some(_))) => Ok(Some(Entry::File(is))),
            None => self.files.entry(path),
        }
    }

    fn fingerprint(&self, path: &Path) -> io::Result<Fingerprint> {
        self.files.fingerprint(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.plan.item(path) {
            Some((_, Some(content))) => Ok(content.as_bytes().to_vec()),
            _ => self.files.read(path),
        }
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.files.list(folder)
    }

    fn acl(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.plan.item(path) {
            Some(_) => Ok(None),
            None => self.files.acl(path),
        }
    }

    fn resolve(&self, folder: &Path) -> io::Result<PathBuf> {
        match self.plan.item(folder) {
            // That no link leads to a new folder was seen when it was planned.
            Some((_, None)) => Ok(folder.to_owned()),
            _ => self.files.resolve(folder),
        }
    }

    fn sync(&self, _path: &Path) -> io::Result<()> {
        Err(unchanged())
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        Err(unchanged())
    }

    fn create_folder(&self, _path: &ManagedPath) -> io::Result<()> {
        Err(unchanged())
    }

    fn create(&self, _path: &ManagedPath, _bytes: &[u8], _like: &Like) -> io::Result<()> {
        Err(unchanged())
    }

    fn lay_floor(&self, _floor: &Floor, _like: &Path) -> io::Result<()> {
        Err(unchanged())
    }

    fn withdraw_floor(&self, _floor: &Floor) -> io::Result<()> {
        Err(unchanged())
    }

    fn remove(&self, _path: &ManagedPath) -> io::Result<()> {
        Err(unchanged())
    }

    fn set_link(&self, _link: &ManagedLink, _target: Option<&Path>) -> io::Result<()> {
        Err(unchanged())
    }
}
