//! A new signer: what it is asked for, what its files are called, and what stands in them. Pure: facts in, text out.
//!
//! Nothing here knows a private key; the files that hold one are only named.

pub mod names;

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tmkms_core::chain_id::ChainId;
use tmkms_core::config::{Config, KeyFormat, KeyRef};
use tmkms_core::protocol::ProtocolVersion;

use crate::accounts::User;
use crate::unit::UnitName;
use names::Names;

/// A signer that is to be.
#[derive(Clone, Debug)]
pub struct Signer {
    pub chain: ChainId,
    pub keys_shown: KeysShown,
    pub addr: Address,
    pub protocol: ProtocolVersion,
    pub home: PathBuf,
    pub user: User,
    pub binary: PathBuf,
    /// Every place that the binary and the password file are reached through, links followed: a sandbox that hides one of
    /// them hides the file.
    pub passed: Vec<PathBuf>,
    pub names: Names,
    pub provider: Provider,
}

/// How the chain's keys are written, and with which prefixes: `cosmos-json` may have them too, and passes over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysShown {
    pub format: Format,
    /// Of account and consensus keys.
    pub prefixes: Option<(String, String)>,
}

/// tmkms' names of `key_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Bech32,
    CosmosJson,
    Hex,
}

impl KeysShown {
    /// As a config that is read back has it.
    pub fn key_format(&self) -> Option<KeyFormat> {
        Some(match (self.format, &self.prefixes) {
            (Format::Bech32, Some((account, consensus))) => KeyFormat::Bech32 {
                account_key_prefix: account.clone(),
                consensus_key_prefix: consensus.clone(),
            },
            (Format::Bech32, None) => return None,
            (Format::CosmosJson, _) => KeyFormat::CosmosJson,
            (Format::Hex, _) => KeyFormat::Hex,
        })
    }
}

/// Who holds the consensus key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The key file of [`Names`].
    Softsign,
    Yubihsm(Device),
}

/// A key in a YubiHSM behind a connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `tcp://HOST:PORT`.
    pub connector: String,
    pub auth_key: u16,
    pub password_file: PathBuf,
    pub key: u16,
    /// Ten digits.
    pub serial: Option<String>,
}

/// Where a signer finds its validator: `tcp://[PEER_ID@]HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Whether the validator's own key is checked.
    pub fn has_peer_id(&self) -> bool {
        self.0.contains('@')
    }

    /// The port, which an address always has.
    pub fn port(&self) -> &str {
        self.0.rsplit_once(':').map_or("", |(_, port)| port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let wrong = |why: &str| {
            format!(
                "{text:?} {why}: an address such as tcp://10.1.1.1:26658 is meant, with PEER_ID@ before the host"
            )
        };
        let rest = text
            .strip_prefix("tcp://")
            .ok_or_else(|| wrong("doesn't begin with tcp://"))?;
        let rest = match rest.split_once('@') {
            None => rest,
            Some((id, rest)) if id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit()) => rest,
            Some(_) => return Err(wrong("has a peer id that isn't 40 hex digits")),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || !port.parse::<u16>().is_ok_and(|port| port != 0) {
            return Err(wrong("has no port"));
        }
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let sound = match bracketed {
            Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
            None => {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
                !host.is_empty() && host.chars().all(fits)
            }
        };
        match sound {
            true => Ok(Address(text.to_owned())),
            false => Err(wrong("has a host that is none")),
        }
    }
}

impl Signer {
    /// The consensus key as the config names it.
    pub fn key(&self) -> KeyRef {
        match &self.provider {
            Provider::Softsign => KeyRef::Softsign {
                path: self.names.key.to_string(),
            },
            Provider::Yubihsm(device) => KeyRef::Yubihsm {
                serial: device.serial.clone(),
                connector: device.connector.clone(),
                key: device.key,
            },
        }
    }

    /// Holds a rendered config against what was asked for: tmkms must read exactly that.
    ///
    /// # Errors
    /// What reads otherwise.
    pub fn is_said_by(&self, text: &str) -> Result<(), String> {
        let config = Config::parse(text).map_err(|e| e.to_string())?;
        let [chain] = &config.chains[..] else {
            return Err("it has not exactly one chain".into());
        };
        let [validator] = &config.validators[..] else {
            return Err("it has not exactly one validator".into());
        };
        let names = &self.names;
        let said = |value: &Option<tmkms_core::Spanned<String>>| {
            value.as_ref().map(|value| value.value.clone())
        };
        let same = chain.id.value == self.chain.as_str()
            && Some(&chain.key_format) == self.keys_shown.key_format().as_ref()
            && said(&chain.state_file) == Some(names.state.to_string())
            && validator.chain_id.value == self.chain.as_str()
            && validator.addr.value == self.addr.to_string()
            && validator.reconnect
            && said(&validator.secret_key) == Some(names.connection.to_string())
            && said(&validator.protocol_version).as_deref() == Some(self.protocol.as_str())
            && config.keys_for(self.chain.as_str()) == [self.key()]
            && config.unknown.is_empty();
        match same {
            true => Ok(()),
            false => Err("it doesn't say what was asked for".into()),
        }
    }

    /// The unit's name.
    pub fn unit(&self) -> &UnitName {
        &self.names.unit
    }

    /// Whether something that the signer reads lies below a folder, or is reached through it.
    pub fn uses(&self, folder: &str) -> bool {
        let names = &self.names;
        let paths: [&Path; 5] = [
            &self.home,
            names.config.as_path(),
            names.key.as_path(),
            names.connection.as_path(),
            names.state.as_path(),
        ];
        let passed = self.passed.iter().map(PathBuf::as_path);
        let mut paths = paths.into_iter().chain(passed);
        paths.any(|path| path.starts_with(folder))
    }
}
