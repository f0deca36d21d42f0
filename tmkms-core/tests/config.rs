//! Every table of a config, the shapes it may be written in, and what is refused and where.

use tmkms_core::config::{Adapter, KeyFormat, KeyType, SoftsignFormat};
use tmkms_core::{Config, KeyRef};

const FULL: &str = r#"
[[chain]]
id = "a-1"
key_format = { type = "hex" }
state_hook = { cmd = ["true"], timeout_secs = 1, fail_closed = true }

[[chain]]
id = 'b-2'
key_format = { type = "cosmos-json", more = 1 }
sign_extensions = true
state_file = "b.json"

[[validator]]
addr = "unix:///run/a.sock"
chain_id = "a-1"

[[validator]]
addr = "tcp://0123456789012345678901234567890123456789@h:1"
chain_id = "b-2"
reconnect = false
timeout = 65535
max_height = "12"
protocol_version = "v9"

[[providers.softsign]]
chain_ids = ["a-1", "c-3"]
path = "/k/a"

[[providers.softsign]]
chain_ids = ["a-1"]
key_type = "account"
key_format = "json"
path = "/k/b"

[[providers.yubihsm]]
adapter = { type = "usb" }
auth = { key = 2, password = "hunter2" }
keys = [
    { chain_ids = ["b-2"], key = 65535 }, # one
    { chain_ids = ["b-2", "a-1"], type = "account", key = 3 },
]

[[providers.ledgertm]]
chain_ids = ["b-2"]

[[providers.fortanixdsm]]
api_endpoint = "https://dsm"
api_key = "hunter3"
signing_keys = [{ chain_ids = ["b-2"], key_name = "n" }, { chain_ids = ["a-1"], key_id = "i", type = "consensus" }]
"#;

#[test]
fn reads_every_field() {
    let config = Config::parse(FULL).unwrap();
    assert_eq!(config.chain_ids(), ["a-1", "b-2"]);
    let [a, b] = &config.chains[..] else {
        panic!("two chains")
    };
    assert_eq!(
        (&a.key_format, a.state_hook, a.sign_extensions),
        (&KeyFormat::Hex, true, None)
    );
    assert_eq!(
        (&b.key_format, b.state_hook, b.sign_extensions),
        (&KeyFormat::CosmosJson, false, Some(true))
    );
    assert_eq!(
        config.state_file_or_default(a),
        "a-1_priv_validator_state.json"
    );
    assert_eq!(config.state_file_or_default(b), "b.json");
    let [first, second] = &config.validators[..] else {
        panic!("two validators")
    };
    assert!(first.reconnect && first.timeout.is_none() && first.protocol_version.is_none());
    assert_eq!(
        (second.reconnect, second.timeout, second.max_height()),
        (false, Some(65535), Some(12))
    );
    assert_eq!(
        (config.softsign[1].key_type, config.softsign[1].key_format),
        (KeyType::Account, SoftsignFormat::Json)
    );
    let hsm = &config.yubihsm[0];
    assert_eq!(hsm.adapter, Adapter::Usb { timeout_ms: 1000 });
    assert_eq!(
        (
            hsm.auth.key,
            hsm.auth.has_inline_password,
            hsm.keys[1].key_type
        ),
        (2, true, KeyType::Account)
    );
    assert_eq!(
        &FULL[hsm.auth.password_span.clone().unwrap()],
        "\"hunter2\""
    );
    assert_eq!(
        &FULL[config.fortanixdsm[0].api_key_span.clone()],
        "\"hunter3\""
    );
    assert_eq!(config.unknown, []);
}

