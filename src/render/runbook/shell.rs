//! Words and comments of a shell script that nothing can break out of, whatever they hold.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::unit::UnitName;

/// Between words, where a command goes on on the next line.
const NEW_LINE: &str = " \\\n        ";

/// A text as one word of bash.
///
/// # Errors
/// A zero byte, which no word can hold.
pub fn quoted(text: &str) -> Result<String> {
    let word = shlex::try_quote(text).with_context(|| format!("quoting {text:?} for a shell"))?;
    Ok(word.into_owned())
}

/// A text as part of a comment: what could end its line becomes a question mark.
pub fn comment(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// A command being written, or words of one.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Line(String);

impl Line {
    /// A command of the script's own words.
    pub fn of(word: &'static str) -> Line {
        Line(word.to_owned())
    }

    pub fn word(mut self, text: &str) -> Result<Line> {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(&quoted(text)?);
        Ok(self)
    }

    pub fn path(self, path: &Path) -> Result<Line> {
        let text = path.to_str().with_context(|| {
            format!(
                "{}: a path that isn't UTF-8 can't stand in a runbook",
                path.display()
            )
        })?;
        self.word(text)
    }

    pub fn paths(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Line> {
        let path = |path: &dyn AsRef<Path>| Line::default().path(path.as_ref());
        let words: Result<Vec<Line>> = paths.into_iter().map(|p| path(&p)).collect();
        Ok(self.all(words?))
    }

    pub fn unit(self, unit: &UnitName) -> Result<Line> {
        self.word(unit.as_str())
    }

    pub fn units<'a>(self, units: impl IntoIterator<Item = &'a UnitName>) -> Result<Line> {
        let words = units.into_iter().map(|unit| Line::default().unit(unit));
        Ok(self.all(words.collect::<Result<_>>()?))
    }

    /// One more word follows, several get lines of their own.
    fn all(self, words: Vec<Line>) -> Line {
        let between = if words.len() == 1 { " " } else { NEW_LINE };
        words.into_iter().fold(self, |line, word| {
            Line(format!("{}{between}{}", line.0, word.0))
        })
    }

    /// A text on standard input, between two lines that it doesn't have itself.
    ///
    /// # Errors
    /// A text whose last line has no end.
    pub fn document(self, text: &str) -> Result<Line> {
        ensure!(
            text.ends_with('\n') && !text.contains('\0'),
            "{text:?} has no end of line, and can't stand in a runbook"
        );
        let mut end = "END".to_owned();
        while text.lines().any(|line| line == end) {
            end.push('_');
        }
        Ok(Line(format!("{} <<'{end}'\n{text}{end}", self.0)))
    }

    /// More words, on a line of their own.
    pub fn row(self, words: &[&str]) -> Result<Line> {
        let mut row = Line::default();
        for word in words {
            row = row.word(word)?;
        }
        Ok(Line(format!("{}{NEW_LINE}{}", self.0, row.0)))
    }
}
