//! The way to a path as the kernel walks it for somebody: folder by folder, links put in where they stand, each folder
//! to be passed. Every place is looked at once, however many ask for it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::access::{Need, Object, may};
use crate::accounts::Who;
use crate::host::{Entry, Files};

/// As many links as the kernel follows.
const LINKS: usize = 40;

/// A host's files, as they were when they were first asked for.
pub struct Sight<'a> {
    files: &'a dyn Files,
    seen: RefCell<BTreeMap<PathBuf, Seen>>,
}

/// What stands at a link-free path; or why that can't be said.
type Seen = Result<Option<Place>, (io::ErrorKind, String)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Object(Object),
    Link(PathBuf),
    Other,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The folders that are passed, link-free, in their order.
    pub folders: Vec<PathBuf>,
    /// What the path names, link-free, whether something is there or not; none where the way there ends before.
    pub end: Option<PathBuf>,
}

/// What keeps somebody from a path: the path itself, or a folder before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    pub path: PathBuf,
    pub need: Need,
    pub object: Object,
}

impl<'a> Sight<'a> {
    pub fn of(files: &'a dyn Files) -> Sight<'a> {
        Sight {
            files,
            seen: RefCell::default(),
        }
    }

    /// What stands at a link-free path.
    ///
    /// # Errors
    /// Whoever runs kmsctl can't look, at its access control list too.
    pub fn look(&self, path: &Path) -> io::Result<Option<Place>> {
        if let Some(seen) = self.seen.borrow().get(path) {
            return seen.clone().map_err(again);
        }
        let seen = self.fresh(path).map_err(|e| (e.kind(), e.to_string()));
        self.seen.borrow_mut().insert(path.to_owned(), seen.clone());
        seen.map_err(again)
    }

    fn fresh(&self, path: &Path) -> io::Result<Option<Place>> {
        let (folder, facts) = match self.files.entry(path)? {
            None => return Ok(None),
            Some(Entry::Link(target)) => return Ok(Some(Place::Link(target))),
            Some(Entry::Other) => return Ok(Some(Place::Other)),
            Some(Entry::File(facts)) => (false, facts),
            Some(Entry::Folder(facts)) => (true, facts),
        };
        let acl = self.files.acl(path)?;
        Ok(Some(Place::Object(Object { folder, facts, acl })))
    }

    /// The file or folder at a link-free path, if it is one.
    pub fn object(&self, path: &Path) -> io::Result<Option<Object>> {
        Ok(match self.look(path)? {
            Some(Place::Object(object)) => Some(object),
            _ => None,
        })
    }

    /// Walks to a path.
    ///
    /// # Errors
    /// As [`Sight::look`]; more links than the kernel follows.
    pub fn way(&self, path: &Path) -> io::Result<Way> {
        let mut rest = names(path);
        let mut folders: Vec<PathBuf> = Vec::new();
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if !folders.contains(&here) {
                folders.push(here.clone());
            }
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            match self.look(&next)? {
                Some(Place::Link(target)) => {
                    links += 1;
                    if links > LINKS {
                        return Err(io::Error::other("more links than the kernel follows"));
                    }
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    rest.extend(names(&target));
                }
                Some(Place::Object(object)) if object.folder => here = next,
                _ => {
                    let end = rest.is_empty().then_some(next);
                    return Ok(Way { folders, end });
                }
            }
        }
        Ok(Way {
            folders,
            end: Some(here),
        })
    }

    /// What the rights on the way to a path, and its own, keep somebody from. What isn't there keeps nobody.
    ///
    /// # Errors
    /// As [`Sight::look`].
    pub fn barrier(&self, who: &Who, way: &Way, need: Need) -> io::Result<Option<Barrier>> {
        let passed = way.folders.iter().map(|folder| (folder, Need::Pass));
        for (path, need) in passed.chain(way.end.iter().map(|end| (end, need))) {
            if let Some(object) = self.object(path)?
                && !may(who, need, &object)
            {
                return Ok(Some(Barrier {
                    path: path.clone(),
                    need,
                    object,
                }));
            }
        }
        Ok(None)
    }
}

fn again((kind, said): (io::ErrorKind, String)) -> io::Error {
    io::Error::new(kind, said)
}

/// A path's names, the last first.
fn names(path: &Path) -> Vec<OsString> {
    let named = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    named.collect()
}

