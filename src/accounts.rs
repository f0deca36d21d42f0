//! Users and groups of the host, as its own files name them, and who a unit's process is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::host::Files;
use crate::inventory::{FileFacts, Unit};
use crate::unit::UnitText;
use crate::unit::words::expand;

pub const PASSWD: &str = "/etc/passwd";
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
    pub powers: Powers,
}

/// The capabilities (capabilities(7)) that count at files: what root has, unless the unit takes it away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Powers {
    /// CAP_DAC_OVERRIDE: modes and lists are nothing to it.
    pub overrides: bool,
    /// CAP_DAC_READ_SEARCH: nor are they to its reading, and to its passing of folders.
    pub reads: bool,
    /// CAP_FOWNER: every file is as its own to it.
    pub owns: bool,
}

impl Powers {
    fn all(all: bool) -> Powers {
        Powers {
            overrides: all,
            reads: all,
            owns: all,
        }
    }

    /// What a unit's settings leave of them, as systemd adds these up: the first replaces what holds by default, the
    /// others add to it, or with `~` take from it; an empty one takes all.
    fn set(text: &UnitText, key: &str, default: bool) -> Powers {
        let mut powers = Powers::all(default);
        let mut untouched = true;
        let settings = text.settings.iter();
        for setting in settings.filter(|s| s.section == "Service" && s.key == key) {
            let (without, names) = match setting.value.strip_prefix('~') {
                Some(names) => (true, names),
                None => (false, setting.value.as_str()),
            };
            let named = |name: &str| {
                names
                    .split_whitespace()
                    .any(|n| n.eq_ignore_ascii_case(name))
            };
            let listed = Powers {
                overrides: named("CAP_DAC_OVERRIDE"),
                reads: named("CAP_DAC_READ_SEARCH"),
                owns: named("CAP_FOWNER"),
            };
            let merged = |had: bool, listed: bool| match (without, untouched) {
                (true, true) => !listed,
                (true, false) => had && !listed,
                (false, true) => listed,
                (false, false) => had || listed,
            };
            let empty = names.trim().is_empty();
            powers = match empty {
                true => Powers::all(without),
                false => Powers {
                    overrides: merged(powers.overrides, listed.overrides),
                    reads: merged(powers.reads, listed.reads),
                    owns: merged(powers.owns, listed.owns),
                },
            };
            untouched = empty && without == default;
        }
        powers
    }

    fn and(self, other: Powers) -> Powers {
        Powers {
            overrides: self.overrides && other.overrides,
            reads: self.reads && other.reads,
            owns: self.owns && other.owns,
        }
    }
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
        // systemd knows root without asking, and starts nothing as a number that is nobody's.
        let (name, uid, gid) = match self.known(user) {
            Some(known) => (known.name.as_str(), known.uid, known.gid),
            None if user == "root" || user == "0" => ("root", 0, 0),
            None => return Err(format!("the user {user} isn't in {PASSWD}")),
        };
        let mut gids = BTreeSet::from([gid]);
        if let Some(group) = text.last("Service", "Group").filter(|g| !g.is_empty()) {
            gids = [self.group(unit, group)?].into();
        }
        for setting in text.list("Service", "SupplementaryGroups") {
            for group in setting.value.split_whitespace() {
                gids.insert(self.group(unit, group)?);
            }
        }
        gids.extend(self.joined(name));
        let bounds = Powers::set(&text, "CapabilityBoundingSet", true);
        let powers = match uid {
            0 => bounds,
            _ => Powers::set(&text, "AmbientCapabilities", false).and(bounds),
        };
        Ok(Who {
            name: name.to_owned(),
            uid,
            gids,
            powers,
        })
    }

    /// Somebody who logs in here, without a unit's own groups and powers.
    pub fn anybody(&self, uid: u32) -> Who {
        let user = self.users.values().find(|user| user.uid == uid);
        let mut gids: BTreeSet<u32> = user.map(|user| user.gid).into_iter().collect();
        if let Some(user) = user {
            gids.extend(self.joined(&user.name));
        }
        Who {
            name: self.user(uid),
            uid,
            gids,
            powers: Powers::all(uid == 0),
        }
    }

    /// Who is known to be in a group.
    pub fn in_group(&self, gid: u32) -> BTreeSet<u32> {
        let named = self.members.get(&gid).into_iter().flatten();
        let joined = named.filter_map(|name| Some(self.users.get(name)?.uid));
        let own = self.users.values().filter(|user| user.gid == gid);
        joined.chain(own.map(|user| user.uid)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_added_up_as_systemd_does() {
        let all = Powers::all(true);
        let none = Powers::default();
        let reads = Powers {
            reads: true,
            ..none
        };
        let owns = Powers { owns: true, ..none };
        for (settings, left) in [
            ("", all),
            ("CapabilityBoundingSet=", none),
            ("CapabilityBoundingSet=~", all),
            ("CapabilityBoundingSet=CAP_NET_ADMIN", none),
            ("CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_KILL", reads),
            ("CapabilityBoundingSet=cap_dac_read_search", reads),
            (
                "CapabilityBoundingSet=CAP_KILL\nCapabilityBoundingSet=CAP_FOWNER",
                owns,
            ),
            (
                "CapabilityBoundingSet=\nCapabilityBoundingSet=CAP_FOWNER",
                owns,
            ),
            ("CapabilityBoundingSet=~CAP_DAC_OVERRIDE CAP_FOWNER", reads),
            (
                "CapabilityBoundingSet=~CAP_DAC_OVERRIDE\nCapabilityBoundingSet=~CAP_FOWNER",
                reads,
            ),
            ("CapabilityBoundingSet=~CAP_KILL", all),
            (
                "CapabilityBoundingSet=~CAP_KILL\nCapabilityBoundingSet=CAP_FOWNER",
                all,
            ),
        ] {
            let text = UnitText::parse(&format!("[Service]\n{settings}\n")).unwrap();
            let powers = Powers::set(&text, "CapabilityBoundingSet", true);
            assert_eq!(powers, left, "{settings}");
        }
        let text = UnitText::parse("[Service]\nAmbientCapabilities=CAP_FOWNER\n").unwrap();
        assert_eq!(Powers::set(&text, "AmbientCapabilities", false), owns);
    }
}
