//! `init` on a host that is a folder: the guides' own values, owners and modes, every bad input refused before anything is
//! written, and the private key nowhere but in its file.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod asked;
#[cfg(feature = "failpoints")]
mod interrupted;
mod key;
mod known;
mod place;
mod refused;
mod sandbox;
mod secret;
#[path = "../support/mod.rs"]
mod support;

use std::fs;

use serde_json::Value;
use support::{Host, Said, UNITS};

const KEY: &str = "root/priv_validator_key.json";
const STATE: &str = "root/priv_validator_state.json";
const HEIGHT: u64 = 3_399_916;

/// A bare host with a validator's files.
fn host(chain: &str) -> Host {
    let host = Host::bare();
    host.write(KEY, &key::file());
    host.write(STATE, &key::state(chain, HEIGHT, &key::SEED));
    host
}

/// The words of `init` on it, changed flag by flag.
#[derive(Clone)]
struct Init(Vec<(String, Option<String>)>);

impl Init {
    fn of(flags: &[(&str, &str)]) -> Init {
        Init(Vec::new()).with(flags)
    }

    /// An imported key of Haqq's.
    fn haqq() -> Init {
        Init::of(&[
            ("chain", "haqq_11235-1"),
            ("bech32-prefix", "haqq"),
            ("validator", "tcp://123.456.32.123:688"),
            ("home", "/root/tmkms/config"),
            ("user", "root"),
            ("import", "/root/priv_validator_key.json"),
            ("state", "/root/priv_validator_state.json"),
        ])
    }

    /// A flag without a value has an empty one.
    fn with(mut self, flags: &[(&str, &str)]) -> Init {
        for (flag, value) in flags {
            self.0.retain(|(known, _)| known != flag);
            let value = (!value.is_empty()).then(|| (*value).to_owned());
            self.0.push(((*flag).to_owned(), value));
        }
        self
    }

    fn without(mut self, flag: &str) -> Init {
        self.0.retain(|(known, _)| known != flag);
        self
    }

    fn words(&self) -> Vec<String> {
        let mut words = vec!["init".to_owned(), "--yes".to_owned()];
        for (flag, value) in &self.0 {
            words.push(format!("--{flag}"));
            words.extend(value.clone());
        }
        words
    }

    fn run(&self, host: &Host) -> Said {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        host.kmsctl(&words)
    }
}

/// A tmkms.toml by what it says.
fn said_by(text: &str) -> Value {
    toml_edit::de::from_str(text).unwrap()
}

