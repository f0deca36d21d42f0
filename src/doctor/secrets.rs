//! The files that nobody but their signers should read: keys, passwords, and configs that hold one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Check;
use super::access::{self, Need, Object, may};
use super::files::used;
use super::way::Sight;
use crate::accounts::{Accounts, Who};
use crate::finding::{Code, Finding};
use crate::host::Host;
use crate::inventory::{Inventory, Signer};

/// A secret as some signers name it.
struct Secret<'a> {
    what: &'static str,
    named: PathBuf,
    signer: &'a Signer,
    /// Whom its signers run as.
    users: Vec<Who>,
}

/// Whether keys and passwords can be read by others than their signers.
pub fn secrets(host: &Host, inventory: &Inventory) -> Check {
    let accounts = Accounts::read(&*host.files);
    let sight = Sight::of(&*host.files);
    let mut unjudged = BTreeSet::new();
    let secrets = found(inventory, &accounts, &sight, &mut unjudged);
    let mut findings = Vec::new();
    for (path, secret) in &secrets {
        let readers = Readers {
            accounts: &accounts,
            sight: &sight,
            path,
            users: &secret.users,
        };
        match readers.of() {
            Ok(None) => {}
            Ok(Some(exposed)) => findings.push(finding(path, secret, &exposed)),
            Err(e) => drop(unjudged.insert(format!("{}: {e}", path.display()))),
        }
    }
    findings.sort();
    let check = Check::of(
        "secrets",
        "only their signers can read keys and passwords".into(),
        findings,
    );
    let why = Vec::from_iter(unjudged).join("; ");
    match (secrets.is_empty(), why.is_empty()) {
        (true, true) => check.not("none of the files with keys and passwords is here"),
        (true, false) => check.not(&why),
        (false, true) => check,
        (false, false) => check.in_part(why),
    }
}

/// The secrets that are there, each by its link-free path.
fn found<'a>(
    inventory: &'a Inventory,
    accounts: &Accounts,
    sight: &Sight<'_>,
    unjudged: &mut BTreeSet<String>,
) -> BTreeMap<PathBuf, Secret<'a>> {
    let mut secrets: BTreeMap<PathBuf, Secret<'a>> = BTreeMap::new();
    for signer in inventory.current() {
        let who = accounts.of(&signer.unit);
        for used in used(signer).into_iter().filter(|used| used.secret) {
            let there = || -> io::Result<Option<(Object, PathBuf)>> {
                let Some(path) = sight.way(&used.path)?.end else {
                    return Ok(None);
                };
                Ok(sight.object(&path)?.map(|object| (object, path)))
            };
            let path = match there() {
                Ok(Some((object, path))) if !object.folder => path,
                Ok(_) => continue,
                Err(e) => {
                    unjudged.insert(format!("{}: {e}", used.path.display()));
                    continue;
                }
            };
            let secret = secrets.entry(path).or_insert_with(|| Secret {
                what: used.what,
                named: used.path,
                signer,
                users: Vec::new(),
            });
            match &who {
                Ok(who) => secret.users.push(who.clone()),
                // Whoever that is: what everybody can read is exposed all the same.
                Err(why) => drop(unjudged.insert(why.clone())),
            }
        }
    }
    secrets
}

fn finding(path: &Path, secret: &Secret<'_>, exposed: &Exposed) -> Finding {
    let named = match path == secret.named {
        true => String::new(),
        false => format!(" (which the config names {})", secret.named.display()),
    };
    let message = format!(
        "{}{named} can be read by {}: whoever has it can sign, or log in, elsewhere",
        secret.what,
        exposed.readers.join(" and ")
    );
    let quoted = path.to_string_lossy();
    let quoted = shlex::try_quote(&quoted).unwrap_or_default();
    let clear = match exposed.by_list {
        true => format!("setfacl -b {quoted} && "),
        false => String::new(),
    };
    let users: BTreeSet<(u32, &str)> = secret
        .users
        .iter()
        .map(|who| (who.uid, who.name.as_str()))
        .collect();
    let remedy = match Vec::from_iter(users)[..] {
        [] => "let only the signer's user read it".to_owned(),
        [(uid, _)] if uid == exposed.owner => format!("`{clear}chmod go-rwx {quoted}`"),
        // It may be that the signer itself reads it by the group's right.
        [(_, user)] => format!("`{clear}chown {user} {quoted} && chmod u+r,go-rwx {quoted}`"),
        [..] => {
            "give each signer's user a file of its own, or let their group have no other members"
                .to_owned()
        }
    };
    Finding::warn(Code::SecretExposed, message)
        .of(secret.signer.name())
        .at(path)
        .remedy(remedy)
}

