//! What the model's units say: fragments and drop-ins from the tree's text.

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::Result;

use super::{Model, UNIT_PATH};
use crate::host::UnitView;
use crate::host::unit_files::UnitFiles;
use crate::unit::UnitName;

static FOLDERS: LazyLock<Vec<PathBuf>> = LazyLock::new(|| UNIT_PATH.map(PathBuf::from).into());

impl Model {
    pub(super) fn unit_files(&self) -> UnitFiles<'_> {
        UnitFiles {
            files: &*self.world,
            folders: &FOLDERS,
        }
    }

    pub fn view(&self, unit: &UnitName) -> Result<UnitView> {
        let found = self.unit_files().found(unit)?;
        let means = found.means(unit)?;
        let barred_by = self.barred_by(unit)?;
        let needs_reload = barred_by != means.barred_by;
        Ok(UnitView {
            needs_reload,
            barred_by,
            ..found.view(unit, means, self.run(unit).state)
        })
    }
}
