//! The new unit and the copies of drop-ins: the old text with every mention of a moved path replaced.

mod secrets;

use std::ops::Range;

use tmkms_core::edit::Edit;

use crate::content::Change;
use crate::naming;
use crate::unit::words::{expand, expand_known, named_by_unit, pinned};
use crate::unit::{UnitName, UnitText, line_of};
pub use secrets::{PLACEHOLDER, SECRET_SETTINGS, without_secrets};

/// A path that moves, and why.
pub struct Moved<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub why: &'a str,
}

/// The unit's old and new name: what a specifier means depends on it.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    pub old: &'a UnitName,
    pub new: &'a UnitName,
    pub suffix: &'a str,
}

/// Settings that may say the new unit's own name: they are for the eye.
const OWN_NAME: [&str; 3] = ["Description", "Documentation", "SyslogIdentifier"];

/// The edits that replace each moved path wherever it stands as a whole word of a setting's value, and keep every other
/// word's meaning where a specifier would give it another under the new name.
///
/// # Errors
/// 1-based line and reason, where the text can't be read or a path can't stand in a unit.
pub fn edits(
    text: &str,
    moved: &[Moved<'_>],
    names: Names<'_>,
) -> Result<Vec<Change>, (usize, String)> {
    let parsed = UnitText::parse(text).map_err(|e| (e.line, e.message))?;
    let mut changes: Vec<Change> = Vec::new();
    for setting in &parsed.settings {
        let entry = &text[setting.span.clone()];
        let value = entry.find('=').map_or(0, |at| at + 1);
        let at_line = |at: usize| line_of(text, setting.span.start + at);
        let mut change = |place: Range<usize>, to: &str, why: &str| {
            let span = setting.span.start + place.start..setting.span.start + place.end;
            changes.push(replacement(text, span, to, why));
        };
        let places = with_specifiers(entry, value);
        let within = |at: usize| places.iter().any(|place| place.contains(&at));
        for path in moved {
            for (at, _) in entry
                .match_indices(path.from)
                .filter(|(at, _)| *at >= value && !within(*at))
            {
                let end = at + path.from.len();
                if starts_word(&entry[..at]) && ends_word(&entry[end..]) {
                    if !alike(path.from, path.to) {
                        plain(path.to).map_err(|why| (at_line(at), why))?;
                    }
                    change(at..end, path.to, path.why);
                }
            }
        }
        let secret = SECRET_SETTINGS.contains(&setting.key.as_str());
        for place in places {
            let word = &entry[place.clone()];
            let refused = |why| (at_line(place.start), why);
            match moves(word, moved, names).map_err(refused)? {
                Moves::To(to, why) => change(place, &to, why),
                Moves::Stays => {}
                Moves::Not if OWN_NAME.contains(&setting.key.as_str()) => {}
                Moves::Not if secret => {
                    // An edit keeps what it replaces: of what may be a secret, that is the specifier alone.
                    for (at, specifier) in named_by_unit(word) {
                        let to = pinned(specifier, names.old, names.new).map_err(refused)?;
                        let at = place.start + at.start..place.start + at.end;
                        if let Some(to) = to {
                            change(at, &to, NEW_NAME);
                        }
                    }
                }
                Moves::Not => {
                    if let Some(to) = kept(word, names).map_err(refused)? {
                        change(place, &to, NEW_NAME);
                    }
                }
            }
        }
    }
    changes.sort_by_key(|c| c.edit.span.start);
    Ok(changes)
}

/// An edit of a unit's text.
pub fn replacement(text: &str, span: Range<usize>, to: &str, why: &str) -> Change {
    let from = text[span.clone()].to_owned();
    Change {
        edit: Edit {
            line: line_of(text, span.start),
            span,
            from: from.clone(),
            to: to.to_owned(),
            raw_from: from,
            raw_to: to.to_owned(),
        },
        why: why.to_owned(),
    }
}

/// That a path means itself in a unit: no blank, quote, specifier, variable or control character.
///
/// # Errors
/// The reason as a sentence.
pub fn plain(path: &str) -> Result<(), String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "\"'\\%$".contains(c);
    if path.chars().any(odd) {
        return Err(format!(
            "{path:?} can't stand in a unit file without quoting"
        ));
    }
    Ok(())
}

