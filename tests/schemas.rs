//! What `--json` prints, against the schemas in docs/schemas: those are generated from the very types that are printed,
//! every verb's real output fits them, and nothing else does.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use jsonschema::Validator;
use kmsctl::cli::Cli;
use kmsctl::content::Fingerprint;
use kmsctl::paths::ManagedPath;
use kmsctl::plan::Plan;
use kmsctl::ui::dry_run::DryRun;
use kmsctl::ui::events::Line;
use kmsctl::ui::failure::Error;
use kmsctl::ui::history::{Abandoned, Operation, Operations};
use kmsctl::ui::status::{Heights, Status};
use kmsctl::unit::UnitName;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};
use snapbox::Data;
use support::{CONFIGS, Host, Said, UNITS};
use tmkms_core::chain_id::ChainId;
use tmkms_core::protocol::ProtocolVersion;

/// Lets an object have no other fields than those that kmsctl prints.
#[derive(Clone)]
struct Closed;

impl Transform for Closed {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        if !object.contains_key("properties") {
            return;
        }
        let choice = ["oneOf", "anyOf", "allOf"]
            .into_iter()
            .find(|word| object.contains_key(*word));
        let Some(choice) = choice else {
            object
                .entry("additionalProperties")
                .or_insert(Value::Bool(false));
            return;
        };
        // Its fields come from several places, none of which knows the others'.
        for branch in object[choice].as_array_mut().unwrap() {
            branch
                .as_object_mut()
                .unwrap()
                .remove("additionalProperties");
        }
        object.insert("unevaluatedProperties".into(), Value::Bool(false));
    }
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(Closed);
    settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

