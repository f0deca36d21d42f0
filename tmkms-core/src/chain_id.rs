//! Chain ids: what tmkms accepts as one, the name that stays over upgrades, and the revision that moves.
//!
//! A [`ChainId`] ends up in file names, unit names and messages, so it must never hold a character that means something
//! to a path, a shell or a terminal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most characters a chain id may have: CometBFT's `MaxChainIDLen`, which tendermint-rs and so tmkms enforce.
pub const MAX_CHAIN_ID_LEN: usize = 50;

/// A chain id: 1 to 50 characters out of `[A-Za-z0-9-_.]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,50}$")))]
pub struct ChainId(String);

/// Why a text isn't a chain id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainIdError {
    /// The text has no characters.
    Empty,
    /// The text has more characters than [`MAX_CHAIN_ID_LEN`].
    TooLong {
        /// How many characters it has.
        length: usize,
    },
    /// The text holds a character outside `[A-Za-z0-9-_.]`.
    Character {
        /// The first such character.
        character: char,
        /// Its place, in characters from 1.
        position: usize,
    },
}

impl ChainId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part that stays the same when the chain moves to its next id.
    ///
    /// It is what comes before the last `-`, where a digit follows that and then only digits, `_` and `.`:
    /// `commercio` for `commercio-3` and for `commercio-2_2`. Any other id is its own name.
    pub fn name(&self) -> &str {
        match self.0.rsplit_once('-') {
            Some((name, suffix)) if !name.is_empty() && is_version(suffix) => name,
            _ => &self.0,
        }
    }

    /// Returns the revision number, by the strict form that Cosmos SDK and IBC read one in: a decimal from 1, without
    /// leading zeros, after a single `-`. `commercio-3` has 3, `commercio-2_2` has none.
    pub fn revision(&self) -> Option<u64> {
        let (name, digits) = self.0.rsplit_once('-')?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        if name.is_empty() || name.ends_with('-') || !plain {
            return None;
        }
        digits.parse().ok()
    }
}

fn is_version(suffix: &str) -> bool {
    suffix.starts_with(|first: char| first.is_ascii_digit())
        && suffix
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'_' | b'.'))
}

impl FromStr for ChainId {
    type Err = ChainIdError;

    fn from_str(text: &str) -> Result<ChainId, ChainIdError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for ChainId {
    type Error = ChainIdError;

    fn try_from(text: String) -> Result<ChainId, ChainIdError> {
        if text.is_empty() {
            return Err(ChainIdError::Empty);
        }
        let foreign = |c: &char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.');
        if let Some((index, character)) = text.chars().enumerate().find(|(_, c)| foreign(c)) {
            return Err(ChainIdError::Character {
                character,
                position: index + 1,
            });
        }
        match text.len() {
            length if length > MAX_CHAIN_ID_LEN => Err(ChainIdError::TooLong { length }),
            _ => Ok(ChainId(text)),
        }
    }
}

impl From<ChainId> for String {
    fn from(id: ChainId) -> String {
        id.0
    }
}

impl AsRef<str> for ChainId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for ChainIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainIdError::Empty => f.write_str("the chain id is empty"),
            ChainIdError::TooLong { length } => {
                write!(
                    f,
                    "the chain id has {length} characters, and at most {MAX_CHAIN_ID_LEN} are allowed"
                )
            }
            ChainIdError::Character {
                character,
                position,
            } => write!(
                f,
                "character {position} of the chain id is {character:?}, and only letters, digits, `-`, `_` and `.` are \
                 allowed"
            ),
        }
    }
}

impl std::error::Error for ChainIdError {}

#[cfg(test)]
mod tests {
    use super::{ChainId, ChainIdError};

    #[test]
    fn name_and_revision() {
        for (id, name, revision) in [
            ("commercio-3", "commercio", Some(3)),
            ("commercio-2_2", "commercio", None),
            ("haqq_11235-1", "haqq_11235", Some(1)),
            ("cosmoshub-4", "cosmoshub", Some(4)),
            ("osmo-test-5", "osmo-test", Some(5)),
            ("chain-1.2.0", "chain", None),
            ("chain-03", "chain", None),
            ("chain-0", "chain", None),
            ("chain-18446744073709551615", "chain", Some(u64::MAX)),
            ("chain-18446744073709551616", "chain", None),
            ("chain--3", "chain-", None),
            ("chain", "chain", None),
            ("chain-", "chain-", None),
            ("chain-v3", "chain-v3", None),
            ("chain-3a", "chain-3a", None),
            ("chain-_2", "chain-_2", None),
            ("chain-3-rc", "chain-3-rc", None),
            ("-3", "-3", None),
            ("3", "3", None),
            ("-", "-", None),
        ] {
            let parsed: ChainId = id.parse().unwrap();
            assert_eq!((parsed.name(), parsed.revision()), (name, revision), "{id}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        assert_eq!("".parse::<ChainId>(), Err(ChainIdError::Empty));
        assert!("x".repeat(50).parse::<ChainId>().is_ok());
        assert_eq!(
            "x".repeat(51).parse::<ChainId>(),
            Err(ChainIdError::TooLong { length: 51 })
        );
        for bad in [
            "a b", "a/b", "a\"b", "a'b", "a\nb", "a\0b", "a\u{1b}b", "aéb", "a:b", "a@b", "a%b",
            "a+b",
        ] {
            let error = bad.parse::<ChainId>().unwrap_err();
            assert!(
                matches!(error, ChainIdError::Character { position: 2, .. }),
                "{bad:?} {error:?}"
            );
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }

    #[test]
    fn json_is_a_checked_string() {
        let id: ChainId = serde_json::from_str("\"commercio-3\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"commercio-3\"");
        assert!(serde_json::from_str::<ChainId>("\"../etc\"").is_err());
    }
}
