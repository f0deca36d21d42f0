//! Fills an inventory: units that run tmkms, the configs they start on, the state files those name.
//!
//! The fleet is found from the units and not from a path pattern, since every operator has paths of their own. What
//! can't be read becomes a finding, never a guess, and nothing is changed.

mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tmkms_core::config::{Config, KeyRef};
use tmkms_core::protocol::TmkmsVersion;
use tmkms_core::state::SignState;

use crate::finding::{Code, Finding, Severity};
use crate::host::{Entry, Files, Host, UnitView};
use crate::inventory::{ConfigFile, Inventory, Signer, SignerChain, StateReading, Unit};
use crate::kms::tmkms;
use crate::paths::DROP_IN;
use crate::plan::Move;
use crate::plan::safety::{Found, Surroundings};
use crate::unit::{UnitName, UnitText};
use units::Links;

/// Whether each signer's binary is asked for its version: it costs a process a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    Ask,
    Skip,
}

/// Looks at the host.
///
/// # Errors
/// The service manager or `/proc` can't be asked at all. What is wrong with a single unit is a finding instead.
pub fn inventory(host: &mut Host, versions: Versions) -> Result<Inventory> {
    let path = host.services.unit_path()?;
    let links = Links::read(&*host.files, &path)?;
    let mut signers = Vec::new();
    let mut problems = Vec::new();
    let mut known = BTreeMap::new();
    for unit in units::candidates(&*host.files, &path, &mut problems)? {
        let enabled = links.of(&unit);
        let look = Look {
            links: enabled,
            versions,
            known: &mut known,
        };
        match signer(host, &unit, look) {
            Ok(Some(signer)) => signers.push(signer),
            Ok(None) => {}
            Err(problem) => problems.push(*problem),
        }
    }
    problems.sort();
    Ok(Inventory {
        host: host.name.clone(),
        observed_at: host.clock.now(),
        signers,
        processes: host.processes.signers()?,
        problems,
    })
}

struct Look<'a> {
    links: Vec<PathBuf>,
    versions: Versions,
    known: &'a mut BTreeMap<(PathBuf, String), Option<TmkmsVersion>>,
}

fn signer(
    host: &mut Host,
    name: &UnitName,
    look: Look<'_>,
) -> Result<Option<Signer>, Box<Finding>> {
    let view = host.services.view(name).map_err(|e| {
        let message = format!("what the unit means can't be read: {e:#}");
        let remedy = "mend the unit; until then kmsctl can't know which config it runs";
        Box::new(
            Finding::block(Code::UnitUnreadable, message)
                .of(name.signer())
                .remedy(remedy),
        )
    })?;
    let starts: Vec<&Vec<String>> = view.exec.iter().filter(|e| tmkms::is_start(e)).collect();
    let argv = match starts[..] {
        [] => return Ok(None),
        [argv] => argv.clone(),
        _ => {
            let message = "the unit starts tmkms more than once";
            let remedy = "give each signer a unit of its own";
            return Err(Box::new(
                Finding::block(Code::UnitUnreadable, message)
                    .at(&view.fragment)
                    .remedy(remedy),
            ));
        }
    };
    let severity = if view.run.is_up() || !look.links.is_empty() {
        Severity::Block
    } else {
        Severity::Warn
    };
    read_signer(host, view, argv, look)
        .map(Some)
        .map_err(|mut problem| {
            problem.severity = severity;
            problem
        })
}

fn read_signer(
    host: &mut Host,
    view: UnitView,
    argv: Vec<String>,
    look: Look<'_>,
) -> Result<Signer, Box<Finding>> {
    let files = &*host.files;
    let name = view.name.signer().to_owned();
    let unreadable = |path: &Path, e: &dyn std::fmt::Display| {
        let message = format!("the unit's text can't be read: {e}");
        Box::new(
            Finding::block(Code::UnitUnreadable, message)
                .of(&name)
                .at(path)
                .remedy("write it in a form that kmsctl reads, then plan again"),
        )
    };
    let text = read_text(files, &view.fragment).map_err(|e| unreadable(&view.fragment, &e))?;
    let parsed = UnitText::parse(&text).map_err(|e| {
        let mut finding = unreadable(&view.fragment, &e.message);
        finding.line = Some(e.line);
        finding
    })?;
    let drop_ins: Vec<PathBuf> = view
        .drop_ins
        .into_iter()
        .filter(|path| path.file_name().is_none_or(|name| name != DROP_IN))
        .collect();
    let mut drop_in_texts = Vec::new();
    for drop_in in &drop_ins {
        drop_in_texts.push(read_text(files, drop_in).map_err(|e| unreadable(drop_in, &e))?);
    }
    let facts = files
        .facts(&view.fragment)
        .map_err(|e| unreadable(&view.fragment, &e))?;
    let linked = matches!(files.entry(&view.fragment), Ok(Some(Entry::Link(_))));
    let variable = tmkms::config_variable(&view.environment);
    let config_path = tmkms::config_path(&argv, variable, &view.working_directory);
    let exec_line = parsed.list("Service", "ExecStart").last().map(|s| s.line);
    let config = config(files, &config_path).map_err(|problem| match problem {
        ConfigProblem::Unreadable(e) => {
            let message = format!(
                "it starts tmkms on {}, which can't be read: {e}",
                config_path.display()
            );
            let mut finding = Finding::block(Code::ConfigUnreadable, message).of(&name);
            finding = finding.at(&view.fragment).remedy(
                "put the config there, or disable the unit if the signer is no longer wanted",
            );
            finding.line = exec_line;
            Box::new(finding)
        }
        ConfigProblem::Invalid { line, message } => Box::new(
            Finding::block(Code::ConfigInvalid, message)
                .of(&name)
                .at(&config_path)
                .line(line)
                .remedy("mend the config: tmkms refuses it as well"),
        ),
    })?;
    let chains = chains(files, &config.view, &view.working_directory);
    let version = match look.versions {
        Versions::Skip => None,
        Versions::Ask => {
            let program = PathBuf::from(&argv[0]);
            let key = (program.clone(), view.user.clone());
            match look.known.get(&key) {
                Some(version) => *version,
                None => {
                    let version = host
                        .processes
                        .tmkms_version(&program, &view.user)
                        .ok()
                        .flatten();
                    look.known.insert(key, version);
                    version
                }
            }
        }
    };
    Ok(Signer {
        unit: Unit {
            config_variable: variable.map(str::to_owned),
            name: view.name,
            fragment: view.fragment,
            text,
            facts,
            drop_ins,
            drop_in_texts,
            exec: argv,
            kind: view.kind,
            user: view.user,
            working_directory: view.working_directory,
            needs_reload: view.needs_reload,
            linked,
            links: look.links,
            run: view.run,
        },
        config,
        chains,
        version,
    })
}

