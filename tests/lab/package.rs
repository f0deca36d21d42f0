//! The Debian package as an operator meets it: installed on a host whose signers run, used for a whole night, removed and
//! purged. It must never touch a service, nor what guards against double signatures.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::fleet::{self, Fleet, Keys};
use crate::kmsctl::{NEW_CHAIN, UnitNow, new_unit, unit_now};
use crate::machine::{Lab, Machine};
use crate::parts::Protocol;
use crate::tree::Tree;

const FLEET: Fleet = Fleet {
    signers: 2,
    protocol: Protocol::V033,
    keys: Keys::Softsign,
};
const DEB: &str = "/root/kmsctl.deb";
/// What no package may touch.
const GUARDS: [&str; 3] = ["/etc/kmsctl", "/var/lib/kmsctl", "/etc/systemd/system"];
const OF_EACH_VERB: &str = "/usr/share/man/man1/kmsctl-";

/// Builds the package, or finds it built.
fn built(lab: &Lab) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(lab.cargo_deb()).chain(std::env::split_paths(&path));
    let build = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/build-deb"))
        .env("PATH", std::env::join_paths(paths).context("a PATH")?)
        .output()
        .context("starting packaging/build-deb")?;
    let err = String::from_utf8_lossy(&build.stderr);
    ensure!(build.status.success(), "packaging/build-deb: {err}");
    let deb = String::from_utf8(build.stdout).context("reading the package's path")?;
    Ok(PathBuf::from(deb.trim()))
}

/// The signers as systemd has them.
fn signers(machine: &Machine) -> Result<Vec<UnitNow>> {
    (1..=FLEET.signers)
        .map(|n| unit_now(machine, &fleet::unit_name(n)))
        .collect()
}

#[test]
fn installed_used_for_a_night_removed_and_purged() -> Result<()> {
    let lab = Lab::open()?;
    let deb = built(&lab)?;
    let machine = Machine::boot(&lab, |root| {
        FLEET.write(&lab, root)?;
        fs::copy(&deb, root.join(DEB.trim_start_matches('/'))).context("copying the package")?;
        Ok(())
    })?;
    machine.sh("systemctl enable --now tmkms-01 tmkms-02")?;
    let running = signers(&machine)?;
    ensure!(running.iter().all(UnitNow::runs), "{running:?}");
    let guards = Tree::of(&machine, &GUARDS)?;

    machine.sh(&format!("dpkg -i {DEB}"))?;
    guards.is_still(&Tree::of(&machine, &GUARDS)?);
    assert_eq!(signers(&machine)?, running, "installing touches no service");
    describes_itself(&machine)?;
    has_its_files(&machine)?;
    reads_well(&machine)?;

    // The installed program, against the real systemd and tmkms.
    let plan = machine.sh(&format!("kmsctl plan --new-chain {NEW_CHAIN}"))?;
    assert!(plan.contains("2 signers to move"), "{plan}");
    machine.sh("kmsctl stage --yes && kmsctl apply --yes --soak 1")?;
    for number in 1..=FLEET.signers {
        let unit = new_unit(number);
        let now = unit_now(&machine, &unit)?;
        ensure!(now.runs(), "{unit}: {now:?}");
    }
    machine.sh("kmsctl rollback --yes --soak 1")?;
    let running = signers(&machine)?;
    ensure!(running.iter().all(UnitNow::runs), "{running:?}");

    // Gone, with all that remembers and guards left behind.
    let guards = Tree::of(&machine, &GUARDS)?;
    for path in [
        "/etc/kmsctl/fence/tmkms-01.v3.service.closed",
        "/var/lib/kmsctl/plan.json",
        "/etc/systemd/system/tmkms-01.service.d/zz-kmsctl.conf",
    ] {
        guards.get(path)?;
    }
    for removal in [
        "dpkg -r kmsctl",
        "dpkg -i /root/kmsctl.deb",
        "dpkg -P kmsctl",
    ] {
        machine.sh(removal)?;
        guards.is_still(&Tree::of(&machine, &GUARDS)?);
        assert_eq!(signers(&machine)?, running, "{removal} touches no service");
    }
    let left = machine.sh("find / -xdev -path /proc -prune -o -name '*kmsctl*' -print")?;
    let unguarded: Vec<&str> = left
        .lines()
        .filter(|path| {
            *path != DEB && !path.starts_with("/etc/") && !path.starts_with("/var/lib/kmsctl")
        })
        .collect();
    assert!(unguarded.is_empty(), "left behind: {unguarded:?}");
    let starts = machine.run(&["systemctl", "start", &new_unit(1)])?;
    assert_eq!(
        starts.code,
        Some(1),
        "the fence needs no program: {starts:?}"
    );
    Ok(())
}

