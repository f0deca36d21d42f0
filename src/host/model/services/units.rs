//! What the model's units say: fragments and drop-ins from the tree's text, as systemd would put them together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Model, UNIT_PATH};
use crate::host::UnitView;
use crate::host::unit_path::is_mask;
use crate::unit::effective::Effective;
use crate::unit::{UnitName, UnitText};

impl Model {
    pub(super) fn fragment(&self, unit: &UnitName) -> Result<PathBuf> {
        let template = unit.template();
        for name in [Some(unit), template.as_ref()].into_iter().flatten() {
            for folder in UNIT_PATH {
                let path = Path::new(folder).join(name.as_str());
                if self.world.entry(&path)?.is_some() {
                    return Ok(path);
                }
            }
        }
        bail!("no unit {unit} in {}", UNIT_PATH.join(", "))
    }

    pub(super) fn drop_ins(&self, unit: &UnitName) -> Result<Vec<PathBuf>> {
        let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
        // The unit's own drop-in of a name wins.
        for name in unit.drop_in_names() {
            for folder in UNIT_PATH.iter().rev() {
                let folder = Path::new(folder).join(format!("{name}.d"));
                for name in self.world.list(&folder)? {
                    if name.ends_with(".conf") {
                        found.insert(name.clone(), folder.join(name));
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }

    pub(super) fn text(&self, path: &Path) -> Result<UnitText> {
        let bytes = self
            .world
            .read(path)
            .with_context(|| format!("reading {}", path.display()))?;
        let text =
            String::from_utf8(bytes).with_context(|| format!("{} isn't UTF-8", path.display()))?;
        UnitText::parse(&text).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
    }

    pub(super) fn effective(&self, unit: &UnitName) -> Result<(PathBuf, Vec<PathBuf>, UnitText)> {
        let fragment = self.fragment(unit)?;
        let drop_ins = self.drop_ins(unit)?;
        let mut text = self.text(&fragment)?;
        for drop_in in drop_ins.iter().filter(|d| !is_mask(&*self.world, d)) {
            text.extend(self.text(drop_in)?);
        }
        Ok((fragment, drop_ins, text))
    }

    pub fn view(&self, unit: &UnitName) -> Result<UnitView> {
        let (fragment, drop_ins, text) = self.effective(unit)?;
        let means = Effective::of(unit, &text)
            .map_err(|e| anyhow::anyhow!("{}, {e}", fragment.display()))?;
        let barred_by = self.barred_by(unit)?;
        Ok(UnitView {
            name: unit.clone(),
            exec: means.exec,
            user: means.user,
            working_directory: means.working_directory,
            variables: means.variables,
            environment_files: means.environment_files,
            outside_variables: means.outside_variables,
            output: means.output,
            needs_reload: barred_by != means.barred_by,
            barred_by,
            run: self.run_state(unit),
            fragment,
            drop_ins,
        })
    }
}
