//! `[[validator]]`: whom tmkms dials, in which protocol, and what it does when that goes wrong.

use std::collections::BTreeMap;

use super::address::{self, Address};
use super::key_file::Wrong;
use super::{Case, Effect, Kind};
use crate::Spanned;
use crate::config::{Config, SoftsignFormat, Validator};
use crate::keys::SecretKey;
use crate::protocol::{ProtocolVersion, Support, support};

pub(super) fn judge(case: &mut Case<'_>, text: &str, config: &Config) {
    let chains = super::chains::known(config);
    if config.validators.is_empty() {
        let message = "no [[validator]] is configured: tmkms says \"Shutdown completed successfully\" and exits with 0";
        let remedy = "add the [[validator]] that this signer serves";
        let end = text.trim_end().len();
        case.warn(Kind::NoValidator, &(end..end), message, remedy);
    }
    let mut served: BTreeMap<&str, Vec<&Validator>> = BTreeMap::new();
    for validator in &config.validators {
        served
            .entry(&validator.chain_id.value)
            .or_default()
            .push(validator);
        if !chains.contains(validator.chain_id.value.as_str()) {
            let message = format!(
                "there is no [[chain]] {}, and tmkms exits: unregistered chain",
                validator.chain_id.value
            );
            let remedy = "add the [[chain]], or correct the id";
            case.refuse(
                Kind::ChainUnknown,
                &validator.chain_id.span,
                message,
                remedy,
            );
        }
        address_of(case, validator);
        protocol(case, validator);
        height(case, validator);
        if !validator.reconnect {
            let message = "with `reconnect = false` tmkms exits at the first fault of this connection, and takes the \
                           other validators' connections with it";
            let remedy = "leave `reconnect` out, unless something else starts tmkms again";
            case.warn(Kind::NoReconnect, &validator.addr.span, message, remedy);
        }
    }
    for (chain, validators) in &served {
        if let [_, second, ..] = validators[..] {
            let message = format!(
                "{} validators of {chain} share this signer: asked by two at once, it can double-sign",
                validators.len()
            );
            let remedy = "keep one [[validator]] of a chain, or make sure that only one of these nodes ever votes";
            case.warn(Kind::SeveralValidators, &second.addr.span, message, remedy);
        }
    }
    for chain in &config.chains {
        if !config.validators.is_empty() && !served.contains_key(chain.id.value.as_str()) {
            let message = format!(
                "no [[validator]] asks for {}: it is never signed",
                chain.id.value
            );
            let remedy = "add its [[validator]], or take the chain out; its state file stays";
            case.warn(Kind::ChainUnserved, &chain.id.span, message, remedy);
        }
    }
}

fn address_of(case: &mut Case<'_>, validator: &Validator) {
    let addr = &validator.addr;
    match address::parse(&addr.value, case.tmkms.minor()) {
        Err(why) => {
            let message = format!("tmkms refuses this address: {why}");
            let remedy = "write tcp://PEER-ID@HOST:PORT, or unix:///PATH";
            case.refuse(Kind::AddressRefused, &addr.span, message, remedy);
        }
        Ok(Address::Tcp { peer_id }) => {
            if !peer_id {
                let message = "without a peer id tmkms signs for whoever answers at this address, and says \"unverified \
                               validator peer ID!\"";
                let remedy = "put the node's id before the host: `tcp://ID@HOST:PORT` (`cometbft show-node-id`)";
                case.warn(Kind::PeerUnverified, &addr.span, message, remedy);
            }
            identity(case, validator);
        }
        Ok(Address::Unix { path, host }) => {
            if !host.is_empty() || path.is_empty() {
                let message =
                    format!("tmkms takes {path:?} as the socket's path and passes over {host:?}");
                let remedy = "write unix:// and the whole path, with three slashes";
                case.warn(Kind::AddressOdd, &addr.span, message, remedy);
            }
            if validator.timeout.is_some() {
                let message = "tmkms has no timeout on a Unix socket: `timeout` is passed over";
                case.warn(Kind::TimeoutIgnored, &addr.span, message, "take it out");
            }
        }
    }
}

