//! A host over the world for one kmsctl process: its files and its memory, where each primitive change that the real ones
//! make is an instant of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;
use kmsctl::content::Fingerprint;
use kmsctl::floor::Floor;
use kmsctl::host::memory::{FOLDER, Lock, Log, Memory, Store};
use kmsctl::host::{self, Entry, Files, Host, Like, Processes};
use kmsctl::paths::{ManagedLink, ManagedPath};

use crate::disk::Hand;
use crate::state::State;
use crate::systemd::{Others, Proc, Systemd};
use crate::witness::Effect;
use crate::world::{World, own, owned};

/// What stands between kmsctl and the world: nothing, unless a test breaks something on purpose.
#[derive(Clone, Copy)]
pub struct Between {
    pub files: fn(Own) -> Box<dyn Files>,
    pub store: fn(Own) -> Box<dyn Store>,
    pub processes: fn(Box<dyn Processes>) -> Box<dyn Processes>,
}

impl Default for Between {
    fn default() -> Between {
        Between {
            files: |own| Box::new(own),
            store: |own| Box::new(own),
            processes: |processes| processes,
        }
    }
}

/// Opens the world as a host for a new kmsctl process.
pub fn open(world: &Rc<World>, between: Between) -> Result<Host> {
    let process = {
        let state = &mut *world.state.borrow_mut();
        state.processes += 1;
        state.alive.push(state.processes);
        state.processes
    };
    let own = Own {
        world: Rc::clone(world),
        process,
    };
    let mut host = host::model::over(
        (between.files)(own.clone()),
        Box::new(Others(Rc::clone(world))),
        Memory::new((between.store)(own.clone())),
    )?;
    let inner = Rc::new(std::cell::RefCell::new(host.services));
    *world.systemd.borrow_mut() = Some(Rc::clone(&inner));
    host.services = Box::new(Systemd {
        own: own.clone(),
        inner,
    });
    host.processes = (between.processes)(Box::new(Proc {
        own,
        inner: host.processes,
    }));
    Ok(host)
}

/// What a kmsctl process can do to files.
#[derive(Clone)]
pub struct Own {
    pub world: Rc<World>,
    pub process: u32,
}

impl Own {
    pub fn look<T>(&self, look: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        self.world.look(self.process, look)
    }

    fn change<T>(
        &self,
        effect: Option<&Effect>,
        change: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.world.change(self.process, effect, change)
    }

    /// As the real memory makes its folders: what is there already is made durable as well.
    fn made(&self, folder: &Path) -> io::Result<()> {
        let above = folder.parent().unwrap_or(Path::new("/"));
        if folder.starts_with(FOLDER) {
            self.made(above)?;
        }
        if self.look(|s| s.disk.entry(folder))?.is_none() {
            self.change(None, |s| s.disk.mkdir(Hand::Kmsctl, folder))?;
        }
        self.change(None, |s| s.disk.sync_folder(above))
    }
}

fn above(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.kmsctl-new"))
}

impl Own {
    /// Under another name first, and never in another's place.
    fn create_at(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let effect = Effect::Create(path.to_owned());
        let new = temporary(path);
        let create = || self.change(Some(&effect), |s| s.disk.create(Hand::Kmsctl, &new, bytes));
        match create() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.change(Some(&effect), |s| s.disk.unlink(Hand::Kmsctl, &new))?;
                create()?;
            }
            other => other?,
        }
        let written = self
            .change(Some(&effect), |s| s.disk.sync(&new))
            .and_then(|()| {
                self.change(Some(&effect), |s| match s.disk.entry(path)? {
                    Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
                    None => s.disk.rename(Hand::Kmsctl, &new, path),
                })
            })
            .and_then(|()| self.change(Some(&effect), |s| s.disk.sync_folder(above(path))));
        if written.is_err() {
            self.change(Some(&effect), |s| s.disk.unlink(Hand::Kmsctl, &new))
                .ok();
        }
        written
    }
}

