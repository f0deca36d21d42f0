//! No secret in a value, an error or a redacted text, however the config around it is written or broken.

use tmkms_core::{Config, redacted, secret_spans};

const SECRET: &str = "hunter2-Xyzzy";

const CONFIGS: [&str; 4] = [
    "[[chain]]\nid = \"a-1\"\nkey_format = { type = \"hex\" }\n\n[[providers.yubihsm]]\nadapter = { type = \"usb\" }\nauth = { key = 1, password = \"hunter2-Xyzzy\" } # why\nkeys = [{ chain_ids = [\"a-1\"], key = 1 }]\n",
    "[[providers.yubihsm]]\nadapter.type = 'usb'\n[providers.yubihsm.auth]\nkey = 1\npassword = '''hunter2-Xyzzy'''\n",
    "[[providers.fortanixdsm]]\napi_endpoint = \"https://x\"\napi_key = \"hunter2-Xyzzy\"\nsigning_keys = []\n",
    "[[providers.yubihsm]]\nadapter = { type = \"usb\" }\n# auth = { key = 1, password = \"hunter2-Xyzzy\" }\nauth = { key = 1, password_file = \"/p#x\" }\n",
];

/// Fails where the secret can be read from anything the crate says about a text.
fn assert_silent(text: &str) {
    match Config::parse(text) {
        Ok(config) => {
            assert!(!format!("{config:?}").contains(SECRET), "Debug of\n{text}");
            assert!(
                !redacted(text, &config.secret_spans()).contains(SECRET),
                "redacted\n{text}"
            );
        }
        Err(error) => assert!(
            !format!("{error} {error:?}").contains(SECRET),
            "{error}\n{text}"
        ),
    }
    match secret_spans(text) {
        Ok(spans) => {
            assert!(
                spans.is_sorted_by(|a, b| a.end <= b.start),
                "{spans:?}\n{text}"
            );
            assert!(!redacted(text, &spans).contains(SECRET), "redacted\n{text}");
        }
        Err(error) => assert!(
            !format!("{error} {error:?}").contains(SECRET),
            "{error}\n{text}"
        ),
    }
}

#[test]
fn every_broken_version_stays_silent() {
    for config in CONFIGS {
        assert!(Config::parse(config).is_ok(), "{config}");
        assert_silent(config);
        let secrets: Vec<_> = config
            .match_indices(SECRET)
            .map(|(start, _)| start..start + SECRET.len())
            .collect();
        for at in (0..config.len()).filter(|at| secrets.iter().all(|secret| !secret.contains(at))) {
            let (before, after) = config.split_at(at);
            assert_silent(before);
            assert_silent(&after[1..]);
            assert_silent(&format!("{before}{}", &after[1..]));
            for new in [
                "\"", "'", "=", "#", "[", "]", "{", "}", ",", ".", "\n", "\\", "x", "0", " ", "\0",
            ] {
                assert_silent(&format!("{before}{new}{}", &after[1..]));
                assert_silent(&format!("{before}{new}{after}"));
            }
        }
    }
}

#[test]
fn misplaced_and_misspelt_fields_are_secrets_too() {
    for text in [
        "[providers]\n[[provider.yubihsm]]\nauth = { key = 1, password = 'hunter2-Xyzzy' }",
        "password = \"hunter2-Xyzzy\"\n[providers]",
        "[providers]\n[x]\npassword = { path = 'hunter2-Xyzzy' }",
        "[providers]\nx = [['hunter2-Xyzzy'], { path = 'hunter2-Xyzzy' }]",
        "[providers]\npassword_ = \"\"\"\nhunter2-Xyzzy\"\"\"",
        "[providers] # API key hunter2-Xyzzy",
        "[providers] # Password: hunter2-Xyzzy",
        "[providers]\n#pass = 'hunter2-Xyzzy'",
    ] {
        assert!(Config::parse(text).is_ok(), "{text}");
        assert_silent(text);
    }
}

#[test]
fn what_is_left_is_the_rest_of_the_config() {
    let text = CONFIGS[0];
    let config = Config::parse(text).unwrap();
    let spans = config.secret_spans();
    assert_eq!(
        spans[0],
        config.yubihsm[0].auth.password_span.clone().unwrap()
    );
    assert_eq!((spans.len(), &text[spans[1].clone()]), (2, " why"));
    let clean = redacted(text, &spans);
    assert_eq!(
        clean,
        text.replace(SECRET, "<secret>")
            .replace("# why", "#\"<secret>\"")
    );
    assert!(
        Config::parse(&clean).unwrap().yubihsm[0]
            .auth
            .has_inline_password
    );
    let commented = redacted(CONFIGS[3], &secret_spans(CONFIGS[3]).unwrap());
    assert!(commented.contains("\n#\"<secret>\"\nauth = { key = 1, password_file = \"/p#x\" }\n"));
    let public = "# tmkms of commercio, state_file = x # y\n[providers]\n";
    assert_eq!(secret_spans(public), Ok(vec![]));
}

#[test]
fn redacting_takes_any_spans() {
    for (spans, expected) in [
        (vec![(1, 2)], "a\"<secret>\"éd"),
        (vec![(1, 2), (1, 3)], "a\"<secret>\"d"),
        (vec![(3, 4)], "ab\"<secret>\"d"),
        (vec![(2, 99)], "ab\"<secret>\""),
        (vec![(50, 99)], "abéd"),
        (vec![(0, 1), (1, 2)], "\"<secret>\"\"<secret>\"éd"),
        (vec![(1, 1)], "abéd"),
    ] {
        let ranges: Vec<_> = spans.iter().map(|(start, end)| *start..*end).collect();
        assert_eq!(redacted("abéd", &ranges), expected, "{spans:?}");
    }
}
