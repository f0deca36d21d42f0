//! What init refuses: each with the file, the reason and the next step, and with nothing written.

use std::fs;
use std::os::unix::fs::symlink;

use super::support::{Host, UNITS};
use super::{HEIGHT, Init, KEY, STATE, host, key};

#[track_caller]
pub fn refused(host: &Host, init: &Init, code: i32, words: &[&str]) {
    let before = host.tree();
    let said = init.run(host).exits(code).says(words);
    assert_eq!(host.tree(), before, "{said:?}");
}

#[test]
fn a_bad_flag() {
    for (flag, value, code, words) in [
        ("validator", "tcp://10.1.1.1", 2, &["has no port"][..]),
        ("validator", "tcp://10.1.1.1:", 2, &["has no port"]),
        ("validator", "10.1.1.1:26658", 2, &["tcp://"]),
        (
            "validator",
            "tcp://\"10.1.1.1\":26658",
            2,
            &["a host that is none"],
        ),
        (
            "validator",
            "tcp://abc@10.1.1.1:26658",
            2,
            &["40 hex digits"],
        ),
        ("chain", "a b", 2, &["chain id"]),
        ("chain", "x/../y", 2, &["chain id"]),
        ("chain", &"x".repeat(51), 2, &["51 characters"]),
        ("protocol", "v1", 2, &["v0.34"]),
        (
            "user",
            "nobody-here",
            3,
            &["/etc/passwd", "no user nobody-here", "useradd"],
        ),
        ("bech32-prefix", "HAQQ", 3, &["no prefix"]),
        ("bech32-prefix", "ha qq", 3, &["no prefix"]),
        ("home", "root/x", 3, &["no absolute path"]),
        ("home", "/root/a b", 3, &["a unit reads in its own way"]),
        ("home", "/root/%i", 3, &["a unit reads in its own way"]),
        ("home", "/root/x\nUser=root", 3, &["a control character"]),
        ("home", "/root", 3, &["/root isn't empty", "--name"]),
        ("home", "/etc/passwd", 3, &["/etc/passwd is no folder"]),
        ("binary", "bin/tmkms", 3, &["no absolute path"]),
        ("unit", "tmkms@01.service", 3, &["template"]),
        ("height", "0", 2, &["--height"]),
        ("import", "/root/none.json", 1, &["reading /root/none.json"]),
        ("state", "/root/none.json", 1, &["reading /root/none.json"]),
        (
            "state-file",
            "/elsewhere/state.json",
            3,
            &["/elsewhere isn't there", "make it first"],
        ),
        (
            "connection-key",
            "secrets/consensus.key",
            3,
            &["would be two files"],
        ),
    ] {
        refused(
            &host("haqq_11235-1"),
            &Init::haqq().with(&[(flag, value)]),
            code,
            words,
        );
    }
}

#[test]
fn what_is_missing_is_named_at_once() {
    let host = host("haqq_11235-1");
    refused(
        &host,
        &Init::of(&[]),
        2,
        &[
            "--chain",
            "--bech32-prefix",
            "--validator",
            "--home",
            "--import, --generate and --yubihsm-key",
        ],
    );
    let without = Init::haqq().without("state");
    refused(
        &host,
        &without,
        2,
        &["--state, --height and --new-validator", "double signature"],
    );
    refused(
        &host,
        &Init::haqq().with(&[("generate", "")]),
        2,
        &["--generate"],
    );
    refused(
        &host,
        &Init::haqq().with(&[("new-validator", "")]),
        2,
        &["--new-validator"],
    );
}

