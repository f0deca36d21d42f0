//! The `keymanager` part of a status in its three shapes, read into one type.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::ids::{Checksum, NodeId, RuntimeId, Version};
use super::status::{KeyManager, OnChain, Shape, State, Unreadable, unreadable};

#[derive(Deserialize)]
struct RawFlat {
    status: String,
    runtime_id: RuntimeId,
}

#[derive(Deserialize)]
struct RawGlobalAndWorker {
    global: Option<RawOnChain>,
    worker: RawWorker,
}

#[derive(Deserialize)]
struct RawSecrets {
    status: String,
    active_version: Option<Version>,
    runtime_id: RuntimeId,
    secrets: RawSecretsPart,
}

#[derive(Deserialize)]
struct RawSecretsPart {
    status: Option<RawOnChain>,
    worker: RawWorker,
}

#[derive(Deserialize)]
struct RawWorker {
    status: String,
    active_version: Option<Version>,
    runtime_id: Option<RuntimeId>,
    policy_checksum: Option<String>,
}

#[derive(Deserialize)]
struct RawOnChain {
    id: RuntimeId,
    checksum: Option<String>,
    nodes: Option<Vec<NodeId>>,
}

impl RawOnChain {
    fn read(self) -> Result<OnChain, Unreadable> {
        Ok(OnChain {
            id: self.id,
            checksum: checksum(self.checksum.as_deref())?,
            nodes: self.nodes.unwrap_or_default(),
        })
    }
}

/// Base64 of 32 bytes; none where nothing is there yet.
fn checksum(base64: Option<&str>) -> Result<Option<Checksum>, Unreadable> {
    let Some(text) = base64.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let bytes = Base64::decode_vec(text).ok();
    match bytes.and_then(|bytes| Checksum::of(&bytes)) {
        Some(checksum) => Ok(Some(checksum)),
        None => unreadable(format!("{text:?} is no checksum")),
    }
}

/// Reads a status' `keymanager`.
///
/// # Errors
/// It is none of the three shapes, or lacks a part of its own.
pub(super) fn read(part: &RawValue) -> Result<KeyManager, Unreadable> {
    let keys: BTreeMap<String, &RawValue> = shaped(part)?;
    let has = |key: &str| keys.contains_key(key);
    match (
        has("secrets"),
        has("worker") || has("global"),
        has("may_generate"),
    ) {
        (true, false, false) => secrets(shaped(part)?),
        (false, true, false) => global_and_worker(shaped(part)?),
        (false, false, true) => flat(shaped(part)?),
        _ => unreadable("its `keymanager` has none of the three known shapes"),
    }
}

fn shaped<'p, T: Deserialize<'p>>(part: &'p RawValue) -> Result<T, Unreadable> {
    serde_json::from_str(part.get()).map_err(|e| Unreadable(format!("its `keymanager`: {e}")))
}

fn flat(raw: RawFlat) -> Result<KeyManager, Unreadable> {
    Ok(KeyManager {
        shape: Shape::Flat,
        runtime: raw.runtime_id,
        states: vec![("keymanager.status", State::of(&raw.status))],
        active_version: None,
        policy_checksum: None,
        on_chain: None,
    })
}

fn global_and_worker(raw: RawGlobalAndWorker) -> Result<KeyManager, Unreadable> {
    let on_chain = raw.global.map(RawOnChain::read).transpose()?;
    let runtime = raw.worker.runtime_id;
    let Some(runtime) = runtime.or(on_chain.as_ref().map(|c| c.id)) else {
        return unreadable("its `keymanager` doesn't say which runtime it is of");
    };
    Ok(KeyManager {
        shape: Shape::GlobalAndWorker,
        runtime,
        states: vec![("keymanager.worker.status", State::of(&raw.worker.status))],
        active_version: raw.worker.active_version,
        policy_checksum: checksum(raw.worker.policy_checksum.as_deref())?,
        on_chain,
    })
}

fn secrets(raw: RawSecrets) -> Result<KeyManager, Unreadable> {
    let worker = raw.secrets.worker;
    Ok(KeyManager {
        shape: Shape::Secrets,
        runtime: raw.runtime_id,
        states: vec![
            ("keymanager.status", State::of(&raw.status)),
            (
                "keymanager.secrets.worker.status",
                State::of(&worker.status),
            ),
        ],
        active_version: raw.active_version,
        policy_checksum: checksum(worker.policy_checksum.as_deref())?,
        on_chain: raw.secrets.status.map(RawOnChain::read).transpose()?,
    })
}
