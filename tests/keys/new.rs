//! A new signer's key in a device: looked at before anything is written, by the rules of those that are there.

use std::path::Path;
use std::rc::Rc;

use clap::{Args, Command, FromArgMatches};
use kmsctl::cli::init::{self, InitArgs};
use kmsctl::exit::Exit;
use kmsctl::host::files::Tree;
use kmsctl::host::hsm::{Answer, HsmKey, Question, Trouble};
use kmsctl::host::model;
use kmsctl::ui::Ui;
use tmkms_core::PublicKey;

use crate::devices::{Played, sound};
use crate::files::softsign;
use crate::support::Host;

#[path = "../init/key.rs"]
mod made_up;

const UI: Ui = Ui {
    json: false,
    quiet: true,
    verbose: false,
    yes: true,
    no_input: true,
};

/// One more signer of the guide's fleet, with key 4 of its device.
fn init(
    host: &Host,
    answer: impl Fn(&Question) -> Result<Answer, Trouble> + 'static,
) -> (Result<Exit, String>, usize) {
    let words = "init --chain commercio-2_2 --account-prefix did:com: --consensus-prefix did:com:valconspub --validator \
                 tcp://10.1.1.4:26658 --protocol v0.33 --home /data_tmkms/tmkms/kms/commercio --name 04 --user root \
                 --yubihsm-key 4 --connector tcp://127.0.0.1:12345 --auth-key 1 --password-file \
                 /data_tmkms/tmkms/kms/password --serial-number 9876543210 --new-validator";
    // tmkms panics on the guide's own serial number.
    asked(host, &words.replace("9876543210", "0123456789"), answer)
}

fn asked(
    host: &Host,
    words: &str,
    answer: impl Fn(&Question) -> Result<Answer, Trouble> + 'static,
) -> (Result<Exit, String>, usize) {
    let matches = InitArgs::augment_args(Command::new("init"))
        .try_get_matches_from(words.split_whitespace())
        .unwrap();
    let args = InitArgs::from_arg_matches(&matches).unwrap();
    let mut opened = model::open(host.root()).unwrap();
    let played = Played {
        answer: Rc::new(answer),
        asked: Rc::default(),
    };
    opened.hsm = Box::new(played.clone());
    let tree = Tree::open(host.root()).unwrap();
    let done = init::run(&mut opened, &tree, UI, &args).map_err(|f| format!("{:#}", f.error));
    let asked = played.asked.borrow().len();
    (done, asked)
}

fn fleet() -> Host {
    let host = Host::of("commercio");
    host.write("etc/passwd", &Host::bare().read("etc/passwd"));
    host.program("usr/local/bin/tmkms");
    host.write(
        "data_tmkms/tmkms/kms/password",
        "made-up-for-a-played-device\n",
    );
    for (n, signer) in [(1, "01"), (2, "02"), (3, "03")] {
        softsign(&host, signer, &format!("/keys/{signer}"), "base64");
        let key = tmkms_core::SecretKey::from_seed(&[n; 32]).to_base64();
        host.write(&format!("keys/{signer}"), &key);
    }
    host
}

fn fits(question: &Question) -> Answer {
    Answer {
        serial: "0123456789".into(),
        ..sound(question)
    }
}

#[test]
fn a_new_signer_s_key_is_looked_at_in_its_device() {
    let host = fleet();
    let (done, asked) = init(&host, |q| Ok(fits(q)));
    assert_eq!((done, asked), (Ok(Exit::Done), 1));
    assert!(
        host.path("data_tmkms/tmkms/kms/commercio/tmkms.04.toml")
            .exists()
    );
}

#[test]
fn a_device_that_would_not_sign_is_refused_before_anything_is_written() {
    type Script = fn(&Question) -> Result<Answer, Trouble>;
    for (answer, says) in [
        (
            (|_| Err(Trouble::Unreachable("nobody answers".into()))) as Script,
            "nobody answers",
        ),
        (
            |_| Err(Trouble::Refused("it doesn't take this password".into())),
            "doesn't take this password",
        ),
        (
            |_| Err(Trouble::Full("all 16 sessions are taken".into())),
            "all 16 sessions",
        ),
        (
            |q| {
                Ok(Answer {
                    serial: "0000000007".into(),
                    ..fits(q)
                })
            },
            "names YubiHSM 0123456789, and 0000000007 answers",
        ),
        (|q| Ok(with(q, HsmKey::Absent)), "has no key 4"),
        (
            |q| Ok(with(q, HsmKey::NotEd25519("EcP256".into()))),
            "is no Ed25519 key",
        ),
        (
            |q| Ok(with(q, key([4; 32], false))),
            "lacks the capability sign-eddsa",
        ),
    ] {
        let host = fleet();
        let before = host.tree();
        let (done, asked) = init(&host, answer);
        let said = done.unwrap_err();
        assert!(said.contains(says), "{said}");
        assert!(!said.contains("made-up"), "{said}");
        assert_eq!(asked, 1);
        same(&host, &before);
    }
}

