//! `[providers]`: whether each key can be loaded, and whether each chain ends up with exactly one.

use std::collections::{BTreeMap, BTreeSet};

use super::key_file::{self, Wrong};
use super::{Case, Effect, Kind};
use crate::Spanned;
use crate::config::{Adapter, Config, KeyType, Softsign, SoftsignFormat, Yubihsm};

pub(super) fn judge(case: &mut Case<'_>, config: &Config) {
    softsign(case, config);
    yubihsm(case, config);
    chains(case, config);
    served(case, config);
}

/// Every chain id that a key names, with what tells two keys of one kind apart.
fn named<'a>(case: &Case<'_>, config: &'a Config) -> Vec<(&'a Spanned<String>, KeyType, String)> {
    let mut named = Vec::new();
    for key in &config.softsign {
        let which = format!("file {}", case.disk.one_name(&key.path.value));
        named.extend(
            key.chain_ids
                .iter()
                .map(|c| (c, key.key_type, which.clone())),
        );
    }
    for key in config.yubihsm.iter().flat_map(|hsm| &hsm.keys) {
        let which = format!("YubiHSM {}", key.key);
        named.extend(
            key.chain_ids
                .iter()
                .map(|c| (c, key.key_type, which.clone())),
        );
    }
    for ledger in &config.ledgertm {
        named.extend(
            ledger
                .chain_ids
                .iter()
                .map(|c| (c, KeyType::Consensus, "Ledger".to_owned())),
        );
    }
    for key in config.fortanixdsm.iter().flat_map(|dsm| &dsm.signing_keys) {
        let which = format!("Fortanix {}", key.key.value);
        named.extend(
            key.chain_ids
                .iter()
                .map(|c| (c, key.key_type, which.clone())),
        );
    }
    named
}

fn chains(case: &mut Case<'_>, config: &Config) {
    let chains = super::chains::known(config);
    let mut seen = BTreeSet::new();
    for (chain, key_type, which) in named(case, config) {
        let account = key_type == KeyType::Account;
        if !chains.contains(chain.value.as_str()) {
            let message = format!(
                "a key names {}, which has no [[chain]], and tmkms exits",
                chain.value
            );
            let remedy = "add the [[chain]], or take the id out of `chain_ids`";
            case.refuse(Kind::ChainUnknown, &chain.span, message, remedy);
        } else if !seen.insert((chain.value.as_str(), account, which)) {
            let message = format!(
                "the same key is loaded twice for {}, and tmkms exits: duplicate key",
                chain.value
            );
            case.refuse(
                Kind::ProviderRefused,
                &chain.span,
                message,
                "name the chain once",
            );
        }
    }
}

/// One consensus key a chain is what works: none and two load, and fail when the first vote is asked for.
fn served(case: &mut Case<'_>, config: &Config) {
    let mut keys: BTreeMap<&str, Vec<&Spanned<String>>> = BTreeMap::new();
    for (chain, key_type, _) in named(case, config) {
        if key_type == KeyType::Consensus {
            keys.entry(chain.value.as_str()).or_default().push(chain);
        }
    }
    for chain in &config.chains {
        match keys.get(chain.id.value.as_str()).map(Vec::as_slice) {
            None => {
                let message = format!(
                    "no consensus key names {}: tmkms starts, and can't sign a vote",
                    chain.id.value
                );
                let remedy = "put the id into the `chain_ids` of its key";
                case.warn(Kind::KeyMissing, &chain.id.span, message, remedy);
            }
            Some([_, second, ..]) => {
                let message = format!(
                    "two consensus keys name {}: tmkms loads both, and then fails at the first vote",
                    chain.id.value
                );
                let remedy = "leave the chain with the key that is its validator's";
                let span = second.span.clone();
                case.warn(Kind::KeysSeveral, &span, message, remedy);
            }
            Some(_) => {}
        }
    }
}

fn softsign(case: &mut Case<'_>, config: &Config) {
    let mut consensus = 0;
    for key in &config.softsign {
        case.home("path", &key.path);
        if key.key_type == KeyType::Consensus {
            consensus += 1;
            if consensus > 1 {
                let message =
                    "a second softsign consensus key: tmkms takes only one in a process, and exits";
                let remedy = "run the second from a config and a unit of its own";
                case.refuse(Kind::ProviderRefused, &key.path.span, message, remedy);
            }
        }
        if let Err(why) = loads(case, key) {
            let message = format!(
                "tmkms can't load the key file {}, and exits: {why}",
                key.path.value
            );
            let remedy = "put the key there in the form that `key_format` says (base64 where it says nothing)";
            case.refuse(Kind::KeyFileRefused, &key.path.span, message, remedy);
        }
    }
}

