//! Reads one signer: its unit as the manager means it, its config, its chains and state files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tmkms_core::config::{Config, KeyRef};
use tmkms_core::protocol::TmkmsVersion;

use super::links::Links;
use super::pulls::Pulls;
use super::{Versions, state};
use crate::content::Fingerprint;
use crate::finding::{Code, Finding, Severity};
use crate::host::unit_path::is_mask;
use crate::host::{Entry, Files, Host, UnitView};
use crate::inventory::{ConfigFile, Signer, SignerChain, StateReading, Unit};
use crate::kms::tmkms;
use crate::paths::{DROP_IN, ManagedPath};
use crate::unit::variables::{self, Variables};
use crate::unit::{UnitName, UnitText};

/// What the host's tmkms binaries said, each asked once for each user that runs it.
pub struct Binaries {
    versions: Versions,
    known: BTreeMap<(PathBuf, String), (Option<TmkmsVersion>, Option<Fingerprint>)>,
}

impl Binaries {
    pub fn new(versions: Versions) -> Binaries {
        Binaries {
            versions,
            known: BTreeMap::new(),
        }
    }

    pub(super) fn about(
        &mut self,
        host: &mut Host,
        program: &Path,
        user: &str,
    ) -> (Option<TmkmsVersion>, Option<Fingerprint>) {
        if self.versions == Versions::Skip {
            return (None, None);
        }
        let key = (program.to_owned(), user.to_owned());
        let ask = || {
            // What doesn't answer is unknown, which the plan says.
            let version = host.processes.tmkms_version(program, user).ok().flatten();
            (version, host.files.fingerprint(program).ok())
        };
        self.known.entry(key).or_insert_with(ask).clone()
    }
}

/// Reads a unit that may be a signer; none where it starts no tmkms.
///
/// # Errors
/// A finding: blocking where the unit runs or is enabled, a warning where it does neither.
pub fn read(
    host: &mut Host,
    name: &UnitName,
    view: anyhow::Result<UnitView>,
    links: &Links,
    pulls: &Pulls,
    binaries: &mut Binaries,
) -> Result<Option<Signer>, Box<Finding>> {
    let marker = host.files.entry(ManagedPath::fence(name).as_path());
    let pulled_in =
        pulls.get(name).is_some_and(|by| !by.is_empty()) && !matches!(marker, Ok(Some(_)));
    let run = match &view {
        Ok(view) => Ok(view.run.clone()),
        Err(_) => host.services.run(name).map(|run| run.state),
    };
    let current = links.enable(name) || pulled_in || run.is_ok_and(|r| r.is_up());
    let read = match view {
        Ok(view) => from_view(host, view, links, pulls, binaries),
        Err(e) => {
            let message = format!("what {name} means can't be read: {e:#}");
            let remedy = "mend the unit; until then kmsctl can't know which config it runs";
            Err(finding(Code::UnitUnreadable, message, name.signer()).remedy(remedy))
        }
    };
    read.map_err(|mut problem| {
        problem.severity = if current {
            Severity::Block
        } else {
            Severity::Warn
        };
        Box::new(problem)
    })
}

pub(super) fn finding(code: Code, message: impl Into<String>, signer: String) -> Finding {
    Finding::block(code, message).of(signer)
}

fn from_view(
    host: &mut Host,
    view: UnitView,
    links: &Links,
    pulls: &Pulls,
    binaries: &mut Binaries,
) -> Result<Option<Signer>, Finding> {
    let files = &*host.files;
    let Some(command) = command(files, &view)? else {
        return Ok(None);
    };
    let (text, parsed) = unit_text(files, &view)?;
    let (drop_ins, drop_in_texts) = drop_ins(files, &view)?;
    let config_path = command.config(&view)?;
    let Command {
        argv,
        file_variables,
        ..
    } = command;
    let config = config(files, &config_path)
        .map_err(|problem| problem.finding(&view, &config_path, &parsed))?;
    let chains = chains(files, &config.view, &view.working_directory);
    let linked = matches!(files.entry(&view.fragment), Ok(Some(Entry::Link(_))));
    let (own, marker) = (
        ManagedPath::drop_in(&view.name),
        ManagedPath::fence(&view.name),
    );
    let heeded = view.barred_by.iter().any(|path| path == marker.as_path());
    let own_unread = matches!(files.entry(own.as_path()), Ok(Some(_))) && !heeded;
    let marked = matches!(files.entry(marker.as_path()), Ok(Some(_)));
    let (version, binary) = binaries.about(host, Path::new(&argv[0]), &view.user);
    Ok(Some(Signer {
        unit: Unit {
            name: view.name.clone(),
            fragment: view.fragment,
            text,
            linked,
            drop_ins,
            drop_in_texts,
            exec: argv,
            user: view.user,
            working_directory: view.working_directory,
            file_variables,
            needs_reload: view.needs_reload && !own_unread,
            aliases: links.aliases(&view.name),
            links: links.of(&view.name),
            mask: links.mask(&view.name),
            pulled_in_by: pulls.get(&view.name).cloned().unwrap_or_default(),
            closed: marked && heeded,
            unheeded: marked && !heeded,
            run: view.run,
        },
        config,
        chains,
        version,
        binary,
    }))
}

