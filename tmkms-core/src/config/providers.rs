//! The `[providers]` of a config: who holds the keys.
//!
//! Passwords and API keys are known here only by where they stand; their text must never be copied out.

use std::ops::Range;

use super::read::Fields;
use super::{Config, ConfigError, Spanned};

/// A `[[providers.softsign]]`: a key in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Softsign {
    /// The chains the key may sign.
    pub chain_ids: Vec<Spanned<String>>,
    /// Consensus where not said.
    pub key_type: KeyType,
    /// Base64 where not said.
    pub key_format: SoftsignFormat,
    /// The key file's path as written.
    pub path: Spanned<String>,
    /// The line of the table, from 1.
    pub line: usize,
}

/// What a key signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// Transactions.
    Account,
    /// Votes and proposals.
    #[default]
    Consensus,
}

/// How a softsign key file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SoftsignFormat {
    /// The key's bytes in base64.
    #[default]
    Base64,
    /// CometBFT's `priv_validator_key.json`.
    Json,
}

/// A `[[providers.yubihsm]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yubihsm {
    /// How the device is reached.
    pub adapter: Adapter,
    /// How to log in.
    pub auth: Auth,
    /// The keys in the device.
    pub keys: Vec<YubihsmKey>,
    /// The device's serial number, ten digits. tmkms doesn't check it over http, and panics on one it can't read.
    pub serial_number: Option<Spanned<String>>,
    /// Whether a `connector_server` is there, known only to a tmkms built with its feature.
    pub connector_server: bool,
    /// The line of the table, from 1.
    pub line: usize,
}

/// How a YubiHSM is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// Over USB.
    Usb {
        /// Timeout in milliseconds, 1000 where not said.
        timeout_ms: u64,
    },
    /// Over a `yubihsm-connector`.
    Http {
        /// The connector's address as written, such as `tcp://127.0.0.1:12345`.
        addr: Spanned<String>,
    },
}

/// How to log in to a YubiHSM: by a password file or by a password in the config, and never both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The authentication key's id.
    pub key: u16,
    /// The password file's path as written.
    pub password_file: Option<Spanned<String>>,
    /// Whether the password stands in the config itself.
    pub has_inline_password: bool,
    /// Where it stands, quotes included.
    pub password_span: Option<Range<usize>>,
}

/// One of a YubiHSM's `keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YubihsmKey {
    /// The chains the key may sign.
    pub chain_ids: Vec<Spanned<String>>,
    /// The key's object id.
    pub key: u16,
    /// Consensus where not said.
    pub key_type: KeyType,
    /// The line of the entry, from 1.
    pub line: usize,
}

/// A `[[providers.ledgertm]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledgertm {
    /// The chains the device may sign.
    pub chain_ids: Vec<Spanned<String>>,
    /// The line of the table, from 1.
    pub line: usize,
}

/// A `[[providers.fortanixdsm]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fortanixdsm {
    /// The service's URL as written.
    pub api_endpoint: Spanned<String>,
    /// Where the API key stands, quotes included.
    pub api_key_span: Range<usize>,
    /// The keys in the service.
    pub signing_keys: Vec<FortanixKey>,
    /// The line of the table, from 1.
    pub line: usize,
}

/// One of Fortanix DSM's `signing_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FortanixKey {
    /// The chains the key may sign.
    pub chain_ids: Vec<Spanned<String>>,
    /// The key's `key_id` or `key_name`.
    pub key: Spanned<String>,
    /// Consensus where not said.
    pub key_type: KeyType,
}

type Unknown = Vec<Spanned<String>>;

/// Reads all providers into the config.
pub(super) fn read(
    mut fields: Fields<'_>,
    config: &mut Config,
    unknown: &mut Unknown,
) -> Result<(), ConfigError> {
    for table in fields.tables("softsign")? {
        config.softsign.push(softsign(table, unknown)?);
    }
    for table in fields.tables("yubihsm")? {
        config.yubihsm.push(yubihsm(table, unknown)?);
    }
    for table in fields.tables("ledgertm")? {
        config.ledgertm.push(ledgertm(table, unknown)?);
    }
    for table in fields.tables("fortanixdsm")? {
        config.fortanixdsm.push(fortanixdsm(table, unknown)?);
    }
    fields.unknown_into(unknown);
    Ok(())
}

fn softsign(mut fields: Fields<'_>, unknown: &mut Unknown) -> Result<Softsign, ConfigError> {
    let formats = [
        ("base64", SoftsignFormat::Base64),
        ("json", SoftsignFormat::Json),
    ];
    let path = fields.string("path")?;
    let softsign = Softsign {
        chain_ids: chain_ids(&mut fields)?,
        key_type: key_type(&mut fields, "key_type")?,
        key_format: fields.choice("key_format", &formats)?.unwrap_or_default(),
        path: fields.required("path", path)?,
        line: fields.line(),
    };
    fields.unknown_into(unknown);
    Ok(softsign)
}

