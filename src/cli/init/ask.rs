//! What the command line leaves out, asked for at a terminal.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use dialoguer::{Input, Select};

use super::{InitArgs, last_signed};
use crate::exit::Failure;
use crate::init::Format;
use crate::ui::Ui;

/// The arguments with nothing missing.
///
/// # Errors
/// Something is missing and nobody is there to ask: all of it is named.
pub fn complete(ui: Ui, args: &InitArgs) -> Result<InitArgs, Failure> {
    let missing = missing(args);
    if missing.is_empty() {
        return Ok(args.clone());
    }
    if !ui.can_ask() || ui.json {
        return Err(Failure::usage(format!(
            "init needs {}; at a terminal it asks for them",
            missing.join(", ")
        )));
    }
    ui.answered(|| asked(args))
}

/// Whether the keys' prefixes have to be known.
fn needs_prefix(args: &InitArgs) -> bool {
    let given = args.bech32_prefix.is_some() || args.consensus_prefix.is_some();
    args.key_format == Format::Bech32 && !given
}

fn has_key(args: &InitArgs) -> bool {
    args.import.is_some() || args.generate || args.yubihsm_key.is_some()
}

/// A key that is made now has signed nothing.
fn needs_state(args: &InitArgs) -> bool {
    let said = args.state.is_some() || args.height.is_some() || args.new_validator;
    !said && !args.generate
}

fn missing(args: &InitArgs) -> Vec<&'static str> {
    let all = [
        (args.chain.is_none(), "--chain"),
        (needs_prefix(args), "--bech32-prefix"),
        (args.validator.is_none(), "--validator"),
        (args.home.is_none(), "--home"),
        (
            !has_key(args),
            "one of --import, --generate and --yubihsm-key",
        ),
        (
            has_key(args) && needs_state(args),
            "one of --state, --height and --new-validator (a key without its last signed height is a double signature \
             waiting)",
        ),
    ];
    all.into_iter()
        .filter(|(missing, _)| *missing)
        .map(|(_, flag)| flag)
        .collect()
}

fn asked(args: &InitArgs) -> dialoguer::Result<InitArgs> {
    let mut args = args.clone();
    if args.chain.is_none() {
        args.chain = Some(input("Chain id")?);
    }
    if needs_prefix(&args) {
        args.bech32_prefix = Some(input("Prefix of the chain's addresses")?);
    }
    if args.validator.is_none() {
        args.validator = Some(input("The validator's address (tcp://PEER_ID@HOST:PORT)")?);
    }
    if args.home.is_none() {
        args.home = Some(path("The signer's folder")?);
    }
    if !has_key(&args) {
        let ways = ["the validator's priv_validator_key.json", "a new key"];
        match select("The consensus key", &ways)? {
            0 => args.import = Some(path("Its path")?),
            _ => args.generate = true,
        }
    }
    if needs_state(&args) {
        let ways = [
            "the validator's priv_validator_state.json, copied after it was stopped",
            "a height that I know",
            "nothing was ever signed with this key",
        ];
        match select("How far the key has signed", &ways)? {
            0 => args.state = Some(path("Its path")?),
            1 => args.height = Some(height("The last height")?),
            _ => args.new_validator = true,
        }
    }
    Ok(args)
}

fn input<T>(prompt: &str) -> dialoguer::Result<T>
where
    T: Clone + Display + FromStr,
    T::Err: Display,
{
    Input::<T>::new().with_prompt(prompt).interact_text()
}

fn height(prompt: &str) -> dialoguer::Result<u64> {
    let is_one = |height: &u64| match last_signed::HEIGHTS.contains(height) {
        true => Ok(()),
        false => Err(last_signed::no_height(*height)),
    };
    let input = Input::<u64>::new().with_prompt(prompt);
    input.validate_with(is_one).interact_text()
}

fn path(prompt: &str) -> dialoguer::Result<PathBuf> {
    Ok(PathBuf::from(input::<String>(prompt)?))
}

fn select(prompt: &str, ways: &[&str]) -> dialoguer::Result<usize> {
    Select::new()
        .with_prompt(prompt)
        .items(ways)
        .default(0)
        .interact()
}
