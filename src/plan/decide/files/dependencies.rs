//! What a moving unit's texts say of other units that move in the same plan: an order or a wish goes over to their new
//! names, anything stronger is refused. The reasons are in the module above.

use super::{Files, Part};
use crate::finding::{Code, Finding};
use crate::render;
use crate::unit::words::{self, expand};
use crate::unit::{Setting, UnitName, UnitText};

/// They only order starts, or ask for one.
const LOOSE: [&str; 3] = ["After", "Before", "Wants"];
/// They stop or start one unit with another (systemd.unit(5)).
const TIGHT: [&str; 11] = [
    "Requires",
    "Requisite",
    "BindsTo",
    "PartOf",
    "Upholds",
    "Conflicts",
    "OnFailure",
    "OnSuccess",
    "PropagatesStopTo",
    "StopPropagatedFrom",
    "JoinsNamespaceOf",
];

impl<'a> Files<'a> {
    /// Rewrites or refuses each mention of a unit that moves as well.
    pub(super) fn dependencies(&self, parts: &mut [Part<'a>]) -> Result<(), Box<Finding>> {
        for part in parts {
            let parsed = UnitText::parse(part.text)
                .map_err(|e| self.refuse(part.source, e.line, e.message))?;
            for setting in parsed.settings.iter().filter(|s| s.section == "Unit") {
                let (loose, tight) = (
                    LOOSE.contains(&setting.key.as_str()),
                    TIGHT.contains(&setting.key.as_str()),
                );
                if loose || tight {
                    self.mentions(part, setting, tight)?;
                }
            }
            part.edits.sort_by_key(|c| c.edit.span.start);
        }
        Ok(())
    }

    fn mentions(
        &self,
        part: &mut Part<'a>,
        setting: &Setting,
        tight: bool,
    ) -> Result<(), Box<Finding>> {
        let entry = &part.text[setting.span.clone()];
        let value = setting.span.start + entry.find('=').map_or(0, |at| at + 1);
        let words = words::split_at(&part.text[value..setting.span.end])
            .map_err(|why| self.refuse(part.source, setting.line, why))?;
        let own = &self.signer.unit.name;
        for word in &words {
            let literal = word.text.parse::<UnitName>().ok();
            let meant = expand(&word.text, own).ok().and_then(|n| n.parse().ok());
            let named = literal.as_ref().or(meant.as_ref());
            let Some((old, new)) = named.and_then(|name| self.successors.get_key_value(name))
            else {
                continue;
            };
            // Of itself a unit may say anything; a template's text names its other instances.
            if old == own && literal.is_none() {
                continue;
            }
            if tight && old != own {
                return Err(self.tied(part, setting, old));
            }
            if part.target.is_none() {
                if words.iter().any(|w| w.text == new.as_str()) {
                    continue;
                }
                let message = format!(
                    "{}= names {old}, and {} inherits it as it is, without {new}",
                    setting.key, self.new
                );
                let mut finding = self.refuse(part.source, setting.line, message);
                finding.remedy = format!("name {new} there as well, then plan again");
                return Err(finding);
            }
            if literal.is_none() {
                let message = format!(
                    "{}={} means {old}, which moves to {new}: it can't be rewritten for every unit that it serves",
                    setting.key, word.text
                );
                return Err(self.refuse(part.source, setting.line, message));
            }
            let span = value + word.span.start..value + word.span.end;
            let why = "the other signer moves as well";
            part.edits.push(render::unit::replacement(
                part.text,
                span,
                new.as_str(),
                why,
            ));
        }
        Ok(())
    }

    fn tied(&self, part: &Part<'a>, setting: &Setting, other: &UnitName) -> Box<Finding> {
        let message = format!(
            "{}= ties {} to {other}, which moves as well: one would stop or start with the other, outside its own switch",
            setting.key, self.signer.unit.name
        );
        let remedy = "let each signer stand alone: use After= at most; then plan again";
        Box::new(
            Finding::block(Code::SignersTied, message)
                .of(self.signer.name())
                .at(part.source)
                .line(setting.line)
                .remedy(remedy),
        )
    }
}
