//! What a unit's user may do with a path, by the kernel's own rules: owner, groups, mode, access control list, and every
//! folder on the way. What a unit's sandboxing takes away besides isn't known here.

use std::io;
use std::path::{Path, PathBuf};

use crate::accounts::Who;
use crate::host::{Entry, Files};
use crate::inventory::FileFacts;
use crate::kms::tmkms;

/// What is wanted of a path; the kernel's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Read = 4,
    /// Making, renaming and removing files in a folder.
    Change = 3,
    /// Running a file, or passing a folder.
    Pass = 1,
}

/// What keeps a user from a path: the path itself, or a folder before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    pub path: PathBuf,
    pub need: Need,
    pub facts: FileFacts,
    pub acl: bool,
    pub folder: bool,
}

/// An entry of an access control list (acl(5)): what the kernel keeps in `system.posix_acl_access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AclEntry {
    tag: u16,
    permissions: u16,
    id: u32,
}

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

fn entries(acl: &[u8]) -> Option<Vec<AclEntry>> {
    let (version, rest) = acl.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 {
        return None;
    }
    let (entries, []) = rest.as_chunks::<8>() else {
        return None;
    };
    let entry = |e: &[u8; 8]| AclEntry {
        tag: u16::from_le_bytes([e[0], e[1]]),
        permissions: u16::from_le_bytes([e[2], e[3]]),
        id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
    };
    Some(entries.iter().map(entry).collect())
}

/// Whether a user may do something with a file or folder that they came to.
pub fn may(who: &Who, need: Need, facts: &FileFacts, acl: Option<&[u8]>) -> bool {
    let need = need as u32;
    if who.above_modes {
        // Root reads and writes everything, and runs what anybody may run.
        return need & 1 == 0 || facts.mode & 0o111 != 0 || need == Need::Change as u32;
    }
    if let Some(entries) = acl.and_then(entries) {
        return by_acl(who, need, facts, &entries);
    }
    let bits = if who.uid == facts.uid {
        facts.mode >> 6
    } else if who.gids.contains(&facts.gid) {
        facts.mode >> 3
    } else {
        facts.mode
    };
    bits & need == need
}

fn by_acl(who: &Who, need: u32, facts: &FileFacts, entries: &[AclEntry]) -> bool {
    let gives = |entry: &AclEntry| u32::from(entry.permissions) & need == need;
    let all = AclEntry {
        tag: MASK,
        permissions: 7,
        id: 0,
    };
    let of = |tag: u16| entries.iter().find(|e| e.tag == tag);
    let masked = gives(of(MASK).unwrap_or(&all));
    if who.uid == facts.uid {
        return of(USER_OBJ).is_some_and(gives);
    }
    if let Some(entry) = entries.iter().find(|e| e.tag == USER && e.id == who.uid) {
        return gives(entry) && masked;
    }
    let group = |e: &&AclEntry| match e.tag {
        GROUP_OBJ => who.gids.contains(&facts.gid),
        GROUP => who.gids.contains(&e.id),
        _ => false,
    };
    let mut groups = entries.iter().filter(group).peekable();
    match groups.peek() {
        Some(_) => groups.any(gives) && masked,
        None => of(OTHER).is_some_and(gives),
    }
}

/// Users and groups beside the owner's that a list lets read.
pub fn readers_by_acl(acl: &[u8]) -> Vec<(bool, u32)> {
    let entries = entries(acl).unwrap_or_default();
    let mask = entries.iter().find(|e| e.tag == MASK);
    let reads = |e: &&AclEntry| e.permissions & mask.map_or(7, |m| m.permissions) & 4 != 0;
    let named = entries.iter().filter(|e| matches!(e.tag, USER | GROUP));
    named.filter(reads).map(|e| (e.tag == USER, e.id)).collect()
}

/// What keeps a user from a path; none where nothing does, or where nothing is there.
///
/// # Errors
/// Whoever runs kmsctl can't look.
pub fn barrier(
    files: &dyn Files,
    who: &Who,
    path: &Path,
    need: Need,
) -> io::Result<Option<Barrier>> {
    let mut path = path.to_owned();
    // As many links as the kernel follows.
    for _ in 0..40 {
        let Some(parent) = path.parent() else {
            break;
        };
        let parent = match files.resolve(parent) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut ancestors: Vec<&Path> = parent.ancestors().collect();
        ancestors.reverse();
        for folder in ancestors {
            if let Some(barrier) = at(files, who, folder, Need::Pass)? {
                return Ok(Some(barrier));
            }
        }
        match files.entry(&path)? {
            Some(Entry::Link(target)) => {
                path = tmkms::absolute(&target.to_string_lossy(), &parent);
            }
            _ => return at(files, who, &path, need),
        }
    }
    Ok(None)
}

