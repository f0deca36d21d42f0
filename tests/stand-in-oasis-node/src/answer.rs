//! What the stand-in's `control status` prints, in all three shapes of a real oasis-node, with an `extra_info` that is
//! signed as a real enclave signs it. Also what the tests of the readers read.
//!
//! Made from the shapes in oasis-core's sources; no real node was run. The keys come from seeds: they are worth nothing.

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey};
use minicbor::Encoder;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512_256};

/// Which oasis-node's shape is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// 22.2.
    Flat,
    /// 23.0.
    GlobalAndWorker,
    /// 24.0 to 26.1.
    Secrets,
}

pub const SHAPES: [Shape; 3] = [Shape::Flat, Shape::GlobalAndWorker, Shape::Secrets];

/// What an enclave says when it was initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitResponse {
    pub is_secure: bool,
    pub checksum: Vec<u8>,
    pub policy_checksum: Vec<u8>,
    pub next_checksum: Option<Vec<u8>>,
}

/// The last registration since the process began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// RFC 3339.
    pub at: String,
    pub expiration: u64,
    /// Major, minor, patch.
    pub version: [u16; 3],
    /// Of the enclave's key.
    pub seed: [u8; 32],
    /// `null` before the enclave is initialised.
    pub said: Option<InitResponse>,
    /// Another enclave signed it.
    pub forged: bool,
}

/// What the chain says of the key manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnChain {
    pub checksum: Vec<u8>,
    pub nodes: Vec<[u8; 32]>,
}

/// A node's whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub software_version: String,
    pub node: [u8; 32],
    pub consensus: String,
    pub latest_time: String,
    pub epoch: u64,
    pub runtime: String,
    /// `ready`, `starting`, `stopped`, `disabled`.
    pub state: String,
    pub version: [u16; 3],
    pub registered: Option<Registered>,
    pub last_error: Option<String>,
    pub policy_checksum: Vec<u8>,
    pub on_chain: Option<OnChain>,
}

/// The public key of a seed's enclave.
#[must_use]
pub fn rak(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// `extra_info`: canonical CBOR of the response and its signature, in base64.
#[must_use]
pub fn extra_info(seed: &[u8; 32], said: &InitResponse) -> String {
    let response = init_response(said);
    let mut hash = Sha512_256::new();
    hash.update(b"oasis-core/keymanager: init response");
    hash.update(&response);
    let signature = SigningKey::from_bytes(seed).sign(&hash.finalize());
    let mut bytes = cbor(|e| {
        e.map(2)?.str("signature")?.bytes(&signature.to_bytes())?;
        e.str("init_response")?;
        Ok(())
    });
    bytes.extend_from_slice(&response);
    BASE64.encode(&bytes)
}

/// Keys in canonical order: shorter ones first.
fn init_response(said: &InitResponse) -> Vec<u8> {
    cbor(|e| {
        e.map(3 + u64::from(said.next_checksum.is_some()))?;
        e.str("checksum")?.bytes(&said.checksum)?;
        e.str("is_secure")?.bool(said.is_secure)?;
        if let Some(next) = &said.next_checksum {
            e.str("next_checksum")?.bytes(next)?;
        }
        e.str("policy_checksum")?.bytes(&said.policy_checksum)?;
        Ok(())
    })
}

type Failed = minicbor::encode::Error<std::convert::Infallible>;

fn cbor(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Result<(), Failed>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    // Writing to memory can't fail.
    let _ = write(&mut encoder);
    encoder.into_writer()
}

/// Parts that are zero are left away.
fn version(parts: [u16; 3]) -> Value {
    let named = ["major", "minor", "patch"].into_iter().zip(parts);
    let parts: Map<String, Value> = named
        .filter(|(_, part)| *part != 0)
        .map(|(name, part)| (name.to_owned(), part.into()))
        .collect();
    Value::Object(parts)
}

impl Answer {
    /// The document, as the CLI prints it.
    #[must_use]
    pub fn print(&self, shape: Shape) -> String {
        let document = json!({
            "software_version": self.software_version,
            "mode": "keymanager",
            "identity": {"node": BASE64.encode(&self.node)},
            "consensus": {
                "status": self.consensus, "latest_height": self.epoch * 600,
                "latest_time": self.latest_time, "latest_epoch": self.epoch,
            },
            "registration": self.registration(shape),
            "keymanager": self.keymanager(shape),
        });
        format!("{document:#}\n")
    }

    fn registration(&self, shape: Shape) -> Value {
        const NEVER: &str = "0001-01-01T00:00:00Z";
        let mut part = json!({
            "last_registration": self.registered.as_ref().map_or(NEVER, |r| r.at.as_str()),
        });
        if shape != Shape::Flat {
            part["last_attempt_successful"] =
                (self.registered.is_some() && self.last_error.is_none()).into();
            if let Some(error) = &self.last_error {
                part["last_attempt_error_message"] = error.as_str().into();
            }
        }
        if let Some(registered) = &self.registered {
            part["descriptor"] = json!({
                "v": 3, "id": BASE64.encode(&self.node), "expiration": registered.expiration,
                "runtimes": [{
                    "id": self.runtime, "version": version(registered.version),
                    "capabilities": {"tee": {
                        "hardware": 1, "rak": BASE64.encode(&rak(&registered.seed)), "attestation": "oQ==",
                    }},
                    "extra_info": registered.said.as_ref().map(|said| {
                        let other = registered.seed.map(|byte| !byte);
                        let signer = if registered.forged { &other } else { &registered.seed };
                        extra_info(signer, said)
                    }),
                }],
                "roles": "key-manager",
            });
        }
        part
    }

    fn keymanager(&self, shape: Shape) -> Value {
        let running = self.state == "ready";
        let active = running.then(|| version(self.version));
        let chain = self.on_chain.as_ref().map(|chain| {
            let nodes: Vec<String> = chain.nodes.iter().map(|id| BASE64.encode(id)).collect();
            json!({
                "id": self.runtime, "is_initialized": true, "is_secure": true,
                "checksum": BASE64.encode(&chain.checksum), "nodes": nodes,
            })
        });
        let policy = BASE64.encode(&self.policy_checksum);
        match shape {
            Shape::Flat => json!({
                "status": self.state, "may_generate": false, "runtime_id": self.runtime,
                "client_runtimes": [], "access_list": [], "private_peers": [],
            }),
            Shape::GlobalAndWorker => json!({
                "global": chain,
                "worker": {
                    "status": self.state, "active_version": active, "runtime_id": self.runtime,
                    "client_runtimes": [], "policy_checksum": policy,
                },
            }),
            Shape::Secrets => json!({
                "status": self.state, "active_version": active, "runtime_id": self.runtime,
                "client_runtimes": [],
                "secrets": {"status": chain, "worker": {"status": self.state, "policy_checksum": policy}},
            }),
        }
    }
}
