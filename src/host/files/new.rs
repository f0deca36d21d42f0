//! Files that didn't exist before, and a validator's config.toml that is replaced by another.
//!
//! A state or key file is made here and never changed: creation never replaces, and what takes one away again wants the
//! token that its creation gave.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Tree, create_new, facts, give, is_absent, rename_new, temporary};
use crate::inventory::FileFacts;
use crate::paths::NewPath;

/// Proof that this process made a file or a folder: only with it can it be taken away again.
#[derive(Debug)]
pub struct Made {
    path: NewPath,
    device: u64,
    inode: u64,
    folder: bool,
}

impl Made {
    pub fn path(&self) -> &NewPath {
        &self.path
    }

    fn of(path: &NewPath, file: &OwnedFd, folder: bool) -> io::Result<Made> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Made {
            path: path.clone(),
            device: stat.st_dev,
            inode: stat.st_ino,
            folder,
        })
    }
}

impl Tree {
    /// Makes a file durably, with its owner and mode before it has a name. What has its name is noted among what was made,
    /// whatever comes after.
    ///
    /// # Errors
    /// `AlreadyExists` when anything is at the path; a link in the path's folders.
    pub fn create_file(
        &self,
        path: &NewPath,
        bytes: &[u8],
        is: FileFacts,
        made: &mut Vec<Made>,
    ) -> io::Result<()> {
        reached("make", path)?;
        let (folder, name) = self.parent(path.as_path())?;
        let temporary = temporary(&name);
        let file = match create_new(folder.as_fd(), &temporary) {
            // What a death left: the host's lock says that nobody else writes it now.
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty())?;
                create_new(folder.as_fd(), &temporary)?
            }
            other => other?,
        };
        let named = Made::of(path, &file, false).and_then(|made| {
            let mut file = File::from(file);
            file.write_all(bytes)?;
            give(file.as_fd(), is)?;
            file.sync_all()?;
            reached("name", path)?;
            rename_new(folder.as_fd(), &temporary, &name)?;
            Ok(made)
        });
        match named {
            Ok(one) => made.push(one),
            Err(e) => {
                rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty()).ok();
                return Err(e);
            }
        }
        reached("sync", path)?;
        Ok(rustix::fs::fsync(&folder)?)
    }

    /// Makes one file durably, or leaves nothing of it behind.
    ///
    /// # Errors
    /// As [`Tree::create_file`]; where it couldn't be taken away again either, that is said.
    pub fn create_one_file(&self, path: &NewPath, bytes: &[u8], is: FileFacts) -> io::Result<()> {
        let mut made = Vec::new();
        let Err(error) = self.create_file(path, bytes, is, &mut made) else {
            return Ok(());
        };
        match made.iter().try_for_each(|one| self.take_back(one)) {
            Ok(()) => Err(error),
            Err(e) => Err(io::Error::other(format!(
                "{error}; it is left there, and can't be taken away: {e}"
            ))),
        }
    }

    /// Makes a folder durably; its parent must exist. It is noted among what was made once it is there, whatever comes after.
    ///
    /// # Errors
    /// `AlreadyExists` when anything is at the path; a link in the path's folders.
    pub fn create_new_folder(
        &self,
        path: &NewPath,
        is: FileFacts,
        made: &mut Vec<Made>,
    ) -> io::Result<()> {
        reached("make", path)?;
        let (above, name) = self.parent(path.as_path())?;
        // Closed to everybody else until it has its owner.
        rustix::fs::mkdirat(&above, &name, Mode::from_raw_mode(0o700))?;
        let opened = reached("open", path).and_then(|()| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let folder = self.open_at(path.as_path(), flags, ResolveFlags::NO_SYMLINKS)?;
            Ok((Made::of(path, &folder, true)?, folder))
        });
        let folder = match opened {
            Ok((one, folder)) => {
                made.push(one);
                folder
            }
            Err(e) => {
                // Nobody can say any more which folder it is; one that is empty is no loss.
                rustix::fs::unlinkat(&above, &name, AtFlags::REMOVEDIR).ok();
                return Err(e);
            }
        };
        give(folder.as_fd(), is)?;
        reached("sync", path)?;
        Ok(rustix::fs::fsync(&above)?)
    }

    /// Takes away what was just made. A folder that isn't empty stays, and so does what somebody else put in its place.
    ///
    /// # Errors
    /// It can't be taken away, or something else stands there.
    pub fn take_back(&self, made: &Made) -> io::Result<()> {
        let (folder, name) = self.parent(made.path.as_path())?;
        let stat = match rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        if (stat.st_dev, stat.st_ino) != (made.device, made.inode) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else stands there now",
            ));
        }
        let flags = match made.folder {
            true => AtFlags::REMOVEDIR,
            false => AtFlags::empty(),
        };
        rustix::fs::unlinkat(&folder, &name, flags)?;
        Ok(rustix::fs::fsync(&folder)?)
    }

    /// Replaces a validator's config.toml in one step, with the old one's owner, mode and attributes.
    ///
    /// # Errors
    /// The file isn't the one that was read any more, or it is no regular file.
    pub fn replace_config_toml(&self, path: &Path, was: &[u8], bytes: &[u8]) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        let stat = rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(invalid("not a regular file"));
        }
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(invalid("its name doesn't end in .toml"));
        }
        let old = self.open_to_read(path)?;
        let temporary = temporary(&name);
        match rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty()) {
            Err(Errno::NOENT) => {}
            other => other?,
        }
        let mut file = File::from(create_new(folder.as_fd(), &temporary)?);
        let replaced = (|| {
            file.write_all(bytes)?;
            super::copy_attributes(&old, &file)?;
            give(file.as_fd(), facts(&rustix::fs::fstat(&old)?))?;
            file.sync_all()?;
            if std::io::read_to_string(&old)?.as_bytes() != was {
                return Err(io::Error::other("it changed meanwhile"));
            }
            rustix::fs::renameat(&folder, &temporary, &folder, &name)?;
            Ok(rustix::fs::fsync(&folder)?)
        })();
        if replaced.is_err() {
            rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty()).ok();
        }
        replaced
    }

    /// Whether a folder is there and holds anything at all, names that aren't UTF-8 and hidden ones included.
    pub fn holds_anything(&self, folder: &Path) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = match self.open_at(folder, flags, ResolveFlags::empty()) {
            Err(e) if is_absent(&e) => return Ok(false),
            other => other?,
        };
        for entry in rustix::fs::Dir::new(fd)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Lets a test end kmsctl, or fail what it does, while a file is being made: `KMSCTL_DIES_AT` and `KMSCTL_FAILS_AT` name a
/// moment, `KMSCTL_MOMENTS` a file that every moment is written to.
#[cfg(feature = "failpoints")]
fn reached(moment: &str, path: &NewPath) -> io::Result<()> {
    let here = format!("{moment} {path}");
    if let Some(all) = std::env::var_os("KMSCTL_MOMENTS") {
        let mut all = std::fs::OpenOptions::new().append(true).open(all)?;
        writeln!(all, "{here}")?;
    }
    let is_here = |name: &str| std::env::var(name).is_ok_and(|named| named == here);
    if is_here("KMSCTL_DIES_AT") {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    }
    match is_here("KMSCTL_FAILS_AT") {
        true => Err(io::Error::other("a test fails it")),
        false => Ok(()),
    }
}

#[cfg(not(feature = "failpoints"))]
fn reached(_moment: &str, _path: &NewPath) -> io::Result<()> {
    Ok(())
}
