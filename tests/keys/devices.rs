//! What a device's answers mean for a plan, on a fixture whose devices are played.

use std::cell::RefCell;
use std::rc::Rc;

use kmsctl::cli::plan;
use kmsctl::finding::{Code, Severity};
use kmsctl::host::hsm::connector::Status;
use kmsctl::host::hsm::{Adapter, Answer, AuthKey, Hsm, HsmKey, Question, Trouble};
use kmsctl::host::model;
use kmsctl::journal::store::History;
use kmsctl::peers::Peers;
use kmsctl::plan::{Plan, Request};
use tmkms_core::PublicKey;

use crate::files::softsign;
use crate::support::{CONFIGS, Host};

pub type Script = dyn Fn(&Question) -> Result<Answer, Trouble>;

/// A device that answers what it is told to.
#[derive(Clone)]
pub struct Played {
    pub answer: Rc<Script>,
    pub asked: Rc<RefCell<Vec<String>>>,
}

impl Hsm for Played {
    fn asks(&self) -> bool {
        true
    }

    fn ask(&mut self, question: Question) -> Result<Answer, Trouble> {
        self.asked.borrow_mut().push(format!("{question:?}"));
        (self.answer)(&question)
    }

    fn status(&mut self, _addr: &str) -> Result<Status, Trouble> {
        Ok(Status {
            device: true,
            version: None,
        })
    }
}

pub fn sound(question: &Question) -> Answer {
    let key = |id: &u16| HsmKey::Ed25519 {
        public: PublicKey::from_bytes([*id as u8; 32]),
        may_sign: true,
        exportable: false,
    };
    Answer {
        serial: "9876543210".into(),
        auth: AuthKey {
            may_sign: true,
            ..AuthKey::default()
        },
        keys: question.keys.iter().map(|id| (*id, key(id))).collect(),
    }
}

/// Plans on a host whose devices are played; the plan, and what they were asked.
fn planned(
    host: &Host,
    signers: &[&str],
    answer: impl Fn(&Question) -> Result<Answer, Trouble> + 'static,
) -> (Plan, Vec<String>) {
    if !host.path("data_tmkms/tmkms/kms/password").exists() {
        host.write(
            "data_tmkms/tmkms/kms/password",
            "made-up-for-a-played-device\n",
        );
    }
    let mut opened = model::open(host.root()).unwrap();
    let played = Played {
        answer: Rc::new(answer),
        asked: Rc::default(),
    };
    opened.hsm = Box::new(played.clone());
    let request = Request {
        new_chain: "commercio-3".parse().unwrap(),
        from_chain: None,
        signers: signers.iter().map(|s| (*s).to_owned()).collect(),
        suffix: None,
        protocol: None,
        binary: None,
        config_dir: None,
        max_spread: 1,
        accept: Default::default(),
    };
    let history = History::read(&opened).unwrap();
    let (plan, _) = plan::make(&mut opened, &request, &Peers::default(), &history)
        .map_err(|f| f.error)
        .unwrap();
    let asked = played.asked.borrow().clone();
    (plan, asked)
}

#[track_caller]
fn finds(plan: &Plan, severity: Severity, code: Code, says: &str) {
    let found = plan.findings.iter().any(|f| {
        f.code == code
            && f.severity == severity
            && f.message.contains(says)
            && f.path.is_some()
            && !f.remedy.is_empty()
    });
    assert!(
        found,
        "no {severity:?} {code} {says:?} in {:#?}",
        plan.findings
    );
}

#[test]
fn one_login_is_used_once_and_shows_no_password() {
    let host = Host::of("commercio");
    let (plan, asked) = planned(&host, &[], |q| Ok(sound(q)));
    assert!(plan.blocks().next().is_none(), "{:#?}", plan.findings);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].contains("keys: {1, 2, 3}"), "{asked:?}");
    assert!(!asked[0].contains("made-up"), "{asked:?}");
    let json = serde_json::to_string(&plan).unwrap();
    assert!(!json.contains("made-up"));
    // What a device answers is no input.
    let (silent, _) = planned(&host, &[], |_| {
        Err(Trouble::Unreachable("it is away".into()))
    });
    assert_eq!(plan.id, silent.id);
}

#[test]
fn a_device_that_is_away_or_full_is_said_and_does_not_stop_a_plan() {
    let host = Host::of("commercio");
    let (plan, asked) = planned(&host, &[], |_| {
        Err(Trouble::Unreachable("it is away".into()))
    });
    finds(
        &plan,
        Severity::Warn,
        Code::KeyUnknown,
        "it is away; only names tell",
    );
    assert!(plan.blocks().next().is_none());
    assert_eq!(asked.len(), 1, "a silent device isn't asked again");
    let (plan, _) = planned(&host, &[], |_| {
        Err(Trouble::Full("all 16 sessions are taken".into()))
    });
    finds(&plan, Severity::Warn, Code::HsmFull, "all 16 sessions");
    assert!(plan.blocks().next().is_none());
}

