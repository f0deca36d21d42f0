//! The Commercio guide's own config, read and edited into the guide's new one.

use tmkms_core::{Config, Edit, KeyRef, Spanned, apply};

const OLD: &str = include_str!("guide/old.toml");
const NEW: &str = include_str!("guide/new.toml");

fn edits(text: &str) -> Vec<Edit> {
    let config = Config::parse(text).expect("sound");
    let edit = |at: &Spanned<String>, to: &str| Edit::string(text, at, to).expect("sound");
    let mut edits: Vec<Edit> = config
        .places_of("commercio-2_2")
        .into_iter()
        .map(|at| edit(at, "commercio-3"))
        .collect();
    let state_file = config.chains[0].state_file.as_ref().expect("sound");
    edits.push(edit(
        state_file,
        &state_file.value.replace("state01.json", "state01.v3.json"),
    ));
    edits.push(edit(
        config.validators[0]
            .protocol_version
            .as_ref()
            .expect("sound"),
        "v0.34",
    ));
    edits
}

#[test]
fn becomes_the_new_config_byte_for_byte() {
    assert_eq!(apply(OLD, &edits(OLD)).unwrap(), NEW);
    assert!(NEW.contains("key = 1 }] \n"), "the guide's trailing blank");
}

#[test]
fn keeps_carriage_returns_comments_and_a_missing_last_newline() {
    let dress = |text: &str| {
        text.replace("\"\n", "\" # é\n")
            .replace('\n', "\r\n")
            .trim_end()
            .to_owned()
            + "\t# end"
    };
    assert_eq!(apply(&dress(OLD), &edits(&dress(OLD))).unwrap(), dress(NEW));
    let marked = format!("\u{feff}{OLD}");
    assert_eq!(
        apply(&marked, &edits(&marked)).unwrap(),
        format!("\u{feff}{NEW}")
    );
}

#[test]
fn edits_name_their_lines_and_survive_json() {
    let mut edits = edits(OLD);
    edits.sort_by_key(|edit| edit.line);
    assert_eq!(
        edits.iter().map(|edit| edit.line).collect::<Vec<_>>(),
        [2, 4, 8, 11, 16]
    );
    assert_eq!(
        (edits[0].raw_from.as_str(), edits[0].raw_to.as_str()),
        ("\"commercio-2_2\"", "\"commercio-3\"")
    );
    let json = serde_json::to_string(&edits).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Edit>>(&json).unwrap(), edits);
}

#[test]
fn says_what_the_config_says() {
    let config = Config::parse(OLD).unwrap();
    assert_eq!(config.chain_ids(), ["commercio-2_2"]);
    assert_eq!(config.unknown, []);
    assert_eq!(config.secret_spans(), []);
    let key = KeyRef::Yubihsm {
        serial: Some("9876543210".to_owned()),
        connector: "tcp://127.0.0.1:12345".to_owned(),
        key: 1,
    };
    assert_eq!(key.to_string(), "YubiHSM 9876543210 key 1");
    assert_eq!(config.keys_for("commercio-2_2"), [key]);
    assert_eq!(config.keys_for("commercio-3"), []);
    let lines = (
        config.chains[0].line,
        config.validators[0].line,
        config.yubihsm[0].line,
    );
    assert_eq!(lines, (1, 6, 13));
}
