//! Where the things are that `tests/lab/prepare` made, and a clear word where they aren't.

use std::path::{Path, PathBuf};

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

    /// The real tmkms 0.12.2, or the version that is asked for, with softsign and yubihsm.
    pub fn tmkms(&self) -> PathBuf {
        let version = tmkms_version();
        self.cache
            .join(format!("tmkms-{}", version.display()))
            .join("bin/tmkms")
    }

    /// Whether this tmkms refuses a validator of another chain. Up to 0.12.2 it signs with its own chain's id.
    pub fn checks_the_chain(&self) -> bool {
        tmkms_version() != Path::new("0.12.2")
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

fn tmkms_version() -> PathBuf {
    var("KMSCTL_LAB_TMKMS_VERSION").unwrap_or_else(|| "0.12.2".into())
}

fn var(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
