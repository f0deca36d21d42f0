//! A filesystem in memory that knows what is durable: a file's content from its fsync on, a folder's entries from the
//! folder's. A crash keeps what is durable and, of the rest, whatever it pleases.

mod loss;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use kmsctl::host::Entry;
use kmsctl::inventory::FileFacts;

pub use loss::Loss;

type Id = usize;

/// Who changes something: what the modelled tmkms writes may be spared by a crash, since it never fsyncs and losing its
/// own last signature is nothing that kmsctl could prevent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    Kmsctl,
    Systemd,
    Tmkms,
}

#[derive(Clone, Debug)]
enum Change {
    Enter(String, Id),
    Leave(String),
    Rename(String, String, Id),
}

#[derive(Clone, Debug)]
enum Node {
    File {
        now: Arc<[u8]>,
        durable: Arc<[u8]>,
        by: Hand,
        mode: u32,
    },
    Folder {
        now: BTreeMap<String, Id>,
        durable: BTreeMap<String, Id>,
        since: Vec<(Hand, Change)>,
    },
    Link(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Disk {
    nodes: Vec<Arc<Node>>,
}

const ROOT: Id = 0;

fn folder() -> Arc<Node> {
    Arc::new(Node::Folder {
        now: BTreeMap::new(),
        durable: BTreeMap::new(),
        since: Vec::new(),
    })
}

fn error<T>(kind: ErrorKind) -> io::Result<T> {
    Err(kind.into())
}

impl Disk {
    pub fn new() -> Disk {
        Disk {
            nodes: vec![folder()],
        }
    }

    /// Puts a durable file there, its folders made: how a host is before anything happens.
    pub fn install(&mut self, path: &str, text: &str) {
        let path = Path::new(path);
        self.install_folders(path.parent().unwrap());
        self.create(Hand::Systemd, path, text.as_bytes()).unwrap();
        self.sync(path).unwrap();
        self.sync_folder(path.parent().unwrap()).unwrap();
    }

    pub fn install_link(&mut self, path: &str, target: &str) {
        let path = Path::new(path);
        self.install_folders(path.parent().unwrap());
        self.symlink(Hand::Systemd, path, Path::new(target))
            .unwrap();
        self.sync_folder(path.parent().unwrap()).unwrap();
    }

    pub fn install_folders(&mut self, path: &Path) {
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for (above, folder) in ancestors.iter().zip(ancestors.iter().skip(1)) {
            match self.mkdir(Hand::Systemd, folder) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                made => made.unwrap(),
            }
            self.sync_folder(above).unwrap();
        }
    }

    /// The node at a path and its link-free path; links in the path are followed below the root, the last one if asked.
    fn walk(&self, path: &Path, follow: bool) -> io::Result<Option<(Id, PathBuf)>> {
        let mut left: VecDeque<String> = words(path);
        let (mut at, mut real) = (vec![ROOT], PathBuf::from("/"));
        let mut links = 0;
        while let Some(word) = left.pop_front() {
            if word == ".." {
                if at.len() > 1 {
                    at.pop();
                    real.pop();
                }
                continue;
            }
            let Node::Folder { now, .. } = &*self.nodes[at[at.len() - 1]] else {
                return error(ErrorKind::NotADirectory);
            };
            let Some(id) = now.get(&word).copied() else {
                return Ok(None);
            };
            if let Node::Link(target) = &*self.nodes[id]
                && (follow || !left.is_empty())
            {
                links += 1;
                if links > 40 {
                    return error(ErrorKind::InvalidInput);
                }
                if target.is_absolute() {
                    at.truncate(1);
                    real = PathBuf::from("/");
                }
                for word in words(target).into_iter().rev() {
                    left.push_front(word);
                }
                continue;
            }
            at.push(id);
            real.push(word);
        }
        Ok(Some((at[at.len() - 1], real)))
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        match self.walk(path, true)? {
            Some((id, _)) => Ok(id),
            None => error(ErrorKind::NotFound),
        }
    }

    fn place(&self, path: &Path) -> io::Result<(Id, String)> {
        let name = path.file_name().and_then(OsStr::to_str);
        let (Some(above), Some(name)) = (path.parent(), name) else {
            return error(ErrorKind::InvalidInput);
        };
        Ok((self.find(above)?, name.to_owned()))
    }

    fn entries(&self, folder: Id) -> io::Result<&BTreeMap<String, Id>> {
        match &*self.nodes[folder] {
            Node::Folder { now, .. } => Ok(now),
            _ => error(ErrorKind::NotADirectory),
        }
    }

    fn change(&mut self, hand: Hand, folder: Id, change: Change) -> io::Result<()> {
        let Node::Folder { now, since, .. } = Arc::make_mut(&mut self.nodes[folder]) else {
            return error(ErrorKind::NotADirectory);
        };
        apply(now, &change);
        since.push((hand, change));
        Ok(())
    }

    fn add(&mut self, hand: Hand, path: &Path, node: Node) -> io::Result<Id> {
        let (folder, name) = self.place(path)?;
        if self.entries(folder)?.contains_key(&name) {
            return error(ErrorKind::AlreadyExists);
        }
        let id = self.nodes.len();
        self.nodes.push(Arc::new(node));
        self.change(hand, folder, Change::Enter(name, id))?;
        Ok(id)
    }

    pub fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let found = match self.walk(path, false) {
            Err(e) if e.kind() == ErrorKind::NotADirectory => None,
            found => found?,
        };
        let facts = |mode| FileFacts {
            uid: 0,
            gid: 0,
            mode,
        };
        Ok(found.map(|(id, _)| match &*self.nodes[id] {
            Node::File { mode, .. } => Entry::File(facts(*mode)),
            Node::Folder { .. } => Entry::Folder(facts(0o755)),
            Node::Link(target) => Entry::Link(target.clone()),
        }))
    }

