//! How far the new signer's key has signed: from the validator's own state file, from a height, or nothing.
//!
//! A key without its last signed height is a double signature waiting, so there is no default.

use std::ops::Range;

use tmkms_core::keys::PublicKey;
use tmkms_core::state::{SignState, StateFile};

use super::InitArgs;
use crate::cli::state::{absolute, free, is_newest, read};
use crate::exit::Failure;
use crate::host::Host;
use crate::host::files::Tree;
use crate::init::Signer;

/// What a key can have signed last, with one height left for it to sign.
pub const HEIGHTS: Range<u64> = 1..i64::MAX as u64;

/// Why a number is none of [`HEIGHTS`].
pub fn no_height(height: u64) -> String {
    let highest = HEIGHTS.end - 1;
    format!(
        "{height} is no height from 1 to {highest}; where nothing was ever signed, that is said as such"
    )
}

/// The state that the new signer begins with.
pub fn state(
    host: &Host,
    files: &Tree,
    args: &InitArgs,
    signer: &Signer,
    key: Option<PublicKey>,
    warnings: &mut Vec<String>,
) -> Result<StateFile, Failure> {
    let state = match (&args.state, args.height) {
        (Some(file), height) => {
            let path = absolute(file)?;
            let state = read(files, &path)?;
            is_newest(host, files, &path, state.at_in_tmkms())?;
            let refused = |why: String| Err(Failure::refused(format!("{}: {why}", path.display())));
            if args.generate {
                return refused(
                    "a key that is made now has signed nothing: leave --state out".into(),
                );
            }
            if state.at == SignState::ZERO {
                return refused(
                    "it says that nothing was signed: the validator's own file is meant; where that is true, say \
                     --new-validator instead"
                        .into(),
                );
            }
            if let Some(chain) = &state.chain_id
                && chain != signer.chain.as_str()
            {
                return refused(format!(
                    "it is of {chain}, and the signer is for {}",
                    signer.chain
                ));
            }
            match key.and_then(|key| state.signed_by(&key)) {
                Some(false) => {
                    return refused(
                        "its last signature isn't that of the key: it is another validator's"
                            .into(),
                    );
                }
                Some(true) => {}
                None => warnings.push(format!(
                    "{} doesn't prove whose it is: see to it that it is this key's on {}",
                    path.display(),
                    signer.chain
                )),
            }
            match height {
                Some(height) if state.at.height > height => {
                    return refused(format!(
                        "it is at height {}, above --height {height}",
                        state.at.height
                    ));
                }
                Some(height) => StateFile::floor(height),
                None => state,
            }
        }
        (None, Some(height)) if HEIGHTS.contains(&height) => StateFile::floor(height),
        (None, Some(height)) => {
            return Err(Failure::usage(format!("--height: {}", no_height(height))));
        }
        (None, None) => StateFile::fresh(),
    };
    free(
        host,
        files,
        signer.names.state.as_path(),
        state.at_in_tmkms(),
    )?;
    Ok(state)
}
