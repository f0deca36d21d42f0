//! Texts with their secrets replaced, byte for byte as long: what a plan says of such a text (its lines, the places of its
//! edits, all that isn't a secret) stays true. Pure: text in, text out.
//!
//! What counts as a secret is decided where plans decide it, and the result is held against that: a text of which a plan
//! would see anything else than before is refused.

use std::ops::Range;

use super::placeholder::{Alphabet, Placeholders};
use crate::content::Role;
use crate::kms::tmkms::CONFIG_VARIABLE;
use crate::render;
use crate::render::unit::SECRET_SETTINGS;
use crate::unit::UnitText;
use crate::unit::words::named_by_unit;

/// Which variables a reader needs as they are: those that lead to the config.
pub trait Needed {
    fn needed(&self, name: &str, value: &str) -> bool;
}

/// A config's text: inline passwords, API keys, values of fields that no tmkms knows, and the comments that
/// [`tmkms_core::config::secret_spans`] takes for secrets.
///
/// # Errors
/// It isn't TOML, or it would read as another config.
pub fn config(text: &str, placeholders: &mut Placeholders) -> Result<String, String> {
    let spans = tmkms_core::config::secret_spans(text).map_err(|e| e.to_string())?;
    let mut out = text.as_bytes().to_vec();
    for span in spans {
        if text[..span.start].ends_with('#') {
            comment(text, span, &mut out, placeholders);
        } else if text[span.clone()].starts_with(['"', '\'']) {
            string(text, span, &mut out, placeholders);
        } else {
            bare(text, span, &mut out, placeholders);
        }
    }
    checked(Role::Config, text, out)
}

/// A comment goes on to set a field that nobody knows: so it is taken for a secret wherever this text is read again.
fn comment(text: &str, span: Range<usize>, out: &mut [u8], placeholders: &mut Placeholders) {
    let secret = text[span.clone()].trim().as_bytes();
    fill(out, span.clone(), secret, placeholders);
    if let Some(first) = out.get_mut(span.start).filter(|_| !span.is_empty()) {
        *first = b'=';
    }
}

fn string(text: &str, span: Range<usize>, out: &mut [u8], placeholders: &mut Placeholders) {
    let token = &text[span.clone()];
    let quotes = ["\"\"\"", "'''"]
        .iter()
        .find(|q| token.starts_with(**q) && token.len() >= 6)
        .map_or(1, |q| q.len());
    let inner = span.start + quotes..span.end - quotes;
    // Two spellings of one secret, with escapes and without, are told apart; nobody writes one both ways.
    let secret = text[inner.clone()].trim().as_bytes();
    fill(out, inner, secret, placeholders);
}

/// A number keeps its places; what is no number (`true`) says nothing.
fn bare(text: &str, span: Range<usize>, out: &mut [u8], placeholders: &mut Placeholders) {
    let token = text[span.clone()].as_bytes();
    let mut drawn = placeholders
        .draw(Alphabet::Digits, token, token.len())
        .into_iter();
    let hex = token.starts_with(b"0x");
    let start = span.start + if hex { 2 } else { 0 };
    for byte in &mut out[start..span.end] {
        if byte.is_ascii_digit() || (hex && byte.is_ascii_hexdigit()) {
            *byte = drawn.next().unwrap_or(b'1');
        }
    }
}

/// Writes a secret's stand-in over a range; line ends stay, and so does what joins lines.
fn fill(out: &mut [u8], range: Range<usize>, secret: &[u8], placeholders: &mut Placeholders) {
    let drawn = placeholders.draw(Alphabet::Letters, secret, range.len());
    let mut drawn = drawn.into_iter();
    for byte in &mut out[range] {
        if !matches!(*byte, b'\n' | b'\r') {
            *byte = drawn.next().unwrap_or(b'x');
        }
    }
}

/// A unit's or a drop-in's text: the values of `Environment=` but those that are needed, and of `SetCredential=`.
///
/// # Errors
/// A form that kmsctl doesn't read, or it would read as another unit.
pub fn unit(
    text: &str,
    needed: &dyn Needed,
    placeholders: &mut Placeholders,
) -> Result<String, String> {
    let parsed = UnitText::parse(text).map_err(|e| e.to_string())?;
    let mut out = text.as_bytes().to_vec();
    for setting in &parsed.settings {
        if !SECRET_SETTINGS.contains(&setting.key.as_str()) {
            continue;
        }
        let entry = &text[setting.span.clone()];
        let value = entry.find('=').map_or(entry.len(), |at| at + 1);
        let value = setting.span.start + value..setting.span.end;
        if setting.key == "Environment" {
            for word in words(text, value) {
                assignment(&word, needed, &mut out, placeholders);
            }
        } else {
            credential(text, value, &mut out, placeholders);
        }
    }
    checked(Role::Unit, text, out)
}