fn at(files: &dyn Files, who: &Who, path: &Path, need: Need) -> io::Result<Option<Barrier>> {
    let (facts, folder) = match files.entry(path)? {
        Some(Entry::File(facts)) => (facts, false),
        Some(Entry::Folder(facts)) => (facts, true),
        _ => return Ok(None),
    };
    let acl = match files.acl(path) {
        // Nobody but root's reserve may open it: then the mode alone decides.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
        other => other?,
    };
    Ok((!may(who, need, &facts, acl.as_deref())).then(|| Barrier {
        path: path.to_owned(),
        need,
        facts,
        acl: acl.is_some(),
        folder,
    }))
}

impl Barrier {
    /// What a user can't do, as a clause about the barrier's path.
    pub fn says(&self) -> &'static str {
        match (self.need, self.folder) {
            (Need::Read, _) => "can't read it",
            (Need::Change, _) => "can't write in this folder",
            (Need::Pass, true) => "can't pass this folder",
            (Need::Pass, false) => "can't run it",
        }
    }

    /// The command that takes it away.
    pub fn remedy(&self, who: &Who) -> String {
        let path = self.path.to_string_lossy();
        let path = shlex::try_quote(&path).unwrap_or_default();
        let letters = match self.need {
            Need::Read => "r",
            Need::Change => "wx",
            Need::Pass => "x",
        };
        let own = who.uid == self.facts.uid;
        if self.acl && !own {
            return format!("`setfacl -m u:{}:{letters} {path}`", who.name);
        }
        match () {
            () if own => format!("`chmod u+{letters} {path}`"),
            () if who.gids.contains(&self.facts.gid) => format!("`chmod g+{letters} {path}`"),
            () if self.need == Need::Pass => format!("`chmod o+x {path}`"),
            () if self.facts.mode >> 6 & self.need as u32 == self.need as u32 => {
                format!("`chown {} {path}`", who.name)
            }
            () => format!("`chown {} {path} && chmod u+{letters} {path}`", who.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(uid: u32, gids: &[u32]) -> Who {
        Who {
            name: uid.to_string(),
            uid,
            gids: gids.iter().copied().collect(),
            above_modes: uid == 0,
        }
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn modes_are_read_as_the_kernel_does() {
        let facts = |mode| FileFacts {
            uid: 10,
            gid: 20,
            mode,
        };
        for (mode, uid, gids, need, may_it) in [
            (0o600, 10, &[][..], Need::Read, true),
            (0o600, 11, &[20], Need::Read, false),
            (0o640, 11, &[20], Need::Read, true),
            (0o640, 11, &[21], Need::Read, false),
            (0o604, 11, &[21], Need::Read, true),
            // The first that fits decides: a group that may less than others.
            (0o604, 11, &[20], Need::Read, false),
            (0o044, 10, &[20], Need::Read, false),
            (0o700, 11, &[], Need::Pass, false),
            (0o711, 11, &[], Need::Pass, true),
            (0o755, 11, &[20], Need::Change, false),
            (0o775, 11, &[20], Need::Change, true),
            (0o766, 11, &[20], Need::Change, false),
            (0o000, 0, &[], Need::Read, true),
            (0o600, 0, &[], Need::Pass, false),
            (0o000, 0, &[], Need::Change, true),
        ] {
            assert_eq!(
                may(&who(uid, gids), need, &facts(mode), None),
                may_it,
                "{mode:o} {uid} {gids:?} {need:?}"
            );
        }
    }

    #[test]
    fn lists_are_read_as_the_kernel_does() {
        let facts = FileFacts {
            uid: 10,
            gid: 20,
            mode: 0o640,
        };
        let list = acl(&[
            (USER_OBJ, 6, 0),
            (USER, 4, 11),
            (USER, 6, 12),
            (GROUP_OBJ, 0, 0),
            (GROUP, 4, 30),
            (MASK, 4, 0),
            (OTHER, 0, 0),
        ]);
        for (uid, gids, may_it) in [
            (10, &[][..], true),
            (11, &[], true),
            (13, &[], false),
            (13, &[20], false),
            (13, &[20, 30], true),
            (13, &[31], false),
        ] {
            assert_eq!(
                may(&who(uid, gids), Need::Read, &facts, Some(&list)),
                may_it,
                "{uid} {gids:?}"
            );
        }
        let masked = acl(&[(USER_OBJ, 6, 0), (USER, 7, 11), (MASK, 0, 0), (OTHER, 4, 0)]);
        assert!(!may(&who(11, &[]), Need::Read, &facts, Some(&masked)));
        assert_eq!(readers_by_acl(&list), [(true, 11), (true, 12), (false, 30)]);
        assert!(readers_by_acl(&masked).is_empty());
        // What isn't a list is none.
        for odd in [&[][..], &[1, 0, 0, 0], &[2, 0, 0, 0, 1]] {
            assert!(entries(odd).is_none());
        }
    }
}
