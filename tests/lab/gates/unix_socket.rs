//! A validator on a unix socket that takes every signer and asks for nothing. tmkms dials one in clear.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::kmsctl::eventually;
use crate::machine::Machine;

/// Listens until it is closed; then every signer's connection is closed too.
pub struct SilentValidator {
    over: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<UnixStream>>,
}

impl SilentValidator {
    /// Listens at a path of the machine. The socket is made from outside: only its place is the machine's.
    pub fn start(machine: &Machine, path: &str) -> Result<SilentValidator> {
        let at = machine.file(path);
        let context = || format!("listening on {}", at.display());
        let listener = UnixListener::bind(&at).with_context(context)?;
        listener.set_nonblocking(true).with_context(context)?;
        fs::set_permissions(&at, fs::Permissions::from_mode(0o666)).with_context(context)?;
        let (over, taken) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ends, counts) = (Arc::clone(&over), Arc::clone(&taken));
        let thread = thread::spawn(move || {
            let mut signers = Vec::new();
            while !ends.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((signer, _)) => {
                        signers.push(signer);
                        counts.store(signers.len(), Ordering::SeqCst);
                    }
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
            signers
        });
        Ok(SilentValidator {
            over,
            taken,
            thread,
        })
    }

    /// Waits until so many signers, ended ones included, have come.
    pub fn has_taken(&self, signers: usize) -> Result<()> {
        eventually("a signer dials the unix socket", || {
            Ok(self.taken.load(Ordering::SeqCst) >= signers)
        })
    }

    pub fn close(self) -> Result<()> {
        self.over.store(true, Ordering::SeqCst);
        let signers = self.thread.join();
        drop(signers.map_err(|_| anyhow!("the validator panicked"))?);
        Ok(())
    }
}
