//! The parts against the real tmkms named by `KMSCTL_LAB_TMKMS`: what they call signed, refused and wrong must be so.

#![expect(clippy::expect_used, reason = "a test ends where its setup fails")]

mod bench;

use bench::{Part, Signer};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const CHAIN: &str = "commercio-2_2";

fn block(byte: u8) -> String {
    hex::encode([byte; 32])
}

fn why(answer: &Value) -> &str {
    answer["why"]
        .as_str()
        .unwrap_or_else(|| panic!("no why: {answer}"))
}

#[test]
fn softsign_v0_34() {
    let mut validator = Part::validator("127.0.0.1", CHAIN, "v0.34", &[]);
    let signer = Signer::softsign(CHAIN, "v0.34", validator.address());
    works_through_a_restart(&mut validator, signer);
}

#[test]
fn softsign_v0_33() {
    let mut validator = Part::validator("127.0.0.2", CHAIN, "v0.33", &[]);
    let signer = Signer::softsign(CHAIN, "v0.33", validator.address());
    works_through_a_restart(&mut validator, signer);
}

#[test]
fn yubihsm_v0_34() {
    yubihsm("v0.34");
}

#[test]
fn yubihsm_v0_33() {
    yubihsm("v0.33");
}

fn yubihsm(protocol: &str) {
    let mut hsm = Part::yubihsm("1,2,3");
    let key = hsm.hello["public_keys"]["2"]
        .as_str()
        .expect("key 2")
        .to_owned();
    let mut validator = Part::validator("127.0.0.3", CHAIN, protocol, &["--public-key", &key]);
    let signer = Signer::yubihsm(
        CHAIN,
        protocol,
        &validator.address_with_id(),
        hsm.address(),
        2,
    );
    works_through_a_restart(&mut validator, signer);
    assert_eq!(validator.connected(0)["connected"], false);
    assert!(hsm.end().success());
}

