//! What a config's validators ask for that an upgrade should not surprise anybody with: told, and never forbidden.

use super::Case;
use crate::finding::{Code, Finding};
use crate::inventory::Signer;
use crate::plan::Move;

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
        findings.extend(heights(signer, moving));
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

/// A `max_height` of the chain that moves: set for the old chain's last block, it would end the new chain's signing.
fn heights(signer: &Signer, moving: &Move) -> impl Iterator<Item = Finding> {
    let moves = |chain: &str| moving.chains.iter().any(|c| c.old.chain == chain);
    let validators = signer.config.view.validators.iter();
    validators.filter_map(move |validator| {
        let height = validator.max_height.as_ref()?;
        let finding = Finding::warn(
            Code::MaxHeight,
            format!(
                "max_height = {:?} goes into the new config: above it the new chain isn't signed either",
                height.value
            ),
        );
        let remedy = "take it out of this config before you plan, if it was meant for the old chain";
        moves(&validator.chain_id.value).then(|| {
            finding
                .of(signer.name())
                .at(&signer.config.path)
                .line(height.line)
                .remedy(remedy)
        })
    })
}
