//! A unit's environment, and what a command's words become with it (systemd.service(5), "Command lines").

use std::collections::BTreeMap;
use std::fmt;

use super::environment_file;
use super::words::BLANKS;

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
        let legal = pairs.filter(|(name, _)| is_variable(name));
        self.0
            .extend(legal.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    /// Adds what an `EnvironmentFile=` sets; it wins over what was there (systemd.exec(5)).
    ///
    /// # Errors
    /// A line that systemd's versions read differently.
    pub fn read(&mut self, text: &str) -> Result<(), String> {
        let pairs = environment_file::read(text)?.into_iter();
        self.0.extend(pairs.filter(|(name, _)| is_variable(name)));
        Ok(())
    }

    /// Adds others, which win.
    pub fn extend(&mut self, others: &Variables) {
        let others = others.0.iter().map(|(n, v)| (n.clone(), v.clone()));
        self.0.extend(others);
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The first variable that has another value there, or none, and that `alike` doesn't let pass.
    pub fn differing<'a>(
        &'a self,
        other: &'a Variables,
        alike: impl Fn(&str, &str) -> bool,
    ) -> Option<&'a str> {
        let mut names = self.0.keys().chain(other.0.keys());
        let differs = |name: &&String| match (self.get(name), other.get(name)) {
            (Some(one), Some(two)) => one != two && !alike(one, two),
            _ => true,
        };
        names.find(differs).map(String::as_str)
    }

    /// Puts variables into a command's words: `${NAME}` anywhere, `$NAME` as a word of its own, which becomes the words
    /// of its value, and `$$` for a dollar sign. The program itself is taken as it is.
    pub fn substitute(&self, words: &[String]) -> Vec<String> {
        let mut out = Vec::new();
        for (n, word) in words.iter().enumerate() {
            match whole_word(word) {
                _ if n == 0 => out.push(word.clone()),
                Some(name) => out.extend(relaxed(self.get(name).unwrap_or_default())),
                None => out.push(self.within(word)),
            }
        }
        out
    }

    /// The first variable that words use and nothing sets.
    pub fn unset<'a>(&self, words: &'a [String]) -> Option<&'a str> {
        let braced = words
            .iter()
            .skip(1)
            .flat_map(|word| match whole_word(word) {
                Some(_) => Vec::new(),
                None => parts(word),
            });
        let mut names = braced.filter_map(|part| match part {
            Part::Variable(name) => Some(name),
            Part::Text(_) => None,
        });
        names.find(|name| self.get(name).is_none())
    }

    fn within(&self, word: &str) -> String {
        let value = |part| match part {
            Part::Text(text) => text,
            Part::Variable(name) => self.get(name).unwrap_or_default(),
        };
        parts(word).into_iter().map(value).collect()
    }
}

/// The variables that a command's words name.
pub fn used(words: &[String]) -> Vec<&str> {
    let of_word = |word| match whole_word(word) {
        Some(name) => vec![Part::Variable(name)],
        None => parts(word),
    };
    let parts = words.iter().skip(1).flat_map(|word| of_word(word));
    parts
        .filter_map(|part| match part {
            Part::Variable(name) => Some(name),
            Part::Text(_) => None,
        })
        .collect()
}

/// The variable that a whole word stands for.
fn whole_word(word: &str) -> Option<&str> {
    let name = word.strip_prefix('$')?;
    (!name.starts_with(['$', '{'])).then_some(name)
}

/// A piece of a word.
enum Part<'a> {
    Text(&'a str),
    /// `${NAME}`.
    Variable(&'a str),
}

fn parts(word: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        parts.push(Part::Text(&rest[..at]));
        rest = &rest[at..];
        let braced = rest.strip_prefix("${").and_then(|r| r.split_once('}'));
        if let Some((name, after)) = braced {
            parts.push(Part::Variable(name));
            rest = after;
        } else {
            parts.push(Part::Text("$"));
            rest = rest.strip_prefix("$$").unwrap_or(&rest[1..]);
        }
    }
    parts.push(Part::Text(rest));
    parts
}

/// The words of a variable's value: quotes group, a backslash takes its character as it is, and nothing is refused.
fn relaxed(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && BLANKS.contains(&c) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match (c, quote) {
            ('\\', _) => word.extend(chars.next()),
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (c, _) => word.push(c),
        }
    }
    words.extend(word);
    words
}

/// The name in `NAME` or `NAME=value`.
pub fn name(word: &str) -> String {
    word.split('=').next().unwrap_or_default().to_owned()
}

/// Whether a name is one that systemd lets into an environment.
fn is_variable(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_where_systemd_puts_them() {
        let mut variables = Variables::default();
        variables.assign(&["A=/x".into(), "B=-c /y z".into()]);
        variables.read("# A=no\nA=\"/file path\"\nC = 1\n").unwrap();
        let words: Vec<String> = ["$A", "start", "${A}/t", "$B", "$$A", "$NO"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(
            variables.substitute(&words),
            ["$A", "start", "/file path/t", "-c", "/y", "z", "$A"]
        );
        assert!(!format!("{variables:?}").contains("path"));
        variables.assign(&[r#"OPTS=start -c "/x y.toml" 'a b' c\d "e f"#.into()]);
        assert_eq!(
            variables.substitute(&["/b/tmkms", "$OPTS", "$A/x", "$"].map(str::to_owned)),
            ["/b/tmkms", "start", "-c", "/x y.toml", "a b", "cd", "e f"]
        );
        variables.assign(&["2=no".into(), "no name=1".into()]);
        assert!(variables.get("2").is_none() && variables.get("no name").is_none());
        let words = ["${NO}", "$${NO}", "$NO", "-c${A}"].map(str::to_owned);
        assert_eq!(variables.unset(&words), None);
        assert_eq!(used(&words), ["NO", "A"]);
        let words = ["${NO}", "-c${A}", "$$", "x${NO}"].map(str::to_owned);
        assert_eq!(variables.unset(&words), Some("NO"));
        assert_eq!(variables.unset(&words[..3]), None);
    }

    #[test]
    fn a_variable_that_differs_is_named() {
        let of = |words: &[&str]| {
            let mut variables = Variables::default();
            variables.assign(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
            variables
        };
        let (one, never) = (of(&["A=1", "B=2"]), |_: &str, _: &str| false);
        assert_eq!(one.differing(&one, never), None);
        assert_eq!(one.differing(&of(&["A=1", "B=3"]), never), Some("B"));
        assert_eq!(
            one.differing(&of(&["A=1", "B=3"]), |a, b| (a, b) == ("2", "3")),
            None
        );
        assert_eq!(one.differing(&of(&["B=2"]), |_, _| true), Some("A"));
        assert_eq!(of(&[]).differing(&one, |_, _| true), Some("A"));
    }
}
