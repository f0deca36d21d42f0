//! What `doctor` says of a machine's clock, journal and devices, where the lab can't cause it: they are played, over a
//! fixture's files and services. Each finding is caused once, and isn't there otherwise.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use kmsctl::discover::{self, Versions};
use kmsctl::doctor::{self, Check, Coming, Judged};
use kmsctl::finding::{Code, Severity};
use kmsctl::host::hsm::connector::Status;
use kmsctl::host::hsm::{Answer, Hsm, HsmKey, Question, Trouble};
use kmsctl::host::{self, Clock, Processes, model};
use kmsctl::inventory::{Connection, SignerProcess};
use kmsctl::ledger::Ledger;
use kmsctl::peers::Peers;
use kmsctl::unit::UnitName;
use tmkms_core::PublicKey;
use tmkms_core::protocol::TmkmsVersion;

use crate::devices::sound;
use crate::support::{CONFIGS, Host, UNITS};

/// What is played; the rest is the fixture's.
#[derive(Clone)]
struct Machine {
    synchronised: Option<bool>,
    reads_journal: Option<bool>,
    exportable: bool,
    /// What the connector says; none where nobody listens.
    connector: Option<bool>,
    /// Why the device doesn't answer, if it doesn't.
    trouble: Option<Trouble>,
    /// What every process is connected to.
    connections: Vec<Connection>,
}

const SOUND: Machine = Machine {
    synchronised: Some(true),
    reads_journal: Some(true),
    exportable: false,
    connector: Some(true),
    trouble: None,
    connections: Vec::new(),
};

struct PlayedClock(Box<dyn Clock>, Option<bool>);

impl Clock for PlayedClock {
    fn now(&self) -> jiff::Timestamp {
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) -> Result<()> {
        self.0.sleep(time)
    }

    fn synchronised(&self) -> Option<bool> {
        self.1
    }
}

struct PlayedProcesses(Box<dyn Processes>, Option<bool>, Vec<Connection>);

impl Processes for PlayedProcesses {
    fn signers(&mut self) -> Result<Vec<SignerProcess>> {
        self.0.signers()
    }

    fn in_unit(&mut self, unit: &UnitName, control_group: &str) -> Result<Vec<u32>> {
        self.0.in_unit(unit, control_group)
    }

    fn connections(&mut self, _pid: u32) -> Result<Vec<Connection>> {
        Ok(self.2.clone())
    }

    fn last_lines(
        &mut self,
        unit: &UnitName,
        since: jiff::Timestamp,
        lines: usize,
    ) -> Result<Vec<String>> {
        self.0.last_lines(unit, since, lines)
    }

    fn tmkms_version(&mut self, program: &Path, user: &str) -> Result<Option<TmkmsVersion>> {
        self.0.tmkms_version(program, user)
    }

    fn is_program(&self, path: &Path) -> Option<bool> {
        self.0.is_program(path)
    }

    fn reads_journal(&mut self) -> Option<bool> {
        self.1
    }

    fn operator(&self) -> String {
        self.0.operator()
    }
}

struct PlayedHsm(Machine);

impl Hsm for PlayedHsm {
    fn asks(&self) -> bool {
        true
    }

    fn ask(&mut self, question: Question) -> Result<Answer, Trouble> {
        if let Some(trouble) = &self.0.trouble {
            return Err(trouble.clone());
        }
        let mut answer = sound(&question);
        for (id, key) in &mut answer.keys {
            *key = HsmKey::Ed25519 {
                public: PublicKey::from_bytes([*id as u8; 32]),
                may_sign: true,
                exportable: self.0.exportable,
            };
        }
        Ok(answer)
    }

    fn status(&mut self, addr: &str) -> Result<Status, Trouble> {
        match self.0.connector {
            Some(device) => Ok(Status {
                device,
                version: None,
            }),
            None => Err(Trouble::Unreachable(format!("{addr}: nobody listens"))),
        }
    }
}

