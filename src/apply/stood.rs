//! How far the state files of a signer were right before it may start: journalled, so that what it signs itself can be
//! told from what was there.

use anyhow::{Context, Result};
use tmkms_core::state::SignState;

use super::Run;
use super::perform::durable;
use crate::discover;
use crate::inventory::StateReading;
use crate::plan::program::{Action, Step};

impl Run<'_> {
    /// Notes files that passed and stand elsewhere than journals know, such as one that was there before and was
    /// accepted.
    ///
    /// # Errors
    /// The journal can't be written, or a file can't be made durable.
    pub(super) fn stood(&mut self, step: &Step) -> Result<()> {
        let Action::CheckHeights { files } = &step.action else {
            return Ok(());
        };
        for file in files {
            let path = &file.state_file;
            let StateReading::Read(state) = discover::state(&*self.host.files, path) else {
                continue;
            };
            if self.ledger.highest(path) == Some(state) {
                continue;
            }
            let bytes = durable(&*self.host.files, path)?;
            let state =
                SignState::parse(&bytes).with_context(|| format!("reading {}", path.display()))?;
            self.saw(step, file, state, None)?;
        }
        Ok(())
    }
}
