//! The part of tmkms that an upgrade needs: chain ids, state files and their order, protocol versions by tmkms version,
//! the config, and edits to it that leave every other byte alone.
//!
//! It parses text and returns values. It must never open a file, start a process, read a clock, panic on an input, or
//! let a secret (a private key, `auth.password`, Fortanix `api_key`) into an error or a `Debug`.
//!
//! Facts come from running tmkms 0.10.1 to 0.15.0 and from reading tmkms 0.12.2 and tendermint 0.23.9.

pub mod chain_id;
pub mod check;
pub mod config;
pub mod edit;
pub mod keys;
pub mod log;
pub mod protocol;
pub mod state;
mod text;

pub use chain_id::{ChainId, ChainIdError};
pub use config::{Config, ConfigError, KeyRef, Spanned, redacted, secret_spans};
pub use edit::{Edit, EditError, apply};
pub use keys::{KeyFile, KeyFileError, PublicKey, SecretKey};
pub use protocol::{
    ProtocolVersion, ProtocolVersionError, Support, TmkmsVersion, TmkmsVersionError, support,
};
pub use state::{SignState, StateError, StateFile, StateFormat};
