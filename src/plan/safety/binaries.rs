//! Whether the tmkms of each signer speaks what its config will say, and what the old one said: forward and back.

use tmkms_core::config::Validator;
use tmkms_core::protocol::{ProtocolVersion, Support, TmkmsVersion, support};

use super::Case;
use crate::finding::{Code, Finding};
use crate::inventory::Signer;
use crate::plan::Move;
use crate::render::config::protocol_after;

pub fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = missing(case).into_iter().collect();
    for moving in case.moves {
        let Some(signer) = case.inventory.signer(&moving.old) else {
            continue;
        };
        let new = match &case.around.binary {
            Some(binary) => binary.version,
            None => signer.version,
        };
        let from = moving.chains.first().map(|c| c.old.chain.as_str());
        let validators = signer.config.view.validators.iter();
        for validator in validators.filter(|v| Some(v.chain_id.value.as_str()) == from) {
            findings.extend(forward(case, moving, signer, validator, new));
            findings.extend(back(case, moving, signer, validator));
        }
    }
    findings
}

/// Whether a signer's tmkms works with what its own config says of a validator.
pub fn spoken(signer: &Signer, validator: &Validator) -> Option<Finding> {
    let program = signer.program();
    let Some(version) = signer.version else {
        let message = "it doesn't tell its version, so nothing says which protocols it speaks";
        return Some(
            Finding::warn(Code::VersionUnknown, message)
                .at(program)
                .remedy(format!(
                    "look at `{} version`; 0.11.0 has no such command",
                    program.display()
                )),
        );
    };
    let written = validator.protocol_version.as_ref();
    let protocol = written.and_then(|w| w.value.parse::<ProtocolVersion>().ok());
    let does = match support(version, protocol)? {
        Support::Works => return None,
        Support::Refused => "refuses",
        Support::Panics => "panics once a validator answers with",
    };
    let message = format!(
        "tmkms {version} ({}) {does} {}: {} wouldn't come up again",
        program.display(),
        words(protocol),
        signer.unit.name
    );
    Some(
        Finding::block(Code::ProtocolRefused, message)
            .of(signer.name())
            .at(&signer.config.path)
            .line(written.map_or(validator.line, |w| w.line))
            .remedy("put the tmkms that it was started with back, or correct protocol_version"),
    )
}

/// The tmkms that is asked for can't be run, or doesn't say what it is.
fn missing(case: &Case<'_>) -> Option<Finding> {
    let (path, binary) = (case.request.binary.as_ref()?, case.around.binary.as_ref()?);
    if binary.runs == Some(false) {
        let message = "no program is there that could be run";
        let remedy = "install that tmkms first, or name the right one with --binary";
        return Some(
            Finding::block(Code::ProtocolRefused, message)
                .at(path)
                .remedy(remedy),
        );
    }
    (binary.runs == Some(true) && binary.version.is_none()).then(|| {
        let message = "it doesn't tell its version, so nothing says that it would start on the new config";
        Finding::block(Code::VersionUnknown, message).at(path).remedy(format!(
            "look at `{} version`; for one that has no such command (0.11.0) plan with `--accept version-unknown`",
            path.display()
        ))
    })
}

fn forward(
    case: &Case<'_>,
    moving: &Move,
    signer: &Signer,
    validator: &Validator,
    version: Option<TmkmsVersion>,
) -> Option<Finding> {
    let old = validator.protocol_version.as_ref();
    let new = protocol_after(old.map(|o| o.value.as_str()), case.request.protocol);
    let spoken = words(new);
    let program = &moving.new_program;
    let Some(version) = version else {
        if case
            .around
            .binary
            .as_ref()
            .is_some_and(|b| b.runs == Some(true))
        {
            // Said once, and it blocks.
            return None;
        }
        // One a binary is enough, however many signers run it.
        let message = "the version of this tmkms isn't known here";
        let remedy = format!(
            "make sure that it speaks {spoken}: `{} version`",
            program.display()
        );
        return Some(
            Finding::warn(Code::VersionUnknown, message)
                .at(program)
                .remedy(remedy),
        );
    };
    match support(version, new) {
        Some(Support::Works) => None,
        None => {
            let message =
                format!("tmkms {version} is outside the versions that kmsctl knows, 0.10 to 0.15");
            let remedy = format!("make sure by its release notes that it speaks {spoken}");
            let finding = Finding::warn(Code::VersionUnknown, message);
            Some(finding.of(&moving.signer).remedy(remedy))
        }
        Some(_) => {
            let message = format!(
                "tmkms {version} ({}) doesn't work with {spoken}",
                program.display()
            );
            let line = old.map_or(validator.line, |o| o.line);
            Some(
                Finding::block(Code::ProtocolRefused, message)
                    .of(&moving.signer)
                    .at(&signer.config.path)
                    .line(line)
                    .remedy(
                        "choose another with --protocol, or a tmkms that speaks it with --binary",
                    ),
            )
        }
    }
}

/// The old unit's binary may have been replaced or removed while its process ran: the way back would start what is
/// there now.
fn back(case: &Case<'_>, moving: &Move, signer: &Signer, validator: &Validator) -> Option<Finding> {
    let old = validator.protocol_version.as_ref();
    let spoken = old.and_then(|o| o.value.parse::<ProtocolVersion>().ok());
    let program = moving.old_program.display();
    let why = if case.around.missing_programs.contains(&moving.old_program) {
        format!("{program} is gone, though its process may still run")
    } else {
        match signer.version {
            Some(version) if matches!(support(version, spoken), Some(s) if s != Support::Works) => {
                format!(
                    "{program} is tmkms {version} now, which doesn't work with the old config's {}",
                    words(spoken)
                )
            }
            _ => return None,
        }
    };
    let remedy = "put the binary that the signer was started with back there, and give the new one a path of its own \
                  with --binary";
    Some(
        Finding::warn(
            Code::NoWayBack,
            format!("there would be no way back: {why}"),
        )
        .of(&moving.signer)
        .at(&signer.config.path)
        .line(old.map_or(validator.line, |o| o.line))
        .remedy(remedy),
    )
}

fn words(protocol: Option<ProtocolVersion>) -> String {
    protocol.map_or("no protocol version".to_owned(), |p| p.to_string())
}
