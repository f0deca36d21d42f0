//! A host's files while many are looked at: each is read once, so that all who look see the same, and no path is walked
//! again for every signer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use zeroize::Zeroizing;

use super::{Entry, Files, Host, Like, Space};
use crate::content::Fingerprint;
use crate::floor::Floor;
use crate::paths::{ManagedLink, ManagedPath};

/// What was seen. Contents aren't kept: they may be large, and secret.
struct Seen {
    files: Rc<dyn Files>,
    entries: RefCell<BTreeMap<PathBuf, Option<Entry>>>,
    lists: RefCell<BTreeMap<PathBuf, Vec<String>>>,
    folders: RefCell<BTreeMap<PathBuf, PathBuf>>,
    acls: RefCell<BTreeMap<PathBuf, Option<Vec<u8>>>>,
}

/// Looks at a host whose entries, lists and folders are read once each. For looking only: what is changed meanwhile isn't
/// seen.
pub fn once<T>(host: &mut Host, look: impl FnOnce(&mut Host) -> T) -> T {
    let files = Rc::clone(&host.files);
    host.files = Rc::new(Seen {
        files: Rc::clone(&files),
        entries: RefCell::default(),
        lists: RefCell::default(),
        folders: RefCell::default(),
        acls: RefCell::default(),
    });
    let seen = look(host);
    host.files = files;
    seen
}

/// What is known of a path, or is read now. What fails is tried again.
fn known<T: Clone>(
    all: &RefCell<BTreeMap<PathBuf, T>>,
    path: &Path,
    read: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    if let Some(known) = all.borrow().get(path) {
        return Ok(known.clone());
    }
    let read = read()?;
    all.borrow_mut().insert(path.to_owned(), read.clone());
    Ok(read)
}

impl Files for Seen {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        known(&self.entries, path, || self.files.entry(path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        known(&self.lists, folder, || self.files.list(folder))
    }

    fn resolve(&self, folder: &Path) -> io::Result<PathBuf> {
        known(&self.folders, folder, || self.files.resolve(folder))
    }

    fn acl(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        known(&self.acls, path, || self.files.acl(path))
    }

    fn fingerprint(&self, path: &Path) -> io::Result<Fingerprint> {
        self.files.fingerprint(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.read(path)
    }

    fn read_secret(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        self.files.read_secret(path)
    }

    fn space(&self, folder: &Path) -> io::Result<Option<Space>> {
        self.files.space(folder)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.files.sync(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.files.sync_folder(folder)
    }

    fn create_folder(&self, path: &ManagedPath) -> io::Result<()> {
        self.files.create_folder(path)
    }

    fn create(&self, path: &ManagedPath, bytes: &[u8], like: &Like) -> io::Result<()> {
        self.files.create(path, bytes, like)
    }

    fn lay_floor(&self, floor: &Floor, like: &Path) -> io::Result<()> {
        self.files.lay_floor(floor, like)
    }

    fn withdraw_floor(&self, floor: &Floor) -> io::Result<()> {
        self.files.withdraw_floor(floor)
    }

    fn remove(&self, path: &ManagedPath) -> io::Result<()> {
        self.files.remove(path)
    }

    fn set_link(&self, link: &ManagedLink, target: Option<&Path>) -> io::Result<()> {
        self.files.set_link(link, target)
    }
}
