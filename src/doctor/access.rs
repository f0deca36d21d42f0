//! What somebody may do with a file or folder that they came to, by the kernel's own rules: owner, groups, mode, access
//! control list, capabilities. Pure.

use crate::accounts::Who;
use crate::inventory::FileFacts;

/// What is wanted of a path; the kernel's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Read = 4,
    /// Making, renaming and removing files in a folder.
    Change = 3,
    /// Running a file, or passing a folder.
    Pass = 1,
}

/// What is asked about: a file or a folder, whose it is, and its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub folder: bool,
    pub facts: FileFacts,
    pub acl: Option<Vec<u8>>,
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

/// Whether somebody may do something with it.
pub fn may(who: &Who, need: Need, object: &Object) -> bool {
    let Object { folder, facts, acl } = object;
    // Nothing runs a file that nobody may run.
    if who.powers.overrides && (*folder || need != Need::Pass || facts.mode & 0o111 != 0) {
        return true;
    }
    if who.powers.reads && (need == Need::Read || (*folder && need == Need::Pass)) {
        return true;
    }
    let need = need as u32;
    if let Some(entries) = acl.as_deref().and_then(entries) {
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

/// Whom an object's mode and list name, where they let read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// Other users, by a list.
    pub users: Vec<u32>,
    /// The object's own group, and others by a list.
    pub groups: Vec<u32>,
    pub by_list: bool,
}

pub fn readers(object: &Object) -> Readers {
    let facts = &object.facts;
    let Some(entries) = object.acl.as_deref().and_then(entries) else {
        let own = (facts.mode & 0o040 != 0).then_some(facts.gid);
        return Readers {
            groups: own.into_iter().collect(),
            ..Readers::default()
        };
    };
    // With a list the mode's group is the list's mask.
    let mask = entries.iter().find(|e| e.tag == MASK);
    let reads = |e: &&AclEntry| e.permissions & mask.map_or(7, |m| m.permissions) & 4 != 0;
    let mut readers = Readers {
        by_list: true,
        ..Readers::default()
    };
    for entry in entries.iter().filter(reads) {
        match entry.tag {
            USER => readers.users.push(entry.id),
            GROUP => readers.groups.push(entry.id),
            GROUP_OBJ => readers.groups.push(facts.gid),
            _ => {}
        }
    }
    readers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Powers;

    fn who(uid: u32, gids: &[u32]) -> Who {
        let root = uid == 0;
        Who {
            name: uid.to_string(),
            uid,
            gids: gids.iter().copied().collect(),
            powers: Powers {
                overrides: root,
                reads: root,
                owns: root,
            },
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
        let object = |folder, mode| Object {
            folder,
            facts: FileFacts {
                uid: 10,
                gid: 20,
                mode,
            },
            acl: None,
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
                may(&who(uid, gids), need, &object(false, mode)),
                may_it,
                "{mode:o} {uid} {gids:?} {need:?}"
            );
        }
        // A file that nobody may run is none to root, and any bit is enough; a folder asks root for nothing.
        let root = who(0, &[]);
        assert!(may(&root, Need::Pass, &object(false, 0o601)));
        assert!(may(&root, Need::Pass, &object(true, 0o600)));
        // Root without the power to write, and without any.
        let mut reads = root.clone();
        reads.powers.overrides = false;
        assert!(may(&reads, Need::Read, &object(false, 0)));
        assert!(may(&reads, Need::Pass, &object(true, 0)));
        assert!(!may(&reads, Need::Pass, &object(false, 0o110)));
        assert!(!may(&reads, Need::Change, &object(true, 0o770)));
        let mut none = root;
        none.powers = Powers::default();
        assert!(!may(&none, Need::Read, &object(false, 0o600)));
        assert!(may(&none, Need::Read, &object(false, 0o604)));
    }

    #[test]
    fn lists_are_read_as_the_kernel_does() {
        let object = |acl: &[(u16, u16, u32)]| Object {
            folder: false,
            facts: FileFacts {
                uid: 10,
                gid: 20,
                mode: 0o640,
            },
            acl: Some(self::acl(acl)),
        };
        let list = object(&[
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
                may(&who(uid, gids), Need::Read, &list),
                may_it,
                "{uid} {gids:?}"
            );
        }
        let masked = object(&[(USER_OBJ, 6, 0), (USER, 7, 11), (MASK, 0, 0), (OTHER, 4, 0)]);
        assert!(!may(&who(11, &[]), Need::Read, &masked));
        let named = readers(&list);
        assert_eq!((named.users, named.groups), (vec![11, 12], vec![30]));
        assert_eq!(
            readers(&masked),
            Readers {
                by_list: true,
                ..Readers::default()
            }
        );
        let own = readers(&object(&[(GROUP_OBJ, 4, 0), (MASK, 4, 0)]));
        assert_eq!(own.groups, [20]);
        // What isn't a list is none.
        for odd in [&[][..], &[1, 0, 0, 0], &[2, 0, 0, 0, 1]] {
            assert!(entries(odd).is_none());
        }
    }
}
