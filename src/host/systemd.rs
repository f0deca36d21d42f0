//! systemd over D-Bus. The only asynchronous code of kmsctl, and the only place that speaks to the service manager.
//!
//! A unit that isn't loaded is read from disk, as systemd itself would read it when it loads it: to be asked about it
//! systemd has to do that, and lets it go again at once. What is loaded is asked about, for files may say otherwise by now:
//! systemd's own `NeedDaemonReload` doesn't see a new fragment in a more important folder, nor an older file in a newer
//! one's place. So is every fence.

mod jobs;
mod manager;
mod questions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::jobs::Jobs;
use self::manager::ManagerProxy;
use self::questions::{Bag, Property, SERVICE, UNIT, some_of};
use super::files::Tree;
use super::unit_files::UnitFiles;
use super::{Job, JobEnd, Services, Ticket, UnitView};
use crate::inventory::{Activity, RunState, UnitRun};
use crate::unit::UnitName;
use crate::unit::effective::EnvironmentFile;
use crate::unit::variables::{self, Variables};

/// How long a single method call may take. A reload of a large host takes a few hundred milliseconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The oldest systemd that names every flag of a command (`ExecStartEx`).
const OLDEST: u32 = 243;
/// What tells how a unit runs.
const STATE: [Property; 3] = [
    (UNIT, "ActiveState"),
    (UNIT, "SubState"),
    (SERVICE, "MainPID"),
];
/// The same, and what tells one run from another.
const RUN: [Property; 6] = [
    (UNIT, "ActiveState"),
    (UNIT, "SubState"),
    (SERVICE, "MainPID"),
    (UNIT, "InvocationID"),
    (SERVICE, "NRestarts"),
    (SERVICE, "ControlGroup"),
];
/// What a unit means and how it runs.
const VIEW: [Property; 16] = [
    (UNIT, "LoadState"),
    (UNIT, "FragmentPath"),
    (UNIT, "DropInPaths"),
    (UNIT, "NeedDaemonReload"),
    (UNIT, "Asserts"),
    (SERVICE, "ExecStartEx"),
    (SERVICE, "Environment"),
    (SERVICE, "EnvironmentFiles"),
    (SERVICE, "PassEnvironment"),
    (SERVICE, "UnsetEnvironment"),
    (SERVICE, "User"),
    (SERVICE, "WorkingDirectory"),
    (SERVICE, "StandardOutput"),
    (UNIT, "ActiveState"),
    (UNIT, "SubState"),
    (SERVICE, "MainPID"),
];
/// What tells whether a unit's fence is heeded.
const FENCE: [Property; 2] = [(UNIT, "LoadState"), (UNIT, "Asserts")];
/// What systemd answers to a question about a unit that isn't loaded.
const NOT_LOADED: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// One ExecStartEx entry as systemd gives it: program, argv, flags, then times and statuses.
type ExecEx = (
    String,
    Vec<String>,
    Vec<String>,
    u64,
    u64,
    u64,
    u64,
    u32,
    i32,
    i32,
);

/// One assertion as systemd gives it: kind, triggering, negated, parameter, last result.
type Assert = (String, bool, bool, String, i32);

/// An Exec line's words, beginning with what is really run: argv[0] may be another name (`ExecStart=@…`). Where no variable
/// is put in (`ExecStart=:…`), a dollar sign is doubled, so that it stays one.
fn argv(program: String, mut argv: Vec<String>, literal: bool) -> Vec<String> {
    if literal {
        for word in &mut argv {
            *word = word.replace('$', "$$");
        }
    }
    match argv.first_mut() {
        Some(name) => *name = program,
        None => argv.push(program),
    }
    argv
}

fn commands(about: &mut Bag) -> Result<Vec<Vec<String>>> {
    let exec: Vec<ExecEx> = about.take("ExecStartEx")?;
    let literal = |flags: &[String]| flags.iter().any(|flag| flag == "no-env-expand");
    let commands = exec.into_iter();
    Ok(commands
        .map(|(program, words, flags, ..)| argv(program, words, literal(&flags)))
        .collect())
}

