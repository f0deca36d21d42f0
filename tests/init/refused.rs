//! What init refuses: each with the file, the reason and the next step, and with nothing written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::support::{Host, UNITS};
use super::{HEIGHT, Init, KEY, STATE, host, key};

#[track_caller]
fn refused(host: &Host, init: &Init, code: i32, words: &[&str]) {
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
        (
            "home",
            "/root/x\nUser=root",
            3,
            &["a unit reads in its own way"],
        ),
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
fn a_place_that_the_user_can_t_come_to() {
    let host = host("haqq_11235-1");
    fs::set_permissions(host.path("root"), fs::Permissions::from_mode(0o700)).unwrap();
    let init = Init::haqq().with(&[("user", "tmkms")]);
    if rustix::process::geteuid().is_root() {
        refused(
            &host,
            &init,
            3,
            &[
                "/root: tmkms, as whom tmkms.service runs, can't pass this folder (0700 root:",
                "chmod o+x /root",
                "another --user",
            ],
        );
    }
    // A fleet's folder that its user can't write, and a binary that it can't run.
    if rustix::process::geteuid().is_root() {
        let host = super::host("haqq_11235-1");
        host.write("srv/kms/other", "");
        let fleet = init.with(&[("home", "/srv/kms"), ("name", "01")]);
        let words = [
            "/srv/kms: tmkms, as whom tmkms-01.service runs, can't write",
            "chown tmkms /srv/kms",
        ];
        refused(&host, &fleet, 3, &words);
        // root, from whom the unit takes the power to pass over modes.
        fs::set_permissions(host.path("srv/kms"), fs::Permissions::from_mode(0o500)).unwrap();
        let fleet = fleet.with(&[("user", "root")]);
        refused(
            &host,
            &fleet,
            3,
            &["/srv/kms: root, as whom tmkms-01.service runs, can't write"],
        );
    }
    let host = super::host("haqq_11235-1");
    fs::set_permissions(
        host.path("usr/local/bin/tmkms"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    refused(
        &host,
        &Init::haqq(),
        3,
        &["/usr/local/bin/tmkms: ", "can't run it", "--binary"],
    );
    let linked = super::host("haqq_11235-1");
    fs::create_dir_all(linked.path("srv/kms")).unwrap();
    symlink("/srv/kms", linked.path("kms")).unwrap();
    refused(
        &linked,
        &Init::haqq().with(&[("home", "/kms")]),
        3,
        &["/kms is a link to /srv/kms"],
    );
    refused(
        &linked,
        &Init::haqq().with(&[("home", "/kms/a")]),
        3,
        &["/kms is a link to /srv/kms"],
    );
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

/// A host with a signer of another key on the same chain, and the path of that key.
fn beside_another() -> (super::support::Host, String) {
    let host = host("haqq_11235-1");
    let other = Init::haqq().without("import").without("state").with(&[
        ("generate", ""),
        ("home", "/srv/other"),
        ("unit", "tmkms-b.service"),
    ]);
    other.run(&host).exits(0);
    (host, "srv/other/secrets/consensus.key".to_owned())
}

#[test]
fn a_key_that_is_not_known_may_be_this_one() {
    let (host, path) = beside_another();
    Init::haqq().run(&host).exits(0);
    for (spoil, why) in [
        (spoilt as fn(&Host, &str), "tmkms can't take the key file"),
        (made_a_folder, "the key file can't be read"),
    ] {
        let (host, path) = beside_another();
        spoil(&host, &path);
        refused(
            &host,
            &Init::haqq(),
            3,
            &[
                "tmkms-b.service signs haqq_11235-1 with",
                "whether that is the new signer's key isn't known",
                why,
                "let the key be read",
            ],
        );
        // On another chain, and of a key that is made now, it is no matter.
        host.write(STATE, &key::state("haqq_53211-1", HEIGHT, &key::SEED));
        let elsewhere = Init::haqq().with(&[("chain", "haqq_53211-1")]);
        elsewhere.run(&host).exits(0);
        let (host, path) = beside_another();
        spoil(&host, &path);
        let fresh = Init::haqq().without("import").without("state");
        fresh.with(&[("generate", "")]).run(&host).exits(0);
    }
    // A folder that stands for a host needs no keys.
    let (host, _) = beside_another();
    host.remove(&path);
    Init::haqq().run(&host).exits(0).says(&[
        "warn: tmkms-b.service signs haqq_11235-1 with",
        "isn't known: the key file isn't there",
    ]);
}

fn spoilt(host: &Host, path: &str) {
    host.write(path, "no key");
}

fn made_a_folder(host: &Host, path: &str) {
    host.remove(path);
    fs::create_dir(host.path(path)).unwrap();
}

#[test]
fn a_signer_that_can_t_be_read_may_have_this_key() {
    let (host, _) = beside_another();
    host.link_enabled("tmkms-b");
    host.edit("srv/other/tmkms.toml", "[[chain]]", "[[chain]");
    refused(&host, &Init::haqq(), 3, &["/srv/other/tmkms.toml:"]);
    let fresh = Init::haqq().without("import").without("state");
    fresh.with(&[("generate", "")]).run(&host).exits(0);
}

/// What a journal knows of a key, it knows by the key itself: a new file's name doesn't make it another.
#[test]
fn a_key_that_signed_the_chain_before_is_known_again() {
    let host = host("haqq_11235-1");
    Init::haqq().run(&host).exits(0);
    host.link_enabled("tmkms");
    let plan = ["plan", "--new-chain", "haqq_11235-2", "--suffix", "v9"];
    host.kmsctl(&plan).exits(0);
    host.kmsctl(&["apply", "--yes", "--soak", "0"]).exits(0);
    // Everything of it is taken away, but what it did.
    for unit in ["tmkms.service", "tmkms.v9.service"] {
        fs::remove_file(host.path(UNITS).join(unit)).unwrap();
    }
    fs::remove_dir_all(host.path("root/tmkms")).unwrap();
    fs::remove_dir_all(host.path(UNITS).join("multi-user.target.wants")).unwrap();
    for drop_ins in ["tmkms.service.d", "tmkms.v9.service.d"] {
        fs::remove_dir_all(host.path(UNITS).join(drop_ins)).unwrap();
    }
    fs::remove_file(host.path("run/kmsctl/services.json")).unwrap();
    let again = Init::haqq().with(&[("home", "/srv/kms")]);
    refused(
        &host,
        &again,
        3,
        &[
            "this key signed haqq_11235-1 with /root/tmkms/config/state/haqq_11235-1-consensus.json before",
        ],
    );
    // Another key didn't.
    let other = again.without("import").without("state");
    other.with(&[("generate", "")]).run(&host).exits(0);
}

#[test]
fn an_older_copy_of_a_state_that_the_journals_saw_is_refused() {
    let host = Host::of("commercio");
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    host.write("etc/passwd", &Host::bare().read("etc/passwd"));
    host.program("usr/local/bin/tmkms");
    host.write(KEY, &key::file());
    let state = "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state01.json";
    host.edit(state, "2233550", "2233549");
    let state = format!("/{state}");
    let init = Init::haqq().with(&[("chain", "commercio-2_2"), ("state", &state)]);
    let words = [
        &format!("{state} is at 2233549/0/2"),
        "journals saw it at 2233550/0/2",
    ];
    refused(&host, &init, 3, &words);
}

#[test]
fn a_plan_knows_a_key_by_itself_too() {
    let host = host("haqq_11235-1");
    Init::haqq().run(&host).exits(0);
    host.link_enabled("tmkms");
    let plan = ["plan", "--new-chain", "haqq_11235-2", "--suffix", "v9"];
    host.kmsctl(&plan).exits(0);
    host.kmsctl(&["apply", "--yes", "--soak", "0"]).exits(0);
    host.kmsctl(&["rollback", "--yes", "--soak", "0"]).exits(0);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    // The key under another name, and with another state file.
    let home = "root/tmkms/config";
    let (key, state) = ("secrets/consensus.key", "state/haqq_11235-1-consensus.json");
    host.write(
        &format!("{home}/secrets/other.key"),
        &host.read(&format!("{home}/{key}")),
    );
    host.write(
        &format!("{home}/state/other.json"),
        &host.read(&format!("{home}/{state}")),
    );
    host.edit(&format!("{home}/tmkms.toml"), key, "secrets/other.key");
    host.edit(&format!("{home}/tmkms.toml"), state, "state/other.json");
    host.kmsctl(&plan).exits(3).says(&[
        "block[state-elsewhere]",
        "this key's state for haqq_11235-1 is kept in /root/tmkms/config/state/haqq_11235-1-consensus.json",
    ]);
    // Back to its own file it may go, whatever the key's is called; and another key can't go on with it.
    host.edit(&format!("{home}/tmkms.toml"), "state/other.json", state);
    host.kmsctl(&plan).exits(0);
    let other = tmkms_core::SecretKey::from_seed(&[7; 32]).to_base64();
    host.write(&format!("{home}/{key}"), &other);
    host.edit(&format!("{home}/tmkms.toml"), "secrets/other.key", key);
    host.kmsctl(&plan).exits(3).says(&[
        "block[state-shared]",
        "the journals know this file as the state of",
    ]);
}

#[test]
fn a_folder_that_others_may_change_is_no_home() {
    let mode = |host: &Host, path: &str, mode: u32| {
        fs::create_dir_all(host.path(path)).unwrap();
        fs::set_permissions(host.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let init = Init::haqq().with(&[("home", "/srv/kms")]);
    for (folder, bits, words) in [
        (
            "srv/kms",
            0o777,
            "/srv/kms: everybody may change this folder (0777",
        ),
        (
            "srv/kms",
            0o1777,
            "`chmod o-w /srv/kms`, or name another place",
        ),
        ("srv", 0o777, "/srv: everybody may change this folder (0777"),
    ] {
        let host = host("haqq_11235-1");
        mode(&host, "srv/kms", 0o700);
        mode(&host, folder, bits);
        refused(
            &host,
            &init,
            3,
            &[words, "another key or an older state file"],
        );
        mode(&host, folder, 0o755);
        init.run(&host).exits(0);
    }
    // Below a folder such as /tmp nobody moves what is another's.
    let host = host("haqq_11235-1");
    mode(&host, "srv/kms", 0o700);
    mode(&host, "srv", 0o1777);
    init.run(&host).exits(0);
    // Of a fleet as well.
    let host = super::host("haqq_11235-1");
    host.write("srv/kms/other", "");
    mode(&host, "srv/kms", 0o757);
    refused(
        &host,
        &init.clone().with(&[("name", "01")]),
        3,
        &["everybody may change"],
    );
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (folder, owner, group, bits, words) in [
        (
            "srv/kms",
            Some(4000),
            None,
            0o700,
            &[
                "/srv/kms: 4000 may change this folder (0700 4000:",
                "`chown root /srv/kms`",
            ][..],
        ),
        (
            "srv",
            Some(4000),
            None,
            0o755,
            &["/srv: 4000 may change", "name another place, or the --user"],
        ),
        (
            "srv/kms",
            None,
            Some(4000),
            0o770,
            &[
                "/srv/kms: the group 4000 may change",
                "`chmod g-w /srv/kms`",
            ],
        ),
    ] {
        let host = super::host("haqq_11235-1");
        mode(&host, "srv/kms", 0o700);
        std::os::unix::fs::chown(host.path(folder), owner, group).unwrap();
        mode(&host, folder, bits);
        refused(&host, &init, 3, words);
    }
    // Its user's own.
    let host = super::host("haqq_11235-1");
    mode(&host, "srv/kms", 0o770);
    std::os::unix::fs::chown(host.path("srv/kms"), Some(2000), Some(2000)).unwrap();
    init.with(&[("user", "tmkms")]).run(&host).exits(0);
}
