//! The files that signers need: whether the unit's user comes to them, and whether nobody else comes to the secret ones.

use std::path::{Path, PathBuf};

use super::Check;
use super::access::{self, Need, barrier};
use crate::accounts::{Accounts, Who};
use crate::finding::{Code, Finding};
use crate::host::{Entry, Files, Host};
use crate::inventory::{Inventory, Signer};
use crate::kms::tmkms;

/// A path that a signer's process uses.
struct Used {
    path: PathBuf,
    need: Need,
    secret: bool,
    what: &'static str,
}

/// What tmkms opens at its start and while it signs (run with 0.12.2). What isn't there is another check's business.
fn used(signer: &Signer) -> Vec<Used> {
    let directory = &signer.unit.working_directory;
    let absolute = |path: &str| tmkms::absolute(path, directory);
    let one = |path: PathBuf, need, secret, what| Used {
        path,
        need,
        secret,
        what,
    };
    let config = &signer.config;
    let mut used = vec![
        one(
            signer.program().to_owned(),
            Need::Pass,
            false,
            "the program",
        ),
        one(
            directory.clone(),
            Need::Pass,
            false,
            "the working directory",
        ),
        one(
            config.path.clone(),
            Need::Read,
            config.view.has_secrets(),
            "the config",
        ),
    ];
    for chain in &signer.chains {
        used.push(one(
            chain.state_file.clone(),
            Need::Read,
            false,
            "the state file",
        ));
        if let Some(folder) = chain.state_file.parent() {
            used.push(one(
                folder.to_owned(),
                Need::Change,
                false,
                "the state file's folder",
            ));
        }
    }
    for validator in &config.view.validators {
        if let Some(key) = &validator.secret_key {
            used.push(one(
                absolute(&key.value),
                Need::Read,
                true,
                "the connection's key",
            ));
        }
    }
    for key in &config.view.softsign {
        used.push(one(
            absolute(&key.path.value),
            Need::Read,
            true,
            "the key file",
        ));
    }
    for hsm in &config.view.yubihsm {
        if let Some(file) = &hsm.auth.password_file {
            used.push(one(
                absolute(&file.value),
                Need::Read,
                true,
                "the password file",
            ));
        }
    }
    used
}

/// Whether each unit's user can do what its signer must.
pub fn access(host: &Host, inventory: &Inventory) -> Check {
    let (findings, mut unjudged) = denied(&*host.files, inventory.current());
    let whole = inventory.current().count();
    let fine = "each signer's user comes to what it needs".to_owned();
    let check = Check::of("access", fine, findings);
    let nobody = unjudged.len() >= whole && check.findings.is_empty();
    unjudged.sort();
    unjudged.dedup();
    let why = unjudged.join("; ");
    match unjudged.is_empty() {
        true => check,
        false if nobody => check.not(&why),
        false => check.in_part(why),
    }
}

/// What the users of some signers' units can't do, and what can't be judged.
pub fn denied<'a>(
    files: &dyn Files,
    signers: impl Iterator<Item = &'a Signer>,
) -> (Vec<Finding>, Vec<String>) {
    let accounts = Accounts::read(files);
    let mut findings = Vec::new();
    let mut unjudged = Vec::new();
    for signer in signers {
        let who = match accounts.of(&signer.unit) {
            Ok(who) => who,
            Err(why) => {
                unjudged.push(why);
                continue;
            }
        };
        for used in used(signer) {
            match barrier(files, &who, &used.path, used.need) {
                Ok(None) => {}
                Ok(Some(barrier)) => {
                    let whose = match barrier.path == used.path {
                        true => used.what.to_owned(),
                        false => format!("{} {}", used.what, used.path.display()),
                    };
                    let message = format!(
                        "{}, as whom {} runs, {} ({}), and needs {whose}",
                        who.name,
                        signer.unit.name,
                        barrier.says(),
                        accounts.shown(&barrier.facts)
                    );
                    findings.push(
                        Finding::block(Code::AccessDenied, message)
                            .of(signer.name())
                            .at(&barrier.path)
                            .remedy(barrier.remedy(&who)),
                    );
                }
                Err(e) => unjudged.push(format!("{}: {e}", used.path.display())),
            }
        }
    }
    (findings, unjudged)
}

/// Whether keys and passwords can be read by others than their signer.
pub fn secrets(host: &Host, inventory: &Inventory) -> Check {
    let accounts = Accounts::read(&*host.files);
    let mut findings = Vec::new();
    let mut seen = 0;
    for signer in inventory.current() {
        let who = accounts.of(&signer.unit).ok();
        for used in used(signer).into_iter().filter(|used| used.secret) {
            let readers = readers(&*host.files, &accounts, who.as_ref(), &used.path);
            seen += usize::from(readers.is_some());
            let readers = readers.unwrap_or_default();
            if readers.is_empty() {
                continue;
            }
            let path = used.path.to_string_lossy();
            let path = shlex::try_quote(&path).unwrap_or_default();
            let acl = readers.iter().any(|(_, acl)| *acl);
            let remedy = match acl {
                true => format!("`setfacl -b {path} && chmod go-rwx {path}`"),
                false => format!("`chmod go-rwx {path}`"),
            };
            let readers: Vec<String> = readers.into_iter().map(|(name, _)| name).collect();
            let message = format!(
                "{} can be read by {}: whoever has it can sign, or log in, elsewhere",
                used.what,
                readers.join(" and ")
            );
            findings.push(
                Finding::warn(Code::SecretExposed, message)
                    .of(signer.name())
                    .at(&used.path)
                    .remedy(remedy),
            );
        }
    }
    findings.sort();
    findings.dedup_by_key(|f| f.path.clone());
    let check = Check::of(
        "secrets",
        "only their signers can read keys and passwords".into(),
        findings,
    );
    match seen {
        0 => check.not("none of the files with keys and passwords is here"),
        _ => check,
    }
}

/// Who else may read a file, by name, and whether a list says so; none where it isn't there.
fn readers(
    files: &dyn Files,
    accounts: &Accounts,
    who: Option<&Who>,
    path: &Path,
) -> Option<Vec<(String, bool)>> {
    let Ok(Some(Entry::File(facts))) = files.entry(path) else {
        return None;
    };
    let folder = files.resolve(path.parent()?).ok()?;
    let open = folder.ancestors().all(|folder| match files.entry(folder) {
        Ok(Some(Entry::Folder(facts))) => facts.mode & 0o001 != 0,
        _ => false,
    });
    let mut readers = Vec::new();
    let acl = files.acl(path).ok().flatten();
    if facts.mode & 0o004 != 0 && open {
        readers.push(("everybody".to_owned(), false));
    }
    let own = who.is_some_and(|who| who.gids.contains(&facts.gid));
    // With a list the group's bits are its mask.
    if facts.mode & 0o040 != 0 && acl.is_none() && facts.gid != 0 && !own && who.is_some() {
        readers.push((
            format!("the group {}", accounts.group_name(facts.gid)),
            false,
        ));
    }
    for (user, id) in acl.iter().flat_map(|acl| access::readers_by_acl(acl)) {
        match (user, who) {
            (true, Some(who)) if id == who.uid || id == 0 => {}
            (true, _) => readers.push((format!("the user {}", accounts.user(id)), true)),
            (false, Some(who)) if who.gids.contains(&id) => {}
            (false, _) => readers.push((format!("the group {}", accounts.group_name(id)), true)),
        }
    }
    Some(readers)
}