fn describes_itself(machine: &Machine) -> Result<()> {
    let fields =
        "${Status}|${Section}|${Architecture}|${Depends}|${Pre-Depends}|${Recommends}|${Conffiles}";
    let said = machine.sh(&format!("dpkg-query -W -f '{fields}' kmsctl"))?;
    let (before, after) = said
        .split_once("|admin|")
        .with_context(|| format!("no section in {said}"))?;
    assert_eq!(before, "install ok installed");
    let (_machine, relations) = after.split_once('|').context("no architecture")?;
    assert_eq!(relations, "||dbus|", "needs nothing, owns no config");
    let control = machine.sh(&format!("dpkg-deb --ctrl-tarfile {DEB} | tar -t | sort"))?;
    let parts: Vec<&str> = control
        .lines()
        .map(|l| l.trim_start_matches("./"))
        .collect();
    let parts: Vec<&str> = parts.into_iter().filter(|l| !l.is_empty()).collect();
    assert_eq!(parts, ["control"], "no maintainer scripts");
    let version = machine.sh("dpkg-query -W -f '${Version}' kmsctl")?;
    let program = machine.sh("kmsctl --version")?;
    assert_eq!(
        program.trim(),
        format!("kmsctl {}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(version, format!("{}-1", env!("CARGO_PKG_VERSION")));
    Ok(())
}

fn has_its_files(machine: &Machine) -> Result<()> {
    let owned = machine.sh("dpkg -L kmsctl")?;
    let mut pages = 0;
    for path in owned.lines().filter(|path| *path != "/.") {
        let meta = fs::symlink_metadata(machine.file(path)).with_context(|| path.to_owned())?;
        let mode = match path {
            "/usr/bin/kmsctl" => 0o100_755,
            _ if meta.is_dir() => 0o040_755,
            _ => 0o100_644,
        };
        assert_eq!(
            format!("{:o}", meta.permissions().mode()),
            format!("{mode:o}"),
            "{path}"
        );
        pages += usize::from(path.starts_with(OF_EACH_VERB));
    }
    let verbs =
        machine.sh("kmsctl --help | sed -n '/^Commands:/,/^$/s/^  \\([a-z][a-z]*\\) .*/\\1/p'")?;
    let verbs = verbs.lines().filter(|verb| *verb != "help").count();
    ensure!(verbs > 9, "--help lists its verbs");
    assert_eq!(pages, verbs, "{owned}");
    for path in [
        "/usr/bin/kmsctl",
        "/usr/share/man/man1/kmsctl.1.gz",
        "/usr/share/bash-completion/completions/kmsctl",
        "/usr/share/zsh/vendor-completions/_kmsctl",
        "/usr/share/fish/vendor_completions.d/kmsctl.fish",
        "/usr/share/doc/kmsctl/README.md",
        "/usr/share/doc/kmsctl/CHANGELOG.md",
        "/usr/share/doc/kmsctl/copyright",
        "/usr/share/doc/kmsctl/dependencies.txt",
        "/usr/share/doc/kmsctl/examples/kmsctl.toml",
    ] {
        ensure!(
            owned.lines().any(|line| line == path),
            "no {path} in {owned}"
        );
    }
    for place in ["/etc", "/var"] {
        ensure!(
            !owned.lines().any(|line| line.starts_with(place)),
            "{owned}"
        );
    }
    let program = fs::read(machine.file("/usr/bin/kmsctl")).context("reading the program")?;
    for never in ["KMSCTL_HOLD_", env!("CARGO_MANIFEST_DIR")] {
        let there = program.windows(never.len()).any(|w| w == never.as_bytes());
        ensure!(!there, "{never} is in the released program");
    }
    machine.sh("bash -n /usr/share/bash-completion/completions/kmsctl")?;
    Ok(())
}

/// The two readers of manual pages find no fault, and show what was meant.
fn reads_well(machine: &Machine) -> Result<()> {
    let folder = machine.file("/usr/share/man/man1");
    let entries = fs::read_dir(&folder).context("listing the pages")?;
    let pages: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    for page in pages
        .iter()
        .filter(|p| p.to_string_lossy().contains("/kmsctl"))
    {
        let roff = piped(Command::new("gzip").arg("-dc").arg(page), b"")?;
        let groff = piped(
            Command::new("groff").args(["-man", "-ww", "-Tutf8"]),
            roff.as_bytes(),
        )?;
        // An empty date: the same program prints the same page on every day.
        let lint = piped(
            Command::new("mandoc").args(["-T", "lint", "-W", "warning"]),
            roff.as_bytes(),
        );
        let complaints = lint.err().map(|e| format!("{e:#}")).unwrap_or_default();
        let complaints: Vec<&str> = complaints
            .lines()
            .filter(|l| l.contains("mandoc: ") && !l.contains("missing date"))
            .collect();
        assert!(complaints.is_empty(), "{}: {complaints:?}", page.display());
        let mandoc = piped(
            Command::new("mandoc").args(["-man", "-T", "utf8"]),
            roff.as_bytes(),
        )?;
        for shown in [groff, mandoc] {
            // The footer, which is somewhere else where the title's words aren't in their places.
            let footer = shown.lines().rfind(|line| !line.is_empty());
            let version = concat!("kmsctl ", env!("CARGO_PKG_VERSION"), " ");
            assert!(
                footer.is_some_and(|line| line.starts_with(version)),
                "{}:\n{shown}",
                page.display()
            );
        }
    }
    Ok(())
}

/// Runs a program of the host with a text on its stdin. A word on stderr is a failure.
fn piped(command: &mut Command, text: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(text).context("writing a page")?;
    drop(stdin);
    let output = child.wait_with_output().context("waiting")?;
    let err = String::from_utf8_lossy(&output.stderr);
    let out = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && err.is_empty(),
        "{command:?}: {err}{out}"
    );
    Ok(out.into_owned())
}
