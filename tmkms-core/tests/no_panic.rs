//! Arbitrary text and mutated sound text: an answer every time, never a panic.

use proptest::prelude::*;
use proptest::test_runner::Config as Cases;
use tmkms_core::{ChainId, Config, Edit, SignState, TmkmsVersion, apply, redacted, secret_spans};

const SOUND: [&str; 4] = [
    include_str!("guide/old.toml"),
    "[providers]\nsoftsign = [{ chain_ids = ['a', \"b\"], key_type = 'consensus', path = '''x''' }]\r\n",
    "[[providers.yubihsm]]\nadapter.type = 'usb'\nauth.key = 1\nauth.password = \"\"\"\nx\"\"\" # password\n[[providers.yubihsm.keys]]\nchain_ids = []\nkey = 0x1f\n",
    r#"{"height":"200","round":"1","step":2,"block_id":{"hash":"","parts":{"total":1,"hash":""}}}"#,
];

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"\"'=#[]{}.,\n\r\\ \t0-:e".to_vec())
    ];
    let change = (0..4_u8, any::<prop::sample::Index>(), bytes);
    (
        prop::sample::select(&SOUND[..]),
        prop::collection::vec(change, 1..5),
    )
        .prop_map(|(text, changes)| {
            let mut text = text.as_bytes().to_vec();
            for (kind, index, byte) in changes.into_iter() {
                let at = index.index(text.len() + 1);
                match kind {
                    0 => text.insert(at, byte),
                    1 if at < text.len() => text[at] = byte,
                    2 if at < text.len() => drop(text.remove(at)),
                    _ => text.truncate(at.max(text.len() / 2)),
                }
            }
            text
        })
}

/// Runs everything on one input; what is taken as a config must also be editable.
fn run_all(bytes: &[u8]) {
    if let Err(error) = SignState::parse(bytes) {
        assert!(!error.to_string().is_empty());
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = (text.parse::<ChainId>(), text.parse::<TmkmsVersion>());
    let spans = secret_spans(text).unwrap_or_default();
    let _ = redacted(text, &spans);
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(error) => {
            return assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1);
        }
    };
    assert_eq!(config.secret_spans(), spans);
    let mut ids: Vec<&str> = config.chain_ids();
    ids.extend(["a", "b", "commercio-2_2"]);
    ids.dedup();
    for id in ids {
        let edits: Result<Vec<Edit>, _> = config
            .places_of(id)
            .into_iter()
            .map(|place| Edit::string(text, place, "new-3"))
            .collect();
        let edits = edits.expect("an edit of a place just read");
        let edited = Config::parse(&apply(text, &edits).expect("apply")).expect("an edited config");
        assert!(edited.places_of("new-3").len() >= edits.len());
        assert!(id == "new-3" || edited.places_of(id).is_empty());
    }
}

proptest! {
    #![proptest_config(Cases { cases: 2000, failure_persistence: None, ..Cases::default() })]

    #[test]
    fn mutated_files_get_an_answer(bytes in mutated()) {
        run_all(&bytes);
    }

    #[test]
    fn arbitrary_text_gets_an_answer(text in ".{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        run_all(text.as_bytes());
        run_all(&bytes);
    }

    #[test]
    fn chain_ids_keep_their_text(text in "[a-z0-9._-]{1,50}") {
        let id: ChainId = text.parse().expect("the charset");
        prop_assert!(id.as_str().starts_with(id.name()) && !id.name().is_empty());
        if let Some(revision) = id.revision() {
            prop_assert_eq!(format!("{}-{}", id.name(), revision), text);
        }
    }

    #[test]
    fn any_value_can_be_written(to in "\\PC{0,20}", quote in prop::sample::select(vec!["\"x\"", "'x'", "'''x'''"])) {
        let text = format!("providers.softsign = [{{ chain_ids = [], path = {quote} }}]");
        let config = Config::parse(&text).expect("sound");
        let edit = Edit::string(&text, &config.softsign[0].path, &to).expect("no control characters");
        let edited = Config::parse(&apply(&text, &[edit]).expect("apply")).expect("sound");
        prop_assert_eq!(&edited.softsign[0].path.value, &to);
    }
}

#[test]
fn deep_nesting_gets_an_answer() {
    for open in ["[", "{\"a\":", "a=[", "a={a=", "[a.", "a."] {
        run_all(open.repeat(100_000).as_bytes());
        run_all(format!("[providers]\nx = {}", open.repeat(10_000)).as_bytes());
    }
}
