//! `init`: a new signer's keys, state file, tmkms.toml and unit, as a whole or not at all.
//!
//! Everything is read, decided and rendered before anything is written; nothing that is there is ever overwritten, and
//! nothing is started. A private key goes from its source into one file: never into a message, a log or a document.

mod ask;
mod foreseen;
mod judged;
mod keys;
mod last_signed;
mod place;
mod write;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;
use tmkms_core::chain_id::ChainId;
use tmkms_core::keys::{PublicKey, SecretKey};
use tmkms_core::protocol::ProtocolVersion;

use self::foreseen::Foreseen;
use super::operation;
use crate::accounts::Accounts;
use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::host::Host;
use crate::host::files::Tree;
use crate::init::names::{self, Given};
use crate::init::{Address, Format, KeysShown, Provider, Signer};
use crate::inventory::Inventory;
use crate::journal::store::History;
use crate::ledger::Ledger;
use crate::render;
use crate::ui::Ui;
use crate::ui::init::{Report, next, text};
use crate::unit::{UnitName, UnitText};

#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// The chain to sign, such as haqq_11235-1
    #[arg(long, value_name = "ID")]
    chain: Option<ChainId>,
    /// The prefix of the chain's addresses, such as haqq: its keys begin with haqqpub and haqqvalconspub
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["account_prefix", "consensus_prefix"])]
    bech32_prefix: Option<String>,
    /// The prefix of account keys, where it doesn't follow from the other, such as did:com:
    #[arg(long, value_name = "PREFIX", requires = "consensus_prefix")]
    account_prefix: Option<String>,
    /// The prefix of consensus keys, such as did:com:valconspub
    #[arg(long, value_name = "PREFIX", requires = "account_prefix")]
    consensus_prefix: Option<String>,
    /// How tmkms shows keys
    #[arg(long, value_name = "FORMAT", default_value = "bech32")]
    key_format: Format,
    /// The validator's address, such as tcp://PEER_ID@10.1.1.1:26658
    #[arg(long, value_name = "ADDRESS")]
    validator: Option<Address>,
    /// The protocol that the validator speaks
    #[arg(long, value_name = "VERSION", default_value = "v0.34")]
    protocol: ProtocolVersion,
    /// The signer's folder: a new or an empty one; with --name also the fleet's
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// What the signer is called in a fleet, such as 04; its files are named as the others' are
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Who runs the signer
    #[arg(long, value_name = "USER", default_value = "tmkms")]
    user: String,
    /// The tmkms to run; by default the one that is installed
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The unit's name; by default tmkms.service, in a fleet as the others are called
    #[arg(long, value_name = "UNIT")]
    unit: Option<UnitName>,
    /// Take the validator's key from its priv_validator_key.json
    #[arg(long, value_name = "FILE", group = "key")]
    import: Option<PathBuf>,
    /// Make a new key
    #[arg(long, group = "key")]
    generate: bool,
    /// Sign with this key of a YubiHSM
    #[arg(long, value_name = "ID", group = "key", requires_all = ["connector", "auth_key", "password_file"])]
    yubihsm_key: Option<u16>,
    /// The YubiHSM's connector, such as tcp://127.0.0.1:12345
    #[arg(long, value_name = "ADDRESS", requires = "yubihsm_key")]
    connector: Option<String>,
    /// The authentication key to log in with
    #[arg(long, value_name = "ID", requires = "yubihsm_key")]
    auth_key: Option<u16>,
    /// The file with its password
    #[arg(long, value_name = "FILE", requires = "yubihsm_key")]
    password_file: Option<PathBuf>,
    /// The device's serial number, ten digits
    #[arg(long, value_name = "NUMBER", requires = "yubihsm_key")]
    serial_number: Option<String>,
    /// How far the key has signed: the validator's priv_validator_state.json, copied after it was stopped
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How far the key has signed, where no file tells: nothing at this height or below is signed
    #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..i64::MAX as u64))]
    height: Option<u64>,
    /// The key has signed nothing yet
    #[arg(long, conflicts_with_all = ["state", "height"])]
    new_validator: bool,
    /// The config's path, seen from --home
    #[arg(long, value_name = "PATH")]
    config_file: Option<PathBuf>,
    /// The state file's path, seen from --home
    #[arg(long, value_name = "PATH")]
    state_file: Option<PathBuf>,
    /// The consensus key's path, seen from --home
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
    /// The connection key's path, seen from --home
    #[arg(long, value_name = "PATH")]
    connection_key: Option<PathBuf>,
}

