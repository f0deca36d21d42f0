//! What runs: each signer's binary against its own protocol, what its process really is, and whom it is connected to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Check;
use crate::finding::{Code, Finding};
use crate::host::{Executable, Host};
use crate::inventory::{Connection, Inventory, Signer};
use crate::plan::safety::spoken;
use tmkms_core::config::Validator;

/// Whether each signer's tmkms would start again as it is, and is still the one that runs.
pub fn binaries(host: &mut Host, inventory: &Inventory) -> Check {
    let mut findings = Vec::new();
    for signer in inventory.current() {
        if host.processes.is_program(signer.program()) == Some(false) {
            let message = format!(
                "no program is there that could be run: {} wouldn't start again",
                signer.unit.name
            );
            findings.push(
                Finding::block(Code::BinaryReplaced, message)
                    .of(signer.name())
                    .at(signer.program())
                    .remedy("install the tmkms that the signer was started with there"),
            );
            continue;
        }
        if !host.modelled {
            for validator in &signer.config.view.validators {
                findings.extend(spoken(signer, validator));
            }
        }
        findings.extend(replaced(host, signer));
    }
    findings.sort();
    findings.dedup_by(|a, b| (a.code, &a.path, &a.message) == (b.code, &b.path, &b.message));
    let fine = "each signer's tmkms speaks its protocol, and is the one that runs";
    let check = Check::of("binaries", fine.into(), findings);
    match host.modelled {
        true => check.not("nothing of a folder is run to ask for its version"),
        false => check,
    }
}

fn replaced(host: &mut Host, signer: &Signer) -> Option<Finding> {
    let (pid, program) = (signer.unit.run.main_pid, signer.program());
    if pid == 0 {
        return None;
    }
    let unit = &signer.unit.name;
    let finding = |message: String| {
        let remedy = "put the binary that it was started with back there, and give a new one a path of its own with \
                      `plan --binary`; or restart the signer at a quiet moment";
        Finding::warn(Code::BinaryReplaced, message)
            .of(signer.name())
            .at(program)
            .remedy(remedy)
    };
    match host.processes.runs(pid, program) {
        Ok(Some(Executable::Same) | None) => None,
        Ok(Some(Executable::Other | Executable::Gone)) => Some(finding(format!(
            "process {pid} of {unit} doesn't run what is there now: a restart, and the way back, would start another tmkms"
        ))),
        Err(e) => Some(finding(format!(
            "what process {pid} of {unit} runs can't be seen ({e:#})"
        ))),
    }
}

/// Whether each running signer has a connection to its validators, seen in the kernel's tables.
pub fn validators(host: &mut Host, inventory: &Inventory) -> Check {
    let mut findings = Vec::new();
    let (mut connected, mut looked) = (0, 0);
    let mut unjudged = BTreeSet::new();
    for signer in inventory.current().filter(|s| s.is_up()) {
        let pid = signer.unit.run.main_pid;
        if host.modelled {
            continue;
        }
        let connections = match host.processes.connections(pid) {
            Ok(connections) => connections,
            Err(e) => {
                unjudged.insert(format!("{}: {e:#}", signer.unit.name));
                continue;
            }
        };
        for validator in &signer.config.view.validators {
            let Some((host, port)) = end(validator) else {
                unjudged.insert(format!("{} is no TCP address", validator.addr.value));
                continue;
            };
            looked += 1;
            let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
            // A name isn't looked up: the port has to do.
            let there = connections.iter().any(|c| match c {
                Connection::Tcp(p) => p.port() == port && ip.is_none_or(|ip| p.ip() == ip),
                Connection::Unix => false,
            });
            if there {
                connected += 1;
                continue;
            }
            let message = format!(
                "{} has no connection to {host}:{port}: it signs nothing of {} now",
                signer.unit.name, validator.chain_id.value
            );
            findings.push(
                Finding::warn(Code::NotConnected, message)
                    .of(signer.name())
                    .at(&signer.config.path)
                    .line(validator.line)
                    .remedy("expected while the validator is stopped; else look at its log and at the network between"),
            );
        }
    }
    let fine = format!("{connected} connections to validators stand");
    let check = Check::of("validators", fine, findings);
    match (host.modelled, looked, unjudged.is_empty()) {
        (true, ..) => check.not("nothing of a folder is connected"),
        (false, 0, true) => check.not("no signer runs"),
        (false, _, true) => check,
        (false, _, false) => check.in_part(Vec::from_iter(unjudged).join("; ")),
    }
}

/// Where a validator listens: `tcp://[peer-id@]HOST:PORT` or `HOST:PORT`.
fn end(validator: &Validator) -> Option<(&str, u16)> {
    let addr = validator.addr.value.as_str();
    let rest = addr.strip_prefix("tcp://").unwrap_or(addr);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let (host, port) = rest.rsplit_once(':')?;
    (!host.contains('/')).then_some((host, port.parse().ok()?))
}
