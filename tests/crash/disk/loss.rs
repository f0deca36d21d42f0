//! What is left of the disk after a death.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use super::{Disk, Hand, Id, Node, ROOT, apply, folder};
use crate::fate::Dice;

/// What a crash does with what isn't durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Nothing,
    Everything,
    /// Any part, by the dice.
    Any,
}

impl Disk {
    /// What a death leaves to be seen, in a number: everything, or what is durable. State files are left out: that
    /// signers went on makes no other instant.
    pub fn seen(&self, durable: bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.see(ROOT, durable, &mut hasher);
        hasher.finish()
    }

    fn see(&self, id: Id, only_durable: bool, hasher: &mut DefaultHasher) {
        match &*self.nodes[id] {
            Node::Folder { now, durable, .. } => {
                let entries = if only_durable { durable } else { now };
                entries.len().hash(hasher);
                for (name, id) in entries {
                    name.hash(hasher);
                    self.see(*id, only_durable, hasher);
                }
            }
            Node::File {
                by: Hand::Tmkms, ..
            } => {}
            Node::File { now, durable, .. } => {
                let bytes = if only_durable { durable } else { now };
                (bytes.as_ptr(), bytes.len()).hash(hasher);
            }
            Node::Link(target) => target.hash(hasher),
        }
    }

    /// The machine goes dark: what wasn't durable is lost as `loss` says, tmkms' own writes only where they aren't
    /// `spared`. `/run` is in memory and empty afterwards.
    pub fn crash(&mut self, loss: Loss, spared: bool, dice: &mut Dice) {
        for node in &mut self.nodes {
            match Arc::make_mut(node) {
                Node::Folder {
                    now,
                    durable,
                    since,
                } => {
                    for (hand, change) in since.drain(..) {
                        if keeps(loss, spared, hand, dice) {
                            apply(durable, &change);
                        }
                    }
                    now.clone_from(durable);
                }
                Node::File {
                    now, durable, by, ..
                } => {
                    if now != durable && !keeps(loss, spared, *by, dice) {
                        *now = match loss {
                            Loss::Any => torn(durable, now, dice),
                            _ => Arc::clone(durable),
                        };
                    }
                    *durable = Arc::clone(now);
                }
                Node::Link(_) => {}
            }
        }
        if let Ok(id) = self.find(Path::new("/run")) {
            self.nodes[id] = folder();
        }
    }
}

fn keeps(loss: Loss, spared: bool, hand: Hand, dice: &mut Dice) -> bool {
    match loss {
        _ if spared && hand == Hand::Tmkms => true,
        Loss::Nothing => true,
        Loss::Everything => false,
        Loss::Any => dice.chance(2),
    }
}

/// What may be left of a file that was written and not synced: the old content, the new one's beginning, or the new one
/// with a hole.
fn torn(old: &Arc<[u8]>, new: &[u8], dice: &mut Dice) -> Arc<[u8]> {
    let safe = if new.starts_with(old) { old.len() } else { 0 };
    let mut at = || safe + dice.below(new.len() - safe + 1);
    let (from, to) = (at(), at());
    match dice.below(3) {
        0 => Arc::clone(old),
        1 => new[..from].into(),
        _ => {
            let mut torn = new.to_vec();
            torn[from.min(to)..from.max(to)].fill(0);
            torn.into()
        }
    }
}
