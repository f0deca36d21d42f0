//! `plan` judges the configs that it renders by the tmkms that will run them, where that tells its version.

use std::path::Path;

use anyhow::Result;
use kmsctl::cli::plan::make;
use kmsctl::finding::{Code, Severity};
use kmsctl::host::{Processes, model};
use kmsctl::inventory::{Connection, SignerProcess};
use kmsctl::peers::Peers;
use kmsctl::plan::{Plan, Request};
use kmsctl::unit::UnitName;
use tmkms_core::protocol::TmkmsVersion;

use super::support::Host;

/// A model whose binaries tell a version, as those of a live host do.
struct Telling(Box<dyn Processes>, TmkmsVersion);

impl Processes for Telling {
    fn signers(&mut self) -> Result<Vec<SignerProcess>> {
        self.0.signers()
    }

    fn in_unit(&mut self, unit: &UnitName, control_group: &str) -> Result<Vec<u32>> {
        self.0.in_unit(unit, control_group)
    }

    fn connections(&mut self, pid: u32) -> Result<Vec<Connection>> {
        self.0.connections(pid)
    }

    fn last_lines(
        &mut self,
        unit: &UnitName,
        since: jiff::Timestamp,
        lines: usize,
    ) -> Result<Vec<String>> {
        self.0.last_lines(unit, since, lines)
    }

    fn tmkms_version(&mut self, _: &Path, _: &str) -> Result<Option<TmkmsVersion>> {
        Ok(Some(self.1))
    }

    fn is_program(&self, path: &Path) -> Option<bool> {
        self.0.is_program(path)
    }

    fn operator(&self) -> String {
        self.0.operator()
    }
}

fn plan(host: &Host, version: &str, accept: &[Code]) -> Plan {
    let mut model = model::open(&host.path("")).unwrap();
    model.processes = Box::new(Telling(model.processes, version.parse().unwrap()));
    let request = Request {
        new_chain: "commercio-3".parse().unwrap(),
        from_chain: None,
        signers: Default::default(),
        suffix: None,
        protocol: None,
        binary: None,
        config_dir: None,
        max_spread: 1,
        accept: accept.iter().copied().collect(),
    };
    make(&mut model, &request, &Peers::default()).unwrap()
}

/// How a code weighs in a plan, for its first signer.
fn weighs(plan: &Plan, code: Code) -> Option<Severity> {
    let first = |signer: &Option<String>| signer.as_deref() == Some("tmkms-01");
    let mut found = plan.findings.iter();
    found
        .find(|f| f.code == code && first(&f.signer))
        .map(|f| f.severity)
}

#[test]
fn what_the_new_configs_tmkms_refuses_blocks_a_plan() {
    let host = Host::of("commercio");
    let before = plan(&host, "0.12.2", &[]);
    assert_eq!(weighs(&before, Code::SerialRefused), Some(Severity::Block));
    assert_eq!(
        weighs(&before, Code::PasswordFileRefused),
        Some(Severity::Block)
    );
    // Its warnings were the old config's as well, and what another check says isn't said twice.
    assert_eq!(weighs(&before, Code::PeerUnverified), None);
    assert_eq!(weighs(&before, Code::StateMissing), None);

    let password = "/data_tmkms/tmkms/kms/password";
    host.write(password, "no-password-at-all\n");
    let mended = plan(&host, "0.12.2", &[Code::SerialRefused]);
    assert_eq!(weighs(&mended, Code::PasswordFileRefused), None);
    assert_eq!(weighs(&mended, Code::SerialRefused), Some(Severity::Warn));
    assert_eq!(mended.blocks().count(), 0, "{:?}", mended.findings);
    assert_ne!(before.findings, mended.findings);
}

#[test]
fn a_version_that_nobody_knows_is_no_reason_to_block() {
    let host = Host::of("commercio");
    let plan = plan(&host, "0.16.0", &[]);
    assert_eq!(weighs(&plan, Code::SerialRefused), None);
}