/// The key that tmkms shows to the validator, read before it dials.
fn identity(case: &mut Case<'_>, validator: &Validator) {
    // Without a second try the failure is the process's end.
    let (effect, does) = match validator.reconnect {
        true => (
            Effect::Trap,
            "it starts, and tries again every second for ever",
        ),
        false => (Effect::Refuses, "with `reconnect = false` it exits"),
    };
    let Some(path) = &validator.secret_key else {
        let message = format!("tmkms can't dial a tcp validator without `secret_key`: {does}");
        let remedy =
            "name the identity key's file in `secret_key`; `tmkms softsign keygen` makes one";
        case.say(
            Kind::IdentityKey,
            effect,
            &validator.addr.span,
            message,
            remedy,
        );
        return;
    };
    case.home("secret_key", path);
    if let Err(why) = read_key(case, path) {
        let message = format!(
            "the identity key {} is of no use: {why}; {does}",
            path.value
        );
        let remedy = "put it there, readable for tmkms' user, as 32 bytes in base64";
        case.say(Kind::IdentityKey, effect, &path.span, message, remedy);
    }
}

fn read_key(case: &Case<'_>, path: &Spanned<String>) -> Result<(), Wrong> {
    let bytes = case.disk.read(&path.value).map_err(Wrong::Unread)?;
    SecretKey::read(&bytes, SoftsignFormat::Base64)?;
    Ok(())
}

fn protocol(case: &mut Case<'_>, validator: &Validator) {
    let given = validator.protocol_version.as_ref();
    let span = given.map_or(&validator.addr.span, |p| &p.span);
    let spoken = match given.map(|p| p.value.parse::<ProtocolVersion>()) {
        Some(Err(_)) => {
            let message = format!(
                "{} doesn't know this protocol version and refuses it",
                case.tmkms
            );
            case.refuse(Kind::ProtocolRefused, span, message, speaks(case));
            return;
        }
        Some(Ok(protocol)) => Some(protocol),
        None => None,
    };
    let words = spoken.map_or("a missing `protocol_version`".to_owned(), |p| p.to_string());
    match support(case.tmkms.version, spoken) {
        Some(Support::Refused) => {
            let message = format!("{} refuses {words}", case.tmkms);
            case.refuse(Kind::ProtocolRefused, span, message, speaks(case));
        }
        Some(Support::Panics) => {
            let message = format!(
                "{} takes {words}, and panics in a loop as soon as a validator answers",
                case.tmkms
            );
            case.say(
                Kind::ProtocolRefused,
                Effect::Panics,
                span,
                message,
                speaks(case),
            );
        }
        Some(Support::Works) if case.tmkms.minor() == 15 => match spoken {
            Some(ProtocolVersion::V0_34) => {
                let message = format!(
                    "{} calls v0.34 deprecated; it signs the same as with v0.38",
                    case.tmkms
                );
                let remedy = "keep it as long as the way back may lead to 0.14 or older, which know no v0.38";
                case.tell(Kind::ProtocolDeprecated, span, message, remedy);
            }
            _ => {
                let message = format!(
                    "tmkms 0.14 and older refuse {words}: this config has no way back to them"
                );
                let remedy = "write v0.34 where the way back matters; 0.15 signs the same with it";
                case.tell(Kind::ProtocolOneWay, span, message, remedy);
            }
        },
        Some(Support::Works) => {
            if matches!(
                spoken,
                Some(ProtocolVersion::Legacy | ProtocolVersion::V0_33)
            ) {
                let message = format!(
                    "{words} is only known to tmkms 0.12 and older, and to Tendermint before 0.34"
                );
                let remedy = "v0.34 for anything newer, CometBFT 0.38 included";
                case.tell(Kind::ProtocolDeprecated, span, message, remedy);
            }
        }
        None => {}
    }
}

fn speaks(case: &Case<'_>) -> String {
    let spoken = ProtocolVersion::ALL
        .into_iter()
        .filter(|p| support(case.tmkms.version, Some(*p)) == Some(Support::Works))
        .map(ProtocolVersion::as_str);
    let spoken: Vec<&str> = spoken.collect();
    format!("it speaks {}; choose by the validator", spoken.join(", "))
}

fn height(case: &mut Case<'_>, validator: &Validator) {
    if let Some(height) = &validator.max_height {
        let message = format!(
            "tmkms signs up to height {} and nothing above it",
            height.value
        );
        let remedy = "take it out once the chain goes on";
        case.tell(Kind::MaxHeight, &height.span, message, remedy);
    }
}
