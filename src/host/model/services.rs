//! The model of systemd: units from the tree's text, jobs that end at once, and a tmkms that starts as the real one
//! does.

mod devices;
mod units;
mod validators;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tmkms_core::config::Config;

use super::super::unit_path::{LINK_FOLDERS, UnitPath, is_mask};
use super::super::{Ended, Entry, Files, Job, JobEnd, Ticket, UnitView, World};
use super::{Faults, Running};
use crate::inventory::{RunState, SignerProcess, UnitRun};
use crate::kms::tmkms;
use crate::unit::UnitName;
use crate::unit::words::expand;

/// Where units are looked for, most important first (systemd.unit(5), the folders that operators use).
pub const UNIT_PATH: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Where what runs is kept, and in which format.
pub const RUNNING: &str = "/run/kmsctl/services.json";
const FAULTS: &str = "/run/kmsctl/faults.json";
pub const FORMAT_VERSION: u32 = 1;
/// What tmkms writes into a state file that it creates (0.12.2; later ones take it too).
const FIRST_STATE: &[u8] =
    br#"{"height":"0","round":"0","step":0,"block_id":{"hash":"","part_set_header":{"total":0,"hash":""}}}"#;

pub struct Model {
    world: Box<dyn World>,
    running: Running,
    faults: BTreeMap<UnitName, Faults>,
    jobs: u32,
    /// The device that each unit's tmkms uses, where it was asked for.
    devices: BTreeMap<UnitName, Option<String>>,
    /// When the sessions of ended processes become free, and on which device.
    orphans: Vec<(Duration, String)>,
    /// What a tmkms that ended for want of a session said.
    logged: BTreeMap<UnitName, String>,
    /// How long was waited.
    pub time: Duration,
    pub ends: VecDeque<JobEnd>,
}

impl Model {
    /// Reads what runs; where nothing was kept yet, the enabled units do.
    pub fn load(world: Box<dyn World>) -> Result<Model> {
        let mut model = Model {
            world,
            running: Running {
                format_version: FORMAT_VERSION,
                ..Running::default()
            },
            faults: BTreeMap::new(),
            jobs: 0,
            devices: BTreeMap::new(),
            orphans: Vec::new(),
            logged: BTreeMap::new(),
            time: Duration::ZERO,
            ends: VecDeque::new(),
        };
        model.faults = model.kept(FAULTS)?.unwrap_or_default();
        match model.kept::<Running>(RUNNING)? {
            Some(kept) if kept.format_version != FORMAT_VERSION => {
                bail!(
                    "{RUNNING}: format {} is not this kmsctl's {FORMAT_VERSION}",
                    kept.format_version
                )
            }
            Some(kept) => model.running = kept,
            None => {
                for unit in model.enabled()? {
                    // A link for a unit that isn't there starts nothing.
                    if model.unit_files().fragment(&unit).is_err() {
                        continue;
                    }
                    let run = model.a_run();
                    if let Ok(barred) = model.barred_on_disk(&unit) {
                        model.running.loaded.insert(unit.clone(), barred);
                    }
                    model.running.units.insert(unit, run);
                }
            }
        }
        Ok(model)
    }