/// The same blanks and quotes as in the path that stands there literally: whatever quotes that one quotes this one.
fn alike(from: &str, to: &str) -> bool {
    let odd = |path: &str| -> String {
        let plain = |c: &char| plain(c.encode_utf8(&mut [0; 4])).is_ok();
        path.chars().filter(|c| !plain(c)).collect()
    };
    let quoted = |c: char| matches!(c, ' ' | '\'' | '"');
    odd(from) == odd(to) && odd(to).chars().all(quoted)
}

/// The places of the words of a value that use specifiers.
fn with_specifiers(entry: &str, value: usize) -> Vec<Range<usize>> {
    let ends = |c: char| c.is_whitespace() || "\"'=:;,\\".contains(c);
    let mut places = Vec::new();
    let mut start = value;
    for (at, c) in entry.char_indices().skip_while(|(at, _)| *at < value) {
        if ends(c) {
            places.push(start..at);
            start = at + c.len_utf8();
        }
    }
    places.push(start..entry.len());
    let led = |place: Range<usize>| {
        let word = &entry[place.clone()];
        place.end - word.trim_start_matches(|c| "-+!@|:".contains(c)).len()..place.end
    };
    let places = places.into_iter().map(led);
    places.filter(|p| entry[p.clone()].contains('%')).collect()
}

/// Why a specifier is written out.
const NEW_NAME: &str = "the new unit's name would change what it means";

/// What a move means for a word with specifiers.
enum Moves<'m> {
    /// It is a path that moves: to this, for this reason.
    To(String, &'m str),
    /// It is one, and means the new path as it is.
    Stays,
    /// It is no path that moves.
    Not,
}

fn moves<'m>(word: &str, moved: &[Moved<'m>], names: Names<'_>) -> Result<Moves<'m>, String> {
    // What only a running systemd knows is no path that moves: discovery would have refused the unit.
    let old = expand(word, names.old).ok();
    let Some(path) = moved.iter().find(|m| old.as_deref() == Some(m.from)) else {
        return Ok(Moves::Not);
    };
    let means = |candidate: &str| expand(candidate, names.new).is_ok_and(|m| m == path.to);
    if means(word) {
        return Ok(Moves::Stays);
    }
    let candidate = naming::path(word, names.suffix);
    if means(&candidate) {
        return Ok(Moves::To(candidate, path.why));
    }
    if names.new.instance().is_some() {
        // A template's text serves other instances too.
        return Err(format!(
            "{word:?} can't be made to mean {} for every instance",
            path.to
        ));
    }
    plain(path.to)?;
    Ok(Moves::To(path.to.to_owned(), path.why))
}

