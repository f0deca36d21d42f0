//! A device asked through the yubihsm crate.
//!
//! Its sessions are given out by reference only, none is closed when it is dropped (0.42.1), and each of its waits may
//! take twenty seconds. So every contact has a thread of its own, which takes the session out of the client to close it,
//! and then never ends: that thread sleeps until kmsctl does. No password may sleep with it: it is wiped before the device
//! is so much as spoken to, and what the crate makes of it once the login is done.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

use tmkms_core::PublicKey;
use yubihsm::asymmetric::Algorithm as Asymmetric;
use yubihsm::client::{Error, ErrorKind};
use yubihsm::object::Type;
use yubihsm::{Algorithm, Capability, Client, Connector, Credentials, HttpConfig, device};

use super::{Adapter, Answer, AuthKey, Hsm, HsmKey, LIMIT, Question, Trouble, connector};

/// The machine's devices.
pub struct Live;

impl Hsm for Live {
    fn asks(&self) -> bool {
        true
    }

    fn ask(&mut self, question: Question) -> Result<Answer, Trouble> {
        let adapter = question.adapter.clone();
        let asked = Of {
            adapter: adapter.clone(),
            auth_key: question.auth_key,
        };
        let (sender, answer) = channel();
        let contact = std::thread::Builder::new().name("kmsctl-hsm".into());
        contact
            .spawn(move || contact_and_close(question, &sender))
            .map_err(|e| Trouble::Failed(format!("no thread to ask {adapter} from: {e}")))?;
        answer.recv_timeout(LIMIT).unwrap_or_else(|e| {
            Err(match e {
                RecvTimeoutError::Timeout => Trouble::Unreachable(format!(
                    "the YubiHSM at {adapter} doesn't answer within {} s",
                    LIMIT.as_secs()
                )),
                RecvTimeoutError::Disconnected => asked.not_understood(),
            })
        })
    }

    fn status(&mut self, addr: &str) -> Result<connector::Status, Trouble> {
        connector::status(addr)
    }
}

type Asked = Result<Answer, Trouble>;

fn contact_and_close(question: Question, sender: &Sender<Asked>) {
    let Question {
        adapter,
        auth_key,
        password,
        keys,
    } = question;
    let asked = Of { adapter, auth_key };
    // Whoever asked may have stopped waiting.
    let tell = |answer: Asked| drop(sender.send(answer));
    let login = Credentials::from_password(auth_key, password.0.as_bytes());
    drop(password);
    let connector = match reach(&asked.adapter) {
        Ok(connector) => connector,
        Err(trouble) => return tell(Err(trouble)),
    };
    let client = match Client::open(connector, login, false) {
        Ok(client) => client,
        Err(e) => return tell(Err(asked.trouble(&e))),
    };
    // A panic leaves a session behind, which is to be closed as after every other answer.
    let answer = catch_unwind(AssertUnwindSafe(|| read(&client, auth_key, &keys)));
    let answer = match answer {
        Ok(answer) => answer.map_err(|e| asked.trouble(&e)),
        Err(_) => Err(asked.not_understood()),
    };
    close(&client, || tell(answer));
}

/// Closes a client's session, and then sleeps.
fn close(client: &Client, told: impl FnOnce()) {
    // There is none where the device ended it, and it can't be had where the crate panicked with it in its hands: then the
    // device gives it back by itself, half a minute later.
    let Ok(Ok(mut session)) = catch_unwind(AssertUnwindSafe(|| client.session())) else {
        return told();
    };
    replace_with::replace_with_or_abort(&mut *session, |session| {
        // The same of one that can't be closed.
        let _closed = catch_unwind(AssertUnwindSafe(|| session.close()));
        told();
        loop {
            std::thread::park();
        }
    });
}

fn reach(adapter: &Adapter) -> Result<Connector, Trouble> {
    match adapter {
        Adapter::Http { addr } => {
            let (host, port) = connector::host_and_port(addr)?;
            // Its own errors don't say what failed; this one does.
            let status = connector::status(addr)?;
            if !status.device {
                return Err(Trouble::Unreachable(format!(
                    "the connector at {host}:{port} runs, and has no YubiHSM: is it plugged in?"
                )));
            }
            Ok(Connector::http(&HttpConfig {
                addr: host.to_owned(),
                port,
                ..HttpConfig::default()
            }))
        }
        Adapter::Usb { serial } => usb(serial.as_deref()),
    }
}

