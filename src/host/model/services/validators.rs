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

/// Where every modelled validator is: an address that documents keep for themselves (RFC 5737).
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
            for (path, state) in self.chains(&unit)? {
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
            let gone = validator.ends && self.chains(&unit)?.iter().all(|(_, s)| done(s));
            return Ok(if gone {
                Vec::new()
            } else {
                vec![Connection::Tcp(VALIDATOR)]
            });
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

    /// The state files of a running signer.
    fn chains(&self, unit: &UnitName) -> Result<Vec<(PathBuf, SignState)>> {
        let view = self.view(unit)?;
        let (_, path) = self.started(&view)?.context("it starts no tmkms")?;
        let config = Config::parse(std::str::from_utf8(&self.world.read(&path)?)?)?;
        let paths = config.chains.iter().map(|chain| {
            tmkms::absolute(
                &config.state_file_or_default(chain),
                &view.working_directory,
            )
        });
        paths
            .map(|path| {
                let state = SignState::parse(&self.world.read(&path)?)?;
                Ok((path, state))
            })
            .collect()
    }
}
