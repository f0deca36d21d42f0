//! Users and groups of the host, as its own files name them, and who a unit's process is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::host::Files;
use crate::inventory::{FileFacts, Unit};
use crate::unit::UnitText;
use crate::unit::words::expand;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The host's accounts.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, u32>,
    /// Group to the names of its members.
    members: BTreeMap<u32, BTreeSet<String>>,
}

/// An account that processes run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    pub home: PathBuf,
}

/// Whom the kernel asks about a unit's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub name: String,
    pub uid: u32,
    pub gids: BTreeSet<u32>,
    /// Modes and lists are nothing to it, as to root while the unit leaves it that power.
    pub above_modes: bool,
}

impl Accounts {
    /// Reads the host's own files; none are no accounts.
    pub fn read(files: &dyn Files) -> Accounts {
        let text = |path: &str| {
            let bytes = files.read(Path::new(path)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Accounts::parse(&text(PASSWD), &text(GROUP))
    }

    /// Reads the texts of /etc/passwd and /etc/group. Lines that are no entries say nothing.
    pub fn parse(passwd: &str, group: &str) -> Accounts {
        let mut accounts = Accounts::default();
        for line in passwd.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, uid, gid, ref rest @ ..] = fields[..]
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
            {
                let user = User {
                    name: name.to_owned(),
                    uid,
                    gid,
                    home: rest.get(1).map(PathBuf::from).unwrap_or_default(),
                };
                // Of two entries the first is the one that counts.
                accounts.users.entry(name.to_owned()).or_insert(user);
            }
        }
        for line in group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, gid, members] = fields[..]
                && let Ok(gid) = gid.parse()
            {
                accounts.groups.insert(name.to_owned(), gid);
                let members = members.split(',').filter(|m| !m.is_empty());
                let of = accounts.members.entry(gid).or_default();
                of.extend(members.map(str::to_owned));
            }
        }
        accounts
    }

    /// Who a unit's process is.
    ///
    /// # Errors
    /// Why that can't be said, as a clause.
    pub fn of(&self, unit: &Unit) -> Result<Who, String> {
        let mut text = UnitText::default();
        for part in unit.texts() {
            text.extend(UnitText::parse(part).map_err(|e| e.message)?);
        }
        if matches!(
            text.last("Service", "DynamicUser"),
            Some("yes" | "true" | "on" | "1")
        ) {
            return Err(format!(
                "{} has DynamicUser=, a user of the moment",
                unit.name
            ));
        }
        let user = if unit.user.is_empty() {
            "root"
        } else {
            &unit.user
        };
        let (uid, gid) = match (self.known(user), user.parse()) {
            (Some(known), _) => (known.uid, Some(known.gid)),
            (None, Ok(uid)) => (uid, None),
            (None, Err(_)) if user == "root" => (0, Some(0)),
            (None, Err(_)) => return Err(format!("the user {user} isn't in {PASSWD}")),
        };
        let mut gids: BTreeSet<u32> = gid.into_iter().collect();
        if let Some(group) = text.last("Service", "Group").filter(|g| !g.is_empty()) {
            gids = [self.group(unit, group)?].into();
        }
        for setting in text.list("Service", "SupplementaryGroups") {
            for group in setting.value.split_whitespace() {
                gids.insert(self.group(unit, group)?);
            }
        }
        gids.extend(self.joined(user));
        Ok(Who {
            name: user.to_owned(),
            uid,
            gids,
            above_modes: uid == 0 && !text.empties("Service", "CapabilityBoundingSet"),
        })
    }

    fn group(&self, unit: &Unit, written: &str) -> Result<u32, String> {
        let name = expand(written, &unit.name)?;
        let known = self.groups.get(&name).copied();
        known
            .or_else(|| name.parse().ok())
            .ok_or_else(|| format!("the group {name} isn't in {GROUP}"))
    }

    /// The account of a name, or of a number as `User=` takes it.
    pub fn known(&self, user: &str) -> Option<&User> {
        let numbered = || {
            let uid = user.parse::<u32>().ok()?;
            self.users.values().find(|known| known.uid == uid)
        };
        self.users.get(user).or_else(numbered)
    }

    /// The groups that name somebody as a member.
    fn joined<'a>(&'a self, user: &'a str) -> impl Iterator<Item = u32> + 'a {
        let members = self.members.iter();
        let joined = members.filter(move |(_, members)| members.contains(user));
        joined.map(|(gid, _)| *gid)
    }

    /// A user's name, or its number.
    pub fn user(&self, uid: u32) -> String {
        let named = self.users.iter().find(|(_, user)| user.uid == uid);
        named.map_or_else(|| uid.to_string(), |(name, _)| name.clone())
    }

    /// A group's name, or its number.
    pub fn group_name(&self, gid: u32) -> String {
        let named = self.groups.iter().find(|(_, id)| **id == gid);
        named.map_or_else(|| gid.to_string(), |(name, _)| name.clone())
    }

    /// Owner, group and mode as `ls` would say them.
    pub fn shown(&self, facts: &FileFacts) -> String {
        format!(
            "{:04o} {}:{}",
            facts.mode,
            self.user(facts.uid),
            self.group_name(facts.gid)
        )
    }
}