#[cfg(feature = "usb")]
fn usb(serial: Option<&str>) -> Result<Connector, Trouble> {
    let serial = serial.map(str::parse).transpose();
    let serial = serial.map_err(|_| {
        Trouble::Failed(
            "the config's serial_number isn't ten digits that a YubiHSM can have".into(),
        )
    })?;
    Ok(Connector::usb(&yubihsm::UsbConfig {
        serial,
        timeout_ms: 2000,
    }))
}

#[cfg(not(feature = "usb"))]
fn usb(_serial: Option<&str>) -> Result<Connector, Trouble> {
    Err(Trouble::NotAsked(
        "it is on USB, and this kmsctl was built without the feature `usb`".into(),
    ))
}

fn read(client: &Client, auth_key: u16, keys: &BTreeSet<u16>) -> Result<Answer, Error> {
    let serial = client.device_info()?.serial_number.to_string();
    let auth = client.get_object_info(auth_key, Type::AuthenticationKey)?;
    let mut answer = Answer {
        serial,
        auth: capabilities_of(auth.capabilities),
        keys: Default::default(),
    };
    for id in keys {
        answer.keys.insert(*id, key(client, *id)?);
    }
    Ok(answer)
}

fn capabilities_of(capabilities: Capability) -> AuthKey {
    let beyond = capabilities.difference(Capability::SIGN_EDDSA);
    AuthKey {
        may_sign: capabilities.contains(Capability::SIGN_EDDSA),
        also: beyond.iter().filter_map(name).collect(),
        everything: capabilities.contains(Capability::CHANGE_AUTHENTICATION_KEY)
            && capabilities.contains(Capability::RESET_DEVICE)
            && capabilities.contains(Capability::PUT_AUTHENTICATION_KEY),
    }
}

/// A capability's name; none for a bit that Yubico hasn't named, whose `Display` fails.
fn name(capability: Capability) -> Option<String> {
    use std::fmt::Write;
    let mut name = String::new();
    write!(name, "{capability}").ok().map(|()| name)
}

fn key(client: &Client, id: u16) -> Result<HsmKey, Error> {
    let info = match client.get_object_info(id, Type::AsymmetricKey) {
        Err(e) if e.device_error() == Some(device::ErrorKind::ObjectNotFound) => {
            return Ok(HsmKey::Absent);
        }
        other => other?,
    };
    if info.algorithm != Algorithm::Asymmetric(Asymmetric::Ed25519) {
        return Ok(HsmKey::NotEd25519(format!("{:?}", info.algorithm)));
    }
    let public = client.get_public_key(id)?;
    Ok(match <[u8; 32]>::try_from(public.as_slice()) {
        Ok(bytes) => HsmKey::Ed25519 {
            public: PublicKey::from_bytes(bytes),
            may_sign: info.capabilities.contains(Capability::SIGN_EDDSA),
            exportable: info
                .capabilities
                .contains(Capability::EXPORTABLE_UNDER_WRAP),
        },
        Err(_) => HsmKey::NotEd25519(format!("{} bytes long", public.as_slice().len())),
    })
}

/// Whom a question is for: what words on its answer need.
struct Of {
    adapter: Adapter,
    auth_key: u16,
}

impl Of {
    fn not_understood(&self) -> Trouble {
        Trouble::Failed(format!("what answers at {} isn't understood", self.adapter))
    }

    /// What an error of the crate's means; its own words leave out where it happened.
    fn trouble(&self, error: &Error) -> Trouble {
        let (adapter, auth_key) = (&self.adapter, self.auth_key);
        if error.device_error() == Some(device::ErrorKind::SessionsFull) {
            return Trouble::Full(format!(
                "all {} sessions of the YubiHSM at {adapter} are taken",
                super::SESSIONS
            ));
        }
        match error.kind() {
            ErrorKind::AuthenticationError if error.to_string().contains("not found") => {
                Trouble::Refused(format!(
                    "the YubiHSM at {adapter} has no authentication key {auth_key}"
                ))
            }
            ErrorKind::AuthenticationError => Trouble::Refused(format!(
                "the YubiHSM at {adapter} doesn't take this password for authentication key {auth_key}"
            )),
            ErrorKind::ConnectorError | ErrorKind::ProtocolError => Trouble::Unreachable(format!(
                "the YubiHSM at {adapter} doesn't answer as one does: {error}"
            )),
            _ => Trouble::Failed(format!("the YubiHSM at {adapter}: {error}")),
        }
    }
}