fn credential(text: &str, value: Range<usize>, out: &mut [u8], placeholders: &mut Placeholders) {
    let raw = &text[value.clone()];
    let name = raw.find(':').map_or(0, |at| at + 1);
    let end = raw.trim_end().len().max(name);
    let secret = raw[name..end].trim().as_bytes();
    let range = value.start + name..value.start + end;
    let joins = |at: &usize| {
        let rest = &text.as_bytes()[*at..];
        rest.starts_with(b"\\\n") || rest.starts_with(b"\\\r\n")
    };
    let joints: Vec<usize> = range.clone().filter(joins).collect();
    let specifiers: Vec<Range<usize>> = named_by_unit(&text[range.clone()])
        .into_iter()
        .map(|(at, _)| range.start + at.start..range.start + at.end)
        .collect();
    fill(out, range, secret, placeholders);
    for at in joints {
        out[at] = b'\\';
    }
    for at in specifiers {
        out[at.clone()].copy_from_slice(text[at].as_bytes());
    }
}

/// A character of a word, and the bytes that spell it.
type Spelled = (char, Range<usize>);

/// The words of a value where they stand, quotes left out, as systemd splits them.
fn words(text: &str, value: Range<usize>) -> Vec<Vec<Spelled>> {
    let mut words: Vec<Vec<Spelled>> = Vec::new();
    let mut word: Vec<Spelled> = Vec::new();
    let mut quote = None;
    let mut chars = text[value.clone()]
        .char_indices()
        .map(|(at, c)| (value.start + at, c))
        .peekable();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\\', _) => match chars.next() {
                // Lines are joined before anything else is read.
                Some((_, '\n')) if quote.is_some() => {}
                Some((_, '\r' | '\n')) => words.extend(Some(std::mem::take(&mut word))),
                Some((next, escaped)) => word.push((escaped, at..next + escaped.len_utf8())),
                None => word.push((c, at..at + 1)),
            },
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, None) if c.is_whitespace() => words.extend(Some(std::mem::take(&mut word))),
            (c, _) => word.push((c, at..at + c.len_utf8())),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Replaces the value of `NAME=value`; a word that is none is replaced whole.
fn assignment(
    word: &[Spelled],
    needed: &dyn Needed,
    out: &mut [u8],
    placeholders: &mut Placeholders,
) {
    let spell = |word: &[Spelled]| word.iter().map(|(c, _)| c).collect::<String>();
    let split = word.iter().position(|(c, _)| *c == '=');
    let (name, value) = match split {
        Some(at) => (spell(&word[..at]), &word[at + 1..]),
        None => (String::new(), word),
    };
    let secret = spell(value);
    if name == CONFIG_VARIABLE || (!name.is_empty() && needed.needed(&name, &secret)) {
        return;
    }
    // What the unit's name decides is no secret, and a plan sees it.
    let named: Vec<Range<usize>> = named_by_unit(&secret)
        .into_iter()
        .map(|(at, _)| at)
        .collect();
    let mut at = 0;
    let mut places = Vec::new();
    for (c, range) in value {
        if !named.iter().any(|specifier| specifier.contains(&at)) {
            places.extend(range.clone());
        }
        at += c.len_utf8();
    }
    let drawn = placeholders.draw(Alphabet::Letters, secret.as_bytes(), places.len());
    for (at, letter) in places.into_iter().zip(drawn) {
        out[at] = letter;
    }
}

/// An `EnvironmentFile=`: names stay, values but those that are needed are replaced, and so are comments.
pub fn environment_file(
    text: &str,
    needed: &dyn Needed,
    placeholders: &mut Placeholders,
) -> String {
    let mut out = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let end = end_of_entry(text, at);
        let entry = text[at..end].trim_end();
        let lead = entry.len() - entry.trim_start().len();
        let whole = at + lead..at + entry.len();
        if let Some(comment) = entry.trim_start().strip_prefix(['#', ';']) {
            fill(
                &mut out,
                whole.start + 1..whole.end,
                comment.trim().as_bytes(),
                placeholders,
            );
        } else if !whole.is_empty() {
            for_entry(text, whole, needed, &mut out, placeholders);
        }
        at = end;
    }
    // Only whole characters were replaced, by ASCII.
    String::from_utf8_lossy(&out).into_owned()
}

fn for_entry(
    text: &str,
    whole: Range<usize>,
    needed: &dyn Needed,
    out: &mut [u8],
    placeholders: &mut Placeholders,
) {
    let raw = &text[whole.clone()];
    let Some(split) = raw.find('=') else {
        return fill(out, whole, raw.as_bytes(), placeholders);
    };
    let name = raw[..split].trim();
    let value = raw[split + 1..].trim_start();
    let quoted = value.len() >= 2 && value.starts_with(['"', '\'']) && value.ends_with(&value[..1]);
    let quotes = usize::from(quoted);
    let inner = &value[quotes..value.len() - quotes];
    if name == CONFIG_VARIABLE || needed.needed(name, inner) {
        return;
    }
    let start = whole.end - value.len() + quotes;
    fill(
        out,
        start..start + inner.len(),
        inner.trim().as_bytes(),
        placeholders,
    );
}