/// How a unit starts tmkms.
pub(super) struct Command {
    pub(super) argv: Vec<String>,
    variables: Variables,
    file_variables: Variables,
}

impl Command {
    pub(super) fn config(&self, view: &UnitView) -> Result<PathBuf, Finding> {
        let named = self.variables.get(tmkms::CONFIG_VARIABLE);
        tmkms::config_path(&self.argv, named, &view.working_directory)
            .map_err(|word| unknown_word(view, self.argv.get(word.0)))
    }
}

/// How a unit starts tmkms; none where it doesn't.
pub(super) fn command(files: &dyn Files, view: &UnitView) -> Result<Option<Command>, Finding> {
    let file_variables = view
        .file_variables(files)
        .map_err(|e| environment(view, format!("its environment can't be read: {e:#}")))?;
    let mut variables = view.variables.clone();
    variables.extend(&file_variables);
    let exec = view.exec.iter().map(|e| variables.substitute(e));
    let starts: Vec<Vec<String>> = exec.filter(|e| tmkms::is_start(e)).collect();
    let argv = match &starts[..] {
        [] => return Ok(None),
        [argv] => argv.clone(),
        _ => {
            let message = "the unit starts tmkms more than once";
            let finding = finding(Code::UnitUnreadable, message, view.name.signer());
            return Err(finding
                .at(&view.fragment)
                .remedy("give each signer a unit of its own"));
        }
    };
    if let Some(name) = view.exec.iter().find_map(|e| variables.unset(e)) {
        return Err(unset(view, name));
    }
    let used = view.exec.iter().flat_map(|e| variables::used(e));
    let mut used = used.chain([tmkms::CONFIG_VARIABLE]);
    if let Some(name) = used.find(|name| view.outside_variables.iter().any(|o| o == name)) {
        let message = format!(
            "PassEnvironment= or UnsetEnvironment= decides what {name} is, which kmsctl doesn't follow"
        );
        return Err(environment(view, message));
    }
    Ok(Some(Command {
        argv,
        variables,
        file_variables,
    }))
}

fn unset(view: &UnitView, name: &str) -> Finding {
    let from = view.environment_files.iter();
    let from: Vec<String> = from.map(|f| f.path.display().to_string()).collect();
    let message = if from.is_empty() {
        format!("its command uses ${{{name}}}, which nothing sets")
    } else {
        format!(
            "its command uses ${{{name}}}, which neither the unit sets nor {}",
            from.join(", ")
        )
    };
    finding(Code::UnitUnreadable, message, view.name.signer())
        .at(&view.fragment)
        .remedy("set it there, then plan again")
}

fn environment(view: &UnitView, message: String) -> Finding {
    finding(Code::UnitUnreadable, message, view.name.signer())
        .at(&view.fragment)
        .remedy("name the config in the command itself, or mend that; then plan again")
}

/// A word is shown only where the unit's own text has it: out of a variable it may be a secret.
fn unknown_word(view: &UnitView, word: Option<&String>) -> Finding {
    let shown = word.filter(|word| view.exec.iter().flatten().any(|w| w == *word));
    let message = match shown {
        Some(word) => format!("tmkms' start is given {word:?}, which kmsctl doesn't know there"),
        None => {
            "tmkms' start is given, by a variable, a word that kmsctl doesn't know there".into()
        }
    };
    finding(Code::UnitUnreadable, message, view.name.signer())
        .at(&view.fragment)
        .remedy("start it as `tmkms start -c CONFIG`, with `-v` or without; then plan again")
}

fn unit_text(files: &dyn Files, view: &UnitView) -> Result<(String, UnitText), Finding> {
    let text =
        read_text(files, &view.fragment).map_err(|e| unreadable(view, &view.fragment, &e))?;
    let parsed = UnitText::parse(&text)
        .map_err(|e| unreadable(view, &view.fragment, &e.message).line(e.line))?;
    Ok((text, parsed))
}

