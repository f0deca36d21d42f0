//! A fixture host in a temporary folder, kmsctl run on it, and its tree compared.

#![allow(dead_code, reason = "each test target uses a part of this")]

pub mod case;
#[cfg(feature = "failpoints")]
pub mod held;
pub mod oasis;
pub mod secrets;
pub mod signalled;
pub mod terminal;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

pub const CONFIGS: &str = "data_tmkms/tmkms/kms/commercio";
pub const UNITS: &str = "etc/systemd/system";

/// A host as a folder.
pub struct Host {
    folder: TempDir,
}

/// What a run of kmsctl said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Everything that was printed.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Said {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.out, self.err
        );
        self
    }

    #[track_caller]
    pub fn says(self, words: &[&str]) -> Said {
        let all = self.all();
        for word in words {
            assert!(all.contains(word), "{word:?} isn't said in:\n{all}");
        }
        self
    }
}

/// What stands at a path: kind, mode, owner, and content or target.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    pub mode: u32,
    pub owner: (u32, u32),
    pub content: Vec<u8>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:o} {:?} {:?}",
            self.mode,
            self.owner,
            String::from_utf8_lossy(&self.content)
        )
    }
}

pub type Tree = BTreeMap<PathBuf, Node>;

impl Host {
    /// A copy of a fixture's host.
    pub fn of(case: &str) -> Host {
        let folder = tempfile::tempdir().unwrap();
        let source = fixture(case).join("host");
        copy(&source, folder.path());
        Host { folder }
    }

    /// A host with systemd's folder, two users and a tmkms, and no signer yet.
    pub fn bare() -> Host {
        let folder = tempfile::tempdir().unwrap();
        let host = Host { folder };
        fs::create_dir_all(host.path(UNITS)).unwrap();
        host.write(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\ntmkms:x:2000:2000::/data_tmkms/tmkms:/usr/sbin/nologin\n",
        );
        host.program("usr/local/bin/tmkms");
        host
    }

    /// A copy of a host as it is now.
    pub fn like(other: &Host) -> Host {
        let folder = tempfile::tempdir().unwrap();
        copy(other.root(), folder.path());
        Host { folder }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root().join(below.trim_start_matches('/'))
    }

    pub fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A program that nobody runs: what a folder holds is never executed.
    pub fn program(&self, below: &str) {
        self.write(below, "");
        fs::set_permissions(self.path(below), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }

    pub fn remove(&self, below: &str) {
        fs::remove_file(self.path(below)).unwrap();
    }

    pub fn link(&self, below: &str, target: &str) {
        symlink(target, self.path(below)).unwrap();
    }

    /// Changes a text file; the old text must be there.
    #[track_caller]
    pub fn edit(&self, below: &str, from: &str, to: &str) {
        let text = self.read(below);
        assert!(text.contains(from), "{below} has no {from:?}");
        self.write(below, &text.replace(from, to));
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kmsctl"));
        command
            .arg("--root")
            .arg(self.root())
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs kmsctl, and looks for every secret of the host in what it says and keeps.
    pub fn kmsctl(&self, words: &[&str]) -> Said {
        let secrets = secrets::of(self.root());
        let output = self.command(words).output().unwrap();
        secrets::assert_none(&secrets, "standard output", &output.stdout);
        secrets::assert_none(&secrets, "standard error", &output.stderr);
        secrets::assert_none_below(&secrets, &self.path("var/lib/kmsctl"));
        secrets::assert_none_below(&secrets, &self.path("run"));
        for pair in words
            .windows(2)
            .filter(|pair| ["--out", "--runbook"].contains(&pair[0]))
        {
            secrets::assert_none(&secrets, pair[1], &fs::read(pair[1]).unwrap_or_default());
        }
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn json(&self, words: &[&str]) -> serde_json::Value {
        let said = self.kmsctl(words);
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e} in {said:?}"))
    }

    /// Plans, stages and applies.
    pub fn switched(&self) {
        self.kmsctl(&["plan", "--new-chain", "commercio-3"])
            .exits(0);
        self.kmsctl(&["apply", "--yes"]).exits(0);
    }

    /// The host's files, kmsctl's memory and the model's own state left out.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        walk(self.root(), self.root(), &mut tree);
        tree.retain(|path, _| {
            !path.starts_with("var/lib/kmsctl") && !path.starts_with("run/kmsctl")
        });
        for folder in ["var", "var/lib", "run"] {
            tree.remove(Path::new(folder));
        }
        tree
    }
}

/// What was run without [`Host::kmsctl`], at a terminal or killed, kept no secret either.
impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let secrets = secrets::of(self.root());
            secrets::assert_none_below(&secrets, &self.path("var/lib/kmsctl"));
            secrets::assert_none_below(&secrets, &self.path("run"));
        }
    }
}

pub fn fixture(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(case)
}

/// The files below a folder, by their path in it.
pub fn files_below(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    walk(folder, folder, &mut tree);
    tree.retain(|path, _| folder.join(path).is_file());
    tree
}

fn walk(root: &Path, folder: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else if meta.is_dir() {
            walk(root, &path, tree);
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        let node = Node {
            mode: meta.permissions().mode(),
            owner: (meta.uid(), meta.gid()),
            content,
        };
        tree.insert(path.strip_prefix(root).unwrap().to_owned(), node);
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let source = entry.unwrap().path();
        let target = to.join(source.file_name().unwrap());
        let meta = fs::symlink_metadata(&source).unwrap();
        if meta.is_symlink() {
            symlink(fs::read_link(&source).unwrap(), target).unwrap();
        } else if meta.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&source, &target);
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}
