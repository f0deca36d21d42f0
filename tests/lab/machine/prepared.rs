//! Where the things are that `tests/lab/prepare` made, and a clear word where they aren't.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

/// What `tests/lab/prepare` made.
#[derive(Clone, Debug)]
pub struct Lab {
    cache: PathBuf,
}

impl Lab {
    /// Finds the lab's cache; an error names the command that makes it.
    pub fn open() -> Result<Lab> {
        let cache = match (var("KMSCTL_LAB_CACHE"), var("XDG_CACHE_HOME"), var("HOME")) {
            (Some(cache), _, _) => cache,
            (None, Some(caches), _) => caches.join("kmsctl-lab"),
            (None, None, Some(home)) => home.join(".cache/kmsctl-lab"),
            (None, None, None) => bail!("none of KMSCTL_LAB_CACHE, XDG_CACHE_HOME and HOME is set"),
        };
        let lab = Lab { cache };
        for needed in [
            lab.root().join("etc/kmsctl-lab"),
            lab.tmkms(),
            lab.cargo_deb().join("cargo-deb"),
            lab.part("fake-validator"),
            lab.part("mock-yubihsm-connector"),
        ] {
            ensure!(
                needed.exists(),
                "{} is missing: start this test with tests/run",
                needed.display()
            );
        }
        ensure!(
            rustix::process::geteuid().is_root(),
            "the lab boots machines and needs root: start this test with tests/run"
        );
        Ok(lab)
    }

    /// The Debian root that every machine starts from. Nobody writes there.
    pub fn root(&self) -> PathBuf {
        self.cache.join("root")
    }

    /// The real tmkms 0.12.2, with softsign and yubihsm.
    pub fn tmkms(&self) -> PathBuf {
        self.cache.join("tmkms-0.12.2/bin/tmkms")
    }

    /// The folder of the cargo-deb that builds kmsctl's package.
    pub fn cargo_deb(&self) -> PathBuf {
        self.cache.join("cargo-deb/bin")
    }

    /// One of the programs of tests/lab/parts.
    pub fn part(&self, name: &str) -> PathBuf {
        self.cache.join("parts").join(name)
    }
}

fn var(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