fn unreadable(view: &UnitView, path: &Path, why: &str) -> Finding {
    let message = format!("the unit's text can't be read: {why}");
    finding(Code::UnitUnreadable, message, view.name.signer())
        .at(path)
        .remedy("write it in a form that kmsctl reads, then plan again")
}

/// The unit's drop-ins but kmsctl's own, masks among them, and their texts.
fn drop_ins(files: &dyn Files, view: &UnitView) -> Result<(Vec<PathBuf>, Vec<String>), Finding> {
    let foreign = |path: &&PathBuf| path.file_name().is_none_or(|name| name != DROP_IN);
    let paths: Vec<PathBuf> = view.drop_ins.iter().filter(foreign).cloned().collect();
    let mut texts = Vec::new();
    for path in &paths {
        // A mask hides the drop-ins of its name and says nothing itself.
        texts.push(match is_mask(files, path) {
            true => String::new(),
            false => read_text(files, path).map_err(|e| unreadable(view, path, &e))?,
        });
    }
    Ok((paths, texts))
}

/// Why a config gives no view.
enum ConfigProblem {
    Unreadable(String),
    Invalid { line: usize, message: String },
}

impl ConfigProblem {
    fn finding(self, view: &UnitView, path: &Path, unit: &UnitText) -> Finding {
        match self {
            ConfigProblem::Unreadable(why) => {
                let message = format!(
                    "it starts tmkms on {}, which can't be read: {why}",
                    path.display()
                );
                let mut finding = finding(Code::ConfigUnreadable, message, view.name.signer());
                finding.line = unit.list("Service", "ExecStart").last().map(|s| s.line);
                finding.at(&view.fragment).remedy(
                    "put the config there, or disable the unit if the signer is no longer wanted",
                )
            }
            ConfigProblem::Invalid { line, message } => {
                finding(Code::ConfigInvalid, message, view.name.signer())
                    .at(path)
                    .line(line)
                    .remedy("mend the config: tmkms refuses it as well")
            }
        }
    }
}

fn config(files: &dyn Files, path: &Path) -> Result<ConfigFile, ConfigProblem> {
    let text = read_text(files, path).map_err(ConfigProblem::Unreadable)?;
    let folder = files
        .resolve(path.parent().unwrap_or(Path::new("/")))
        .map_err(|e| ConfigProblem::Unreadable(e.to_string()))?;
    if let Some(why) = not_utf_8(&folder) {
        return Err(ConfigProblem::Unreadable(why));
    }
    let view = Config::parse(&text).map_err(|e| ConfigProblem::Invalid {
        line: e.line,
        message: e.message.clone(),
    })?;
    Ok(ConfigFile {
        path: path.to_owned(),
        folder,
        text,
        view,
    })
}

pub(super) fn read_text(files: &dyn Files, path: &Path) -> Result<String, String> {
    let bytes = files.read(path).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it isn't UTF-8".to_owned())
}

/// The chains of a config that is read in a folder.
pub fn chains(files: &dyn Files, config: &Config, directory: &Path) -> Vec<SignerChain> {
    let chains = config.chains.iter().map(|chain| {
        let written = tmkms::absolute(&config.state_file_or_default(chain), directory);
        let real = link_free(files, &written);
        // A name that no plan or journal could keep is as good as unreadable.
        let (state_file, state) = match not_utf_8(&real) {
            Some(why) => (written, StateReading::Unreadable(why)),
            None => (real.clone(), state(files, &real)),
        };
        SignerChain {
            id: chain.id.value.clone(),
            state,
            keys: keys(files, config, &chain.id.value, directory),
            state_file,
        }
    });
    chains.collect()
}

/// Why a path that links lead to can't be used.
fn not_utf_8(path: &Path) -> Option<String> {
    path.to_str().is_none().then(|| {
        format!(
            "links lead to {}, a name that isn't UTF-8: rename it",
            path.display()
        )
    })
}

/// The one name of a file, whatever spelling led to it. Where its folder isn't there, there is no other name.
pub fn link_free(files: &dyn Files, path: &Path) -> PathBuf {
    match (
        path.parent().map(|folder| files.resolve(folder)),
        path.file_name(),
    ) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// The keys that sign a chain, key files by their one name.
fn keys(files: &dyn Files, config: &Config, chain: &str, directory: &Path) -> Vec<KeyRef> {
    let keys = config.keys_for(chain).into_iter().map(|key| match key {
        KeyRef::Softsign { path } => {
            let path = link_free(files, &tmkms::absolute(&path, directory));
            KeyRef::Softsign {
                path: path.to_string_lossy().into_owned(),
            }
        }
        other => other,
    });
    keys.collect()
}
