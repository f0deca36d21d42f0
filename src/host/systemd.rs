//! systemd over D-Bus. The only asynchronous code of kmsctl, and the only place that speaks to the service manager.
//!
//! Job ends arrive as signals. A signal stream that is held and not polled blocks method calls once its queue is full,
//! and a job may end before its own call returns: so a thread of its own polls the stream from before the first call
//! and hands every end to a channel, where ends wait until they are asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use zbus::export::ordered_stream::OrderedStreamExt;
use zbus::wire::{OwnedObjectPath, OwnedVariant};

use super::{Job, JobEnd, Services, Ticket, UnitView};
use crate::inventory::RunState;
use crate::unit::UnitName;
use crate::unit::effective::EnvironmentFile;
use crate::unit::variables::{self, Variables};

/// How long a single method call may take. A reload of a large host takes a few hundred milliseconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
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

    #[allow(clippy::type_complexity, reason = "D-Bus signature a(ssssssouso)")]
    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<
        Vec<(
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
        )>,
    >;

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

#[zbus::proxy(
    interface = "org.freedesktop.DBus.Properties",
    default_service = "org.freedesktop.systemd1"
)]
trait Properties {
    fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

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
        })
    }

    fn properties(&self, unit: &UnitName, interface: &str) -> Result<Bag> {
        zbus::block_on(async {
            let path = self.manager.load_unit(unit.as_str()).await?;
            let proxy = PropertiesProxy::builder(&self.connection)
                .path(path)
                .build()
                .await?;
            anyhow::Ok(Bag(proxy.get_all(interface).await?))
        })
        .with_context(|| format!("asking systemd about {unit}"))
    }

    fn run_of(&self, unit: &UnitName, about: &mut Bag) -> Result<RunState> {
        let mut service = self.properties(unit, "org.freedesktop.systemd1.Service")?;
        run_state(about, &mut service)
    }
}

fn run_state(unit: &mut Bag, service: &mut Bag) -> Result<RunState> {
    let invocation: Vec<u8> = unit.take("InvocationID")?;
    Ok(RunState {
        active: unit.take("ActiveState")?,
        sub: unit.take("SubState")?,
        main_pid: service.take("MainPID")?,
        invocation: invocation.iter().map(|b| format!("{b:02x}")).collect(),
        restarts: service.take("NRestarts")?,
        control_group: service.take("ControlGroup")?,
    })
}

/// The properties of one interface.
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
        let mut about = self.properties(unit, "org.freedesktop.systemd1.Unit")?;
        let mut service = self.properties(unit, "org.freedesktop.systemd1.Service")?;
        let loaded: String = about.take("LoadState")?;
        if loaded != "loaded" {
            bail!("systemd says of {unit}: {loaded}; see `systemctl status {unit}`");
        }
        let run = run_state(&mut about, &mut service)?;
        let fragment: String = about.take("FragmentPath")?;
        let drop_ins: Vec<String> = about.take("DropInPaths")?;
        let exec = commands(&mut service)?;
        let asserts: Vec<Assert> = about.take("Asserts")?;
        let barred = asserts
            .into_iter()
            .filter(|(kind, _, negated, _, _)| kind == "AssertPathExists" && *negated);
        let mut own_variables = Variables::default();
        own_variables.assign(&service.take::<Vec<String>>("Environment")?);
        let environment_files: Vec<(String, bool)> = service.take("EnvironmentFiles")?;
        let mut outside: Vec<String> = service.take("PassEnvironment")?;
        outside.extend(service.take::<Vec<String>>("UnsetEnvironment")?);
        let directory: String = service.take("WorkingDirectory")?;
        // A leading '!' or '-' only says how a missing folder is taken (systemd's bus_property for WorkingDirectory).
        let directory = directory.trim_start_matches(['!', '-']);
        Ok(UnitView {
            name: unit.clone(),
            fragment: PathBuf::from(fragment),
            drop_ins: drop_ins.into_iter().map(PathBuf::from).collect(),
            exec,
            user: service.take("User")?,
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
            output: service.take("StandardOutput")?,
            needs_reload: about.take("NeedDaemonReload")?,
            barred_by: barred
                .map(|(_, _, _, path, _)| PathBuf::from(path))
                .collect(),
            run,
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
        let mut about = self.properties(unit, "org.freedesktop.systemd1.Unit")?;
        self.run_of(unit, &mut about)
    }

    fn begin(&mut self, job: &Job) -> Result<Ticket> {
        let path = zbus::block_on(async {
            match job {
                Job::Start(unit) => {
                    // Refused for a unit that isn't loaded, which then has nothing to reset.
                    let _ = self.manager.reset_failed_unit(unit.as_str()).await;
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
        zbus::block_on(self.manager.reload()).context("asking systemd to read its units again")
    }
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
