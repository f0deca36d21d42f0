//! Users and groups of the host, as its own files name them, and who a unit's process is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::host::Files;
use crate::inventory::{FileFacts, Unit};
use crate::unit::UnitText;
use crate::unit::words::expand;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The host's accounts.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// By name: user id and primary group.
    users: BTreeMap<String, (u32, u32)>,
    groups: BTreeMap<String, u32>,
    /// Group to the names of its members.
    members: BTreeMap<u32, BTreeSet<String>>,
}

/// Whom the kernel asks about a unit's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub name: String,
    pub uid: u32,
    pub gids: BTreeSet<u32>,
}

impl Accounts {
    /// Reads the host's own files; none are no accounts.
    pub fn read(files: &dyn Files) -> Accounts {
        let text = |path: &str| {
            let bytes = files.read(Path::new(path)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut accounts = Accounts::default();
        for line in text(PASSWD).lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, uid, gid, ..] = fields[..]
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
            {
                accounts.users.insert(name.to_owned(), (uid, gid));
            }
        }
        for line in text(GROUP).lines() {
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
        let (uid, gid) = match (self.users.get(user), user.parse(), user) {
            (Some((uid, gid)), ..) => (*uid, Some(*gid)),
            (None, Ok(uid), _) => (uid, None),
            (None, _, "root") => (0, Some(0)),
            _ => {
                return Err(format!("the user {user} isn't in {PASSWD}"));
            }
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
        let joined = self
            .members
            .iter()
            .filter(|(_, members)| members.contains(user));
        gids.extend(joined.map(|(gid, _)| *gid));
        Ok(Who {
            name: user.to_owned(),
            uid,
            gids,
        })
    }

    fn group(&self, unit: &Unit, written: &str) -> Result<u32, String> {
        let name = expand(written, &unit.name)?;
        let known = self.groups.get(&name).copied();
        known
            .or_else(|| name.parse().ok())
            .ok_or_else(|| format!("the group {name} isn't in {GROUP}"))
    }

    /// A user's name, or its number.
    pub fn user(&self, uid: u32) -> String {
        let named = self.users.iter().find(|(_, (id, _))| *id == uid);
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
