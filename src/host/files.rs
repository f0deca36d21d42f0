//! Files below a root folder: `/` on the live host, the given folder under `--root`.
//!
//! Every path is opened by the kernel itself below the root (`openat2` with `RESOLVE_IN_ROOT`), so that neither `..`
//! nor a link, absolute or not, leads out of it. Changes go through folders without any link in their path, and
//! never replace what is there.

mod new;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

use super::{Entry, Files, Like, Space, World};
use crate::content::Fingerprint;
use crate::floor::Floor;
use crate::inventory::FileFacts;
use crate::paths::{ManagedLink, ManagedPath};

pub use new::Made;

/// No config, unit or state file is larger: what is, is something else.
const LARGEST: u64 = 16 << 20;

/// A folder that stands for a host's `/`.
pub struct Tree {
    root: OwnedFd,
    /// The root's own path, link-free, as the kernel names it.
    root_path: PathBuf,
}

impl Tree {
    /// Opens a folder as the host's root.
    ///
    /// # Errors
    /// No such folder, or it can't be read.
    pub fn open(root: &Path) -> io::Result<Tree> {
        let root = rustix::fs::open(
            root,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let root_path = path_of(root.as_fd())?;
        Ok(Tree { root, root_path })
    }

    fn open_at(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
        let mode = if flags.contains(OFlags::CREATE) {
            0o600
        } else {
            0
        };
        // The kernel asks for another try when a rename races with the walk (openat2(2), EAGAIN).
        for _ in 0..64 {
            let opened = rustix::fs::openat2(
                &self.root,
                path,
                flags | OFlags::CLOEXEC,
                Mode::from_raw_mode(mode),
                resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            );
            match opened {
                Err(Errno::AGAIN) => continue,
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// The folder of a path that is to be changed, and the path's last name.
    fn parent(&self, path: &Path) -> io::Result<(OwnedFd, std::ffi::OsString)> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a path without a name");
        let folder = path.parent().ok_or_else(invalid)?;
        let name = path.file_name().ok_or_else(invalid)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = self.open_at(folder, flags, ResolveFlags::NO_SYMLINKS)?;
        Ok((folder, name.to_owned()))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<File> {
        let fd = self.open_at(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK,
            ResolveFlags::empty(),
        )?;
        if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(File::from(fd))
    }
}

fn path_of(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn facts(stat: &Stat) -> FileFacts {
    FileFacts {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
    }
}

impl Files for Tree {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let fd = match self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::empty()) {
            Ok(fd) => fd,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Entry::File(facts(&stat)),
            FileType::Directory => Entry::Folder(facts(&stat)),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
                Entry::Link(PathBuf::from(std::ffi::OsStr::from_bytes(
                    target.as_bytes(),
                )))
            }
            _ => Entry::Other,
        }))
    }

    fn fingerprint(&self, path: &Path) -> io::Result<Fingerprint> {
        Fingerprint::read(self.open_to_read(path)?)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open_to_read(path)?;
        // Its size and one byte, so that one read is enough and another one sees the end; and all at once: what grows leaves
        // pieces of itself in memory, and this may be a key.
        let size = file.metadata()?.len().min(LARGEST);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "larger than 16 MiB",
            ));
        }
        Ok(bytes)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = match self.open_at(folder, flags, ResolveFlags::empty()) {
            Ok(fd) => fd,
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(name.to_owned()),
                // systemd loads a drop-in whatever its name, and what it says can't be left out.
                Err(_) if entry.file_name().to_bytes().ends_with(b".conf") => {
                    let name = String::from_utf8_lossy(entry.file_name().to_bytes()).into_owned();
                    let path = folder.join(name);
                    let why = format!("{} has a name that isn't UTF-8: rename it", path.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                // No unit has such a name: systemd wouldn't load it.
                Err(_) => {}
            }
        }
        names.sort();
        Ok(names)
    }

    fn acl(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        use std::os::fd::AsRawFd;
        // Who may not read a file may still ask for its list: so it isn't opened, and asked for by the kernel's own name.
        let fd = self.open_at(path, OFlags::PATH, ResolveFlags::empty())?;
        let opened = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let mut value = Vec::with_capacity(64 << 10);
        let name = "system.posix_acl_access";
        match rustix::fs::getxattr(opened, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn space(&self, folder: &Path) -> io::Result<Option<Space>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = self.open_at(folder, flags, ResolveFlags::empty())?;
        let stat = rustix::fs::fstatvfs(&fd)?;
        Ok(Some(Space {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            files: (stat.f_files > 0).then_some(stat.f_favail),
        }))
    }

    fn resolve(&self, folder: &Path) -> io::Result<PathBuf> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let path = path_of(self.open_at(folder, flags, ResolveFlags::empty())?.as_fd())?;
        let below = path.strip_prefix(&self.root_path).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the folder moved while it was looked at",
            )
        })?;
        Ok(Path::new("/").join(below))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.open_to_read(path)?.sync_all()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(rustix::fs::fsync(self.open_at(
            folder,
            flags,
            ResolveFlags::empty(),
        )?)?)
    }

    fn create_folder(&self, path: &ManagedPath) -> io::Result<()> {
        let (folder, name) = self.parent(path.as_path())?;
        rustix::fs::mkdirat(&folder, &name, Mode::from_raw_mode(0o755))?;
        Ok(rustix::fs::fsync(&folder)?)
    }

    fn create(&self, path: &ManagedPath, bytes: &[u8], like: &Like) -> io::Result<()> {
        self.create_at(path.as_path(), bytes, like)
    }

    fn lay_floor(&self, floor: &Floor, like: &Path) -> io::Result<()> {
        let like = Like::File(like.to_owned());
        self.create_at(floor.path(), &floor.bytes(), &like)
    }

    fn withdraw_floor(&self, floor: &Floor) -> io::Result<()> {
        if self.read(floor.path())? != floor.bytes() {
            return Err(io::Error::other("it is no longer what was laid"));
        }
        let (folder, name) = self.parent(floor.path())?;
        rustix::fs::unlinkat(&folder, &name, AtFlags::empty())?;
        Ok(rustix::fs::fsync(&folder)?)
    }

    fn set_link(&self, link: &ManagedLink, target: Option<&Path>) -> io::Result<()> {
        let enables = !link.is_alias();
        let Some(target) = target else {
            let (folder, name) = self.parent(link.as_path())?;
            rustix::fs::unlinkat(&folder, &name, AtFlags::empty())?;
            rustix::fs::fsync(&folder)?;
            drop(folder);
            let above = link.as_path().parent().filter(|_| enables);
            return above.map_or(Ok(()), |folder| self.remove_if_empty(folder));
        };
        if enables && let Some(folder) = link.as_path().parent() {
            self.folder(folder)?;
            let (above, _) = self.parent(folder)?;
            rustix::fs::fsync(&above)?;
        }
        let (folder, name) = self.parent(link.as_path())?;
        let temporary = temporary(&name);
        match rustix::fs::symlinkat(target, &folder, &temporary) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty())?;
                rustix::fs::symlinkat(target, &folder, &temporary)?;
            }
            other => other?,
        }
        rustix::fs::renameat(&folder, &temporary, &folder, &name)?;
        Ok(rustix::fs::fsync(&folder)?)
    }

    fn remove(&self, path: &ManagedPath) -> io::Result<()> {
        let (folder, name) = self.parent(path.as_path())?;
        let stat = rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        rustix::fs::unlinkat(&folder, &name, flags)?;
        Ok(rustix::fs::fsync(&folder)?)
    }
}

