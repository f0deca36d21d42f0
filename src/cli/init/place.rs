//! Where a new signer's files go: that nothing stands there, and that its user gets there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tmkms_core::config::KeyType;

use super::write::Plan;
use crate::accounts::{Accounts, User};
use crate::exit::Failure;
use crate::host::files::{Tree, unfinished};
use crate::host::{Entry, Files, Host};
use crate::init::names::Sibling;
use crate::init::{Provider, Signer};
use crate::inventory::{FileFacts, Inventory};
use crate::paths::{ManagedPath, NewPath};

/// The signers whose config is in this folder.
pub fn fleet(inventory: &Inventory, home: &Path) -> Vec<Sibling> {
    let here = inventory
        .signers
        .iter()
        .filter(|signer| signer.config.path.parent() == Some(home));
    here.filter_map(|signer| {
        let view = &signer.config.view;
        let consensus = |key: &&tmkms_core::config::Softsign| key.key_type == KeyType::Consensus;
        let key = view.softsign.iter().find(consensus);
        let connection = view.validators.first()?.secret_key.as_ref();
        Some(Sibling {
            unit: signer.unit.name.clone(),
            config: signer.config.path.clone(),
            key: key.map(|key| PathBuf::from(&key.path.value)),
            connection: connection.map(|path| PathBuf::from(&path.value)),
            state: signer.chains.first()?.state_file.clone(),
        })
    })
    .collect()
}

/// The tmkms to run.
pub fn binary(
    host: &Host,
    files: &Tree,
    given: Option<&Path>,
    user: &User,
) -> Result<PathBuf, Failure> {
    let found = match given {
        Some(path) => path.to_owned(),
        None => {
            let usual = [
                PathBuf::from("/usr/local/bin/tmkms"),
                PathBuf::from("/usr/bin/tmkms"),
                user.home.join(".cargo/bin/tmkms"),
            ];
            let there = |path: &&PathBuf| {
                matches!(files.entry(path), Ok(Some(Entry::File(_) | Entry::Link(_))))
            };
            usual.iter().find(there).cloned().ok_or_else(|| {
                Failure::refused(format!(
                    "there is no tmkms at {}, {} or {}: install it, or name it with --binary",
                    usual[0].display(),
                    usual[1].display(),
                    usual[2].display()
                ))
            })?
        }
    };
    // What a unit would read in its own way.
    NewPath::try_from(found.clone()).map_err(Failure::refused)?;
    if host.processes.is_program(&found) == Some(false) {
        return Err(Failure::refused(format!(
            "{}: no program is there that could be run",
            found.display()
        )));
    }
    Ok(found)
}

/// Every place on the way to a file, links in its folders and its own followed, beginning with what is written.
///
/// # Errors
/// The way leads to nothing, or in a circle.
pub fn passed(files: &Tree, path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut passed = Vec::new();
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let mut rest: Vec<OsString> = path.iter().rev().map(OsString::from).collect();
    let astray = |at: &Path| {
        Failure::refused(format!(
            "{}: it leads to {}, where nothing is",
            path.display(),
            at.display()
        ))
    };
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(name);
        passed.push(at.clone());
        let there = files
            .entry(&at)
            .with_context(|| format!("looking at {}", at.display()))?;
        match there {
            // As many as the kernel follows.
            Some(Entry::Link(target)) if links < 40 => {
                links += 1;
                at.pop();
                rest.extend(target.iter().rev().map(OsString::from));
            }
            None | Some(Entry::Link(_)) => return Err(astray(&at)),
            Some(_) => {}
        }
    }
    Ok(passed)
}

