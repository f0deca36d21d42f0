//! Learns the public half of each signer's keys: from key files always, from devices when asked to.
//!
//! Nothing of a key or a password leaves here but public keys. Each login is used once, whatever number of signers
//! share it, and a device that doesn't answer isn't asked again.

use std::collections::{BTreeMap, BTreeSet};

use tmkms_core::KeyFile;
use tmkms_core::config::{Adapter as Named, KeyRef, KeyType, Yubihsm};
use zeroize::Zeroizing;

use super::signer::link_free;
use crate::host::hsm::{Adapter, Answer, HsmKey, Password, Question, Trouble};
use crate::host::{Files, Host};
use crate::inventory::{Inventory, Signer};
use crate::keys::{Device, Keys, Unknown};
use crate::kms::tmkms;

/// Reads the key files that configs name.
pub fn files(files: &dyn Files, signers: &[Signer]) -> Keys {
    let mut keys = Keys::default();
    let mut read = BTreeMap::new();
    for signer in signers {
        let provided = signer.config.view.softsign.iter();
        for key in provided.filter(|key| key.key_type == KeyType::Consensus) {
            let path = tmkms::absolute(&key.path.value, &signer.unit.working_directory);
            let path = link_free(files, &path);
            let file = read
                .entry((path.clone(), key.key_format == Default::default()))
                .or_insert_with(|| match files.read_secret(&path) {
                    Ok(bytes) => KeyFile::read(&bytes, key.key_format)
                        .map_err(|why| Unknown::Unfit(why.to_string())),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Unknown::Missing),
                    Err(e) => Err(Unknown::Unreadable(e.to_string())),
                });
            let path = path.to_string_lossy().into_owned();
            let key = KeyRef::Softsign { path };
            if matches!(file, Ok(file) if file.expanded) {
                keys.saw_expanded(key.clone());
            }
            keys.saw(key, file.clone().map(|file| file.public));
        }
    }
    keys
}

/// Asks the YubiHSMs of the current signers, and notes what they say.
pub fn devices(host: &mut Host, inventory: &mut Inventory) {
    let mut keys = std::mem::take(&mut inventory.keys);
    let running = !inventory.processes.is_empty() || inventory.signers.iter().any(Signer::is_up);
    let mut silent: BTreeMap<Adapter, Trouble> = BTreeMap::new();
    for (login, of) in logins(inventory) {
        let Some((signer, hsm)) = of.first().copied() else {
            continue;
        };
        let ids = of.iter().flat_map(|(_, hsm)| &hsm.keys).map(|key| key.key);
        let ids: BTreeSet<u16> = ids.collect();
        let answer = match silent.get(&login.adapter) {
            Some(trouble) => Err(trouble.clone()),
            None => ask(host, &login, signer, hsm, ids, running),
        };
        if let Err(trouble @ (Trouble::Unreachable(_) | Trouble::Full(_))) = &answer {
            silent.insert(login.adapter.clone(), trouble.clone());
        }
        for (signer, hsm) in &of {
            note(&mut keys, signer, hsm, &answer);
        }
        keys.devices.push(Device {
            signers: of.iter().map(|(s, _)| s.unit.name.clone()).collect(),
            signer: signer.name(),
            config: signer.config.path.clone(),
            line: hsm.line,
            adapter: login.adapter,
            auth_key: login.auth_key,
            claims: hsm.serial_number.as_ref().map(|s| s.value.clone()),
            answer,
        });
    }
    inventory.keys = keys;
}

/// Whose password it is: one file's, or one config's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Login {
    adapter: Adapter,
    auth_key: u16,
    claims: Option<String>,
    password: String,
}

type Reaching<'a> = Vec<(&'a Signer, &'a Yubihsm)>;

