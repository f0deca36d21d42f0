//! TOML 1.1, which no released tmkms reads, though today's parsers do: inline tables over several lines or with a comma
//! at their end, and the escapes `\e` and `\x`.
//!
//! tmkms 0.10 to 0.14 read TOML with toml 0.5, and 0.15.0 with the toml 0.9.8 of its lock file. A 0.15.0 built without
//! `--locked` may read 1.1; a config that depends on that isn't one to start a validator on.

use std::ops::Range;

use toml_edit::{Document, InlineTable, Item, RawString, TableLike, Value};

use super::{Case, Kind};

pub(super) fn judge(case: &mut Case<'_>, text: &str, document: &Document<&str>) {
    let mut walk = Walk {
        text,
        found: Vec::new(),
    };
    walk.item(document.as_item());
    for (span, what) in walk.found {
        let message = format!(
            "{} reads TOML 1.0, which has no {what}: it refuses the config",
            case.tmkms
        );
        let remedy = match what {
            ESCAPE => "write the character itself, or \\u and four digits",
            _ => "write it on one line without a comma at its end, or as a table of its own",
        };
        case.refuse(Kind::ConfigInvalid, &span, message, remedy);
    }
}

const TABLE: &str = "line breaks in an inline table, nor a comma at its end";
const ESCAPE: &str = "escapes \\e and \\x";

struct Walk<'a> {
    text: &'a str,
    found: Vec<(Range<usize>, &'static str)>,
}

impl Walk<'_> {
    fn item(&mut self, item: &Item) {
        match item {
            Item::None => {}
            Item::Value(value) => self.value(value),
            Item::Table(table) => self.table(table),
            Item::ArrayOfTables(tables) => tables.iter().for_each(|table| self.table(table)),
        }
    }

    fn table(&mut self, table: &dyn TableLike) {
        for (_, item) in table.iter() {
            self.item(item);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(string) => {
                let span = string.span().unwrap_or_default();
                let raw = self.text.get(span.clone()).unwrap_or_default();
                if raw.starts_with('"') && has_new_escape(raw) {
                    self.found.push((span, ESCAPE));
                }
            }
            Value::Array(array) => array.iter().for_each(|value| self.value(value)),
            Value::InlineTable(table) => {
                if self.is_new(table) {
                    self.found.push((table.span().unwrap_or_default(), TABLE));
                }
                self.table(table);
            }
            _ => {}
        }
    }

    fn is_new(&self, table: &InlineTable) -> bool {
        // Dotted keys make tables that stand in no braces of their own.
        if table.is_dotted() {
            return false;
        }
        let breaks = |raw: Option<&RawString>| {
            let span = raw.and_then(RawString::span).unwrap_or_default();
            self.text.get(span).is_some_and(|t| t.contains('\n'))
        };
        let mut broken = table.trailing_comma() || breaks(Some(table.trailing()));
        for (name, item) in table.iter() {
            let decors = table
                .get_key_value(name)
                .into_iter()
                .flat_map(|(key, _)| [key.leaf_decor(), key.dotted_decor()]);
            for decor in decors.chain([item.decor()]) {
                broken |= breaks(decor.prefix()) || breaks(decor.suffix());
            }
        }
        broken
    }
}

fn has_new_escape(raw: &str) -> bool {
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && matches!(bytes.next(), Some(b'e' | b'x')) {
            return true;
        }
    }
    false
}
