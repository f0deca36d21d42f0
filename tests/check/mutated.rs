//! Configs that nobody wrote: valid ones with a few values, lines or characters changed, on two real binaries.
//!
//! `KMSCTL_ORACLE_MUTATIONS` says how many (200), `KMSCTL_ORACLE_SEED` which; a difference is printed with its text, and
//! belongs into the corpus once it is understood.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::corpus;
use super::live::verdicts;
use super::recorded::{check, differs};

/// Values that matter to some field or other, as they are written.
const VALUES: &[&str] = &[
    "\"\"",
    "\"orbit-1\"",
    "\"orbit-2\"",
    "1",
    "-1",
    "0",
    "65535",
    "65536",
    "true",
    "false",
    "1.5",
    "\"v0.34\"",
    "\"v0.38\"",
    "\"v0.33\"",
    "\"legacy\"",
    "\"hex\"",
    "{ type = \"hex\" }",
    "{ type = \"cosmos-json\" }",
    "[]",
    "[\"orbit-1\"]",
    "{}",
    "\"tcp://127.0.0.1:1\"",
    "\"unix:///tmp/kmsctl-nothing.sock\"",
    "\"127.0.0.1\"",
    "\"keys/identity.key\"",
    "\"keys/consensus.key\"",
    "\"keys/long64.key\"",
    "\"state/signed.json\"",
    "\"state/int-height.json\"",
    "\"state/null.json\"",
    "\"no-such-folder/x\"",
    "\"base64\"",
    "\"json\"",
    "\"consensus\"",
    "\"account\"",
    "\"100\"",
    "2024-01-01",
    "0x10",
    "1_0",
    "'literal'",
    "\"\"\"multi\"\"\"",
    "nan",
    "[[]]",
];

/// Lines that fit into some table, and into others not.
const LINES: &[&str] = &[
    "reconnect = false",
    "timeout = 10",
    "max_height = \"5\"",
    "sign_extensions = true",
    "key_type = \"account\"",
    "key_format = \"json\"",
    "protocol_version = \"v0.34\"",
    "state_file = \"state/new.json\"",
    "secret_key = \"keys/other.key\"",
    "colour = 1",
    "[[validator]]",
    "[[chain]]",
    "[providers]",
    "[[providers.softsign]]",
    "[chain.key_format]",
    "# a comment",
    "",
    "a.b.c = 1",
    "[a]",
    "[[a.b]]",
    "tx_signer = []",
    "path.x = 1",
    "\"quoted key\" = 1",
    "'' = 1",
];

const CHARACTERS: &[char] = &[
    '"', '\'', '=', '[', ']', '{', '}', ',', '.', '#', '\n', '\r', '\t', ' ', '\\', 'ö', '\u{0}',
    '\u{1}', '\u{7f}', '\u{feff}', '0', '_', 'e',
];

/// Values that a field's tmkms mostly takes, so that enough configs start.
const FITTING: &[(&str, &[&str])] = &[
    (
        "key_format",
        &[
            "{ type = \"hex\" }",
            "{ type = \"cosmos-json\" }",
            "{ type = \"hex\", more = 1 }",
            "\"json\"",
        ],
    ),
    (
        "state_file",
        &[
            "\"state/null.json\"",
            "\"state/floor.json\"",
            "\"state/other-twice.json\"",
            "'state/nothing.json'",
            "\"./state/new.json\"",
        ],
    ),
    (
        "addr",
        &[
            "\"127.0.0.1:1\"",
            "\"unix:///tmp/kmsctl-nothing.sock\"",
            "\"tcp://[::1]:1\"",
            "\"tcp://127.0.0.1:1/x\"",
            "\"tcp://@127.0.0.1:1\"",
        ],
    ),
    (
        "secret_key",
        &[
            "\"keys/other.key\"",
            "\"keys/nothing.key\"",
            "\"keys/long64.key\"",
        ],
    ),
    (
        "protocol_version",
        &["\"v0.34\"", "\"v0.33\"", "\"v0.38\"", "\"legacy\""],
    ),
    (
        "path",
        &[
            "\"keys/other.key\"",
            "\"keys/newline.key\"",
            "\"keys/unpadded.key\"",
            "\"keys/long96.key\"",
            "\"keys/account.key\"",
        ],
    ),
    (
        "chain_ids",
        &[
            "[]",
            "[ \"orbit-1\", ]",
            "[\n  'orbit-1' # one\n]",
            "[\"orbit-1\", \"moon-1\"]",
        ],
    ),
    ("id", &["'orbit-1'", "\"orbit-1\" # the chain"]),
    ("chain_id", &["'orbit-1'", "\"\\u006frbit-1\""]),
];

