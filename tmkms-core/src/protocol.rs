//! Which tmkms speaks which validator protocol: versions of both, and the table that joins them.
//!
//! The table holds what was run, and must never guess: a tmkms outside 0.10 to 0.15 has no answer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A `protocol_version` of a `[[validator]]`.
///
/// `legacy` and `v0.33` are amino. `v0.34` is protobuf, for Tendermint 0.34 and CometBFT 0.34 to 0.38; `v0.38` has the
/// same wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("enum" = ProtocolVersion::ALL)))]
pub enum ProtocolVersion {
    /// Before Tendermint 0.33.
    Legacy,
    /// Tendermint 0.33.
    V0_33,
    /// Tendermint 0.34 and CometBFT 0.34 to 0.38.
    V0_34,
    /// CometBFT 0.38.
    V0_38,
}

impl ProtocolVersion {
    /// Every version that some tmkms accepts, oldest first.
    pub const ALL: [ProtocolVersion; 4] = [
        ProtocolVersion::Legacy,
        ProtocolVersion::V0_33,
        ProtocolVersion::V0_34,
        ProtocolVersion::V0_38,
    ];

    /// Returns the version as a config spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ProtocolVersion::Legacy => "legacy",
            ProtocolVersion::V0_33 => "v0.33",
            ProtocolVersion::V0_34 => "v0.34",
            ProtocolVersion::V0_38 => "v0.38",
        }
    }
}

/// A text that no tmkms accepts as `protocol_version`; `v0.37`, `v1` and `v1.0` are such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolVersionError;

impl FromStr for ProtocolVersion {
    type Err = ProtocolVersionError;

    fn from_str(text: &str) -> Result<ProtocolVersion, ProtocolVersionError> {
        ProtocolVersion::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or(ProtocolVersionError)
    }
}

impl TryFrom<String> for ProtocolVersion {
    type Error = ProtocolVersionError;

    fn try_from(text: String) -> Result<ProtocolVersion, ProtocolVersionError> {
        text.parse()
    }
}

impl From<ProtocolVersion> for String {
    fn from(version: ProtocolVersion) -> String {
        version.as_str().to_owned()
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for ProtocolVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no tmkms knows this protocol version; there are legacy, v0.33, v0.34 and v0.38",
        )
    }
}

impl std::error::Error for ProtocolVersionError {}

/// A released version of tmkms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TmkmsVersion {
    /// 0 in every version so far.
    pub major: u64,
    /// What compatibility goes by.
    pub minor: u64,
    /// The patch level.
    pub patch: u64,
}

/// A text that isn't `tmkms 0.10.1` or `0.12.2`; pre-releases are among these, since none of them was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TmkmsVersionError;

impl FromStr for TmkmsVersion {
    type Err = TmkmsVersionError;

    /// Reads what `tmkms version` prints: `tmkms 0.10.1` (0.10.1) or `0.12.2` (from 0.12.2 on), newline or not.
    fn from_str(text: &str) -> Result<TmkmsVersion, TmkmsVersionError> {
        let text = text.trim();
        let numbers = text.strip_prefix("tmkms ").unwrap_or(text);
        let mut parts = numbers.split('.').map(number);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => Ok(TmkmsVersion {
                major,
                minor,
                patch,
            }),
            _ => Err(TmkmsVersionError),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl TryFrom<String> for TmkmsVersion {
    type Error = TmkmsVersionError;

    fn try_from(text: String) -> Result<TmkmsVersion, TmkmsVersionError> {
        text.parse()
    }
}

impl From<TmkmsVersion> for String {
    fn from(version: TmkmsVersion) -> String {
        version.to_string()
    }
}

impl fmt::Display for TmkmsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl fmt::Display for TmkmsVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this isn't a tmkms version such as `0.12.2` or `tmkms 0.10.1`")
    }
}

impl std::error::Error for TmkmsVersionError {}

/// What a tmkms does with a `protocol_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// It signs, seen end to end.
    Works,
    /// It refuses the config and exits with 1.
    Refused,
    /// It takes the config, and then panics in a loop while its unit stays active.
    Panics,
}

/// Returns what a tmkms does with a `protocol_version`, or with none, or `None` for a tmkms outside 0.10 to 0.15.
///
/// As run with 0.10.1, 0.11.0, 0.12.2, 0.13.1, 0.14.0 and 0.15.0. Only 0.15 has a default (v0.38).
pub fn support(tmkms: TmkmsVersion, protocol: Option<ProtocolVersion>) -> Option<Support> {
    use ProtocolVersion::{Legacy, V0_33, V0_34, V0_38};
    if tmkms.major != 0 {
        return None;
    }
    let support = match (tmkms.minor, protocol) {
        (10..=15, Some(V0_34)) | (10..=12, Some(Legacy | V0_33)) | (15, Some(V0_38) | None) => {
            Support::Works
        }
        (13..=14, Some(V0_33)) => Support::Panics,
        (10..=15, _) => Support::Refused,
        _ => return None,
    };
    Some(support)
}

#[cfg(test)]
mod tests {
    use super::{ProtocolVersion, Support, TmkmsVersion, support};

    #[test]
    fn the_table_of_what_was_run() {
        use Support::{Panics as P, Refused as R, Works as W};
        for (versions, row) in [
            (&["0.10.1", "0.11.0", "0.12.2"][..], [W, W, W, R, R]),
            (&["0.13.1", "0.14.0"][..], [R, P, W, R, R]),
            (&["0.15.0"][..], [R, R, W, W, W]),
        ] {
            for version in versions {
                let tmkms: TmkmsVersion = version.parse().unwrap();
                let protocols = ProtocolVersion::ALL.into_iter().map(Some).chain([None]);
                for (protocol, expected) in protocols.zip(row) {
                    assert_eq!(
                        support(tmkms, protocol),
                        Some(expected),
                        "{version} {protocol:?}"
                    );
                }
            }
        }
        for unknown in ["0.9.0", "0.16.0", "1.12.0"] {
            assert_eq!(
                support(unknown.parse().unwrap(), Some(ProtocolVersion::V0_34)),
                None,
                "{unknown}"
            );
        }
    }

    #[test]
    fn versions_as_tmkms_prints_them() {
        for (text, shown) in [
            ("tmkms 0.10.1\n", "0.10.1"),
            ("0.12.2\n", "0.12.2"),
            ("0.15.0", "0.15.0"),
        ] {
            assert_eq!(text.parse::<TmkmsVersion>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "tmkms",
            "0.12",
            "0.12.2.1",
            "v0.12.2",
            "0.13.0-pre.1",
            "0.+1.0",
            "gaia 0.1.2",
            "0.1.99999999999999999999",
        ] {
            assert!(bad.parse::<TmkmsVersion>().is_err(), "{bad}");
        }
        assert!("0.9.9".parse::<TmkmsVersion>().unwrap() < "0.10.1".parse().unwrap());
    }

    #[test]
    fn protocols_are_strings() {
        for version in ProtocolVersion::ALL {
            let json = serde_json::to_string(&version).unwrap();
            assert_eq!(json, format!("\"{version}\""));
            assert_eq!(
                serde_json::from_str::<ProtocolVersion>(&json).unwrap(),
                version
            );
        }
        for bad in ["v0.37", "v1", "v1.0", "0.34", "V0.34", "Legacy", ""] {
            assert!(bad.parse::<ProtocolVersion>().is_err(), "{bad}");
        }
    }
}