fn yubihsm(mut fields: Fields<'_>, unknown: &mut Unknown) -> Result<Yubihsm, ConfigError> {
    let adapter_table = fields.table("adapter")?;
    let auth_table = fields.table("auth")?;
    let yubihsm = Yubihsm {
        adapter: adapter(fields.required("adapter", adapter_table)?, unknown)?,
        auth: auth(fields.required("auth", auth_table)?, unknown)?,
        keys: fields
            .tables("keys")?
            .into_iter()
            .map(|key| yubihsm_key(key, unknown))
            .collect::<Result<_, _>>()?,
        serial_number: fields.string("serial_number")?,
        connector_server: fields.present("connector_server"),
        line: fields.line(),
    };
    fields.unknown_into(unknown);
    Ok(yubihsm)
}

fn adapter(mut fields: Fields<'_>, unknown: &mut Unknown) -> Result<Adapter, ConfigError> {
    let is_usb = fields.choice("type", &[("usb", true), ("http", false)])?;
    let adapter = if fields.required("type", is_usb)? {
        // A TOML integer has 63 bits and a sign, so no u64 is out of its reach but the negative ones.
        Adapter::Usb {
            timeout_ms: fields.integer("timeout_ms")?.unwrap_or(1000),
        }
    } else {
        let addr = fields.string("addr")?;
        Adapter::Http {
            addr: fields.required("addr", addr)?,
        }
    };
    fields.unknown_into(unknown);
    Ok(adapter)
}

fn auth(mut fields: Fields<'_>, unknown: &mut Unknown) -> Result<Auth, ConfigError> {
    let key = fields.integer("key")?;
    let password_file = fields.string("password_file")?;
    let password_span = fields.string_span("password")?;
    match (&password_file, &password_span) {
        (Some(_), Some(_)) => return Err(fields.error("has both `password_file` and `password`")),
        (None, None) => return Err(fields.error("has neither `password_file` nor `password`")),
        _ => {}
    }
    let key = fields.required("key", key)?;
    fields.unknown_into(unknown);
    Ok(Auth {
        key,
        password_file,
        has_inline_password: password_span.is_some(),
        password_span,
    })
}

fn yubihsm_key(mut fields: Fields<'_>, unknown: &mut Unknown) -> Result<YubihsmKey, ConfigError> {
    let key = fields.integer("key")?;
    let yubihsm_key = YubihsmKey {
        chain_ids: chain_ids(&mut fields)?,
        key: fields.required("key", key)?,
        key_type: key_type(&mut fields, "type")?,
        line: fields.line(),
    };
    fields.unknown_into(unknown);
    Ok(yubihsm_key)
}

fn ledgertm(mut fields: Fields<'_>, unknown: &mut Unknown) -> Result<Ledgertm, ConfigError> {
    let ledgertm = Ledgertm {
        chain_ids: chain_ids(&mut fields)?,
        line: fields.line(),
    };
    fields.unknown_into(unknown);
    Ok(ledgertm)
}

fn fortanixdsm(mut fields: Fields<'_>, unknown: &mut Unknown) -> Result<Fortanixdsm, ConfigError> {
    let api_endpoint = fields.string("api_endpoint")?;
    let api_key = fields.string_span("api_key")?;
    let keys = fields.tables("signing_keys")?;
    let fortanixdsm = Fortanixdsm {
        api_endpoint: fields.required("api_endpoint", api_endpoint)?,
        api_key_span: fields.required("api_key", api_key)?,
        signing_keys: keys
            .into_iter()
            .map(|key| fortanix_key(key, unknown))
            .collect::<Result<_, _>>()?,
        line: fields.line(),
    };
    fields.unknown_into(unknown);
    Ok(fortanixdsm)
}

fn fortanix_key(mut fields: Fields<'_>, unknown: &mut Unknown) -> Result<FortanixKey, ConfigError> {
    let key = match (fields.string("key_id")?, fields.string("key_name")?) {
        (Some(key), None) | (None, Some(key)) => key,
        _ => return Err(fields.error("needs either `key_id` or `key_name`")),
    };
    let chain_ids = chain_ids(&mut fields)?;
    let key_type = key_type(&mut fields, "type")?;
    fields.unknown_into(unknown);
    Ok(FortanixKey {
        chain_ids,
        key,
        key_type,
    })
}

fn chain_ids(fields: &mut Fields<'_>) -> Result<Vec<Spanned<String>>, ConfigError> {
    let chain_ids = fields.strings("chain_ids")?;
    fields.required("chain_ids", chain_ids)
}

fn key_type(fields: &mut Fields<'_>, name: &'static str) -> Result<KeyType, ConfigError> {
    let types = [
        ("account", KeyType::Account),
        ("consensus", KeyType::Consensus),
    ];
    Ok(fields.choice(name, &types)?.unwrap_or_default())
}
