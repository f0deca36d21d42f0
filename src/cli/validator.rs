//! `validator`: lets a validator wait for its signer instead of signing itself, on the validator's own host.
//!
//! It changes three lines of one file and keeps that file as it was. It must never touch a key, a state or a firewall: it
//! says which copies of the key endanger the validator now, and what to type.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use tmkms_core::config::SoftsignFormat;
use tmkms_core::keys::SecretKey;

use super::state::absolute;
use crate::exit::{Exit, Failure, Outcome};
use crate::host::files::Tree;
use crate::host::{Entry, Files};
use crate::paths::NewPath;
use crate::render::difference;
use crate::ui::Ui;
use crate::ui::validator::{KeyCopy, Report, text};
use crate::validator::{ConfigToml, Listen, waits};

/// What the file is kept as.
const BACKUP: &str = ".kmsctl-backup";

#[derive(Debug, Args)]
pub struct ValidatorArgs {
    /// The validator's config.toml
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where the validator waits for its signer, such as tcp://0.0.0.0:26658
    #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["check", "undo"])]
    laddr: Option<Listen>,
    /// The signer's address, for the firewall rule that is printed
    #[arg(long, value_name = "IP")]
    signer: Option<IpAddr>,
    /// Only report
    #[arg(long)]
    check: bool,
    /// Put the config.toml back as it was
    #[arg(long, conflicts_with_all = ["laddr", "check"])]
    undo: bool,
}

struct Found {
    /// Without a link in its folders.
    path: PathBuf,
    backup: NewPath,
    text: String,
}

pub fn run(files: &Tree, ui: Ui, args: &ValidatorArgs) -> Outcome {
    let found = find(files, &args.config)?;
    let report = if args.undo {
        undo(files, ui, args, &found)?
    } else {
        set(files, ui, args, &found)?
    };
    match ui.json {
        true => ui.json(&report)?,
        false => ui.out(&text(&report))?,
    }
    Ok(Exit::Done)
}

fn find(files: &Tree, given: &Path) -> Result<Found, Failure> {
    let given = absolute(given)?;
    let shown = given.display();
    let name = given
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|name| name.ends_with(".toml"))
        .ok_or_else(|| Failure::refused(format!("{shown}: a validator's config.toml is meant")))?;
    let folder = given.parent().unwrap_or(Path::new("/"));
    let folder = files
        .resolve(folder)
        .with_context(|| format!("looking at {}", folder.display()))?;
    let path = folder.join(name);
    match files
        .entry(&path)
        .with_context(|| format!("looking at {shown}"))?
    {
        Some(Entry::File(_)) => {}
        None => return Err(Failure::refused(format!("{shown} isn't there"))),
        Some(Entry::Link(target)) => {
            return Err(Failure::refused(format!(
                "{shown} is a link to {}: name that file",
                target.display()
            )));
        }
        Some(_) => return Err(Failure::refused(format!("{shown} is no regular file"))),
    }
    let bytes = files
        .read(&path)
        .with_context(|| format!("reading {shown}"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::refused(format!("{shown}: it isn't UTF-8")))?;
    let backup = NewPath::unwritten(folder.join(format!("{name}{BACKUP}")));
    Ok(Found {
        backup: backup.map_err(Failure::refused)?,
        path,
        text,
    })
}

impl Found {
    fn parse(&self) -> Result<ConfigToml, Failure> {
        ConfigToml::parse(&self.text).map_err(|e| self.refused(e))
    }

    fn refused(&self, why: impl std::fmt::Display) -> Failure {
        Failure::refused(format!("{}: {why}", self.path.display()))
    }

    fn kept(&self, files: &Tree) -> Result<Option<String>, Failure> {
        let path = self.backup.as_path();
        let there = files
            .entry(path)
            .with_context(|| format!("looking at {}", self.backup))?;
        if there.is_none() {
            return Ok(None);
        }
        let bytes = files
            .read(path)
            .with_context(|| format!("reading {}", self.backup))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::refused(format!("{}: it isn't UTF-8", self.backup)))?;
        Ok(Some(text))
    }

    fn difference(&self, new: &str) -> String {
        let name = self.path.display().to_string();
        difference((&name, &self.text), (&name, new))
    }
}

fn set(files: &Tree, ui: Ui, args: &ValidatorArgs, found: &Found) -> Result<Report, Failure> {
    let config = found.parse()?;
    let new = match &args.laddr {
        Some(laddr) => config
            .with_laddr(&found.text, laddr)
            .map_err(|e| found.refused(e))?,
        None => found.text.clone(),
    };
    let mut report = report(files, args, found, &config)?;
    if new == found.text {
        return Ok(report);
    }
    report.diff = Some(found.difference(&new));
    if args.check {
        return Ok(report);
    }
    // What a death between the two writes left is the file itself.
    let kept = found.kept(files)?;
    if kept.as_ref().is_some_and(|kept| *kept != found.text) {
        return Err(Failure::refused(format!(
            "{} is there already and differs from {}: bring it back with --undo, or move it away once you are sure of what \
             is there now",
            found.backup,
            found.path.display()
        )));
    }
    if !ui.json {
        ui.out(&report.diff.take().unwrap_or_default())?;
    }
    ui.confirm(&format!(
        "Change {} so, and keep it as it was as {}?",
        found.path.display(),
        found.backup
    ))?;
    if kept.is_none() {
        let Ok(Some(Entry::File(is))) = files.entry(&found.path) else {
            return Err(found.refused("it is no regular file any more"));
        };
        files
            .create_one_file(&found.backup, found.text.as_bytes(), is)
            .with_context(|| format!("writing {}", found.backup))?;
    }
    replace(files, found, &new)?;
    report.changed = true;
    report.laddr = args.laddr.as_ref().map(ToString::to_string);
    report.laddr_wrong = None;
    report.backup = Some(found.backup.as_path().to_owned());
    Ok(report)
}

