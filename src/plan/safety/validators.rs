//! One process that serves several validators of one chain: told, and never forbidden, since they share its state file.

use super::Case;
use crate::finding::{Code, Finding};

/// Warns of every chain of a moving signer that more than one `[[validator]]` asks for.
///
/// The caution is that of MetaOS' guide ("Remote Signer"): a remote signer that serves several validator instances of
/// one network may double-sign.
pub fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for moving in case.moves {
        let Some(signer) = case.inventory.signer(&moving.old) else {
            continue;
        };
        for chain in &signer.chains {
            let all = &signer.config.view.validators;
            let validators: Vec<_> = all
                .iter()
                .filter(|v| v.chain_id.value == chain.id)
                .collect();
            let [_, second, ..] = validators[..] else {
                continue;
            };
            let addresses: Vec<&str> = validators.iter().map(|v| v.addr.value.as_str()).collect();
            let message = format!(
                "{} validators of {} share this signer ({}): asked by two at once, it can double-sign",
                validators.len(),
                chain.id,
                addresses.join(", ")
            );
            findings.push(
                Finding::warn(Code::SeveralValidators, message)
                    .of(signer.name())
                    .at(&signer.config.path)
                    .line(second.line)
                    .remedy(
                        "keep one [[validator]] of a chain, or make sure that only one of these nodes ever votes",
                    ),
            );
        }
    }
    findings
}
