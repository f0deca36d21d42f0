//! What is known of the keys behind the names: whether tmkms could sign with each, and whether rule S1 can be judged by
//! public keys.
//!
//! What a start would fail on blocks: an unfit key file, a login that isn't taken, a missing key. A device that can't be
//! reached, or is full, doesn't: rule S1 says itself what tells keys apart then, their names, and days ahead of an
//! upgrade a connector may be away. It is said, since the names may be two for one key (S12).

use std::collections::{BTreeMap, BTreeSet};

use super::super::ChainFile;
use super::keys::signs;
use crate::finding::{Code, Finding, Severity};
use crate::host::hsm::{Adapter, Answer, HsmKey, SESSIONS, Trouble};
use crate::inventory::{Inventory, Signer};
use crate::keys::{Device, Unknown};
use crate::unit::UnitName;
use tmkms_core::config::KeyRef;
use tmkms_core::protocol::TmkmsVersion;

/// What speaks against the current signers' keys. What concerns only signers outside `judged` warns where it would
/// block: they aren't started.
pub fn findings(inventory: &Inventory, judged: impl Fn(&Signer) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for signer in inventory.current() {
        let key_files = signs(signer);
        let keys = key_files.iter().flat_map(|f: &ChainFile| &f.keys);
        for finding in keys.filter_map(|key| key_file(inventory, signer, key)) {
            findings.push(weighed(finding, judged(signer)));
        }
        for device in devices_of(inventory, signer) {
            for finding in device_findings(device, signer) {
                findings.push(weighed(finding, judged(signer)));
            }
        }
    }
    // What several signers share is said once, as grave as it is for any of them.
    let what = |f: &Finding| {
        (
            f.code,
            f.signer.clone(),
            f.path.clone(),
            f.line,
            f.message.clone(),
        )
    };
    findings.sort_by_key(|f| (what(f), std::cmp::Reverse(f.severity)));
    findings.dedup_by_key(|f| what(f));
    findings
}

fn weighed(mut finding: Finding, judged: bool) -> Finding {
    if !judged && finding.blocks() {
        finding.severity = Severity::Warn;
    }
    finding
}

fn key_file(inventory: &Inventory, signer: &Signer, key: &KeyRef) -> Option<Finding> {
    let KeyRef::Softsign { path } = key else {
        return None;
    };
    let finding = match inventory.keys.unknown(key) {
        None if inventory.keys.is_expanded(key) => expanded(signer.version)?,
        None => return None,
        Some(unknown) => unusable(inventory, unknown)?,
    };
    Some(finding.of(signer.name()).at(std::path::Path::new(path)))
}

/// tmkms 0.15 takes an expanded key, and those before it exit.
fn expanded(version: Option<TmkmsVersion>) -> Option<Finding> {
    let remedy = "write the key's seed there, if you still have it: a running tmkms has the key in memory, and keeps it \
                  until it is stopped";
    let what = "the key file holds an expanded key, which tmkms takes from 0.15.0 on";
    match version {
        Some(version) if (version.major, version.minor) >= (0, 15) => None,
        Some(version) => Some(
            Finding::block(
                Code::KeyUnfit,
                format!("{what}, and tmkms {version} refuses"),
            )
            .remedy(remedy),
        ),
        None => Some(
            Finding::warn(
                Code::KeyUnfit,
                format!("{what}, and which tmkms this signer runs isn't known"),
            )
            .remedy(format!(
                "ask the binary: `tmkms version`; before 0.15.0, {remedy}"
            )),
        ),
    }
}

fn unusable(inventory: &Inventory, unknown: &Unknown) -> Option<Finding> {
    Some(match unknown {
        // A folder that stands for a host has no keys in it, and shouldn't.
        Unknown::Missing if inventory.keys_left_out => return None,
        Unknown::Missing => Finding::block(
            Code::KeyUnfit,
            "the key file isn't there: tmkms wouldn't start",
        )
        .remedy("put it back, or correct the config's path to it"),
        Unknown::Unfit(why) => Finding::block(
            Code::KeyUnfit,
            format!("tmkms can't take this key file: {why}"),
        )
        .remedy("a running tmkms has the key in memory: find the right file before it is stopped"),
        Unknown::Unreadable(why) | Unknown::Device(why) | Unknown::NotAsked(why) => Finding::warn(
            Code::KeyUnknown,
            format!("the key file can't be read ({why}): only its path tells it from other signers' keys"),
        )
        .remedy("run kmsctl as root, who can read it"),
    })
}

/// The devices that a signer's config reaches.
pub fn devices_of<'a>(
    inventory: &'a Inventory,
    signer: &'a Signer,
) -> impl Iterator<Item = &'a Device> {
    let devices = inventory.keys.devices.iter();
    devices.filter(|device| device.signers.contains(&signer.unit.name))
}

fn device_findings(device: &Device, signer: &Signer) -> Vec<Finding> {
    let here = |finding: Finding| finding.at(&device.config).line(device.line);
    let trouble = match &device.answer {
        Ok(answer) => return answered(device, answer, signer),
        Err(trouble) => trouble,
    };
    let by_name = "only names tell its keys from other signers' keys";
    vec![here(match trouble {
        Trouble::NotAsked(_) => return Vec::new(),
        Trouble::Refused(why) => {
            Finding::block(Code::HsmRefused, format!("{why}: tmkms wouldn't start"))
                .remedy("correct auth in the config, or the password file: a running tmkms has logged in before")
        }
        Trouble::Full(why) => Finding::warn(Code::HsmFull, format!("{why}; {by_name}")).remedy(
            "wait half a minute: a device gives idle sessions back after 30 s; `systemctl stop` signers that aren't needed",
        ),
        Trouble::Unreachable(why) | Trouble::Failed(why) => {
            Finding::warn(Code::KeyUnknown, format!("{why}; {by_name}")).remedy(
                "look at `systemctl status yubihsm-connector` and at the device; then plan again",
            )
        }
    })]
}

