//! Which fields a tmkms knows, by its version and features, and which it passes over in silence.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike};

use super::{Case, Feature, Kind};
use crate::config::{Config, KeyFormat};

pub(super) fn judge(case: &mut Case<'_>, text: &str, document: &Document<&str>, config: &Config) {
    for (path, span) in config.unknown_spans() {
        if path == "tx_signer" && case.tmkms.minor() <= 12 && case.tmkms.has(Feature::TxSigner) {
            continue;
        }
        let message = format!("{} doesn't know `{path}` and refuses it", case.tmkms);
        let remedy = match hint(path) {
            Some(hint) => hint.to_owned(),
            None => "take the field out, or correct its name".to_owned(),
        };
        case.refuse(Kind::FieldUnknown, span, message, remedy);
    }
    providers(case, document);
    let chains = document.as_table().get("chain");
    for table in tables(chains) {
        extensions(case, text, table);
        formats(case, text, table);
    }
    if case.tmkms.minor() < 11 {
        for chain in &config.chains {
            if chain.key_format == KeyFormat::CosmosJson {
                let message = format!(
                    "{} doesn't know the key format cosmos-json, which came with 0.11",
                    case.tmkms
                );
                let remedy = "use bech32 or hex, or a newer tmkms";
                case.refuse(Kind::ConfigInvalid, &chain.id.span, message, remedy);
            }
        }
    }
}

/// Where a field that is often misplaced belongs.
fn hint(path: &str) -> Option<&'static str> {
    let field = path.rsplit('.').next()?;
    Some(match (path.split('[').next()?, field) {
        ("validator", "state_file") => "move it to the chain's [[chain]]",
        ("validator", "sign_extensions") => "move it to the chain's [[chain]]",
        ("chain", "protocol_version" | "addr" | "secret_key" | "max_height") => {
            "move it to the chain's [[validator]]"
        }
        (_, "state_path") => "call it `state_file`, in [[chain]]",
        _ => return None,
    })
}

fn providers(case: &mut Case<'_>, document: &Document<&str>) {
    let Some(providers) = document
        .as_table()
        .get("providers")
        .and_then(Item::as_table_like)
    else {
        return;
    };
    let known = [
        ("softsign", Feature::Softsign, 0),
        ("yubihsm", Feature::Yubihsm, 0),
        ("ledgertm", Feature::Ledger, 0),
        ("fortanixdsm", Feature::Fortanixdsm, 12),
    ];
    for (name, feature, since) in known {
        let Some(item) = providers.get(name) else {
            continue;
        };
        let there = case.tmkms.has(feature) && case.tmkms.minor() >= since;
        if !there {
            refuse_feature(case, name, feature, since, &place(providers, name, item));
        }
    }
    if case.tmkms.has(Feature::YubihsmServer) {
        return;
    }
    for table in tables(providers.get("yubihsm")) {
        if let Some(item) = table.get("connector_server") {
            let span = place(table, "connector_server", item);
            refuse_feature(case, "connector_server", Feature::YubihsmServer, 0, &span);
        }
    }
}

fn refuse_feature(
    case: &mut Case<'_>,
    name: &str,
    feature: Feature,
    since: u64,
    span: &Range<usize>,
) {
    let feature = Feature::ALL.iter().find(|(_, known)| *known == feature);
    let feature = feature.map_or("", |(name, _)| *name);
    let message = if case.tmkms.minor() < since {
        format!(
            "{} doesn't know `{name}`, which came with 0.{since}",
            case.tmkms
        )
    } else {
        format!(
            "a {} built without its feature {feature} doesn't know `{name}` and refuses the config",
            case.tmkms
        )
    };
    let remedy = format!(
        "build tmkms with `--features {feature}`, or say with kmsctl's --features that it was"
    );
    case.refuse(Kind::FieldUnknown, span, message, remedy);
}

fn extensions(case: &mut Case<'_>, text: &str, chain: &dyn TableLike) {
    let Some(item) = chain.get("sign_extensions") else {
        return;
    };
    let span = line_of(text, place(chain, "sign_extensions", item));
    if case.tmkms.minor() < 14 {
        let message = format!(
            "{} doesn't know `sign_extensions`, which came with 0.14, and refuses it",
            case.tmkms
        );
        let remedy = "take it out, or use tmkms 0.14.0";
        case.refuse(Kind::FieldUnknown, &span, message, remedy);
    } else if case.tmkms.minor() == 15 && item.as_bool() == Some(true) {
        let message = format!(
            "with `sign_extensions` {} sends votes without the extension's signature, and the validator rejects them",
            case.tmkms
        );
        let remedy = "for a chain with vote extensions use tmkms 0.14.0, where they work";
        case.warn(Kind::SignExtensions, &span, message, remedy);
    }
}

/// The only table whose unknown fields tmkms doesn't refuse.
fn formats(case: &mut Case<'_>, text: &str, chain: &dyn TableLike) {
    let Some(format) = chain.get("key_format").and_then(Item::as_table_like) else {
        return;
    };
    let kind = format.get("type").and_then(Item::as_str);
    for (name, item) in format.iter() {
        let bech32 = matches!(name, "account_key_prefix" | "consensus_key_prefix");
        if name == "type" || (bech32 && kind == Some("bech32")) {
            continue;
        }
        let message = format!("tmkms passes over `key_format.{name}` without a word");
        let span = line_of(text, place(format, name, item));
        let remedy = "take it out, or correct its name";
        case.warn(Kind::FieldIgnored, &span, message, remedy);
    }
}

/// The tables of `[[name]]`, or of an array of inline tables.
pub(super) fn tables(item: Option<&Item>) -> Vec<&dyn TableLike> {
    match item {
        Some(Item::ArrayOfTables(tables)) => tables.iter().map(|t| t as &dyn TableLike).collect(),
        Some(Item::Value(toml_edit::Value::Array(array))) => array
            .iter()
            .filter_map(|value| value.as_inline_table())
            .map(|t| t as &dyn TableLike)
            .collect(),
        _ => Vec::new(),
    }
}

/// Where a field stands, from its name to its value's end.
pub(super) fn place(table: &dyn TableLike, name: &str, item: &Item) -> Range<usize> {
    let key = table
        .get_key_value(name)
        .and_then(|(key, _)| key.span())
        .unwrap_or_default();
    match item.span() {
        Some(value) if value.start >= key.end => key.start..value.end,
        _ => key,
    }
}

/// As much of a span as is on its first line.
fn line_of(text: &str, span: Range<usize>) -> Range<usize> {
    let all = text.get(span.clone()).unwrap_or_default();
    let end = all.find('\n').map_or(span.end, |at| span.start + at);
    span.start..end
}
