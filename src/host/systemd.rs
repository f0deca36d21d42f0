//! systemd over D-Bus. The only asynchronous code of kmsctl, and the only place that speaks to the service manager.
//!
//! Job ends arrive as signals. A signal stream that is held and not polled blocks method calls once its queue is full,
//! and a job may end before its own call returns: so a thread of its own polls the stream from before the first call
//! and hands every end to a channel, where ends wait until they are asked for.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use zbus::Variant;
use zbus::export::ordered_stream::OrderedStreamExt;
use zbus::wire::{OwnedObjectPath, OwnedVariant};

use super::{Job, JobEnd, Services, Ticket, UnitView};
use crate::inventory::{Activity, RunState};
use crate::unit::UnitName;
use crate::unit::effective::EnvironmentFile;
use crate::unit::variables::{self, Variables};

/// How long a single method call may take. A reload of a large host takes a few hundred milliseconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The properties that anything here asks for: of the four hundred that there are only these are kept.
const OURS: [&str; 20] = [
    "ActiveState",
    "Asserts",
    "ControlGroup",
    "DropInPaths",
    "Environment",
    "EnvironmentFiles",
    "ExecStart",
    "ExecStartEx",
    "FragmentPath",
    "InvocationID",
    "LoadState",
    "MainPID",
    "NRestarts",
    "NeedDaemonReload",
    "PassEnvironment",
    "StandardOutput",
    "SubState",
    "UnsetEnvironment",
    "User",
    "WorkingDirectory",
];
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// What tells how a unit runs.
const RUN: [(&str, &str); 6] = [
    (UNIT, "ActiveState"),
    (UNIT, "SubState"),
    (UNIT, "InvocationID"),
    (SERVICE, "MainPID"),
    (SERVICE, "NRestarts"),
    (SERVICE, "ControlGroup"),
];
/// What tells whether a unit's fence is heeded.
const FENCE: [(&str, &str); 2] = [(UNIT, "LoadState"), (UNIT, "Asserts")];
/// How many units are asked about in one go where the questions are short: D-Bus allows 128 that wait for their answers.
const AT_ONCE: usize = 16;
/// What systemd answers to a question about a unit that isn't loaded.
const NOT_LOADED: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// How many units are asked about at once. systemd answers one after the other; a few keep it busy.
const QUESTIONS: usize = 8;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    /// Keeps a unit loaded until it is let go or this connection ends.
    #[zbus(no_reply)]
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;
    #[zbus(no_reply)]
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Refused for a unit that isn't loaded, which then has nothing to reset: nobody waits for that.
    #[zbus(no_reply)]
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    #[allow(clippy::type_complexity, reason = "D-Bus signature ba(sss)")]
    fn enable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
        force: bool,
    ) -> zbus::Result<(bool, Vec<(String, String, String)>)>;
    fn disable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
    ) -> zbus::Result<Vec<(String, String, String)>>;

    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<Listed>>;
    /// In the order of the names; a unit that isn't loaded is loaded by that.
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Listed>>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn unit_path(&self) -> zbus::Result<Vec<String>>;

    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

/// A unit as systemd lists it: name, description, load state, active state, sub state, the unit that it follows, its
/// object, and its job.
type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// One ExecStart entry as systemd gives it: program, argv, ignore-failure, then times and statuses.
type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// One ExecStartEx entry, since systemd 243: as [`Exec`], but with every flag by its name.
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

fn commands(service: &mut Bag) -> Result<Vec<Vec<String>>> {
    if !service.0.contains_key("ExecStartEx") {
        let exec: Vec<Exec> = service.take("ExecStart")?;
        return Ok(exec
            .into_iter()
            .map(|(program, words, ..)| argv(program, words, false))
            .collect());
    }
    let exec: Vec<ExecEx> = service.take("ExecStartEx")?;
    let literal = |flags: &[String]| flags.iter().any(|flag| flag == "no-env-expand");
    Ok(exec
        .into_iter()
        .map(|(program, words, flags, ..)| argv(program, words, literal(&flags)))
        .collect())
}

/// A connection to the system's service manager.
pub struct Systemd {
    connection: zbus::Connection,
    manager: ManagerProxy<'static>,
    ends: mpsc::Receiver<JobEnd>,
    /// Units that are kept loaded: systemd forgets one that doesn't run at once, and reads it again for every question.
    kept: BTreeSet<UnitName>,
}

impl Systemd {
    /// Connects to the system bus and subscribes to job ends.
    ///
    /// # Errors
    /// No bus, or no systemd behind it; the message says what to look at.
    pub fn connect() -> Result<Systemd> {
        zbus::block_on(Systemd::connect_async()).context(
            "systemd can't be reached over D-Bus (is the dbus service running, and is this a host with systemd? \
             `--root DIR` works on a folder instead)",
        )
    }

