//! `[[chain]]`: ids, and the state files as tmkms opens them before anything else.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Case, Effect, Kind, Unread};
use crate::chain_id::ChainId;
use crate::config::{Chain, Config};
use crate::state::{SignState, StateError};
use crate::{Spanned, config};

pub(super) fn judge(case: &mut Case<'_>, config: &Config) {
    let mut seen = BTreeMap::new();
    let mut files: BTreeMap<String, &str> = BTreeMap::new();
    for chain in &config.chains {
        let id = &chain.id;
        if seen.insert(id.value.as_str(), ()).is_some() {
            let message = format!(
                "{} is configured twice, and tmkms exits: chain ID already registered",
                id.value
            );
            case.refuse(Kind::ChainRepeated, &id.span, message, "keep one of them");
        }
        let path = chain.state_file_or_default();
        let plain = case.disk.one_name(&path);
        if !files.contains_key(plain.as_str()) {
            state_file(case, chain);
        }
        match files.get(plain.as_str()) {
            Some(other) if *other != id.value => {
                let message = format!(
                    "{} and {other} share the state file {path}: each start of a height in one forgets the other's, \
                     and tmkms says nothing",
                    id.value
                );
                let span = chain.state_file.as_ref().map_or(&id.span, |f| &f.span);
                let remedy = "give each chain a state file of its own; never copy one";
                case.warn(Kind::StateShared, span, message, remedy);
            }
            _ => {
                files.insert(plain, &id.value);
            }
        }
    }
    for place in config.all_places() {
        chain_id(case, place);
    }
    if !config.chains.is_empty() && case.tmkms.minor() <= 12 {
        let message = format!(
            "{} signs for whatever chain its validator is on, with the id of this config: a node of another chain gets \
             invalid signatures, and the state file moves on",
            case.tmkms
        );
        let remedy = "make sure of the validator's chain; tmkms 0.13.1 and newer check it";
        let span = config.chains[0].id.span.clone();
        case.tell(Kind::ChainIdUnchecked, &span, message, remedy);
    }
}

fn chain_id(case: &mut Case<'_>, place: &Spanned<String>) {
    if let Err(error) = place.value.parse::<ChainId>() {
        let message = format!("tmkms refuses this chain id: {error}");
        case.refuse(
            Kind::ChainIdRefused,
            &place.span,
            message,
            "write the chain's own id",
        );
    }
}

fn state_file(case: &mut Case<'_>, chain: &Chain) {
    let path = chain.state_file_or_default();
    let span = chain
        .state_file
        .as_ref()
        .map_or(&chain.id.span, |f| &f.span);
    if let Some(file) = &chain.state_file {
        case.home("state_file", file);
    }
    if !Path::new(&path).is_absolute() && !path.is_empty() {
        let written = match chain.state_file {
            Some(_) => "it is relative",
            None => "by default it is relative",
        };
        let message = format!(
            "the state file is {path} in whatever folder tmkms is started in ({written}): from another folder it begins \
             at height 0"
        );
        let remedy = "give `state_file` its whole path; the file that is in use stays where it is";
        case.warn(Kind::StateRelative, span, message, remedy);
    }
    if case.disk.is_link(&path) {
        let message = format!(
            "{path} is a symbolic link, which tmkms replaces by a file at its first signature: what it points to stays \
             behind"
        );
        let remedy = "name the file itself in `state_file`";
        case.warn(Kind::StateLinked, span, message, remedy);
    }
    match case.disk.read(&path) {
        Ok(bytes) => unsound(case, &path, span, &bytes),
        Err(Unread::Missing) => missing(case, &path, span),
        Err(why) => {
            let message = format!("tmkms can't read the state file {path}, and exits: {why}");
            let remedy = "make it a file that tmkms' user can read and write";
            case.refuse(Kind::StateRefused, span, message, remedy);
        }
    }
}

fn unsound(case: &mut Case<'_>, path: &str, span: &std::ops::Range<usize>, bytes: &[u8]) {
    let Err(error) = SignState::parse(bytes) else {
        return;
    };
    // The three that kmsctl is stricter in than tmkms.
    let own = ["height", "round", "step", "block_id"];
    let taken = match &error {
        StateError::Negative { field } => *field == "step",
        StateError::DuplicateField { field } => {
            !own.contains(&field.as_str()) && field != "block_id.parts"
        }
        StateError::NotAnObject => is_row(bytes),
        _ => false,
    };
    let (effect, does) = match taken {
        true => (Effect::Trap, "takes it, and kmsctl doesn't"),
        false => (Effect::Refuses, "refuses it and exits"),
    };
    let message = format!("{path}: {error}; {} {does}", case.tmkms);
    let remedy = "find out what wrote it; never delete a state file to get a signer up";
    case.say(Kind::StateRefused, effect, span, message, remedy);
}

/// An array of the four values, which a derived reader takes as well as an object.
fn is_row(bytes: &[u8]) -> bool {
    let Ok([height, round, step, block_id]) =
        serde_json::from_slice::<[serde_json::Value; 4]>(bytes)
    else {
        return false;
    };
    let object = serde_json::json!({
        "height": height, "round": round, "step": step, "block_id": block_id,
    });
    SignState::parse(object.to_string().as_bytes()).is_ok()
}

fn missing(case: &mut Case<'_>, path: &str, span: &std::ops::Range<usize>) {
    let folder = match Path::new(path).parent() {
        None => {
            let message = "tmkms panics on an empty path to a state file";
            let remedy = "write the state file's whole path";
            case.say(Kind::StateRefused, Effect::Panics, span, message, remedy);
            return;
        }
        Some(folder) => folder.to_string_lossy().into_owned(),
    };
    let folder = if folder.is_empty() { "." } else { &folder };
    if case.disk.is_folder(folder) {
        let message = format!(
            "{path} isn't there: tmkms makes it and begins at height 0, with nothing to keep it from signing again what \
             it signed before"
        );
        let remedy = "right for a chain that this key never signed; else correct the path";
        case.warn(Kind::StateMissing, span, message, remedy);
    } else {
        let message =
            format!("tmkms can't make the state file: there is no folder {folder}, and it exits");
        let remedy = "correct the path, or make the folder for tmkms' user";
        case.refuse(Kind::StateRefused, span, message, remedy);
    }
}

/// The ids that have a `[[chain]]`.
pub(super) fn known(config: &Config) -> std::collections::BTreeSet<&str> {
    config
        .chains
        .iter()
        .map(|c: &config::Chain| c.id.value.as_str())
        .collect()
}