#[test]
fn a_key_that_signs_from_a_file_already_is_refused_in_a_device() {
    let host = fleet();
    host.write("keys/02", crate::files::SEED);
    let seed: [u8; 32] = std::array::from_fn(|n| n as u8);
    let public = *tmkms_core::SecretKey::from_seed(&seed)
        .public_key()
        .as_bytes();
    let before = host.tree();
    let (done, _) = init(&host, move |q| Ok(with(q, key(public, true))));
    let said = done.unwrap_err();
    assert!(
        said.contains("tmkms-02.service signs commercio-2_2 with the same key already"),
        "{said}"
    );
    same(&host, &before);
}

/// A signer of its own with an imported key, beside the guide's fleet in its device.
fn import(
    host: &Host,
    answer: impl Fn(&Question) -> Result<Answer, Trouble> + 'static,
) -> Result<Exit, String> {
    let words = "init --chain commercio-2_2 --account-prefix did:com: --consensus-prefix did:com:valconspub --validator \
                 tcp://10.1.1.4:26658 --protocol v0.33 --home /srv/kms --unit other.service --user root --import \
                 /root/key.json --height 5";
    asked(host, words, answer).0
}

#[test]
fn a_key_that_signs_from_a_device_already_is_refused_in_a_file() {
    let own = *made_up::public().as_bytes();
    for (which, answer, says) in [
        (
            "its own",
            Box::new(move |q: &Question| Ok(with_key(q, 2, own)))
                as Box<dyn Fn(&Question) -> Result<Answer, Trouble>>,
            "tmkms-02.service signs commercio-2_2 with the same key already",
        ),
        (
            "none",
            Box::new(|_: &Question| Err(Trouble::Unreachable("nobody answers".into()))),
            "whether that is the new signer's key isn't known: nobody answers",
        ),
    ] {
        let host = guide();
        let before = host.tree();
        let said = import(&host, answer).unwrap_err();
        assert!(said.contains(says), "{which}: {said}");
        same(&host, &before);
    }
    let host = guide();
    assert_eq!(import(&host, |q| Ok(fits(q))), Ok(Exit::Done));
}

/// The guide's fleet, its keys in the device.
fn guide() -> Host {
    let host = Host::of("commercio");
    for number in ["01", "02", "03"] {
        let config = format!("{}/tmkms.{number}.toml", crate::support::CONFIGS);
        host.edit(&config, "9876543210", "0123456789");
    }
    host.write("etc/passwd", &Host::bare().read("etc/passwd"));
    host.program("usr/local/bin/tmkms");
    host.write(
        "data_tmkms/tmkms/kms/password",
        "made-up-for-a-played-device\n",
    );
    host.write("root/key.json", &made_up::file());
    host
}

fn with_key(question: &Question, id: u16, public: [u8; 32]) -> Answer {
    let mut answer = fits(question);
    answer.keys.insert(id, key(public, true));
    answer
}

fn key(public: [u8; 32], may_sign: bool) -> HsmKey {
    HsmKey::Ed25519 {
        public: PublicKey::from_bytes(public),
        may_sign,
        exportable: false,
    }
}

fn with(question: &Question, key: HsmKey) -> Answer {
    let mut answer = fits(question);
    answer.keys.insert(4, key);
    answer
}

/// Nothing is there that wasn't, beside kmsctl's own folders.
#[track_caller]
fn same(
    host: &Host,
    before: &std::collections::BTreeMap<std::path::PathBuf, crate::support::Node>,
) {
    let own = |path: &Path| path.starts_with("var") || path.starts_with("run");
    let now = host.tree();
    let new: Vec<_> = now
        .keys()
        .filter(|path| !before.contains_key(*path) && !own(path))
        .collect();
    assert!(new.is_empty(), "{new:?}");
}
