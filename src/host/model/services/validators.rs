//! Modelled validators (`faults.json`, `validator`): as time passes they have their signers sign blocks, and they can go.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tmkms_core::config::Config;
use tmkms_core::state::SignState;

use super::Model;
use crate::host::model::Validator;
use crate::inventory::Connection;
use crate::kms::tmkms;
use crate::unit::UnitName;

/// Where a modelled validator is that the config dials by a name: an address that documents keep for themselves (RFC 5737).
const VALIDATOR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 26659);

impl Model {
    /// Lets time pass: each validator's signer signs what became due.
    pub fn pass(&mut self, time: Duration) -> Result<()> {
        let before = self.time;
        self.time += time;
        self.try_again()?;
        for (unit, validator) in self.validators() {
            let blocks = |at: Duration| at.as_secs().checked_div(validator.seconds).unwrap_or(0);
            let due = blocks(self.time) - blocks(before);
            if due == 0 {
                continue;
            }
            for (path, state) in self.chains(&unit, &validator)? {
                let height = (state.height + due).min(validator.until.max(state.height));
                if height > state.height {
                    self.signs(&path, height)?;
                }
            }
        }
        Ok(())
    }

    /// What a process is connected to, as the kernel would say.
    pub fn connections(&self, pid: u32) -> Result<Vec<Connection>> {
        for (unit, validator) in self.validators() {
            if self.run(&unit).state.main_pid != pid {
                continue;
            }
            let done = |state: &SignState| state.height >= validator.until;
            let chains = self.chains(&unit, &validator)?;
            if validator.ends && chains.iter().all(|(_, s)| done(s)) {
                return Ok(Vec::new());
            }
            let (config, _) = self.config(&unit)?;
            let dialled = config.validators.iter();
            let dialled = dialled.filter(|v| validator.asks_for(&v.chain_id.value));
            let address = dialled.map(|v| {
                let place = v.addr.value.rsplit(['/', '@']).next();
                place.and_then(|p| p.parse().ok()).unwrap_or(VALIDATOR)
            });
            return Ok(address.map(Connection::Tcp).collect());
        }
        Ok(Vec::new())
    }

    /// The validators of the signers that run.
    fn validators(&self) -> Vec<(UnitName, Validator)> {
        let asked = self.faults.iter();
        asked
            .filter(|(unit, _)| self.run(unit).state.main_pid != 0)
            .filter_map(|(unit, faults)| Some((unit.clone(), faults.validator.clone()?)))
            .collect()
    }

    /// The state files of a running signer's chains that a validator asks for.
    fn chains(&self, unit: &UnitName, validator: &Validator) -> Result<Vec<(PathBuf, SignState)>> {
        let (config, working_directory) = self.config(unit)?;
        let chains = config.chains.iter();
        let paths = chains
            .filter(|chain| validator.asks_for(&chain.id.value))
            .map(|chain| {
                let name = config.state_file_or_default(chain);
                tmkms::absolute(&name, &working_directory)
            });
        paths
            .map(|path| {
                let state = SignState::parse(&self.world.read(&path)?)?;
                Ok((path, state))
            })
            .collect()
    }

    /// A unit's config, and its working directory.
    fn config(&self, unit: &UnitName) -> Result<(Config, PathBuf)> {
        let view = self.view(unit)?;
        let (_, path) = self.started(&view)?.context("it starts no tmkms")?;
        let config = Config::parse(std::str::from_utf8(&self.world.read(&path)?)?)?;
        Ok((config, view.working_directory))
    }
}

impl Validator {
    fn asks_for(&self, chain: &str) -> bool {
        self.chain.as_deref().is_none_or(|only| only == chain)
    }
}
