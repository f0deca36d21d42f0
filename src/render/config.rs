//! The new config: the old one with the chain's id, its state file and, where needed, the protocol version changed.

use tmkms_core::chain_id::ChainId;
use tmkms_core::config::Config;
use tmkms_core::edit::Edit;
use tmkms_core::protocol::ProtocolVersion;

use crate::content::Change;
use crate::naming;

/// What a config moves from and to.
pub struct Wanted<'a> {
    pub from: &'a ChainId,
    pub to: &'a ChainId,
    pub suffix: &'a str,
    /// Given by the operator; otherwise legacy and v0.33 become v0.34, and everything else stays.
    pub protocol: Option<ProtocolVersion>,
}

/// The edits that move a config, in the order of the text.
///
/// # Errors
/// 1-based line and reason, where a value can't be replaced.
pub fn edits(
    text: &str,
    view: &Config,
    wanted: &Wanted<'_>,
) -> Result<Vec<Change>, (usize, String)> {
    let from = wanted.from.as_str();
    let mut changes = Vec::new();
    let mut change = |at: &tmkms_core::config::Spanned<String>, to: &str, why: &str| {
        let edit = Edit::string(text, at, to).map_err(|e| (at.line, e.to_string()))?;
        changes.push(Change {
            edit,
            why: why.to_owned(),
        });
        Ok(())
    };
    let moves = wanted.from != wanted.to;
    for place in view.places_of(from).into_iter().filter(|_| moves) {
        change(place, wanted.to.as_str(), "the chain's new id")?;
    }
    let chains = view.chains.iter().filter(|c| c.id.value == from);
    for chain in chains.filter(|_| moves) {
        // A defaulted state file follows the chain id by itself.
        if let Some(state_file) = &chain.state_file {
            let to = naming::path(&state_file.value, wanted.suffix);
            change(
                state_file,
                &to,
                "a new chain id gets a new state file; the old one is kept",
            )?;
        }
    }
    for validator in view.validators.iter().filter(|v| v.chain_id.value == from) {
        let Some(old) = &validator.protocol_version else {
            continue;
        };
        let to = match wanted.protocol {
            Some(protocol) => protocol,
            None => match old.value.parse() {
                Ok(ProtocolVersion::Legacy | ProtocolVersion::V0_33) => ProtocolVersion::V0_34,
                _ => continue,
            },
        };
        if to.to_string() != old.value {
            change(
                old,
                &to.to_string(),
                "the protocol that the upgraded validator speaks",
            )?;
        }
    }
    changes.sort_by_key(|c| c.edit.span.start);
    Ok(changes)
}

/// The protocol version that a validator is spoken to with after the move; `None` where the config names none.
pub fn protocol_after(
    old: Option<&str>,
    given: Option<ProtocolVersion>,
) -> Option<ProtocolVersion> {
    let old = old?;
    given.or_else(|| match old.parse() {
        Ok(ProtocolVersion::Legacy | ProtocolVersion::V0_33) => Some(ProtocolVersion::V0_34),
        Ok(other) => Some(other),
        Err(_) => None,
    })
}