fn loads(case: &Case<'_>, key: &Softsign) -> Result<(), Wrong> {
    if key.key_type == KeyType::Account && key.key_format == SoftsignFormat::Json {
        return Err(Wrong::AccountInJson);
    }
    let bytes = case.disk.read(&key.path.value).map_err(Wrong::Unread)?;
    match (key.key_type, key.key_format) {
        (KeyType::Account, _) => key_file::account(&bytes, case.tmkms.minor()),
        (KeyType::Consensus, format) => key_file::consensus(&bytes, format, case.tmkms.minor()),
    }
}

fn yubihsm(case: &mut Case<'_>, config: &Config) {
    if let [first, second, ..] = &config.yubihsm[..] {
        let message = "a second [[providers.yubihsm]]: tmkms takes exactly one, and exits";
        let remedy = "put all keys of the device into the `keys` of one";
        let span = place(second).or_else(|| place(first)).unwrap_or_default();
        case.refuse(Kind::ProviderRefused, &span, message, remedy);
    }
    for hsm in &config.yubihsm {
        // The device is only opened for its first key.
        let used = !hsm.keys.is_empty();
        serial(case, hsm, used);
        adapter(case, hsm, used);
        if let Some(file) = &hsm.auth.password_file {
            case.home("password_file", file);
            let text = match case.disk.read(&file.value) {
                Ok(bytes) if std::str::from_utf8(&bytes).is_err() => {
                    Err("it isn't UTF-8".to_owned())
                }
                Ok(_) => Ok(()),
                Err(why) => Err(why.to_string()),
            };
            if let Err(why) = text
                && used
            {
                let message = format!(
                    "tmkms can't read the password file {}, and exits: {why}",
                    file.value
                );
                let remedy = "put it there, readable for tmkms' user and for nobody else";
                case.refuse(Kind::PasswordFileRefused, &file.span, message, remedy);
            }
        }
        if let Some(span) = &hsm.auth.password_span {
            let message = "the HSM's password stands in the config itself, for everybody who can read or back up the config";
            let remedy = "keep it in a file of its own and name that in `password_file`";
            case.warn(Kind::PasswordInline, span, message, remedy);
        }
    }
}

fn serial(case: &mut Case<'_>, hsm: &Yubihsm, used: bool) {
    let Some(serial) = &hsm.serial_number else {
        return;
    };
    let sound = serial.value.len() == 10 && serial.value.parse::<u32>().is_ok();
    if !sound && used {
        let message = "tmkms panics on this serial number: it takes ten digits, up to 4294967295 (the guides' example \
                       9876543210 is past that)";
        let remedy = "write the device's own: `yubihsm-shell -a get-device-info`, with zeros in front to make ten digits";
        case.say(
            Kind::SerialRefused,
            Effect::Panics,
            &serial.span,
            message,
            remedy,
        );
    } else if let Adapter::Http { .. } = hsm.adapter {
        let message = "over http tmkms doesn't compare the serial number with the device's: any HSM behind the connector \
                       will do";
        let remedy = "make sure of the device behind the connector";
        case.tell(Kind::SerialUnchecked, &serial.span, message, remedy);
    }
}

fn adapter(case: &mut Case<'_>, hsm: &Yubihsm, used: bool) {
    let Adapter::Http { addr } = &hsm.adapter else {
        return;
    };
    match super::address::parse(&addr.value, case.tmkms.minor()) {
        Err(why) => {
            let message = format!("tmkms refuses the connector's address: {why}");
            let remedy = "write tcp://127.0.0.1:12345, without http://";
            case.refuse(Kind::AddressRefused, &addr.span, message, remedy);
        }
        Ok(super::Address::Unix { .. }) if used => {
            let message = "tmkms panics on a Unix socket as the connector's address";
            let remedy = "write tcp://127.0.0.1:12345";
            case.say(
                Kind::AddressRefused,
                Effect::Panics,
                &addr.span,
                message,
                remedy,
            );
        }
        Ok(_) => {}
    }
}

/// Where a provider can be shown: what it says first.
fn place(hsm: &Yubihsm) -> Option<std::ops::Range<usize>> {
    match &hsm.adapter {
        Adapter::Http { addr } => Some(addr.span.clone()),
        Adapter::Usb { .. } => hsm
            .keys
            .first()
            .and_then(|key| key.chain_ids.first())
            .map(|id| id.span.clone()),
    }
}
