//! systemd unit names and unit text: what kmsctl must know of both, parsed from text and never from files.
//!
//! The live host asks systemd itself what a unit means; this reading serves `--root`, where no systemd runs, and the
//! edits, which need to know where in the text a value stands.

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

    /// The signer that the unit runs: its stem without a trailing `.vN`.
    pub fn signer(&self) -> &str {
        without_revision(self.stem())
    }
}

/// Cuts a trailing `.vN` (N decimal) off a name, if there is one.
pub fn without_revision(stem: &str) -> &str {
    match stem.rsplit_once(".v") {
        Some((head, digits))
            if !head.is_empty()
                && !digits.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit()) =>
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
                let range = entry.syntax().text_range();
                let span = usize::from(range.start())..usize::from(range.end());
                settings.push(Setting {
                    section: name.clone(),
                    key: entry.key().unwrap_or_default(),
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

/// Splits an Exec line into its words as systemd does: blanks separate, single and double quotes group, a backslash
/// escapes.
///
/// # Errors
/// An unclosed quote, or one of systemd's rarer escapes.
pub fn split_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut in_word = false;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                in_word = true;
                match chars.next() {
                    Some('s') => word.push(' '),
                    Some(c @ ('\\' | '"' | '\'' | ' ')) => word.push(c),
                    _ => return Err("an escape that kmsctl doesn't read".into()),
                }
            }
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                in_word = true;
            }
            (c, None) if c.is_whitespace() => {
                if in_word {
                    words.push(std::mem::take(&mut word));
                    in_word = false;
                }
            }
            (c, None) => {
                in_word = true;
                word.push(c);
            }
        }
    }
    if quote.is_some() {
        return Err("a quote that isn't closed".into());
    }
    if in_word {
        words.push(word);
    }
    Ok(words)
}

/// Expands the specifiers that a unit file may use for itself (`%n`, `%N`, `%p`, `%i`, `%%`).
///
/// # Errors
/// Any other specifier: outside a running systemd its value is unknown.
pub fn expand(text: &str, unit: &UnitName) -> Result<String, String> {
    let stem = unit.stem();
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push_str(unit.as_str()),
            Some('N') => out.push_str(stem),
            Some('p') => out.push_str(prefix),
            Some('i') => out.push_str(instance),
            Some('%') => out.push('%'),
            Some(other) => {
                return Err(format!(
                    "the specifier %{other} is known only to a running systemd"
                ));
            }
            None => return Err("a lone % at the end".into()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_only_a_revision() {
        let signer = |n: &str| n.parse::<UnitName>().unwrap().signer().to_owned();
        assert_eq!(signer("tmkms-01.v3.service"), "tmkms-01");
        assert_eq!(signer("tmkms-01.service"), "tmkms-01");
        assert_eq!(signer("tmkms-01.vx.service"), "tmkms-01.vx");
        assert_eq!(signer("a.v3.v4.service"), "a.v3");
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
    fn words_split_as_systemd_splits_them() {
        assert_eq!(
            split_words(r#"/a/tmkms start -c "/x y/z.toml""#).unwrap(),
            ["/a/tmkms", "start", "-c", "/x y/z.toml"]
        );
        assert_eq!(split_words(r"a\ b c").unwrap(), ["a b", "c"]);
        assert!(split_words("a 'b").is_err());
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
        assert_eq!(split_words(&values[0]).unwrap(), ["b", "c"]);
    }
}
