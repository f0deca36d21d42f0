//! What befalls a run: everything that isn't kmsctl's own doing comes from one seed.

pub use crate::dice::Dice;

/// What other hands do while kmsctl runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherHand {
    /// `systemctl start 'tmkms-*'`
    StartAll,
    /// `systemctl daemon-reload`
    Reload,
    /// A second `kmsctl apply`
    Kmsctl,
}

/// What is to happen, counted in instants: an instant is right before anything that kmsctl changes.
#[derive(Clone, Debug)]
pub struct Fate {
    pub dice: Dice,
    /// The process dies.
    pub dies_in: Option<usize>,
    /// A change fails: no room, no bus.
    pub fails_in: Option<usize>,
    pub hand_in: Option<(usize, OtherHand)>,
    /// Jobs end in any order, at any time, and some fail.
    pub wild_jobs: bool,
    /// Of so many stopped units one leaves a process behind.
    pub lingers: Option<usize>,
    /// Whether the old chain goes on while kmsctl works, and the new one: one that doesn't asks for no signature.
    pub old_chain_lives: bool,
    pub new_chain_lives: bool,
}

impl Fate {
    /// Nothing happens but signing; the old chain has halted.
    pub fn kind(seed: u64) -> Fate {
        Fate {
            dice: Dice::of(seed),
            dies_in: None,
            fails_in: None,
            hand_in: None,
            wild_jobs: false,
            lingers: None,
            old_chain_lives: false,
            new_chain_lives: true,
        }
    }
}

/// Counts down; true when it is time, once.
pub fn due(left: &mut Option<usize>) -> bool {
    match left {
        Some(0) => {
            *left = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}
