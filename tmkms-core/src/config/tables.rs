//! The root of a config, its chains and its validators.
//!
//! Reading must never fill in a value that the file doesn't have, apart from tmkms' own defaults.

use toml_edit::TableLike;

use super::providers;
use super::read::Fields;
use super::{Config, ConfigError, Spanned};
use crate::text::Lines;

/// A `[[chain]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The chain id, which may be any text: [`crate::ChainId`] judges it.
    pub id: Spanned<String>,
    /// How keys of this chain are shown.
    pub key_format: KeyFormat,
    /// The state file's path as written; see [`Chain::state_file_or_default`].
    pub state_file: Option<Spanned<String>>,
    /// Whether a `state_hook` is there, which works in no version of tmkms.
    pub state_hook: bool,
    /// Whether vote extensions are signed, known to tmkms from 0.14 on.
    pub sign_extensions: Option<bool>,
    /// The line of the table, from 1.
    pub line: usize,
}

/// A `[[chain]]`'s `key_format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// `{ type = "bech32", … }`.
    Bech32 {
        /// Prefix of account keys, such as `did:com:`.
        account_key_prefix: String,
        /// Prefix of consensus keys, such as `did:com:valconspub`.
        consensus_key_prefix: String,
    },
    /// `{ type = "hex" }`.
    Hex,
    /// `{ type = "cosmos-json" }`, known to tmkms from 0.11 on.
    CosmosJson,
}

/// A `[[validator]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// `tcp://[peer-id@]host:port`, `unix:///path` or `host:port`, as written.
    pub addr: Spanned<String>,
    /// The chain id, which may be any text.
    pub chain_id: Spanned<String>,
    /// Whether tmkms dials again after an error; true where not said.
    pub reconnect: bool,
    /// The path of the connection's identity key. Without one, a tcp validator is an endless retry loop.
    pub secret_key: Option<Spanned<String>>,
    /// Timeout in seconds.
    pub timeout: Option<u16>,
    /// The last height to sign, a number in quotes: see [`Validator::max_height`].
    pub max_height: Option<Spanned<String>>,
    /// The protocol, which may be any text: [`crate::ProtocolVersion`] judges it. Only tmkms 0.15 has a default.
    pub protocol_version: Option<Spanned<String>>,
    /// The line of the table, from 1.
    pub line: usize,
}

impl Chain {
    /// Returns the path of the state file, by default `{id}_priv_validator_state.json`. Relative paths, the default
    /// among them, are relative to the process's working directory.
    pub fn state_file_or_default(&self) -> String {
        match &self.state_file {
            Some(path) => path.value.clone(),
            None => format!("{}_priv_validator_state.json", self.id.value),
        }
    }
}

impl Validator {
    /// Returns the height up to and including which tmkms signs.
    pub fn max_height(&self) -> Option<u64> {
        self.max_height
            .as_ref()
            .and_then(|height| height_of(&height.value))
    }
}

/// Reads a height as tmkms does: up to `i64::MAX`.
fn height_of(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|height| i64::try_from(*height).is_ok())
}

/// Reads everything into an empty config.
pub(super) fn read_root(
    text: &str,
    lines: &Lines,
    table: &dyn TableLike,
    config: &mut Config,
) -> Result<(), ConfigError> {
    let mut root = Fields::root(text, lines, table);
    let mut unknown = Vec::new();
    for fields in root.tables("chain")? {
        config.chains.push(chain(fields, &mut unknown)?);
    }
    for fields in root.tables("validator")? {
        config.validators.push(validator(fields, &mut unknown)?);
    }
    let providers = root.table("providers")?;
    let providers = root.required("providers", providers)?;
    providers::read(providers, config, &mut unknown)?;
    root.unknown_into(&mut unknown);
    unknown.sort_by_key(|field| field.line);
    for field in unknown {
        config.unknown.push((field.value, field.line));
        config.unknown_spans.push(field.span);
    }
    Ok(())
}

fn chain(mut fields: Fields<'_>, unknown: &mut Vec<Spanned<String>>) -> Result<Chain, ConfigError> {
    let id = fields.string("id")?;
    let key_format = fields.table("key_format")?;
    let chain = Chain {
        id: fields.required("id", id)?,
        key_format: key_format_of(fields.required("key_format", key_format)?)?,
        state_file: fields.string("state_file")?,
        state_hook: fields.present("state_hook"),
        sign_extensions: fields.boolean("sign_extensions")?,
        line: fields.line(),
    };
    fields.unknown_into(unknown);
    Ok(chain)
}

/// Unknown fields in here are the only ones that tmkms takes without a word, so they aren't collected.
fn key_format_of(mut fields: Fields<'_>) -> Result<KeyFormat, ConfigError> {
    #[derive(Clone, Copy)]
    enum Kind {
        Bech32,
        Hex,
        CosmosJson,
    }
    let kinds = [
        ("bech32", Kind::Bech32),
        ("hex", Kind::Hex),
        ("cosmos-json", Kind::CosmosJson),
    ];
    let kind = fields.choice("type", &kinds)?;
    match fields.required("type", kind)? {
        Kind::Hex => Ok(KeyFormat::Hex),
        Kind::CosmosJson => Ok(KeyFormat::CosmosJson),
        Kind::Bech32 => {
            let account = fields.string("account_key_prefix")?;
            let consensus = fields.string("consensus_key_prefix")?;
            Ok(KeyFormat::Bech32 {
                account_key_prefix: fields.required("account_key_prefix", account)?.value,
                consensus_key_prefix: fields.required("consensus_key_prefix", consensus)?.value,
            })
        }
    }
}

fn validator(
    mut fields: Fields<'_>,
    unknown: &mut Vec<Spanned<String>>,
) -> Result<Validator, ConfigError> {
    let addr = fields.string("addr")?;
    let chain_id = fields.string("chain_id")?;
    let max_height = fields.string("max_height")?;
    if let Some(height) = max_height
        .as_ref()
        .filter(|height| height_of(&height.value).is_none())
    {
        return Err(fields.error_in("max_height", height, "must be a block height in quotes"));
    }
    let validator = Validator {
        addr: fields.required("addr", addr)?,
        chain_id: fields.required("chain_id", chain_id)?,
        reconnect: fields.boolean("reconnect")?.unwrap_or(true),
        secret_key: fields.string("secret_key")?,
        timeout: fields.integer("timeout")?,
        max_height,
        protocol_version: fields.string("protocol_version")?,
        line: fields.line(),
    };
    fields.unknown_into(unknown);
    Ok(validator)
}
