//! `plan`: discover, decide, render, check; print it like a diff; save it.

mod runbook;
mod save;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use clap::Args;
use save::Kind;
use tmkms_core::chain_id::ChainId;
use tmkms_core::protocol::ProtocolVersion;

use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::finding::{Code, Guard};
use crate::host::Host;
use crate::inventory::Inventory;
use crate::journal::store::History;
use crate::ledger::Ledger;
use crate::peers::{self, Peer, Peers};
use crate::plan::{self, Plan, Request, decide, safety};
use crate::ui::{self, Ui};

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The chain id after the upgrade, such as commercio-3; the one that --from-chain names where only the protocol or
    /// the binary changes
    #[arg(long, value_name = "ID")]
    new_chain: ChainId,
    /// The chain id to leave, where the new one's name doesn't tell
    #[arg(long, value_name = "ID")]
    from_chain: Option<ChainId>,
    /// Move only this signer; may be given several times
    #[arg(long, value_name = "NAME")]
    signer: Vec<String>,
    /// What new names carry; by default v and the new id's revision
    #[arg(long)]
    suffix: Option<String>,
    /// The protocol version of the new config; by default v0.34 in place of legacy and v0.33
    #[arg(long, value_name = "VERSION")]
    protocol: Option<ProtocolVersion>,
    /// The tmkms that the new units run; by default the one that the old units run
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The folder that new configs go to; by default beside the old ones
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// How many blocks apart the signers' heights may be
    #[arg(long, value_name = "BLOCKS", default_value_t = plan::MAX_SPREAD)]
    max_spread: u64,
    /// Overrule a blocking finding that isn't one of the fixed rules, by its code
    #[arg(long, value_name = "CODE")]
    accept: Vec<Code>,
    /// Save the plan to this file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Save the plan's steps to this file as a shell script, to do or to check them by hand
    #[arg(long, value_name = "FILE")]
    runbook: Option<PathBuf>,
    /// Exit with 10 when there are changes
    #[arg(long)]
    detailed_exitcode: bool,
}

impl PlanArgs {
    fn request(&self, host: &Host) -> Result<Request, Failure> {
        if let Some(code) = self.accept.iter().find(|c| !c.acceptable()) {
            return Err(Failure::usage(match code.guard() {
                Some(Guard::Rule(rule)) => format!(
                    "--accept {code}: that finding guards a rule that no flag turns off ({rule})"
                ),
                Some(guard) => format!("--accept {code}: that finding can't be overruled: {guard}"),
                None => format!("--accept {code}: that finding never blocks"),
            }));
        }
        Ok(Request {
            new_chain: self.new_chain.clone(),
            from_chain: self.from_chain.clone(),
            signers: self.signer.iter().cloned().collect(),
            suffix: self.suffix.clone(),
            protocol: self.protocol,
            binary: self.binary.as_deref().map(absolute).transpose()?,
            config_dir: self.config_dir(host)?,
            max_spread: self.max_spread,
            accept: self.accept.iter().copied().collect::<BTreeSet<Code>>(),
        })
    }

    /// Without any link in it, as everything that is written to must be.
    fn config_dir(&self, host: &Host) -> Result<Option<PathBuf>, Failure> {
        let Some(folder) = &self.config_dir else {
            return Ok(None);
        };
        absolute(folder)?;
        let resolved = host.files.resolve(folder).map_err(|e| {
            Failure::refused(format!(
                "--config-dir {}: {e}; make the folder first, with the owner that the signers' configs need",
                folder.display()
            ))
        })?;
        Ok(Some(resolved))
    }
}

/// A path of the host that means itself wherever kmsctl is called.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
    if path.is_absolute() && path.components().all(plain) && path.to_str().is_some() {
        return Ok(path.to_owned());
    }
    Err(Failure::usage(format!(
        "{}: give an absolute path without `..`",
        path.display()
    )))
}

/// Where the current plan is kept, below kmsctl's own folder.
pub const CURRENT: &str = "plan.json";

pub fn run(host: &mut Host, ui: Ui, peers: &[Peer], args: &PlanArgs) -> Outcome {
    let request = args.request(host)?;
    let peers = peers::ask(peers, host.clock.now());
    let history = History::read(host)?;
    let (plan, _) = make(host, &request, &peers, &history)?;
    let open = history.open().filter(|j| j.switched());
    let bytes = serde_json::to_vec(&plan).context("writing the plan")?;
    if let Some(path) = &args.out {
        let kind = Kind {
            name: "plan",
            mode: 0o600,
            is_one: Plan::is_plan,
        };
        kind.save(path, &bytes)?;
    }
    // Half-way through a switch the host is no base to plan from; looking is allowed. A plan that finds nothing to do
    // leaves the last one, which `apply` finds applied.
    let useful = !plan.moves.is_empty() || plan.blocks().next().is_some();
    if open.is_none() && useful {
        host.memory.replace(CURRENT, &bytes)?;
    }
    drop(bytes);
    let runbook = match &args.runbook {
        Some(path) => Some(runbook::save(host, &plan, path, &history)?),
        None => None,
    };
    if ui.json {
        ui.json(&plan)?
    } else {
        ui.out(&ui::plan::text(&plan))?
    }
    if let Some(said) = runbook {
        ui.note(&said);
    }
    if let Some(open) = open {
        ui.note(&format!(
            "Operation {} ({}) is open, so this plan isn't saved: `kmsctl status` says how to go on.",
            open.operation, open.verb
        ));
    }
    Ok(if plan.blocks().next().is_some() {
        Exit::Refused
    } else if args.detailed_exitcode && !plan.moves.is_empty() {
        Exit::Changes
    } else {
        Exit::Done
    })
}

/// Looks at the host and plans, and says what was seen: the same for `plan` and for the check that `stage` and `apply`
/// begin with.
pub fn make(
    host: &mut Host,
    request: &Request,
    peers: &Peers,
    history: &History,
) -> Result<(Plan, Inventory), Failure> {
    let mut inventory = discover::inventory(host, Versions::Ask)?;
    discover::devices(host, &mut inventory);
    let plan = of(host, &inventory, request, peers, history)?;
    Ok((plan, inventory))
}

/// Plans for a host that was looked at.
pub fn of(
    host: &mut Host,
    inventory: &Inventory,
    request: &Request,
    peers: &Peers,
    history: &History,
) -> Result<Plan, Failure> {
    let ledger = Ledger::of(&history.0);
    let draft = decide::decide(inventory, request).map_err(Failure::refused)?;
    let around = discover::surroundings(host, inventory, request, &draft.moves)?;
    Ok(safety::judge(
        inventory, request, draft, &around, &ledger, peers,
    ))
}
