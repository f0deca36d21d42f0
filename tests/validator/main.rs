//! `validator` on the config.toml of several CometBFT and Tendermint versions: three lines change and nothing else does, by
//! a byte; `--undo` brings every byte back; `--check` writes nothing; what is no validator's config.toml is refused.
//!
//! Where the files come from: configs/README.md.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../init/key.rs"]
mod key;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use support::{Host, Said};

const CONFIG: &str = "home/v/.appd/config/config.toml";
const BACKUP: &str = "home/v/.appd/config/config.toml.kmsctl-backup";
const LADDR: &str = "tcp://0.0.0.0:26658";
const VERSIONS: [(&str, &str); 7] = [
    (
        "tendermint-0.33",
        include_str!("configs/tendermint-0.33.toml"),
    ),
    (
        "tendermint-0.34",
        include_str!("configs/tendermint-0.34.toml"),
    ),
    (
        "tendermint-0.35",
        include_str!("configs/tendermint-0.35.toml"),
    ),
    ("cometbft-0.38", include_str!("configs/cometbft-0.38.toml")),
    ("cometbft-1.0", include_str!("configs/cometbft-1.0.toml")),
    ("cometbft-0.34", include_str!("configs/cometbft-0.34.toml")),
    ("cometbft-0.37", include_str!("configs/cometbft-0.37.toml")),
];

fn host(text: &str) -> Host {
    let host = Host::bare();
    host.write(CONFIG, text);
    host
}

fn validator(host: &Host, words: &[&str]) -> Said {
    let config = format!("/{CONFIG}");
    host.kmsctl(&[&["validator", "--config", &config, "--yes"], words].concat())
}

/// What an operator would do with an editor.
fn by_hand(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.split(" = ").next() {
            Some(
                "priv_validator_key_file" | "priv_validator_state_file" | "key-file" | "state-file",
            ) => {
                format!("# {line}")
            }
            Some("priv_validator_laddr") => line.replacen("\"\"", &format!("\"{LADDR}\""), 1),
            // Only [priv-validator]'s is empty.
            Some("laddr") => line.replacen("\"\"", &format!("\"{LADDR}\""), 1),
            _ => line.to_owned(),
        })
        .collect()
}

#[test]
fn three_lines_change_and_come_back() {
    for (version, text) in VERSIONS {
        for text in [
            text.to_owned(),
            text.replace('\n', "\r\n"),
            text.replace(" = ", " =  ").replace(" =  ", " = ") + "# end",
        ] {
            let host = host(&text);
            fs::set_permissions(host.path(CONFIG), fs::Permissions::from_mode(0o640)).unwrap();
            let before = host.tree();
            validator(&host, &["--laddr", LADDR, "--check"])
                .exits(0)
                .says(
                    &["+priv_validator_laddr", "signs with its own key file"].map(|w| {
                        if version == "tendermint-0.35" {
                            w.trim_start_matches("+priv_validator_")
                        } else {
                            w
                        }
                    }),
                );
            assert_eq!(host.tree(), before, "{version}: --check wrote");
            validator(&host, &["--laddr", LADDR])
                .exits(0)
                .says(&["waits for its signer at tcp://0.0.0.0:26658", "--undo"]);
            assert_eq!(host.read(CONFIG), by_hand(&text), "{version}");
            assert_eq!(host.read(BACKUP), text, "{version}");
            let tree = host.tree();
            assert_eq!(
                tree[std::path::Path::new(CONFIG)].mode & 0o7777,
                0o640,
                "{version}"
            );
            // Again: nothing is left to do.
            validator(&host, &["--laddr", LADDR]).exits(0);
            assert_eq!(host.tree(), tree, "{version}");
            validator(&host, &["--undo"])
                .exits(0)
                .says(&["is as it was"]);
            assert_eq!(host.read(CONFIG), text, "{version}");
        }
    }
}

#[test]
fn a_line_that_isn_t_there_is_put_beside_the_others() {
    let text = VERSIONS[1].1.replace("priv_validator_laddr = \"\"\n", "");
    let host = host(&text);
    validator(&host, &["--laddr", LADDR]).exits(0);
    let changed = host.read(CONFIG);
    let line = format!(
        "# priv_validator_state_file = \"data/priv_validator_state.json\"\npriv_validator_laddr = \"{LADDR}\"\n"
    );
    assert!(changed.contains(&line), "{changed}");
    assert_eq!(
        changed
            .replace(&format!("priv_validator_laddr = \"{LADDR}\"\n"), "")
            .replace("# priv_", "priv_"),
        text
    );
    // Neither of the three is there: before the first table.
    let text = "proxy_app = \"x\"\n\n[p2p]\n[consensus]\n";
    let host = self::host(text);
    validator(&host, &["--laddr", LADDR]).exits(0);
    assert_eq!(
        host.read(CONFIG),
        format!("proxy_app = \"x\"\npriv_validator_laddr = \"{LADDR}\"\n\n[p2p]\n[consensus]\n")
    );
}

