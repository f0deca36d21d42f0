//! That the new unit starts the right tmkms on the new config: made so where no path in its text did it, and proven from
//! the very texts that will be written.

use std::ops::Range;
use std::path::Path;

use tmkms_core::edit::Edit;

use super::{Files, Part, proof};
use crate::content::Change;
use crate::finding::Finding;
use crate::kms::tmkms;
use crate::naming;
use crate::render;
use crate::unit::effective::Effective;
use crate::unit::{UnitText, words};

/// Why the command that starts tmkms is changed.
const NAMES_CONFIG: &str = "the command names the new config itself";

impl<'a> Files<'a> {
    /// Makes the new unit start on the new config where no path in its text did that already, and proves that it does.
    pub(super) fn start_on_new_config(&self, parts: &mut [Part<'a>]) -> Result<(), Box<Finding>> {
        let Err(why) = self.proven(parts) else {
            return Ok(());
        };
        for (n, change) in self.candidates(parts) {
            parts[n].edits.push(change);
            parts[n].edits.sort_by_key(|c| c.edit.span.start);
            if self.proven(parts).is_ok() {
                return Ok(());
            }
            parts[n].edits.retain(|c| c.why != NAMES_CONFIG);
        }
        let unit = &self.signer.unit;
        let line = UnitText::parse(&unit.text).ok().and_then(|text| {
            let setting = text.list("Service", "ExecStart").last().copied()?;
            Some(setting.line)
        });
        Err(self.refuse(&unit.fragment, line.unwrap_or(1), why))
    }

    /// Ways to name the new config in the command that starts tmkms, where a variable or nothing named the old one.
    fn candidates(&self, parts: &[Part<'a>]) -> Vec<(usize, Change)> {
        let mut found = Vec::new();
        for (n, part) in parts
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, p)| p.target.is_some())
        {
            let Ok(text) = UnitText::parse(part.text) else {
                continue;
            };
            let Some(setting) = text.list("Service", "ExecStart").last().copied() else {
                continue;
            };
            let entry = &part.text[setting.span.clone()];
            let value = setting.span.start + entry.find('=').map_or(0, |at| at + 1);
            let Ok(words) = words::split_at(&part.text[value..setting.span.end]) else {
                continue;
            };
            let argv: Vec<String> = words.iter().map(|w| w.text.clone()).collect();
            let place = |n: usize| value + words[n].span.start..value + words[n].span.end;
            let mut add = |span: Range<usize>, to: String| {
                let change = render::unit::replacement(part.text, span, &to, NAMES_CONFIG);
                found.push((n, change));
            };
            let config = self.new_config.to_string_lossy();
            if render::unit::plain(&config).is_err() {
                continue;
            }
            // A template's text serves other instances too: only what follows the instance may stand in it.
            let shared = self.file() != *self.new;
            if let Ok(Some((word, written))) = tmkms::config_argument(&argv) {
                let lead = &argv[word][..argv[word].len() - written.len()];
                add(
                    place(word),
                    format!("{lead}{}", naming::path(written, self.wanted.suffix)),
                );
                if !shared {
                    add(place(word), format!("{lead}{config}"));
                }
            } else if let Some(start) = argv.iter().position(|w| w == "start") {
                // The word itself is replaced, so that the change shows where it is.
                let word = &part.text[place(start)];
                if shared {
                    let name = self.new_config.file_name().unwrap_or_default();
                    add(
                        place(start),
                        format!("{word} -c {}", name.to_string_lossy()),
                    );
                } else {
                    add(place(start), format!("{word} -c {config}"));
                }
            }
            break;
        }
        found
    }

    /// Reads the new unit as systemd will: it starts the right tmkms on the new config, as the same user, in the same
    /// folder, with the same variables.
    fn proven(&self, parts: &[Part<'a>]) -> Result<(), String> {
        let unit = &self.signer.unit;
        let (mut old, mut new) = (UnitText::default(), UnitText::default());
        for part in parts {
            let at = |e: &dyn std::fmt::Display| format!("{}: {e}", part.source.display());
            let edits: Vec<Edit> = part.edits.iter().map(|c| c.edit.clone()).collect();
            let text = render::unit::splice(part.text, &edits).map_err(|e| at(&e))?;
            old.extend(UnitText::parse(part.text).map_err(|e| at(&e))?);
            new.extend(UnitText::parse(&text).map_err(|e| at(&e))?);
        }
        let (old, new) = (
            Effective::of(&unit.name, &old)?,
            Effective::of(self.new, &new)?,
        );
        let own_variables = new.variables;
        let mut variables = own_variables.clone();
        variables.extend(&unit.file_variables);
        let exec = new.exec.iter().map(|e| variables.substitute(e));
        let starts: Vec<Vec<String>> = exec.filter(|e| tmkms::is_start(e)).collect();
        let [argv] = &starts[..] else {
            return Err("it can't be said how the new unit would start tmkms".into());
        };
        let named = variables.get(tmkms::CONFIG_VARIABLE);
        let config = tmkms::config_path(argv, named, &new.working_directory)
            .map_err(|_| "it can't be said what the new unit would start tmkms on")?;
        let program = Path::new(&argv[0]);
        if config != self.new_config {
            return Err(format!(
                "the new unit would start tmkms on {}, not on {}: the config's name can't be changed in the unit's text",
                config.display(),
                self.new_config.display()
            ));
        }
        if program != self.program {
            return Err(format!(
                "the new unit would run {}, not {}: the program can't be changed in the unit's text",
                program.display(),
                self.program.display()
            ));
        }
        let moved = self.moved();
        let alike = |one: &str, two: &str| proof::follows(one, two, &moved);
        if let Some(name) = old.variables.differing(&own_variables, alike) {
            return Err(format!(
                "the new unit's variable {name} would have another value"
            ));
        }
        if (old.user, old.working_directory, old.environment_files)
            != (new.user, new.working_directory, new.environment_files)
        {
            return Err(
                "the new unit would run as another user, in another folder or with other variables"
                    .into(),
            );
        }
        Ok(())
    }
}
