//! Every signature the fake validator has verified, and whether two of them contradict each other.

use crate::message::{Kind, Message};
use serde::Serialize;
use std::collections::BTreeMap;

/// A verified vote or proposal, in the order of its arrival.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Vote {
    #[serde(rename = "type")]
    pub kind: Kind,
    pub height: i64,
    pub round: i32,
    /// Hex, empty for nil.
    pub block: String,
    /// Hex.
    pub signature: String,
}

/// What was verified since the start.
#[derive(Debug, Default)]
pub struct Record {
    votes: Vec<Vote>,
    /// The block of the first vote at each place.
    blocks: BTreeMap<(Kind, i64, i32), String>,
    conflict: Option<String>,
}

impl Record {
    /// Keeps a verified signature. The same message signed again is not a conflict; another block for it is.
    pub fn add(&mut self, message: &Message, signature: &[u8]) {
        let vote = Vote {
            kind: message.kind,
            height: message.height,
            round: message.round,
            block: message.block.map(hex::encode).unwrap_or_default(),
            signature: hex::encode(signature),
        };
        let place = (vote.kind, vote.height, vote.round);
        let first = self
            .blocks
            .entry(place)
            .or_insert_with(|| vote.block.clone());
        if *first != vote.block && self.conflict.is_none() {
            self.conflict = Some(format!(
                "double sign: two {}s at {}/{}, for block {first:?} and for block {:?}",
                vote.kind.name(),
                vote.height,
                vote.round,
                vote.block,
            ));
        }
        self.votes.push(vote);
    }

    /// All of them.
    #[must_use]
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    /// The first contradiction, for good.
    #[must_use]
    pub fn conflict(&self) -> Option<&str> {
        self.conflict.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tendermint_proto::google::protobuf::Timestamp;

    fn message(kind: Kind, round: i32, block: Option<[u8; 32]>) -> Message {
        Message {
            kind,
            height: 5,
            round,
            block,
            timestamp: Timestamp::default(),
        }
    }

    #[test]
    fn only_another_block_at_the_same_place_is_a_conflict() {
        let mut record = Record::default();
        record.add(&message(Kind::Prevote, 0, Some([1; 32])), &[1]);
        record.add(&message(Kind::Prevote, 0, Some([1; 32])), &[2]);
        record.add(&message(Kind::Prevote, 1, Some([2; 32])), &[3]);
        record.add(&message(Kind::Precommit, 0, None), &[4]);
        assert_eq!(record.conflict(), None);
        record.add(&message(Kind::Precommit, 0, Some([1; 32])), &[5]);
        assert!(
            record
                .conflict()
                .is_some_and(|conflict| conflict.contains("precommits at 5/0"))
        );
        assert_eq!(record.votes().len(), 5);
    }
}