#[test]
fn a_key_file_that_is_no_validator_s() {
    let whole = key::file();
    let base64 = whole
        .split('"')
        .rfind(|word| word.len() == 88)
        .unwrap()
        .to_owned();
    for (text, words) in [
        (whole.replace("Ed25519", "Secp256k1"), &["secp256k1"][..]),
        (
            whole[..whole.len() / 2].to_owned(),
            &["stops before its end"],
        ),
        (whole.replace(&base64, &base64[..44]), &["priv_key.value"]),
        (
            whole.replace(&base64, &base64.replace(['+', '/'], "_")),
            &["priv_key.value"],
        ),
        (
            whole.replace(&key::address(), &"0".repeat(40)),
            &["`address`"],
        ),
        (
            whole.replacen(&key::public().to_base64(), &"A".repeat(43), 1),
            &["pub_key.value"],
        ),
        (String::new(), &["empty"]),
        ("not json".into(), &["line 1"]),
    ] {
        let host = host("haqq_11235-1");
        host.write(KEY, &text);
        let words = [&["/root/priv_validator_key.json: "], words].concat();
        refused(&host, &Init::haqq(), 3, &words);
    }
}

#[test]
fn a_state_that_isn_t_the_key_s() {
    let other = [9; 32];
    let lower = (HEIGHT - 1).to_string();
    let above = Init::haqq().with(&[("height", &lower)]);
    for (text, init, words) in [
        (
            key::state("haqq_53211-1", HEIGHT, &key::SEED),
            Init::haqq(),
            "it is of haqq_53211-1",
        ),
        (
            key::state("haqq_11235-1", HEIGHT, &other),
            Init::haqq(),
            "another validator's",
        ),
        (
            key::state("haqq_11235-1", HEIGHT, &key::SEED),
            above,
            "above --height",
        ),
        (String::new(), Init::haqq(), "is empty"),
        (
            "{\"height\":\"1\"".into(),
            Init::haqq(),
            "stops in the middle",
        ),
        (
            r#"{"height":"0","round":0,"step":0}"#.into(),
            Init::haqq(),
            "--new-validator",
        ),
        (
            key::state("haqq_11235-1", HEIGHT, &key::SEED),
            Init::haqq().without("import").with(&[("generate", "")]),
            "a key that is made now",
        ),
    ] {
        let host = host("haqq_11235-1");
        host.write(STATE, &text);
        refused(
            &host,
            &init,
            3,
            &["/root/priv_validator_state.json: ", words],
        );
    }
    // Higher than the file is allowed, and closes everything below.
    let host = host("haqq_11235-1");
    let height = (HEIGHT + 1).to_string();
    Init::haqq()
        .with(&[("height", &height)])
        .run(&host)
        .exits(0);
    assert_eq!(
        host.read("root/tmkms/config/state/haqq_11235-1-consensus.json"),
        format!(r#"{{"height":"{height}","round":"2147483647","step":127,"block_id":null}}"#)
    );
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    for (path, words) in [
        (
            "etc/systemd/system/tmkms.service",
            "/etc/systemd/system/tmkms.service is there already",
        ),
        (
            "etc/systemd/system/tmkms.service.d/x.conf",
            "/etc/systemd/system/tmkms.service.d is there",
        ),
        (
            "root/tmkms/config/secrets/consensus.key",
            "/root/tmkms/config isn't empty",
        ),
        (
            "root/tmkms/config/.hidden",
            "/root/tmkms/config isn't empty",
        ),
    ] {
        let host = host("haqq_11235-1");
        host.write(path, "[Service]\nExecStart=/bin/true\n");
        refused(&host, &Init::haqq(), 3, &[words]);
    }
    // In a fleet's folder each file is looked at by itself.
    for name in [
        "tmkms.04.toml",
        "consensus04.key",
        "secret_connection04.key",
        "haqq_11235_priv_validator_state04.json",
    ] {
        let host = host("haqq_11235-1");
        host.write(&format!("root/kms/{name}"), "x");
        let init = Init::haqq().with(&[
            ("home", "/root/kms"),
            ("name", "04"),
            ("chain", "haqq_11235-1"),
        ]);
        refused(
            &host,
            &init,
            3,
            &[&format!("/root/kms/{name} is there already")],
        );
    }
}

#[test]
fn a_config_that_its_tmkms_would_only_warn_of_is_said() {
    let host = host("haqq_11235-1");
    Init::haqq().run(&host).exits(0).says(&[
        "warn: /root/tmkms/config/tmkms.toml:8: without a peer id",
        "warn: /usr/local/bin/tmkms doesn't tell a version",
    ]);
    let host = self::host("haqq_11235-1");
    let id = "a".repeat(40);
    let address = format!("tcp://{id}@10.1.1.1:26658");
    let said = Init::haqq()
        .with(&[("validator", &address)])
        .run(&host)
        .exits(0);
    assert!(!said.all().contains("peer id"), "{said:?}");
}

#[test]
fn the_same_key_signs_the_chain_once() {
    let host = host("haqq_11235-1");
    Init::haqq().run(&host).exits(0);
    let again = Init::haqq().with(&[("home", "/root/other"), ("unit", "tmkms-b.service")]);
    refused(
        &host,
        &again,
        3,
        &[
            "tmkms.service signs haqq_11235-1 with the same key already",
            "/root/tmkms/config/state/haqq_11235-1-consensus.json",
        ],
    );
    // On another chain it is another matter.
    host.write(STATE, &key::state("haqq_53211-1", HEIGHT, &key::SEED));
    again.with(&[("chain", "haqq_53211-1")]).run(&host).exits(0);
}

#[test]
fn a_failure_half_way_leaves_nothing_behind() {
    let host = host("haqq_11235-1");
    // The unit is written last, and a folder by a link isn't written through.
    fs::rename(host.path(UNITS), host.path("etc/systemd/elsewhere")).unwrap();
    symlink("elsewhere", host.path(UNITS)).unwrap();
    refused(
        &host,
        &Init::haqq(),
        1,
        &[
            "/etc/systemd/system/tmkms.service",
            "nothing of the new signer is left behind",
        ],
    );
}

/// What a kill or a power cut leaves after each of init's writes: the next one says what to remove, and then goes through.
#[test]
fn an_init_that_was_cut_short_says_what_to_remove() {
    let home = "root/tmkms/config";
    let order = [
        "secrets/kms-identity.key",
        "secrets/consensus.key",
        "state/haqq_11235-1-consensus.json",
        "tmkms.toml",
    ];
    for written in [1, 2, 3, 4] {
        for unfinished in [false, true] {
            let host = host("haqq_11235-1");
            Init::haqq().run(&host).exits(0);
            fs::remove_file(host.path(UNITS).join("tmkms.service")).unwrap();
            for later in &order[written..] {
                fs::remove_file(host.path(&format!("{home}/{later}"))).unwrap();
            }
            let mut left: Vec<String> = order[..written]
                .iter()
                .map(|file| format!("/{home}/{file}"))
                .collect();
            if unfinished && let Some(last) = left.last_mut() {
                let whole = last.clone();
                let (folder, name) = whole.rsplit_once('/').unwrap();
                *last = format!("{folder}/.{name}.kmsctl-new");
                fs::rename(host.path(&whole), host.path(last)).unwrap();
            }
            let folders = ["secrets", "state"].map(|folder| format!("/{home}/{folder}"));
            let remove = format!("`rm {} && rmdir {}`", left.join(" "), folders.join(" "));
            let before = host.tree();
            Init::haqq()
                .run(&host)
                .exits(3)
                .says(&["isn't empty", &remove]);
            assert_eq!(host.tree(), before);
            for file in &left {
                fs::remove_file(host.path(file)).unwrap();
            }
            let remove = format!("`rmdir {}`", folders.join(" "));
            Init::haqq().run(&host).exits(3).says(&[&remove]);
            for folder in &folders {
                fs::remove_dir(host.path(folder)).unwrap();
            }
            Init::haqq().run(&host).exits(0);
        }
    }
}