/// A connection to the system's service manager.
pub struct Systemd {
    connection: zbus::Connection,
    manager: ManagerProxy<'static>,
    jobs: Jobs,
    /// Where units are read from that aren't loaded.
    files: Tree,
    /// Units that are kept loaded: systemd forgets one that doesn't run at once, and reads it again for every question.
    kept: BTreeSet<UnitName>,
    /// Units that were started: they are loaded, whether they run still or failed.
    started: BTreeSet<UnitName>,
}

impl Systemd {
    /// Connects to the system bus and subscribes to job ends.
    ///
    /// # Errors
    /// No bus, or no systemd behind it; the message says what to look at. A systemd that is too old.
    pub fn connect(files: Tree) -> Result<Systemd> {
        zbus::block_on(Systemd::connect_async(files)).context(
            "systemd can't be reached over D-Bus (is the dbus service running, and is this a host with systemd? \
             `--root DIR` works on a folder instead)",
        )
    }

    async fn connect_async(files: Tree) -> Result<Systemd> {
        let connection = zbus::connection::Builder::system()
            .method_timeout(CALL_LIMIT)
            .build()
            .await?;
        let manager = ManagerProxy::new(&connection).await?;
        let version = manager.version().await?;
        ensure!(
            !is_older(&version, OLDEST),
            "systemd {version} is too old: kmsctl needs {OLDEST} or newer"
        );
        let stream = manager.receive_job_removed().await?;
        manager.subscribe().await?;
        let jobs = Jobs::watch(stream, manager.clone())?;
        Ok(Systemd {
            connection,
            manager,
            jobs,
            files,
            kept: BTreeSet::new(),
            started: BTreeSet::new(),
        })
    }

    fn run_of(&self, unit: &UnitName) -> Result<UnitRun> {
        let bags = some_of(&self.connection, std::slice::from_ref(unit), &RUN);
        let bag = bags.into_iter().next();
        let mut bag = bag.with_context(|| format!("systemd says nothing of {unit}"))??;
        run(&mut bag)
    }

    /// Which services are loaded.
    fn loaded(&self) -> Result<BTreeSet<String>> {
        let listed = zbus::block_on(self.manager.list_units_by_patterns(&[], &["*.service"]));
        let listed = listed.context("asking systemd for its services")?;
        Ok(listed.into_iter().map(|unit| unit.0).collect())
    }

    /// What those units mean that aren't loaded, as far as their files say it.
    fn views_on_disk(&mut self, units: &[UnitName]) -> Result<BTreeMap<UnitName, UnitView>> {
        let folders = self.unit_path()?;
        let files = UnitFiles {
            files: &self.files,
            folders: &folders,
        };
        let loaded = self.loaded()?;
        let on_disk = units.iter().filter(|u| !loaded.contains(u.as_str()));
        let views = on_disk.filter_map(|unit| {
            let found = files.found(unit).ok()?;
            let means = found.means(unit).ok()?;
            if found.is_masked || !means.certain {
                return None;
            }
            Some((unit.clone(), found.view(unit, means, RunState::stopped())))
        });
        Ok(views.collect())
    }

    fn is_loaded(&self, unit: &UnitName) -> Result<bool> {
        if self.kept.contains(unit) || self.started.contains(unit) {
            return Ok(true);
        }
        // A question about its properties would load it, which takes longer than all else while a signer is dark. systemd
        // keeps every unit loaded that runs, failed or has a job.
        match zbus::block_on(self.manager.get_unit(unit.as_str())) {
            Ok(_) => Ok(true),
            Err(zbus::Error::MethodError(name, ..)) if name == NOT_LOADED => Ok(false),
            Err(e) => Err(e).with_context(|| format!("asking systemd about {unit}")),
        }
    }

    /// Keeps units loaded. Only root may; for others it is as it was.
    fn keep(&mut self, units: &[UnitName]) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        for unit in units {
            if self.kept.insert(unit.clone()) {
                zbus::block_on(self.manager.ref_unit(unit.as_str()))?;
            }
        }
        Ok(())
    }
}

impl Services for Systemd {
    fn unit_path(&mut self) -> Result<Vec<PathBuf>> {
        let path =
            zbus::block_on(self.manager.unit_path()).context("asking systemd for its unit path")?;
        Ok(path.into_iter().map(PathBuf::from).collect())
    }