/// The folders to make, with the signer's own closed to all others.
pub fn folders(
    host: &Host,
    files: &Tree,
    signer: &Signer,
    in_fleet: bool,
) -> Result<Plan, Failure> {
    let home = &signer.home;
    let own = FileFacts {
        uid: signer.user.uid,
        gid: signer.user.gid,
        mode: 0o700,
    };
    let above = FileFacts {
        uid: 0,
        gid: 0,
        mode: 0o755,
    };
    let mut plan = Plan::new(own);
    let entry = |path: &Path| {
        files
            .entry(path)
            .with_context(|| format!("looking at {}", path.display()))
    };
    let names = &signer.names;
    let mut files_of = vec![&names.config, &names.connection, &names.state];
    if signer.provider == Provider::Softsign {
        files_of.push(&names.key);
    }
    let parents = files_of.iter().filter_map(|path| path.as_path().parent());
    for folder in [home.as_path()].into_iter().chain(parents) {
        let mut missing = Vec::new();
        for at in folder.ancestors() {
            match entry(at)? {
                Some(Entry::Folder(_)) => {
                    let real = files
                        .resolve(at)
                        .with_context(|| format!("looking at {}", at.display()))?;
                    if real != at {
                        return Err(Failure::refused(format!(
                            "{} is {} by a link: name that",
                            at.display(),
                            real.display()
                        )));
                    }
                    nobody_else_writes(host, files, signer, at)?;
                    break;
                }
                None => missing.push(at),
                Some(Entry::Link(target)) => {
                    return Err(Failure::refused(format!(
                        "{} is a link to {}: name that",
                        at.display(),
                        target.display()
                    )));
                }
                Some(_) => {
                    return Err(Failure::refused(format!("{} is no folder", at.display())));
                }
            }
        }
        for path in missing.into_iter().rev() {
            let is = match path.starts_with(home) {
                true => own,
                false if home.starts_with(path) => above,
                false => {
                    return Err(Failure::refused(format!(
                        "{} isn't there, and it isn't below {}: make it first",
                        path.display(),
                        home.display()
                    )));
                }
            };
            plan.folder(
                NewPath::try_from(path.to_owned()).map_err(Failure::refused)?,
                is,
            );
        }
    }
    if !in_fleet
        && files
            .holds_anything(home)
            .with_context(|| format!("reading {}", home.display()))?
    {
        return Err(Failure::refused(format!(
            "{} isn't empty: name a new folder, or with --name say what the signer is called in the fleet that is there{}",
            home.display(),
            cut_short(files, signer)?
        )));
    }
    Ok(plan)
}

/// Refuses a folder that others than root and the signer's user may change, or one above it: they could put another state
/// or key in the signer's place.
fn nobody_else_writes(
    host: &Host,
    files: &Tree,
    signer: &Signer,
    folder: &Path,
) -> Result<(), Failure> {
    let user = &signer.user;
    let accounts = Accounts::read(files);
    // Who rehearses in a folder owns it, whatever the host's own accounts are.
    let rehearses = |uid: u32| host.modelled && uid == rustix::process::geteuid().as_raw();
    for at in folder.ancestors().filter(|at| at.parent().is_some()) {
        let Some(Entry::Folder(is)) = files
            .entry(at)
            .with_context(|| format!("looking at {}", at.display()))?
        else {
            continue;
        };
        // What stands in a folder such as /tmp can be moved by its owner alone.
        let sticky = is.mode & 0o1000 != 0 && at != folder;
        let path = at.to_string_lossy();
        let word = shlex::try_quote(&path).unwrap_or_default();
        let (who, remedy) = if is.uid != 0 && is.uid != user.uid && !rehearses(is.uid) {
            let owner = accounts.user(is.uid);
            (owner, format!("chown {} {word}", user.name))
        } else if is.mode & 0o002 != 0 && !sticky {
            ("everybody".to_owned(), format!("chmod o-w {word}"))
        } else if is.mode & 0o020 == 0 || sticky {
            continue;
        } else if !matches!(files.acl(at), Ok(None)) {
            let others = "others, by its access control list,".to_owned();
            (others, format!("setfacl -b {word} && chmod g-w {word}"))
        } else if is.gid != 0 && is.gid != user.gid {
            let group = format!("the group {}", accounts.group_name(is.gid));
            (group, format!("chmod g-w {word}"))
        } else {
            continue;
        };
        // What is above may be as it is for a reason.
        let remedy = match at == folder {
            true => format!("`{remedy}`, or name another place"),
            false => "name another place, or the --user whose it is".to_owned(),
        };
        return Err(Failure::refused(format!(
            "{path}: {who} may change this folder ({}), and could put another key or an older state file in the signer's \
             place: {remedy}",
            accounts.shown(&is)
        )));
    }
    Ok(())
}

