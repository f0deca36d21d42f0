//! Softsign key files, found below `--root` like every other file.

use crate::support::{CONFIGS, Host};

/// Made up: the seed 00 01 02 … 1f, in base64, and the public half as tmkms logs it.
pub const SEED: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const BOTH: &str =
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
/// What follows from the seed.
const EXPANDED: &str =
    "PZTupJxYCu+BaTV2K+BJVZ1tFEDe3hLmoSXxhB//jm+p1xhio+V0a1cb49GHsAQQRvUuvYUMfL1f3o7jhHO2SQ==";
const PUBLIC: &str = "03A107BFF3CE10BE1D70DD18E74BC09967E4D6309BA50D5F1DDC8664125531B8";
const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];

/// Gives a signer a key file in place of its YubiHSM.
pub fn softsign(host: &Host, signer: &str, file: &str, format: &str) {
    let config = format!("{CONFIGS}/tmkms.{signer}.toml");
    let text = host.read(&config);
    let (before, _) = text.split_once("[[providers.yubihsm]]").unwrap();
    let provider = format!(
        "[[providers.softsign]]\nchain_ids = [\"commercio-2_2\"]\nkey_format = \"{format}\"\npath = \"{file}\"\n"
    );
    host.write(&config, &format!("{before}{provider}"));
}

fn json(value: &str) -> String {
    format!(
        r#"{{"address":"{}","pub_key":{{"type":"tendermint/PubKeyEd25519","value":"A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="}},"priv_key":{{"type":"tendermint/PrivKeyEd25519","value":"{value}"}}}}"#,
        "0".repeat(40)
    )
}

#[test]
fn a_key_file_gives_the_key_that_tmkms_logs() {
    let host = Host::of("commercio");
    softsign(&host, "01", "/keys/one", "base64");
    host.write("keys/one", &format!("{SEED}\n"));
    let status = host.json(&["status", "--json"]);
    let row = &status["signers"][0];
    let key = row["key"].as_str().unwrap();
    assert!(key.starts_with("did:com:valconspub1zcjduepq"), "{key}");
    let named = &row["chains"][0]["keys"][0];
    assert_eq!(named["name"], "key file /keys/one");
    assert_eq!(
        (&named["consensus_key"], &named["public_key"]),
        (&row["key"], &PUBLIC.into())
    );
    let other = &status["signers"][1]["chains"][0]["keys"][0];
    assert!(
        other["unknown"]
            .as_str()
            .unwrap()
            .contains("no device is asked")
    );
    let said = host.kmsctl(&["status"]).exits(0);
    let said = said.says(&[&format!("  commercio-2_2  key {key}\n")]);
    assert!(!said.all().contains(&SEED[..20]), "{said:?}");

    // The config's own format decides.
    for (format, shown) in [
        (r#"{ type = "hex" }"#, PUBLIC.to_owned()),
        (
            r#"{ type = "cosmos-json" }"#,
            r#"{"@type":"/cosmos.crypto.ed25519.PubKey","key":"A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="}"#.to_owned(),
        ),
    ] {
        let config = format!("{CONFIGS}/tmkms.01.toml");
        let text = host.read(&config);
        let line = text.lines().find(|l| l.starts_with("key_format = {")).unwrap();
        host.edit(&config, line, &format!("key_format = {format}"));
        assert_eq!(host.json(&["status", "--json"])["signers"][0]["key"], shown);
    }
}

#[test]
fn one_key_in_two_files_is_one_key() {
    let host = Host::of("commercio");
    softsign(&host, "01", "/keys/one", "base64");
    softsign(&host, "02", "/keys/two.json", "json");
    host.write("keys/one", SEED);
    host.write("keys/two.json", &json(BOTH));
    for words in [
        &PLAN[..],
        &["plan", "--new-chain", "commercio-3", "--signer", "tmkms-02"],
    ] {
        let said = host.kmsctl(words).exits(3).says(&[
            "block[key-shared]",
            "one key, did:com:valconspub1",
            "is key file /keys/one as well as key file /keys/two.json",
            "tmkms-01.service",
            "tmkms-02.service",
        ]);
        assert!(!said.all().contains(&SEED[..20]), "{said:?}");
    }
    // Another key there, and nothing is in the way.
    host.write("keys/one", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
    host.kmsctl(&PLAN).exits(0);
    // A plan's own old and new unit have one key, before and after the switch.
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
}

#[test]
fn an_expanded_key_is_known_and_one_key_with_its_seed() {
    let host = Host::of("commercio");
    softsign(&host, "01", "/keys/one", "base64");
    host.write("keys/one", EXPANDED);
    let status = host.json(&["status", "--json"]);
    let named = &status["signers"][0]["chains"][0]["keys"][0];
    assert_eq!(named["public_key"], PUBLIC);
    // Only 0.15 takes it, and which tmkms a folder's is isn't known.
    let said = host.kmsctl(&PLAN).exits(0);
    said.says(&["warn[key-unfit] /keys/one: the key file holds an expanded key"]);
    softsign(&host, "02", "/keys/two", "base64");
    host.write("keys/two", SEED);
    let said = host.kmsctl(&PLAN).exits(3);
    said.says(&[
        "block[key-shared]",
        "key file /keys/one as well as key file /keys/two",
    ]);
}

#[test]
fn keys_are_no_inputs() {
    let host = Host::of("commercio");
    softsign(&host, "01", "/keys/one", "base64");
    let without = host.json(&[&PLAN[..], &["--json"]].concat());
    host.write("keys/one", SEED);
    let with = host.json(&[&PLAN[..], &["--json"]].concat());
    assert_eq!(without["id"], with["id"]);
    assert_eq!(
        without["findings"], with["findings"],
        "a tree has no keys, and shouldn't"
    );
}

#[test]
fn a_key_file_that_tmkms_can_not_take_blocks() {
    let long = format!("{SEED}{SEED}");
    for (format, text, says) in [
        ("base64", "", "it is empty"),
        ("base64", &SEED[..24], "its key has 18 bytes and not 32"),
        ("base64", &long, "it isn't base64"),
        ("base64", &json(BOTH), "set key_format = \"json\""),
        ("json", SEED, "set key_format = \"base64\""),
        (
            "json",
            &json(SEED),
            "its `priv_key.value` stops before its end",
        ),
        ("json", "{", "it stops before its end"),
        ("json", "{}", "it isn't a priv_validator_key.json"),
        ("base64", "\u{0}\u{1}", "it isn't base64"),
    ] {
        let host = Host::of("commercio");
        softsign(&host, "01", "/keys/one", format);
        host.write("keys/one", text);
        let said = host.kmsctl(&PLAN).exits(3);
        let said = said.says(&[
            "block[key-unfit] /keys/one: tmkms can't take this key file",
            says,
        ]);
        assert!(!said.all().contains(&SEED[..12]), "{said:?}");
        // A signer that stays isn't started.
        let others = ["plan", "--new-chain", "commercio-3", "--signer", "tmkms-02"];
        host.kmsctl(&others)
            .exits(0)
            .says(&["warn[key-unfit] /keys/one", says]);
    }
}
