//! Naming a key without asking the device: enough to see that two configs sign with the same one.
//!
//! A reference must never hold key bytes or a password.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Adapter, Config, KeyType, Spanned};

/// A consensus key as a config names it. Two equal references are the same key; two different ones may still be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeyRef {
    /// A key in a YubiHSM.
    Yubihsm {
        /// The device's serial number, where the config names one.
        serial: Option<String>,
        /// `usb`, or the connector's address.
        connector: String,
        /// The key's object id.
        key: u16,
    },
    /// A key in a file.
    Softsign {
        /// The file's path as written.
        path: String,
    },
    /// The key of the one Ledger device that a host has.
    Ledger,
    /// A key in Fortanix DSM.
    Fortanix {
        /// The service's URL.
        api_endpoint: String,
        /// The key's id or name.
        key: String,
    },
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyRef::Yubihsm {
                serial: Some(serial),
                key,
                ..
            } => write!(f, "YubiHSM {serial} key {key}"),
            KeyRef::Yubihsm {
                serial: None,
                connector,
                key,
            } => write!(f, "YubiHSM at {connector} key {key}"),
            KeyRef::Softsign { path } => write!(f, "key file {path}"),
            KeyRef::Ledger => f.write_str("Ledger"),
            KeyRef::Fortanix { api_endpoint, key } => {
                write!(f, "Fortanix DSM {api_endpoint} key {key}")
            }
        }
    }
}

pub(super) fn keys_for(config: &Config, chain_id: &str) -> Vec<KeyRef> {
    let named = |chain_ids: &[Spanned<String>]| chain_ids.iter().any(|id| id.value == chain_id);
    let signs = |chain_ids: &[Spanned<String>], key_type| {
        key_type == KeyType::Consensus && named(chain_ids)
    };
    let mut keys = Vec::new();
    for softsign in config
        .softsign
        .iter()
        .filter(|softsign| signs(&softsign.chain_ids, softsign.key_type))
    {
        keys.push(KeyRef::Softsign {
            path: softsign.path.value.clone(),
        });
    }
    for hsm in &config.yubihsm {
        let serial = hsm
            .serial_number
            .as_ref()
            .map(|serial| serial.value.clone());
        let connector = match &hsm.adapter {
            Adapter::Usb { .. } => "usb".to_owned(),
            Adapter::Http { addr } => addr.value.clone(),
        };
        for key in hsm
            .keys
            .iter()
            .filter(|key| signs(&key.chain_ids, key.key_type))
        {
            keys.push(KeyRef::Yubihsm {
                serial: serial.clone(),
                connector: connector.clone(),
                key: key.key,
            });
        }
    }
    keys.extend(
        config
            .ledgertm
            .iter()
            .filter(|ledger| named(&ledger.chain_ids))
            .map(|_| KeyRef::Ledger),
    );
    for dsm in &config.fortanixdsm {
        for key in dsm
            .signing_keys
            .iter()
            .filter(|key| signs(&key.chain_ids, key.key_type))
        {
            keys.push(KeyRef::Fortanix {
                api_endpoint: dsm.api_endpoint.value.clone(),
                key: key.key.value.clone(),
            });
        }
    }
    keys
}