#[test]
fn each_guide_s_own_values() {
    let layout = [
        ("state-file", "state/priv_validator_state.json"),
        ("key-file", "secrets/priv_validator_key"),
        ("connection-key", "secrets/secret_connection_key"),
    ];
    let haqq = Init::haqq()
        .with(&[("key-format", "cosmos-json")])
        .with(&layout);
    // The guide's unit looks for its config where no step of it writes one; here it lies beside the rest.
    let aura = Init::haqq()
        .with(&[
            ("chain", "aura_6321-3"),
            ("bech32-prefix", "aura"),
            ("validator", "tcp://ipaddresnode:26680"),
        ])
        .with(&layout);
    let metaos = Init::haqq().with(&[
        ("chain", "metaos_99237-1"),
        ("bech32-prefix", "mtos"),
        ("validator", "tcp://127.0.0.1:26660"),
        ("home", "/home/user/.kms"),
    ]);
    let commercio = Init::of(&[
        ("chain", "commercio-2_2"),
        ("account-prefix", "did:com:"),
        ("consensus-prefix", "did:com:valconspub"),
        ("validator", "tcp://10.1.1.1:26658"),
        ("protocol", "v0.33"),
        ("home", "/data_tmkms/tmkms/kms/commercio"),
        ("name", "01"),
        ("yubihsm-key", "1"),
        ("connector", "tcp://127.0.0.1:12345"),
        ("auth-key", "1"),
        ("password-file", "/data_tmkms/tmkms/kms/password"),
        // The guide's own panics tmkms.
        ("serial-number", "0123456789"),
        ("height", "2233550"),
    ]);
    for (case, init, written, guide, unit, next) in [
        (
            "haqq",
            haqq,
            "root/tmkms/config/tmkms.toml",
            "root/tmkms/config/tmkms.toml",
            "tmkms",
            "haqq_11235-2",
        ),
        (
            "aura",
            aura,
            "root/tmkms/config/tmkms.toml",
            "home/user/config/tmkms.toml",
            "tmkms",
            "aura_6322-3",
        ),
        (
            "metaos",
            metaos,
            "home/user/.kms/tmkms.toml",
            "home/user/.kms/tmkms.toml",
            "tmkms",
            "metaos_99237-2",
        ),
        (
            "commercio",
            commercio,
            "data_tmkms/tmkms/kms/commercio/tmkms.01.toml",
            "data_tmkms/tmkms/kms/commercio/tmkms.01.toml",
            "tmkms-01",
            "commercio-3",
        ),
    ] {
        let guide = Host::of(case)
            .read(guide)
            .replace("9876543210", "0123456789");
        let chain = said_by(&guide)["chain"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let host = host(&chain);
        host.write("data_tmkms/tmkms/kms/password", "made-up-password\n");
        init.run(&host).exits(0);
        assert_eq!(said_by(&host.read(written)), said_by(&guide), "{case}");
        // And the chain's upgrade works on it.
        host.link_enabled(unit);
        let plan = [
            "plan",
            "--from-chain",
            &chain,
            "--new-chain",
            next,
            "--suffix",
            "v9",
        ];
        host.kmsctl(&plan).exits(0);
        host.kmsctl(&["apply", "--yes", "--soak", "0"]).exits(0);
        host.kmsctl(&["rollback", "--yes", "--soak", "0"]).exits(0);
        host.kmsctl(&["unstage", "--yes"]).exits(0);
    }
}

impl Host {
    fn link_enabled(&self, unit: &str) {
        fs::create_dir_all(self.path(&format!("{UNITS}/multi-user.target.wants"))).unwrap();
        self.link(
            &format!("{UNITS}/multi-user.target.wants/{unit}.service"),
            &format!("/etc/systemd/system/{unit}.service"),
        );
        // What runs is counted anew from what is enabled.
        fs::remove_file(self.path("run/kmsctl/services.json")).unwrap();
    }
}

#[test]
fn files_have_the_user_and_are_closed_to_others() {
    let host = host("commercio-3");
    Init::haqq()
        .with(&[
            ("chain", "commercio-3"),
            ("user", "tmkms"),
            ("home", "/data_tmkms/tmkms/kms"),
        ])
        .run(&host)
        .exits(0)
        .says(&[
            "1. stop the validator",
            "systemctl enable --now tmkms.service",
        ]);
    let tree = host.tree();
    let is_root = rustix::process::geteuid().is_root();
    for (path, mode, owner) in [
        ("data_tmkms", 0o755, 0),
        ("data_tmkms/tmkms", 0o755, 0),
        ("data_tmkms/tmkms/kms", 0o700, 2000),
        ("data_tmkms/tmkms/kms/secrets", 0o700, 2000),
        ("data_tmkms/tmkms/kms/state", 0o700, 2000),
        ("data_tmkms/tmkms/kms/tmkms.toml", 0o600, 2000),
        ("data_tmkms/tmkms/kms/secrets/consensus.key", 0o600, 2000),
        ("data_tmkms/tmkms/kms/secrets/kms-identity.key", 0o600, 2000),
        (
            "data_tmkms/tmkms/kms/state/commercio-3-consensus.json",
            0o600,
            2000,
        ),
        ("etc/systemd/system/tmkms.service", 0o644, 0),
    ] {
        let node = tree
            .get(std::path::Path::new(path))
            .unwrap_or_else(|| panic!("{path}"));
        assert_eq!(node.mode & 0o7777, mode, "{path}");
        assert!(
            !is_root || node.owner == (owner, owner),
            "{path} {:?}",
            node.owner
        );
    }
    assert_eq!(
        host.read("data_tmkms/tmkms/kms/state/commercio-3-consensus.json"),
        format!(
            r#"{{"height":"{HEIGHT}","round":"0","step":2,"block_id":{{"hash":"{}","parts":{{"total":1,"hash":"{}"}}}}}}"#,
            "AA".repeat(32),
            "BB".repeat(32)
        )
    );
    let unit = host.read("etc/systemd/system/tmkms.service");
    assert!(unit.contains("\nProtectHome=yes\n"), "{unit}");
    assert!(
        unit.contains("\nReadWritePaths=/data_tmkms/tmkms/kms/state\n"),
        "{unit}"
    );
    assert_eq!(
        host.read("data_tmkms/tmkms/kms/secrets/consensus.key"),
        tmkms_core::SecretKey::from_seed(&key::SEED)
            .to_base64()
            .as_str()
    );
}

#[test]
fn one_more_in_the_guide_s_fleet() {
    let host = Host::of("commercio");
    let bare = Host::bare();
    host.write("etc/passwd", &bare.read("etc/passwd"));
    host.program("usr/local/bin/tmkms");
    host.write("data_tmkms/tmkms/kms/password", "made-up-password\n");
    let before = host.tree();
    let init = Init::of(&[
        ("chain", "commercio-2_2"),
        ("account-prefix", "did:com:"),
        ("consensus-prefix", "did:com:valconspub"),
        ("validator", "tcp://10.1.1.4:26658"),
        ("protocol", "v0.33"),
        ("home", "/data_tmkms/tmkms/kms/commercio"),
        ("name", "04"),
        ("user", "root"),
        ("yubihsm-key", "4"),
        ("connector", "tcp://127.0.0.1:12345"),
        ("auth-key", "1"),
        ("password-file", "/data_tmkms/tmkms/kms/password"),
        ("serial-number", "0123456789"),
        ("new-validator", ""),
    ]);
    // Key 3 signs for another one already.
    init.clone()
        .with(&[("yubihsm-key", "3")])
        .without("serial-number")
        .run(&host)
        .exits(3)
        .says(&["tmkms-03.service signs commercio-2_2 with the same key already"]);
    init.run(&host).exits(0);
    let tree = host.tree();
    let new: Vec<String> = tree
        .keys()
        .filter(|path| !before.contains_key(*path))
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(
        new,
        [
            "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state04.json",
            "data_tmkms/tmkms/kms/commercio/secret_connection04.key",
            "data_tmkms/tmkms/kms/commercio/tmkms.04.toml",
            "etc/systemd/system/tmkms-04.service"
        ]
    );
    for (path, node) in &before {
        assert_eq!(tree.get(path), Some(node), "{}", path.display());
    }
}
