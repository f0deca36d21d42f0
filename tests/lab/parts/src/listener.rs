//! Listens for signers and keeps the ones that are connected, alive by a ping about every second.
//!
//! Several may be connected at once, as when an old tmkms hasn't gone yet: the newest is asked. A signer is taken off the
//! list as soon as a question to it fails.

use crate::message::Protocol;
use crate::signer::Signer;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a signer may take from connecting to having told its public key.
const WELCOME: Duration = Duration::from_secs(10);

/// Between two pings; tmkms gives up on a silent validator after ten seconds.
const PING_EVERY: Duration = Duration::from_secs(1);

/// How long an answer to a ping may take.
pub const PING_WITHIN: Duration = Duration::from_secs(3);

/// The signers that are connected.
#[derive(Default)]
pub struct Signers {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    connected: Vec<Arc<Signer>>,
    trouble: Option<String>,
}

impl Signers {
    /// Takes every connection on `listener` as a signer's, from now on, in the background.
    pub fn welcome_all(
        self: &Arc<Self>,
        listener: TcpListener,
        identity: [u8; 32],
        chain_id: &str,
        protocol: Protocol,
    ) {
        let signers = Arc::clone(self);
        let chain_id = chain_id.to_owned();
        thread::spawn(move || {
            loop {
                let Ok((socket, _)) = listener.accept() else {
                    // Out of file descriptors, say: not a reason to spin.
                    thread::sleep(Duration::from_millis(50));
                    continue;
                };
                let signers = Arc::clone(&signers);
                let chain_id = chain_id.clone();
                thread::spawn(move || {
                    // The handshake's crate panics on some well-encrypted nonsense.
                    let welcome = catch_unwind(AssertUnwindSafe(|| {
                        Signer::welcome(
                            socket,
                            &identity,
                            &chain_id,
                            protocol,
                            Instant::now() + WELCOME,
                        )
                    }));
                    match welcome {
                        Ok(Ok(signer)) => signers.keep(Arc::new(signer)),
                        Ok(Err(trouble)) => signers.note(trouble),
                        Err(_) => {
                            signers.note("handshake: the other side sent nonsense".to_owned())
                        }
                    }
                });
            }
        });
    }

    /// The newest signer, waiting for one until `until`.
    #[must_use]
    pub fn newest(&self, until: Instant) -> Option<Arc<Signer>> {
        let mut state = self.state();
        loop {
            if let Some(signer) = state.connected.last() {
                return Some(Arc::clone(signer));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Hangs up on a signer and forgets it, for a reason.
    pub fn dismiss(&self, signer: &Arc<Signer>, why: String) {
        signer.hang_up();
        let mut state = self.state();
        if state
            .connected
            .iter()
            .any(|other| Arc::ptr_eq(other, signer))
        {
            state.connected.retain(|other| !Arc::ptr_eq(other, signer));
            state.trouble = Some(why);
        }
    }

    /// How many are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().connected.len()
    }

    /// Why the last one that failed did.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    /// Lists a signer and pings it until it fails or is dismissed.
    fn keep(&self, signer: Arc<Signer>) {
        self.state().connected.push(Arc::clone(&signer));
        self.changed.notify_all();
        loop {
            thread::sleep(PING_EVERY);
            if !self
                .state()
                .connected
                .iter()
                .any(|other| Arc::ptr_eq(other, &signer))
            {
                return;
            }
            if let Err(error) = signer.ping(Instant::now() + PING_WITHIN) {
                return self.dismiss(&signer, format!("ping: {error}"));
            }
        }
    }

    fn note(&self, trouble: String) {
        self.state().trouble = Some(trouble);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
