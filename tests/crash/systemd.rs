//! systemd and its processes: as kmsctl sees them, and as the hands that go on whatever becomes of kmsctl.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use kmsctl::content::Fingerprint;
use kmsctl::floor::Floor;
use kmsctl::host::{self, Entry, Files, Job, JobEnd, Like, Processes, Services, Ticket, UnitView};
use kmsctl::inventory::{Connection, SignerProcess, UnitRun};
use kmsctl::paths::{ManagedLink, ManagedPath};
use kmsctl::unit::UnitName;
use tmkms_core::protocol::TmkmsVersion;

use crate::disk::Hand;
use crate::hands::Own;
use crate::state::put;
use crate::witness::Effect;
use crate::world::{World, Wrapped, owned};

/// systemd, as a kmsctl process speaks to it: jobs are queued and end when they end.
pub struct Systemd {
    pub own: Own,
    pub inner: Wrapped,
}

impl Systemd {
    fn alive(&self) -> Result<()> {
        Ok(self.own.look(|_| Ok(()))?)
    }

    fn permit(&self, effect: Effect) -> Result<()> {
        Ok(self.own.world.permit(self.own.process, Some(&effect))?)
    }
}

impl Services for Systemd {
    fn unit_path(&mut self) -> Result<Vec<PathBuf>> {
        self.alive()?;
        self.inner.borrow_mut().unit_path()
    }

    fn view(&mut self, unit: &UnitName) -> Result<UnitView> {
        self.alive()?;
        self.inner.borrow_mut().view(unit)
    }

    fn instances(&mut self, template: &UnitName) -> Result<Vec<UnitName>> {
        self.alive()?;
        self.inner.borrow_mut().instances(template)
    }

    fn run(&mut self, unit: &UnitName) -> Result<UnitRun> {
        self.alive()?;
        self.inner.borrow_mut().run(unit)
    }

    fn begin(&mut self, job: &Job) -> Result<Ticket> {
        self.permit(match job {
            Job::Start(unit) => Effect::Start(unit.clone()),
            Job::Stop(unit) => Effect::Stop(unit.clone()),
        })?;
        let ticket = self.own.world.queue(job);
        self.own.world.settle();
        Ok(ticket)
    }

    fn next_end(&mut self, within: Duration) -> Result<Option<JobEnd>> {
        self.alive()?;
        if let Some(end) = self.own.world.next_end() {
            self.own.world.settle();
            return Ok(Some(end));
        }
        self.inner.borrow_mut().next_end(within)
    }

    fn enable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>> {
        self.permit(Effect::Enable)?;
        let made = self.inner.borrow_mut().enable(units);
        self.own.world.settle();
        made
    }

    fn disable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>> {
        self.permit(Effect::Disable)?;
        let removed = self.inner.borrow_mut().disable(units);
        self.own.world.settle();
        removed
    }

    fn reload(&mut self) -> Result<()> {
        self.permit(Effect::Reload)?;
        let reloaded = self.inner.borrow_mut().reload();
        self.own.world.settle();
        reloaded
    }
}

/// The processes, those that a stop left behind among them.
pub struct Proc {
    pub own: Own,
    pub inner: Box<dyn Processes>,
}

impl Processes for Proc {
    fn signers(&mut self) -> Result<Vec<SignerProcess>> {
        self.own.look(|_| Ok(()))?;
        let mut found = self.inner.signers()?;
        let state = self.own.world.state.borrow();
        found.extend(state.left_behind.iter().map(|p| SignerProcess {
            pid: p.pid,
            argv: ["/usr/bin/tmkms", "start"].map(str::to_owned).into(),
            unit: Some(p.unit.to_string()),
            config: Some(p.config.clone()),
        }));
        Ok(found)
    }

    fn in_unit(&mut self, unit: &UnitName, control_group: &str) -> Result<Vec<u32>> {
        self.own.look(|_| Ok(()))?;
        let mut found = self.inner.in_unit(unit, control_group)?;
        let state = self.own.world.state.borrow();
        let left = state.left_behind.iter().filter(|p| p.unit == *unit);
        found.extend(left.map(|p| p.pid));
        Ok(found)
    }

    fn connections(&mut self, pid: u32) -> Result<Vec<Connection>> {
        self.own.look(|_| Ok(()))?;
        self.inner.connections(pid)
    }

    fn last_lines(
        &mut self,
        unit: &UnitName,
        since: jiff::Timestamp,
        lines: usize,
    ) -> Result<Vec<String>> {
        self.inner.last_lines(unit, since, lines)
    }

    fn tmkms_version(&mut self, program: &Path, user: &str) -> Result<Option<TmkmsVersion>> {
        self.inner.tmkms_version(program, user)
    }

    fn is_program(&self, path: &Path) -> Option<bool> {
        self.inner.is_program(path)
    }

    fn operator(&self) -> String {
        "the crash matrix".into()
    }
}

/// The modelled systemd's and tmkms' own hands: they go on whatever becomes of kmsctl.
pub struct Others(pub Rc<World>);

impl Files for Others {
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.0.state.borrow().disk.entry(path)
    }

    fn fingerprint(&self, path: &Path) -> io::Result<Fingerprint> {
        Ok(Fingerprint::of(&self.read(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.state.borrow().disk.read(path).map(owned)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.0.state.borrow().disk.list(folder)
    }

    fn resolve(&self, folder: &Path) -> io::Result<PathBuf> {
        self.0.state.borrow().disk.resolve(folder)
    }

    fn sync(&self, _path: &Path) -> io::Result<()> {
        unreachable!("neither systemd nor tmkms syncs")
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        unreachable!("neither systemd nor tmkms syncs")
    }

    fn create_folder(&self, _path: &ManagedPath) -> io::Result<()> {
        unreachable!("kmsctl's")
    }

    fn create(&self, _path: &ManagedPath, _bytes: &[u8], _like: &Like) -> io::Result<()> {
        unreachable!("kmsctl's")
    }

    fn lay_floor(&self, _floor: &Floor, _like: &Path) -> io::Result<()> {
        unreachable!("kmsctl's")
    }

    fn withdraw_floor(&self, _floor: &Floor) -> io::Result<()> {
        unreachable!("kmsctl's")
    }

    fn remove(&self, _path: &ManagedPath) -> io::Result<()> {
        unreachable!("kmsctl's")
    }

    fn set_link(&self, _link: &ManagedLink, _target: Option<&Path>) -> io::Result<()> {
        unreachable!("kmsctl's")
    }
}

impl host::World for Others {
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        put(&mut self.0.state.borrow_mut(), path, bytes)
    }

    fn put_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.0.state.borrow_mut();
        state.witness.begins_at_zero(path);
        state.disk.create(Hand::Tmkms, path, bytes)
    }

    fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        let disk = &mut self.0.state.borrow_mut().disk;
        disk.symlink(Hand::Systemd, path, target)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let disk = &mut self.0.state.borrow_mut().disk;
        disk.unlink(Hand::Systemd, path)
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        let disk = &mut self.0.state.borrow_mut().disk;
        match disk.mkdir(Hand::Systemd, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }
}
