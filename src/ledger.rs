//! What all journals of a host know together: which state file belongs to which key and chain, how far each ever was,
//! which files kmsctl wrote. Pure: folded from records.

mod before;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tmkms_core::PublicKey;
use tmkms_core::config::KeyRef;
use tmkms_core::state::SignState;

use crate::floor::Floor;
use crate::journal::{Journal, Record};
use crate::paths::ManagedPath;
use crate::plan::program::{Action, StepId};
use crate::plan::{ChainFile, Plan};

/// The fold of every journal on the host.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The highest point ever journalled for a state file.
    heights: BTreeMap<PathBuf, SignState>,
    /// Floors that are taken away, or are about to be: where one is still there it is known, and where it isn't nothing is
    /// lost.
    leaving: BTreeMap<PathBuf, SignState>,
    /// Key and chain to state file, as operations that began used them.
    files: Vec<Used>,
    /// Files and folders that kmsctl made and hasn't taken away, and the plan that they were made for.
    written: BTreeMap<ManagedPath, String>,
}

/// A state file as operations used it, and the keys behind its keys' names as they were then.
#[derive(Clone, Debug)]
struct Used {
    file: ChainFile,
    publics: BTreeSet<PublicKey>,
}

impl Used {
    /// Whether a key of these names, and of these public halves as far as they are known, may be one of its own.
    fn may_share(&self, keys: &[KeyRef], publics: &BTreeSet<PublicKey>) -> bool {
        share_key(&self.file.keys, keys) || !self.publics.is_disjoint(publics)
    }

    /// Whether it is the state of these keys: by their public halves where both are known, else by their names.
    fn is_of(&self, keys: &[KeyRef], publics: &BTreeSet<PublicKey>) -> bool {
        match self.publics.is_empty() || publics.is_empty() {
            true => share_key(&self.file.keys, keys),
            false => !self.publics.is_disjoint(publics),
        }
    }
}

/// Whether two references may name one key.
///
/// tmkms doesn't check the serial number over http (facts, section 1): one connector is one device whatever the configs
/// claim. A `usb` device without a serial number may be any.
pub fn same_key(a: &KeyRef, b: &KeyRef) -> bool {
    match (a, b) {
        (KeyRef::Yubihsm { key: k1, .. }, KeyRef::Yubihsm { key: k2, .. }) => {
            same_device(a, b) && k1 == k2
        }
        _ => a == b,
    }
}

/// Whether two references may name keys of one YubiHSM.
pub fn same_device(a: &KeyRef, b: &KeyRef) -> bool {
    let (
        KeyRef::Yubihsm {
            serial: s1,
            connector: c1,
            ..
        },
        KeyRef::Yubihsm {
            serial: s2,
            connector: c2,
            ..
        },
    ) = (a, b)
    else {
        return false;
    };
    let usb = |connector: &str| connector == "usb";
    match (s1, s2) {
        (Some(s1), Some(s2)) if s1 == s2 => true,
        (Some(_), Some(_)) => c1 == c2 && !usb(c1),
        _ => c1 == c2 || (usb(c1) && s1.is_none()) || (usb(c2) && s2.is_none()),
    }
}

/// What all references have in common that may name one key, as far as a look at one of them tells: two for which
/// [`same_key`] holds have one mark. It serves to find them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark<'a> {
    /// A key's number in whichever YubiHSM.
    Number(u16),
    Name(&'a KeyRef),
}

pub fn mark(key: &KeyRef) -> Mark<'_> {
    match key {
        KeyRef::Yubihsm { key, .. } => Mark::Number(*key),
        other => Mark::Name(other),
    }
}

/// Whether two lists of keys have one in common.
pub fn share_key(a: &[KeyRef], b: &[KeyRef]) -> bool {
    a.iter().any(|a| b.iter().any(|b| same_key(a, b)))
}

