//! The text of an `EnvironmentFile=`, character by character as systemd's parse_env_file reads it (env-file.c). Values
//! may be secrets: no error quotes one.

const NEWLINE: [char; 2] = ['\n', '\r'];
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];
/// What a backslash escapes between double quotes.
const ESCAPED: [char; 4] = ['"', '\\', '`', '$'];

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Comment,
    Name,
    /// After the `=`, or after a closing quote: blanks say nothing here.
    BeforeValue,
    Value,
    Escape,
    SingleQuotes,
    DoubleQuotes,
    DoubleQuotesEscape,
}

/// One that is being read.
#[derive(Default)]
struct Pair {
    name: String,
    value: String,
    /// How much of the value stays when the blanks at its end go: quoted and escaped ones do not.
    kept: usize,
}

impl Pair {
    fn take(&mut self) -> (String, String) {
        let pair = std::mem::take(self);
        let name = pair.name.trim_end_matches(BLANKS).to_owned();
        (name, pair.value[..pair.kept].to_owned())
    }

    fn keep(&mut self, c: char) {
        self.value.push(c);
        self.kept = self.value.len();
    }
}

/// Each name with its value, in the file's order; whether systemd takes such a name is for the caller.
///
/// # Errors
/// A comment that ends with a backslash: before systemd 254 it goes on in the next line, and since then it doesn't.
pub fn read(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut pair = Pair::default();
    let mut at = At::Start;
    let mut before = '\0';
    for (n, c) in text.chars().enumerate() {
        let ends = NEWLINE.contains(&c);
        let blank = BLANKS.contains(&c);
        at = match at {
            At::Start if c == '#' || c == ';' => At::Comment,
            At::Start if blank => At::Start,
            At::Start => {
                pair.name.push(c);
                At::Name
            }
            At::Comment if ends && before == '\\' => {
                let line = 1 + text.chars().take(n).filter(|c| *c == '\n').count();
                return Err(format!("line {line}: a comment that ends with a backslash"));
            }
            At::Comment if ends => At::Start,
            At::Comment => At::Comment,
            At::Name if ends => {
                pair = Pair::default();
                At::Start
            }
            At::Name if c == '=' => At::BeforeValue,
            At::Name => {
                pair.name.push(c);
                At::Name
            }
            At::BeforeValue | At::Value if ends => {
                found.push(pair.take());
                At::Start
            }
            At::BeforeValue | At::Value if c == '\\' => {
                pair.kept = pair.value.len();
                At::Escape
            }
            At::BeforeValue if c == '\'' => At::SingleQuotes,
            At::BeforeValue if c == '"' => At::DoubleQuotes,
            At::BeforeValue if blank => At::BeforeValue,
            At::Value if blank => {
                pair.value.push(c);
                At::Value
            }
            At::BeforeValue | At::Value => {
                pair.keep(c);
                At::Value
            }
            // A line that goes on leaves nothing of its backslash.
            At::Escape => {
                if !ends {
                    pair.keep(c);
                }
                At::Value
            }
            At::SingleQuotes if c == '\'' => At::BeforeValue,
            At::DoubleQuotes if c == '"' => At::BeforeValue,
            At::DoubleQuotes if c == '\\' => At::DoubleQuotesEscape,
            At::SingleQuotes | At::DoubleQuotes => {
                pair.keep(c);
                at
            }
            At::DoubleQuotesEscape => {
                if !ESCAPED.contains(&c) && c != '\n' {
                    pair.keep('\\');
                }
                if c != '\n' {
                    pair.keep(c);
                }
                At::DoubleQuotes
            }
        };
        before = c;
    }
    // The end of the file closes whatever is open, but a name without `=` is nothing.
    if !matches!(at, At::Start | At::Comment | At::Name) {
        found.push(pair.take());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        let found = read(text).unwrap();
        assert_eq!(found.len(), 1, "{text:?} {found:?}");
        assert_eq!(found[0].0, "A", "{text:?}");
        found[0].1.clone()
    }

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        // tests/lab/environment.rs asks a real one.
        for (text, wanted) in [
            ("A=1", "1"),
            (" A = 1 2 \t\r\n", "1 2"),
            ("A=", ""),
            ("A=\"x y\"z", "x yz"),
            ("A='x' 'y'", "xy"),
            ("A=\"a\nb\"\n", "a\nb"),
            (r#"A="a\"\\\$\n""#, r#"a"\$\n"#),
            (r"A='a\'", r"a\"),
            (r"A=a\ b\\c\n", r"a b\cn"),
            ("A=a \\\n b", "a  b"),
            ("A=\"a \\\n b\"", "a  b"),
            ("A=it's # here", "it's # here"),
            ("A=x\"y\"", "x\"y\""),
            ("A=a\\ ", "a "),
            ("A=\"open", "open"),
            ("# no\n ; nor this\nno line\n\nA=1\nlast", "1"),
        ] {
            assert_eq!(value(text), wanted, "{text:?}");
        }
        assert_eq!(read("export A=1\n").unwrap()[0].0, "export A");
    }

    #[test]
    fn a_comment_that_may_go_on_is_refused() {
        let why = read("B=1\n# a \\\nA=1\n").unwrap_err();
        assert!(why.starts_with("line 2:"), "{why}");
    }
}
