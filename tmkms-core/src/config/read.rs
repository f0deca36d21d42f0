//! Reading one TOML table by hand: typed fields with their places, and the names left over.
//!
//! Its errors must never quote a value, nor use toml_edit's own display, which quotes the whole line.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike, Value};

use super::{ConfigError, Spanned};
use crate::text::{self, Lines};

/// Parses TOML, keeping spans.
pub(crate) fn document(text: &str) -> Result<Document<&str>, ConfigError> {
    Document::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        error_at(text, offset, format!("not TOML: {}", error.message()))
    })
}

pub(super) fn error_at(text: &str, offset: usize, message: impl Into<String>) -> ConfigError {
    let (line, column) = text::line_and_column(text, offset);
    ConfigError {
        line,
        column,
        offset,
        message: message.into(),
    }
}

/// One table of the config, with its dotted path and the names asked for so far.
pub(super) struct Fields<'a> {
    text: &'a str,
    lines: &'a Lines,
    table: &'a dyn TableLike,
    path: String,
    offset: usize,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Wraps the root table.
    pub(super) fn root(text: &'a str, lines: &'a Lines, table: &'a dyn TableLike) -> Fields<'a> {
        Fields {
            text,
            lines,
            table,
            path: String::new(),
            offset: 0,
            known: Vec::new(),
        }
    }

    /// Returns the table's line, from 1.
    pub(super) fn line(&self) -> usize {
        self.lines.line(self.offset)
    }

    /// Returns an error about the table as a whole.
    pub(super) fn error(&self, message: &str) -> ConfigError {
        error_at(
            self.text,
            self.offset,
            format!("{} {message}", self.shown()),
        )
    }

    /// Returns an error about one value of the table.
    pub(super) fn error_in<T>(&self, name: &str, value: &Spanned<T>, message: &str) -> ConfigError {
        self.wrong_at(name, value.span.clone(), message)
    }

    /// Appends the fields that nobody asked for.
    pub(super) fn unknown_into(self, unknown: &mut Vec<Spanned<String>>) {
        for (name, item) in self.table.iter() {
            if !self.known.contains(&name) {
                let key = self.table.get_key_value(name);
                let key = key.and_then(|(key, _)| key.span());
                unknown.push(Spanned {
                    value: self.dotted(name),
                    line: self.lines.line(self.place(name, item).start),
                    span: key.unwrap_or_else(|| self.place(name, item)),
                });
            }
        }
    }

    /// Returns whether a field is there, without looking at it.
    pub(super) fn present(&mut self, name: &'static str) -> bool {
        self.item(name).is_some()
    }

    /// Returns where a string stands and nothing of what it says: for secrets.
    pub(super) fn string_span(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Range<usize>>, ConfigError> {
        let Some(item) = self.item(name) else {
            return Ok(None);
        };
        if !item.is_str() {
            return Err(self.wrong(name, item, "must be a string"));
        }
        Ok(Some(self.place(name, item)))
    }

    pub(super) fn string(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Spanned<String>>, ConfigError> {
        let Some(item) = self.item(name) else {
            return Ok(None);
        };
        let value = item
            .as_str()
            .ok_or_else(|| self.wrong(name, item, "must be a string"))?;
        Ok(Some(self.spanned(value, self.place(name, item))))
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(item) = self.item(name) else {
            return Ok(None);
        };
        item.as_bool()
            .map(Some)
            .ok_or_else(|| self.wrong(name, item, "must be true or false"))
    }

    /// Returns an integer between 0 and the largest one of its type.
    pub(super) fn integer<N: TryFrom<i64>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<N>, ConfigError> {
        let Some(item) = self.item(name) else {
            return Ok(None);
        };
        let number = item
            .as_integer()
            .ok_or_else(|| self.wrong(name, item, "must be an integer"))?;
        N::try_from(number)
            .map(Some)
            .map_err(|_| self.wrong(name, item, "is out of range"))
    }

    /// Returns one of a fixed set of strings, by what each stands for.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let Some(item) = self.item(name) else {
            return Ok(None);
        };
        let text = item
            .as_str()
            .ok_or_else(|| self.wrong(name, item, "must be a string"))?;
        match choices.iter().find(|(choice, _)| *choice == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let names: Vec<String> = choices
                    .iter()
                    .map(|(choice, _)| format!("\"{choice}\""))
                    .collect();
                Err(self.wrong(name, item, &format!("must be {}", names.join(" or "))))
            }
        }
    }

    /// Returns an array of strings.
    pub(super) fn strings(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Vec<Spanned<String>>>, ConfigError> {
        let Some(item) = self.item(name) else {
            return Ok(None);
        };
        let wrong = |at: Range<usize>| self.wrong_at(name, at, "must be an array of strings");
        let array = item
            .as_array()
            .ok_or_else(|| wrong(self.place(name, item)))?;
        let one = |value: &Value| {
            let span = value.span().unwrap_or_else(|| self.place(name, item));
            value
                .as_str()
                .map(|text| self.spanned(text, span.clone()))
                .ok_or_else(|| wrong(span))
        };
        array.iter().map(one).collect::<Result<_, _>>().map(Some)
    }

    /// Returns a table, whether written inline, as a sub-table or with dotted keys.
    pub(super) fn table(&mut self, name: &'static str) -> Result<Option<Fields<'a>>, ConfigError> {
        let Some(item) = self.item(name) else {
            return Ok(None);
        };
        let table = item
            .as_table_like()
            .ok_or_else(|| self.wrong(name, item, "must be a table"))?;
        Ok(Some(self.child(
            self.dotted(name),
            table,
            self.place(name, item),
        )))
    }

    /// Returns a list of tables, whether `[[name]]` or an array of inline tables; a missing one is empty.
    pub(super) fn tables(&mut self, name: &'static str) -> Result<Vec<Fields<'a>>, ConfigError> {
        let path = self.dotted(name);
        match self.item(name) {
            None => Ok(Vec::new()),
            Some(Item::ArrayOfTables(tables)) => Ok(tables
                .iter()
                .enumerate()
                .map(|(index, table)| {
                    self.child(
                        format!("{path}[{index}]"),
                        table,
                        table.span().unwrap_or_default(),
                    )
                })
                .collect()),
            Some(item) => {
                let header = path
                    .split('[')
                    .map(|part| part.split_once(']').map_or(part, |(_, rest)| rest))
                    .collect::<String>();
                let message = format!("must be a list of tables, as [[{header}]]");
                let array = item
                    .as_array()
                    .ok_or_else(|| self.wrong(name, item, &message))?;
                let one = |(index, value): (usize, &'a Value)| {
                    let span = value.span().unwrap_or_else(|| self.place(name, item));
                    let table = value
                        .as_inline_table()
                        .ok_or_else(|| self.wrong_at(name, span.clone(), &message))?;
                    Ok(self.child(format!("{path}[{index}]"), table, span))
                };
                array.iter().enumerate().map(one).collect()
            }
        }
    }

    /// Returns a field that must be there.
    pub(super) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or_else(|| self.error(&format!("has no `{name}`")))
    }

    fn item(&mut self, name: &'static str) -> Option<&'a Item> {
        self.known.push(name);
        self.table.get(name).filter(|item| !item.is_none())
    }

    fn child(&self, path: String, table: &'a dyn TableLike, span: Range<usize>) -> Fields<'a> {
        Fields {
            text: self.text,
            lines: self.lines,
            table,
            path,
            offset: span.start,
            known: Vec::new(),
        }
    }

    fn spanned(&self, value: &str, span: Range<usize>) -> Spanned<String> {
        Spanned {
            value: value.to_owned(),
            line: self.lines.line(span.start),
            span,
        }
    }

    fn place(&self, name: &str, item: &Item) -> Range<usize> {
        let key = || {
            self.table
                .get_key_value(name)
                .and_then(|(key, _)| key.span())
        };
        item.span().or_else(key).unwrap_or(self.offset..self.offset)
    }

    fn wrong(&self, name: &str, item: &Item, message: &str) -> ConfigError {
        self.wrong_at(name, self.place(name, item), message)
    }

    fn wrong_at(&self, name: &str, at: Range<usize>, message: &str) -> ConfigError {
        error_at(
            self.text,
            at.start,
            format!("`{}` {message}", self.dotted(name)),
        )
    }

    /// Returns a field's path, where a name that TOML would have to quote is quoted and escaped.
    fn dotted(&self, name: &str) -> String {
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let bare = !name.is_empty() && name.bytes().all(is_bare);
        let name = if bare {
            name.to_owned()
        } else {
            format!("{name:?}")
        };
        if self.path.is_empty() {
            name
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn shown(&self) -> String {
        if self.path.is_empty() {
            "the config".to_owned()
        } else {
            format!("`{}`", self.path)
        }
    }
}