    async fn connect_async() -> Result<Systemd> {
        let connection = zbus::connection::Builder::system()
            .method_timeout(CALL_LIMIT)
            .build()
            .await?;
        let manager = ManagerProxy::new(&connection).await?;
        let mut stream = manager.receive_job_removed().await?;
        manager.subscribe().await?;
        let (sender, ends) = mpsc::channel();
        std::thread::Builder::new()
            .name("job-ends".into())
            .spawn(move || {
                zbus::block_on(async move {
                    while let Some(signal) = stream.next().await {
                        let Ok(args) = signal.args() else { continue };
                        let end = JobEnd {
                            ticket: Ticket(args.job.to_string()),
                            result: args.result.clone(),
                        };
                        if sender.send(end).is_err() {
                            break;
                        }
                    }
                });
            })?;
        Ok(Systemd {
            connection,
            manager,
            ends,
            kept: BTreeSet::new(),
        })
    }

    fn run_of(&self, unit: &UnitName) -> Result<RunState> {
        let bags = some_of(&self.connection, std::slice::from_ref(unit), &RUN);
        let bag = bags.into_iter().next();
        run_state(&mut bag.with_context(|| format!("systemd says nothing of {unit}"))??)
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

/// Everything that systemd says of a unit, in one answer. One that isn't loaded is loaded by that.
fn about(connection: &zbus::Connection, unit: &UnitName) -> Result<Bag> {
    let answer = zbus::block_on(async {
        let asked = connection.call_method(
            Some("org.freedesktop.systemd1"),
            object_path(unit),
            Some("org.freedesktop.DBus.Properties"),
            "GetAll",
            // The properties of all its interfaces, as `systemctl show` asks for them.
            &"",
        );
        let answer = asked.await?;
        let body = answer.body();
        let all: HashMap<&str, Variant<'_>> = body.deserialize()?;
        let ours = all.into_iter().filter(|(name, _)| OURS.contains(name));
        let ours = ours.map(|(name, value)| Ok((name.to_owned(), value.try_into_owned()?)));
        anyhow::Ok(Bag(ours.collect::<Result<_>>()?))
    });
    answer.with_context(|| format!("asking systemd about {unit}"))
}

/// Some properties of some units, a bag a unit; the questions about a few units are on their way at once. A unit has four
/// hundred properties, and systemd reads control groups for some: asking for all takes several times as long. But each
/// is answered by itself, and a unit may change in between.
fn some_of(
    connection: &zbus::Connection,
    units: &[UnitName],
    properties: &'static [(&'static str, &'static str)],
) -> Vec<Result<Bag>> {
    let mut bags = Vec::new();
    for part in units.chunks(AT_ONCE) {
        let asked = part.iter().flat_map(|unit| {
            let object = object_path(unit);
            properties
                .iter()
                .map(move |property| ask(connection, object.clone(), *property))
        });
        let mut answers = zbus::block_on(together(asked)).into_iter();
        for unit in part {
            let ours = answers.by_ref().take(properties.len());
            let bag: Result<HashMap<_, _>> = ours.collect();
            let bag = bag.with_context(|| format!("asking systemd about {unit}"));
            bags.push(bag.map(Bag));
        }
    }
    bags
}

async fn ask(
    connection: &zbus::Connection,
    object: String,
    property: (&str, &str),
) -> Result<(String, OwnedVariant)> {
    let asked = connection.call_method(
        Some("org.freedesktop.systemd1"),
        object,
        Some("org.freedesktop.DBus.Properties"),
        "Get",
        &property,
    );
    let value: OwnedVariant = asked.await?.body().deserialize()?;
    Ok((property.1.to_owned(), value))
}

/// A question on its way, and its answer once it is there.
type Asked<F> = (Pin<Box<F>>, Option<<F as Future>::Output>);

/// The answers to questions that are all asked before the first answer is waited for.
async fn together<F: Future>(questions: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let questions = questions.into_iter();
    let mut asked: Vec<Asked<F>> = questions
        .map(|question| (Box::pin(question), None))
        .collect();
    std::future::poll_fn(|context| {
        for (question, answer) in &mut asked {
            if answer.is_none()
                && let Poll::Ready(said) = question.as_mut().poll(context)
            {
                *answer = Some(said);
            }
        }
        match asked.iter().all(|(_, answer)| answer.is_some()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    asked.into_iter().filter_map(|(_, answer)| answer).collect()
}

/// The object that a unit is, by its name: every byte but letters, and digits that aren't first, in hex
/// (sd_bus_path_encode(3)).
fn object_path(unit: &UnitName) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (n, byte) in unit.as_str().bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (n > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            path += &format!("_{byte:02x}");
        }
    }
    path
}

fn run_state(about: &mut Bag) -> Result<RunState> {
    let invocation: Vec<u8> = about.take("InvocationID")?;
    Ok(RunState {
        active: about.take("ActiveState")?,
        sub: about.take("SubState")?,
        main_pid: about.take("MainPID")?,
        invocation: invocation.iter().map(|b| format!("{b:02x}")).collect(),
        restarts: about.take("NRestarts")?,
        control_group: about.take("ControlGroup")?,
    })
}

/// The properties of a unit.
struct Bag(HashMap<String, OwnedVariant>);

impl Bag {
    fn take<T>(&mut self, name: &str) -> Result<T>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: std::error::Error + Send + Sync + 'static,
    {
        let value = self
            .0
            .remove(name)
            .with_context(|| format!("systemd names no property {name}"))?;
        T::try_from(value).with_context(|| format!("systemd's property {name} has another type"))
    }
}

impl Services for Systemd {
    fn unit_path(&mut self) -> Result<Vec<PathBuf>> {
        let path =
            zbus::block_on(self.manager.unit_path()).context("asking systemd for its unit path")?;
        Ok(path.into_iter().map(PathBuf::from).collect())
    }

    fn view(&mut self, unit: &UnitName) -> Result<UnitView> {
        view(unit, about(&self.connection, unit)?)
    }

    fn views(&mut self, units: &[UnitName]) -> Vec<Result<UnitView>> {
        if let [unit] = units {
            return vec![self.view(unit)];
        }
        // Where that isn't granted, or the connection is gone, the questions themselves tell.
        self.keep(units).ok();
        let connection = &self.connection;
        let ask = |part: &[UnitName]| -> Vec<Result<UnitView>> {
            let views = part.iter().map(|unit| view(unit, about(connection, unit)?));
            views.collect()
        };
        let part = units.len().div_ceil(QUESTIONS).max(1);
        std::thread::scope(|scope| {
            let asking: Vec<_> = units
                .chunks(part)
                .map(|part| scope.spawn(move || ask(part)))
                .collect();
            let answers = asking.into_iter().map(|thread| match thread.join() {
                Ok(views) => views,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            answers.flatten().collect()
        })
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

    fn run_state(&mut self, unit: &UnitName) -> Result<RunState> {
        if self.kept.contains(unit) {
            return self.run_of(unit);
        }
        // To be asked about its properties a unit that isn't loaded is read from disk, which takes longer than all else
        // while a signer is dark. systemd keeps every unit loaded that runs, failed or has a job.
        match zbus::block_on(self.manager.get_unit(unit.as_str())) {
            Ok(_) => self.run_of(unit),
            Err(zbus::Error::MethodError(name, ..)) if name == NOT_LOADED => Ok(RunState {
                active: "inactive".into(),
                sub: "dead".into(),
                ..RunState::default()
            }),
            Err(e) => Err(e).with_context(|| format!("asking systemd about {unit}")),
        }
    }

    fn run_states(&mut self, units: &[UnitName]) -> Vec<Result<RunState>> {
        self.keep(units).ok();
        let bags = some_of(&self.connection, units, &RUN);
        bags.into_iter().map(|bag| run_state(&mut bag?)).collect()
    }

    fn activities(&mut self, units: &[UnitName]) -> Result<Vec<Activity>> {
        if !units.iter().all(|unit| self.kept.contains(unit)) {
            let states = units.iter().map(|unit| self.run_state(unit));
            return states.map(|run| Ok(run?.activity())).collect();
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
        let path = zbus::block_on(async {
            match job {
                Job::Start(unit) => {
                    self.manager.reset_failed_unit(unit.as_str()).await?;
                    self.manager.start_unit(unit.as_str(), "replace").await
                }
                Job::Stop(unit) => self.manager.stop_unit(unit.as_str(), "replace").await,
            }
        })
        .with_context(|| match job {
            Job::Start(unit) => format!("asking systemd to start {unit}"),
            Job::Stop(unit) => format!("asking systemd to stop {unit}"),
        })?;
        Ok(Ticket(path.to_string()))
    }

    fn next_end(&mut self, within: Duration) -> Result<Option<JobEnd>> {
        match self.ends.recv_timeout(within) {
            Ok(end) => Ok(Some(end)),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!("the connection to systemd ended: job ends are no longer seen")
            }
        }
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
    fn a_unit_is_found_by_its_name() {
        let path = |name: &str| object_path(&name.parse().unwrap());
        let folder = "/org/freedesktop/systemd1/unit/";
        assert_eq!(
            path("tmkms-01.v3.service"),
            format!("{folder}tmkms_2d01_2ev3_2eservice")
        );
        assert_eq!(
            path("1_a@b.service"),
            format!("{folder}_31_5fa_40b_2eservice")
        );
    }
}
