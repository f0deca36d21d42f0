//! What `init` writes, in the hands of the real tmkms: it starts under the rendered unit, logs the key that init printed,
//! signs from the imported height on and never at it, and moves to a new chain and back.
//!
//! `KMSCTL_LAB_INIT_TMKMS` names another tmkms than the lab's own; `tests/lab/init-with` sets it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tmkms_core::config::SoftsignFormat;
use tmkms_core::{ProtocolVersion, SecretKey, Support, TmkmsVersion, support};

#[path = "../init/key.rs"]
pub mod key;

use crate::fleet;
use crate::kmsctl::{self, kmsctl};
use crate::machine::{Lab, Machine};
use crate::night::{refuses, sign};
use crate::parts::{FakeValidator, MockYubihsm, PASSWORD, Protocol};

const HEIGHT: u64 = 2_233_550;
const SOON: Duration = Duration::from_secs(20);

/// The tmkms under test, and what it is.
fn tmkms(lab: &Lab) -> Result<(PathBuf, TmkmsVersion)> {
    let path = match std::env::var_os("KMSCTL_LAB_INIT_TMKMS") {
        Some(path) => PathBuf::from(path),
        None => lab.tmkms(),
    };
    let said = Command::new(&path)
        .arg("version")
        .output()
        .with_context(|| format!("starting {}", path.display()))?;
    let version = String::from_utf8(said.stdout)?;
    let version = version
        .parse()
        .with_context(|| format!("{} says {version:?}", path.display()))?;
    Ok((path, version))
}

/// A guide's signer, with what can't run as printed made to run: the validator is on loopback.
struct Guide {
    chain: &'static str,
    next: &'static str,
    unit: &'static str,
    protocol: Protocol,
    listen: &'static str,
    words: &'static [&'static str],
    hsm: bool,
}

const LAYOUT: [&str; 6] = [
    "--state-file",
    "state/priv_validator_state.json",
    "--key-file",
    "secrets/priv_validator_key",
    "--connection-key",
    "secrets/secret_connection_key",
];

#[test]
fn haqq_s_signer() -> Result<()> {
    lives(&Guide {
        chain: "haqq_11235-1",
        next: "haqq_11235-2",
        unit: "tmkms",
        protocol: Protocol::V034,
        listen: "127.0.1.1:688",
        words: &[
            "--bech32-prefix",
            "haqq",
            "--key-format",
            "cosmos-json",
            "--home",
            "/root/tmkms/config",
            "--user",
            "root",
        ],
        hsm: false,
    })
}

#[test]
fn aura_s_signer() -> Result<()> {
    lives(&Guide {
        chain: "aura_6321-3",
        next: "aura_6322-3",
        unit: "tmkms",
        protocol: Protocol::V034,
        listen: "127.0.1.1:26680",
        words: &[
            "--bech32-prefix",
            "aura",
            "--home",
            "/root/tmkms/config",
            "--user",
            "root",
        ],
        hsm: false,
    })
}

#[test]
fn metaos_signer() -> Result<()> {
    lives(&Guide {
        chain: "metaos_99237-1",
        next: "metaos_99237-2",
        unit: "tmkms",
        protocol: Protocol::V034,
        listen: "127.0.0.1:26660",
        words: &[
            "--bech32-prefix",
            "mtos",
            "--home",
            "/home/tmkms/.kms",
            "--user",
            "tmkms",
        ],
        hsm: false,
    })
}

#[test]
fn commercio_s_signer() -> Result<()> {
    let (_, version) = tmkms(&Lab::open()?)?;
    let old = support(version, Some(ProtocolVersion::V0_33)) == Some(Support::Works);
    lives(&Guide {
        chain: "commercio-2_2",
        next: "commercio-3",
        unit: "tmkms-01",
        protocol: if old { Protocol::V033 } else { Protocol::V034 },
        listen: "127.0.1.1:26658",
        words: &[
            "--account-prefix",
            "did:com:",
            "--consensus-prefix",
            "did:com:valconspub",
            "--home",
            "/data_tmkms/tmkms/kms/commercio",
            "--name",
            "01",
            "--yubihsm-key",
            "1",
            "--connector",
            "tcp://127.0.0.1:12345",
            "--auth-key",
            "1",
            "--password-file",
            "/data_tmkms/tmkms/kms/password",
            "--serial-number",
            "0123456789",
        ],
        hsm: true,
    })
}

