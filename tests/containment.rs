//! A link never leads `--root` outside its folder, wherever on a host it stands and however it is spelled: what is
//! outside is neither read nor changed.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use support::Host;

/// Where the link stands, seen from the root.
const PLACES: [&str; 22] = [
    "etc/systemd/system",
    "etc/systemd/system/tmkms-02.service",
    "etc/systemd/system/tmkms-02.v3.service",
    "etc/systemd/system/multi-user.target.wants",
    "etc/systemd/system/multi-user.target.wants/tmkms-02.service",
    "etc/systemd/system/tmkms-02.service.d",
    "etc/systemd/system/tmkms-02.v3.service.d",
    "etc/systemd/system/tmkms-02.service.d/zz-kmsctl.conf",
    "usr/lib/systemd/system",
    "data_tmkms",
    "data_tmkms/tmkms/kms/commercio",
    "data_tmkms/tmkms/kms/commercio/tmkms.02.toml",
    "data_tmkms/tmkms/kms/commercio/tmkms.02.v3.toml",
    "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state02.json",
    "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state02.v3.json",
    "etc/kmsctl",
    "etc/kmsctl/fence",
    "etc/kmsctl/fence/tmkms-02.v3.service.closed",
    "var/lib/kmsctl",
    "var/lib/kmsctl/operations",
    "var/lib/kmsctl/plan.json",
    "run/kmsctl/services.json",
];

/// What only the outside says.
const CANARIES: [(&str, &str); 3] = [
    ("commercio-2_2", "canary-2_2"),
    ("Commercio tmkms", "Canary tmkms"),
    ("2233550", "4242424"),
];

const VERBS: [&[&str]; 7] = [
    &["plan", "--new-chain", "commercio-3"],
    &["status"],
    &["stage", "--yes"],
    &["apply", "--yes"],
    &["history"],
    &["rollback", "--yes"],
    &["unstage", "--yes"],
];

#[derive(Clone, Copy, Debug)]
enum Spelling {
    Absolute,
    Climbing,
    Looping,
}

#[test]
fn absolute_links() {
    everywhere(Spelling::Absolute);
}

#[test]
fn relative_links_that_climb() {
    everywhere(Spelling::Climbing);
}

#[test]
fn links_that_loop() {
    everywhere(Spelling::Looping);
}

fn everywhere(spelling: Spelling) {
    let outside = outside();
    let before = seen(outside.root());
    std::thread::scope(|threads| {
        // What takes time is waiting for the disk.
        for places in PLACES.chunks(3) {
            let (outside, before) = (outside.root(), &before);
            threads.spawn(move || {
                for place in places {
                    // Before anything is known of the host, and between what was planned and what is done.
                    contained(place, spelling, false, outside, before);
                    contained(place, spelling, true, outside, before);
                }
            });
        }
    });
}

fn contained(place: &str, spelling: Spelling, staged: bool, outside: &Path, before: &Seen) {
    let case = format!("{place}, {spelling:?}, staged: {staged}");
    let host = Host::of("commercio");
    if staged {
        host.kmsctl(VERBS[0]).exits(0);
        host.kmsctl(&["stage", "--yes"]).exits(0);
    }
    let link = host.path(place);
    if fs::symlink_metadata(&link).is_ok() {
        fs::rename(&link, host.path("aside")).unwrap();
    }
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let target = outside.join(place);
    assert!(fs::symlink_metadata(&target).is_ok(), "{case}: a canary");
    let spelled = match spelling {
        Spelling::Absolute => target,
        Spelling::Climbing => {
            let up = "../".repeat(link.components().count() + 3);
            Path::new(&up).join(target.strip_prefix("/").unwrap())
        }
        Spelling::Looping => {
            // Through its own folder, so that neither way round ends.
            let folder = link.parent().unwrap().file_name().unwrap_or_default();
            let name = link.file_name().unwrap();
            Path::new("..").join(folder).join(name)
        }
    };
    symlink(&spelled, &link).unwrap();
    for verb in VERBS {
        let said = host.kmsctl(verb);
        assert_ne!(said.code, 101, "{case}: {said:?}");
        assert!(said.code >= 0, "{case}: {said:?}");
        for (_, canary) in CANARIES {
            assert!(!said.all().contains(canary), "{case}: {said:?}");
        }
        assert!(
            seen(outside) == *before,
            "{case}: {verb:?} changed the outside: {said:?}"
        );
    }
    for kept in ["var/lib/kmsctl", "run"] {
        let folder = host.path(kept);
        if folder.is_symlink() || host.path("var/lib").is_symlink() {
            continue;
        }
        for (path, (.., content)) in seen(&folder) {
            let text = String::from_utf8_lossy(&content);
            for (_, canary) in CANARIES {
                assert!(!text.contains(canary), "{case}: {}", path.display());
            }
        }
    }
}

/// Another host, staged and switched, where everything has a canary's name.
fn outside() -> Host {
    let host = Host::of("commercio");
    host.switched();
    fs::create_dir_all(host.path("usr/lib/systemd/system")).unwrap();
    host.write("etc/kmsctl/fence/tmkms-02.v3.service.closed", "");
    host.link(
        "etc/systemd/system/multi-user.target.wants/tmkms-02.service",
        "/etc/systemd/system/tmkms-02.service",
    );
    for path in seen(host.root()).into_keys() {
        // A journal whose records don't fit their checksums would be refused before anything is written beside it.
        let journal = path.starts_with(host.path("var/lib/kmsctl/operations"));
        if journal || path.is_symlink() || !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let changed = CANARIES
            .iter()
            .fold(text, |text, (from, to)| text.replace(from, to));
        fs::write(path, changed).unwrap();
    }
    host
}

/// Mode, time, inode, and content or target of each path.
type Seen = BTreeMap<PathBuf, (u32, i64, i64, u64, Vec<u8>)>;

/// Everything below a folder, no link followed.
fn seen(folder: &Path) -> Seen {
    let mut all = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return all;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else if meta.is_dir() {
            all.extend(seen(&path));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        let times = (meta.mtime(), meta.mtime_nsec());
        all.insert(path, (meta.mode(), times.0, times.1, meta.ino(), content));
    }
    all
}