fn works_through_a_restart(validator: &mut Part, mut signer: Signer) {
    assert_eq!(validator.connected(0)["connected"], false);
    signer.start();
    let there = validator.connected(10_000);
    assert_eq!(there["connected"], true, "{there}\n{}", signer.log());
    assert_eq!(there["connections"], 1);

    for (kind, height, block) in [
        ("proposal", 1, block(0xaa)),
        ("prevote", 1, block(0xaa)),
        ("precommit", 1, block(0xaa)),
        ("prevote", 2, String::new()),
        ("precommit", 2, String::new()),
        ("precommit", 2_233_550, block(0xbb)),
        // A request again, as after a lost answer, is signed again.
        ("precommit", 2_233_550, block(0xbb)),
    ] {
        let answer = validator.sign(kind, height, 0, &block);
        assert_eq!(
            answer["signed"],
            true,
            "{kind} {height}: {answer}\n{}",
            signer.log()
        );
        assert_eq!(answer["height"], height);
        assert_eq!(answer["public_key"], there["public_key"]);
    }

    for other in [block(0xcc), String::new()] {
        let answer = validator.sign("precommit", 2_233_550, 0, &other);
        assert_eq!(answer["signed"], false, "{answer}");
        assert!(why(&answer).starts_with("refused: "), "{answer}");
        assert!(answer.get("conflict").is_none());
    }
    // tmkms closes the session over a lower height, and comes back a second later.
    let answer = validator.sign("precommit", 2_233_549, 0, &block(0xcc));
    assert!(
        why(&answer).starts_with("refused: the connection closed"),
        "{answer}\n{}",
        signer.log()
    );

    let answer = validator.run(2_233_551, 2_233_570);
    assert_eq!(
        answer,
        json!({ "signed": true, "last": 2_233_570, "count": 40 }),
        "{}",
        signer.log()
    );

    signer.stop();
    signer.start();
    let answer = validator.run(2_233_571, 2_233_572);
    assert_eq!(
        answer,
        json!({ "signed": true, "last": 2_233_572, "count": 4 }),
        "{}",
        signer.log()
    );

    // The state file still holds.
    let answer = validator.sign("precommit", 2_233_572, 0, &block(0xcc));
    assert!(why(&answer).starts_with("refused: "), "{answer}");
    let answer = validator.run(2_233_572, 2_233_573);
    assert_eq!(
        (&answer["signed"], &answer["height"]),
        (&json!(false), &json!(2_233_572)),
        "{answer}"
    );

    signer.stop();
    let prevote = json!({ "type": "prevote", "height": 2_233_573, "block": "", "within_ms": 500 });
    let answer = validator.tell(&json!({ "sign": prevote }).to_string());
    assert!(
        why(&answer).starts_with("no signer connected in time"),
        "{answer}"
    );
    let votes = validator.tell(r#"{"votes":{}}"#);
    assert_eq!(
        votes["votes"].as_array().map(Vec::len),
        Some(7 + 40 + 4),
        "{votes}"
    );
    assert_eq!(votes["votes"][0]["type"], "proposal");
    assert_eq!(votes["votes"][3]["block"], "");
}

#[test]
fn another_chain_id_does_not_verify() {
    for protocol in ["v0.33", "v0.34"] {
        let mut validator = Part::validator("127.0.0.4", "commercio-3", protocol, &[]);
        let mut signer = Signer::softsign(CHAIN, protocol, validator.address());
        signer.start();
        for (kind, height) in [("proposal", 1), ("prevote", 2), ("precommit", 3)] {
            let answer = validator.sign(kind, height, 0, &block(0xaa));
            assert_eq!(answer["signed"], false);
            assert_eq!(
                why(&answer),
                "signature does not verify",
                "{}",
                signer.log()
            );
        }
        assert_eq!(validator.tell(r#"{"votes":{}}"#), json!({ "votes": [] }));
    }
}

#[test]
fn another_key_is_not_asked() {
    let hsm = Part::yubihsm("7");
    let expected = hsm.hello["public_keys"]["7"].as_str().expect("key 7");
    let mut validator = Part::validator("127.0.0.5", CHAIN, "v0.34", &["--public-key", expected]);
    let mut signer = Signer::softsign(CHAIN, "v0.34", validator.address());
    signer.start();
    let answer = validator.connected(10_000);
    assert_eq!(answer["connected"], false);
    assert!(why(&answer).starts_with("another public key"), "{answer}");
    assert!(why(&validator.sign("prevote", 1, 0, "")).starts_with("another public key"));
}

#[test]
fn another_protocol_is_said_to_be_one() {
    let mut validator = Part::validator("127.0.0.6", CHAIN, "v0.34", &[]);
    let mut signer = Signer::softsign(CHAIN, "v0.33", validator.address());
    signer.start();
    let answer = validator.connected(4_000);
    assert_eq!(answer["connected"], false);
    assert!(why(&answer).contains("handshake: "), "{answer}");
}

#[test]
fn a_double_sign_is_never_forgotten() {
    let mut validator = Part::validator("127.0.0.7", CHAIN, "v0.34", &[]);
    let mut first = Signer::softsign(CHAIN, "v0.34", validator.address());
    let mut second = first.twin(CHAIN, "v0.34", validator.address());
    first.start();
    assert_eq!(
        validator.sign("precommit", 9, 2, &block(0xaa))["signed"],
        true
    );
    // The other one, without the first one's state file, while the first is still connected.
    second.start();
    let deadline = Instant::now() + Duration::from_secs(10);
    while validator.connected(0)["connections"] != 2 {
        assert!(Instant::now() < deadline, "{}", second.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = validator.sign("precommit", 9, 2, &block(0xbb));
    assert_eq!(answer["signed"], true, "{answer}");
    assert!(
        answer["conflict"]
            .as_str()
            .is_some_and(|text| text.contains("precommits at 9/2")),
        "{answer}"
    );
    let answer = validator.run(10, 12);
    assert!(
        answer["signed"] == false && why(&answer).starts_with("double sign"),
        "{answer}"
    );
    assert!(validator.tell(r#"{"votes":{}}"#)["conflict"].is_string());
    // The newest is gone: the one that is left is asked.
    second.stop();
    assert_eq!(validator.connected(0)["connections"], 1);
}

#[test]
fn nonsense_is_survived() {
    let mut validator = Part::validator("127.0.0.8", CHAIN, "v0.33", &[]);
    for bytes in [
        &[0_u8; 64][..],
        &[0xff; 4096],
        b"GET / HTTP/1.1\r\n\r\n",
        &[],
    ] {
        let mut peer = TcpStream::connect(validator.address()).expect("connecting");
        peer.write_all(bytes).expect("writing nonsense");
    }
    let proposal = r#"{"sign":{"type":"proposal","height":1,"round":0,"block":""}}"#;
    let high = r#"{"sign":{"type":"prevote","height":18446744073709551615,"round":0,"block":""}}"#;
    for wrong in [
        "",
        "nonsense",
        "{}",
        r#"{"run":{"from":2,"to":1}}"#,
        proposal,
        high,
        "\u{0}",
    ] {
        let answer = validator.tell(wrong);
        assert!(answer["error"].is_string(), "{wrong}: {answer}");
    }
    // A peer that says nothing holds nothing up.
    let _silent = TcpStream::connect(validator.address()).expect("connecting");
    let mut signer = Signer::softsign(CHAIN, "v0.33", validator.address());
    signer.start();
    assert_eq!(validator.run(1, 3)["signed"], true, "{}", signer.log());
    assert!(validator.end().success());
}
