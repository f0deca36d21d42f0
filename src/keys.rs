//! What is known of the keys that configs name: the public half of each, or why it isn't known. Pure.
//!
//! Two names may mean one key: a copied key file, a key file and the device that it was imported into, a second
//! connector to one device. A public key tells; where none is known, the names themselves decide (rule S1). What a device
//! answers is an observation, like a height: it is no part of a plan and of its id, so a connector that is away changes
//! findings and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use tmkms_core::PublicKey;
use tmkms_core::config::KeyRef;

use crate::host::hsm::{Adapter, Answer, Trouble};
use crate::ledger::same_key;
use crate::unit::UnitName;

/// Why a key's public half isn't known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Nobody asked: a device of a host that is a folder, or of a kind that kmsctl can't ask.
    NotAsked(String),
    /// The key file isn't there.
    Missing,
    /// The key file can't be read, by whoever runs kmsctl.
    Unreadable(String),
    /// tmkms can't take the key file either.
    Unfit(String),
    /// The device was asked in vain, or holds no such key: see the devices.
    Device(String),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Missing => f.write_str("the key file isn't there"),
            Unknown::Unfit(why) => write!(f, "tmkms can't take the key file: {why}"),
            Unknown::Unreadable(why) => write!(f, "the key file can't be read: {why}"),
            Unknown::NotAsked(why) | Unknown::Device(why) => f.write_str(why),
        }
    }
}

/// A YubiHSM as some signers' configs reach it and log in.
#[derive(Clone, Debug)]
pub struct Device {
    /// The units whose configs these are.
    pub signers: BTreeSet<UnitName>,
    /// The first of these signers, and where its config names the device.
    pub signer: String,
    pub config: PathBuf,
    pub line: usize,
    pub adapter: Adapter,
    pub auth_key: u16,
    /// The serial number that the config claims.
    pub claims: Option<String>,
    pub answer: Result<Answer, Trouble>,
}

/// What is known of a host's keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    known: BTreeMap<KeyRef, Result<PublicKey, Unknown>>,
    expanded: BTreeSet<KeyRef>,
    /// As they were asked; none before.
    pub devices: Vec<Device>,
}

impl Keys {
    /// Notes a key's public half. One that is known stays known: a second config may name the file wrongly.
    pub fn saw(&mut self, key: KeyRef, public: Result<PublicKey, Unknown>) {
        match self.known.get(&key) {
            Some(Ok(_)) => {}
            _ => drop(self.known.insert(key, public)),
        }
    }

    /// Notes that a key's file holds it expanded: not every tmkms takes that.
    pub fn saw_expanded(&mut self, key: KeyRef) {
        self.expanded.insert(key);
    }

    /// Whether a key's file holds it expanded.
    pub fn is_expanded(&self, key: &KeyRef) -> bool {
        self.expanded.contains(key)
    }

    /// The public half.
    pub fn public(&self, key: &KeyRef) -> Option<PublicKey> {
        self.known.get(key)?.as_ref().ok().copied()
    }

    /// Why it isn't known; none where it is, or where nothing was looked at.
    pub fn unknown(&self, key: &KeyRef) -> Option<&Unknown> {
        self.known.get(key)?.as_ref().err()
    }

    /// Whether two names mean, or may mean, one key.
    pub fn same(&self, a: &KeyRef, b: &KeyRef) -> bool {
        same_key(a, b)
            || self
                .public(a)
                .is_some_and(|public| self.public(b) == Some(public))
    }

    /// The first pair of names from two lists that mean one key.
    pub fn shared<'a>(&self, a: &'a [KeyRef], b: &'a [KeyRef]) -> Option<(&'a KeyRef, &'a KeyRef)> {
        let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
        pairs.into_iter().find(|(a, b)| self.same(a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_tells_what_names_do_not() {
        let file = |path: &str| KeyRef::Softsign { path: path.into() };
        let hsm = KeyRef::Yubihsm {
            serial: None,
            connector: "tcp://127.0.0.1:12345".into(),
            key: 1,
        };
        let mut keys = Keys::default();
        keys.saw(file("/a"), Ok(PublicKey::from_bytes([1; 32])));
        keys.saw(file("/b"), Ok(PublicKey::from_bytes([1; 32])));
        keys.saw(file("/c"), Ok(PublicKey::from_bytes([2; 32])));
        keys.saw(file("/d"), Err(Unknown::Missing));
        keys.saw(hsm.clone(), Ok(PublicKey::from_bytes([2; 32])));
        for (a, b, same) in [
            (file("/a"), file("/b"), true),
            (file("/a"), file("/c"), false),
            (file("/c"), hsm.clone(), true),
            (file("/d"), file("/d"), true),
            (file("/d"), file("/e"), false),
            (hsm, file("/a"), false),
        ] {
            assert_eq!(keys.same(&a, &b), same, "{a} {b}");
            assert_eq!(keys.same(&b, &a), same, "{b} {a}");
        }
        keys.saw(file("/a"), Err(Unknown::Missing));
        assert!(keys.public(&file("/a")).is_some());
    }
}