    fn view(&mut self, unit: &UnitName) -> Result<UnitView> {
        let bag = some_of(&self.connection, std::slice::from_ref(unit), &VIEW).pop();
        view(
            unit,
            bag.with_context(|| format!("systemd says nothing of {unit}"))??,
        )
    }

    fn views(&mut self, units: &[UnitName]) -> Vec<Result<UnitView>> {
        // Where that can't be told, the questions themselves will tell.
        let mut on_disk = self.views_on_disk(units).unwrap_or_default();
        let asked = units.iter().filter(|unit| !on_disk.contains_key(unit));
        let asked: Vec<UnitName> = asked.cloned().collect();
        let mut bags = some_of(&self.connection, &asked, &VIEW).into_iter();
        let views = units.iter().map(|unit| match on_disk.remove(unit) {
            Some(view) => Ok(view),
            None => {
                let bag = bags.next();
                let bag = bag.with_context(|| format!("systemd says nothing of {unit}"))?;
                view(unit, bag?)
            }
        });
        views.collect()
    }

    fn instances(&mut self, template: &UnitName) -> Result<Vec<UnitName>> {
        let pattern = format!("{}*.service", template.stem());
        let found = zbus::block_on(self.manager.list_units_by_patterns(&[], &[&pattern]))
            .with_context(|| format!("asking systemd for the instances of {template}"))?;
        let names = found.into_iter().filter_map(|unit| unit.0.parse().ok());
        Ok(names
            .filter(|unit: &UnitName| unit.template().as_ref() == Some(template))
            .collect())
    }

    fn run(&mut self, unit: &UnitName) -> Result<UnitRun> {
        if self.is_loaded(unit)? {
            return self.run_of(unit);
        }
        Ok(UnitRun::stopped())
    }

    fn run_states(&mut self, units: &[UnitName]) -> Vec<Result<RunState>> {
        // Where that isn't granted, or the connection is gone, the questions themselves tell.
        self.keep(units).ok();
        let bags = some_of(&self.connection, units, &STATE);
        bags.into_iter().map(|bag| run_state(&mut bag?)).collect()
    }

    fn activities(&mut self, units: &[UnitName]) -> Result<Vec<Activity>> {
        if let [unit] = units
            && !self.is_loaded(unit)?
        {
            return Ok(vec![Activity::stopped()]);
        }
        let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
        let context = || format!("asking systemd about {}", names.join(" "));
        let listed = zbus::block_on(self.manager.list_units_by_names(&names));
        let listed = listed.with_context(context)?;
        ensure!(
            listed.len() == units.len(),
            "systemd names {} of {} units",
            listed.len(),
            units.len()
        );
        let activities = listed.into_iter().map(|unit| Activity {
            active: unit.3,
            sub: unit.4,
        });
        Ok(activities.collect())
    }

    fn barred_by(&mut self, units: &[UnitName]) -> Vec<Result<Vec<PathBuf>>> {
        if units.len() > 1 {
            self.keep(units).ok();
        }
        let bags = some_of(&self.connection, units, &FENCE);
        let answers = units.iter().zip(bags).map(|(unit, bag)| {
            let mut bag = bag?;
            loaded(unit, &mut bag)?;
            barred_by(&mut bag)
        });
        answers.collect()
    }

    fn begin(&mut self, job: &Job) -> Result<Ticket> {
        if let Job::Start(unit) = job {
            self.started.insert(unit.clone());
        }
        self.jobs.begin(job)
    }

    fn next_end(&mut self, within: Duration) -> Result<Option<JobEnd>> {
        self.jobs.next_end(within)
    }

    fn enable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>> {
        let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
        let (_, changes) = zbus::block_on(self.manager.enable_unit_files(&names, false, false))
            .with_context(|| format!("asking systemd to enable {}", names.join(" ")))?;
        links(changes, "symlink")
    }

    fn disable(&mut self, units: &[UnitName]) -> Result<Vec<PathBuf>> {
        let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
        let changes = zbus::block_on(self.manager.disable_unit_files(&names, false))
            .with_context(|| format!("asking systemd to disable {}", names.join(" ")))?;
        links(changes, "unlink")
    }

