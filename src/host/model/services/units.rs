//! What the model's units say: fragments and drop-ins from the tree's text, as systemd would put them together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Model, UNIT_PATH};
use crate::host::UnitView;
use crate::unit::{UnitName, UnitText, expand, split_words};

impl Model {
    pub(super) fn fragment(&self, unit: &UnitName) -> Result<PathBuf> {
        for folder in UNIT_PATH {
            let path = Path::new(folder).join(unit.as_str());
            if self.world.entry(&path)?.is_some() {
                return Ok(path);
            }
        }
        bail!("no unit {unit} in {}", UNIT_PATH.join(", "))
    }

    pub(super) fn drop_ins(&self, unit: &UnitName) -> Result<Vec<PathBuf>> {
        let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
        // Less specific folders first, so that the unit's own drop-in of a name wins (systemd.unit(5)).
        let mut names = vec!["service".to_owned()];
        let dashes = unit
            .stem()
            .match_indices('-')
            .map(|(at, _)| &unit.stem()[..=at]);
        names.extend(dashes.map(|prefix| format!("{prefix}.service")));
        names.push(unit.to_string());
        for name in names {
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
        for drop_in in &drop_ins {
            text.extend(self.text(drop_in)?);
        }
        Ok((fragment, drop_ins, text))
    }

    pub fn view(&self, unit: &UnitName) -> Result<UnitView> {
        let (fragment, drop_ins, text) = self.effective(unit)?;
        let explain = |e: String| anyhow::anyhow!("{}: {e}", fragment.display());
        let words = |value: &str| -> Result<Vec<String>> {
            split_words(&expand(value, unit).map_err(explain)?).map_err(explain)
        };
        let mut exec = Vec::new();
        for setting in text.list("Service", "ExecStart") {
            let line = setting.value.trim_start_matches(['-', '@', ':', '+', '!']);
            let prefix = &setting.value[..setting.value.len() - line.len()];
            let mut argv = words(line)?;
            // After `@` the second word is only what the program is told that its name is.
            if prefix.contains('@') && argv.len() > 1 {
                argv.remove(1);
            }
            exec.push(argv);
        }
        let mut environment = Vec::new();
        for setting in text.list("Service", "Environment") {
            environment.extend(words(&setting.value)?);
        }
        let directory = text.last("Service", "WorkingDirectory").unwrap_or("/");
        let directory = expand(directory.trim_start_matches('-'), unit).map_err(explain)?;
        Ok(UnitView {
            name: unit.clone(),
            exec,
            user: text.last("Service", "User").unwrap_or("").to_owned(),
            working_directory: PathBuf::from(directory),
            environment,
            needs_reload: self.barred_by(unit)? != self.barred_on_disk(unit)?,
            barred_by: self.barred_by(unit)?,
            run: self.run_state(unit),
            fragment,
            drop_ins,
        })
    }
}
