//! `check`: tmkms configs against what their tmkms does with them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tmkms_core::check::{Feature, Tmkms};
use tmkms_core::protocol::TmkmsVersion;

use crate::check;
use crate::discover::{self, Start, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::finding::Finding;
use crate::host::files::Tree;
use crate::host::{Files, Host};
use crate::kms::tmkms;
use crate::ui::check::{Check, github, row, summary, text};
use crate::ui::{FORMAT_VERSION, Ui};

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The tmkms to judge by, such as 0.15.0; by default the one that the config's unit runs
    #[arg(long, value_name = "VERSION")]
    tmkms: Option<TmkmsVersion>,
    /// What that tmkms was built with: softsign, yubihsm, yubihsm-server, ledger, fortanixdsm, tx-signer
    #[arg(long, value_delimiter = ',', default_value = "softsign,yubihsm")]
    features: Vec<Feature>,
    /// How to print the findings; github shows them beside the lines of a pull request
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The configs; by default those of all units that start tmkms
    #[arg(value_name = "CONFIG")]
    configs: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Github,
}

/// A config to judge, as it was named, and by what.
struct Asked {
    named: PathBuf,
    path: PathBuf,
    directory: PathBuf,
    tmkms: Tmkms,
}

pub fn run(
    host: impl FnOnce() -> anyhow::Result<Host>,
    root: Option<&Path>,
    ui: Ui,
    args: &CheckArgs,
) -> Outcome {
    let known = |version: TmkmsVersion| Tmkms {
        version,
        features: args.features.iter().copied().collect(),
    };
    if let Some(version) = args.tmkms.filter(|version| !known(*version).is_known()) {
        return Err(Failure::usage(format!(
            "--tmkms {version}: kmsctl knows what tmkms 0.10 to 0.15 do, and not this one"
        )));
    }
    // A config that is named together with its tmkms can be judged where no systemd is, as in CI.
    let alone = !args.configs.is_empty() && args.tmkms.is_some();
    let versions = match args.tmkms {
        Some(_) => Versions::Skip,
        None => Versions::Ask,
    };
    let (files, starts, problems): (Rc<dyn Files>, Vec<Start>, Vec<Finding>) = match host() {
        Ok(mut host) => {
            let found = discover::starts(&mut host, versions);
            match found {
                Ok((starts, problems)) => (host.files, starts, problems),
                Err(_) if alone => (host.files, Vec::new(), Vec::new()),
                Err(e) => return Err(e.into()),
            }
        }
        Err(_) if alone && root.is_none() => {
            let tree = Tree::open(Path::new("/")).context("opening /")?;
            (Rc::new(tree), Vec::new(), Vec::new())
        }
        Err(e) => return Err(e.into()),
    };
    let (asked, problems) = match args.configs.is_empty() {
        true => (discovered(&*files, &starts, args.tmkms, known)?, problems),
        // What is wrong with units is no matter of a config that was named.
        false => (
            named(&*files, &args.configs, &starts, root, args.tmkms, known)?,
            Vec::new(),
        ),
    };
    if asked.is_empty() && problems.is_empty() {
        return Err(Failure::refused(
            "no unit here starts tmkms: name a config, as `kmsctl check --tmkms 0.15.0 tmkms.toml`",
        ));
    }
    let mut refused = problems.iter().any(Finding::blocks);
    let mut document = Check {
        format_version: FORMAT_VERSION,
        configs: Vec::new(),
        problems,
    };
    for config in &asked {
        let judged = check::judge(&*files, &config.path, &config.directory, &config.tmkms);
        refused |= !judged.starts();
        let version = config.tmkms.version.to_string();
        if ui.json {
            document.configs.push(row(&config.named, &version, &judged));
        } else if args.format == Format::Github {
            ui.out(&github(&config.named, &judged))?;
            ui.note(&summary(&config.named, &version, &judged));
        } else {
            ui.out(&text(&config.named, &version, &judged))?;
        }
    }
    if ui.json {
        ui.json(&document)?;
    } else {
        for problem in &document.problems {
            ui.note(&problem.to_string());
        }
    }
    Ok(match refused {
        true => Exit::Refused,
        false => Exit::Done,
    })
}

fn version_of(start: &Start, given: Option<TmkmsVersion>) -> Result<TmkmsVersion, Failure> {
    let Some(version) = given.or(start.version) else {
        return Err(Failure::usage(format!(
            "{} of {} doesn't say which tmkms it is (0.11.0 has no `version`, and nothing below --root is run): name it \
             with --tmkms",
            start.program.display(),
            start.unit
        )));
    };
    if Tmkms::usual(version).is_known() {
        return Ok(version);
    }
    Err(Failure::refused(format!(
        "{} is tmkms {version}, and kmsctl knows what 0.10 to 0.15 do: name the nearest with --tmkms",
        start.program.display()
    )))
}

fn discovered(
    files: &dyn Files,
    starts: &[Start],
    given: Option<TmkmsVersion>,
    known: impl Fn(TmkmsVersion) -> Tmkms,
) -> Result<Vec<Asked>, Failure> {
    let mut seen = BTreeSet::new();
    let mut asked = Vec::new();
    for start in starts {
        let version = version_of(start, given)?;
        // Two units may spell one config, and one folder, in two ways.
        let config = discover::link_free(files, &start.config);
        let directory = files.resolve(&start.directory);
        let directory = directory.unwrap_or_else(|_| start.directory.clone());
        if seen.insert((config, version, directory)) {
            asked.push(Asked {
                named: start.config.clone(),
                path: start.config.clone(),
                directory: start.directory.clone(),
                tmkms: known(version),
            });
        }
    }
    Ok(asked)
}

fn named(
    files: &dyn Files,
    configs: &[PathBuf],
    starts: &[Start],
    root: Option<&Path>,
    given: Option<TmkmsVersion>,
    known: impl Fn(TmkmsVersion) -> Tmkms,
) -> Result<Vec<Asked>, Failure> {
    // Below --root there is no current folder but its own top.
    let here = match root {
        Some(_) => PathBuf::from("/"),
        None => std::env::current_dir().context("looking for the current folder")?,
    };
    let mut asked = Vec::new();
    for config in configs {
        let path = tmkms::absolute(&config.to_string_lossy(), &here);
        let one_name = discover::link_free(files, &path);
        let is = |start: &&Start| discover::link_free(files, &start.config) == one_name;
        let start = starts.iter().find(is);
        let version = match (start, given) {
            (_, Some(version)) => version,
            (Some(start), None) => version_of(start, None)?,
            (None, None) => {
                return Err(Failure::usage(format!(
                    "no unit starts tmkms on {}, so nothing tells its version: name it with --tmkms",
                    path.display()
                )));
            }
        };
        asked.push(Asked {
            named: config.clone(),
            directory: start.map_or_else(|| here.clone(), |s| s.directory.clone()),
            path,
            tmkms: known(version),
        });
    }
    Ok(asked)
}
