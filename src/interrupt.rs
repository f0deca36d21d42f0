//! Being asked to end: Ctrl-C, a request to terminate, a session that was lost. The first one is only noted, and whatever
//! takes long looks for it; the second one ends the process at once, since the journal holds what is true.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Failure;
use crate::host::Clock;

/// How soon a wait sees it.
const SEEN_WITHIN: Duration = Duration::from_millis(100);

/// What a signal raises; one for the whole process, since signals are.
pub fn raised() -> &'static Arc<AtomicBool> {
    static RAISED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    RAISED.get_or_init(Arc::default)
}

/// Notes all of them from here on, instead of ending.
pub fn watch() -> Result<()> {
    [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .try_for_each(watch_for)
}

/// Notes Ctrl-C from here on, instead of ending.
pub fn watch_for_ctrl_c() -> Result<()> {
    watch_for(SIGINT)
}

fn watch_for(signal: i32) -> Result<()> {
    static WATCHED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    if watched.insert(signal) {
        // In this order: the first one finds nothing raised yet.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(raised()))
            .and_then(|_| flag::register(signal, Arc::clone(raised())))
            .context("watching for signals")?;
    }
    Ok(())
}

/// What follows begins unasked to end, as the way back of what was interrupted does.
pub fn forget() {
    raised().store(false, Ordering::Relaxed);
}

/// Whether it was asked for.
pub fn is_raised() -> bool {
    raised().load(Ordering::Relaxed)
}

/// Ends here where it was asked for, before anything is begun.
///
/// # Errors
/// It was.
pub fn none_yet() -> Result<(), Failure> {
    match is_raised() {
        true => Err(Failure::from(anyhow!("interrupted; nothing was changed"))),
        false => Ok(()),
    }
}

/// Lets time pass, unless it is asked for meanwhile.
pub fn pause(clock: &dyn Clock, time: Duration) -> Result<()> {
    let mut left = time;
    while !left.is_zero() && !is_raised() {
        let piece = left.min(SEEN_WITHIN);
        clock.sleep(piece)?;
        left -= piece;
    }
    Ok(())
}