pub fn run(host: &mut Host, files: &Tree, ui: Ui, args: &InitArgs) -> Outcome {
    let args = ask::complete(ui, args)?;
    let _lock = operation::lock(host)?;
    let history = History::read(host)?;
    operation::none_open(history.open())?;
    let mut inventory = discover::inventory(host, Versions::Skip)?;
    let signer = signer(host, files, &args, &inventory)?;
    let mut plan = place::folders(host, files, &signer, args.name.is_some())?;
    place::is_free(host, files, &signer)?;
    let config = render::signer::config(&signer)?;
    let unit = render::signer::unit(&signer)?;
    UnitText::parse(&unit).map_err(|e| anyhow::anyhow!("the rendered unit is wrong: {e}"))?;
    let new = judged::discovered(files, &signer, &config, &unit)?;

    let mut warnings = Vec::new();
    let keys = keys::read(files, &args, &signer.provider, &mut warnings)?;
    let seen = judged::device(host, &mut inventory, &signer, new.clone(), &mut warnings)?;
    let public = Publics {
        consensus: keys.consensus.as_ref().map(SecretKey::public_key).or(seen),
        connection: keys.connection.public_key(),
    };
    let ledger = Ledger::of(&history.0);
    keys::sign_nowhere_else(
        &inventory,
        &ledger,
        &signer,
        public.consensus,
        args.generate,
        &mut warnings,
    )?;
    let state = last_signed::state(host, files, &args, &signer, public.consensus, &mut warnings)?;

    plan.secret(&signer.names.connection, keys.connection.to_base64());
    if let Some(key) = &keys.consensus {
        plan.secret(&signer.names.key, key.to_base64());
    }
    plan.own(&signer.names.state, state.to_tmkms());
    plan.own(&signer.names.config, config);
    plan.root(&place::unit_path(&signer)?, unit);
    let version = host
        .processes
        .tmkms_version(&signer.binary, &signer.user.name)?;
    let foreseen = Foreseen { files, plan: &plan };
    warnings.extend(judged::written(&foreseen, &signer, &new, version)?);

    let report = report(&signer, &public, &state, &plan, warnings);
    if !ui.json {
        ui.out(&text(&report))?;
    }
    ui.confirm(&format!(
        "Write {} files for {}? Nothing is started.",
        plan.count(),
        signer.unit()
    ))?;
    plan.carry_out(files)?;
    if let Err(e) = host.services.reload() {
        ui.note(&format!(
            "systemd hasn't read its units again ({e:#}): `systemctl daemon-reload`"
        ));
    }
    match ui.json {
        true => ui.json(&report)?,
        false => ui.out(&next(&report))?,
    }
    Ok(Exit::Done)
}

struct Publics {
    /// Unknown where only a device knows it that isn't asked.
    consensus: Option<PublicKey>,
    connection: PublicKey,
}

/// What an argument holds once [`ask::complete`] has seen to it.
fn given<'a, T>(value: &'a Option<T>, flag: &str) -> Result<&'a T, Failure> {
    value
        .as_ref()
        .ok_or_else(|| Failure::usage(format!("init needs {flag}")))
}