impl Barrier {
    /// What somebody can't do, as a clause about the barrier's path.
    pub fn says(&self) -> &'static str {
        match (self.need, self.object.folder) {
            (Need::Read, _) => "can't read it",
            (Need::Change, _) => "can't write in this folder",
            (Need::Pass, true) => "can't pass this folder",
            (Need::Pass, false) => "can't run it",
        }
    }

    /// The command that takes it away; what to do instead where that would change the system's own folders.
    pub fn remedy(&self, who: &Who) -> String {
        let Object { folder, facts, acl } = &self.object;
        if *folder && is_systems(&self.path) {
            return format!(
                "leave the rights of {} as the system has them, and give {} a folder of its own elsewhere",
                self.path.display(),
                who.name
            );
        }
        let path = self.path.to_string_lossy();
        let path = shlex::try_quote(&path).unwrap_or_default();
        let letters = match self.need {
            Need::Read => "r",
            Need::Change => "wx",
            Need::Pass => "x",
        };
        let own = who.uid == facts.uid;
        if acl.is_some() && !own && !who.powers.overrides {
            return format!("`setfacl -m u:{}:{letters} {path}`", who.name);
        }
        match () {
            () if own || who.powers.overrides => format!("`chmod u+{letters} {path}`"),
            () if who.gids.contains(&facts.gid) => format!("`chmod g+{letters} {path}`"),
            () if self.need == Need::Pass => format!("`chmod o+x {path}`"),
            () if facts.mode >> 6 & self.need as u32 == self.need as u32 => {
                format!("`chown {} {path}`", who.name)
            }
            () => format!("`chown {} {path} && chmod u+{letters} {path}`", who.name),
        }
    }
}

/// Whether a folder belongs to the system (hier(7)): other programs rely on its rights.
pub fn is_systems(folder: &Path) -> bool {
    const ALL_BELOW: [&str; 6] = ["/usr", "/boot", "/dev", "/proc", "/sys", "/etc/systemd"];
    const THEMSELVES: [&str; 32] = [
        "/",
        "/bin",
        "/efi",
        "/etc",
        "/home",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/media",
        "/mnt",
        "/opt",
        "/root",
        "/run",
        "/run/lock",
        "/run/systemd",
        "/run/user",
        "/sbin",
        "/snap",
        "/srv",
        "/tmp",
        "/var",
        "/var/cache",
        "/var/lib",
        "/var/local",
        "/var/log",
        "/var/mail",
        "/var/opt",
        "/var/run",
        "/var/spool",
        "/var/tmp",
        "/nix",
    ];
    ALL_BELOW.iter().any(|system| folder.starts_with(system))
        || THEMSELVES.iter().any(|system| folder == Path::new(system))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Fingerprint;
    use crate::floor::Floor;
    use crate::host::Like;
    use crate::inventory::FileFacts;
    use crate::paths::{ManagedLink, ManagedPath};

    /// Files whose lists whoever runs kmsctl may not read.
    struct Closed;

    fn denied<T>() -> io::Result<T> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    impl Files for Closed {
        fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
            let facts = FileFacts {
                uid: 10,
                gid: 10,
                mode: 0o777,
            };
            Ok(Some(match path.extension() {
                Some(_) => Entry::File(facts),
                None => Entry::Folder(facts),
            }))
        }

        fn acl(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
            match path.extension() {
                Some(_) => denied(),
                None => Ok(None),
            }
        }

        fn fingerprint(&self, _: &Path) -> io::Result<Fingerprint> {
            denied()
        }

        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            denied()
        }

        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            denied()
        }

        fn resolve(&self, _: &Path) -> io::Result<PathBuf> {
            denied()
        }

        fn sync(&self, _: &Path) -> io::Result<()> {
            denied()
        }

        fn sync_folder(&self, _: &Path) -> io::Result<()> {
            denied()
        }

        fn create_folder(&self, _: &ManagedPath) -> io::Result<()> {
            denied()
        }

        fn create(&self, _: &ManagedPath, _: &[u8], _: &Like) -> io::Result<()> {
            denied()
        }

        fn lay_floor(&self, _: &Floor, _: &Path) -> io::Result<()> {
            denied()
        }

        fn withdraw_floor(&self, _: &Floor) -> io::Result<()> {
            denied()
        }

        fn remove(&self, _: &ManagedPath) -> io::Result<()> {
            denied()
        }

        fn set_link(&self, _: &ManagedLink, _: Option<&Path>) -> io::Result<()> {
            denied()
        }
    }

    /// A mode that lets everybody says nothing where a list may say otherwise.
    #[test]
    fn a_list_that_can_t_be_read_isn_t_taken_for_none() {
        let sight = Sight::of(&Closed);
        assert!(sight.way(Path::new("/a/b")).is_ok());
        let error = sight.way(Path::new("/a/b.key")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
