//! Reads how a unit starts tmkms, for those who look at configs that may not be readable.

use std::path::PathBuf;

use tmkms_core::protocol::TmkmsVersion;

use super::signer::{Binaries, command, finding};
use crate::finding::{Code, Finding};
use crate::host::Host;
use crate::unit::UnitName;

/// A unit that starts tmkms, whatever its config is like.
pub struct Start {
    pub unit: UnitName,
    pub config: PathBuf,
    /// Where relative paths of the config begin.
    pub directory: PathBuf,
    pub program: PathBuf,
    /// What the program says of itself; unknown where it wasn't asked or didn't say.
    pub version: Option<TmkmsVersion>,
}

/// Reads how a unit starts tmkms; none where it doesn't.
///
/// # Errors
/// A finding, blocking: what the unit means can't be read.
pub fn start(
    host: &mut Host,
    name: &UnitName,
    binaries: &mut Binaries,
) -> Result<Option<Start>, Box<Finding>> {
    let view = host.services.view(name).map_err(|e| {
        let message = format!("what {name} means can't be read: {e:#}");
        let remedy = "mend the unit; until then kmsctl can't know which config it runs";
        Box::new(finding(Code::UnitUnreadable, message, name.signer()).remedy(remedy))
    })?;
    let Some(command) = command(&*host.files, &view)? else {
        return Ok(None);
    };
    let config = command.config(&view)?;
    let program = PathBuf::from(&command.argv[0]);
    let (version, _) = binaries.about(host, &program, &view.user);
    Ok(Some(Start {
        unit: view.name,
        config,
        directory: view.working_directory,
        program,
        version,
    }))
}
