//! The new signer's keys: read or made, and held against those that sign on this host already.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use tmkms_core::config::KeyRef;
use tmkms_core::keys::{PublicKey, SEED_LENGTH, SecretKey};
use zeroize::Zeroizing;

use super::InitArgs;
use crate::cli::state::absolute;
use crate::exit::Failure;
use crate::host::files::Tree;
use crate::host::{Entry, Files};
use crate::init::{Device, Provider, Signer};
use crate::inventory::Inventory;
use crate::keys::Unknown;
use crate::ledger::{Ledger, share_key};
use crate::plan::safety;

/// The keys of a new signer.
pub struct Keys {
    /// None where a device has it.
    pub consensus: Option<SecretKey>,
    pub connection: SecretKey,
}

/// Who is to hold the consensus key.
pub fn provider(files: &Tree, args: &InitArgs) -> Result<Provider, Failure> {
    let (Some(key), Some(connector), Some(auth_key), Some(file)) = (
        args.yubihsm_key,
        &args.connector,
        args.auth_key,
        &args.password_file,
    ) else {
        return Ok(Provider::Softsign);
    };
    let address = connector.strip_prefix("tcp://").unwrap_or_default();
    let sound = address.parse::<SocketAddr>().is_ok()
        || address.rsplit_once(':').is_some_and(|(host, port)| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
            !host.is_empty() && host.chars().all(fits) && port.parse::<u16>().is_ok()
        });
    if !sound {
        return Err(Failure::refused(format!(
            "{connector:?} is no connector's address such as tcp://127.0.0.1:12345; tmkms refuses http://"
        )));
    }
    let serial = args.serial_number.clone();
    if let Some(serial) = &serial {
        // tmkms panics on any other.
        let sound = serial.len() == 10 && serial.parse::<u32>().is_ok();
        if !sound || serial.starts_with('+') {
            return Err(Failure::refused(format!(
                "{serial:?} is no serial number: ten digits, 4294967295 at most"
            )));
        }
    }
    let password_file = absolute(file)?;
    let password = files
        .read_secret(&password_file)
        .with_context(|| format!("reading {}", password_file.display()))?;
    if password.trim_ascii().is_empty() {
        return Err(Failure::refused(format!(
            "{}: it holds no password",
            password_file.display()
        )));
    }
    Ok(Provider::Yubihsm(Device {
        connector: connector.clone(),
        auth_key,
        password_file,
        key,
        serial,
    }))
}

/// Reads or makes the keys.
pub fn read(
    files: &Tree,
    args: &InitArgs,
    provider: &Provider,
    warnings: &mut Vec<String>,
) -> Result<Keys, Failure> {
    let consensus = match (provider, &args.import) {
        (Provider::Yubihsm(_), _) => None,
        (Provider::Softsign, Some(file)) => Some(import(files, file, warnings)?),
        (Provider::Softsign, None) => Some(generate()?),
    };
    Ok(Keys {
        consensus,
        connection: generate()?,
    })
}

fn import(files: &Tree, file: &Path, warnings: &mut Vec<String>) -> Result<SecretKey, Failure> {
    let path = absolute(file)?;
    let shown = path.display();
    let bytes = files
        .read_secret(&path)
        .with_context(|| format!("reading {shown}"))?;
    let key = SecretKey::from_validator_json(&bytes)
        .map_err(|e| Failure::refused(format!("{shown}: {e}")))?;
    if let Ok(Some(Entry::File(facts))) = files.entry(&path)
        && facts.mode & 0o077 != 0
    {
        warnings.push(format!(
            "{shown} can be read by others than its owner (mode {:04o})",
            facts.mode
        ));
    }
    warnings.push(format!(
        "{shown} is one copy of the key too many once the signer signs: delete it, and keep one offline"
    ));
    Ok(key)
}

