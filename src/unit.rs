//! systemd unit names and unit text: what kmsctl must know of both, parsed from text and never from files.
//!
//! The live host asks systemd itself what a unit means; this reading serves `--root`, where no systemd runs, and the
//! edits, which need to know where in the text a value stands.

pub mod effective;
pub mod words;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use systemd_unit_edit::SystemdUnit;

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
    /// prefix up to a dash, its template, itself.
    pub fn drop_in_names(&self) -> Vec<String> {
        let stem = self.stem();
        let (prefix, template) = match stem.split_once('@') {
            Some((prefix, _)) => (prefix, "@"),
            None => (stem, ""),
        };
        let mut names = vec!["service".to_owned()];
        let dashes = prefix.match_indices('-').map(|(at, _)| &prefix[..=at]);
        names.extend(dashes.map(|p| format!("{p}{template}.service")));
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

/// One `Key=value` of a unit file, and where it stands.
#[derive(Clone, Debug)]
pub struct Setting {
    pub section: String,
    pub key: String,
    /// The value as systemd reads it: continuations joined, surrounding blanks cut.
    pub value: String,
    /// The bytes of the whole entry in the text, key and line end included.
    pub span: Range<usize>,
    /// 1-based.
    pub line: usize,
}

/// A unit file, or a drop-in, read from its text.
#[derive(Clone, Debug, Default)]
pub struct UnitText {
    pub settings: Vec<Setting>,
}

/// Why a unit's text couldn't be read.
#[derive(Clone, Debug)]
pub struct UnitTextError {
    /// 1-based.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for UnitTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl UnitText {
    /// Reads a unit's text.
    ///
    /// # Errors
    /// A line that the parser doesn't understand. It knows fewer forms than systemd (a comment inside a continuation
    /// is one it rejects): what can't be read is refused, never guessed.
    pub fn parse(text: &str) -> Result<UnitText, UnitTextError> {
        if let Some(line) = indented_head(text) {
            let message = "an indented line before the first section".to_owned();
            return Err(UnitTextError { line, message });
        }
        let parsed = systemd_unit_edit::Parse::<SystemdUnit>::parse_unit(text);
        if let Some(message) = parsed.errors().first() {
            // Some errors come without a place.
            let at = parsed
                .positioned_errors()
                .first()
                .map(|e| usize::from(e.range.start()));
            return Err(UnitTextError {
                line: at.map_or_else(|| first_odd_line(text), |at| line_of(text, at)),
                message: message.clone(),
            });
        }
        let mut settings = Vec::new();
        for section in parsed.tree().sections() {
            let name = section.name().unwrap_or_default();
            for entry in section.entries() {
                // A comment is an entry without a key to the parser; nobody runs what it says.
                let Some(key) = entry.key() else {
                    continue;
                };
                let range = entry.syntax().text_range();
                let span = usize::from(range.start())..usize::from(range.end());
                settings.push(Setting {
                    section: name.clone(),
                    key,
                    value: entry.value().unwrap_or_default().trim().to_owned(),
                    line: line_of(text, span.start),
                    span,
                });
            }
        }
        Ok(UnitText { settings })
    }

    /// All values of a key, in order, as systemd takes them: an empty assignment drops what came before.
    pub fn list(&self, section: &str, key: &str) -> Vec<&Setting> {
        let mut found: Vec<&Setting> = Vec::new();
        for setting in self
            .settings
            .iter()
            .filter(|s| s.section == section && s.key == key)
        {
            if setting.value.is_empty() {
                found.clear();
            } else {
                found.push(setting);
            }
        }
        found
    }

    /// The last value of a key.
    pub fn last(&self, section: &str, key: &str) -> Option<&str> {
        self.list(section, key).last().map(|s| s.value.as_str())
    }

    /// Adds a drop-in's settings after these, as systemd does.
    pub fn extend(&mut self, drop_in: UnitText) {
        self.settings.extend(drop_in.settings);
    }
}

/// An indented line before the first section: systemd-unit-edit 0.1.4 never returns from one.
fn indented_head(text: &str) -> Option<usize> {
    let head = text.lines().take_while(|line| !line.starts_with('['));
    let mut indented = head
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && line.starts_with(char::is_whitespace));
    indented.next().map(|(n, _)| n + 1)
}

/// The first line that is neither blank, nor a comment, a section or a setting, nor goes on from the one before.
fn first_odd_line(text: &str) -> usize {
    let mut continued = false;
    for (n, line) in text.lines().enumerate() {
        let plain = line.trim();
        let setting = plain.contains('=') && !line.starts_with(char::is_whitespace);
        let known = plain.is_empty() || plain.starts_with(['#', ';', '[']) || setting;
        if !known && !continued {
            return n + 1;
        }
        continued = line.ends_with('\\');
    }
    1
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

    #[test]
    fn indentation_is_refused_with_its_line_and_never_hangs() {
        for (text, line) in [
            (" x\n", 1),
            ("  [Service]\nNice=1\n", 1),
            ("# a\n second\n[Service]\n", 2),
            ("[Service]\nNice=1\n\n  Foo=2\n", 4),
        ] {
            assert_eq!(UnitText::parse(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn an_empty_assignment_drops_what_came_before() {
        let text =
            UnitText::parse("[Service]\nExecStart=a\nExecStart=\nExecStart=b \\\n  c\n").unwrap();
        let values: Vec<_> = text
            .list("Service", "ExecStart")
            .iter()
            .map(|s| s.value.clone())
            .collect();
        assert_eq!(values.len(), 1);
        assert_eq!(words::split(&values[0]).unwrap(), ["b", "c"]);
    }
}
