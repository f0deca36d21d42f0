//! The order in which a node lets go of its copy: claim, ask, stop, ask again, move. As a state machine without a clock or
//! a disk, so that whatever drives it, in a test or in earnest, can do nothing in another order.
//!
//! Two operators who ask at the same moment both get good answers. So a node first says durably that it is leaving, and
//! asks afterwards: of two that do so, the one that asks later sees the other's word, whatever the order of everything
//! else. At most one gets through; where both see each other both step back, and try again after unequal times.
//! The word is withdrawn only once the node counts as no holder any more by its own row, or holds its copy as before.

use std::time::Duration;

use super::fleet::No;
use super::published::Half;

/// Where a leaving node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It said nothing, and its copy is in place.
    Staying,
    /// Its word is durable; nobody was asked yet.
    Claimed,
    /// Everybody agreed; it still runs.
    Cleared(Half),
    /// Proven stopped; the others aren't asked again yet.
    Stopped(Half),
    /// Everybody agreed again.
    Sure(Half),
    /// Its copy lies aside; the new enclave isn't started yet.
    Moved,
    /// The others or the operator said no after the stop: to be started again as it was.
    Returning,
    /// Started, on the old copy or on the new version; its word still stands.
    Started,
}

/// What to do next; each is one durable act, and the only one allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Claim,
    /// Every peer, and this node itself.
    Ask,
    /// The unit, its control group and the database's lock prove it.
    Stop,
    /// Every peer, just before the move.
    AskAgain(Half),
    /// Only under the database's lock.
    Move,
    StartNew,
    StartOld,
    Withdraw,
}

/// What a death left, as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The journal holds a word that wasn't withdrawn.
    pub claimed: bool,
    pub up: bool,
    /// The old copy lies aside.
    pub moved: bool,
    /// The half that the journal says it was cleared for.
    pub half: Option<Half>,
}

impl Stand {
    /// What comes next.
    pub fn next(self) -> Next {
        match self {
            Stand::Staying => Next::Claim,
            Stand::Claimed => Next::Ask,
            Stand::Cleared(_) => Next::Stop,
            Stand::Stopped(half) => Next::AskAgain(half),
            Stand::Sure(_) => Next::Move,
            Stand::Moved => Next::StartNew,
            Stand::Returning => Next::StartOld,
            Stand::Started => Next::Withdraw,
        }
    }

    /// After an act of [`Next`] that isn't asking.
    pub fn done(self) -> Stand {
        match self {
            Stand::Staying => Stand::Claimed,
            Stand::Cleared(half) => Stand::Stopped(half),
            Stand::Sure(_) => Stand::Moved,
            Stand::Moved | Stand::Returning => Stand::Started,
            Stand::Started => Stand::Staying,
            // Only answers lead on from here.
            Stand::Claimed | Stand::Stopped(_) => self,
        }
    }

    /// After everybody was asked.
    pub fn answered(self, answer: &Result<Half, Vec<No>>) -> Stand {
        match (self, answer) {
            (Stand::Claimed, Ok(half)) => Stand::Cleared(*half),
            // It never stopped: only its word is to be taken back.
            (Stand::Claimed, Err(_)) => Stand::Started,
            (Stand::Stopped(before), Ok(half)) if before == *half => Stand::Sure(*half),
            (Stand::Stopped(_), _) => Stand::Returning,
            (other, _) => other,
        }
    }

    /// Where a death left it. What was answered before counts for nothing: whoever isn't moved yet is asked about again.
    pub fn found(found: Found) -> Stand {
        match (found.claimed, found.moved, found.up) {
            (_, true, false) => Stand::Moved,
            (true, true, true) => Stand::Started,
            (false, true, true) | (false, false, true) => Stand::Staying,
            (true, false, true) => Stand::Claimed,
            (true, false, false) => found.half.map_or(Stand::Returning, Stand::Stopped),
            // Another hand stopped it, and its word isn't out.
            (false, false, false) => Stand::Staying,
        }
    }
}

/// How long to stay back after a no, the n-th time: longer each time, and unequal between nodes, so that two that met
/// don't meet again. `chance` is any number, such as from the clock.
pub fn back_off(attempt: u32, chance: u64) -> Duration {
    const FIRST: u64 = 5;
    const LONGEST: u64 = 300;
    let most = FIRST.saturating_mul(1 << attempt.min(10)).min(LONGEST);
    let milliseconds = most * 1000;
    Duration::from_millis(milliseconds / 2 + chance % (milliseconds / 2).max(1))
}