    fn kept<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        match self.world.read(Path::new(path)) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).with_context(|| path.to_owned())?,
            )),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("reading {path}")),
        }
    }

    pub fn save(&mut self) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(&self.running)?;
        let write = || {
            self.world.folder(Path::new("/run"))?;
            self.world.folder(Path::new("/run/kmsctl"))?;
            self.world.put(Path::new(RUNNING), &bytes)
        };
        write().with_context(|| format!("writing {RUNNING}"))
    }

    /// The units that some link enables, for good or until the next boot.
    fn enabled(&self) -> Result<BTreeSet<UnitName>> {
        let files: &dyn Files = &*self.world;
        let path = UnitPath::new(files, &UNIT_PATH.map(PathBuf::from));
        let (mut units, mut masked) = (BTreeSet::new(), BTreeSet::new());
        for folder in &path.folders {
            for wants in files.list(folder)? {
                if !LINK_FOLDERS.iter().any(|kind| wants.ends_with(kind)) {
                    continue;
                }
                let inside = folder.join(&wants);
                for name in files.list(&inside)? {
                    let Ok(unit) = name.parse::<UnitName>() else {
                        continue;
                    };
                    let dependency = (wants.clone(), name.clone());
                    if is_mask(files, &inside.join(name)) {
                        masked.insert(dependency);
                    } else if !masked.contains(&dependency) {
                        units.insert(path.meant(files, &unit));
                    }
                }
            }
        }
        Ok(units)
    }

    pub fn instances(&self, template: &UnitName) -> Vec<UnitName> {
        let units = self.running.units.keys();
        units
            .filter(|unit| unit.template().as_ref() == Some(template))
            .cloned()
            .collect()
    }

    fn a_run(&mut self) -> UnitRun {
        self.running.starts += 1;
        UnitRun {
            state: RunState {
                active: "active".into(),
                sub: "running".into(),
                main_pid: 1000 + self.running.starts,
            },
            invocation: format!("{:032x}", self.running.starts),
            restarts: 0,
            control_group: String::new(),
        }
    }

    pub fn run(&self, unit: &UnitName) -> UnitRun {
        self.running
            .units
            .get(unit)
            .cloned()
            .unwrap_or_else(|| stopped("inactive"))
    }

    /// The manager reads every unit that it has loaded again.
    pub fn reload(&mut self) -> Result<()> {
        let units: Vec<UnitName> = self.running.loaded.keys().cloned().collect();
        for unit in units {
            match self.barred_on_disk(&unit) {
                Ok(barred) => self.running.loaded.insert(unit, barred),
                Err(_) => self.running.loaded.remove(&unit),
            };
        }
        self.save()
    }

    fn barred_on_disk(&self, unit: &UnitName) -> Result<Vec<PathBuf>> {
        Ok(self.unit_files().found(unit)?.means(unit)?.barred_by)
    }

    /// What bars a start, as loaded; a unit that isn't loaded yet is read now.
    fn barred_by(&self, unit: &UnitName) -> Result<Vec<PathBuf>> {
        match self.running.loaded.get(unit) {
            Some(barred) => Ok(barred.clone()),
            None => self.barred_on_disk(unit),
        }
    }

    pub fn signers(&self) -> Result<Vec<SignerProcess>> {
        let mut found = Vec::new();
        for (unit, run) in self
            .running
            .units
            .iter()
            .filter(|(_, run)| run.state.main_pid != 0)
        {
            let at_start = self.running.configs.get(unit);
            // A unit that was taken out of the tree while it ran, or of which an environment file was, still runs, on
            // nobody knows what.
            let started = self.view(unit).and_then(|view| self.started(&view));
            let (argv, config) = match started {
                Ok(Some((argv, config))) => (argv, Some(config)),
                Ok(None) => continue,
                Err(_) => (Vec::new(), None),
            };
            found.push(SignerProcess {
                pid: run.state.main_pid,
                argv,
                unit: Some(unit.to_string()),
                config: at_start.cloned().or(config),
            });
        }
        Ok(found)
    }

    pub fn begin(&mut self, job: &Job) -> Result<Ticket> {
        self.jobs += 1;
        let ticket = Ticket(self.jobs.to_string());
        let result = match job {
            Job::Start(unit) => self.start(unit)?,
            Job::Stop(unit) => self.stop(unit),
        };
        self.save()?;
        self.ends.push_back(JobEnd {
            ticket: ticket.clone(),
            ended: Ended::Job(result),
        });
        Ok(ticket)
    }

    fn start(&mut self, unit: &UnitName) -> Result<String> {
        if self.run(unit).state.active == "active" {
            return Ok("done".into());
        }
        let barred = self.barred_by(unit)?;
        self.running.loaded.insert(unit.clone(), barred.clone());
        for marker in barred {
            if self.world.entry(&marker)?.is_some() {
                return Ok("assert".into());
            }
        }
        let fault = self.faults.get(unit).and_then(|f| f.start.clone());
        match fault.as_deref() {
            None | Some("crash") => {}
            Some(result) => {
                self.running.units.insert(unit.clone(), stopped("failed"));
                return Ok(result.into());
            }
        }
        let mut run = self.a_run();
        match self.tmkms_starts(unit) {
            Ok(config) if fault.is_none() => {
                self.running.configs.insert(unit.clone(), config);
            }
            _ => {
                // The job is done once the program runs; that it then ends is another matter.
                (run.state.active, run.state.sub) = ("activating".into(), "auto-restart".into());
                (run.state.main_pid, run.restarts) = (0, 1);
            }
        }
        self.running.units.insert(unit.clone(), run);
        Ok("done".into())
    }

    /// What a unit's process logged.
    pub fn last_lines(&self, unit: &UnitName, lines: usize) -> Vec<String> {
        let logged = self.faults.get(unit).map(|f| f.log.as_slice());
        let logged = logged.unwrap_or_default();
        let full = self.logged.get(unit);
        let logged: Vec<&String> = logged.iter().chain(full).collect();
        let last = &logged[logged.len().saturating_sub(lines)..];
        last.iter().map(|line| (*line).clone()).collect()
    }

    fn stop(&mut self, unit: &UnitName) -> String {
        if let Some(result) = self.faults.get(unit).and_then(|f| f.stop.clone()) {
            return result;
        }
        self.leave_session(unit);
        self.running.units.insert(unit.clone(), stopped("inactive"));
        "done".into()
    }

    /// What a unit's first command is when it is run, and the config that it starts on; none where that is no tmkms.
    fn started(&self, view: &UnitView) -> Result<Option<(Vec<String>, PathBuf)>> {
        let mut variables = view.variables.clone();
        variables.extend(&view.file_variables(&*self.world)?);
        let argv = variables.substitute(view.exec.first().context("no ExecStart")?);
        if !tmkms::is_start(&argv) {
            return Ok(None);
        }
        let named = variables.get(tmkms::CONFIG_VARIABLE);
        let config = tmkms::config_path(&argv, named, &view.working_directory)
            .map_err(|_| anyhow!("tmkms doesn't take its command's words"))?;
        Ok(Some((argv, config)))
    }

    /// What tmkms does at its start: reads the config, takes its state files, creates those that are missing.
    fn tmkms_starts(&mut self, unit: &UnitName) -> Result<PathBuf> {
        let view = self.view(unit)?;
        let (_, path) = self.started(&view)?.context("it starts no tmkms")?;
        let bytes = self.world.read(&path)?;
        let config = Config::parse(std::str::from_utf8(&bytes)?)?;
        self.take_session(unit, &config)?;
        for chain in &config.chains {
            let name = config.state_file_or_default(chain);
            let path = tmkms::absolute(&name, &view.working_directory);
            if self.world.entry(&path)?.is_none() {
                self.world.put_new(&path, FIRST_STATE)?;
            }
            tmkms_core::state::SignState::parse(&self.world.read(&path)?)?;
            if let Some(height) = self.faults.get(unit).and_then(|f| f.signs) {
                self.signs(&path, height)?;
            }
        }
        Ok(path)
    }

    /// tmkms signs a block's precommit, and keeps that.
    fn signs(&self, state_file: &Path, height: u64) -> io::Result<()> {
        let signed = format!(r#"{{"height":"{height}","round":"0","step":2,"block_id":null}}"#);
        self.world.put(state_file, signed.as_bytes())
    }

    /// The links that `[Install]` asks for, and what they point to.
    fn install_links(&self, unit: &UnitName) -> Result<Vec<(PathBuf, PathBuf)>> {
        let fragment = self.unit_files().fragment(unit)?;
        let text = self.unit_files().text(&fragment)?;
        let mut links = Vec::new();
        for (key, suffix) in [("WantedBy", "wants"), ("RequiredBy", "requires")] {
            for setting in text.list("Install", key) {
                for target in setting.value.split_whitespace() {
                    let target = expand(target, unit).map_err(anyhow::Error::msg)?;
                    let folder = Path::new(UNIT_PATH[0]).join(format!("{target}.{suffix}"));
                    links.push((folder.join(unit.as_str()), fragment.clone()));
                }
            }
        }
        Ok(links)
    }

    pub fn enable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        for unit in units {
            let fault = self.faults.get(unit).and_then(|f| f.enable.clone());
            for (link, target) in self.install_links(unit)?.into_iter().chain(fault) {
                let context = || format!("linking {}", link.display());
                if self.world.entry(&link).with_context(context)?.is_some() {
                    continue;
                }
                if let Some(folder) = link.parent() {
                    self.world.folder(folder).with_context(context)?;
                }
                self.world.link(&link, &target).with_context(context)?;
                made.push(link);
            }
        }
        Ok(made)
    }

    pub fn disable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        let folder = Path::new(UNIT_PATH[0]);
        for wants in self.world.list(folder)? {
            if !wants.ends_with(".wants") && !wants.ends_with(".requires") {
                continue;
            }
            for unit in units {
                let link = folder.join(&wants).join(unit.as_str());
                if let Some(Entry::Link(_)) = self.world.entry(&link)? {
                    self.world
                        .unlink(&link)
                        .with_context(|| format!("removing {}", link.display()))?;
                    removed.push(link);
                }
            }
        }
        Ok(removed)
    }
}

fn stopped(active: &str) -> UnitRun {
    let state = RunState {
        active: active.into(),
        ..RunState::stopped()
    };
    UnitRun {
        state,
        ..UnitRun::default()
    }
}
