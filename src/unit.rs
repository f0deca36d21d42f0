//! systemd unit names and unit text: what kmsctl must know of both, parsed from text and never from files.
//!
//! The live host asks systemd itself what a unit means; this reading serves `--root`, where no systemd runs, and the
//! edits, which need to know where in the text a value stands.

pub mod effective;
mod environment_file;
mod text;
pub mod variables;
pub mod words;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use text::{Setting, UnitText, UnitTextError};

/// A service unit's name, such as `tmkms-01.service`.
///
/// Only systemd's own alphabet (letters, digits, `:-_.\@`) and the suffix `.service`, 255 bytes at most.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = r"^[A-Za-z0-9:_.\\@-]+\.service$", "maxLength" = 255))]
pub struct UnitName(String);

impl UnitName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without `.service`.
    pub fn stem(&self) -> &str {
        self.0.strip_suffix(".service").unwrap_or(&self.0)
    }

    /// The signer that the unit runs: its stem without `.vN`, which an instance has before its `@`.
    pub fn signer(&self) -> String {
        match self.stem().split_once('@') {
            Some((prefix, instance)) => format!("{}@{instance}", without_revision(prefix)),
            None => without_revision(self.stem()).to_owned(),
        }
    }

    /// `tmkms@.service`: no unit by itself, but the text of its instances.
    pub fn is_template(&self) -> bool {
        self.stem().ends_with('@')
    }

    /// What stands after the `@`; none where the unit isn't an instance of a template.
    pub fn instance(&self) -> Option<&str> {
        let (_, instance) = self.stem().split_once('@')?;
        (!instance.is_empty()).then_some(instance)
    }

    /// The template that an instance is of.
    pub fn template(&self) -> Option<UnitName> {
        self.instance()?;
        let (prefix, _) = self.stem().split_once('@')?;
        Some(UnitName(format!("{prefix}@.service")))
    }
}

impl UnitName {
    /// The units' names whose drop-ins count for this one, the least specific first (systemd.unit(5)): `service`, each
    /// prefix up to a dash, its template, itself. An instance's prefixes have its instance and their templates.
    pub fn drop_in_names(&self) -> Vec<String> {
        let stem = self.stem();
        let (prefix, ends) = match stem.split_once('@') {
            Some((prefix, "")) => (prefix, vec!["@".to_owned()]),
            Some((prefix, instance)) => (prefix, vec![format!("@{instance}"), "@".to_owned()]),
            None => (stem, vec![String::new()]),
        };
        let mut names = vec!["service".to_owned()];
        for end in ends {
            let dashes = prefix.match_indices('-').map(|(at, _)| &prefix[..=at]);
            names.extend(dashes.map(|p| format!("{p}{end}.service")));
        }
        names.extend(self.template().map(|t| t.to_string()));
        names.push(self.to_string());
        names
    }
}

/// Cuts a trailing `.vN` off a name, if there is one: N is decimal, and letters may follow it (`.v3b`).
pub fn without_revision(stem: &str) -> &str {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    match stem.rsplit_once(".v") {
        Some((head, revision))
            if !head.is_empty()
                && revision.starts_with(|c: char| c.is_ascii_digit())
                && revision.bytes().all(legal) =>
        {
            head
        }
        _ => stem,
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> String {
        name.0
    }
}

impl TryFrom<String> for UnitName {
    type Error = anyhow::Error;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let stem = name
            .strip_suffix(".service")
            .ok_or_else(|| anyhow::anyhow!("{name:?} isn't the name of a service unit"))?;
        let legal = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
        if stem.is_empty() || name.len() > 255 || !stem.bytes().all(legal) {
            anyhow::bail!("{name:?} isn't a unit name that systemd takes");
        }
        Ok(UnitName(name))
    }
}

impl FromStr for UnitName {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        UnitName::try_from(name.to_owned())
    }
}

/// The 1-based line that holds a byte of a text.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_only_a_revision() {
        let signer = |n: &str| n.parse::<UnitName>().unwrap().signer();
        assert_eq!(signer("tmkms-01.v3.service"), "tmkms-01");
        assert_eq!(signer("tmkms-01.service"), "tmkms-01");
        assert_eq!(signer("tmkms-01.vx.service"), "tmkms-01.vx");
        assert_eq!(signer("a.v3.v4.service"), "a.v3");
        assert_eq!(signer("tmkms-01.v3b.service"), "tmkms-01");
        assert_eq!(signer("tmkms.v3@01.service"), "tmkms@01");
        assert_eq!(signer("tmkms@01.v3.service"), "tmkms@01.v3");
    }

    #[test]
    fn names_that_systemd_refuses_are_refused() {
        for bad in [
            "",
            ".service",
            "a/b.service",
            "a b.service",
            "a.socket",
            "a\n.service",
            "../a.service",
        ] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
    }
}