#[test]
fn names_the_consensus_keys_of_a_chain() {
    let config = Config::parse(FULL).unwrap();
    let shown = |id: &str| {
        config
            .keys_for(id)
            .iter()
            .map(KeyRef::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown("a-1"),
        ["key file /k/a", "Fortanix DSM https://dsm key i"]
    );
    assert_eq!(
        shown("b-2"),
        [
            "YubiHSM at usb key 65535",
            "Ledger",
            "Fortanix DSM https://dsm key n"
        ]
    );
    assert_eq!(shown("c-3"), ["key file /k/a"]);
    let json = serde_json::to_string(&config.keys_for("b-2")).unwrap();
    assert_eq!(
        json,
        r#"[{"yubihsm":{"serial":null,"connector":"usb","key":65535}},"ledger",{"fortanix":{"api_endpoint":"https://dsm","key":"n"}}]"#
    );
}

#[test]
fn spans_hold_the_raw_token_and_its_line() {
    for text in [
        FULL.to_owned(),
        FULL.replace('\n', "\r\n"),
        format!("\u{feff}{FULL}"),
    ] {
        let config = Config::parse(&text).unwrap();
        for id in ["a-1", "b-2", "c-3"] {
            let places = config.places_of(id);
            assert_eq!(places.len(), text.matches(id).count(), "{id}");
            for place in places {
                let raw = &text[place.span.clone()];
                assert!(
                    raw == format!("\"{id}\"") || raw == format!("'{id}'"),
                    "{raw}"
                );
                assert_eq!(
                    place.line,
                    text[..place.span.start].matches('\n').count() + 1
                );
            }
        }
    }
}

/// One YubiHSM written in the ways TOML has for it.
#[test]
fn takes_inline_tables_sub_tables_and_dotted_keys_alike() {
    for providers in [
        "[[providers.yubihsm]]\nadapter = { type = 'usb', timeout_ms = 7 }\nauth = { key = 1, password_file = 'p' }\nkeys = [{ chain_ids = ['a'], key = 1 }]",
        "[[providers.yubihsm]]\nadapter.type = 'usb'\nadapter.timeout_ms = 7\nauth.key = 1\nauth.password_file = 'p'\n[[providers.yubihsm.keys]]\nchain_ids = ['a']\nkey = 1",
        "[[providers.yubihsm]]\n[providers.yubihsm.adapter]\ntype = 'usb'\ntimeout_ms = 7\n[providers.yubihsm.auth]\nkey = 1\npassword_file = 'p'\n[[providers.yubihsm.keys]]\nchain_ids = ['a']\nkey = 1",
        "[providers]\nyubihsm = [{ adapter = { type = 'usb', timeout_ms = 7 }, auth = { key = 1, password_file = 'p' }, keys = [{ chain_ids = ['a'], key = 1 }] }]",
        "providers.yubihsm = [{ adapter = { type = 'usb', timeout_ms = 7 }, auth = { key = 1, password_file = 'p' }, keys = [{ chain_ids = ['a'], key = 1 }] }]",
    ] {
        let config =
            Config::parse(providers).unwrap_or_else(|error| panic!("{error}\n{providers}"));
        let [hsm] = &config.yubihsm[..] else {
            panic!("{providers}")
        };
        assert_eq!(hsm.adapter, Adapter::Usb { timeout_ms: 7 }, "{providers}");
        assert_eq!(
            hsm.auth
                .password_file
                .as_ref()
                .map(|path| path.value.as_str()),
            Some("p"),
            "{providers}"
        );
        assert_eq!(config.keys_for("a").len(), 1, "{providers}");
        assert_eq!(config.places_of("a").len(), 1, "{providers}");
        assert_eq!(config.unknown, [], "{providers}");
    }
}

#[test]
fn collects_unknown_fields_with_their_lines() {
    let text = FULL
        .replace("id = \"a-1\"\nkey", "id = \"a-1\"\nstate_fil = 1\nkey")
        .replace("auth = {", "serial = 2\nauth = { \"a\\u001b b\" = 3,")
        .replace(
            "[[providers.ledgertm]]",
            "[providers.tpm]\nx = 1\n[[providers.ledgertm]]",
        )
        + "[extra]\ny = 1\n";
    let unknown = Config::parse(&text).unwrap().unknown;
    let shown: Vec<_> = unknown
        .iter()
        .map(|(path, line)| format!("{path} {line}"))
        .collect();
    assert_eq!(
        shown,
        [
            "chain[0].state_fil 4",
            "providers.yubihsm[0].serial 38",
            "providers.yubihsm[0].auth.\"a\\u{1b} b\" 39",
            "providers.tpm 45",
            "extra 54",
        ]
    );
}

#[test]
fn refuses_with_line_and_reason() {
    for (from, to, expected) in [
        ("id = \"a-1\"\n", "", "line 2: `chain[0]` has no `id`"),
        (
            "id = \"a-1\"\n",
            "id = 1\n",
            "line 3: `chain[0].id` must be a string",
        ),
        (
            "key_format = { type = \"hex\" }\n",
            "",
            "line 2: `chain[0]` has no `key_format`",
        ),
        (
            "{ type = \"hex\" }",
            "\"hex\"",
            "line 4: `chain[0].key_format` must be a table",
        ),
        (
            "\"hex\"",
            "\"x\"",
            "line 4: `chain[0].key_format.type` must be \"bech32\" or \"hex\" or \"cosmos-json\"",
        ),
        (
            "\"hex\"",
            "\"bech32\"",
            "line 4: `chain[0].key_format` has no `account_key_prefix`",
        ),
        (
            "sign_extensions = true",
            "sign_extensions = 1",
            "line 10: `chain[1].sign_extensions` must be true or false",
        ),
        (
            "addr = \"unix:///run/a.sock\"\n",
            "",
            "line 13: `validator[0]` has no `addr`",
        ),
        (
            "timeout = 65535",
            "timeout = 65536",
            "line 21: `validator[1].timeout` is out of range",
        ),
        (
            "timeout = 65535",
            "timeout = -1",
            "line 21: `validator[1].timeout` is out of range",
        ),
        (
            "max_height = \"12\"",
            "max_height = 12",
            "line 22: `validator[1].max_height` must be a string",
        ),
        (
            "max_height = \"12\"",
            "max_height = \"x\"",
            "line 22: `validator[1].max_height` must be a block height in quotes",
        ),
        (
            "[\"a-1\", \"c-3\"]",
            "\"a-1\"",
            "line 26: `providers.softsign[0].chain_ids` must be an array of strings",
        ),
        (
            "[\"a-1\", \"c-3\"]",
            "[\n1]",
            "line 27: `providers.softsign[0].chain_ids` must be an array of strings",
        ),
        (
            "key_type = \"account\"",
            "key_type = \"x\"",
            "line 31: `providers.softsign[1].key_type` must be \"account\" or \"consensus\"",
        ),
        (
            "{ type = \"usb\" }",
            "{ type = \"http\" }",
            "line 36: `providers.yubihsm[0].adapter` has no `addr`",
        ),
        (
            "password = \"hunter2\"",
            "key2 = 1",
            "line 37: `providers.yubihsm[0].auth` has neither `password_file` nor `password`",
        ),
        (
            "password = ",
            "password_file = '', password = ",
            "line 37: `providers.yubihsm[0].auth` has both `password_file` and `password`",
        ),
        (
            "\"hunter2\"",
            "2",
            "line 37: `providers.yubihsm[0].auth.password` must be a string",
        ),
        (
            "key = 65535",
            "key = 65536",
            "line 39: `providers.yubihsm[0].keys[0].key` is out of range",
        ),
        (
            "key_name = \"n\"",
            "x = 1",
            "line 49: `providers.fortanixdsm[0].signing_keys[0]` needs either `key_id` or `key_name`",
        ),
        (
            "keys = [\n    { chain_ids = [\"b-2\"], key = 65535 }",
            "keys = [[]",
            "line 38: `providers.yubihsm[0].keys` must be a list of tables, as [[providers.yubihsm.keys]]",
        ),
        (
            "[[chain]]\nid = \"a-1\"",
            "[chain]\nid = \"a-1\"",
            "line 7: not TOML: duplicate key",
        ),
        (
            "[[validator]]",
            "[[validator",
            "line 13: not TOML: unclosed array table, expected `]]`",
        ),
        (
            "timeout = 65535",
            "reconnect = true",
            "line 21: not TOML: duplicate key",
        ),
    ] {
        let text = FULL.replacen(from, to, 1);
        assert_ne!(text, FULL, "{from}");
        let error = Config::parse(&text).expect_err(expected);
        assert_eq!(error.to_string(), expected);
        assert!(error.column >= 1);
    }
    for (text, expected) in [
        ("", "line 1: the config has no `providers`"),
        (
            "[chain]\nid = 1\n[providers]",
            "line 1: `chain` must be a list of tables, as [[chain]]",
        ),
        ("providers = 1", "line 1: `providers` must be a table"),
    ] {
        assert_eq!(Config::parse(text).unwrap_err().to_string(), expected);
    }
    assert!(Config::parse("[providers]").is_ok());
}
