//! The host of the Commercio guide, written into a machine's root before it boots: configs, units, keys and the real tmkms.
//!
//! It differs from the guide in what can't run as printed: the validators are on loopback, the serial number is one that tmkms
//! takes (the guide's is above 2^32 and panics it), and signer N has key N. Beyond that it must stay the guide's, byte for byte.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::machine::Lab;
use crate::parts::{PASSWORD, Protocol};

/// The chain that the guide comes from.
pub const OLD_CHAIN: &str = "commercio-2_2";
/// Where the guide keeps a KMS.
pub const HOME: &str = "/data_tmkms/tmkms";
/// Where the guide's configs look for the YubiHSM.
pub const CONNECTOR: &str = "127.0.0.1:12345";
/// The uid and gid of `tmkms`, as `tests/lab/prepare` makes it.
pub const TMKMS: u32 = 2000;

/// Where the signers' keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// The guide's: one YubiHSM, key N for signer N. A dozen starts of signers is what the mock can take.
    Yubihsm,
    /// A key file per signer, for runs with many restarts or many signers.
    Softsign,
}

/// The guide's signers 01, 02, 03 and so on.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    pub signers: u8,
    pub protocol: Protocol,
    pub keys: Keys,
}

impl Fleet {
    /// Writes the whole host below `root`: nothing of it is enabled or started.
    pub fn write(&self, lab: &Lab, root: &Path) -> Result<()> {
        let home = below(root, HOME);
        let (bin, kms) = (home.join(".cargo/bin"), home.join("kms/commercio"));
        for folder in [&bin, &kms, &below(root, "/etc/systemd/system")] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        fs::copy(lab.tmkms(), bin.join("tmkms")).context("copying tmkms into the root")?;
        if self.keys == Keys::Yubihsm {
            secret(&home.join("kms/password"), PASSWORD)?;
        }
        for number in 1..=self.signers {
            write(&below(root, &config_path(number)), &self.config(number))?;
            write(&below(root, &unit_path(number)), &unit(number))?;
            generate(lab, &kms.join(format!("secret_connection{number:02}.key")))?;
            if self.keys == Keys::Softsign {
                generate(lab, &kms.join(format!("consensus{number:02}.key")))?;
            }
        }
        give_to_tmkms(&below(root, "/data_tmkms"))
    }

    /// The guide's `tmkms.NN.toml`.
    pub fn config(&self, number: u8) -> String {
        let provider = match self.keys {
            Keys::Yubihsm => format!(
                r#"[[providers.yubihsm]]
adapter = {{ type = "http", addr = "tcp://{CONNECTOR}" }}
auth = {{ key = 1, password_file = "{HOME}/kms/password" }}
keys = [{{ chain_ids = ["{OLD_CHAIN}"], key = {number} }}] 
serial_number = "0123456789"
"#
            ),
            Keys::Softsign => format!(
                r#"[[providers.softsign]]
chain_ids = ["{OLD_CHAIN}"]
key_type = "consensus"
path = "{HOME}/kms/commercio/consensus{number:02}.key"
"#
            ),
        };
        format!(
            r#"[[chain]]
id = "{OLD_CHAIN}"
key_format = {{ type = "bech32", account_key_prefix = "did:com:", consensus_key_prefix = "did:com:valconspub" }}
state_file = "{state_file}"

[[validator]]
addr = "tcp://{listen}"
chain_id = "{OLD_CHAIN}"
reconnect = true
secret_key = "{HOME}/kms/commercio/secret_connection{number:02}.key"
protocol_version = "{protocol}"

{provider}"#,
            state_file = state_path(number),
            listen = listen(number),
            protocol = self.protocol,
        )
    }
}

/// The guide's `tmkms-NN.service`.
pub fn unit(number: u8) -> String {
    format!(
        "[Unit]
Description=Commercio tmkms
After=network.target

[Service]
User=tmkms
WorkingDirectory={HOME}/.cargo/bin
ExecStart={HOME}/.cargo/bin/tmkms start -c {config}
Restart=always
SyslogIdentifier=tmkms
RestartSec=3
LimitNOFILE=4096

[Install]
WantedBy=multi-user.target
",
        config = config_path(number)
    )
}

/// Where the validator of signer N listens.
pub fn listen(number: u8) -> String {
    format!("127.0.1.{number}:26658")
}

/// The unit of signer N on the old chain.
pub fn unit_name(number: u8) -> String {
    format!("tmkms-{number:02}.service")
}

/// The guide's path of a signer's unit.
pub fn unit_path(number: u8) -> String {
    format!("/etc/systemd/system/{}", unit_name(number))
}

/// The guide's path of a signer's config.
pub fn config_path(number: u8) -> String {
    format!("{HOME}/kms/commercio/tmkms.{number:02}.toml")
}

/// The guide's path of a signer's state file. tmkms makes it at its first start.
pub fn state_path(number: u8) -> String {
    format!("{HOME}/kms/commercio/commercio_priv_validator_state{number:02}.json")
}

/// Enables units in a root that isn't running, as `systemctl enable` does for the guide's `WantedBy=multi-user.target`.
pub fn enable(root: &Path, units: &[String]) -> Result<()> {
    let wants = below(root, "/etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).with_context(|| format!("making {}", wants.display()))?;
    for unit in units {
        symlink(format!("/etc/systemd/system/{unit}"), wants.join(unit))
            .with_context(|| format!("enabling {unit}"))?;
    }
    Ok(())
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn secret(path: &Path, text: &str) -> Result<()> {
    write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("closing {}", path.display()))
}

/// Makes a key file, in the words of the program that will read it.
fn generate(lab: &Lab, path: &Path) -> Result<()> {
    let made = Command::new(lab.tmkms())
        .args(["softsign", "keygen"])
        .arg(path)
        .output()
        .context("starting tmkms softsign keygen")?;
    ensure!(
        made.status.success(),
        "tmkms softsign keygen {}: {}",
        path.display(),
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(())
}

fn give_to_tmkms(path: &Path) -> Result<()> {
    lchown(path, Some(TMKMS), Some(TMKMS))
        .with_context(|| format!("giving {} to tmkms", path.display()))?;
    if path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        for entry in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
            give_to_tmkms(
                &entry
                    .with_context(|| format!("reading {}", path.display()))?
                    .path(),
            )?;
        }
    }
    Ok(())
}