#[derive(Clone, Debug)]
enum Mutation {
    Fitting(Index, Index),
    Value(Index, &'static str),
    Drop(Index),
    Repeat(Index, Index),
    Insert(Index, &'static str),
    Character(Index, char),
    Cut(Index),
    Swap(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        16 => (at(), at()).prop_map(|(a, b)| Mutation::Fitting(a, b)),
        4 => (at(), select(VALUES)).prop_map(|(i, v)| Mutation::Value(i, v)),
        2 => at().prop_map(Mutation::Drop),
        1 => (at(), at()).prop_map(|(a, b)| Mutation::Repeat(a, b)),
        4 => (at(), select(LINES)).prop_map(|(i, l)| Mutation::Insert(i, l)),
        3 => (at(), select(CHARACTERS)).prop_map(|(i, c)| Mutation::Character(i, c)),
        1 => at().prop_map(Mutation::Cut),
        2 => (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

fn mutated(text: &str, mutations: &[Mutation]) -> String {
    let mut text = text.to_owned();
    for mutation in mutations {
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        match mutation {
            Mutation::Fitting(at, which) => {
                let values = |line: &String| {
                    let name = line.split('=').next().unwrap().trim();
                    FITTING
                        .iter()
                        .find(|(field, _)| *field == name)
                        .map(|(_, v)| *v)
                };
                let known: Vec<usize> = (0..lines.len())
                    .filter(|i| values(&lines[*i]).is_some())
                    .collect();
                if !known.is_empty() {
                    let line = &mut lines[known[at.index(known.len())]];
                    let values = values(line).unwrap();
                    let name = line.split('=').next().unwrap().to_owned();
                    *line = format!("{name}= {}", values[which.index(values.len())]);
                }
            }
            Mutation::Value(at, value) => {
                let with: Vec<usize> = (0..lines.len())
                    .filter(|i| lines[*i].contains('='))
                    .collect();
                if !with.is_empty() {
                    let line = &mut lines[with[at.index(with.len())]];
                    let name = line.split('=').next().unwrap().to_owned();
                    *line = format!("{name}= {value}");
                }
            }
            Mutation::Drop(at) => drop(lines.remove(at.index(lines.len()))),
            Mutation::Repeat(from, to) => {
                let line = lines[from.index(lines.len())].clone();
                lines.insert(to.index(lines.len() + 1), line);
            }
            Mutation::Insert(at, line) => {
                lines.insert(at.index(lines.len() + 1), (*line).to_owned())
            }
            Mutation::Character(at, character) => {
                let mut characters: Vec<char> = text.chars().collect();
                characters.insert(at.index(characters.len() + 1), *character);
                lines = vec![characters.into_iter().collect()];
            }
            Mutation::Cut(at) => lines.truncate(at.index(lines.len()) + 1),
            Mutation::Swap(a, b) => {
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                lines.swap(a, b);
            }
        }
        text = lines.join("\n");
    }
    text
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |n| n.parse().unwrap())
}

#[test]
#[ignore = "the long tier's: tests/lab/oracle builds the other binaries"]
fn mutated_configs_live_on_two_binaries() {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("KMSCTL_ORACLE_SEED", 1).to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let bases = [
        "plain",
        "key-format-table",
        "softsign-account-too",
        "chains-share-state",
        "validators-two",
    ];
    let corpus = corpus::configs();
    let bases: Vec<String> = bases
        .iter()
        .map(|b| String::from_utf8(corpus[*b].clone()).unwrap())
        .collect();
    let strategy = (select(bases), prop::collection::vec(mutation(), 1..4));
    let mut configs = BTreeMap::new();
    for n in 0..number("KMSCTL_ORACLE_MUTATIONS", 200) {
        let (base, mutations) = strategy.new_tree(&mut runner).unwrap().current();
        configs.insert(
            format!("mutated-{n:05}"),
            mutated(&base, &mutations).into_bytes(),
        );
    }
    let mut wrong = String::new();
    for version in ["0.12.2", "0.15.0"] {
        let rows = check(version, &configs);
        let (mut starts, mut stops) = (0, 0);
        for (name, verdict) in verdicts(version, &configs) {
            match verdict.starts() {
                true => starts += 1,
                false => stops += 1,
            }
            if let Some(how) = differs(&rows[&name], verdict) {
                let text = String::from_utf8_lossy(&configs[&name]);
                wrong += &format!("---- {version} {name}: {how}\n{text}\n");
            }
        }
        // A generator whose configs all fail shows nothing.
        assert!(
            starts * 20 > stops && stops * 20 > starts,
            "{version}: {starts} start, {stops} don't"
        );
        eprintln!("tmkms {version}: {starts} start, {stops} don't");
    }
    assert!(wrong.is_empty(), "{wrong}");
}
