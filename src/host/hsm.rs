//! YubiHSMs, asked what they are and which keys they hold: the seam, and what may be said of an answer.
//!
//! Asking must never disturb a signer. A device has sixteen sessions and gives an idle one back only after thirty
//! seconds, so each contact opens one and closes it; it ends within [`LIMIT`] whatever the other side does. A device on
//! USB is reset when it is opened, which would take it from the tmkms that has it: whoever asks makes sure that none
//! runs. A password comes in a [`Password`] and goes nowhere else.

pub mod connector;
mod live;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tmkms_core::PublicKey;
use zeroize::Zeroizing;

pub use live::Live;

/// The longest that one contact takes.
pub const LIMIT: Duration = Duration::from_secs(6);
/// How many sessions a YubiHSM 2 has.
pub const SESSIONS: usize = 16;

/// A password: wiped when it is dropped, and never shown.
pub struct Password(Zeroizing<String>);

impl Password {
    pub fn new(text: Zeroizing<String>) -> Password {
        Password(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// How a device is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Adapter {
    /// A `yubihsm-connector`, as `tcp://127.0.0.1:12345`.
    Http { addr: String },
    /// This machine's own USB; with a serial number, that device.
    Usb { serial: Option<String> },
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Adapter::Http { addr } => f.write_str(addr),
            Adapter::Usb { .. } => f.write_str("USB"),
        }
    }
}

/// What a device is asked, and as whom.
#[derive(Debug)]
pub struct Question {
    pub adapter: Adapter,
    pub auth_key: u16,
    pub password: Password,
    pub keys: BTreeSet<u16>,
}

/// What a device said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Ten digits.
    pub serial: String,
    pub auth: AuthKey,
    pub keys: BTreeMap<u16, HsmKey>,
}

/// What the key that one logs in with may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthKey {
    pub may_sign: bool,
    /// Everything beyond signing, by Yubico's names.
    pub also: Vec<String>,
    /// It may do all that there is, as the one that a new device comes with.
    pub everything: bool,
}

/// What is at a key's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HsmKey {
    /// Nothing, or nothing that this login may see.
    Absent,
    /// A key of another kind, by its algorithm's name.
    NotEd25519(String),
    Ed25519 {
        public: PublicKey,
        may_sign: bool,
        /// It may leave the device, wrapped.
        exportable: bool,
    },
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It wasn't asked, and why.
    NotAsked(String),
    /// No device answers there.
    Unreachable(String),
    /// The login isn't taken.
    Refused(String),
    /// All its sessions are taken.
    Full(String),
    /// It answered something else.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Trouble::NotAsked(why)
        | Trouble::Unreachable(why)
        | Trouble::Refused(why)
        | Trouble::Full(why)
        | Trouble::Failed(why)) = self;
        f.write_str(why)
    }
}

/// Asks devices.
pub trait Hsm {
    /// Whether this host's devices are asked at all.
    fn asks(&self) -> bool;
    /// Asks one device, in one session.
    fn ask(&mut self, question: Question) -> Result<Answer, Trouble>;
    /// What a connector says of itself, without a login.
    fn status(&mut self, addr: &str) -> Result<connector::Status, Trouble>;
}

/// The devices of a host that is a folder: nothing is ever contacted.
pub struct Nothing;

impl Hsm for Nothing {
    fn asks(&self) -> bool {
        false
    }

    fn ask(&mut self, _question: Question) -> Result<Answer, Trouble> {
        Err(not_asked())
    }

    fn status(&mut self, _addr: &str) -> Result<connector::Status, Trouble> {
        Err(not_asked())
    }
}

fn not_asked() -> Trouble {
    Trouble::NotAsked("no device is asked for a host that is a folder".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_shows_no_password() {
        let question = Question {
            adapter: Adapter::Usb { serial: None },
            auth_key: 1,
            password: Password::new(Zeroizing::new("correct-horse".into())),
            keys: BTreeSet::new(),
        };
        assert!(!format!("{question:?}").contains("horse"));
    }
}
