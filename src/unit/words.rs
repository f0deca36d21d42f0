//! The words of a setting, and what specifiers and variables in them stand for, as systemd reads them (systemd.unit(5),
//! systemd.service(5)). What only a running systemd knows is refused, never guessed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::UnitName;

/// A word and where it stands in the text that it was split from, quotes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub span: Range<usize>,
}

/// Splits a line into its words: blanks and continued lines separate, quotes group, a backslash escapes.
///
/// # Errors
/// An unclosed quote, or one of systemd's rarer escapes.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    Ok(split_at(line)?.into_iter().map(|w| w.text).collect())
}

/// As [`split`], with the place of each word.
///
/// # Errors
/// As [`split`].
pub fn split_at(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        // A backslash at a line's end joins it with the next one: a blank.
        let continued = c == '\\' && chars.peek().is_some_and(|(_, c)| *c == '\n');
        if continued {
            chars.next();
        }
        if quote.is_none() && (continued || c.is_whitespace()) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(|| Word {
            text: String::new(),
            span: at..at,
        });
        match (c, quote) {
            _ if continued => word.text.push(' '),
            ('\\', _) => match chars.next() {
                Some((_, 's')) => word.text.push(' '),
                Some((_, c @ ('\\' | '"' | '\'' | ' '))) => word.text.push(c),
                _ => return Err("an escape that kmsctl doesn't read".into()),
            },
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.text.push(c),
            ('"' | '\'', None) => quote = Some(c),
            (c, None) => word.text.push(c),
        }
        word.span.end = chars.peek().map_or(line.len(), |(at, _)| *at);
    }
    if quote.is_some() {
        return Err("a quote that isn't closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// Expands the specifiers that the system's manager gives the same value on every host, and those of the unit's name.
///
/// # Errors
/// Any other specifier: outside a running systemd its value is unknown.
pub fn expand(text: &str, unit: &UnitName) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let Some(specifier) = chars.next() else {
            return Err("a lone % at the end".into());
        };
        let fixed = match specifier {
            '%' => "%",
            't' => "/run",
            'S' => "/var/lib",
            'C' => "/var/cache",
            'L' => "/var/log",
            'E' => "/etc",
            'T' => "/tmp",
            'V' => "/var/tmp",
            'h' => "/root",
            'u' | 'g' => "root",
            'U' | 'G' => "0",
            other => match of_name(other, unit) {
                Some(value) => {
                    out.push_str(&value);
                    continue;
                }
                None => {
                    return Err(format!(
                        "the specifier %{other} is known only to a running systemd"
                    ));
                }
            },
        };
        out.push_str(fixed);
    }
    Ok(out)
}

/// What a specifier takes from the unit's own name.
fn of_name(specifier: char, unit: &UnitName) -> Option<String> {
    let stem = unit.stem();
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    let last = prefix.rsplit_once('-').map_or(prefix, |(_, last)| last);
    Some(match specifier {
        'n' => unit.as_str().to_owned(),
        'N' => stem.to_owned(),
        'p' => prefix.to_owned(),
        'P' => unescaped(prefix),
        'i' => instance.to_owned(),
        'I' => unescaped(instance),
        'j' => last.to_owned(),
        'J' => unescaped(last),
        'f' => {
            let name = if instance.is_empty() {
                prefix
            } else {
                instance
            };
            format!("/{}", unescaped(name).trim_start_matches('/'))
        }
        _ => return None,
    })
}

/// systemd's escaping of names, undone: `-` is a slash, `\xNN` a byte.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let code = rest
            .strip_prefix("\\x")
            .and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        if let Some(byte) = code {
            bytes.push(byte);
            rest = &rest[4..];
            continue;
        }
        let plain = if c == '-' { '/' } else { c };
        bytes.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[c.len_utf8()..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text in which whatever the unit's own name decides is written out, so that it means the same under another name.
/// An instance keeps `%i` and `%I`.
pub fn pinned(text: &str, unit: &UnitName) -> String {
    let stem = unit.stem();
    let instance = stem.split_once('@').filter(|(_, i)| !i.is_empty());
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let specifier = if c == '%' { chars.next() } else { None };
        match (specifier, instance) {
            (None, _) => out.push(c),
            (Some('n'), Some((prefix, _))) => out.push_str(&format!("{prefix}@%i.service")),
            (Some('N'), Some((prefix, _))) => out.push_str(&format!("{prefix}@%i")),
            (Some(s @ ('i' | 'I')), _) | (Some(s @ 'f'), Some(_)) => {
                out.push('%');
                out.push(s);
            }
            (Some(s), _) => match of_name(s, unit) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push('%');
                    out.push(s);
                }
            },
        }
    }
    out
}