#[test]
fn what_was_changed_since_isn_t_lost() {
    let host = host(VERSIONS[1].1);
    validator(&host, &["--laddr", LADDR]).exits(0);
    host.edit(CONFIG, "moniker = \"validator-1\"", "moniker = \"other\"");
    let before = host.tree();
    validator(&host, &["--undo"])
        .exits(3)
        .says(&["it was changed since", "+moniker = \"other\""]);
    validator(&host, &["--laddr", "tcp://10.0.0.1:1"])
        .exits(3)
        .says(&["kmsctl-backup is there already", "--undo"]);
    assert_eq!(host.tree(), before);
    host.edit(CONFIG, "moniker = \"other\"", "moniker = \"validator-1\"");
    validator(&host, &["--undo"]).exits(0);
    let fresh = self::host(VERSIONS[1].1);
    validator(&fresh, &["--undo"])
        .exits(3)
        .says(&["kmsctl-backup isn't there"]);
}

#[test]
fn it_says_what_endangers_the_validator() {
    let host = host(VERSIONS[3].1);
    for name in [
        "config/priv_validator_key.json",
        "config/priv_validator_key.json.bak",
        "data/old_priv_validator_key.json",
    ] {
        host.write(&format!("home/v/.appd/{name}"), &key::file());
    }
    host.write("home/v/.appd/priv_validator_key.txt", "gone\n");
    host.edit(CONFIG, "check_height = 0", "check_height = 10");
    let before = host.tree();
    let address = format!("the key of validator {}", key::address());
    validator(
        &host,
        &["--check", "--laddr", LADDR, "--signer", "10.1.1.9"],
    )
    .exits(0)
    .says(&[
        &format!("/home/v/.appd/config/priv_validator_key.json: {address}"),
        &format!("/home/v/.appd/config/priv_validator_key.json.bak: {address}"),
        &format!("/home/v/.appd/data/old_priv_validator_key.json: {address}"),
        "/home/v/.appd/priv_validator_key.txt: can't be read",
        "/home/v/.appd/data/priv_validator_state.json",
        "ufw allow from 10.1.1.9 to any port 26658 proto tcp",
        "double_sign_check_height = 10",
        "one encrypted medium",
    ]);
    assert_eq!(host.tree(), before);
    // A listener that only one address reaches needs no rule.
    for (laddr, open) in [
        ("tcp://[::]:26658", true),
        ("tcp://:26658", true),
        ("tcp://10.1.1.1:26658", false),
        ("tcp://127.0.0.1:26658", false),
    ] {
        let said = validator(&host, &["--check", "--laddr", laddr]).exits(0);
        assert_eq!(
            said.all().contains("ufw allow from SIGNER_ADDRESS"),
            open,
            "{laddr}"
        );
    }
    let elsewhere = self::host(VERSIONS[4].1);
    elsewhere.edit(
        CONFIG,
        "\"config/priv_validator_key.json\"",
        "\"/secrets/priv_validator_key.json\" # kept apart",
    );
    elsewhere.write("secrets/priv_validator_key.json", &key::file());
    validator(&elsewhere, &["--check"])
        .exits(0)
        .says(&["/secrets/priv_validator_key.json: the key of"]);
}

