//! Carries out commands: asks the newest signer, verifies what comes back, and keeps the record.
//!
//! "signed" is only ever said of a signature that verified over this chain's sign bytes with the signer's own key.

use crate::command::{self, Command, Sign};
use crate::listener::{PING_WITHIN, Signers};
use crate::message::{Kind, Message, Protocol, block_of};
use crate::record::Record;
use crate::signer::Signer;
use crate::wire::Answer;
use ed25519_dalek::{PublicKey, Signature};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tendermint_proto::google::protobuf::Timestamp;

/// A validator of one chain, as its signer sees it.
pub struct Validator {
    pub chain_id: String,
    pub protocol: Protocol,
    /// The consensus key the chain knows this validator by, if that matters.
    pub expected: Option<PublicKey>,
    pub signers: Arc<Signers>,
    pub record: Record,
}

/// A signature that verified.
struct Verified {
    public_key: PublicKey,
    signature: Signature,
}

impl Validator {
    /// Carries out one line of stdin. A double sign seen at any time is in every answer after it, as `conflict`.
    pub fn obey(&mut self, line: &str) -> Value {
        let mut answer = command::parse(line)
            .and_then(|command| match command {
                Command::Sign(sign) => self.sign(&sign),
                Command::Run(run) => self.run(run.from, run.to, run.within_ms.end()),
                Command::Connected(connected) => Ok(self.connected(connected.within_ms.end())),
                Command::Votes(_) => Ok(json!({ "votes": self.record.votes() })),
            })
            .unwrap_or_else(|error| json!({ "error": error }));
        if let (Some(conflict), Some(fields)) = (self.record.conflict(), answer.as_object_mut()) {
            fields.insert("conflict".to_owned(), conflict.into());
        }
        answer
    }

    fn sign(&mut self, sign: &Sign) -> Result<Value, String> {
        let block = command::block(&sign.block)?;
        if sign.kind == Kind::Proposal && block.is_none() {
            return Err("a proposal needs a block".to_owned());
        }
        let round = i32::try_from(sign.round).map_err(|_| "the round is too high".to_owned())?;
        let message = Message {
            kind: sign.kind,
            height: height(sign.height)?,
            round,
            block,
            timestamp: now(),
        };
        Ok(match self.ask(&message, sign.within_ms.end()) {
            Ok(verified) => json!({
                "signed": true,
                "height": message.height,
                "public_key": hex::encode(verified.public_key.as_bytes()),
                "signature": hex::encode(verified.signature.to_bytes()),
            }),
            Err(why) => json!({ "signed": false, "height": message.height, "why": why }),
        })
    }

    fn run(&mut self, from: u64, to: u64, until: Instant) -> Result<Value, String> {
        let (from, to) = (height(from)?, height(to)?);
        if from > to {
            return Err("a run goes up: from is above to".to_owned());
        }
        let mut count = 0_u64;
        for height in from..=to {
            for kind in [Kind::Prevote, Kind::Precommit] {
                let block = Some(block_of(&self.chain_id, height));
                let message = Message {
                    kind,
                    height,
                    round: 0,
                    block,
                    timestamp: now(),
                };
                let failed = match self.ask(&message, until) {
                    Err(why) => Some(why),
                    Ok(_) => self.record.conflict().map(ToOwned::to_owned),
                };
                if let Some(why) = failed {
                    return Ok(json!({
                        "signed": false, "height": height, "type": kind, "why": why, "count": count,
                    }));
                }
                count += 1;
            }
        }
        Ok(json!({ "signed": true, "last": to, "count": count }))
    }

    fn connected(&self, until: Instant) -> Value {
        match self.answering(until) {
            Ok(signer) => json!({
                "connected": true,
                "public_key": hex::encode(signer.public_key().as_bytes()),
                "connections": self.signers.count(),
            }),
            Err(why) => json!({ "connected": false, "why": why }),
        }
    }

    /// Has a message signed and verifies it.
    fn ask(&mut self, message: &Message, until: Instant) -> Result<Verified, String> {
        let signer = self.answering(until)?;
        let hang_up = |why: String| {
            self.signers.dismiss(&signer, why.clone());
            why
        };
        let answer = signer.sign(message, until).map_err(|error| {
            hang_up(match error.kind() {
                ErrorKind::TimedOut => "no answer in time".to_owned(),
                ErrorKind::UnexpectedEof
                | ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset => {
                    "refused: the connection closed instead of an answer".to_owned()
                }
                _ => format!("malformed answer: {error}"),
            })
        })?;
        let (kind, height, round, block, signature) = match answer {
            Answer::Signed {
                kind,
                height,
                round,
                block,
                signature,
            } => (kind, height, round, block, signature),
            Answer::Refused(words) if words.is_empty() => {
                return Err("refused: an answer without a vote".to_owned());
            }
            Answer::Refused(words) => return Err(format!("refused: {words}")),
            Answer::Pong | Answer::PublicKey(_) => {
                return Err(hang_up("the answer is to another question".to_owned()));
            }
        };
        if signature.is_empty() {
            return Err("refused: an empty signature".to_owned());
        }
        let asked = message.block.map(Vec::from).unwrap_or_default();
        if (kind, height, round, &block)
            != (message.kind.number(), message.height, message.round, &asked)
        {
            return Err(hang_up("the answer is about another vote".to_owned()));
        }
        let public_key = *signer.public_key();
        let signature = Signature::try_from(signature.as_slice())
            .ok()
            .filter(|signature| {
                let bytes = message.sign_bytes(&self.chain_id, self.protocol);
                public_key.verify_strict(&bytes, signature).is_ok()
            })
            .ok_or("signature does not verify")?;
        self.record.add(message, &signature.to_bytes());
        Ok(Verified {
            public_key,
            signature,
        })
    }

    /// The newest signer, once it has answered a ping: so that a closed connection afterwards is its answer, and not
    /// the end of a tmkms that was stopped a moment ago. A signer with another key than expected is never asked.
    fn answering(&self, until: Instant) -> Result<Arc<Signer>, String> {
        loop {
            let Some(signer) = self.signers.newest(until) else {
                let trouble = self
                    .signers
                    .trouble()
                    .map(|last| format!(" (last: {last})"));
                return Err(format!(
                    "no signer connected in time{}",
                    trouble.unwrap_or_default()
                ));
            };
            if let Some(expected) = &self.expected
                && expected != signer.public_key()
            {
                return Err(format!(
                    "another public key: {} instead of {}",
                    hex::encode(signer.public_key().as_bytes()),
                    hex::encode(expected.as_bytes()),
                ));
            }
            match signer.ping(Instant::now() + PING_WITHIN) {
                Ok(()) => return Ok(signer),
                Err(error) => self.signers.dismiss(&signer, format!("ping: {error}")),
            }
        }
    }
}

fn height(given: u64) -> Result<i64, String> {
    i64::try_from(given).map_err(|_| "the height is too high".to_owned())
}

fn now() -> Timestamp {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(now.as_secs()).unwrap_or_default(),
        nanos: i32::try_from(now.subsec_nanos()).unwrap_or_default(),
    }
}
