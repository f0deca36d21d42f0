//! The new unit and the copies of drop-ins: the old text with every mention of a moved path replaced.

use std::path::Path;

use tmkms_core::edit::Edit;

use crate::content::Change;
use crate::kms::tmkms::CONFIG_VARIABLE;
use crate::unit::{UnitText, line_of, split_words};

/// What stands in for the values of a setting that may be secret.
pub const PLACEHOLDER: &str = "<secret>";

/// A path that moves, and why.
pub struct Moved<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub why: &'a str,
}

/// The edits that replace each moved path wherever it stands as a whole word of a setting's value.
///
/// # Errors
/// 1-based line and reason, where the text can't be read or a path can't stand in a unit.
pub fn edits(text: &str, moved: &[Moved<'_>]) -> Result<Vec<Change>, (usize, String)> {
    let parsed = UnitText::parse(text).map_err(|e| (e.line, e.message))?;
    let mut changes: Vec<Change> = Vec::new();
    for setting in &parsed.settings {
        let entry = &text[setting.span.clone()];
        let value = entry.find('=').map_or(0, |at| at + 1);
        for path in moved {
            for (at, _) in entry
                .match_indices(path.from)
                .filter(|(at, _)| *at >= value)
            {
                let end = at + path.from.len();
                if !starts_word(&entry[..at]) || !ends_word(&entry[end..]) {
                    continue;
                }
                let span = setting.span.start + at..setting.span.start + end;
                let line = line_of(text, span.start);
                if !plain(path.to) {
                    let reason =
                        format!("{:?} can't stand in a unit file without quoting", path.to);
                    return Err((line, reason));
                }
                changes.push(Change {
                    edit: Edit {
                        span,
                        line,
                        from: path.from.to_owned(),
                        to: path.to.to_owned(),
                        raw_from: path.from.to_owned(),
                        raw_to: path.to.to_owned(),
                    },
                    why: path.why.to_owned(),
                });
            }
        }
    }
    changes.sort_by_key(|c| c.edit.span.start);
    Ok(changes)
}

/// The text with the values cut out that may be secrets: environment and credentials, but not tmkms' own variable.
///
/// # Errors
/// The text can't be read.
pub fn without_secrets(text: &str) -> Result<String, String> {
    const SECRET: [&str; 3] = ["Environment", "SetCredential", "SetCredentialEncrypted"];
    let parsed = UnitText::parse(text).map_err(|e| e.to_string())?;
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for setting in parsed
        .settings
        .iter()
        .filter(|s| SECRET.contains(&s.key.as_str()))
    {
        let words = split_words(&setting.value).unwrap_or_default();
        let own = |word: &String| word.starts_with(&format!("{CONFIG_VARIABLE}="));
        if !words.is_empty() && words.iter().all(own) {
            continue;
        }
        let entry = &text[setting.span.clone()];
        let value = entry.find('=').map_or(entry.len(), |at| at + 1);
        out.push_str(&text[done..setting.span.start + value]);
        out.push_str(PLACEHOLDER);
        out.push('\n');
        done = setting.span.end;
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// A path in a value is led by a blank, a quote, or one of systemd's prefixes and separators.
fn starts_word(before: &str) -> bool {
    before
        .chars()
        .next_back()
        .is_none_or(|c| c.is_whitespace() || "\"'=:-+!@|".contains(c))
}

fn ends_word(after: &str) -> bool {
    after
        .chars()
        .next()
        .is_none_or(|c| c.is_whitespace() || "\"':\\;".contains(c))
}

/// No blank, quote, specifier, variable or control character: the path means itself in a unit.
fn plain(path: &str) -> bool {
    path.chars()
        .all(|c| !c.is_whitespace() && !c.is_control() && !"\"'\\%$".contains(c))
}

/// Applies edits to a text.
///
/// # Errors
/// The text at an edit's place isn't what the edit replaces.
pub fn splice(text: &str, edits: &[Edit]) -> Result<String, String> {
    let mut out = String::with_capacity(text.len() + 64);
    let mut done = 0;
    for edit in edits {
        if edit.span.start < done || text.get(edit.span.clone()) != Some(edit.raw_from.as_str()) {
            return Err(format!(
                "line {}: the text isn't the one that the plan was made from",
                edit.line
            ));
        }
        out.push_str(&text[done..edit.span.start]);
        out.push_str(&edit.raw_to);
        done = edit.span.end;
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// Where a drop-in's name lies in its unit's own folder; `None` for a drop-in that the new unit inherits anyway.
pub fn own_drop_in(path: &Path, unit: &str) -> Option<String> {
    let folder = path.parent()?.file_name()?.to_str()?;
    (folder == format!("{unit}.d")).then(|| path.file_name()?.to_str().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, from: &str, to: &str) -> String {
        let changes = edits(text, &[Moved { from, to, why: "" }]).unwrap();
        let edits: Vec<Edit> = changes.into_iter().map(|c| c.edit).collect();
        splice(text, &edits).unwrap()
    }

    #[test]
    fn only_whole_words_of_values_are_replaced() {
        let text = "# /k/a.toml\n[Service]\nExecStart=/b/tmkms start \\\n  -c \"/k/a.toml\"\n\
                    ReadWritePaths=-/k/a.toml /k/a.toml.bak\nBindPaths=/k/a.toml:/x\n";
        let new = replaced(text, "/k/a.toml", "/k/a.v3.toml");
        assert_eq!(
            new,
            "# /k/a.toml\n[Service]\nExecStart=/b/tmkms start \\\n  -c \"/k/a.v3.toml\"\n\
             ReadWritePaths=-/k/a.v3.toml /k/a.toml.bak\nBindPaths=/k/a.v3.toml:/x\n"
        );
    }

    #[test]
    fn what_may_be_a_secret_is_cut_out() {
        let text = "[Service]\nEnvironment=PIN=1234 \\\n  A=b\nEnvironment=TMKMS_CONFIG_FILE=/k/a.toml\nUser=k\n";
        let plain = without_secrets(text).unwrap();
        assert_eq!(
            plain,
            "[Service]\nEnvironment=<secret>\nEnvironment=TMKMS_CONFIG_FILE=/k/a.toml\nUser=k\n"
        );
    }

    #[test]
    fn a_path_that_would_need_quoting_is_refused() {
        let moved = [Moved {
            from: "/k/a.toml",
            to: "/k/%a.toml",
            why: "",
        }];
        let (line, why) =
            edits("[Service]\nExecStart=/b/tmkms start -c /k/a.toml\n", &moved).unwrap_err();
        assert_eq!(line, 2);
        assert!(why.contains("quoting"), "{why}");
    }

    #[test]
    fn an_edit_of_another_text_is_refused() {
        let changes = edits(
            "[Service]\nExecStart=/b/t -c /k/a\n",
            &[Moved {
                from: "/k/a",
                to: "/k/b",
                why: "",
            }],
        );
        let edits: Vec<Edit> = changes.unwrap().into_iter().map(|c| c.edit).collect();
        assert!(splice("[Service]\nExecStart=/b/tt -c /k/a\n", &edits).is_err());
    }
}
