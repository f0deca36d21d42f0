//! Modelled YubiHSMs: a device has sixteen sessions, a running tmkms holds one, and that of one that ended stays taken for
//! 30 s (the vendor's documents). A tmkms that finds none ends with an error, and is started again as time passes.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tmkms_core::config::{Config, KeyRef};

use super::Model;
use crate::unit::UnitName;

const SLOTS: usize = 16;
const ORPHANED: Duration = Duration::from_secs(30);
/// What the yubihsm crate says then.
const FULL: &str = "sessions full (max 16)";

/// The connector of the device that a config's keys are on.
fn connector(config: &Config) -> Option<String> {
    let mut keys = config
        .chains
        .iter()
        .flat_map(|c| config.keys_for(&c.id.value));
    keys.find_map(|key| match key {
        KeyRef::Yubihsm { connector, .. } => Some(connector),
        _ => None,
    })
}

impl Model {
    /// Takes a session of the device that a unit's config names; its error is what tmkms logs.
    pub(super) fn take_session(&mut self, unit: &UnitName, config: &Config) -> Result<()> {
        let device = connector(config);
        self.devices.insert(unit.clone(), device.clone());
        let Some(device) = device else { return Ok(()) };
        let time = self.time;
        self.orphans.retain(|(free, _)| *free > time);
        let orphans = self.orphans.iter().filter(|(_, d)| *d == device).count();
        let running: Vec<UnitName> = self.running.units.keys().cloned().collect();
        let mut held = 0;
        for other in running.iter().filter(|other| *other != unit) {
            if self.run(other).state.main_pid != 0 {
                held += usize::from(self.device_of(other).as_ref() == Some(&device));
            }
        }
        let foreign = self.faults.get(unit).and_then(|f| f.foreign_sessions);
        let foreign = foreign.filter(|(_, until)| time < Duration::from_secs(*until));
        if held + orphans + foreign.map_or(0, |(count, _)| count) >= SLOTS {
            self.logged.insert(unit.clone(), format!("error: {FULL}"));
            bail!(FULL);
        }
        Ok(())
    }

    /// A unit's process ends, and its session outlives it.
    pub(super) fn leave_session(&mut self, unit: &UnitName) {
        if self.run(unit).state.main_pid != 0
            && let Some(device) = self.device_of(unit)
        {
            self.orphans.push((self.time + ORPHANED, device));
        }
    }

    /// The units that found no session try again.
    pub(super) fn try_again(&mut self) -> Result<()> {
        let waiting: Vec<UnitName> = self.logged.keys().cloned().collect();
        for unit in waiting {
            let restarts = self.run(&unit).restarts;
            let waits = self.run(&unit).state.sub == "auto-restart";
            if waits && self.tmkms_starts(&unit).is_ok() {
                let mut run = self.a_run();
                run.restarts = restarts + 1;
                self.running.units.insert(unit.clone(), run);
                self.save()?;
            }
        }
        Ok(())
    }

    fn device_of(&mut self, unit: &UnitName) -> Option<String> {
        if !self.devices.contains_key(unit) {
            let device = self.config_of(unit).ok().and_then(|c| connector(&c));
            self.devices.insert(unit.clone(), device);
        }
        self.devices.get(unit).cloned().flatten()
    }

    fn config_of(&self, unit: &UnitName) -> Result<Config> {
        let view = self.view(unit)?;
        let (_, path) = self.started(&view)?.context("it starts no tmkms")?;
        let text = self.world.read(&path)?;
        Ok(Config::parse(std::str::from_utf8(&text)?)?)
    }
}
