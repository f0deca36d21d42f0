//! Changing strings in a config and nothing else: every other byte stays, line ends and trailing blanks included.
//!
//! Assigning through toml_edit would drop a comment after the value and may change line ends, so an edit replaces the
//! bytes of one token, and the result is read again. It must never be applied to another text than it was made for.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use toml_edit::{Document, Item, TableLike, Value};

use crate::config::Spanned;
use crate::text;

/// One string's change: from what, to what, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Edit {
    /// The bytes of the old token, quotes included.
    pub span: Range<usize>,
    /// The line of the token, from 1.
    pub line: usize,
    /// The old value, decoded.
    pub from: String,
    /// The new value, decoded.
    pub to: String,
    /// The old token as it stands in the text, quotes included.
    pub raw_from: String,
    /// The new token, quotes included.
    pub raw_to: String,
}

/// Why an edit can't be made or applied. Lines are from 1; no text is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// The text doesn't hold the expected string at that place: it changed, or it is another text.
    Moved {
        /// The line where the string should be.
        line: usize,
    },
    /// The new value has a control character.
    Control {
        /// The line of the string.
        line: usize,
    },
    /// Two edits change the same bytes.
    Overlap {
        /// The line of the second one.
        line: usize,
    },
    /// With the edits in, the text isn't TOML, or doesn't say what the edit says.
    Unsound {
        /// The line of the edit, or of the TOML error.
        line: usize,
    },
}

impl Edit {
    /// Plans to change a string, keeping its quotes where the new value allows: a literal string stays literal, and a
    /// multi-line one becomes a plain one.
    ///
    /// # Errors
    /// [`EditError::Moved`] where the text doesn't hold `at`, [`EditError::Control`] for a new value that has control
    /// characters.
    pub fn string(text: &str, at: &Spanned<String>, to: &str) -> Result<Edit, EditError> {
        let line = text::line_and_column(text, at.span.start).0;
        let raw_from = text.get(at.span.clone()).ok_or(EditError::Moved { line })?;
        if decoded(raw_from).as_deref() != Some(at.value.as_str()) {
            return Err(EditError::Moved { line });
        }
        if to.contains(char::is_control) {
            return Err(EditError::Control { line });
        }
        let raw_to = if at.value == to {
            raw_from.to_owned()
        } else {
            encoded(to, raw_from)
        };
        Ok(Edit {
            span: at.span.clone(),
            line,
            from: at.value.clone(),
            to: to.to_owned(),
            raw_from: raw_from.to_owned(),
            raw_to,
        })
    }
}

/// Returns the text with all edits made, in whatever order they are given.
///
/// # Errors
/// See [`EditError`]; then nothing was changed.
pub fn apply(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let mut result = String::with_capacity(text.len());
    let mut moved = Vec::with_capacity(edits.len());
    let mut copied = 0;
    for edit in edits {
        let line = text::line_and_column(text, edit.span.start).0;
        if text.get(edit.span.clone()) != Some(edit.raw_from.as_str()) {
            return Err(EditError::Moved { line });
        }
        let between = text
            .get(copied..edit.span.start)
            .ok_or(EditError::Overlap { line })?;
        result.push_str(between);
        moved.push((result.len()..result.len() + edit.raw_to.len(), edit));
        result.push_str(&edit.raw_to);
        copied = edit.span.end;
    }
    result.push_str(text.get(copied..).unwrap_or_default());
    verify(&result, &moved)?;
    Ok(result)
}

/// Reads the result again: every edited token must be a string of its own that says what the edit says.
fn verify(result: &str, edits: &[(Range<usize>, &Edit)]) -> Result<(), EditError> {
    let document = Document::parse(result).map_err(|error| EditError::Unsound {
        line: text::line_and_column(result, error.span().map_or(0, |span| span.start)).0,
    })?;
    let mut strings = HashMap::new();
    collect(document.as_item(), &mut strings);
    match edits
        .iter()
        .find(|(span, edit)| strings.get(&(span.start, span.end)) != Some(&edit.to.as_str()))
    {
        Some((_, edit)) => Err(EditError::Unsound { line: edit.line }),
        None => Ok(()),
    }
}

fn collect<'a>(item: &'a Item, strings: &mut HashMap<(usize, usize), &'a str>) {
    match item {
        Item::None => {}
        Item::Value(value) => collect_value(value, strings),
        Item::Table(table) => table.iter().for_each(|(_, item)| collect(item, strings)),
        Item::ArrayOfTables(tables) => {
            tables
                .iter()
                .flat_map(TableLike::iter)
                .for_each(|(_, item)| collect(item, strings));
        }
    }
}

fn collect_value<'a>(value: &'a Value, strings: &mut HashMap<(usize, usize), &'a str>) {
    match value {
        Value::String(text) => {
            if let Some(span) = text.span() {
                strings.insert((span.start, span.end), text.value());
            }
        }
        Value::Array(array) => array.iter().for_each(|value| collect_value(value, strings)),
        Value::InlineTable(table) => table
            .iter()
            .for_each(|(_, value)| collect_value(value, strings)),
        _ => {}
    }
}

/// Returns what a token says, where it is one string and nothing around it.
fn decoded(raw: &str) -> Option<String> {
    let quoted = raw.starts_with(['"', '\'']) && raw.ends_with(['"', '\'']);
    let value: Value = if quoted {
        raw.parse().ok()?
    } else {
        return None;
    };
    value.as_str().map(str::to_owned)
}

/// Writes a value without control characters as a one-line string, in the old token's quotes where they can hold it.
fn encoded(value: &str, old: &str) -> String {
    let was_literal = old.starts_with('\'') && !old.starts_with("'''");
    if was_literal && !value.contains('\'') {
        return format!("'{value}'");
    }
    if !value.contains(['"', '\\']) {
        return format!("\"{value}\"");
    }
    Value::from(value).to_string()
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditError::Moved { line } => write!(
                f,
                "line {line}: the text isn't the one this edit was made for"
            ),
            EditError::Control { line } => {
                write!(f, "line {line}: the new value has a control character")
            }
            EditError::Overlap { line } => {
                write!(f, "line {line}: two edits change the same bytes")
            }
            EditError::Unsound { line } => write!(
                f,
                "line {line}: the edited text doesn't say what the edit says"
            ),
        }
    }
}

impl std::error::Error for EditError {}