/// Who comes to a file and may read it, by name, beside root and those who should.
struct Exposed {
    readers: Vec<String>,
    /// An access control list lets some of them.
    by_list: bool,
    owner: u32,
}

/// A secret's file, to find out who reads it.
struct Readers<'a> {
    accounts: &'a Accounts,
    sight: &'a Sight<'a>,
    path: &'a Path,
    users: &'a [Who],
}

impl Readers<'_> {
    fn of(&self) -> io::Result<Option<Exposed>> {
        let Some(object) = self.sight.object(self.path)? else {
            return Ok(None);
        };
        let exposed = |readers: Vec<String>, by_list| {
            (!readers.is_empty()).then_some(Exposed {
                readers,
                by_list,
                owner: object.facts.uid,
            })
        };
        let nobody = Who {
            name: "everybody".into(),
            uid: u32::MAX,
            gids: BTreeSet::new(),
            powers: Default::default(),
        };
        let named = access::readers(&object);
        if self.reads(&nobody)? {
            return Ok(exposed(vec![nobody.name], named.by_list));
        }
        let mut readers = Vec::new();
        // Whose a file is, may always make it readable to itself.
        let owner = object.facts.uid;
        if !self.meant(owner) && self.comes(&self.accounts.anybody(owner))? {
            readers.push(format!("its owner {}", self.accounts.user(owner)));
        }
        for uid in named.users {
            if !self.meant(uid) && self.reads(&self.accounts.anybody(uid))? {
                readers.push(format!("the user {}", self.accounts.user(uid)));
            }
        }
        for gid in named.groups {
            readers.extend(self.group(gid, &nobody)?);
        }
        Ok(exposed(readers, named.by_list))
    }

    /// A group that reads it: by its other members; one that none of its signers is in, also where it has none.
    fn group(&self, gid: u32, nobody: &Who) -> io::Result<Option<String>> {
        let name = self.accounts.group_name(gid);
        let mut members = Vec::new();
        for uid in self.accounts.in_group(gid) {
            let mut who = self.accounts.anybody(uid);
            who.gids.insert(gid);
            if !self.meant(uid) && self.reads(&who)? {
                members.push(who.name);
            }
        }
        if !members.is_empty() {
            return Ok(Some(format!("the group {name} ({})", members.join(", "))));
        }
        // Without a signer's user, whose group it is isn't known.
        let own = self.users.is_empty() || self.users.iter().any(|who| who.gids.contains(&gid));
        if own || gid == 0 {
            return Ok(None);
        }
        let member = Who {
            gids: BTreeSet::from([gid]),
            ..nobody.clone()
        };
        Ok(self.reads(&member)?.then(|| format!("the group {name}")))
    }

    /// root, and the users of its signers; where those aren't known, nobody is told from them.
    fn meant(&self, uid: u32) -> bool {
        uid == 0 || self.users.is_empty() || self.users.iter().any(|who| who.uid == uid)
    }

    fn reads(&self, who: &Who) -> io::Result<bool> {
        let object = self.sight.object(self.path)?;
        Ok(object.is_some_and(|object| may(who, Need::Read, &object)) && self.comes(who)?)
    }

    /// Whether somebody passes the folders before it.
    fn comes(&self, who: &Who) -> io::Result<bool> {
        for folder in self.path.ancestors().skip(1) {
            let object = self.sight.object(folder)?;
            if !object.is_some_and(|object| may(who, Need::Pass, &object)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