/// One of doctor's checks of a fixture on such a machine.
fn check(host: &Host, machine: &Machine, name: &str) -> Check {
    let password = "data_tmkms/tmkms/kms/password";
    if !host.path(password).exists() {
        host.write(password, "made-up-for-a-played-device\n");
    }
    let mut opened: host::Host = model::open(host.root()).unwrap();
    opened.modelled = false;
    opened.hsm = Box::new(PlayedHsm(machine.clone()));
    opened.clock = Box::new(PlayedClock(opened.clock, machine.synchronised));
    opened.processes = Box::new(PlayedProcesses(
        opened.processes,
        machine.reads_journal,
        machine.connections.clone(),
    ));
    let mut inventory = discover::inventory(&mut opened, Versions::Ask).unwrap();
    discover::devices(&mut opened, &mut inventory);
    let coming = Coming::None("none is asked for".into());
    let ledger = Ledger::of(&[]);
    let checks = doctor::examine(&mut opened, &inventory, &ledger, &Peers::default(), &coming);
    checks.into_iter().find(|c| c.check == name).unwrap()
}

#[track_caller]
fn finds(check: &Check, severity: Severity, code: Code, says: &str) {
    let fits = |f: &&kmsctl::finding::Finding| f.severity == severity && f.code == code;
    let found = check.findings.iter().find(fits);
    let found = found.unwrap_or_else(|| panic!("no {code} in {check:#?}"));
    assert!(found.message.contains(says), "{found:#?}");
    assert!(!found.remedy.is_empty(), "{found:#?}");
    assert_eq!(check.fine, None);
}

#[track_caller]
fn fine(check: &Check) {
    assert!(check.findings.is_empty(), "{check:#?}");
    assert_eq!(check.judged, Judged::Whole, "{check:#?}");
    assert!(check.fine.is_some(), "{check:#?}");
}

#[test]
fn the_clock() {
    let host = Host::of("commercio");
    let clock = |synchronised| {
        let machine = Machine {
            synchronised,
            ..SOUND
        };
        check(&host, &machine, "clock")
    };
    fine(&clock(Some(true)));
    let adrift = clock(Some(false));
    finds(
        &adrift,
        Severity::Warn,
        Code::ClockAdrift,
        "isn't synchronised",
    );
    let unknown = clock(None);
    assert!(matches!(unknown.judged, Judged::Not(_)), "{unknown:?}");
    assert_eq!(unknown.fine, None, "unknown is never taken for fine");
}

#[test]
fn the_journal_for_a_user_who_may_not_read_it() {
    let host = Host::of("commercio");
    let journal = |reads_journal| {
        let machine = Machine {
            reads_journal,
            ..SOUND
        };
        check(&host, &machine, "journal")
    };
    fine(&journal(Some(true)));
    let denied = journal(Some(false));
    finds(
        &denied,
        Severity::Warn,
        Code::JournalUnread,
        "can't be read",
    );
    assert!(matches!(journal(None).judged, Judged::InPart(_)));
}

#[test]
fn a_key_that_may_leave_its_device() {
    let host = Host::of("commercio");
    let leaves = Machine {
        exportable: true,
        ..SOUND
    };
    let found = check(&host, &leaves, "keys");
    let says = "key 1 of YubiHSM 9876543210 is exportable-under-wrap";
    finds(&found, Severity::Warn, Code::HsmKeyExportable, says);
    assert_eq!(found.findings.len(), 3, "one a key: {found:#?}");
    fine(&check(&host, &SOUND, "keys"));
}

/// One more signer, on the same device.
fn one_more(host: &Host, number: &str) {
    let as_it = |text: String| text.replace("01", number);
    let unit = host.read(&format!("{UNITS}/tmkms-01.service"));
    host.write(&format!("{UNITS}/tmkms-{number}.service"), &as_it(unit));
    host.link(
        &format!("{UNITS}/multi-user.target.wants/tmkms-{number}.service"),
        &format!("/{UNITS}/tmkms-{number}.service"),
    );
    let config = host.read(&format!("{CONFIGS}/tmkms.01.toml"));
    host.write(&format!("{CONFIGS}/tmkms.{number}.toml"), &as_it(config));
    let state = format!("{CONFIGS}/commercio_priv_validator_state");
    host.write(
        &format!("{state}{number}.json"),
        &host.read(&format!("{state}01.json")),
    );
}

