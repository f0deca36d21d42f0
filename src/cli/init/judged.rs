//! A new signer judged before anything of it is written, by the checks that judge those that are there: its device by key
//! identity, its config by `check`, what its user may do by `doctor`.

use std::path::Path;

use anyhow::Context;
use tmkms_core::PublicKey;
use tmkms_core::check::Tmkms;
use tmkms_core::config::Config;
use tmkms_core::protocol::{ProtocolVersion, Support, TmkmsVersion, support};

use super::foreseen::Foreseen;
use super::place;
use crate::check;
use crate::discover;
use crate::doctor;
use crate::exit::Failure;
use crate::finding::{Finding, Severity};
use crate::host::{Files, Host};
use crate::init::{Provider, Signer};
use crate::inventory::{self, ConfigFile, Inventory, RunState, Unit, UnitLink};
use crate::keys::{Device, Unknown};
use crate::paths::ManagedLink;
use crate::plan::safety::identity;
use crate::unit::variables::Variables;

/// The signer as discovery will see it, once its unit is enabled.
pub fn discovered(
    files: &dyn Files,
    signer: &Signer,
    config: &str,
    unit: &str,
) -> Result<inventory::Signer, Failure> {
    let fragment = place::unit_path(signer)?.as_path().to_owned();
    let link = ManagedLink::wants("multi-user.target", signer.unit())
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    let path = signer.names.config.as_path();
    let view = Config::parse(config).context("reading the rendered tmkms.toml")?;
    Ok(inventory::Signer {
        chains: discover::chains(files, &view, &signer.home),
        config: ConfigFile {
            path: path.to_owned(),
            folder: path.parent().unwrap_or(Path::new("/")).to_owned(),
            text: config.to_owned(),
            view,
        },
        unit: Unit {
            name: signer.unit().clone(),
            text: unit.to_owned(),
            linked: false,
            drop_ins: Vec::new(),
            drop_in_texts: Vec::new(),
            exec: vec![
                signer.binary.display().to_string(),
                "start".into(),
                "-c".into(),
                signer.names.config.to_string(),
            ],
            user: signer.user.name.clone(),
            working_directory: signer.home.clone(),
            file_variables: Variables::default(),
            needs_reload: false,
            links: vec![UnitLink {
                link,
                target: fragment.clone(),
            }],
            aliases: Vec::new(),
            mask: false,
            pulled_in_by: Default::default(),
            closed: false,
            unheeded: false,
            run: RunState::default(),
            fragment,
        },
        version: None,
        binary: None,
    })
}

/// Asks the new signer's device, and those of the others, whose keys may be the same one: the key's public half, where
/// devices of this host are asked at all.
///
/// # Errors
/// The device doesn't answer, doesn't take the login, is another one, or has no such key that can sign.
pub fn device(
    host: &mut Host,
    inventory: &mut Inventory,
    signer: &Signer,
    new: inventory::Signer,
    warnings: &mut Vec<String>,
) -> Result<Option<PublicKey>, Failure> {
    let Provider::Yubihsm(device) = &signer.provider else {
        discover::devices(host, inventory);
        return Ok(None);
    };
    if device.serial.is_none() {
        warnings.push(
            "no --serial-number: another device on the same connector would be taken for this one"
                .into(),
        );
    }
    inventory.signers.push(new);
    discover::devices(host, inventory);
    let new: Vec<_> = inventory.signers.pop().into_iter().collect();
    let mut alone = Inventory {
        signers: new,
        ..inventory.clone()
    };
    let findings = identity::findings(&alone, |_| true);
    // Signers that are there may do without an answer. One that is new begins with a key that was seen.
    if let Some(finding) = findings.first() {
        return Err(Failure::refused(finding.sentence()));
    }
    let own = |device: &Device| device.signers.contains(signer.unit());
    alone.keys.devices.retain(own);
    warnings.extend(identity::hygiene(&alone).iter().map(Finding::sentence));
    let key = signer.key();
    if let Some(Unknown::NotAsked(why)) = alone.keys.unknown(&key) {
        warnings.push(format!("whether {key} is there isn't known: {why}"));
    }
    Ok(alone.keys.public(&key))
}

/// Judges what is about to be written; what only speaks against it.
///
/// # Errors
/// Its tmkms would refuse the config, or the unit's user couldn't do what a signer must.
pub fn written(
    foreseen: &Foreseen<'_>,
    signer: &Signer,
    new: &inventory::Signer,
    version: Option<TmkmsVersion>,
) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    let version = version.filter(|version| Tmkms::any(*version).is_known());
    if version.is_none() {
        warnings.push(format!(
            "{} doesn't tell a version that kmsctl knows: whether it works with {} isn't known",
            signer.binary.display(),
            signer.protocol
        ));
    }
    let tmkms = Tmkms::any(version.unwrap_or(usual(signer.protocol)));
    let path = signer.names.config.as_path();
    let judged = check::judge(foreseen, path, &signer.home, &tmkms);
    let (denied, unjudged) = doctor::files::denied(foreseen, std::iter::once(new));
    let config = judged.findings.into_iter().map(|placed| placed.finding);
    let findings: Vec<Finding> = config.chain(denied).collect();
    if let Some(finding) = findings.iter().find(|finding| finding.blocks()) {
        return Err(Failure::refused(format!(
            "{}; or choose another place, or another --user or --binary",
            finding.sentence()
        )));
    }
    let warned = findings.iter().filter(|f| f.severity == Severity::Warn);
    warnings.extend(warned.map(Finding::sentence));
    warnings.extend(unjudged);
    Ok(warnings)
}

/// The version that a config is judged by where the binary doesn't tell its own: one that speaks the protocol.
fn usual(protocol: ProtocolVersion) -> TmkmsVersion {
    let [older, newer] = [12, 15].map(|minor| TmkmsVersion {
        major: 0,
        minor,
        patch: 0,
    });
    match support(older, Some(protocol)) {
        Some(Support::Works) => older,
        _ => newer,
    }
}