fn generate() -> anyhow::Result<SecretKey> {
    let mut seed = Zeroizing::new([0; SEED_LENGTH]);
    let flags = rustix::rand::GetRandomFlags::empty();
    let filled =
        rustix::rand::getrandom(seed.as_mut_slice(), flags).context("asking for random bytes")?;
    anyhow::ensure!(
        filled == SEED_LENGTH,
        "the kernel gave {filled} random bytes"
    );
    Ok(SecretKey::from_seed(&seed))
}

/// Refuses a key that signs or signed this chain on this host already, and one of which that isn't known (rules S1, S2 and
/// S12).
pub fn sign_nowhere_else(
    inventory: &Inventory,
    ledger: &Ledger,
    signer: &Signer,
    public: Option<PublicKey>,
    fresh: bool,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    // What can't be read, or signs beside every unit, may have this key.
    let strays = safety::processes(inventory);
    let unread = inventory.problems.iter().chain(&strays);
    if let Some(finding) = unread.into_iter().find(|finding| finding.blocks())
        && !fresh
    {
        return Err(Failure::refused(format!(
            "{}; until then nobody knows whether it signs with the new signer's key",
            finding.sentence()
        )));
    }
    let own = signer.key();
    let chain = signer.chain.as_str();
    for other in &inventory.signers {
        for theirs in other.chains.iter().filter(|c| c.id == chain) {
            let known = |key| inventory.keys.public(key);
            let same = share_key(&theirs.keys, std::slice::from_ref(&own))
                || public.is_some() && theirs.keys.iter().any(|key| known(key) == public);
            if same {
                return Err(Failure::refused(format!(
                    "{} signs {chain} with the same key already ({}): one key signs a chain from one process only, and its \
                     state file is {}",
                    other.unit.name,
                    other.config.path.display(),
                    theirs.state_file.display()
                )));
            }
            for key in theirs.keys.iter().filter(|_| !fresh) {
                let Some(why) = untold(inventory, &own, public, key) else {
                    continue;
                };
                let message = format!(
                    "{} signs {chain} with {key}, and whether that is the new signer's key isn't known: {why}",
                    other.unit.name
                );
                // A folder that stands for a host has no keys in it, and starts nothing.
                if inventory.keys_left_out && matches!(why, Unknown::Missing | Unknown::NotAsked(_))
                {
                    warnings.push(message);
                    continue;
                }
                return Err(Failure::refused(format!(
                    "{message}. One key signs a chain from one process only: let the key be read (run kmsctl as root, look at \
                     the file and at the device), or take that signer's unit and config away if it never signs again"
                )));
            }
        }
        let shares = |path: &Path| other.chains.iter().any(|c| c.state_file == path);
        if shares(signer.names.state.as_path()) {
            return Err(Failure::refused(format!(
                "{} is the state file of {}: name another with --state-file",
                signer.names.state, other.unit.name
            )));
        }
    }
    let (own, public) = ([own], public.into_iter().collect());
    let mut known = ledger.state_files(&own, &public, chain);
    match known.find(|file| *file != signer.names.state.as_path()) {
        Some(file) => Err(Failure::refused(format!(
            "this key signed {chain} with {} before: another state file would let it sign the same heights again",
            file.display()
        ))),
        None => Ok(()),
    }
}

/// Why another signer's key can't be told from the new one's; none where it can be, by its public half or, of keys in
/// devices, by its name (rule S1).
fn untold(
    inventory: &Inventory,
    own: &KeyRef,
    public: Option<PublicKey>,
    theirs: &KeyRef,
) -> Option<Unknown> {
    let devices = |key: &KeyRef| matches!(key, KeyRef::Yubihsm { .. });
    let told = inventory.keys.public(theirs).is_some();
    if told || public.is_none() || (devices(own) && devices(theirs)) {
        return None;
    }
    let unasked = || Unknown::NotAsked("it was never asked".into());
    let unknown = inventory.keys.unknown(theirs).cloned();
    Some(unknown.unwrap_or_else(unasked))
}
