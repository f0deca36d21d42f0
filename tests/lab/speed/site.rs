//! The machine that is measured on: without it no figure means anything.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::figures::{median, milliseconds};

#[derive(Debug, Serialize)]
pub struct Site {
    kmsctl: String,
    processors: usize,
    processor: String,
    memory_gb: f64,
    kernel: String,
    /// One small write and its fsync, where the lab's machines have their disks.
    fsync_ms: f64,
    load_before: String,
}

impl Site {
    pub fn look(program: &Path) -> Result<Site> {
        let named = |file: &str, key: &str| -> Result<String> {
            let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
            let line = text.lines().find(|l| l.starts_with(key));
            let value = line.and_then(|l| l.split_once(':'));
            Ok(value.map_or("unknown", |(_, v)| v.trim()).to_owned())
        };
        let memory = named("/proc/meminfo", "MemTotal")?;
        let kilobytes: f64 = memory
            .trim_end_matches(" kB")
            .parse()
            .context("reading MemTotal")?;
        let version = Command::new(program).arg("--version").output();
        let version = version.context("asking kmsctl for its version")?.stdout;
        Ok(Site {
            kmsctl: String::from_utf8_lossy(&version).trim().to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            processor: named("/proc/cpuinfo", "model name")?,
            memory_gb: kilobytes / f64::from(1 << 20),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            fsync_ms: fsync()?,
            load_before: load()?,
        })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}; {} processors ({}), {:.0} GB of memory, Linux {}, an fsync takes {}; load {}",
            self.kmsctl,
            self.processors,
            self.processor,
            self.memory_gb,
            self.kernel,
            milliseconds(self.fsync_ms),
            self.load_before
        )
    }
}

/// The load over one, five and fifteen minutes.
pub fn load() -> Result<String> {
    let load = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    Ok(load.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn fsync() -> Result<f64> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let path = folder.path().join("written");
    let mut file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let mut times = Vec::new();
    for _ in 0..100 {
        file.write_all(&[b'x'; 200])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    median(times)
}