fn logins(inventory: &Inventory) -> BTreeMap<Login, Reaching<'_>> {
    let mut logins: BTreeMap<Login, Reaching<'_>> = BTreeMap::new();
    for signer in inventory.current() {
        for hsm in &signer.config.view.yubihsm {
            let claims = hsm.serial_number.as_ref().map(|s| s.value.clone());
            let login = Login {
                adapter: match &hsm.adapter {
                    Named::Http { addr } => Adapter::Http {
                        addr: addr.value.clone(),
                    },
                    Named::Usb { .. } => Adapter::Usb {
                        serial: claims.clone(),
                    },
                },
                auth_key: hsm.auth.key,
                claims,
                password: match &hsm.auth.password_file {
                    Some(path) => path.value.clone(),
                    None => signer.config.path.display().to_string(),
                },
            };
            logins.entry(login).or_default().push((signer, hsm));
        }
    }
    logins
}

fn ask(
    host: &mut Host,
    login: &Login,
    signer: &Signer,
    hsm: &Yubihsm,
    keys: BTreeSet<u16>,
    running: bool,
) -> Result<Answer, Trouble> {
    if !host.hsm.asks() {
        let why = "no device is asked for a host that is a folder";
        return Err(Trouble::NotAsked(why.into()));
    }
    if running && matches!(login.adapter, Adapter::Usb { .. }) {
        let why = "it is on USB, and asking would take it from the tmkms that runs here";
        return Err(Trouble::NotAsked(why.into()));
    }
    let password = password(&*host.files, signer, hsm)?;
    host.hsm.ask(Question {
        adapter: login.adapter.clone(),
        auth_key: login.auth_key,
        password,
        keys,
    })
}

/// The password as tmkms takes it: of a file, without the blanks at its end.
fn password(files: &dyn Files, signer: &Signer, hsm: &Yubihsm) -> Result<Password, Trouble> {
    if let Some(file) = &hsm.auth.password_file {
        let path = tmkms::absolute(&file.value, &signer.unit.working_directory);
        let bytes = files.read_secret(&path).map_err(|e| {
            let why = format!("the password file {} can't be read: {e}", path.display());
            match e.kind() {
                std::io::ErrorKind::NotFound => Trouble::Refused(why),
                _ => Trouble::Failed(why),
            }
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            Trouble::Refused(format!("the password file {} isn't UTF-8", path.display()))
        })?;
        return Ok(Password::new(Zeroizing::new(text.trim_end().to_owned())));
    }
    let token = hsm.auth.password_span.clone();
    let value = token
        .and_then(|span| signer.config.text.get(span))
        .and_then(|token| token.parse::<toml_edit::Value>().ok());
    let text = value.as_ref().and_then(toml_edit::Value::as_str);
    let text = text.ok_or_else(|| Trouble::Refused("the config has no password for it".into()))?;
    Ok(Password::new(Zeroizing::new(text.to_owned())))
}

/// What an answer says of one signer's keys.
fn note(keys: &mut Keys, signer: &Signer, hsm: &Yubihsm, answer: &Result<Answer, Trouble>) {
    for key in &hsm.keys {
        let public = match answer {
            Err(Trouble::NotAsked(why)) => Err(Unknown::NotAsked(why.clone())),
            Err(trouble) => Err(Unknown::Device(trouble.to_string())),
            Ok(answer) => match answer.keys.get(&key.key) {
                Some(HsmKey::Ed25519 { public, .. }) => Ok(*public),
                _ => Err(Unknown::Device("it holds no such Ed25519 key".into())),
            },
        };
        let named = signer.chains.iter().flat_map(|chain| &chain.keys);
        let named = named.filter(|named| {
            matches!(named, KeyRef::Yubihsm { key: id, connector, .. }
                if *id == key.key && *connector == connector_of(hsm))
        });
        for named in named.collect::<BTreeSet<_>>() {
            keys.saw(named.clone(), public.clone());
        }
    }
}

/// As a reference to a key has it.
fn connector_of(hsm: &Yubihsm) -> &str {
    match &hsm.adapter {
        Named::Usb { .. } => "usb",
        Named::Http { addr } => &addr.value,
    }
}
