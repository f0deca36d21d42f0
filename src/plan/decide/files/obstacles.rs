//! What in a unit's texts, or in its own view of the filesystem, would keep its successor from doing the same: refused
//! with its line.

use std::path::{Path, PathBuf};

use super::super::sandbox;
use super::{Files, Part};
use crate::finding::Finding;
use crate::render;
use crate::render::unit::{Moved, Names};

impl<'a> Files<'a> {
    /// A drop-in of a prefix or of all services holds for the new unit as well, unchanged: it must not speak of what the
    /// new one no longer uses, such as a state file that only it may write.
    pub(super) fn inherited(
        &self,
        parts: &[Part<'a>],
        moved: &[Moved<'_>],
        names: Names<'_>,
    ) -> Result<(), Box<Finding>> {
        for part in parts.iter().filter(|p| p.target.is_none()) {
            let refuse = |(line, why)| self.refuse(part.source, line, why);
            let wanted = render::unit::edits(part.text, moved, names).map_err(refuse)?;
            for edit in wanted.into_iter().map(|c| c.edit) {
                let (from, to, why) = (edit.to.as_str(), edit.to.as_str(), "");
                let there = render::unit::edits(part.text, &[Moved { from, to, why }], names)
                    .map_err(refuse)?;
                if there.iter().any(|c| c.edit.from == edit.to) {
                    continue;
                }
                let message = format!(
                    "it names {}, and {} inherits it as it is, without {}",
                    edit.from, self.new, edit.to
                );
                let mut finding = self.refuse(part.source, edit.line, message);
                finding.remedy = format!(
                    "name {} there as well, or move the line into {}.d; then plan again",
                    edit.to, names.old
                );
                return Err(finding);
            }
        }
        Ok(())
    }

    /// The unit must show tmkms the files that kmsctl looks at, and start without a state file that isn't made yet.
    pub(super) fn sandbox(&self, parts: &[Part<'a>]) -> Result<(), Box<Finding>> {
        let states: Vec<(PathBuf, PathBuf)> = self
            .states()
            .map(|(old, new)| (old.into(), new.into()))
            .collect();
        let mut opened = vec![self.signer.config.path.clone(), self.new_config.to_owned()];
        opened.extend(self.signer.chains.iter().map(|c| c.state_file.clone()));
        opened.extend(self.chains.iter().map(|c| c.new.state_file.clone()));
        opened.extend(
            states
                .iter()
                .flat_map(|(old, new)| [old.clone(), new.clone()]),
        );
        let fresh: Vec<(&Path, &Path)> = states
            .iter()
            .flat_map(|(old, new)| [(old.as_path(), new.as_path()), (new, new)])
            .collect();
        let texts: Vec<(&Path, &str)> = parts.iter().map(|p| (p.source, p.text)).collect();
        let Some(obstacle) = sandbox::obstacle(&self.signer.unit.name, &texts, &opened, &fresh)
        else {
            return Ok(());
        };
        let mut finding = self.refuse(&obstacle.path, obstacle.line, obstacle.message);
        finding.remedy = obstacle.remedy;
        Err(finding)
    }
}