/// Set up, started, moved to the next chain and back.
fn lives(guide: &Guide) -> Result<()> {
    let lab = Lab::open()?;
    let (program, _) = tmkms(&lab)?;
    // The mock's keys follow from their numbers.
    let seed: [u8; 32] = match guide.hsm {
        true => Sha256::digest("kmsctl lab test key 1").into(),
        false => key::SEED,
    };
    let machine = Machine::boot(&lab, |root| {
        kmsctl::install(root)?;
        // As `cargo install` leaves it, with a link from where it is looked for: the unit must not hide it.
        let linked = root.join("home/tmkms/.cargo/bin/tmkms");
        let installed = match guide.hsm {
            true => linked,
            false => root.join("usr/local/bin/tmkms"),
        };
        fs::create_dir_all(installed.parent().context("a program's folder")?)?;
        fs::copy(&program, &installed).context("copying tmkms")?;
        if guide.hsm {
            symlink(
                "/home/tmkms/.cargo/bin/tmkms",
                root.join("usr/local/bin/tmkms"),
            )?;
        }
        write(root, "root/key.json", &key::file())?;
        write(
            root,
            "root/state.json",
            &key::state(guide.chain, HEIGHT, &seed),
        )?;
        write(root, "data_tmkms/tmkms/kms/password", PASSWORD)
    })?;
    machine.sh("chmod 600 /root/*.json /data_tmkms/tmkms/kms/password; chown tmkms: /data_tmkms/tmkms/kms/password")?;
    let hsm = match guide.hsm {
        true => Some(MockYubihsm::start(&machine, fleet::CONNECTOR, &[1])?),
        false => None,
    };
    let public = match &hsm {
        Some(hsm) => hsm.public_key(1)?.to_owned(),
        None => key::public().to_hex().to_lowercase(),
    };
    let report = init(&machine, guide)?;
    // What every run here is scanned for.
    match guide.hsm {
        true => kmsctl::is_scanned_for(&machine, PASSWORD)?,
        false => {
            let own = SecretKey::from_seed(&seed).to_base64();
            kmsctl::is_scanned_for(&machine, &own)?;
            let whole = serde_json::from_str::<Value>(&key::file())?;
            let whole = whole["priv_key"]["value"].as_str();
            kmsctl::is_scanned_for(&machine, whole.context("the made-up key file has a key")?)?;
        }
    }
    let connection = match guide.words.contains(&"/root/tmkms/config") {
        true => "/root/tmkms/config/secrets/secret_connection_key",
        false if guide.hsm => "/data_tmkms/tmkms/kms/commercio/secret_connection01.key",
        false => "/home/tmkms/.kms/secrets/kms-identity.key",
    };
    kmsctl::is_scanned_for(&machine, machine.sh(&format!("cat {connection}"))?.trim())?;
    let unit = format!("{}.service", guide.unit);
    ensure!(
        !kmsctl::unit_now(&machine, &unit)?.runs(),
        "nothing is started"
    );
    ensure!(
        !kmsctl::unit_now(&machine, &unit)?.enabled,
        "nothing is enabled"
    );

    let start = |chain: &str, protocol| {
        FakeValidator::start(&machine, guide.listen, chain, protocol, Some(&public))
    };
    let mut old = vec![start(guide.chain, guide.protocol)?];
    machine.sh(&format!("systemctl enable --now {unit}"))?;
    ensure!(
        old[0].connected(SOON)?.is_some(),
        "{}",
        log(&machine, &unit)?
    );
    logs_what_was_printed(&machine, &unit, &report)?;
    is_confined(&machine, &unit)?;
    refuses(&mut old, HEIGHT)?;
    sign(&mut old, HEIGHT + 1, HEIGHT + 3)?;

    let plan = [
        "plan",
        "--from-chain",
        guide.chain,
        "--new-chain",
        guide.next,
        "--suffix",
        "v9",
    ];
    kmsctl(&machine, &plan)?.exits(0);
    drop(old);
    let mut new = vec![start(guide.next, Protocol::V034)?];
    kmsctl(&machine, &["apply", "--yes", "--soak", "1"])?.exits(0);
    sign(&mut new, HEIGHT + 4, HEIGHT + 5)?;
    drop(new);
    let mut old = vec![start(guide.chain, guide.protocol)?];
    kmsctl(&machine, &["rollback", "--yes", "--soak", "1"])?.exits(0);
    refuses(&mut old, HEIGHT + 3)?;
    sign(&mut old, HEIGHT + 4, HEIGHT + 4)
}

