//! Everything that any validator ever verified, by key and chain: validators come and go, and what was signed stays.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::parts::Vote;

/// What can be signed once: a key's message of a chain at a height and a round.
type Place = (String, String, String, u64, u64);

/// The blocks that were signed.
#[derive(Debug, Default)]
pub struct Witness(BTreeMap<Place, String>);

impl Witness {
    /// Keeps what one validator verified.
    ///
    /// # Errors
    /// Two blocks for one height, round and step: a double signature.
    pub fn saw(&mut self, key: &str, chain: &str, votes: Vec<Vote>) -> Result<()> {
        for vote in votes {
            let place = (
                key.to_owned(),
                chain.to_owned(),
                vote.message,
                vote.height,
                vote.round,
            );
            match self.0.get(&place) {
                Some(block) if *block != vote.block => {
                    bail!("double signature: {place:?} for {block} and {}", vote.block)
                }
                _ => drop(self.0.insert(place, vote.block)),
            }
        }
        Ok(())
    }

    pub fn signatures(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(height: u64, block: &str) -> Vec<Vote> {
        vec![Vote {
            message: "precommit".to_owned(),
            height,
            round: 0,
            block: block.to_owned(),
            signature: String::new(),
        }]
    }

    #[test]
    fn another_block_at_one_place_is_a_double_signature() {
        let mut witness = Witness::default();
        let mut saw =
            |key, chain, height, block| witness.saw(key, chain, vote(height, block)).is_ok();
        assert!(saw("a", "one-1", 7, "aa") && saw("a", "one-1", 7, "aa"));
        assert!(saw("a", "one-1", 8, "bb") && saw("b", "one-1", 7, "bb"));
        assert!(saw("a", "one-2", 7, "bb"));
        assert!(!saw("a", "one-1", 7, "bb"));
    }
}