#[test]
fn more_signers_than_a_device_has_sessions_to_restart() {
    let host = Host::of("commercio");
    for number in ["04", "05", "06", "07", "08"] {
        one_more(&host, number);
    }
    let eight = check(&host, &SOUND, "devices");
    assert!(
        eight.findings.iter().all(|f| f.code != Code::HsmFull),
        "{eight:#?}"
    );
    one_more(&host, "09");
    let nine = check(&host, &SOUND, "devices");
    let says = "9 signers share the 16 sessions of the YubiHSM at tcp://127.0.0.1:12345";
    finds(&nine, Severity::Warn, Code::HsmFull, says);
}

#[test]
fn the_connector_and_its_unit() {
    let host = Host::of("commercio");
    let of = |connector| Machine { connector, ..SOUND };
    let devices = |connector| check(&host, &of(connector), "devices");
    let unit = "yubihsm-connector.service";
    host.write(
        &format!("{UNITS}/{unit}"),
        "[Service]\nExecStart=/usr/bin/yubihsm-connector\n[Install]\nWantedBy=multi-user.target\n",
    );
    // Its unit doesn't run.
    let away = Code::ConnectorAway;
    finds(
        &devices(None),
        Severity::Block,
        away,
        "nobody listens, and yubihsm-connector.service doesn't run",
    );
    finds(
        &devices(Some(true)),
        Severity::Info,
        away,
        "answers, and yubihsm-connector.service doesn't run",
    );
    // It runs.
    host.link(
        &format!("{UNITS}/multi-user.target.wants/{unit}"),
        &format!("/{UNITS}/{unit}"),
    );
    fine(&devices(Some(true)));
    finds(
        &devices(Some(false)),
        Severity::Block,
        away,
        "has no YubiHSM",
    );
    let silent = devices(None);
    finds(&silent, Severity::Block, away, "nobody listens");
    assert!(
        !silent.findings[0].message.contains("doesn't run"),
        "{silent:#?}"
    );
}

/// A second login is no second device.
#[test]
fn sessions_are_a_device_s_whoever_logs_in() {
    let host = Host::of("commercio");
    for number in ["04", "05", "06", "07", "08", "09"] {
        one_more(&host, number);
        host.edit(
            &format!("{CONFIGS}/tmkms.{number}.toml"),
            "auth = { key = 1,",
            "auth = { key = 2,",
        );
    }
    let nine = check(&host, &SOUND, "devices");
    finds(&nine, Severity::Warn, Code::HsmFull, "9 signers share");
    let full = nine.findings.iter().filter(|f| f.code == Code::HsmFull);
    assert_eq!(full.count(), 1, "{nine:#?}");
}

#[test]
fn a_device_that_does_not_answer_is_not_fine() {
    let host = Host::of("commercio");
    let devices = |trouble| {
        let machine = Machine {
            trouble: Some(trouble),
            ..SOUND
        };
        check(&host, &machine, "devices")
    };
    let full = devices(Trouble::Full("all 16 sessions are taken".into()));
    finds(
        &full,
        Severity::Warn,
        Code::HsmFull,
        "all 16 sessions are taken",
    );
    for trouble in [Trouble::Refused, Trouble::Failed, Trouble::Unreachable] {
        let check = devices(trouble("it said no".into()));
        assert_eq!(check.judged, Judged::InPart("it said no".into()));
        assert_eq!(check.fine, None);
    }
    assert_eq!(check(&host, &SOUND, "devices").judged, Judged::Whole);
}

#[test]
fn a_signer_without_its_validator() {
    let host = Host::of("commercio");
    let validators = |connections: &[&str]| {
        let tcp = |at: &&str| Connection::Tcp(at.parse().unwrap());
        let machine = Machine {
            connections: connections.iter().map(tcp).collect(),
            ..SOUND
        };
        check(&host, &machine, "validators")
    };
    let all = ["10.1.1.1:26658", "10.1.1.2:26658", "10.1.1.3:26658"];
    fine(&validators(&all));
    let one_less = validators(&all[..2]);
    finds(
        &one_less,
        Severity::Warn,
        Code::NotConnected,
        "tmkms-03.service has no connection to 10.1.1.3:26658",
    );
    assert_eq!(one_less.findings.len(), 1, "{one_less:#?}");
    // Another port of the same machine is something else.
    assert_eq!(validators(&["10.1.1.1:26657"]).findings.len(), 3);
}