/// A unit's environment. Values may be secrets: they are looked up and never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Variables {
    /// Adds `NAME=value` words; later ones win.
    pub fn assign(&mut self, words: &[String]) {
        let pairs = words.iter().filter_map(|w| w.split_once('='));
        self.0
            .extend(pairs.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    /// Adds an `EnvironmentFile=`'s lines; they win over what was there (systemd.exec(5)).
    pub fn read(&mut self, text: &str) {
        let joined = text.replace("\\\n", "");
        for line in joined.lines().map(str::trim) {
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            if line.starts_with(['#', ';']) {
                continue;
            }
            // One value, blanks and all: quotes group, and nothing separates.
            let value = match split(value.trim()) {
                Ok(words) => words.join(" "),
                Err(_) => value.trim().to_owned(),
            };
            self.0.insert(name.trim().to_owned(), value);
        }
    }

    /// Adds others, which win.
    pub fn extend(&mut self, others: &Variables) {
        let others = others.0.iter().map(|(n, v)| (n.clone(), v.clone()));
        self.0.extend(others);
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Puts variables into a command's words: `${NAME}` anywhere, `$NAME` as a word of its own, which may become
    /// several, and `$$` for a dollar sign. The program itself is taken as it is.
    pub fn substitute(&self, words: &[String]) -> Vec<String> {
        let mut out = Vec::new();
        for (n, word) in words.iter().enumerate() {
            let named = |w: &str| {
                let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
                !w.is_empty() && w.chars().all(legal)
            };
            match word.strip_prefix('$') {
                _ if n == 0 => out.push(word.clone()),
                Some(name) if named(name) => {
                    let value = self.get(name).unwrap_or_default();
                    out.extend(value.split_whitespace().map(str::to_owned));
                }
                _ => out.push(self.within(word)),
            }
        }
        out
    }

    /// The first variable that words use and nothing sets.
    pub fn unset<'a>(&self, words: &'a [String]) -> Option<&'a str> {
        let names = words.iter().skip(1).filter_map(|word| {
            let at = word.find("${")?;
            Some(word[at + 2..].split_once('}')?.0)
        });
        let mut unset = names.filter(|name| self.get(name).is_none());
        unset.next()
    }

    fn within(&self, word: &str) -> String {
        let mut out = String::new();
        let mut rest = word;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let braced = rest.strip_prefix("${").and_then(|r| r.split_once('}'));
            if let Some((name, after)) = braced {
                out.push_str(self.get(name).unwrap_or_default());
                rest = after;
            } else {
                out.push('$');
                rest = rest.strip_prefix("$$").unwrap_or(&rest[1..]);
            }
        }
        out + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_as_systemd_splits_them() {
        assert_eq!(
            split(r#"/a/tmkms start -c "/x y/z.toml""#).unwrap(),
            ["/a/tmkms", "start", "-c", "/x y/z.toml"]
        );
        assert_eq!(split(r"a\ b c").unwrap(), ["a b", "c"]);
        assert_eq!(split("a \\\n  b").unwrap(), ["a", "b"]);
        assert!(split("a 'b").is_err());
    }

    #[test]
    fn a_word_knows_its_place() {
        let line = "/b/t  'x y' \\\n-c";
        let words = split_at(line).unwrap();
        let raw: Vec<&str> = words.iter().map(|w| &line[w.span.clone()]).collect();
        assert_eq!(raw, ["/b/t", "'x y'", "-c"]);
    }

    #[test]
    fn specifiers_follow_the_name() {
        let name = |n: &str| n.parse::<UnitName>().unwrap();
        let unit = name("kms-tmkms@a-b.service");
        for (text, wanted) in [
            ("%n %N %p", "kms-tmkms@a-b.service kms-tmkms@a-b kms-tmkms"),
            ("%i %I %j %f", "a-b a/b tmkms /a/b"),
            ("%S/%%/%t", "/var/lib/%//run"),
        ] {
            assert_eq!(expand(text, &unit).unwrap(), wanted);
        }
        assert!(expand("%H", &unit).unwrap_err().contains("%H"));
        assert_eq!(pinned("/x/%N/%i/%S", &unit), "/x/kms-tmkms@%i/%i/%S");
        assert_eq!(pinned("%n %p %%", &name("a.service")), "a.service a %%");
    }

    #[test]
    fn variables_stand_where_systemd_puts_them() {
        let mut variables = Variables::default();
        variables.assign(&["A=/x".into(), "B=-c /y z".into()]);
        variables.read("# A=no\nA=\"/file path\"\nC = 1\n");
        let words: Vec<String> = ["$A", "start", "${A}/t", "$B", "$$A", "$NO"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(
            variables.substitute(&words),
            ["$A", "start", "/file path/t", "-c", "/y", "z", "$A"]
        );
        assert!(!format!("{variables:?}").contains("path"));
        let words = ["${NO}", "-c${A}", "$$", "x${NO}"].map(str::to_owned);
        assert_eq!(variables.unset(&words), Some("NO"));
        assert_eq!(variables.unset(&words[..3]), None);
    }
}