fn schemas() -> [(&'static str, Value); 9] {
    [
        ("abandon", schema::<Abandoned>()),
        ("dry-run", schema::<DryRun<'_>>()),
        ("error", schema::<Error<'_>>()),
        ("event", schema::<Line<'_>>()),
        ("heights", schema::<Heights>()),
        ("history", schema::<Operations>()),
        ("operation", schema::<Operation<'_>>()),
        ("plan", schema::<Plan>()),
        ("status", schema::<Status>()),
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/schemas")
}

#[test]
fn the_schemas_are_those_of_the_types_that_are_printed() {
    for (name, schema) in schemas() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let kept = Data::read_from(&folder().join(format!("{name}.json")), None);
        snapbox::Assert::new()
            .action_env("SNAPSHOTS")
            .eq(text, kept.raw());
    }
}

#[test]
fn the_folder_holds_those_schemas_and_the_table_names_every_verb() {
    let mut names: BTreeSet<String> = schemas()
        .iter()
        .map(|(name, _)| format!("{name}.json"))
        .collect();
    names.insert("README.md".into());
    let kept = fs::read_dir(folder()).unwrap();
    let kept: BTreeSet<String> = kept
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(kept, names);
    let table = fs::read_to_string(folder().join("README.md")).unwrap();
    for name in kept.iter().filter(|name| *name != "README.md") {
        assert!(table.contains(&format!("({name})")), "{name}");
    }
    for verb in Cli::command().get_subcommands() {
        let name = verb.get_name();
        assert!(table.contains(&format!("\n| `{name}")), "{name}");
    }
}

/// A schema as it is published.
fn published(name: &str) -> Validator {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// A line that fits a schema, and fits it no more with any field added or renamed.
#[track_caller]
fn fits(name: &str, line: &str) -> Value {
    assert!(line.starts_with("{\"format_version\":1,"), "{line}");
    let value: Value = serde_json::from_str(line).unwrap();
    let schema = published(name);
    let errors: Vec<String> = schema
        .iter_errors(&value)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?} in {value:#}");
    for (what, other) in others(&value) {
        assert!(!schema.is_valid(&other), "{name} takes {what}: {other:#}");
    }
    value
}

/// The value with one field added, and with one renamed, for every object in it: one of each shape.
fn others(value: &Value) -> Vec<(String, Value)> {
    let mut shapes = BTreeSet::new();
    let mut objects = Vec::new();
    walk(value, String::new(), &mut |at, object| {
        let fields: Vec<&String> = object.keys().collect();
        let parent = at.rsplit('/').find(|word| word.parse::<usize>().is_err());
        if shapes.insert(format!("{parent:?} {fields:?}")) {
            objects.push((at, fields.into_iter().cloned().collect::<Vec<_>>()));
        }
    });
    let mut others = Vec::new();
    for (at, fields) in objects {
        let mut other = value.clone();
        let object = other.pointer_mut(&at).unwrap().as_object_mut().unwrap();
        object.insert("surprise".into(), Value::Null);
        others.push((format!("an added field at {at:?}"), other));
        for field in fields {
            let mut other = value.clone();
            let object = other.pointer_mut(&at).unwrap().as_object_mut().unwrap();
            let of = object.remove(&field).unwrap();
            object.insert(format!("{field}s"), of);
            others.push((format!("{field} renamed at {at:?}"), other));
        }
    }
    others
}

fn walk(value: &Value, at: String, see: &mut impl FnMut(String, &serde_json::Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            see(at.clone(), object);
            for (field, value) in object {
                walk(value, format!("{at}/{field}"), see);
            }
        }
        Value::Array(values) => {
            for (n, value) in values.iter().enumerate() {
                walk(value, format!("{at}/{n}"), see);
            }
        }
        _ => {}
    }
}

/// Runs a verb that prints one document.
#[track_caller]
fn document(host: &Host, words: &[&str], code: i32, schema: &str) -> Value {
    let said = host.kmsctl(&[words, &["--json"]].concat()).exits(code);
    only(&said, schema)
}

#[track_caller]
fn only(said: &Said, schema: &str) -> Value {
    assert!(said.out.ends_with('\n'), "{said:?}");
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
    fits(schema, said.out.trim_end())
}

/// Runs a verb that fails before it has a document to print.
#[track_caller]
fn error(host: &Host, words: &[&str], code: i32) -> Value {
    let said = host.kmsctl(&[words, &["--json"]].concat()).exits(code);
    let error = only(&said, "error");
    assert_eq!(error["exit"], code, "{error}");
    let sentence = error["error"].as_str().unwrap();
    assert!(said.err.contains(sentence), "{said:?}");
    error
}

/// Runs a verb that performs a program: its events, the last of which says how it ended.
#[track_caller]
fn events(host: &Host, words: &[&str], code: i32) -> Vec<Value> {
    let words = [words, &["--yes", "--json", "--soak", "0"]].concat();
    let watches = ["apply", "rollback"].contains(&words[0]);
    let words = if watches {
        &words[..]
    } else {
        &words[..words.len() - 2]
    };
    let said = host.kmsctl(words).exits(code);
    let events: Vec<Value> = said.out.lines().map(|line| fits("event", line)).collect();
    let is = |name: &'static str| move |e: &&Value| e["event"] == name;
    assert_eq!(events.iter().filter(is("ended")).count(), 1, "{said:?}");
    let ended = events.last().unwrap();
    assert_eq!(ended["event"], "ended", "{said:?}");
    assert_eq!(ended["exit"], code, "{said:?}");
    assert_eq!(events.len() > 1, events[0]["event"] == "begun", "{said:?}");
    let sentence = ended[if code == 0 { "message" } else { "error" }].as_str();
    assert!(said.err.contains(sentence.unwrap()), "{said:?}");
    events
}

/// How many events have this name.
fn count(events: &[Value], name: &str) -> usize {
    events.iter().filter(|e| e["event"] == name).count()
}

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];

#[test]
fn the_night_there_and_back() {
    let host = Host::of("commercio");
    document(&host, &["history"], 0, "history");
    document(&host, &["status"], 0, "status");
    document(&host, &["heights"], 0, "heights");
    let plan = document(&host, &PLAN, 0, "plan");
    let staged = events(&host, &["stage"], 0);
    assert_eq!(
        staged[0]["steps"].as_u64(),
        Some(count(&staged, "done") as u64)
    );
    assert_eq!(staged.last().unwrap()["next"], json!(["kmsctl apply"]));

    let dry = document(&host, &["apply", "--dry-run"], 0, "dry-run");
    assert_eq!((&dry["verb"], &dry["plan"]), (&json!("apply"), &plan["id"]));
    let applied = events(&host, &["apply"], 0);
    assert_eq!(applied[0]["plan"], plan["id"]);
    assert_eq!(
        applied[0]["steps"].as_u64(),
        Some(count(&applied, "done") as u64)
    );
    assert_eq!(count(&applied, "signer_done"), 3);
    assert_eq!(applied.last().unwrap()["operation"], 2);
    document(&host, &["status"], 0, "status");

    // Nothing is left to do.
    document(&host, &PLAN, 0, "plan");
    assert_eq!(events(&host, &["apply"], 0).len(), 1);
    assert_eq!(events(&host, &["stage"], 0).len(), 1);
    let dry = document(&host, &["apply", "--dry-run"], 0, "dry-run");
    assert_eq!(dry["program"]["lanes"], json!([]));

    document(&host, &["rollback", "--dry-run"], 0, "dry-run");
    let back = events(&host, &["rollback"], 0);
    assert_eq!(back.last().unwrap()["next"], json!(["kmsctl unstage"]));
    events(&host, &["unstage"], 0);
    assert_eq!(events(&host, &["unstage"], 0).len(), 1);
    let history = document(&host, &["history"], 0, "history");
    assert_eq!(history["operations"].as_array().unwrap().len(), 4);
    for id in ["1", "2", "3", "4"] {
        document(&host, &["history", id], 0, "operation");
    }
}

#[test]
fn a_switch_that_fails_half_way_and_is_given_up() {
    let host = Host::of("commercio");
    document(&host, &PLAN, 0, "plan");
    host.write(&format!("{UNITS}/tmkms-02.v3.service.d"), "in the way\n");
    // What a failed staging wrote is taken back by an operation of its own.
    let staged = events(&host, &["stage"], 1);
    assert_eq!(count(&staged, "begun"), 2);
    assert_eq!(count(&staged, "failed"), 1);
    assert_eq!(staged.last().unwrap()["operation"], 1);

    let applied = events(&host, &["apply"], 5);
    let ended = applied.last().unwrap();
    assert_eq!(
        (&ended["operation"], &ended["meaning"]),
        (&json!(3), &json!("half_way"))
    );
    assert_eq!(ended["next"], json!(["kmsctl apply", "kmsctl unstage"]));
    let status = document(&host, &["status"], 0, "status");
    assert_eq!(status["operation"]["id"], 3);
    let refused = events(&host, &["stage"], 3);
    assert_eq!(refused[0]["operation"], 3);
    document(&host, &["history", "3"], 0, "operation");
    assert_eq!(error(&host, &["abandon", "1"], 3)["meaning"], "refused");
    error(&host, &["abandon", "3"], 2);
    let given_up = document(&host, &["abandon", "3", "--yes"], 0, "abandon");
    assert_eq!(
        (&given_up["id"], &given_up["switched"]),
        (&json!(3), &json!(false))
    );
    document(&host, &["history"], 0, "history");
}

#[test]
fn errors_are_readable() {
    let host = Host::of("commercio");
    error(&host, &["plan"], 2);
    error(&host, &["apply", "--parallel", "many"], 2);
    error(&host, &["plan", "--new-chain", "nowhere-3"], 3);
    error(&host, &["history", "7"], 3);
    let dry = error(&host, &["apply", "--dry-run"], 3);
    assert_eq!(dry["next"], json!(["kmsctl plan --new-chain ID"]));
    error(&host, &["rollback", "--dry-run"], 3);
    for verb in ["stage", "apply", "rollback"] {
        let ended = &events(&host, &[verb], 3)[0];
        assert_eq!(ended["operation"], Value::Null, "{ended}");
    }
    document(&host, &PLAN, 0, "plan");
    let said = host.kmsctl(&["apply", "--json"]).exits(2);
    assert_eq!(only(&said, "event")["meaning"], "usage");

    // Half a state file: what can be shown is shown, and why the rest isn't.
    let state = format!("{CONFIGS}/commercio_priv_validator_state02.json");
    host.write(&state, "{\"height\":\"22");
    let heights = document(&host, &["heights"], 3, "heights");
    assert!(heights["heights"][1]["unreadable"].is_string());
    let plan = document(&host, &PLAN, 3, "plan");
    assert_eq!(plan["findings"][0]["severity"], "block");
    document(&host, &["status"], 0, "status");
    // Findings are coloured for the eye, and only for that.
    let said = host.kmsctl(&["apply", "--yes", "--json", "--color", "always"]);
    let ended = only(&said.exits(3), "event");
    let sentence = ended["error"].as_str().unwrap();
    assert!(sentence.contains("block[state-unreadable]"), "{sentence}");
    assert!(!sentence.contains('\u{1b}'), "{sentence:?}");

    host.write(&format!("{CONFIGS}/tmkms.02.toml"), "[[validator]\n");
    let heights = document(&host, &["heights"], 3, "heights");
    assert_eq!(heights["problems"][0]["code"], "config-invalid");
    document(&host, &["status"], 0, "status");
}

#[test]
fn the_patterns_of_names_are_what_kmsctl_takes() {
    #[track_caller]
    fn agrees<T: JsonSchema + serde::de::DeserializeOwned>(good: &[&str], bad: &[&str]) {
        let schema = jsonschema::validator_for(&schema::<T>()).unwrap();
        for (texts, taken) in [(good, true), (bad, false)] {
            for text in texts {
                let value = Value::from(*text);
                assert_eq!(
                    serde_json::from_value::<T>(value.clone()).is_ok(),
                    taken,
                    "{text}"
                );
                assert_eq!(schema.is_valid(&value), taken, "{text}");
            }
        }
    }
    let (fifty, more) = ("x".repeat(50), "x".repeat(51));
    agrees::<ChainId>(
        &["commercio-3", "commercio-2_2", "a.b", &fifty],
        &["", "a b", "a/b", "a\nb", "aéb", &more],
    );
    let (longest, longer) = ("x".repeat(247) + ".service", "x".repeat(248) + ".service");
    agrees::<UnitName>(
        &["tmkms-01.service", "a\\x2db@c:d_e.v3.service", &longest],
        &[
            "tmkms-01",
            ".service",
            "a b.service",
            "a/b.service",
            "x.service\n",
            &longer,
        ],
    );
    agrees::<ManagedPath>(&["/data/tmkms.v3.toml"], &["data/tmkms.v3.toml", ""]);
    agrees::<ProtocolVersion>(
        &["legacy", "v0.33", "v0.34", "v0.38"],
        &["v0.37", "V0_34", ""],
    );
    let fingerprint = serde_json::to_value(Fingerprint::of(b"x")).unwrap();
    let schema = jsonschema::validator_for(&schema::<Fingerprint>()).unwrap();
    assert!(schema.is_valid(&fingerprint));
    assert!(!schema.is_valid(&json!("5f")));
}
