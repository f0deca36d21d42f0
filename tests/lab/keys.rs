//! Which key each signer has, as kmsctl says and as the real tmkms logs it; and what it says of a real login gone wrong.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64ct::{Base64, Encoding};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fleet::{self, Fleet, HOME, Keys};
use crate::kmsctl::{self, NEW_CHAIN, eventually, kmsctl};
use crate::machine::{Lab, Machine};
use crate::parts::{MockYubihsm, PASSWORD, Protocol};

const HSM: Fleet = Fleet {
    signers: 5,
    protocol: Protocol::V033,
    keys: Keys::Yubihsm,
};
const SOFTSIGN: Fleet = Fleet {
    keys: Keys::Softsign,
    ..HSM
};
const BECH32: &str = r#"{ type = "bech32", account_key_prefix = "did:com:", consensus_key_prefix = "did:com:valconspub" }"#;
const PLAN: [&str; 3] = ["plan", "--new-chain", NEW_CHAIN];
/// Made up: the seed 00 01 02 … 1f and its public half.
const JSON: &str = r#"{"address":"0000000000000000000000000000000000000000",
"pub_key":{"type":"tendermint/PubKeyEd25519","value":"A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="},
"priv_key":{"type":"tendermint/PrivKeyEd25519","value":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="}}"#;

/// Signers 1 and 2 on the HSM, 3 with a key file; 4 on the HSM and shown in hex; 5 with CometBFT's file, in Cosmos' JSON.
fn write(lab: &Lab, root: &Path) -> Result<()> {
    SOFTSIGN.write(lab, root)?;
    HSM.write(lab, root)?;
    let put = |path: &str, text: &str| {
        fs::write(root.join(path.trim_start_matches('/')), text).with_context(|| path.to_owned())
    };
    put(&fleet::config_path(3), &SOFTSIGN.config(3))?;
    put(
        &fleet::config_path(4),
        &HSM.config(4).replace(BECH32, r#"{ type = "hex" }"#),
    )?;
    let json = SOFTSIGN
        .config(5)
        .replace(BECH32, r#"{ type = "cosmos-json" }"#);
    put(
        &fleet::config_path(5),
        &json.replace("key_type", "key_format = \"json\"\nkey_type"),
    )?;
    put(&format!("{HOME}/kms/commercio/consensus05.key"), JSON)?;
    kmsctl::install(root)
}

#[test]
fn each_key_is_the_one_that_tmkms_logs() -> Result<()> {
    let lab = Lab::open()?;
    let machine = Machine::boot(&lab, |root| write(&lab, root))?;
    let hsm = MockYubihsm::start(&machine, fleet::CONNECTOR, &[1, 2, 4])?;
    machine.sh("systemctl enable --now tmkms-01 tmkms-02 tmkms-03 tmkms-04 tmkms-05")?;
    let status = kmsctl::json(&machine, &["status", "--json"])?;
    for number in 1..=5 {
        let logged = logged(&machine, number)?;
        let row = row(&status, number)?;
        assert_eq!(row["key"], logged, "{row}");
    }
    for id in [1, 2, 4] {
        let row = row(&status, id)?;
        let key = &row["chains"][0]["keys"][0]["public_key"];
        assert_eq!(key, &hsm.public_key(id.into())?.to_uppercase());
    }
    // The mock dies of a seventeenth session: each that kmsctl takes is given back.
    machine.sh(&format!(
        "for n in $(seq 20); do {} status >/dev/null; done",
        kmsctl::PROGRAM
    ))?;
    kmsctl(&machine, &PLAN)?.exits(0);
    logins(&machine)?;
    one_key_in_a_device_and_a_file(&machine)?;

    // Without the device a plan goes by names, and says so.
    drop(hsm);
    kmsctl(&machine, &PLAN)?.exits(0).says(&[
        "warn[key-unknown]",
        fleet::CONNECTOR,
        "Connection refused",
        "only names tell",
    ]);
    Ok(())
}

/// The key in a signer's own log.
fn logged(machine: &Machine, number: u8) -> Result<String> {
    let unit = fleet::unit_name(number);
    let said = || {
        machine.sh(&format!(
            "journalctl -q -u {unit} -o cat --all | sed 's/\\x1b\\[[0-9;]*m//g' | grep -o 'consensus Ed25519 key: .*' || true"
        ))
    };
    eventually("a signer logs its key", || Ok(!said()?.is_empty()))?;
    let said = said()?;
    let line = said.lines().next().context("a line")?;
    let (_, key) = line.split_once(": ").context("a key")?;
    Ok(key.trim().to_owned())
}

fn row(status: &Value, number: u8) -> Result<&Value> {
    let rows = status["signers"].as_array().context("signers")?;
    let unit = fleet::unit_name(number);
    rows.iter()
        .find(|row| row["unit"] == unit.as_str())
        .with_context(|| format!("no {unit} in {status}"))
}

/// What a real device says to logins and ids that are wrong; each config is put back.
fn logins(machine: &Machine) -> Result<()> {
    let config = fleet::config_path(1);
    let password = format!("{HOME}/kms/password");
    machine.sh(&format!(
        "cp -a {config} /root/config; cp -a {password} /root/password"
    ))?;
    for (change, says) in [
        (
            format!("sed -i 's/key = 1 }}/key = 9 }}/' {config}"),
            ["block[hsm-key-unfit]", "has no key 9", &config],
        ),
        (
            format!("sed -i s/0123456789/0000000007/ {config}"),
            ["block[hsm-serial]", "0123456789 answers", &config],
        ),
        (
            format!("echo wrong-and-made-up >{password}"),
            [
                "block[hsm-refused]",
                "doesn't take this password",
                fleet::CONNECTOR,
            ],
        ),
    ] {
        machine.sh(&change)?;
        let said = kmsctl(machine, &PLAN)?.exits(3).says(&says);
        ensure!(!said.output.stdout.contains("made-up"), "{said:?}");
        machine.sh(&format!(
            "cp -a /root/config {config}; cp -a /root/password {password}"
        ))?;
    }
    // tmkms trims what an editor leaves at a file's end, and so does kmsctl.
    machine.sh(&format!("printf '{PASSWORD}\\n\\n' >{password}"))?;
    kmsctl(machine, &PLAN)?.exits(0);
    machine.sh(&format!("cp -a /root/password {password}"))?;
    Ok(())
}

/// The lab's test keys come from their ids: signer 3's file gets the one of signer 1.
fn one_key_in_a_device_and_a_file(machine: &Machine) -> Result<()> {
    let seed = Sha256::digest("kmsctl lab test key 1");
    let file = format!("{HOME}/kms/commercio/consensus03.key");
    machine.sh(&format!(
        "cp -a {file} /root/key; printf %s {} >{file}",
        Base64::encode_string(&seed)
    ))?;
    kmsctl(machine, &PLAN)?.exits(3).says(&[
        "block[key-shared]",
        "is YubiHSM 0123456789 key 1 as well as key file",
        "tmkms-03.service",
    ]);
    machine.sh(&format!("cp -a /root/key {file}"))?;
    Ok(())
}