    pub fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        match &*self.nodes[self.find(path)?] {
            Node::File { now, .. } => Ok(Arc::clone(now)),
            _ => error(ErrorKind::InvalidInput),
        }
    }

    pub fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        match self.walk(path, true) {
            Ok(None) => Ok(Vec::new()),
            Err(e) if e.kind() == ErrorKind::NotADirectory => Ok(Vec::new()),
            Ok(Some((id, _))) => Ok(self
                .entries(id)
                .map(|entries| entries.keys().cloned().collect())
                .unwrap_or_default()),
            Err(e) => Err(e),
        }
    }

    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        match self.walk(path, true)? {
            Some((id, real)) => self.entries(id).map(|_| real),
            None => error(ErrorKind::NotFound),
        }
    }

    pub fn mkdir(&mut self, hand: Hand, path: &Path) -> io::Result<()> {
        let node = Node::Folder {
            now: BTreeMap::new(),
            durable: BTreeMap::new(),
            since: Vec::new(),
        };
        self.add(hand, path, node).map(|_| ())
    }

    pub fn create(&mut self, hand: Hand, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let node = Node::File {
            now: bytes.into(),
            durable: [].into(),
            by: hand,
            mode: 0o644,
        };
        self.add(hand, path, node).map(|_| ())
    }

    pub fn symlink(&mut self, hand: Hand, path: &Path, target: &Path) -> io::Result<()> {
        self.add(hand, path, Node::Link(target.to_owned()))
            .map(|_| ())
    }

    /// Gives an existing file other content, in place.
    pub fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let id = self.find(path)?;
        match Arc::make_mut(&mut self.nodes[id]) {
            Node::File { now, .. } => {
                *now = bytes.into();
                Ok(())
            }
            _ => error(ErrorKind::InvalidInput),
        }
    }

    /// Renames within a folder; what is at the new name is replaced.
    pub fn rename(&mut self, hand: Hand, from: &Path, to: &Path) -> io::Result<()> {
        let ((folder, from), (_, to)) = (self.place(from)?, self.place(to)?);
        let Some(id) = self.entries(folder)?.get(&from).copied() else {
            return error(ErrorKind::NotFound);
        };
        self.change(hand, folder, Change::Rename(from, to, id))
    }

    /// Takes a file, a link or an empty folder away.
    pub fn unlink(&mut self, hand: Hand, path: &Path) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        let Some(id) = self.entries(folder)?.get(&name).copied() else {
            return error(ErrorKind::NotFound);
        };
        if let Node::Folder { now, .. } = &*self.nodes[id]
            && !now.is_empty()
        {
            return error(ErrorKind::DirectoryNotEmpty);
        }
        self.change(hand, folder, Change::Leave(name))
    }

    pub fn sync(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        if let Node::File { now, durable, .. } = Arc::make_mut(&mut self.nodes[id]) {
            *durable = Arc::clone(now);
        }
        Ok(())
    }

    pub fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        let Node::Folder {
            now,
            durable,
            since,
        } = Arc::make_mut(&mut self.nodes[id])
        else {
            return error(ErrorKind::NotADirectory);
        };
        durable.clone_from(now);
        since.clear();
        Ok(())
    }

    /// What of a file a crash can't take; none where its content was never made durable.
    pub fn durable(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        match &*self.nodes[self.find(path)?] {
            Node::File { durable, .. } => Ok(Arc::clone(durable)),
            _ => error(ErrorKind::InvalidInput),
        }
    }
}

fn apply(entries: &mut BTreeMap<String, Id>, change: &Change) {
    match change {
        Change::Enter(name, id) => {
            entries.insert(name.clone(), *id);
        }
        Change::Leave(name) => {
            entries.remove(name);
        }
        Change::Rename(from, to, id) => {
            if entries.get(from) == Some(id) {
                entries.remove(from);
            }
            entries.insert(to.clone(), *id);
        }
    }
}

fn words(path: &Path) -> VecDeque<String> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(word) => Some(word.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_owned()),
            _ => None,
        })
        .collect()
}
