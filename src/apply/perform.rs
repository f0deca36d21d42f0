//! Performs a step whose intent is durable.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tmkms_core::state::SignState;

use super::{Begun, Run, look};
use crate::content::Content;
use crate::discover;
use crate::host::unit_path::UnitPath;
use crate::host::{Ended, Entry, Files, Job, Like};
use crate::inventory::{StateReading, UnitLink};
use crate::journal::Record;
use crate::paths::{ManagedLink, ManagedPath};
use crate::plan::ChainFile;
use crate::plan::program::{Action, Step};
use crate::render::drop_in::MARKER_SAYS;
use crate::unit::UnitName;

impl Run<'_> {
    pub(super) fn act(&mut self, step: &Step) -> Result<Begun> {
        match &step.action {
            Action::MakeFolder { path } => {
                self.host
                    .files
                    .create_folder(path)
                    .with_context(|| format!("making {path}"))?;
            }
            Action::Write {
                role,
                path,
                content,
            } => {
                let files = &*self.host.files;
                let text = look::wanted(files, *role, content).map_err(anyhow::Error::msg)?;
                let like = match content {
                    Content::Derived { source, .. } => Like::File(source.clone()),
                    Content::Text { .. } => Like::Plain,
                };
                files
                    .create(path, text.as_bytes(), &like)
                    .with_context(|| format!("writing {path}"))?;
            }
            Action::Remove { path, .. } | Action::RemoveFolder { path } => {
                self.host
                    .files
                    .remove(path)
                    .with_context(|| format!("removing {path}"))?;
            }
            Action::CloseFence { unit } => {
                let marker = ManagedPath::fence(unit);
                let text = format!("{unit}{MARKER_SAYS}\n");
                self.host
                    .files
                    .create(&marker, text.as_bytes(), &Like::Plain)
                    .with_context(|| format!("writing {marker}"))?;
            }
            Action::OpenFence { unit } => {
                let marker = ManagedPath::fence(unit);
                self.host
                    .files
                    .remove(&marker)
                    .with_context(|| format!("removing {marker}"))?;
            }
            Action::Reload => self.host.services.reload()?,
            Action::Enable { units, links } => self.enable(units, links)?,
            Action::Disable { units, links } => self.disable(units, links)?,
            Action::SetLink { link, to, .. } => {
                self.host
                    .files
                    .set_link(link, to.as_deref())
                    .with_context(|| format!("changing {link}"))?;
            }
            Action::Stop { unit } => {
                self.started.remove(unit);
                return Ok(Begun::Job(
                    self.host.services.begin(&Job::Stop(unit.clone()))?,
                ));
            }
            Action::Start { unit } => {
                self.started.insert(unit.clone());
                return Ok(Begun::Job(
                    self.host.services.begin(&Job::Start(unit.clone()))?,
                ));
            }
            Action::LayFloor { floor, like } => {
                self.host
                    .files
                    .lay_floor(floor, like)
                    .with_context(|| format!("making {}", floor.path().display()))?;
            }
            Action::WithdrawFloor { floor } => {
                self.host
                    .files
                    .withdraw_floor(floor)
                    .with_context(|| format!("taking {} away", floor.path().display()))?;
            }
            Action::Record { files } => self.record(step, files)?,
            Action::Watch { unit, .. } => {
                // Others may be dark, and each question waits for systemd: what needn't be asked now isn't.
                let before = match self.settings.soak {
                    Duration::ZERO => None,
                    _ => Some(self.host.services.run(unit)?),
                };
                return Ok(Begun::Watching(before));
            }
            // Conditions: looking at them is all there is to do.
            Action::CheckFenced { .. }
            | Action::ProveStopped { .. }
            | Action::CheckHeights { .. }
            | Action::CheckHalted { .. } => {}
        }
        Ok(Begun::Finished)
    }

    fn enable(&mut self, units: &[UnitName], links: &[PathBuf]) -> Result<()> {
        let made = self.host.services.enable(units)?;
        if let Err(error) = expected("made", &made, links) {
            for path in made {
                let link = ManagedLink::try_from(path).context("taking back what enabling made")?;
                self.host
                    .files
                    .set_link(&link, None)
                    .with_context(|| format!("taking back {link}"))?;
            }
            return Err(error);
        }
        for link in links {
            let entry = self.host.files.entry(link);
            if !matches!(entry, Ok(Some(Entry::Link(_)))) {
                bail!(
                    "systemd didn't make {}: the unit's [Install] doesn't ask for it",
                    link.display()
                );
            }
        }
        self.sync_folders(links)
    }

    fn disable(&mut self, units: &[UnitName], links: &[PathBuf]) -> Result<()> {
        let path = self.host.services.unit_path()?;
        let path = UnitPath::new(&*self.host.files, &path);
        let before = discover::Links::read(&*self.host.files, &path)?;
        let removed = self.host.services.disable(units)?;
        if let Err(error) = expected("removed", &removed, links) {
            let of_units = units.iter().flat_map(|unit| before.of(unit));
            for UnitLink { link, target } in
                of_units.filter(|l| removed.contains(&l.link.as_path().to_owned()))
            {
                self.host
                    .files
                    .set_link(&link, Some(&target))
                    .with_context(|| format!("putting back {link}"))?;
            }
            return Err(error);
        }
        self.sync_folders(links)
    }

    /// systemd doesn't.
    fn sync_folders(&self, links: &[PathBuf]) -> Result<()> {
        let folders: BTreeSet<&Path> = links
            .iter()
            .flat_map(|l| l.ancestors().skip(1).take(2))
            .collect();
        folders.into_iter().try_for_each(|f| self.sync_folder(f))
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        match self.host.files.sync_folder(folder) {
            // What was in it last took it along.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let above = folder.parent().unwrap_or(Path::new("/"));
                self.host.files.sync_folder(above)
            }
            other => other,
        }
        .with_context(|| format!("making {} durable", folder.display()))
    }

    /// What an effect left that a death cut short may be there and not durable: a power cut would take it back, with
    /// everything after it done.
    pub(super) fn make_durable(&self, action: &Action) -> Result<()> {
        let above = |path: &ManagedPath| {
            let folder = path.as_path().parent();
            folder.map_or(Ok(()), |folder| self.sync_folder(folder))
        };
        match action {
            Action::Write { path, .. } => {
                let synced = self.host.files.sync(path.as_path());
                synced.with_context(|| format!("making {path} durable"))?;
                above(path)
            }
            Action::MakeFolder { path }
            | Action::Remove { path, .. }
            | Action::RemoveFolder { path } => above(path),
            Action::CloseFence { unit } | Action::OpenFence { unit } => {
                above(&ManagedPath::fence(unit))
            }
            Action::Enable { links, .. } | Action::Disable { links, .. } => {
                self.sync_folders(links)
            }
            Action::SetLink { link, .. } => self.sync_folders(&[link.as_path().to_owned()]),
            Action::LayFloor { floor, .. } => {
                let path = floor.path();
                let synced = self.host.files.sync(path);
                synced.with_context(|| format!("making {} durable", path.display()))?;
                path.parent().map_or(Ok(()), |f| self.sync_folder(f))
            }
            Action::WithdrawFloor { floor } => {
                let folder = floor.path().parent();
                folder.map_or(Ok(()), |f| self.sync_folder(f))
            }
            Action::Reload
            | Action::CheckFenced { .. }
            | Action::Stop { .. }
            | Action::ProveStopped { .. }
            | Action::Record { .. }
            | Action::CheckHeights { .. }
            | Action::CheckHalted { .. }
            | Action::Start { .. }
            | Action::Watch { .. } => Ok(()),
        }
    }

    /// Rule S5: the bytes go into the journal, and the file itself is made durable, which tmkms never does.
    ///
    /// A file that is missing has nothing to record. If a journal knows it, every later start on it is refused.
    fn record(&mut self, step: &Step, files: &[ChainFile]) -> Result<()> {
        for file in files {
            let path = &file.state_file;
            let shown = path.display();
            let state = match discover::state(&*self.host.files, path) {
                StateReading::Read(state) => state,
                StateReading::Missing => continue,
                StateReading::Link => bail!("{shown} is a link"),
                StateReading::Unreadable(why) => bail!("{shown}: {why}"),
            };
            let bytes = durable(&*self.host.files, path)?;
            if SignState::parse(&bytes).ok() != Some(state) {
                bail!("{shown} changed while it was read: something still signs");
            }
            let bytes = String::from_utf8(bytes).with_context(|| format!("{shown} isn't UTF-8"))?;
            self.saw(step, file, state, Some(bytes))?;
        }
        Ok(())
    }

    pub(super) fn saw(
        &mut self,
        step: &Step,
        file: &ChainFile,
        state: SignState,
        bytes: Option<String>,
    ) -> Result<()> {
        self.journal.append(&Record::State {
            step: step.id.clone(),
            chain: file.chain.clone(),
            state_file: file.state_file.clone(),
            state,
            bytes,
            at: self.host.clock.now(),
        })?;
        self.ledger.saw(&file.state_file, state);
        Ok(())
    }
}

