//! What a machine takes from the host's kernel: a mount, cgroups, a network, a pid namespace.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Keeps the machine's network while the machine is off, and clears up if the test process dies: its stdin ends then.
const CARETAKER: &str = r#"
trap '' INT TERM HUP
root=$1 folder=$2 name=$3
shift 3
chroot "$root" ip link set lo up && echo up || exit 1
cat >/dev/null
for pid in $(cat "$folder/pids"); do kill -9 "$pid"; done
sleep 1
find "$@" -depth -type d -exec rmdir {} +
rmdir "/run/systemd/nspawn/propagate/$name"
rm -f "/run/systemd/nspawn/locks/inode-$(stat -c %d:%i "$folder/merged")"
umount -l "$folder/merged"
rm -rf --one-file-system "$folder"
"#;

/// Makes the folder's parts and starts the caretaker, in the network that is to be the machine's.
pub(super) fn caretaker(
    root: &Path,
    folder: &Path,
    name: &str,
    cgroups: &[PathBuf],
) -> Result<Child> {
    for part in ["upper", "work", "merged"] {
        let path = folder.join(part);
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        // The machine's / has the mode of the upper folder.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("opening {} to all", path.display()))?;
    }
    fs::write(folder.join("pids"), "").context("writing the list of pids")?;
    let mut caretaker = Command::new("unshare")
        .args(["--net", "sh", "-c", CARETAKER, "sh"])
        .args([root, folder, Path::new(name)])
        .args(cgroups)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting unshare")?;
    let mut answer = String::new();
    if let Some(stdout) = caretaker.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut answer)
            .context("reading from the caretaker")?;
    }
    if answer != "up\n" {
        let _gone_already = caretaker.kill();
        let _status = caretaker.wait();
    }
    ensure!(
        answer == "up\n",
        "no network for the machine: is this root, with network namespaces?"
    );
    Ok(caretaker)
}

/// Lays the machine's own folder over the shared root. Mounted until the machine is dropped, through power cuts.
pub(super) fn mount_overlay(root: &Path, folder: &Path) -> Result<()> {
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        root.display(),
        folder.join("upper").display(),
        folder.join("work").display()
    );
    let mounted = Command::new("mount")
        .args(["-t", "overlay", "kmsctl-lab", "-o", &layers])
        .arg(folder.join("merged"))
        .output()
        .context("starting mount")?;
    let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
    ensure!(
        mounted.status.success(),
        "mounting an overlay with {layers}: {why}"
    );
    Ok(())
}

/// Undoes [`mount_overlay`]. Lazily, since an unmount that waits would leave more behind than one that doesn't.
pub(super) fn unmount(folder: &Path) {
    let _not_mounted = Command::new("umount")
        .arg("--lazy")
        .arg(folder.join("merged"))
        .stderr(Stdio::null())
        .status();
}

/// What systemd-nspawn leaves in the host's /run when it is killed, or when /run is no tmpfs.
pub(super) fn forget(name: &str, merged: &Path) {
    let run = Path::new("/run/systemd/nspawn");
    let _not_there = fs::remove_dir(run.join("propagate").join(name));
    if let Ok(merged) = fs::metadata(merged) {
        let lock = format!("inode-{}:{}", merged.dev(), merged.ino());
        let _not_there = fs::remove_file(run.join("locks").join(lock));
    }
}

/// The cgroups for a machine: below this process's own, in the hierarchies that systemd uses (cgroup2, and its named one
/// of cgroup v1 where the host has both).
pub(super) fn own_cgroups(name: &str) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let own = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let mut cgroups = Vec::new();
    for (kind, option, prefix) in [
        ("cgroup2", "", "0::/"),
        ("cgroup", "name=systemd", ":name=systemd:/"),
    ] {
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let fits = fields.get(2) == Some(&kind)
                && (option.is_empty() || fields.get(3)?.split(',').any(|found| found == option));
            fits.then(|| fields[1])
        });
        let below = own.lines().find_map(|line| {
            let at = line.find(prefix)?;
            (at == 0 || kind == "cgroup").then(|| &line[at + prefix.len()..])
        });
        if let (Some(mount), Some(below)) = (mount, below) {
            cgroups.push(Path::new(mount).join(below).join(name));
        }
    }
    ensure!(
        !cgroups.is_empty(),
        "this host has no cgroup hierarchy that systemd could use"
    );
    Ok(cgroups)
}

/// Removes a cgroup and all below it; an error while a process is left in it.
pub(super) fn remove_cgroup(cgroup: &Path) -> std::io::Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// The first process of the machine that this systemd-nspawn runs, as the host counts: its child that is pid 1 in a
/// namespace. Before that child exists there is another one for a moment.
pub(super) fn leader_of(nspawn: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    children.split_whitespace().find_map(|child| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
        let pids = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))?;
        let pids: Vec<&str> = pids.split_whitespace().collect();
        if pids.len() > 1 && pids.last() == Some(&"1") {
            child.parse().ok()
        } else {
            None
        }
    })
}

/// The processes of a pid namespace, as the host counts.
pub(super) fn living_in(namespace: &File) -> Result<Vec<i32>> {
    let wanted = namespace.metadata().context("looking at a pid namespace")?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let entry = entry.context("reading /proc")?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process that goes away meanwhile isn't living.
        let space = fs::metadata(entry.path().join("ns/pid"));
        if space.is_ok_and(|it| it.ino() == wanted.ino() && it.dev() == wanted.dev()) {
            found.push(pid);
        }
    }
    Ok(found)
}
