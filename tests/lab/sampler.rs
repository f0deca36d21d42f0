//! Watches, from outside, that no signer ever has two processes at once.
//!
//! It reads the machine's own /proc every two milliseconds, through power cuts and boots. Two are counted only where both
//! were proven to be alive at one time, so what it counts happened; what is shorter than a gap it can't see.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::machine::Machine;

const PERIOD: Duration = Duration::from_millis(2);

/// What was seen.
#[derive(Clone, Debug)]
pub struct Samples {
    /// How often the processes of the running machine were looked at.
    pub samples: usize,
    /// The most processes of each signer at one time, by its number (`01`).
    pub most_at_once: BTreeMap<String, usize>,
    /// The longest time between two looks, times when the machine was off not counted.
    pub slowest_gap: Duration,
}

impl Samples {
    /// Fails where two processes of one signer were alive at once, and where too little was seen to say so.
    pub fn one_at_a_time(&self) -> Result<()> {
        ensure!(
            self.samples > 0 && !self.most_at_once.is_empty(),
            "no signer was ever seen: {self:?}"
        );
        ensure!(
            self.most_at_once.values().all(|most| *most <= 1),
            "two processes of one signer: {self:?}"
        );
        Ok(())
    }
}

/// A running watch over one machine.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Samples>>,
}

impl Sampler {
    /// Starts to watch, until [`Sampler::stop`].
    pub fn start(machine: &Machine) -> Sampler {
        let (leader, stop) = (machine.leader(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || watch(&leader, &stopped));
        Sampler {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends the watch and says what it saw.
    pub fn stop(mut self) -> Result<Samples> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self
            .thread
            .take()
            .ok_or_else(|| anyhow!("the sampler has stopped already"))?;
        thread.join().map_err(|_| anyhow!("the sampler panicked"))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn watch(leader: &AtomicI32, stop: &AtomicBool) -> Samples {
    let mut seen = Samples {
        samples: 0,
        most_at_once: BTreeMap::new(),
        slowest_gap: Duration::ZERO,
    };
    let mut last = None;
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        match alive(leader.load(Ordering::SeqCst)) {
            Some(alive) => {
                seen.samples += 1;
                if let Some(last) = last.replace(began) {
                    seen.slowest_gap = seen.slowest_gap.max(began - last);
                }
                for (signer, count) in alive {
                    let most = seen.most_at_once.entry(signer).or_default();
                    *most = count.max(*most);
                }
            }
            None => last = None,
        }
        thread::sleep(PERIOD.saturating_sub(began.elapsed()));
    }
    seen
}

/// How many processes each signer has; None while the machine is off or hasn't mounted its /proc yet.
fn alive(leader: i32) -> Option<BTreeMap<String, usize>> {
    let outside = Path::new("/proc").join(leader.to_string());
    let inside = outside.join("root/proc");
    // Early in a boot this could still be somebody else's /proc.
    let own = fs::read_link(outside.join("ns/pid")).ok()?;
    if fs::read_link(inside.join("1/ns/pid")).ok()? != own {
        return None;
    }
    let mut signers: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(&inside).ok()? {
        let path = entry.ok()?.path();
        let is_process = path
            .file_name()?
            .to_str()
            .is_some_and(|it| it.starts_with(|first: char| first.is_ascii_digit()));
        if is_process && let Some(signer) = signer_of(&path) {
            signers.entry(signer).or_default().push(path);
        }
    }
    let count = |(signer, paths): (String, Vec<PathBuf>)| {
        // One may have ended before the other began. Those that are there after all have been seen were there together.
        let together = paths
            .iter()
            .filter(|path| signer_of(path).as_ref() == Some(&signer))
            .count();
        (signer, together.max(1))
    };
    Some(signers.into_iter().map(count).collect())
}

/// The signer of a process, where that is `…tmkms start -c FILE`.
fn signer_of(process: &Path) -> Option<String> {
    let argv = fs::read(process.join("cmdline")).ok()?;
    let argv: Vec<&str> = argv
        .split(|byte| *byte == 0)
        .filter_map(|arg| str::from_utf8(arg).ok())
        .collect();
    match argv.as_slice() {
        [program, "start", "-c", config, ..] if program.ends_with("tmkms") => number_in(config),
        _ => None,
    }
}

/// The first number in a file's name: `tmkms.01.toml` and `tmkms.01.v3.toml` are both of signer `01`.
fn number_in(config: &str) -> Option<String> {
    let name = config.rsplit('/').next()?;
    let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let number: String = digits.chars().take_while(char::is_ascii_digit).collect();
    (!number.is_empty()).then_some(number)
}
