//! Rule S11 for `init`, `validator` and `state`: the private key is in its own files and nowhere else, whatever is printed.

use std::fs;
use std::path::Path;

use base64ct::{Base64, Encoding};

use super::support::{Host, Said};
use super::{HEIGHT, Init, KEY, STATE, host, key};

/// The files that may hold a key.
const KEYS: [&str; 4] = [
    KEY,
    "root/tmkms/config/secrets/consensus.key",
    "root/tmkms/config/secrets/kms-identity.key",
    "home/v/config/priv_validator_key.json",
];

fn scan(host: &Host, said: &Said, seeds: &[Vec<u8>]) {
    for seed in seeds {
        for spelling in spellings(seed) {
            let holds = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                text.contains(&spelling)
            };
            assert!(!holds(said.all().as_bytes()), "printed: {said:?}");
            walk(host.root(), &mut |path| {
                let below = path.strip_prefix(host.root()).unwrap();
                let is_key = KEYS.iter().any(|key| below == Path::new(key));
                assert!(
                    is_key || !holds(&fs::read(path).unwrap()),
                    "kept in {}",
                    path.display()
                );
            });
        }
    }
}

/// Every way in which a seed may be written down.
fn spellings(seed: &[u8]) -> Vec<String> {
    let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        // Alone, and as the beginning of seed and public key.
        Base64::encode_string(seed)[..42].to_owned(),
        hex.to_uppercase(),
        hex,
        format!("{seed:?}").trim_matches(['[', ']']).to_owned(),
    ]
}

fn walk(folder: &Path, see: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap() {
            meta if meta.is_dir() => walk(&path, see),
            meta if meta.is_file() => see(&path),
            _ => {}
        }
    }
}

fn seed_in(host: &Host, path: &str) -> Vec<u8> {
    Base64::decode_vec(&host.read(path)).unwrap()
}

#[test]
fn the_private_key_is_in_its_file_and_nowhere_else() {
    for init in [
        Init::haqq(),
        Init::haqq()
            .without("import")
            .without("state")
            .with(&[("generate", "")]),
    ] {
        for more in [&[][..], &[("json", "")], &[("verbose", "")]] {
            let host = host("haqq_11235-1");
            let said = init.clone().with(more).run(&host).exits(0);
            let seeds = [
                key::SEED.to_vec(),
                seed_in(&host, KEYS[1]),
                seed_in(&host, KEYS[2]),
            ];
            assert!(seeds.iter().all(|seed| seed.len() == 32));
            assert_ne!(seeds[1], seeds[2], "each is a key of its own");
            scan(&host, &said, &seeds);
        }
    }
}

#[test]
fn a_refusal_shows_no_key() {
    let whole = key::file();
    let private = whole
        .split('"')
        .rfind(|word| word.len() == 88)
        .unwrap()
        .to_owned();
    for text in [
        whole.replace("PrivKeyEd25519", "PrivKeySecp256k1"),
        whole.replace(
            &format!("\"value\": \"{private}\""),
            &format!("\"value\": [\"{private}\"]"),
        ),
        whole.replace(&format!("\"{private}\""), &private),
        whole.replace(&private, &format!("{private}\\u0041")),
        format!("\"{private}\""),
        private.clone(),
        whole.replace("PrivKeyEd25519", &private),
    ] {
        for more in [&[][..], &[("json", "")]] {
            let host = host("haqq_11235-1");
            host.write(KEY, &text);
            let said = Init::haqq().with(more).run(&host).exits(3);
            scan(&host, &said, &[key::SEED.to_vec()]);
            // Given for something else, too.
            let said = Init::haqq()
                .with(&[("state", "/root/priv_validator_key.json")])
                .run(&host);
            assert_ne!(said.code, 0);
            scan(&host, &said, &[key::SEED.to_vec()]);
            let said = host
                .kmsctl(&["state", "show", "/root/priv_validator_key.json"])
                .exits(3);
            scan(&host, &said, &[key::SEED.to_vec()]);
        }
    }
}

#[test]
fn the_validator_s_own_key_file_isn_t_shown() {
    let host = host("haqq_11235-1");
    host.write("home/v/config/priv_validator_key.json", &key::file());
    host.write("home/v/config/config.toml", "[p2p]\n[consensus]\n");
    host.write(STATE, &key::state("haqq_11235-1", HEIGHT, &key::SEED));
    for words in [
        &[
            "validator",
            "--config",
            "/home/v/config/config.toml",
            "--check",
        ][..],
        &[
            "validator",
            "--config",
            "/home/v/config/config.toml",
            "--laddr",
            "tcp://0.0.0.0:1",
            "--yes",
            "--json",
        ],
        &[
            "validator",
            "--config",
            "/home/v/config/priv_validator_key.json",
            "--check",
        ],
        &[
            "state",
            "convert",
            "/root/priv_validator_state.json",
            "/root/new.json",
        ],
    ] {
        let said = host.kmsctl(words);
        scan(&host, &said, &[key::SEED.to_vec()]);
    }
}
