//! How the new unit is enabled where the old one is: by systemd's own enable where that does exactly this, else link by
//! link.

use std::path::PathBuf;

use super::Files;
use crate::inventory::{Unit, UnitLink};
use crate::paths::{ManagedLink, ManagedPath};
use crate::plan::{Alias, Enablement};
use crate::unit::UnitName;

impl Files<'_> {
    /// How the new unit is enabled where the old one is.
    pub fn enablement(&self) -> Enablement {
        let unit = &self.signer.unit;
        let file = self.file();
        let target = ManagedPath::unit(&file).as_path().to_owned();
        let successor = |link: ManagedLink| UnitLink {
            link,
            target: target.clone(),
        };
        let mut new: Vec<UnitLink> = unit
            .links
            .iter()
            .map(|l| successor(l.link.of(self.new)))
            .collect();
        // What another unit's text wants is wanted by a link: that text isn't kmsctl's to change.
        // One that moves as well has a text of its own, which names the new unit.
        let moves = |by: &str| {
            let mut units = self.successors.keys();
            units.any(|u| u.as_str() == by || u.template().is_some_and(|t| t.as_str() == by))
        };
        let wanted = unit.pulled_in_by.iter().filter(|p| !moves(&p.by));
        new.extend(
            wanted
                .filter_map(|p| ManagedLink::wants(&p.by, self.new).ok())
                .map(successor),
        );
        new.sort();
        new.dedup();
        let paths = |links: &[UnitLink]| {
            let mut paths: Vec<PathBuf> = links.iter().map(|l| l.link.clone().into()).collect();
            paths.sort();
            paths
        };
        let own = unit
            .links
            .iter()
            .all(|l| l.target == unit.fragment && !l.link.is_runtime());
        let asked = |name: &UnitName| Unit::installs(&unit.texts(), name);
        let by_systemd = own
            && !unit.linked
            && !unit.mask
            && unit.aliases.is_empty()
            && asked(&unit.name) == Some(paths(&unit.links))
            && asked(self.new) == Some(paths(&new));
        let aliases = unit.aliases.iter().map(|alias| Alias {
            link: alias.link.clone(),
            old: alias.target.clone(),
            new: target.clone(),
        });
        Enablement {
            by_systemd: by_systemd || new.is_empty(),
            old: unit.links.clone(),
            new,
            aliases: aliases.collect(),
        }
    }
}