#[test]
fn what_no_tmkms_could_start_with_blocks() {
    let host = Host::of("commercio");
    let refused = |_: &Question| Err(Trouble::Refused("it doesn't take this password".into()));
    let (plan, _) = planned(&host, &[], refused);
    finds(
        &plan,
        Severity::Block,
        Code::HsmRefused,
        "tmkms wouldn't start",
    );
    type Change = fn(&mut Answer);
    for (change, code, says) in [
        (
            (|a| a.serial = "0000000001".into()) as Change,
            Code::HsmSerial,
            "names YubiHSM 9876543210, and 0000000001 answers",
        ),
        (
            |a| drop(a.keys.insert(2, HsmKey::Absent)),
            Code::HsmKeyUnfit,
            "has no key 2",
        ),
        (
            |a| drop(a.keys.insert(2, HsmKey::NotEd25519("EcP256".into()))),
            Code::HsmKeyUnfit,
            "key 2 of YubiHSM 9876543210 is no Ed25519 key",
        ),
        (
            |a| {
                let public = PublicKey::from_bytes([2; 32]);
                a.keys.insert(
                    2,
                    HsmKey::Ed25519 {
                        public,
                        may_sign: false,
                        exportable: false,
                    },
                );
            },
            Code::HsmKeyUnfit,
            "key 2 of YubiHSM 9876543210 lacks",
        ),
        (
            |a| a.auth.may_sign = false,
            Code::HsmKeyUnfit,
            "authentication key 1 of YubiHSM 9876543210 lacks",
        ),
    ] {
        let answer = move |q: &Question| {
            let mut answer = sound(q);
            change(&mut answer);
            Ok(answer)
        };
        let (plan, _) = planned(&host, &[], answer);
        finds(&plan, Severity::Block, code, says);
    }
    // A key that only a signer that stays has is no reason to hold the others.
    let (plan, _) = planned(&host, &["tmkms-01"], |q| {
        let mut answer = sound(q);
        answer.keys.insert(2, HsmKey::Absent);
        Ok(answer)
    });
    finds(&plan, Severity::Warn, Code::HsmKeyUnfit, "has no key 2");
    assert!(plan.blocks().next().is_none());
}

#[test]
fn a_key_in_a_device_and_in_a_file_is_one_key() {
    let host = Host::of("commercio");
    softsign(&host, "01", "/keys/one", "base64");
    host.write("keys/one", crate::files::SEED);
    let seed: [u8; 32] = std::array::from_fn(|n| n as u8);
    let public = ed25519_dalek::SigningKey::from_bytes(&seed)
        .verifying_key()
        .to_bytes();
    let (plan, _) = planned(&host, &[], move |q| {
        let mut answer = sound(q);
        let public = PublicKey::from_bytes(public);
        answer.keys.insert(
            3,
            HsmKey::Ed25519 {
                public,
                may_sign: true,
                exportable: false,
            },
        );
        Ok(answer)
    });
    finds(
        &plan,
        Severity::Block,
        Code::KeyShared,
        "is key file /keys/one as well as YubiHSM 9876543210 key 3",
    );
    // Two connectors to one device, and two ids of one key.
    let host = Host::of("commercio");
    host.edit(
        &format!("{CONFIGS}/tmkms.02.toml"),
        "127.0.0.1:12345",
        "10.0.0.9:12345",
    );
    let (plan, asked) = planned(&host, &[], |q| {
        let mut answer = sound(q);
        let public = PublicKey::from_bytes([7; 32]);
        for key in answer.keys.values_mut() {
            *key = HsmKey::Ed25519 {
                public,
                may_sign: true,
                exportable: false,
            };
        }
        Ok(answer)
    });
    assert_eq!(asked.len(), 2, "{asked:?}");
    finds(
        &plan,
        Severity::Block,
        Code::KeyShared,
        "one key, did:com:valconspub1",
    );
}

#[test]
fn a_device_on_usb_is_left_to_the_tmkms_that_runs() {
    let host = Host::of("commercio");
    for signer in ["01", "02", "03"] {
        let config = format!("{CONFIGS}/tmkms.{signer}.toml");
        host.edit(
            &config,
            r#"{ type = "http", addr = "tcp://127.0.0.1:12345" }"#,
            r#"{ type = "usb" }"#,
        );
    }
    let (plan, asked) = planned(&host, &[], |q| Ok(sound(q)));
    assert!(asked.is_empty(), "{asked:?}");
    assert!(plan.blocks().next().is_none());
    // With nothing that runs, it may be asked.
    host.write(
        "run/kmsctl/services.json",
        r#"{"format_version":1,"starts":0,"units":{}}"#,
    );
    let (_, asked) = planned(&host, &[], |q| {
        assert_eq!(
            q.adapter,
            Adapter::Usb {
                serial: Some("9876543210".into())
            }
        );
        Ok(sound(q))
    });
    assert_eq!(asked.len(), 1);
}

#[test]
fn passwords_are_read_as_tmkms_reads_them() {
    let host = Host::of("commercio");
    let config = format!("{CONFIGS}/tmkms.02.toml");
    host.edit(
        &config,
        r#"password_file = "/data_tmkms/tmkms/kms/password""#,
        r#"password = "inline-and-made-up""#,
    );
    let (_, asked) = planned(&host, &[], |q| Ok(sound(q)));
    assert_eq!(asked.len(), 2, "a file's and a config's own: {asked:?}");
    assert!(asked.iter().all(|q| !q.contains("made-up")), "{asked:?}");
    fs_remove(&host);
    let mut opened = model::open(host.root()).unwrap();
    opened.hsm = Box::new(Played {
        answer: Rc::new(|q| Ok(sound(q))),
        asked: Rc::default(),
    });
    let request =
        serde_json::from_str::<Request>(r#"{"new_chain":"commercio-3","max_spread":1}"#).unwrap();
    let history = History::read(&opened).unwrap();
    let (plan, _) = plan::make(&mut opened, &request, &Peers::default(), &history)
        .map_err(|f| f.error)
        .unwrap();
    finds(
        &plan,
        Severity::Block,
        Code::HsmRefused,
        "password file /data_tmkms/tmkms/kms/password can't be read",
    );
}

fn fs_remove(host: &Host) {
    std::fs::remove_file(host.path("data_tmkms/tmkms/kms/password")).unwrap();
}
