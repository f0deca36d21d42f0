//! Where a config holds secrets, so that the rest of it can be shown, stored and compared.
//!
//! It must never miss one because its field is misspelt or misplaced: every value whose field isn't known to be public
//! counts as a secret. Comments are hidden where they look like holding one, which prose can evade: where that matters,
//! keep the text itself as closely as its file.

use std::ops::Range;

use toml_edit::{Item, TableLike, Value};

use super::ConfigError;
use super::read;
use crate::text::{boundary_after, boundary_before};

/// What stands in for a secret.
pub const PLACEHOLDER: &str = "\"<secret>\"";

/// The fields whose values may be shown: all that some tmkms knows, apart from `password` and `api_key`.
const PUBLIC: &[&str] = &[
    "chain",
    "id",
    "key_format",
    "type",
    "account_key_prefix",
    "consensus_key_prefix",
    "state_file",
    "state_hook",
    "cmd",
    "timeout_secs",
    "fail_closed",
    "sign_extensions",
    "validator",
    "addr",
    "chain_id",
    "reconnect",
    "timeout",
    "secret_key",
    "max_height",
    "protocol_version",
    "providers",
    "softsign",
    "chain_ids",
    "key_type",
    "path",
    "yubihsm",
    "adapter",
    "timeout_ms",
    "auth",
    "key",
    "password_file",
    "keys",
    "serial_number",
    "connector_server",
    "laddr",
    "cli",
    "auth_key",
    "ledgertm",
    "fortanixdsm",
    "api_endpoint",
    "signing_keys",
    "key_id",
    "key_name",
    "tx_signer",
    "schema",
    "context",
    "account_number",
    "account_address",
    "acl",
    "msg_type",
    "poll_interval",
    "rpc",
    "seq_file",
    "source",
];

/// Returns where secrets stand in a config, in order and apart from each other, whether or not it is a sound one.
///
/// Secrets are inline passwords and API keys, the values of all fields that no tmkms knows (one of them may be a
/// misspelt password), and comments that speak of a password or an API key, set such a field or stand beside a secret.
/// Spans hold whole tokens, quotes included, or a comment without its `#`; they are of use with that very text only.
///
/// # Errors
/// A text that isn't TOML has no spans, so nothing of it may be shown or stored.
pub fn secret_spans(text: &str) -> Result<Vec<Range<usize>>, ConfigError> {
    Ok(find(text, read::document(text)?.as_item()))
}

/// Whether some tmkms has a field of this name: such a name tells nothing, where any other may be part of a secret.
pub fn is_field(name: &str) -> bool {
    PUBLIC.contains(&name) || matches!(name, "password" | "api_key")
}

/// Returns the text with each span replaced by `"<secret>"`, which leaves a config a valid one.
///
/// Spans that overlap are replaced as one, and one that splits a character hides all of it.
pub fn redacted(text: &str, spans: &[Range<usize>]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut shown = 0;
    for span in joined(spans.to_vec()) {
        let start = boundary_before(text, span.start).max(shown);
        let end = boundary_after(text, span.end);
        if start < end {
            result.push_str(&text[shown..start]);
            result.push_str(PLACEHOLDER);
            shown = end;
        }
    }
    result.push_str(&text[shown..]);
    result
}

/// Finds secrets in a parsed text.
pub(super) fn find(text: &str, root: &Item) -> Vec<Range<usize>> {
    let mut walk = Walk::default();
    walk.item(root, false);
    walk.tokens.sort_by_key(|span| span.start);
    let mut ends: Vec<usize> = walk.secrets.iter().map(|secret| secret.end).collect();
    ends.sort_unstable();
    let beside_secret = |comment: &Range<usize>| {
        let line = text[..comment.start]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let last = ends.partition_point(|end| *end <= comment.start);
        last > 0 && ends[last - 1] > line
    };
    let comments = comments(text, &walk.tokens).into_iter();
    let hidden = comments
        .filter(|comment| beside_secret(comment) || speaks_of_secret(&text[comment.clone()]));
    let hidden: Vec<_> = hidden
        .map(|comment| comment.start + 1..comment.end)
        .collect();
    walk.secrets.extend(hidden);
    joined(walk.secrets)
}

/// All scalars and keys of a document, and which scalars are secret.
#[derive(Default)]
struct Walk {
    tokens: Vec<Range<usize>>,
    secrets: Vec<Range<usize>>,
}

impl Walk {
    fn item(&mut self, item: &Item, secret: bool) {
        match item {
            Item::None => {}
            Item::Value(value) => self.value(value, secret),
            Item::Table(table) => self.table(table, secret),
            Item::ArrayOfTables(tables) => {
                tables.iter().for_each(|table| self.table(table, secret))
            }
        }
    }

    fn table(&mut self, table: &dyn TableLike, secret: bool) {
        for (name, item) in table.iter() {
            self.tokens
                .extend(table.get_key_value(name).and_then(|(key, _)| key.span()));
            // Every `key` that tmkms knows is an object id; one in quotes may be what is left of an `api_key`.
            let public = PUBLIC.contains(&name) && !(name == "key" && item.is_str());
            self.item(item, secret || !public);
        }
    }

    fn value(&mut self, value: &Value, secret: bool) {
        match value {
            Value::Array(array) => array.iter().for_each(|value| self.value(value, secret)),
            Value::InlineTable(table) => self.table(table, secret),
            scalar => {
                self.tokens.extend(scalar.span());
                if secret {
                    self.secrets.extend(scalar.span());
                }
            }
        }
    }
}

/// Returns all comments, `#` included: what starts with a `#` outside every token and ends with its line.
fn comments(text: &str, tokens: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut comments = Vec::new();
    let mut tokens = tokens.iter().peekable();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('#')) {
        let start = at + found;
        while tokens.next_if(|token| token.end <= start).is_some() {}
        at = match tokens.peek() {
            Some(token) if token.start <= start => token.end,
            _ => {
                let end = text[start..]
                    .find('\n')
                    .map_or(text.len(), |newline| start + newline);
                comments.push(start..start + text[start..end].trim_end().len());
                end
            }
        };
    }
    comments
}

/// Returns whether a comment speaks of a password other than its file or of an API key, or gives a value to a field that
/// isn't public.
fn speaks_of_secret(comment: &str) -> bool {
    let words = comment.to_ascii_lowercase().replace("password_file", "");
    let secret = [
        "password",
        "passwd",
        "passphrase",
        "api_key",
        "api key",
        "apikey",
    ];
    secret.iter().any(|word| words.contains(word)) || assigns_unknown(comment)
}

fn assigns_unknown(comment: &str) -> bool {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    comment.match_indices('=').any(|(at, _)| {
        let before = comment[..at].trim_end_matches([' ', '\t', '"', '\'']);
        let name = before.rsplit(|c| !in_name(c)).next().unwrap_or_default();
        !PUBLIC.contains(&name)
    })
}

/// Sorts spans and joins those that overlap.
fn joined(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    spans.sort_by_key(|span| (span.start, span.end));
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => joined.push(span),
        }
    }
    joined
}