fn answered(device: &Device, answer: &Answer, signer: &Signer) -> Vec<Finding> {
    let adapter = &device.adapter;
    let mut findings = Vec::new();
    if let Some(claims) = device.claims.as_ref().filter(|c| **c != answer.serial) {
        let message = format!(
            "the config names YubiHSM {claims}, and {} answers at {adapter}: tmkms doesn't check that over http, and \
             the same key may be in both",
            answer.serial
        );
        findings.push(
            Finding::block(Code::HsmSerial, message)
                .at(&device.config)
                .line(device.line)
                .remedy("correct serial_number or adapter; `--accept hsm-serial` where that device is meant"),
        );
    }
    for hsm in &signer.config.view.yubihsm {
        for key in &hsm.keys {
            let Some(found) = answer.keys.get(&key.key) else {
                continue;
            };
            let (id, auth) = (key.key, device.auth_key);
            let why = match found {
                HsmKey::Absent => format!(
                    "YubiHSM {} has no key {id} that authentication key {auth} may see",
                    answer.serial
                ),
                HsmKey::NotEd25519(kind) => format!(
                    "key {id} of YubiHSM {} is no Ed25519 key ({kind})",
                    answer.serial
                ),
                HsmKey::Ed25519 {
                    may_sign: false, ..
                } => format!(
                    "key {id} of YubiHSM {} lacks the capability sign-eddsa",
                    answer.serial
                ),
                HsmKey::Ed25519 { .. } if !answer.auth.may_sign => format!(
                    "authentication key {auth} of YubiHSM {} lacks the capability sign-eddsa",
                    answer.serial
                ),
                HsmKey::Ed25519 { .. } => continue,
            };
            let message = format!("{why}: tmkms couldn't sign with it");
            findings.push(
                Finding::block(Code::HsmKeyUnfit, message)
                    .of(signer.name())
                    .at(&signer.config.path)
                    .line(key.line)
                    .remedy("correct the key's id; `tmkms yubihsm keys list` shows what there is"),
            );
        }
    }
    findings
}

/// What isn't in the way of an upgrade and should be known of devices: keys that may leave them, logins that may do
/// more than sign.
pub fn hygiene(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in &inventory.keys.devices {
        let Ok(answer) = &device.answer else {
            continue;
        };
        let here = |finding: Finding| finding.at(&device.config).line(device.line);
        let exportable = answer.keys.iter().filter(|(_, key)| {
            matches!(
                key,
                HsmKey::Ed25519 {
                    exportable: true,
                    ..
                }
            )
        });
        for (id, _) in exportable {
            let message = format!(
                "key {id} of YubiHSM {} is exportable-under-wrap: whoever has a wrap key can carry it elsewhere",
                answer.serial
            );
            findings.push(here(
                Finding::warn(Code::HsmKeyExportable, message)
                    .of(&device.signer)
                    .remedy("if a backup was made of it, delete the wrap key from the device and keep it offline"),
            ));
        }
        if answer.auth.also.is_empty() {
            continue;
        }
        let also = match answer.auth.everything {
            true => "everything, as the one that a new device comes with".to_owned(),
            false => answer.auth.also.join(", "),
        };
        let message = format!(
            "authentication key {} of YubiHSM {} may do more than sign: {also}",
            device.auth_key, answer.serial
        );
        findings.push(here(
            Finding::warn(Code::HsmLoginBroad, message)
                .of(&device.signer)
                .remedy("give tmkms an authentication key of its own, with sign-eddsa alone"),
        ));
    }
    findings
}

/// A device, whatever logins and connectors lead to it, and how many of its sessions the running signers hold, at least.
pub struct Held<'a> {
    /// The first of the logins.
    pub device: &'a Device,
    pub running: usize,
}

/// The sessions of each device: what two logins hold, they hold of one device.
pub fn sessions(inventory: &Inventory) -> Vec<Held<'_>> {
    let devices = &inventory.keys.devices;
    let serials = devices.iter().filter_map(|device| {
        let answer = device.answer.as_ref().ok()?;
        Some((&device.adapter, answer.serial.as_str()))
    });
    let serials: BTreeMap<_, _> = serials.collect();
    let mut held: BTreeMap<Result<&str, &Adapter>, (&Device, BTreeSet<&UnitName>)> =
        BTreeMap::new();
    for device in devices {
        let is = serials.get(&device.adapter).copied().ok_or(&device.adapter);
        let (_, units) = held.entry(is).or_insert((device, BTreeSet::new()));
        let up = inventory.signers.iter().filter(|s| s.is_up());
        units.extend(
            up.map(|s| &s.unit.name)
                .filter(|u| device.signers.contains(u)),
        );
    }
    let count = |(device, units): (_, BTreeSet<_>)| Held {
        device,
        running: units.len().min(SESSIONS),
    };
    held.into_values().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expanded_key_is_for_0_15() {
        let weighs = |version: Option<&str>| {
            let version = version.map(|v| v.parse().unwrap());
            expanded(version).map(|finding| finding.severity)
        };
        for version in ["0.10.1", "0.11.0", "0.12.2", "0.13.1", "0.14.0"] {
            assert_eq!(weighs(Some(version)), Some(Severity::Block), "{version}");
        }
        for version in ["0.15.0", "0.16.0", "1.0.0"] {
            assert_eq!(weighs(Some(version)), None, "{version}");
        }
        assert_eq!(weighs(None), Some(Severity::Warn));
    }
}