fn signer(
    host: &mut Host,
    files: &Tree,
    args: &InitArgs,
    inventory: &Inventory,
) -> Result<Signer, Failure> {
    let chain = given(&args.chain, "--chain")?.clone();
    let home = given(&args.home, "--home")?.clone();
    let accounts = Accounts::read(files);
    let user = accounts.known(&args.user).cloned().ok_or_else(|| {
        Failure::refused(format!(
            "/etc/passwd: there is no user {}: make one (`useradd --system --shell /usr/sbin/nologin {}`), or name another \
             with --user",
            args.user, args.user
        ))
    })?;
    let names = Given {
        name: args.name.clone(),
        unit: args.unit.clone(),
        config: args.config_file.clone(),
        key: args.key_file.clone(),
        connection: args.connection_key.clone(),
        state: args.state_file.clone(),
    };
    let fleet = place::fleet(inventory, &home);
    let names = names::choose(&home, &chain, &names, &fleet).map_err(Failure::refused)?;
    if names.unit.is_template() || names.unit.instance().is_some() {
        return Err(Failure::refused(format!(
            "{}: a template's signers are set up by hand; name a unit of its own with --unit",
            names.unit
        )));
    }
    let binary = place::binary(host, files, args.binary.as_deref(), &user)?;
    let provider = keys::provider(files, args)?;
    let mut passed = place::passed(files, &binary)?;
    if let Provider::Yubihsm(device) = &provider {
        passed.extend(place::passed(files, &device.password_file)?);
    }
    Ok(Signer {
        keys_shown: keys_shown(args)?,
        addr: given(&args.validator, "--validator")?.clone(),
        protocol: args.protocol,
        binary,
        passed,
        provider,
        chain,
        home,
        user,
        names,
    })
}

fn keys_shown(args: &InitArgs) -> Result<KeysShown, Failure> {
    let prefixes = match (
        &args.bech32_prefix,
        &args.account_prefix,
        &args.consensus_prefix,
    ) {
        (Some(prefix), _, _) => Some((format!("{prefix}pub"), format!("{prefix}valconspub"))),
        (None, Some(account), Some(consensus)) => Some((account.clone(), consensus.clone())),
        _ => None,
    };
    for prefix in prefixes.iter().flat_map(|(a, b)| [a, b]) {
        let lower = !prefix.contains(|c: char| c.is_ascii_uppercase());
        if !lower || PublicKey::from_bytes([0; 32]).to_bech32(prefix).is_none() {
            return Err(Failure::refused(format!(
                "{prefix:?} is no prefix of a bech32 key: lower-case letters, digits and signs are, 83 at most"
            )));
        }
    }
    let shown = KeysShown {
        format: args.key_format,
        prefixes,
    };
    match shown.key_format() {
        Some(_) => Ok(shown),
        None => Err(Failure::usage(
            "init needs --bech32-prefix, or --account-prefix and --consensus-prefix",
        )),
    }
}

fn report(
    signer: &Signer,
    public: &Publics,
    state: &tmkms_core::StateFile,
    plan: &write::Plan,
    warnings: Vec<String>,
) -> Report {
    let format = signer.keys_shown.key_format();
    let shown = public
        .consensus
        .and_then(|key| key.displayed(format.as_ref()?));
    let port = signer.addr.port();
    Report {
        format_version: crate::ui::FORMAT_VERSION,
        unit: signer.unit().clone(),
        chain: signer.chain.clone(),
        validator: signer.addr.to_string(),
        config: signer.names.config.clone(),
        consensus_key: shown,
        address: public.consensus.map(|key| key.address()),
        node_id: public.connection.node_id(),
        connection_key: public.connection.to_hex().to_lowercase(),
        state_file: signer.names.state.clone(),
        state: state.at_in_tmkms(),
        files: plan.files(),
        warnings,
        next: next_steps(signer, port),
    }
}

/// What is left to do, in order.
fn next_steps(signer: &Signer, port: &str) -> Vec<String> {
    let unit = signer.unit();
    let every = Ipv4Addr::UNSPECIFIED;
    vec![
        "stop the validator, and see that nothing else signs with its key; if it signed anything after its state file was \
         copied, take all of this away and begin again with the newer file"
            .to_owned(),
        format!("on the validator: kmsctl validator --config HOME/config/config.toml --laddr tcp://{every}:{port}"),
        "on the validator: the firewall rule that this prints".to_owned(),
        format!("systemctl enable --now {unit}"),
        format!("journalctl -u {unit}: the key that it adds is the one above"),
        "start the validator".to_owned(),
        "kmsctl heights: the height rises, which alone proves that it signs".to_owned(),
        "move every other copy of the validator's key to where no host reaches it".to_owned(),
    ]
}