/// Where the unit goes.
pub fn unit_path(signer: &Signer) -> Result<NewPath, Failure> {
    let path = ManagedPath::unit(signer.unit());
    NewPath::try_from(PathBuf::from(path)).map_err(Failure::refused)
}

/// Refuses where anything is in a new file's place, or speaks of the unit already.
pub fn is_free(host: &mut Host, files: &Tree, signer: &Signer) -> Result<(), Failure> {
    let names = &signer.names;
    let mut places: Vec<PathBuf> = [&names.config, &names.connection, &names.state]
        .map(|path| path.as_path().to_owned())
        .into();
    if signer.provider == Provider::Softsign {
        places.push(names.key.as_path().to_owned());
    }
    let twice = (1..places.len()).find(|at| places[..*at].contains(&places[*at]));
    if let Some(at) = twice {
        return Err(Failure::refused(format!(
            "{} would be two files: name them apart",
            places[at].display()
        )));
    }
    for folder in host.services.unit_path()? {
        places.push(folder.join(names.unit.as_str()));
        places.push(folder.join(format!("{}.d", names.unit)));
    }
    for path in places {
        let there = files
            .entry(&path)
            .with_context(|| format!("looking at {}", path.display()))?;
        if there.is_some() {
            return Err(Failure::refused(format!(
                "{} is there already, and nothing is overwritten: name another place or unit, or take it away where it is \
                 of no use{}",
                path.display(),
                cut_short(files, signer)?
            )));
        }
    }
    Ok(())
}

/// What to do after an init that a kill or a power cut ended: it writes the unit last, so without one these files are
/// nobody's yet, and with it the signer is whole. Empty where the unit is another's, or none of the files is there.
fn cut_short(files: &Tree, signer: &Signer) -> Result<String, Failure> {
    let entry = |path: &Path| {
        files
            .entry(path)
            .with_context(|| format!("looking at {}", path.display()))
    };
    let unit = unit_path(signer)?;
    let names = &signer.names;
    if entry(unit.as_path())?.is_some() {
        let text = files.read(unit.as_path()).unwrap_or_default();
        let starts = format!(" start -c {}\n", names.config);
        let ours = String::from_utf8_lossy(&text).contains(&starts);
        return Ok(match ours {
            false => String::new(),
            true => format!(
                ". {unit} starts tmkms on {}: an earlier init wrote this signer whole. Let systemd read it (`systemctl \
                 daemon-reload`), and go on with it: a second one of this key would sign beside it",
                names.config
            ),
        });
    }
    let word = |path: &Path| {
        let path = path.to_string_lossy();
        shlex::try_quote(&path).unwrap_or_default().into_owned()
    };
    let (mut left, mut folders) = (Vec::new(), Vec::new());
    for path in [&names.connection, &names.key, &names.state, &names.config] {
        let path = path.as_path();
        for path in [Some(path.to_owned()), unfinished(path)]
            .into_iter()
            .flatten()
        {
            if let Some(Entry::File(_)) = entry(&path)? {
                left.push(word(&path));
            }
        }
        let folder = path.parent().filter(|folder| *folder != signer.home);
        if let Some(folder) = folder.filter(|folder| folder.starts_with(&signer.home))
            && let Some(Entry::Folder(_)) = entry(folder)?
        {
            folders.push(word(folder));
        }
    }
    folders.dedup();
    let mut commands = Vec::new();
    for (command, paths) in [("rm", left), ("rmdir", folders)] {
        if !paths.is_empty() {
            commands.push(format!("{command} {}", paths.join(" ")));
        }
    }
    Ok(match commands.is_empty() {
        true => String::new(),
        false => format!(
            ". If an init was cut short here, nothing has used what it left, since it writes {unit} last: `{}`, and the \
             same init again",
            commands.join(" && ")
        ),
    })
}
