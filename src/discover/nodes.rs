//! Finds a host's key managers: units that run oasis-node, the configs they run on, the bundles those name.
//!
//! A node of another kind is nobody's business here. What can't be read of a key manager is a finding, never a guess.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Links, signer, units};
use crate::finding::{Code, Finding};
use crate::host::nodes::Question;
use crate::host::seen;
use crate::host::unit_path::UnitPath;
use crate::host::{Host, UnitView};
use crate::inventory::RunState;
use crate::kms::oasis::bundle::Bundle;
use crate::kms::oasis::command;
use crate::kms::oasis::config::{self, NodeConfig};
use crate::kms::tmkms;
use crate::unit::UnitName;

/// What a node's unit names.
const OASIS_NODE: &str = "oasis-node";

/// A key manager of this host.
#[derive(Clone, Debug)]
pub struct Node {
    pub unit: UnitName,
    pub program: PathBuf,
    pub user: String,
    pub config_path: PathBuf,
    pub config: NodeConfig,
    /// What the config names; or why it isn't a bundle.
    pub bundle: Result<Bundle, String>,
    pub run: RunState,
}

impl Node {
    pub fn question(&self) -> Question<'_> {
        Question {
            unit: &self.unit,
            program: &self.program,
            user: &self.user,
            socket: &self.config.socket,
            main_pid: self.run.main_pid,
        }
    }
}

/// Looks for key managers; with what can't be read of them as findings.
///
/// # Errors
/// The service manager can't be asked at all.
pub fn nodes(host: &mut Host) -> Result<(Vec<Node>, Vec<Finding>)> {
    seen::once(host, look)
}

fn look(host: &mut Host) -> Result<(Vec<Node>, Vec<Finding>)> {
    let path = host.services.unit_path()?;
    let path = UnitPath::new(&*host.files, &path);
    let links = Links::read(&*host.files, &path)?;
    let (mut nodes, mut problems) = (Vec::new(), Vec::new());
    for unit in units::candidates(host, &path, &links, OASIS_NODE, &mut problems)? {
        match read(host, &unit) {
            Ok(node) => nodes.extend(node),
            Err(problem) => problems.push(*problem),
        }
    }
    // A unit that is masked or a template without instances runs no node.
    problems.retain(Finding::blocks);
    problems.sort();
    Ok((nodes, problems))
}

fn read(host: &mut Host, unit: &UnitName) -> Result<Option<Node>, Box<Finding>> {
    let finding = |code, message: String| Finding::block(code, message).of(unit.signer());
    let view = host.services.view(unit).map_err(|e| {
        let message = format!("what {unit} means can't be read: {e:#}");
        finding(Code::UnitUnreadable, message).remedy("mend the unit, then look again")
    })?;
    let odd = |why: &str| {
        finding(Code::UnitUnreadable, why.to_owned())
            .at(&view.fragment)
            .remedy("start it as `oasis-node --config CONFIG`, in a unit of its own")
    };
    let commands = commands(host, &view).map_err(|why| odd(&why))?;
    let mut started = commands.iter().filter_map(|argv| {
        let config = command::config(argv)?;
        Some(config.map(|config| (argv, config)))
    });
    let Some(first) = started.next() else {
        return Ok(None);
    };
    let (argv, named) = first.map_err(odd)?;
    if started.next().is_some() {
        return Err(Box::new(odd("the unit starts oasis-node more than once")));
    }
    let config_path = tmkms::absolute(named, &view.working_directory);
    let unreadable = |why: String| {
        finding(Code::ConfigUnreadable, why)
            .at(&config_path)
            .remedy("mend the config; until then nobody can say what the node runs")
    };
    let text = signer::read_text(&*host.files, &config_path).map_err(unreadable)?;
    if !config::may_be_key_manager(&text) {
        return Ok(None);
    }
    let config = NodeConfig::parse(&text).map_err(|e| unreadable(e.why).line(e.line))?;
    let bundle = bundle(host, &config.bundle);
    Ok(Some(Node {
        unit: view.name.clone(),
        program: PathBuf::from(&argv[0]),
        user: view.user.clone(),
        config_path,
        config,
        bundle,
        run: view.run,
    }))
}

/// What the unit runs, variables put in.
fn commands(host: &Host, view: &UnitView) -> Result<Vec<Vec<String>>, String> {
    let files = view.file_variables(&*host.files);
    let mut variables = view.variables.clone();
    variables.extend(&files.map_err(|e| format!("its environment can't be read: {e:#}"))?);
    let exec = view.exec.iter();
    Ok(exec.map(|words| variables.substitute(words)).collect())
}

fn bundle(host: &Host, path: &Path) -> Result<Bundle, String> {
    let bytes = host.files.read(path).map_err(|e| e.to_string());
    let bundle = bytes.and_then(|bytes| Bundle::read(&bytes).map_err(|e| e.to_string()));
    bundle.map_err(|why| format!("{}: {why}", path.display()))
}