/// Where a file is until it is whole: what a death while it was made leaves.
pub fn unfinished(path: &Path) -> Option<PathBuf> {
    Some(path.with_file_name(temporary(path.file_name()?)))
}

/// What a name is called until it is whole.
fn temporary(name: &std::ffi::OsStr) -> std::ffi::OsString {
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".kmsctl-new");
    temporary
}

impl Tree {
    /// Creates a file where there is none, whole and durable.
    fn create_at(&self, path: &Path, bytes: &[u8], like: &Like) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        let temporary = temporary(&name);
        let file = match create_new(folder.as_fd(), &temporary) {
            // A death between creation and rename leaves one; the host's lock says that nobody else writes it now.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty())?;
                create_new(folder.as_fd(), &temporary)?
            }
            other => other?,
        };
        let written = self
            .fill(file, bytes, like)
            .and_then(|()| rename_new(folder.as_fd(), &temporary, &name))
            .and_then(|()| Ok(rustix::fs::fsync(&folder)?));
        if written.is_err() {
            // Already renamed, or never: either way nothing of ours may stay under the temporary name.
            rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty()).ok();
        }
        written
    }

    fn remove_if_empty(&self, folder: &Path) -> io::Result<()> {
        let (above, name) = self.parent(folder)?;
        match rustix::fs::unlinkat(&above, &name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            other => {
                other?;
                Ok(rustix::fs::fsync(&above)?)
            }
        }
    }

    fn fill(&self, file: OwnedFd, bytes: &[u8], like: &Like) -> io::Result<()> {
        let mut file = File::from(file);
        file.write_all(bytes)?;
        let facts = match like {
            Like::Plain => FileFacts {
                uid: 0,
                gid: 0,
                mode: 0o644,
            },
            Like::File(path) => {
                let model = self.open_to_read(path)?;
                copy_attributes(&model, &file)?;
                facts(&rustix::fs::fstat(&model)?)
            }
        };
        give(file.as_fd(), facts)?;
        file.sync_all()
    }
}

/// Gives a file or a folder its owner and its mode. Only root can give to others; whoever rehearses below `--root` as
/// somebody else keeps it.
fn give(file: BorrowedFd<'_>, facts: FileFacts) -> io::Result<()> {
    let own = rustix::fs::fstat(file)?;
    if (own.st_uid, own.st_gid) != (facts.uid, facts.gid) && rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(facts.uid), Gid::from_raw(facts.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(facts.mode))?)
}

impl World for Tree {
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        File::from(self.open_at(path, flags, ResolveFlags::empty())?).write_all(bytes)
    }

    fn put_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        File::from(self.open_at(path, flags, ResolveFlags::empty())?).write_all(bytes)
    }

    fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        Ok(rustix::fs::symlinkat(target, &folder, &name)?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&folder, &name, AtFlags::empty())?)
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&folder, &name, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => Ok(()),
            other => Ok(other?),
        }
    }
}

fn create_new(folder: BorrowedFd<'_>, name: &std::ffi::OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))
}

fn rename_new(
    folder: BorrowedFd<'_>,
    from: &std::ffi::OsStr,
    to: &std::ffi::OsStr,
) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        folder,
        from,
        folder,
        to,
        RenameFlags::NOREPLACE,
    )?)
}

/// Copies extended attributes, and with them ACLs and security labels. A filesystem that has none has none to copy.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = Vec::with_capacity(64 << 10);
    match rustix::fs::flistxattr(from, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(()),
        Err(e) => return Err(e.into()),
    }
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = Vec::with_capacity(64 << 10);
        rustix::fs::fgetxattr(from, name, rustix::buffer::spare_capacity(&mut value))?;
        rustix::fs::fsetxattr(to, name, &value, rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