/// An entry ends with its line, unless the line goes on or a quote is open.
fn end_of_entry(text: &str, start: usize) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let comment = text[start..]
        .trim_start_matches([' ', '\t'])
        .starts_with(['#', ';']);
    for (at, c) in text[start..].char_indices() {
        match c {
            '\n' if !escaped && (quote.is_none() || comment) => return start + at + 1,
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '"' | '\'' if !escaped && quote.is_none() => quote = Some(c),
            c if !escaped && quote == Some(c) => quote = None,
            _ => {}
        }
        escaped = false;
    }
    text.len()
}

/// Holds a replaced text against what plans see of it.
fn checked(role: Role, text: &str, out: Vec<u8>) -> Result<String, String> {
    let odd = || "a secret in it can't be replaced without changing what it says".to_owned();
    let out = String::from_utf8(out).map_err(|_| odd())?;
    let same = render::without_secrets(role, &out)? == render::without_secrets(role, text)?;
    if same { Ok(out) } else { Err(odd()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Only(&'static str);

    impl Needed for Only {
        fn needed(&self, name: &str, _value: &str) -> bool {
            name == self.0
        }
    }

    fn placeholders() -> Placeholders {
        Placeholders::new([7; 32])
    }

    #[test]
    fn a_config_loses_its_secrets_and_nothing_else() {
        let text = "# old password: hunter-two\r\n[[providers.yubihsm]] # kept as it is\r\n\
                    auth = { key = 1, password = \"hunter-two\" } # beside\r\npin = 12345\r\nflag = true\r\n\
                    more = '''hunter\n'two'''\nkeys = []\n";
        let made = config(text, &mut placeholders()).unwrap();
        assert_eq!(made.len(), text.len());
        assert_eq!(made.lines().count(), text.lines().count());
        for gone in ["hunter", "two", "12345", "old", "beside"] {
            assert!(!made.contains(gone), "{gone} in {made}");
        }
        for kept in [
            "# kept as it is\r\n",
            "auth = { key = 1, password = \"",
            "flag = true",
            "keys = []",
        ] {
            assert!(made.contains(kept), "no {kept} in {made}");
        }
    }

    #[test]
    fn one_password_is_one_in_a_file_and_in_a_config() {
        let mut placeholders = placeholders();
        let file = placeholders.text(b"hunter-two\n");
        let file = String::from_utf8(file).unwrap();
        let made = config("password = 'hunter-two'\n", &mut placeholders).unwrap();
        assert_eq!(made, format!("password = '{}'\n", file.trim_end()));
        let text = "[Service]\nEnvironment=\"PIN=hunter-two\" A=hunter-too\n";
        let made = unit(text, &Only(""), &mut placeholders).unwrap();
        assert!(
            made.contains(&format!("\"PIN={}\" A=", file.trim_end())),
            "{made}"
        );
        assert!(!made.contains(&format!("A={}", file.trim_end())), "{made}");
    }

    #[test]
    fn a_unit_keeps_what_leads_to_the_config() {
        let text = "[Service]\nEnvironment=PIN=12 \\\n  CFG=/k/a.toml 'B=x y'\n\
                    Environment=TMKMS_CONFIG_FILE=/k/b.toml C=d\nSetCredential=pin:12 34\nUser=k\n";
        let made = unit(text, &Only("CFG"), &mut placeholders()).unwrap();
        assert_eq!(made.len(), text.len());
        let named = "[Service]\nEnvironment=PIN=12%%34-%N\nSetCredential=pin:%%n12%p\n";
        let masked = unit(named, &Only("CFG"), &mut placeholders()).unwrap();
        assert!(
            masked.contains("%N\n") && masked.contains("%p\n"),
            "{masked}"
        );
        assert!(!masked.contains("%%") && !masked.contains("12"), "{masked}");
        for gone in ["PIN=12", "x y", "C=d", "12 34"] {
            assert!(!made.contains(gone), "{gone} in {made}");
        }
        for kept in [
            " \\\n  CFG=/k/a.toml 'B=",
            "TMKMS_CONFIG_FILE=/k/b.toml C=",
            "=pin:",
            "\nUser=k\n",
        ] {
            assert!(made.contains(kept), "no {kept} in {made}");
        }
    }

    #[test]
    fn an_environment_file_keeps_its_names() {
        let text =
            "# pin 12\nPIN=12\nLONG=\"one\ntwo\" \nGOES=on \\\n here\n\nCFG=/k/a.toml\nodd line\n";
        let made = environment_file(text, &Only("CFG"), &mut placeholders());
        assert_eq!(made.len(), text.len());
        for gone in ["12", "one", "two", "on ", "here", "odd", "line"] {
            assert!(!made.contains(gone), "{gone} in {made}");
        }
        for kept in ["\nPIN=", "\nLONG=\"", "\nGOES=", "\nCFG=/k/a.toml\n"] {
            assert!(made.contains(kept), "no {kept} in {made}");
        }
    }
}
