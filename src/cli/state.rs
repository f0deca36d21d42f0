//! `state`: a state file shown, or written as the other program's. It never changes one: what it writes is new.

use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use tmkms_core::state::{SignState, StateFile, StateFormat};

use super::operation;
use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::host::files::Tree;
use crate::host::{Entry, Files, Host};
use crate::inventory::FileFacts;
use crate::journal::store::History;
use crate::ledger::Ledger;
use crate::paths::NewPath;
use crate::plan::safety;
use crate::ui::Ui;
use crate::ui::state::{Shown, text};

#[derive(Debug, Args)]
pub struct StateArgs {
    #[command(subcommand)]
    verb: StateVerb,
}

#[derive(Debug, Subcommand)]
enum StateVerb {
    /// Show how far a state file is, tmkms' or CometBFT's, and what was signed there
    Show {
        /// The state file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Write CometBFT's priv_validator_state.json as tmkms' state file, or the other way round
    Convert {
        /// The state file to read; it stays as it is
        #[arg(value_name = "FROM")]
        from: PathBuf,
        /// The file to write, where none is yet
        #[arg(value_name = "TO")]
        to: PathBuf,
        /// Whose format to write; by default the one that FROM isn't in
        #[arg(long, value_name = "FORMAT")]
        format: Option<Format>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Tmkms,
    Cometbft,
}

impl From<Format> for StateFormat {
    fn from(format: Format) -> StateFormat {
        match format {
            Format::Tmkms => StateFormat::Tmkms,
            Format::Cometbft => StateFormat::Cometbft,
        }
    }
}

pub fn run(
    host: impl FnOnce() -> anyhow::Result<Host>,
    files: &Tree,
    ui: Ui,
    args: &StateArgs,
) -> Outcome {
    let shown = match &args.verb {
        StateVerb::Show { file } => {
            let path = absolute(file)?;
            Shown::of(&path, &read(files, &path)?)
        }
        StateVerb::Convert { from, to, format } => convert(
            &mut host()?,
            files,
            ui,
            &absolute(from)?,
            &absolute(to)?,
            *format,
        )?,
    };
    match ui.json {
        true => ui.json(&shown)?,
        false => ui.out(&text(&shown))?,
    }
    Ok(Exit::Done)
}

/// A path as the command line has it, seen from the host's root.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path).with_context(|| format!("reading {path:?}"))?;
    match path.components().any(|c| c == Component::ParentDir) {
        true => Err(Failure::usage(format!(
            "{} climbs with `..`: name the file itself",
            path.display()
        ))),
        false => Ok(path),
    }
}

/// Reads a state file of either format.
pub fn read(files: &Tree, path: &Path) -> Result<StateFile, Failure> {
    let shown = path.display();
    let bytes = files
        .read(path)
        .with_context(|| format!("reading {shown}"))?;
    StateFile::parse(&bytes).map_err(|e| Failure::refused(format!("{shown}: {e}")))
}

fn convert(
    host: &mut Host,
    files: &Tree,
    ui: Ui,
    from: &Path,
    to: &Path,
    format: Option<Format>,
) -> Result<Shown, Failure> {
    let _lock = operation::lock(host)?;
    let state = read(files, from)?;
    is_newest(host, files, from, state.at_in_tmkms())?;
    let format = format.map_or(
        match state.format {
            StateFormat::Tmkms => StateFormat::Cometbft,
            StateFormat::Cometbft => StateFormat::Tmkms,
        },
        StateFormat::from,
    );
    let text = match format {
        StateFormat::Tmkms => state.to_tmkms(),
        StateFormat::Cometbft => state.to_cometbft(),
    };
    let written = StateFile::parse(text.as_bytes())
        .map_err(|e| Failure::refused(format!("{}: {e}", from.display())))?;
    let owner = match files.entry(from) {
        Ok(Some(Entry::File(facts))) => facts,
        _ => {
            return Err(Failure::refused(format!(
                "{} is no regular file: name the state file itself",
                from.display()
            )));
        }
    };
    let new = NewPath::unwritten(real(files, to)?).map_err(Failure::refused)?;
    free(host, files, new.as_path(), written.at)?;
    is_nobody_s(host, &real(files, from)?, new.as_path())?;
    let is = FileFacts {
        mode: 0o600,
        ..owner
    };
    files
        .create_one_file(&new, text.as_bytes(), is)
        .with_context(|| format!("writing {new}"))?;
    ui.note(&format!(
        "Written from {} ({}), which stays as it is and must never be signed from again: from now on one of the two goes on.",
        from.display(),
        state.format
    ));
    Ok(Shown {
        from: Some(from.to_owned()),
        ..Shown::of(new.as_path(), &written)
    })
}

/// A path without a link in its folders.
fn real(files: &Tree, path: &Path) -> Result<PathBuf, Failure> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder = files
        .resolve(folder)
        .with_context(|| format!("looking at {}", folder.display()))?;
    Ok(folder.join(path.file_name().unwrap_or_default()))
}

