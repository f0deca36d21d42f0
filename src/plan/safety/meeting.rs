//! Which of many chain files may have a key or a state file in common, without comparing each with each: a host may have
//! thousands. It leaves out only pairs that have neither; whether the others do is for whoever asks to judge.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use tmkms_core::PublicKey;

use crate::keys::Keys;
use crate::ledger::{Mark, mark};
use crate::plan::ChainFile;

/// Something that two chain files may have in common.
#[derive(PartialEq, Eq, Hash)]
enum Common<'a> {
    Key(&'a str, Mark<'a>),
    /// One key whatever its names.
    Public(&'a str, PublicKey),
    StateFile(&'a Path),
}

fn commons<'a>(known: &Keys, file: &'a ChainFile) -> Vec<Common<'a>> {
    let mut commons = vec![Common::StateFile(&file.state_file)];
    for key in &file.keys {
        commons.push(Common::Key(&file.chain, mark(key)));
        let public = known.public(key);
        commons.extend(public.map(|public| Common::Public(&file.chain, public)));
    }
    commons
}

/// Chain files by what they may have in common, each with its owner's number.
pub struct Meetings<'a> {
    known: &'a Keys,
    owners: HashMap<Common<'a>, BTreeSet<usize>>,
}

impl<'a> Meetings<'a> {
    pub fn of(
        known: &'a Keys,
        files: impl IntoIterator<Item = (usize, &'a ChainFile)>,
    ) -> Meetings<'a> {
        let mut owners: HashMap<Common<'a>, BTreeSet<usize>> = HashMap::new();
        for (owner, file) in files {
            for common in commons(known, file) {
                owners.entry(common).or_default().insert(owner);
            }
        }
        Meetings { known, owners }
    }

    /// The pairs of owners that may have something in common, in order, the lower number first.
    pub fn pairs(&self) -> BTreeSet<(usize, usize)> {
        let mut pairs = BTreeSet::new();
        for owners in self.owners.values() {
            for (n, a) in owners.iter().enumerate() {
                pairs.extend(owners.iter().skip(n + 1).map(|b| (*a, *b)));
            }
        }
        pairs
    }

    /// The owners that may have something in common with a file, in order.
    pub fn with(&self, file: &'a ChainFile) -> BTreeSet<usize> {
        commons(self.known, file)
            .into_iter()
            .filter_map(|common| self.owners.get(&common))
            .flatten()
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use tmkms_core::config::KeyRef;

    use super::*;

    fn file(chain: &str, state: &str, connector: &str, key: u16) -> ChainFile {
        let key = KeyRef::Yubihsm {
            serial: None,
            connector: connector.into(),
            key,
        };
        ChainFile {
            chain: chain.into(),
            state_file: state.into(),
            keys: vec![key],
        }
    }

    #[test]
    fn whoever_may_share_a_key_or_a_file_meets() {
        let files = [
            file("a-1", "/s/0", "usb", 1),
            file("a-1", "/s/1", "tcp://127.0.0.1:1", 1),
            file("b-1", "/s/2", "usb", 1),
            file("b-1", "/s//0", "usb", 2),
        ];
        let keys = Keys::default();
        let meetings = Meetings::of(&keys, files.iter().enumerate());
        assert_eq!(meetings.pairs(), BTreeSet::from([(0, 1), (0, 3)]));
        let other = file("b-1", "/s/1", "usb", 1);
        assert_eq!(meetings.with(&other), BTreeSet::from([1, 2]));
    }
}
