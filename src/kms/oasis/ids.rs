//! What an Oasis node calls things: runtime ids, node ids, checksums, enclaves, versions, epochs.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text is no value of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// Bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) || !text.len().is_multiple_of(2) {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok()
}

macro_rules! thirty_two_bytes {
    ($(#[$doc:meta])* $name:ident, $what:literal, $encode:path, $decode:path, $pattern:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String", extend("pattern" = $pattern))]
        pub struct $name([u8; 32]);

        impl $name {
            pub const fn new(bytes: [u8; 32]) -> Self {
                $name(bytes)
            }

            /// None where it isn't 32 bytes.
            pub fn of(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map($name)
            }

            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                $decode(text).and_then(|bytes| Self::of(&bytes)).ok_or_else(|| {
                    Malformed(format!(concat!("{:?} is no ", $what), text))
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = Malformed;

            fn try_from(text: String) -> Result<Self, Malformed> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

thirty_two_bytes!(
    /// A runtime's id, in hex.
    RuntimeId, "runtime id: 64 hex digits", hex, from_hex, "^[0-9a-fA-F]{64}$"
);
thirty_two_bytes!(
    /// The checksum of a key manager's master secrets, or of its policy; in hex.
    Checksum, "checksum: 64 hex digits", hex, from_hex, "^[0-9a-fA-F]{64}$"
);
thirty_two_bytes!(
    /// What an SGX processor calls an enclave: only the very same one can open what it sealed; in hex.
    Mrenclave, "MRENCLAVE: 64 hex digits", hex, from_hex, "^[0-9a-fA-F]{64}$"
);
thirty_two_bytes!(
    /// A node's identity key, in base64 as oasis-node prints it.
    NodeId, "node id: 32 bytes in base64", base64, from_base64, "^[A-Za-z0-9+/]{43}=$"
);
thirty_two_bytes!(
    /// An enclave's own signing key (RAK), in base64 as oasis-node prints it.
    Rak, "RAK: 32 bytes in base64", base64, from_base64, "^[A-Za-z0-9+/]{43}=$"
);

impl RuntimeId {
    /// Whether it is a key manager's: bit 62 of the first eight bytes, big endian.
    pub fn is_key_manager(&self) -> bool {
        self.0[0] & 0x40 != 0
    }
}

impl Mrenclave {
    /// The first sixteen digits: enough to tell one host's enclaves apart in a folder's name.
    pub fn short(&self) -> String {
        self.to_string().chars().take(16).collect()
    }
}

/// An epoch of the beacon.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A runtime's version; oasis-node leaves parts that are zero away, so `{}` is 0.0.0.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Version {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub major: u16,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub minor: u16,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub patch: u16,
}

fn is_zero(part: &u16) -> bool {
    *part == 0
}

impl Version {
    pub const fn new(major: u16, minor: u16, patch: u16) -> Version {
        Version {
            major,
            minor,
            patch,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_key_managers_have_their_bit() {
        for id in [
            "4000000000000000000000000000000000000000000000008c5ea5e49b4bc9ac",
            "4000000000000000000000000000000000000000000000004a1a53dff2ae482d",
        ] {
            assert!(id.parse::<RuntimeId>().unwrap().is_key_manager(), "{id}");
        }
        let paratime = "000000000000000000000000000000000000000000000000a6d1e3ebf60dff6c";
        assert!(!paratime.parse::<RuntimeId>().unwrap().is_key_manager());
    }

    #[test]
    fn a_value_of_another_length_is_none() {
        assert!("45".parse::<Checksum>().is_err());
        assert!("".parse::<Checksum>().is_err());
        assert!("AQEB=".parse::<NodeId>().is_err());
        assert!("QUFB".parse::<NodeId>().is_err());
    }

    #[test]
    fn a_version_without_parts_is_zero() {
        let version = |text| serde_json::from_str::<Version>(text).unwrap();
        assert_eq!(version("{}"), Version::new(0, 0, 0));
        assert_eq!(version(r#"{"minor":6}"#), Version::new(0, 6, 0));
        assert!(Version::new(0, 6, 0) > Version::new(0, 5, 9));
        assert!(serde_json::from_str::<Version>(r#"{"pre":1}"#).is_err());
    }
}