fn init(machine: &Machine, guide: &Guide) -> Result<Value> {
    let protocol = guide.protocol.to_string();
    let validator = format!("tcp://{}", guide.listen);
    let mut words = vec![
        "init",
        "--yes",
        "--json",
        "--chain",
        guide.chain,
        "--validator",
        &validator,
        "--protocol",
        &protocol,
        "--state",
        "/root/state.json",
    ];
    words.extend(guide.words);
    if !guide.hsm {
        words.extend(["--import", "/root/key.json"]);
    }
    if guide.words.contains(&"/root/tmkms/config") {
        words.extend(LAYOUT);
    }
    kmsctl::json(machine, &words)
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// What the unit said, without the colours that tmkms always writes.
fn log(machine: &Machine, unit: &str) -> Result<String> {
    machine.sh(&format!(
        r"journalctl --quiet -a -o cat -u {unit} | sed 's/\x1b\[[0-9;]*m//g'"
    ))
}

fn logs_what_was_printed(machine: &Machine, unit: &str, report: &Value) -> Result<()> {
    let field = |name: &str| report[name].as_str().unwrap_or("nothing");
    let id = format!("KMS node ID: {}", field("node_id"));
    // As 0.15 has it.
    let key = format!(
        "KMS node ID: PublicKey::Ed25519({})",
        field("connection_key")
    );
    let mut wanted = vec![[id, key]];
    if report["consensus_key"].is_string() {
        let key = format!("added consensus Ed25519 key: {}", field("consensus_key"));
        wanted.push([key.clone(), key]);
    }
    // The journal has a line a little after it was said.
    for words in wanted {
        kmsctl::eventually(&format!("{unit} logs one of {words:?}"), || {
            let log = log(machine, unit)?;
            Ok(words.iter().any(|words| log.contains(words)))
        })?;
    }
    Ok(())
}

/// The unit's sandbox holds: it can write its state folder and nothing else, gains no power, leaves no core.
fn is_confined(machine: &Machine, unit: &str) -> Result<()> {
    let pid = kmsctl::unit_now(machine, unit)?.main_pid;
    let said = machine.sh(&format!(
        "grep -E '^(NoNewPrivs|CapEff|Seccomp):' /proc/{pid}/status; grep 'Max core' /proc/{pid}/limits
         for place in /etc /usr/local/bin /var/lib; do
            nsenter -t {pid} -m touch $place/x 2>&1 || true
         done
         state=$(sed -n 's/^ReadWritePaths=//p' /etc/systemd/system/{unit})
         nsenter -t {pid} -m touch $state/x && rm $state/x && echo its own state folder"
    ))?;
    for words in [
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
        "Seccomp:\t2",
        "its own state folder",
    ] {
        ensure!(said.contains(words), "{words:?} isn't in {said}");
    }
    ensure!(said.matches("Read-only file system").count() == 3, "{said}");
    Ok(())
}

/// `tmkms softsign keygen` and `import` write what init writes, byte for byte where the key is the same, and each reads
/// the other's.
#[test]
fn key_files_are_tmkms_own() -> Result<()> {
    let lab = Lab::open()?;
    let (program, _) = tmkms(&lab)?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let run = |words: &[&str]| -> Result<()> {
        let said = Command::new(&program)
            .args(words)
            .current_dir(folder.path())
            .output()?;
        ensure!(said.status.success(), "{words:?}: {said:?}");
        Ok(())
    };
    fs::write(at("key.json"), key::file())?;
    run(&["softsign", "import", "key.json", "imported"])?;
    let ours = SecretKey::from_validator_json(key::file().as_bytes())?;
    ensure!(
        fs::read(at("imported"))? == ours.to_base64().as_bytes(),
        "the same bytes"
    );
    run(&["softsign", "keygen", "generated"])?;
    let bytes = fs::read(at("generated"))?;
    let generated = SecretKey::read(&bytes, SoftsignFormat::Base64)?;
    ensure!(
        generated.to_base64().as_bytes() == bytes,
        "written as it was read"
    );
    Ok(())
}
