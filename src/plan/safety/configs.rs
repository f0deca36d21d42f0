//! What the tmkms that will run a new unit refuses in its config, as `check` would say it.

use super::Case;
use crate::finding::{Code, Finding};

/// The new configs as their tmkms will see them, but for what another check said already.
pub fn findings(case: &Case<'_>, said: &[Finding]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for moving in case.moves {
        let known = |code: Code| {
            let mut said = said.iter();
            said.any(|f| f.code == code && f.signer.as_ref() == Some(&moving.signer))
        };
        let refused = case.around.refused.get(&moving.new).into_iter().flatten();
        for finding in refused {
            if finding.code != Code::StateRefused || !known(Code::StateUnreadable) {
                findings.push(finding.clone().of(&moving.signer));
            }
        }
    }
    findings
}