#[test]
fn what_is_no_validator_s_config_is_refused() {
    let whole = VERSIONS[1].1;
    for (text, words) in [
        (
            "[[chain]]\n[[validator]]\n[providers]\n".to_owned(),
            &["a signer's tmkms.toml"][..],
        ),
        ("minimum-gas-prices = \"0\"\n".into(), &["its app.toml"]),
        ("keyring-backend = \"os\"\n".into(), &["its client.toml"]),
        ("x = 1\n".into(), &["no [p2p] and [consensus]"]),
        (whole.replace("[p2p]", "[p2p"), &["line ", "isn't TOML"]),
        (
            whole.replace("laddr = \"\"", "laddr = 1"),
            &["priv_validator_laddr is no text"],
        ),
        (
            whole.replace(
                "\"data/priv_validator_state.json\"",
                "\"\"\"data/\npriv\"\"\"",
            ),
            &["several lines"],
        ),
        (String::new(), &["no [p2p]"]),
    ] {
        let host = host(&text);
        let before = host.tree();
        let place = format!("/{CONFIG}: ");
        validator(&host, &["--laddr", LADDR])
            .exits(3)
            .says(&[&[place.as_str()], words].concat());
        assert_eq!(host.tree(), before, "{text}");
    }
    let host = host(whole);
    for laddr in [
        "tcp://0.0.0.0",
        "0.0.0.0:26658",
        "tcp://0.0.0.0:0",
        "tcp://a b:1",
        "tcp://\"x\":1",
        "unix:///x",
        "tcp://0.0.0.0:",
        "tcp://0.0.0.0:+26658",
        "tcp://0.0.0.0:65536",
        "tcp://0.0.0.0:26658/",
        "tcp://0:26658",
        "tcp://0.0.0:26658",
        "tcp://10.1.1.256:26658",
        "tcp://::1:26658",
        "tcp://[::1:26658",
        "tcp://id@10.1.1.1:26658",
        "tcp:0.0.0.0:26658",
        "TCP://0.0.0.0:26658",
        "grpc://0.0.0.0:26658",
        "http://0.0.0.0:26658",
        "",
    ] {
        let said = validator(&host, &["--laddr", laddr]).exits(2);
        said.says(&[laddr, "an address such as tcp://0.0.0.0:26658 is meant"]);
    }
    validator(&host, &["--laddr", "0.0.0.0:26658"])
        .exits(2)
        .says(&["though CometBFT takes it so"]);
    assert_eq!(host.read(CONFIG), whole);
    validator(&host, &[]).exits(2).says(&["--laddr"]);
    symlink("config.toml", host.path("home/v/.appd/config/link.toml")).unwrap();
    for (path, words) in [
        ("/home/v/.appd/config/link.toml", "is a link to config.toml"),
        ("/home/v/.appd/config/none.toml", "isn't there"),
        ("/home/v/.appd/config", "a validator's config.toml is meant"),
        ("/home/v/../v/config.toml", "climbs"),
    ] {
        let said = host
            .kmsctl(&["validator", "--config", path, "--check"])
            .says(&[words]);
        assert_ne!(said.code, 0, "{path}");
    }
}

/// An address that stands there already is understood as CometBFT understands it: without a scheme it is tcp.
#[test]
fn an_address_that_is_set_is_read_as_a_node_reads_it() {
    for (laddr, open, wrong) in [
        ("tcp://0.0.0.0:26658", true, ""),
        ("0.0.0.0:26658", true, ""),
        (":26658", true, ""),
        ("[::]:26658", true, ""),
        ("10.1.1.1:26658", false, ""),
        ("127.0.0.1:26658", false, ""),
        ("unix:///run/signer.sock", false, ""),
        ("unix://signer.sock", false, ""),
        ("http://0.0.0.0:26658", false, "of the kind"),
        ("TCP://0.0.0.0:26658", false, "of the kind"),
        ("0.0.0.0", false, "has no port"),
        ("tcp://0.0.0.0", false, "has no port"),
        ("tcp://0.0.0.0:0", false, "has port 0"),
        ("tcp://::1:26658", false, "a host that is none"),
    ] {
        let text = VERSIONS[3]
            .1
            .replace("laddr = \"\"", &format!("laddr = \"{laddr}\""));
        let host = host(&text);
        let before = host.tree();
        let said = validator(&host, &["--check"]).exits(0);
        let all = said.all();
        assert_eq!(all.contains("ufw allow from"), open, "{laddr}: {all}");
        let told = all.contains("No signer comes to it there") && all.contains(wrong);
        assert_eq!(told, !wrong.is_empty(), "{laddr}: {all}");
        let json: serde_json::Value =
            serde_json::from_str(&validator(&host, &["--check", "--json"]).exits(0).out).unwrap();
        assert_eq!(json["laddr"], laddr);
        assert_eq!(json["laddr_wrong"].is_null(), wrong.is_empty(), "{json}");
        assert_eq!(host.tree(), before, "{laddr}");
        // What is wrong there is mended, and comes back.
        validator(&host, &["--laddr", LADDR]).exits(0);
        assert!(!validator(&host, &["--check"]).all().contains("No signer"));
        validator(&host, &["--undo"]).exits(0);
        assert_eq!(host.read(CONFIG), text, "{laddr}");
    }
}

/// No config and no unit reads it.
#[test]
fn a_validator_s_home_may_be_called_anything() {
    let (_, text) = VERSIONS[VERSIONS.len() - 1];
    let host = Host::bare();
    let config = "home/k\u{f6}nig & co/.chain d/config/config.toml";
    host.write(config, text);
    let named = format!("/{config}");
    let to_signer = ["validator", "--config", &named, "--yes"];
    host.kmsctl(&[&to_signer[..], &["--laddr", LADDR]].concat())
        .exits(0);
    assert_eq!(host.read(config), by_hand(text));
}