impl Ledger {
    /// Folds journals, oldest first.
    pub fn of<'a>(journals: impl IntoIterator<Item = &'a Journal>) -> Ledger {
        let mut ledger = Ledger::default();
        for journal in journals {
            ledger.add(journal);
        }
        ledger
    }

    fn add(&mut self, journal: &Journal) {
        let actions: BTreeMap<&StepId, &Action> = journal
            .program
            .steps()
            .map(|s| (&s.id, &s.action))
            .collect();
        for record in &journal.records {
            match record {
                Record::Intent { step } => {
                    if let Some(action) = actions.get(step) {
                        self.intended(action, &journal.plan);
                    }
                }
                Record::Done { step, already } => match actions.get(step) {
                    Some(Action::Remove { path, .. }) => {
                        self.written.remove(path);
                    }
                    Some(Action::OpenFence { unit }) => {
                        self.written.remove(&ManagedPath::fence(unit));
                    }
                    Some(Action::LayFloor { floor, .. }) => self.saw(floor.path(), floor.state()),
                    // One that wasn't empty was left, and is still ours.
                    Some(Action::RemoveFolder { path }) if !already => {
                        self.written.remove(path);
                    }
                    _ => {}
                },
                Record::State {
                    state_file, state, ..
                } => self.saw(state_file, *state),
                _ => {}
            }
        }
        self.opened(&journal.plan);
        if journal.switched() {
            self.used(journal);
        }
    }

    /// An operation of a plan was opened: what the plan saw is known.
    pub fn opened(&mut self, plan: &Plan) {
        for height in &plan.observed.heights {
            if let Some(state) = height.reading.height() {
                self.saw(&height.state_file, state);
            }
        }
    }

    /// An intent is written only where nothing was: what is there later, we may have written.
    fn intended(&mut self, action: &Action, plan: &Plan) {
        match action {
            Action::MakeFolder { path } | Action::Write { path, .. } => {
                self.written.insert(path.clone(), plan.id.clone());
            }
            Action::CloseFence { unit } => {
                let marker = ManagedPath::fence(unit);
                self.written
                    .entry(marker)
                    .or_insert_with(|| plan.id.clone());
            }
            // A death may follow before it is done, or right after.
            Action::WithdrawFloor { floor }
                if self.highest(floor.path()) == Some(floor.state()) =>
            {
                self.forget(floor);
                self.leaving.insert(floor.path().to_owned(), floor.state());
            }
            _ => {}
        }
    }

    /// The old files were signed with; the new ones only where a start was allowed.
    fn used(&mut self, journal: &Journal) {
        let seen = &journal.plan.observed.keys;
        for moving in &journal.plan.moves {
            let begun = journal
                .intended(|a| matches!(a, Action::OpenFence { unit } if *unit == moving.new));
            let new = moving.new_chains().filter(|_| begun);
            for file in moving.old_chains().chain(new) {
                let own = seen.iter().filter(|seen| file.keys.contains(&seen.key));
                let publics = own.filter_map(|seen| PublicKey::from_hex(&seen.public));
                let used = self.files.iter_mut().find(|used| used.file == *file);
                match used {
                    Some(used) => used.publics.extend(publics),
                    None => self.files.push(Used {
                        file: file.clone(),
                        publics: publics.collect(),
                    }),
                }
            }
        }
    }

    /// Whether kmsctl made what is at a path.
    pub fn wrote(&self, path: &ManagedPath) -> bool {
        self.written.contains_key(path)
    }

    /// What was made for a plan. A file that a later plan found in place still belongs to the earlier one, and so does
    /// the fence of a unit that is there.
    pub fn written_for(&self, plan: &Plan) -> BTreeSet<ManagedPath> {
        let own = self.written.iter().filter(|(_, id)| **id == plan.id);
        let mut own: BTreeSet<ManagedPath> = own.map(|(path, _)| path.clone()).collect();
        for moving in &plan.moves {
            // Whoever closed it last, the new unit's fence goes with the drop-in that heeds it: a template's text may be
            // an earlier plan's, for another instance.
            let (fence, heeds) = (
                ManagedPath::fence(&moving.new),
                ManagedPath::drop_in(&moving.new),
            );
            if own.contains(&heeds) && self.wrote(&fence) {
                own.insert(fence);
            } else if self.wrote(&heeds) {
                own.remove(&fence);
            }
            // The old unit's marker is the switch's business.
            own.remove(&ManagedPath::fence(&moving.old));
        }
        own
    }

    /// Notes how far a state file was.
    pub fn saw(&mut self, file: &Path, state: SignState) {
        let highest = self.heights.entry(file.to_owned()).or_insert(state);
        *highest = state.max(*highest);
    }

    /// A floor was taken away, on which nothing was signed.
    pub fn forget(&mut self, floor: &Floor) {
        if self.highest(floor.path()) == Some(floor.state()) {
            self.heights.remove(floor.path());
        }
    }

    /// What a floor that may still be there says.
    pub fn leaving(&self, file: &Path) -> Option<SignState> {
        self.leaving.get(file).copied()
    }

    /// The highest point ever journalled for a state file.
    pub fn highest(&self, file: &Path) -> Option<SignState> {
        self.heights.get(file).copied()
    }

    /// Where a key's state for a chain is kept, as far as journals know (rule S2): of the key's names, and of its public
    /// halves as far as they are known.
    pub fn state_files(
        &self,
        keys: &[KeyRef],
        publics: &BTreeSet<PublicKey>,
        chain: &str,
    ) -> impl Iterator<Item = &Path> {
        let same = move |used: &&Used| used.file.chain == chain && used.may_share(keys, publics);
        let same = self.files.iter().filter(same);
        same.map(|used| used.file.state_file.as_path())
    }

    /// What journals know a state file as, where it is another key's or another chain's (rule S2).
    pub fn other_owner(
        &self,
        file: &ChainFile,
        publics: &BTreeSet<PublicKey>,
    ) -> Option<&ChainFile> {
        let own = |used: &Used| used.file.chain == file.chain && used.is_of(&file.keys, publics);
        let mut used = self.files.iter();
        let other = used.find(|u| u.file.state_file == file.state_file && !own(u));
        other.map(|used| &used.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_is_one_device_however_it_is_named() {
        let key = |serial: &str, connector: &str| KeyRef::Yubihsm {
            serial: (!serial.is_empty()).then(|| serial.to_owned()),
            connector: connector.into(),
            key: 1,
        };
        let http = "tcp://127.0.0.1:12345";
        for (a, b, same) in [
            (key("1", http), key("1", "usb"), true),
            (key("1", http), key("2", http), true),
            (key("1", "usb"), key("2", "usb"), false),
            (key("", "usb"), key("2", http), true),
            (key("1", http), key("2", "tcp://127.0.0.1:2"), false),
            (key("", http), key("", "tcp://127.0.0.1:2"), false),
        ] {
            assert_eq!(same_key(&a, &b), same, "{a:?} {b:?}");
            assert_eq!(same_key(&b, &a), same, "{b:?} {a:?}");
            assert!(!same || mark(&a) == mark(&b), "{a:?} {b:?}");
        }
    }
}
