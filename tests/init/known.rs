//! One key signs a chain from one process, with one state file, whatever its file is called: what other signers' keys, the
//! journals and unreadable files say of that.

use std::fs;

use super::refused::refused;
use super::support::{Host, UNITS};
use super::{HEIGHT, Init, KEY, STATE, host, key};

/// A host with a signer of another key on the same chain, and the path of that key.
fn beside_another() -> (Host, String) {
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
    refused(
        &host,
        &Init::haqq(),
        3,
        &[
            "/srv/other/tmkms.toml:",
            "until then nobody knows whether it signs",
        ],
    );
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
