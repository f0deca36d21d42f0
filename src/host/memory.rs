//! What kmsctl itself remembers: plans and journals below `/var/lib/kmsctl`, and the lock.
//!
//! One fixed place a host. Nothing else of the host is written here, and nothing here is needed by a signer.

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder, seen from the host's root.
pub const FOLDER: &str = "/var/lib/kmsctl";

/// A place that keeps named pieces of bytes. Names are relative paths below the folder.
pub trait Store {
    /// The folder's name for messages.
    fn place(&self) -> PathBuf;
    /// `None` where there is no such piece.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Replaces a piece atomically and durably.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// The names in a folder of the store, sorted.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Opens a log that grows only at its end, creating it durably; `keep` bytes of an existing one are kept.
    fn log(&self, name: &str, keep: u64) -> io::Result<Box<dyn Log>>;
    /// Takes the host's lock; `None` when another kmsctl holds it.
    fn lock(&self) -> io::Result<Option<Lock>>;
    /// Whether a kmsctl holds the lock now.
    fn is_locked(&self) -> io::Result<bool>;
}

/// A file that records are appended to.
pub trait Log {
    /// Allocates room, so that what follows can't fail for want of it.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

/// The host's lock, held until this is dropped; on a real filesystem the kernel also releases it when the process dies.
pub struct Lock(#[expect(dead_code, reason = "held, never read")] Box<dyn Any>);

impl Lock {
    /// What holds it: dropping that releases the lock.
    pub fn by(holder: impl Any) -> Lock {
        Lock(Box::new(holder))
    }
}

/// kmsctl's memory of a host.
pub struct Memory(Box<dyn Store>);

impl Memory {
    pub fn new(store: Box<dyn Store>) -> Memory {
        Memory(store)
    }

    /// The full path of a piece, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.place().join(name)
    }

    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.0
            .read(name)
            .with_context(|| format!("reading {}", self.path(name).display()))
    }

    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.0
            .replace(name, bytes)
            .with_context(|| format!("writing {}", self.path(name).display()))
    }

    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.0
            .list(folder)
            .with_context(|| format!("reading {}", self.path(folder).display()))
    }

    pub fn log(&self, name: &str, keep: u64) -> Result<Box<dyn Log>> {
        self.0
            .log(name, keep)
            .with_context(|| format!("opening {}", self.path(name).display()))
    }

    /// Takes the host's lock; `None` when another kmsctl holds it (rule S9).
    pub fn lock(&self) -> Result<Option<Lock>> {
        self.0
            .lock()
            .with_context(|| format!("locking {}", self.path("lock").display()))
    }

    /// Whether a kmsctl is changing the host now.
    pub fn is_locked(&self) -> Result<bool> {
        self.0
            .is_locked()
            .with_context(|| format!("asking who holds {}", self.path("lock").display()))
    }
}

/// The folder on a real filesystem.
pub struct OnDisk {
    folder: PathBuf,
}

impl OnDisk {
    /// The folder below a host's root.
    pub fn below(root: &Path) -> OnDisk {
        OnDisk {
            folder: root.join(FOLDER.trim_start_matches('/')),
        }
    }

    /// Makes a folder durably. One of kmsctl's own that is there already may come from a process that died before it
    /// was durable, and a power cut would take it with every journal in it.
    fn make(&self, folder: &Path) -> io::Result<()> {
        let private = folder.starts_with(&self.folder);
        if !private && folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent() {
            self.make(parent)?;
        }
        match fs::DirBuilder::new()
            .mode(if private { 0o700 } else { 0o755 })
            .create(folder)
        {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.unlinked(folder)?,
            other => other?,
        }
        folder.parent().map_or(Ok(()), sync_folder)
    }

    /// A link in kmsctl's own folder could lead out of a host's root.
    fn unlinked(&self, path: &Path) -> io::Result<()> {
        let own = path.ancestors().take_while(|p| p.starts_with(&self.folder));
        for path in own {
            if path.is_symlink() {
                let message = format!(
                    "{} is a link, where only kmsctl's own files belong",
                    path.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        Ok(())
    }

    /// The path of a piece, its folder made.
    fn ready(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        if let Some(folder) = path.parent() {
            self.make(folder)?;
        }
        self.unlinked(&path)?;
        Ok(path)
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

impl Store for OnDisk {
    fn place(&self) -> PathBuf {
        self.folder.clone()
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.folder.join(name);
        self.unlinked(&path)?;
        absent(fs::read(path))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.ready(name)?;
        let folder = path.parent().unwrap_or(&self.folder);
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        sync_folder(folder)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let Some(entries) = absent(fs::read_dir(self.folder.join(folder)))? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn log(&self, name: &str, keep: u64) -> io::Result<Box<dyn Log>> {
        let path = self.ready(name)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path)?;
        if file.metadata()?.len() > keep {
            file.set_len(keep)?;
        }
        file.sync_all()?;
        path.parent().map_or(Ok(()), sync_folder)?;
        Ok(Box::new(FileLog { file, end: keep }))
    }

    fn lock(&self) -> io::Result<Option<Lock>> {
        let path = self.ready("lock")?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        // Somebody who only asks who holds it holds it for a moment.
        for _ in 0..20 {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Lock::by(file))),
                Err(fs::TryLockError::WouldBlock) => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                Err(fs::TryLockError::Error(e)) => return Err(e),
            }
        }
        Ok(None)
    }

    fn is_locked(&self) -> io::Result<bool> {
        match absent(File::open(self.folder.join("lock")))? {
            None => Ok(false),
            Some(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(fs::TryLockError::WouldBlock) => Ok(true),
                Err(fs::TryLockError::Error(e)) => Err(e),
            },
        }
    }
}

struct FileLog {
    file: File,
    end: u64,
}

impl Log for FileLog {
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.end, bytes) {
            // Not every filesystem can; writing will tell.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
