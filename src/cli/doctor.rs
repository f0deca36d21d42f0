//! `doctor`: everything about this host that could spoil the night.

use anyhow::Context;
use clap::Args;
use tmkms_core::chain_id::ChainId;

use super::plan::{self, CURRENT};
use crate::discover::{self, Versions};
use crate::doctor::{self, Coming};
use crate::exit::{Exit, Failure, Outcome};
use crate::finding::Finding;
use crate::host::Host;
use crate::inventory::Inventory;
use crate::journal::store::History;
use crate::ledger::Ledger;
use crate::peers::{Peer, Peers, ask};
use crate::plan::{Plan, Request};
use crate::ui::doctor::{Report, text};
use crate::ui::{FORMAT_VERSION, Ui};

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look also at what a plan for this chain id would meet; by default at what the saved plan would
    #[arg(long, value_name = "ID")]
    new_chain: Option<ChainId>,
}

pub fn run(host: &mut Host, ui: Ui, peers: &[Peer], args: &DoctorArgs) -> Outcome {
    let mut inventory = discover::inventory(host, Versions::Ask)?;
    discover::devices(host, &mut inventory);
    let history = History::read(host)?;
    let ledger = Ledger::of(&history.0);
    let peers = ask(peers, host.clock.now());
    let coming = coming(host, &inventory, &peers, &history, args)?;
    let checks = doctor::examine(host, &inventory, &ledger, &peers, &coming);
    let report = Report {
        format_version: FORMAT_VERSION,
        host: inventory.host.clone(),
        observed_at: inventory.observed_at,
        checks,
    };
    if ui.json {
        ui.json(&report)?
    } else {
        ui.out(&text(&report))?
    }
    let mut findings = report.checks.iter().flat_map(|check| &check.findings);
    Ok(match findings.any(Finding::blocks) {
        true => Exit::Refused,
        false => Exit::Done,
    })
}

fn coming(
    host: &mut Host,
    inventory: &Inventory,
    peers: &Peers,
    history: &History,
    args: &DoctorArgs,
) -> Result<Coming, Failure> {
    let request = match &args.new_chain {
        Some(chain) => Request::of(chain.clone()),
        None => match host.memory.read(CURRENT)? {
            None => {
                let why = "there is no plan; `--new-chain ID` judges one";
                return Ok(Coming::None(why.into()));
            }
            Some(bytes) => {
                let place = host.memory.path(CURRENT).display().to_string();
                Plan::parse(&bytes).context(place)?.request
            }
        },
    };
    Ok(match plan::of(host, inventory, &request, peers, history) {
        Ok(plan) if plan.moves.is_empty() => Coming::None(format!(
            "every signer of {} is there already",
            request.new_chain
        )),
        Ok(plan) => Coming::Planned(Box::new(plan)),
        Err(failure) if args.new_chain.is_some() => return Err(failure),
        Err(failure) => Coming::None(format!("{:#}", failure.error)),
    })
}
