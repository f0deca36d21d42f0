//! A `tmkms.toml`: its tables with the place of every value, the keys that sign a chain, and what in it is secret.
//!
//! Known fields are strict: what is accepted here has the types tmkms expects. Unknown fields are collected, since which
//! of them a tmkms refuses depends on its version and features. A secret's text must never be kept: only where it stands.
//!
//! Schema: `config/` of tmkms 0.12.2, and the later versions' fields as run.

mod key_ref;
mod providers;
pub(crate) mod read;
mod secrets;
mod tables;

use std::fmt;
use std::ops::Range;

use toml_edit::Document;

use crate::text::Lines;
pub use key_ref::KeyRef;
pub use providers::{
    Adapter, Auth, FortanixKey, Fortanixdsm, KeyType, Ledgertm, Softsign, SoftsignFormat, Yubihsm,
    YubihsmKey,
};
pub use secrets::{PLACEHOLDER, is_field, redacted, secret_spans};
pub use tables::{Chain, KeyFormat, Validator};

/// A value together with where it stands in the text it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// The decoded value.
    pub value: T,
    /// The bytes of the raw token, quotes included.
    pub span: Range<usize>,
    /// The line the token starts on, from 1.
    pub line: usize,
}

/// A tmkms config. Lists are in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[[chain]]`.
    pub chains: Vec<Chain>,
    /// `[[validator]]`.
    pub validators: Vec<Validator>,
    /// `[[providers.softsign]]`.
    pub softsign: Vec<Softsign>,
    /// `[[providers.yubihsm]]`; tmkms takes exactly one.
    pub yubihsm: Vec<Yubihsm>,
    /// `[[providers.ledgertm]]`.
    pub ledgertm: Vec<Ledgertm>,
    /// `[[providers.fortanixdsm]]`, known to tmkms from 0.12 on.
    pub fortanixdsm: Vec<Fortanixdsm>,
    /// Fields that no table here knows, as dotted path and line from 1. tmkms refuses them all, except that one of
    /// 0.12.2 or older built with its `tx-signer` feature knows the root's `tx_signer`.
    pub unknown: Vec<(String, usize)>,
    unknown_spans: Vec<Range<usize>>,
    secrets: Vec<Range<usize>>,
}

/// Why a text isn't a tmkms config. It never quotes the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The same place as a byte of the text.
    pub offset: usize,
    /// What is wrong, as a clause.
    pub message: String,
}

impl Config {
    /// Reads a config's text.
    ///
    /// # Errors
    /// The first place where the text isn't TOML, where a required field is missing, or where a known field has a type
    /// or a value that tmkms doesn't take. Whether an address, a serial number or a chain id is sound isn't judged here.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::of(text, &read::document(text)?)
    }

    /// Reads a document that was parsed from this text.
    pub(crate) fn of(text: &str, document: &Document<&str>) -> Result<Config, ConfigError> {
        let mut config = Config {
            secrets: secrets::find(text, document.as_item()),
            ..Config::default()
        };
        let lines = Lines::of(text);
        tables::read_root(text, &lines, document.as_table(), &mut config)?;
        Ok(config)
    }

    /// Returns the ids of all `[[chain]]` tables.
    pub fn chain_ids(&self) -> Vec<&str> {
        self.chains
            .iter()
            .map(|chain| chain.id.value.as_str())
            .collect()
    }

    /// Returns the fields that no table knows, as dotted path and the bytes where each stands, in the order of the file.
    pub fn unknown_spans(&self) -> impl Iterator<Item = (&str, &Range<usize>)> {
        let paths = self.unknown.iter().map(|(path, _)| path.as_str());
        paths.zip(&self.unknown_spans)
    }

    /// Returns every place where a chain id stands: in chains, validators and the keys of all providers, account keys
    /// included, in the order of the file.
    pub fn places_of(&self, chain_id: &str) -> Vec<&Spanned<String>> {
        let mut places = self.all_places();
        places.retain(|place| place.value == chain_id);
        places
    }

    /// Returns the places of all chain ids, as [`Config::places_of`] those of one.
    pub fn all_places(&self) -> Vec<&Spanned<String>> {
        let chains = self.chains.iter().map(|chain| &chain.id);
        let validators = self.validators.iter().map(|validator| &validator.chain_id);
        let softsign = self
            .softsign
            .iter()
            .flat_map(|provider| &provider.chain_ids);
        let yubihsm = self
            .yubihsm
            .iter()
            .flat_map(|hsm| &hsm.keys)
            .flat_map(|key| &key.chain_ids);
        let ledgertm = self
            .ledgertm
            .iter()
            .flat_map(|provider| &provider.chain_ids);
        let fortanix = self
            .fortanixdsm
            .iter()
            .flat_map(|dsm| &dsm.signing_keys)
            .flat_map(|key| &key.chain_ids);
        let all = chains
            .chain(validators)
            .chain(softsign)
            .chain(yubihsm)
            .chain(ledgertm)
            .chain(fortanix);
        let mut places: Vec<_> = all.collect();
        places.sort_by_key(|place| place.span.start);
        places
    }

    /// Returns the consensus keys that sign a chain. tmkms works with exactly one; more load, and then fail at run time.
    pub fn keys_for(&self, chain_id: &str) -> Vec<KeyRef> {
        key_ref::keys_for(self, chain_id)
    }

    /// Returns the path of a chain's state file as tmkms would use it: relative ones, the default among them, are
    /// relative to the process's working directory.
    pub fn state_file_or_default(&self, chain: &Chain) -> String {
        chain.state_file_or_default()
    }

    /// Returns whether the config itself holds a password or an API key.
    pub fn has_secrets(&self) -> bool {
        !self.fortanixdsm.is_empty() || self.yubihsm.iter().any(|hsm| hsm.auth.has_inline_password)
    }

    /// Returns where secrets stand, in order and apart from each other: see [`secret_spans`].
    pub fn secret_spans(&self) -> Vec<Range<usize>> {
        self.secrets.clone()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ConfigError {}