/// Why a config gives no view.
enum ConfigProblem {
    Unreadable(String),
    Invalid { line: usize, message: String },
}

fn config(files: &dyn Files, path: &Path) -> Result<ConfigFile, ConfigProblem> {
    let text = read_text(files, path).map_err(ConfigProblem::Unreadable)?;
    let facts = files
        .facts(path)
        .map_err(|e| ConfigProblem::Unreadable(e.to_string()))?;
    let folder = files
        .resolve(path.parent().unwrap_or(Path::new("/")))
        .map_err(|e| ConfigProblem::Unreadable(e.to_string()))?;
    let view = Config::parse(&text).map_err(|e| ConfigProblem::Invalid {
        line: e.line,
        message: e.message.clone(),
    })?;
    Ok(ConfigFile {
        path: path.to_owned(),
        folder,
        text,
        facts,
        view,
    })
}

fn read_text(files: &dyn Files, path: &Path) -> Result<String, String> {
    let bytes = files.read(path).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it isn't UTF-8".to_owned())
}

fn chains(files: &dyn Files, config: &Config, directory: &Path) -> Vec<SignerChain> {
    config
        .chains
        .iter()
        .map(|chain| {
            let state_file = tmkms::absolute(&config.state_file_or_default(chain), directory);
            SignerChain {
                id: chain.id.value.clone(),
                state: state(files, &state_file),
                keys: keys(config, &chain.id.value, directory),
                state_file,
            }
        })
        .collect()
}

/// The keys that sign a chain, key files by their absolute paths.
fn keys(config: &Config, chain: &str, directory: &Path) -> Vec<KeyRef> {
    let absolute = |path: &str| {
        tmkms::absolute(path, directory)
            .to_string_lossy()
            .into_owned()
    };
    config
        .keys_for(chain)
        .into_iter()
        .map(|key| match key {
            KeyRef::Softsign { path } => KeyRef::Softsign {
                path: absolute(&path),
            },
            other => other,
        })
        .collect()
}

/// Reads a state file without touching it.
pub fn state(files: &dyn Files, path: &Path) -> StateReading {
    match files.entry(path) {
        Ok(None) => StateReading::Missing,
        Ok(Some(Entry::Link(_))) => StateReading::Link,
        Ok(Some(Entry::File(_))) => match files.read(path) {
            Ok(bytes) => match SignState::parse(&bytes) {
                Ok(state) => StateReading::Read(state),
                Err(e) => StateReading::Unreadable(e.to_string()),
            },
            Err(e) => StateReading::Unreadable(e.to_string()),
        },
        Ok(Some(Entry::Folder(_))) => StateReading::Unreadable("it is a folder".into()),
        Ok(Some(Entry::Other)) => StateReading::Unreadable("it isn't a regular file".into()),
        Err(e) => StateReading::Unreadable(e.to_string()),
    }
}

/// Looks at what a draft's moves would meet: the files in their way, the new chain's state files.
pub fn surroundings(files: &dyn Files, moves: &[Move]) -> Surroundings {
    let mut around = Surroundings::default();
    for moving in moves {
        for file in &moving.files {
            let path = file.path.as_path();
            let found = match files.entry(path) {
                Ok(None) => continue,
                Ok(Some(Entry::File(_))) => match files.read(path) {
                    Ok(bytes) => Found::File(bytes),
                    Err(e) => Found::Unreadable(e.to_string()),
                },
                Ok(Some(Entry::Link(to))) => Found::Other(format!("a link to {}", to.display())),
                Ok(Some(Entry::Folder(_))) => Found::Other("a folder".into()),
                Ok(Some(Entry::Other)) => Found::Other("a device or a socket".into()),
                Err(e) => Found::Unreadable(e.to_string()),
            };
            around.targets.insert(path.to_owned(), found);
        }
        for chain in &moving.chains {
            let path = &chain.new.state_file;
            around.states.insert(path.clone(), state(files, path));
        }
    }
    around
}
