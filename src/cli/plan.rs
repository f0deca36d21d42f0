//! `plan`: discover, decide, render, check; print it like a diff; save it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use tmkms_core::chain_id::ChainId;
use tmkms_core::protocol::ProtocolVersion;
use tmkms_core::state::SignState;

use crate::discover::{self, Versions};
use crate::exit::{Exit, Failure, Outcome};
use crate::finding::Code;
use crate::host::Host;
use crate::journal::store::History;
use crate::ledger::Ledger;
use crate::plan::{Plan, Request, decide, safety};
use crate::render::runbook;
use crate::ui::{self, Ui};

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The chain id after the upgrade, such as commercio-3
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
    /// How many blocks apart the signers' heights may be
    #[arg(long, value_name = "BLOCKS", default_value_t = 1)]
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
    fn request(&self) -> Result<Request, Failure> {
        if let Some(code) = self.accept.iter().find(|c| !c.acceptable()) {
            return Err(Failure::usage(format!(
                "--accept {code}: that finding guards a rule that no flag turns off"
            )));
        }
        Ok(Request {
            new_chain: self.new_chain.clone(),
            from_chain: self.from_chain.clone(),
            signers: self.signer.iter().cloned().collect(),
            suffix: self.suffix.clone(),
            protocol: self.protocol,
            max_spread: self.max_spread,
            accept: self.accept.iter().copied().collect::<BTreeSet<Code>>(),
        })
    }
}

/// Where the current plan is kept, below kmsctl's own folder.
pub const CURRENT: &str = "plan.json";

pub fn run(host: &mut Host, ui: Ui, args: &PlanArgs) -> Outcome {
    let plan = make(host, &args.request()?)?;
    let history = History::read(host)?;
    let open = history.open().filter(|j| j.switched());
    let bytes = serde_json::to_vec_pretty(&plan).context("writing the plan")?;
    if let Some(path) = &args.out {
        save(path, &bytes)?;
    }
    // Half-way through a switch the host is no base to plan from; looking is allowed. A plan that finds nothing to do
    // leaves the last one, which `apply` finds applied.
    let useful = !plan.moves.is_empty() || plan.blocks().next().is_some();
    if open.is_none() && useful {
        host.memory.replace(CURRENT, &bytes)?;
    }
    let runbook = match &args.runbook {
        Some(path) => Some(save_runbook(host, &plan, path, &history)?),
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

fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("writing {}", path.display()))
}

/// Saves the plan as a runbook, or says why not. What a rule forbids isn't to be done by hand either.
fn save_runbook(
    host: &mut Host,
    plan: &Plan,
    path: &Path,
    history: &History,
) -> anyhow::Result<String> {
    let shown = path.display();
    if plan.blocks().next().is_some() {
        return Ok(format!(
            "No runbook was written to {shown}: first mend what is in the way."
        ));
    }
    if plan.moves.is_empty() {
        return Ok(format!(
            "No runbook was written to {shown}: there is nothing to do."
        ));
    }
    let inventory = discover::inventory(host, Versions::Skip)?;
    let ledger = Ledger::of(&history.0);
    let around = runbook::Around {
        others: safety::known(&inventory, &[]).into_keys().collect(),
        floors: floors(plan, &ledger),
    };
    let text = runbook::text(plan, &around)?;
    replace_runbook(path, text.as_bytes()).with_context(|| format!("writing {shown}"))?;
    Ok(format!(
        "Wrote the runbook {shown}: read it, then `{shown} check` as root."
    ))
}

/// How far every state file of the plan was ever seen.
fn floors(plan: &Plan, ledger: &Ledger) -> BTreeMap<PathBuf, SignState> {
    let mut floors = BTreeMap::new();
    let seen = plan.observed.heights.iter();
    let seen = seen.filter_map(|h| Some((&h.state_file, h.reading.height()?)));
    let files = plan
        .moves
        .iter()
        .flat_map(|m| m.old_chains().chain(m.new_chains()));
    let journalled = files.filter_map(|f| Some((&f.state_file, ledger.highest(&f.state_file)?)));
    for (file, state) in seen.chain(journalled) {
        let floor = floors.entry(file.clone()).or_insert(state);
        *floor = state.max(*floor);
    }
    floors
}

/// Writes a script that root will run: whole or not at all, for its owner alone, and over nothing but a runbook.
fn replace_runbook(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => anyhow::ensure!(
            meta.is_file() && runbook::is_runbook(&std::fs::read(path)?),
            "what is there is no runbook of kmsctl, and it is kept: give another name"
        ),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Looks at the host and plans: the same for `plan` and for the check that `stage` and `apply` begin with.
pub fn make(host: &mut Host, request: &Request) -> Result<Plan, Failure> {
    let inventory = discover::inventory(host, Versions::Ask)?;
    let history = History::read(host)?;
    let ledger = Ledger::of(&history.0);
    let draft = decide::decide(&inventory, request).map_err(Failure::refused)?;
    let around = discover::surroundings(&*host.files, &draft.moves);
    Ok(safety::judge(&inventory, request, draft, &around, &ledger))
}
