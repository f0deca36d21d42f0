//! What befalls a run: everything that isn't kmsctl's own doing comes from one seed.

/// Random numbers from a seed (splitmix64), the same on every machine.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn of(seed: u64) -> Dice {
        Dice(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    /// True once in so many times.
    pub fn chance(&mut self, once_in: usize) -> bool {
        self.below(once_in) == 0
    }
}

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
