//! A unit file's text: its settings and where each stands, as systemd reads them (systemd.syntax(7)). It never takes a
//! text for another one than systemd does: what it doesn't read alike, it refuses with the line.

use std::fmt;
use std::ops::Range;

/// One `Key=value` of a unit file, and where it stands.
#[derive(Clone)]
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

/// An `Environment=` may hold a password (rule S11).
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}= in line {}", self.section, self.key, self.line)
    }
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

/// One line, its end cut off, and where it stands with its end.
struct Line<'a> {
    text: &'a str,
    span: Range<usize>,
    /// 1-based.
    number: usize,
}

impl Line<'_> {
    fn is_comment(&self) -> bool {
        self.text.trim_start_matches(BLANKS).starts_with(['#', ';'])
    }

    /// Whether the next line goes on with this one: a backslash ends it that none before it escapes.
    fn goes_on(&self) -> bool {
        let backslashes = self.text.len() - self.text.trim_end_matches('\\').len();
        backslashes % 2 == 1
    }

    /// That systemd sees one line here too.
    fn is_one(&self) -> Result<(), UnitTextError> {
        match self.text.contains(['\0', '\r']) {
            true => Err(self.refused("a control character that ends the line for systemd")),
            false => Ok(()),
        }
    }

    fn refused(&self, message: &str) -> UnitTextError {
        UnitTextError {
            line: self.number,
            message: message.to_owned(),
        }
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

impl UnitText {
    /// Reads a unit's text.
    ///
    /// # Errors
    /// A line that systemd would pass over, saying so in its log; and what systemd takes and an edit couldn't keep
    /// apart: an indented setting, a comment inside a continued line.
    pub fn parse(text: &str) -> Result<UnitText, UnitTextError> {
        let mut settings = Vec::new();
        let mut section: Option<&str> = None;
        let mut lines = lines(text);
        while let Some(line) = lines.next() {
            line.is_one()?;
            let content = line.text.trim_matches(BLANKS);
            if content.is_empty() || line.is_comment() {
                continue;
            }
            // A backslash alone is a blank as well, and the setting stands in the next line.
            if line.text.starts_with(BLANKS) || line.text == "\\" {
                return Err(line.refused("an indented line that goes on with none before it"));
            }
            if let Some(header) = content.strip_prefix('[') {
                let name = header.strip_suffix(']').filter(|name| !name.is_empty());
                section = Some(name.ok_or_else(|| line.refused("a section without its end"))?);
                continue;
            }
            let (number, start) = (line.number, line.span.start);
            let (joined, end) = joined(line, &mut lines)?;
            let refused = |message: &str| UnitTextError {
                line: number,
                message: message.to_owned(),
            };
            let section = section.ok_or_else(|| refused("a line before the first section"))?;
            let Some((key, value)) = joined.split_once('=') else {
                return Err(refused("neither a setting, a section nor a comment"));
            };
            let key = key.trim_matches(BLANKS);
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if !key.starts_with(|c: char| c.is_ascii_alphabetic()) || !key.chars().all(legal) {
                return Err(refused("no setting has such a name"));
            }
            settings.push(Setting {
                section: section.to_owned(),
                key: key.to_owned(),
                value: value.trim_matches(BLANKS).to_owned(),
                span: start..end,
                line: number,
            });
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

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    (1..)
        .zip(text.split_inclusive('\n'))
        .map(move |(number, raw)| {
            let span = start..start + raw.len();
            start = span.end;
            let text = raw.strip_suffix('\n').unwrap_or(raw);
            let text = text.strip_suffix('\r').unwrap_or(text);
            Line { text, span, number }
        })
}

/// A line and those that it goes on with, each backslash between them a blank; and where the last one ends.
fn joined<'a>(
    first: Line<'a>,
    lines: &mut impl Iterator<Item = Line<'a>>,
) -> Result<(String, usize), UnitTextError> {
    let mut joined = first.text.to_owned();
    let (mut end, mut goes_on) = (first.span.end, first.goes_on());
    while goes_on {
        joined.pop();
        joined.push(' ');
        let Some(line) = lines.next() else { break };
        if line.is_comment() {
            return Err(line.refused("a comment inside a continued line"));
        }
        line.is_one()?;
        joined.push_str(line.text);
        (end, goes_on) = (line.span.end, line.goes_on());
    }
    Ok((joined, end))
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    #[test]
    fn what_systemd_reads_otherwise_is_refused_with_its_line() {
        for (text, line) in [
            (" x\n", 1),
            ("  [Service]\nNice=1\n", 1),
            ("# a\n second\n[Service]\n", 2),
            ("[Service]\nNice=1\n\n  Foo=2\n", 4),
            ("[Service]\n\\\nFoo=2\n", 2),
            ("[Service]\nExecStart=a \\\n# b\nNice=1\n", 3),
            ("[Service]\nExecStart=a \\\n  # b\n  c\n", 3),
            ("[Service]\nNice=1\rUser=k\n", 2),
            ("[Service]\n# a\0User=k\n", 2),
            ("[Service\nNice=1\n", 1),
            ("[Service]\nNice\n", 2),
            ("[Service]\n=1\n", 2),
            ("[Service]\nNi ce=1\n", 2),
            ("Nice=1\n", 1),
        ] {
            assert_eq!(UnitText::parse(text).unwrap_err().line, line, "{text:?}");
        }
    }

    #[test]
    fn blanks_say_nothing_wherever_they_stand() {
        for text in [
            "",
            " ",
            "\t\n",
            "# nothing here\n\t",
            "\n \n  # a\n ",
            " \r\n",
        ] {
            assert!(
                UnitText::parse(text).unwrap().settings.is_empty(),
                "{text:?}"
            );
        }
        let text = " \n\t\n[Service] \n \nNice=1 \n\t\n User";
        let mended = &text[..text.len() - " User".len()];
        assert_eq!(UnitText::parse(text).unwrap_err().line, 7);
        let parsed = UnitText::parse(mended).unwrap();
        assert_eq!(&mended[parsed.settings[0].span.clone()], "Nice=1 \n");
        assert_eq!(
            (parsed.settings[0].line, parsed.settings[0].value.as_str()),
            (5, "1")
        );
    }

    #[test]
    fn a_setting_knows_its_place_over_continued_lines() {
        let text = "[Service]\r\nExecStart=a \\\r\n b\r\n[X]\nA = c\\\\\nB=d \\\n\nC=e \\";
        let parsed = UnitText::parse(text).unwrap();
        let found: Vec<(&str, &str, &str)> = parsed
            .settings
            .iter()
            .map(|s| (s.section.as_str(), &text[s.span.clone()], s.value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("Service", "ExecStart=a \\\r\n b\r\n", "a   b"),
                ("X", "A = c\\\\\n", "c\\\\"),
                ("X", "B=d \\\n\n", "d"),
                ("X", "C=e \\", "e"),
            ]
        );
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