/// Makes a state file durable as it is now, which tmkms never does, and reads it: neither a power cut may take it below
/// what a journal knows of it, nor may its newest name outlive its content.
pub(super) fn durable(files: &dyn Files, path: &Path) -> Result<Vec<u8>> {
    let read = || {
        let bytes = files.read(path);
        bytes.with_context(|| format!("reading {}", path.display()))
    };
    let mut bytes = read()?;
    for _ in 0..8 {
        files
            .sync(path)
            .and_then(|()| path.parent().map_or(Ok(()), |f| files.sync_folder(f)))
            .with_context(|| format!("making {} durable", path.display()))?;
        // tmkms renames a new file there with each signature.
        let after = read()?;
        if after == bytes {
            break;
        }
        bytes = after;
    }
    Ok(bytes)
}

fn expected(what: &str, changed: &[PathBuf], planned: &[PathBuf]) -> Result<()> {
    if let Some(link) = changed.iter().find(|c| !planned.contains(c)) {
        bail!(
            "systemd {what} {}, which the plan doesn't name",
            link.display()
        );
    }
    Ok(())
}

/// Why a job's result is no success. `done` alone is one, and says nothing yet about a running program.
pub(super) fn job_failure(action: &Action, ended: Ended) -> Option<String> {
    let result = match ended {
        Ended::Job(result) => result,
        Ended::Refused(why) => return Some(why),
    };
    if result == "done" {
        return None;
    }
    let (Action::Start { unit } | Action::Stop { unit }) = action else {
        return Some(format!("systemd's job ended as {result}"));
    };
    let verb = if matches!(action, Action::Start { .. }) {
        "start"
    } else {
        "stop"
    };
    let why = match result.as_str() {
        "assert" => "its fence is closed: another hand closed it".to_owned(),
        "canceled" => "another request took its place".to_owned(),
        "timeout" => "it took longer than the unit allows".to_owned(),
        "dependency" => "a unit that it needs failed".to_owned(),
        other => other.to_owned(),
    };
    Some(format!(
        "systemd couldn't {verb} {unit}: {why}; see `journalctl -u {unit}`"
    ))
}