fn replace(files: &Tree, found: &Found, new: &str) -> Result<(), Failure> {
    files
        .replace_config_toml(&found.path, found.text.as_bytes(), new.as_bytes())
        .with_context(|| format!("writing {}", found.path.display()))
        .map_err(Failure::from)
}

fn undo(files: &Tree, ui: Ui, args: &ValidatorArgs, found: &Found) -> Result<Report, Failure> {
    let kept = found.kept(files)?.ok_or_else(|| {
        Failure::refused(format!(
            "{} isn't there: kmsctl keeps nothing of {}",
            found.backup,
            found.path.display()
        ))
    })?;
    let was =
        ConfigToml::parse(&kept).map_err(|e| Failure::refused(format!("{}: {e}", found.backup)))?;
    let now = found.parse()?;
    let laddr = now
        .laddr
        .as_ref()
        .and_then(|at| at.value.parse::<Listen>().ok());
    let ours = laddr.and_then(|laddr| was.with_laddr(&kept, &laddr).ok());
    if ours.as_ref() != Some(&found.text) && kept != found.text {
        let name = found.path.display().to_string();
        let others = ours.map(|ours| difference((&name, &ours), (&name, &found.text)));
        return Err(found.refused(format!(
            "it was changed since, and that would be lost; take these changes away first, or copy {} by hand:\n{}",
            found.backup,
            others.unwrap_or_default()
        )));
    }
    if !ui.json {
        ui.out(&found.difference(&kept))?;
    }
    ui.confirm(&format!("Put {} back as it was?", found.path.display()))?;
    replace(files, found, &kept)?;
    let back = Found {
        text: kept,
        path: found.path.clone(),
        backup: found.backup.clone(),
    };
    let mut report = report(files, args, &back, &was)?;
    report.changed = true;
    report.backup = Some(back.backup.as_path().to_owned());
    Ok(report)
}

fn report(
    files: &Tree,
    args: &ValidatorArgs,
    found: &Found,
    config: &ConfigToml,
) -> Result<Report, Failure> {
    let home = found
        .path
        .parent()
        .and_then(Path::parent)
        .ok_or_else(|| anyhow!("{} has no folder", found.path.display()))?;
    let set = config.laddr.as_ref().map(|laddr| laddr.value.clone());
    let set = set.filter(|laddr| !laddr.is_empty());
    let now = set.as_deref().map_or(Ok(None), waits);
    let listen = match &args.laddr {
        Some(laddr) => Some(laddr.clone()),
        None => now.as_ref().ok().cloned().flatten(),
    };
    let open = listen.filter(Listen::is_open);
    Ok(Report {
        format_version: crate::ui::FORMAT_VERSION,
        config: found.path.clone(),
        laddr: set,
        laddr_wrong: now.err(),
        diff: None,
        changed: false,
        undone: args.undo,
        backup: None,
        double_sign_check_height: config.double_sign_check_height,
        double_sign_name: config.double_sign_name(),
        firewall: open.map(|listen| listen.firewall(args.signer)),
        keys: copies(files, home, config)?,
        state_file: config.state_path(home),
    })
}

/// The key file, and what lies about under its name.
fn copies(files: &Tree, home: &Path, config: &ConfigToml) -> Result<Vec<KeyCopy>, Failure> {
    let own = config.key_path(home);
    let mut paths = vec![own.clone()];
    let folders = [home.to_owned(), home.join("config"), home.join("data")];
    for folder in folders.into_iter().chain(own.parent().map(Path::to_owned)) {
        let names = files
            .list(&folder)
            .with_context(|| format!("reading {}", folder.display()))?;
        let named = names
            .iter()
            .filter(|name| name.contains("priv_validator_key"));
        paths.extend(named.map(|name| folder.join(name)));
    }
    paths.sort();
    paths.dedup();
    let mut copies = Vec::new();
    for path in paths {
        if !matches!(
            files.entry(&path),
            Ok(Some(Entry::File(_) | Entry::Link(_)))
        ) {
            continue;
        }
        let key = files.read_secret(&path);
        let address = key.ok().and_then(|bytes| {
            let key = SecretKey::read(&bytes, SoftsignFormat::Json);
            Some(key.ok()?.public_key().address())
        });
        copies.push(KeyCopy { path, address });
    }
    Ok(copies)
}