/// A word in which every specifier that the new name would change is written out; none where there is none.
fn kept(word: &str, names: Names<'_>) -> Result<Option<String>, String> {
    let mut out = String::with_capacity(word.len());
    let mut done = 0;
    for (at, specifier) in named_by_unit(word) {
        let to = pinned(specifier, names.old, names.new).map_err(|e| format!("{word:?}: {e}"))?;
        if let Some(to) = to {
            out.push_str(&word[done..at.start]);
            out.push_str(&to);
            done = at.end;
        }
    }
    if done == 0 {
        return Ok(None);
    }
    out.push_str(&word[done..]);
    match expand_known(&out, names.new) == expand_known(word, names.old) {
        true => Ok(Some(out)),
        false => Err(format!(
            "{word:?} would mean something else in {}",
            names.new
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(text: &str, from: &str, to: &str) -> Result<Vec<Edit>, (usize, String)> {
        let (old, new) = (
            "k@1.service".parse().unwrap(),
            "k.v3@1.service".parse().unwrap(),
        );
        let names = Names {
            old: &old,
            new: &new,
            suffix: "v3",
        };
        let changes = edits(text, &[Moved { from, to, why: "" }], names)?;
        Ok(changes.into_iter().map(|c| c.edit).collect())
    }

    fn replaced(text: &str, from: &str, to: &str) -> String {
        splice(text, &moved(text, from, to).unwrap()).unwrap()
    }

    #[test]
    fn a_specifier_keeps_its_meaning_or_moves_with_its_path() {
        let text = "[Service]\nDescription=%n\nExecStart=/b/tmkms start -c /k/%i.toml\nStateDirectory=%N\n\
                    EnvironmentFile=-/etc/default/%p\nBindPaths=/k/%i.toml:/x/%i\n";
        assert_eq!(
            replaced(text, "/k/1.toml", "/k/1.v3.toml"),
            "[Service]\nDescription=%n\nExecStart=/b/tmkms start -c /k/%i.v3.toml\nStateDirectory=k@%i\n\
             EnvironmentFile=-/etc/default/k\nBindPaths=/k/%i.v3.toml:/x/%i\n"
        );
        let odd = "[Service]\nExecStart=/b/tmkms start -c /k/%p.toml\n";
        let (line, why) = moved(odd, "/k/k.toml", "/other/k.v3.toml").unwrap_err();
        assert!(line == 2 && why.contains("every instance"), "{why}");
    }

    #[test]
    fn only_whole_words_of_values_are_replaced() {
        let text = "# /k/a.toml\n[Service]\n# A=/k/a.toml\nExecStart=/b/tmkms start \\\n  -c \"/k/a.toml\"\n\
                    ReadWritePaths=-/k/a.toml /k/a.toml.bak\nBindPaths=/k/a.toml:/x\n";
        let new = replaced(text, "/k/a.toml", "/k/a.v3.toml");
        assert_eq!(
            new,
            "# /k/a.toml\n[Service]\n# A=/k/a.toml\nExecStart=/b/tmkms start \\\n  -c \"/k/a.v3.toml\"\n\
             ReadWritePaths=-/k/a.v3.toml /k/a.toml.bak\nBindPaths=/k/a.v3.toml:/x\n"
        );
    }

    #[test]
    fn no_edit_keeps_what_may_be_a_secret() {
        let text = "[Service]\nExecStart=/b/tmkms start -c /k/1.toml\n\
                    Environment=PIN=1234%N TMKMS_CONFIG_FILE=/k/%i.toml\nSetCredential=pin:%%N%p-12\n";
        let edits = moved(text, "/k/1.toml", "/k/1.v3.toml").unwrap();
        let kept: Vec<(&str, &str)> = edits
            .iter()
            .map(|e| (e.raw_from.as_str(), e.raw_to.as_str()))
            .collect();
        assert_eq!(
            kept,
            [
                ("/k/1.toml", "/k/1.v3.toml"),
                ("%N", "k@%i"),
                ("/k/%i.toml", "/k/%i.v3.toml"),
                ("%p", "k")
            ]
        );
        let (line, why) = moved("[Service]\nEnvironment=PIN=12%y\n", "/k", "/l").unwrap_err();
        assert!(line == 2 && !why.contains("12"), "{why}");
    }

    #[test]
    fn what_nobody_knows_stays_beside_what_the_name_decides() {
        let text = "[Service]\nBindPaths=/srv/%H/%N:/x/%b\nStateDirectory=%m-%N/%i\nCPUQuota=20%\n";
        assert_eq!(
            replaced(text, "/k/1.toml", "/k/1.v3.toml"),
            "[Service]\nBindPaths=/srv/%H/k@%i:/x/%b\nStateDirectory=%m-k@%i/%i\nCPUQuota=20%\n"
        );
        let odd = "[Unit]\nDescription=%y\n[Service]\nReadWritePaths=%Y/x\n";
        let (line, why) = moved(odd, "/k/1.toml", "/k/1.v3.toml").unwrap_err();
        assert!(line == 4 && why.contains("%Y"), "{why}");
    }

    #[test]
    fn edits_never_overlap() {
        let text = "[Service]\nBindPaths=/x%n+/k/1.toml\n";
        assert_eq!(
            replaced(text, "/k/1.toml", "/k/1.v3.toml"),
            "[Service]\nBindPaths=/xk@%i.service+/k/1.toml\n"
        );
    }

    #[test]
    fn a_path_that_would_need_quoting_is_refused() {
        let text = "[Service]\nExecStart=/b/tmkms start -c /k/a.toml\n";
        let (line, why) = moved(text, "/k/a.toml", "/k/%a.toml").unwrap_err();
        assert_eq!(line, 2);
        assert!(why.contains("quoting"), "{why}");
    }

    #[test]
    fn a_path_that_is_quoted_already_stays_so() {
        let text = "[Service]\nExecStart=/b/tmkms start -c \"/k d/a.toml\"\n";
        let new = replaced(text, "/k d/a.toml", "/k d/a.v3.toml");
        assert_eq!(new, text.replace("a.toml", "a.v3.toml"));
        let bare = "[Service]\nExecStart=/b/tmkms start -c /k/a.toml\n";
        assert!(moved(bare, "/k/a.toml", "/k d/a.toml").is_err());
    }

    #[test]
    fn an_edit_of_another_text_is_refused() {
        let edits = moved("[Service]\nExecStart=/b/t -c /k/a\n", "/k/a", "/k/b").unwrap();
        assert!(splice("[Service]\nExecStart=/b/tt -c /k/a\n", &edits).is_err());
    }
}
