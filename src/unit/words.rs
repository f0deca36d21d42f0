//! The words of a setting, and what specifiers in them stand for, as systemd reads them (systemd.unit(5),
//! systemd.service(5)). What only a running systemd knows is refused, never guessed.

use std::ops::Range;

use super::UnitName;

/// A word and where it stands in the text that it was split from, quotes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub span: Range<usize>,
}

/// What separates words (systemd's `WHITESPACE`).
pub const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

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
        let rest = &line[at + c.len_utf8()..];
        let continued = c == '\\' && (rest.starts_with('\n') || rest.starts_with("\r\n"));
        if continued {
            while chars.next().is_some_and(|(_, c)| c == '\r') {}
        }
        if quote.is_none() && (continued || BLANKS.contains(&c)) {
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
                Some((_, c @ ('\\' | '"' | '\''))) => word.text.push(c),
                // A command's own semicolon, as a word (systemd.service(5)).
                Some((end, ';')) if word.span.start == at => {
                    if !line[end + 1..].is_empty() && !line[end + 1..].starts_with(BLANKS) {
                        return Err("an escape that kmsctl doesn't read".into());
                    }
                    word.text.push(';');
                }
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
    let mut unknown = None;
    let expanded = with_specifiers(text, |specifier| {
        let value = fixed(specifier).or_else(|| of_name(specifier, unit));
        if value.is_none() {
            unknown.get_or_insert(specifier);
        }
        value
    });
    match unknown {
        Some('\0') => Err("a lone % at the end".into()),
        Some(other) => Err(format!(
            "the specifier %{other} is known only to a running systemd"
        )),
        None => Ok(expanded),
    }
}

/// As [`expand`], but a specifier that only a running systemd knows stays as it is.
pub fn expand_known(text: &str, unit: &UnitName) -> String {
    with_specifiers(text, |specifier| match specifier {
        // Nor may what follows become a specifier.
        '%' => None,
        other => fixed(other).or_else(|| of_name(other, unit)),
    })
}

/// A text with a value in place of each specifier that has one; a lone `%` at the end is the specifier NUL.
fn with_specifiers(text: &str, mut value: impl FnMut(char) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let specifier = chars.next();
        match value(specifier.unwrap_or('\0')) {
            Some(value) => out.push_str(&value),
            None => out.extend(std::iter::once('%').chain(specifier)),
        }
    }
    out
}

/// What a specifier means to the system's manager on every host.
fn fixed(specifier: char) -> Option<String> {
    let value = match specifier {
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
        _ => return None,
    };
    Some(value.to_owned())
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

/// The specifiers that the unit's own name or its file's place decides, with where they stand.
pub fn named_by_unit(text: &str) -> Vec<(Range<usize>, char)> {
    let mut found = Vec::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let specifier = if c == '%' { chars.next() } else { None };
        if let Some((end, s @ ('n' | 'N' | 'p' | 'P' | 'i' | 'I' | 'j' | 'J' | 'f' | 'y' | 'Y'))) =
            specifier
        {
            found.push((at..end + 1, s));
        }
    }
    found
}

/// What to write in place of a specifier so that it means the same in a unit of another name; none where it does
/// already. An instance keeps `%i` and `%I`.
///
/// # Errors
/// It depends on more than the name, or its value would mean something else in a unit's text.
pub fn pinned(specifier: char, old: &UnitName, new: &UnitName) -> Result<Option<String>, String> {
    let same_instance = old.instance().is_some() && old.instance() == new.instance();
    let prefix = old.stem().split('@').next().unwrap_or_default();
    let (written, rest) = match specifier {
        'y' | 'Y' => {
            return Err(format!(
                "%{specifier} is where the unit's file lies, which differs for {new}"
            ));
        }
        _ if of_name(specifier, old) == of_name(specifier, new) => return Ok(None),
        'n' if same_instance => (prefix.to_owned(), "@%i.service"),
        'N' if same_instance => (prefix.to_owned(), "@%i"),
        other => (of_name(other, old).unwrap_or_default(), ""),
    };
    // Escapes, separators and quotes are read differently by each setting.
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.@/-".contains(c);
    if !written.chars().all(plain) {
        return Err(format!(
            "%{specifier} would mean something else in {new}, and what it means in {old} can't be written out"
        ));
    }
    Ok(Some(format!("{written}{rest}")))
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
        assert_eq!(split(r"a\sb c").unwrap(), ["a b", "c"]);
        assert_eq!(split("a \\\n  b").unwrap(), ["a", "b"]);
        assert_eq!(split("a \\\r\n  b\r\n").unwrap(), ["a", "b"]);
        assert_eq!(split("a\u{a0}b \\; ';'").unwrap(), ["a\u{a0}b", ";", ";"]);
        assert!(split(r"a\;b").is_err() && split(r"\;b").is_err());
        assert!(split(r"a\ b").is_err(), "systemd keeps the backslash");
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
        assert_eq!(expand_known("%p/%H/%%p/%", &unit), "kms-tmkms/%H/%%p/%");
    }

    #[test]
    fn a_specifier_is_written_out_where_another_name_would_change_it() {
        let name = |n: &str| n.parse::<UnitName>().unwrap();
        let pin = |s, old: &str, new: &str| pinned(s, &name(old), &name(new));
        let plain = ("kms-a.service", "kms-a.v3.service");
        for (specifier, wanted) in [
            ('n', "kms-a.service"),
            ('p', "kms-a"),
            ('j', "a"),
            ('f', "/kms/a"),
        ] {
            let found = pin(specifier, plain.0, plain.1).unwrap();
            assert_eq!(found.as_deref(), Some(wanted), "%{specifier}");
        }
        assert_eq!(pin('i', "k@1.service", "k.v3@1.service"), Ok(None));
        assert_eq!(
            pin('N', "k@1.service", "k.v3@1.service").unwrap().unwrap(),
            "k@%i"
        );
        for (specifier, old, new) in [
            ('y', plain.0, plain.1),
            ('N', r"kms\x2da.service", r"kms\x2da.v3.service"),
            ('P', r"kms\x20a.service", r"kms\x20a.v3.service"),
            ('N', "kms:a.service", "kms:a.v3.service"),
        ] {
            let why = pin(specifier, old, new).unwrap_err();
            assert!(why.contains(&format!("%{specifier}")), "{why}");
        }
        let found: Vec<&str> = named_by_unit("%H-%N:%%n %y%")
            .into_iter()
            .map(|(at, _)| &"%H-%N:%%n %y%"[at])
            .collect();
        assert_eq!(found, ["%N", "%y"]);
    }
}