    fn reload(&mut self) -> Result<()> {
        // Each that is loaded is read again, which takes as long as a start.
        for unit in std::mem::take(&mut self.kept) {
            zbus::block_on(self.manager.unref_unit(unit.as_str())).ok();
        }
        zbus::block_on(self.manager.reload()).context("asking systemd to read its units again")
    }
}

/// Whether a version, such as `252.39-1~deb12u2`, is older than a release. One that says no number isn't known to be.
fn is_older(version: &str, release: u32) -> bool {
    let number = version.split(|c: char| !c.is_ascii_digit()).next();
    number
        .and_then(|n| n.parse().ok())
        .is_some_and(|n: u32| n < release)
}

fn run_state(about: &mut Bag) -> Result<RunState> {
    Ok(RunState {
        active: about.take("ActiveState")?,
        sub: about.take("SubState")?,
        main_pid: about.take("MainPID")?,
    })
}

fn run(about: &mut Bag) -> Result<UnitRun> {
    let invocation: Vec<u8> = about.take("InvocationID")?;
    Ok(UnitRun {
        state: run_state(about)?,
        invocation: invocation.iter().map(|b| format!("{b:02x}")).collect(),
        restarts: about.take("NRestarts")?,
        control_group: about.take("ControlGroup")?,
    })
}

fn loaded(unit: &UnitName, about: &mut Bag) -> Result<()> {
    let loaded: String = about.take("LoadState")?;
    if loaded != "loaded" {
        bail!("systemd says of {unit}: {loaded}; see `systemctl status {unit}`");
    }
    Ok(())
}

/// The paths whose existence bars a start.
fn barred_by(about: &mut Bag) -> Result<Vec<PathBuf>> {
    let asserts: Vec<Assert> = about.take("Asserts")?;
    let barred = asserts
        .into_iter()
        .filter(|(kind, _, negated, _, _)| kind == "AssertPathExists" && *negated);
    Ok(barred
        .map(|(_, _, _, path, _)| PathBuf::from(path))
        .collect())
}

fn view(unit: &UnitName, mut about: Bag) -> Result<UnitView> {
    loaded(unit, &mut about)?;
    let run = run_state(&mut about)?;
    let fragment: String = about.take("FragmentPath")?;
    let drop_ins: Vec<String> = about.take("DropInPaths")?;
    let exec = commands(&mut about)?;
    let mut own_variables = Variables::default();
    own_variables.assign(&about.take::<Vec<String>>("Environment")?);
    let environment_files: Vec<(String, bool)> = about.take("EnvironmentFiles")?;
    let mut outside: Vec<String> = about.take("PassEnvironment")?;
    outside.extend(about.take::<Vec<String>>("UnsetEnvironment")?);
    let directory: String = about.take("WorkingDirectory")?;
    // A leading '!' or '-' only says how a missing folder is taken (systemd's bus_property for WorkingDirectory).
    let directory = directory.trim_start_matches(['!', '-']);
    Ok(UnitView {
        name: unit.clone(),
        fragment: PathBuf::from(fragment),
        drop_ins: drop_ins.into_iter().map(PathBuf::from).collect(),
        exec,
        user: about.take("User")?,
        working_directory: PathBuf::from(if directory.is_empty() { "/" } else { directory }),
        variables: own_variables,
        environment_files: environment_files
            .into_iter()
            .map(|(path, optional)| EnvironmentFile {
                path: PathBuf::from(path),
                optional,
            })
            .collect(),
        outside_variables: outside.iter().map(|word| variables::name(word)).collect(),
        output: about.take("StandardOutput")?,
        needs_reload: about.take("NeedDaemonReload")?,
        barred_by: barred_by(&mut about)?,
        run,
    })
}

fn links(changes: Vec<(String, String, String)>, expected: &str) -> Result<Vec<PathBuf>> {
    changes
        .into_iter()
        .map(|(change, link, _)| {
            if change != expected {
                bail!("systemd made a change of another kind ({change}) at {link}");
            }
            Ok(Path::new(&link).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systemd_that_is_too_old() {
        for (version, older) in [
            ("242", true),
            ("239-82.el8", true),
            ("243", false),
            ("252.39-1~deb12u2", false),
            ("v258", false),
            ("", false),
        ] {
            assert_eq!(is_older(version, 243), older, "{version}");
        }
    }
}