/// Refuses a state file that a journal saw further: an older copy would let the same heights be signed again (rule S6).
pub fn is_newest(host: &Host, files: &Tree, path: &Path, at: SignState) -> Result<(), Failure> {
    let history = History::read(host)?;
    let ledger = Ledger::of(&history.0);
    let real = real(files, path)?;
    let highest = [path, &real]
        .into_iter()
        .filter_map(|name| ledger.highest(name))
        .max();
    match highest.filter(|highest| *highest > at) {
        Some(highest) => Err(Failure::refused(format!(
            "{} is at {at}, and this host's journals saw it at {highest}: what was signed above {at} could be signed again; \
             find the newer file",
            path.display()
        ))),
        None => Ok(()),
    }
}

/// Refuses a file that a signer of this host goes on with, and a place where one looks for its own.
///
/// A retired signer's file may be read: that is the way back to a validator that signs itself.
fn is_nobody_s(host: &mut Host, from: &Path, to: &Path) -> Result<(), Failure> {
    let inventory = discover::inventory(host, Versions::Skip)?;
    // Whose state file isn't known may have this one.
    let strays = safety::processes(&inventory);
    let mut unread = inventory.problems.iter().chain(&strays);
    if let Some(finding) = unread.find(|finding| finding.blocks()) {
        return Err(Failure::refused(format!(
            "{}; until then nobody knows whose state {} is",
            finding.sentence(),
            from.display()
        )));
    }
    for signer in &inventory.signers {
        let unit = &signer.unit.name;
        let has = |path: &Path| signer.chains.iter().any(|c| c.state_file == path);
        if has(from) && signer.is_current() {
            let what = match signer.is_up() {
                true => "runs",
                false => "is enabled",
            };
            return Err(Failure::refused(format!(
                "{} is the state of {unit}, which {what}: a copy wouldn't know what it signs next; `systemctl disable --now \
                 {unit}` first, for good",
                from.display()
            )));
        }
        if has(to) {
            return Err(Failure::refused(format!(
                "{} is where {unit} has its state ({}): it isn't made beside its signer; write it elsewhere, or set a signer \
                 up with `kmsctl init --state`",
                to.display(),
                signer.config.path.display()
            )));
        }
    }
    Ok(())
}

/// Refuses a place where a state file is, or was further (rules S3 and S6).
pub fn free(host: &Host, files: &Tree, to: &Path, at: SignState) -> Result<(), Failure> {
    let shown = to.display();
    let there = files
        .entry(to)
        .with_context(|| format!("looking at {shown}"))?;
    if there.is_some() {
        let known = files.read(to).ok();
        let known = known.and_then(|bytes| StateFile::parse(&bytes).ok());
        let known = known.map_or(String::new(), |there| {
            let lower = match there.at_in_tmkms() > at {
                true => format!(", and {at} would lower it"),
                false => String::new(),
            };
            format!(" at {}{lower}", there.at)
        });
        return Err(Failure::refused(format!(
            "{shown} is there already{known}: a state file is never overwritten; name another path"
        )));
    }
    let history = History::read(host)?;
    match Ledger::of(&history.0).highest(to) {
        Some(highest) if highest > at => Err(Failure::refused(format!(
            "{shown} is gone, but this host's journals saw it at {highest}, and {at} is lower: what was signed above {at} \
             could be signed again; bring the file back"
        ))),
        _ => Ok(()),
    }
}