impl Files for Own {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.look(|s| s.disk.entry(path))
    }

    fn fingerprint(&self, path: &Path) -> io::Result<Fingerprint> {
        Ok(Fingerprint::of(&Files::read(self, path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.look(|s| s.disk.read(path)).map(owned)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.look(|s| s.disk.list(folder))
    }

    fn resolve(&self, folder: &Path) -> io::Result<PathBuf> {
        self.look(|s| s.disk.resolve(folder))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.change(None, |s| s.disk.sync(path))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.change(None, |s| s.disk.sync_folder(folder))
    }

    fn create_folder(&self, path: &ManagedPath) -> io::Result<()> {
        let path = path.as_path();
        let effect = Effect::MakeFolder(path.to_owned());
        self.change(Some(&effect), |s| s.disk.mkdir(Hand::Kmsctl, path))?;
        self.change(None, |s| s.disk.sync_folder(above(path)))
    }

    fn create(&self, path: &ManagedPath, bytes: &[u8], _like: &Like) -> io::Result<()> {
        self.create_at(path.as_path(), bytes)
    }

    fn lay_floor(&self, floor: &Floor, _like: &Path) -> io::Result<()> {
        self.create_at(floor.path(), &floor.bytes())
    }

    fn withdraw_floor(&self, floor: &Floor) -> io::Result<()> {
        let path = floor.path();
        if Files::read(self, path)? != floor.bytes() {
            return Err(io::Error::other("no floor"));
        }
        let effect = Effect::Remove(path.to_owned());
        self.change(Some(&effect), |s| {
            s.witness.withdrawn(path);
            s.disk.unlink(Hand::Kmsctl, path)
        })?;
        self.change(None, |s| s.disk.sync_folder(above(path)))
    }

    fn remove(&self, path: &ManagedPath) -> io::Result<()> {
        let path = path.as_path();
        let effect = Effect::Remove(path.to_owned());
        self.change(Some(&effect), |s| s.disk.unlink(Hand::Kmsctl, path))?;
        self.change(None, |s| s.disk.sync_folder(above(path)))
    }

    fn set_link(&self, link: &ManagedLink, target: Option<&Path>) -> io::Result<()> {
        let path = link.as_path();
        let effect = Effect::Link(path.to_owned());
        let folder = above(path);
        let Some(target) = target else {
            self.change(Some(&effect), |s| s.disk.unlink(Hand::Kmsctl, path))?;
            self.change(None, |s| s.disk.sync_folder(folder))?;
            if link.is_alias() || !Files::list(self, folder)?.is_empty() {
                return Ok(());
            }
            self.change(Some(&effect), |s| s.disk.unlink(Hand::Kmsctl, folder))?;
            return self.change(None, |s| s.disk.sync_folder(above(folder)));
        };
        if !link.is_alias() && self.entry(folder)?.is_none() {
            self.change(Some(&effect), |s| s.disk.mkdir(Hand::Kmsctl, folder))?;
            self.change(None, |s| s.disk.sync_folder(above(folder)))?;
        }
        let new = temporary(path);
        let create = || {
            self.change(Some(&effect), |s| {
                s.disk.symlink(Hand::Kmsctl, &new, target)
            })
        };
        match create() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.change(Some(&effect), |s| s.disk.unlink(Hand::Kmsctl, &new))?;
                create()?;
            }
            other => other?,
        }
        self.change(Some(&effect), |s| s.disk.rename(Hand::Kmsctl, &new, path))?;
        self.change(None, |s| s.disk.sync_folder(folder))
    }
}

impl Store for Own {
    fn place(&self) -> PathBuf {
        FOLDER.into()
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match Files::read(self, &own(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = own(name);
        self.made(above(&path))?;
        let new = path.with_extension(format!("tmp{}", self.process));
        self.change(None, |s| s.disk.create(Hand::Kmsctl, &new, bytes))?;
        self.change(None, |s| s.disk.sync(&new))?;
        self.change(None, |s| s.disk.rename(Hand::Kmsctl, &new, &path))?;
        self.change(None, |s| s.disk.sync_folder(above(&path)))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Files::list(self, &own(folder))
    }

    fn log(&self, name: &str, keep: u64) -> io::Result<Box<dyn Log>> {
        let path = own(name);
        self.made(above(&path))?;
        if self.entry(&path)?.is_none() {
            self.change(None, |s| s.disk.create(Hand::Kmsctl, &path, b""))?;
        }
        let now = Files::read(self, &path)?;
        let keep = now.len().min(keep as usize);
        self.change(None, |s| s.disk.write(&path, &now[..keep]))?;
        self.change(None, |s| {
            s.disk.sync(&path)?;
            let State { witness, disk, .. } = s;
            witness.opens(disk, &path, keep);
            Ok(())
        })?;
        self.change(None, |s| s.disk.sync_folder(above(&path)))?;
        Ok(Box::new(Journal {
            own: self.clone(),
            path,
        }))
    }

    fn lock(&self) -> io::Result<Option<Lock>> {
        self.world.look(self.process, |_| Ok(()))?;
        let holder = &mut self.world.state.borrow_mut().holder;
        if holder.is_some() {
            return Ok(None);
        }
        *holder = Some(self.process);
        Ok(Some(Lock::by(Held(self.clone()))))
    }

    fn is_locked(&self) -> io::Result<bool> {
        self.look(|s| Ok(s.holder.is_some()))
    }
}

/// The lock, while this is there.
struct Held(Own);

impl Drop for Held {
    fn drop(&mut self) {
        let holder = &mut self.0.world.state.borrow_mut().holder;
        if *holder == Some(self.0.process) {
            *holder = None;
        }
    }
}

struct Journal {
    own: Own,
    path: PathBuf,
}

impl Log for Journal {
    fn reserve(&mut self, _bytes: u64) -> io::Result<()> {
        self.own.change(None, |_| Ok(()))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.own.change(None, |s| {
            let mut whole = owned(s.disk.read(&self.path)?);
            whole.extend_from_slice(bytes);
            s.disk.write(&self.path, &whole)?;
            s.witness.appends(&self.path, bytes);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.own.change(None, |s| s.disk.sync(&self.path))
    }
}
