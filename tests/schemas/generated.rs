//! The schemas as the types give them, and whether the published ones are these.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use kmsctl::cli::Cli;
use kmsctl::content::Fingerprint;
use kmsctl::paths::ManagedPath;
use kmsctl::plan::Plan;
use kmsctl::snapshot::Snapshot;
use kmsctl::ui::check::Check;
use kmsctl::ui::doctor::Report;
use kmsctl::ui::dry_run::DryRun;
use kmsctl::ui::events::Line;
use kmsctl::ui::failure::Error;
use kmsctl::ui::history::{Abandoned, Operation, Operations};
use kmsctl::ui::init::Report as Init;
use kmsctl::ui::nodes::Verification;
use kmsctl::ui::state::Shown;
use kmsctl::ui::status::{Heights, Status};
use kmsctl::ui::validator::Report as Validator;
use kmsctl::unit::UnitName;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};
use snapbox::Data;
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

fn schemas() -> [(&'static str, Value); 16] {
    [
        ("abandon", schema::<Abandoned>()),
        ("check", schema::<Check>()),
        ("doctor", schema::<Report>()),
        ("dry-run", schema::<DryRun<'_>>()),
        ("error", schema::<Error<'_>>()),
        ("event", schema::<Line<'_>>()),
        ("heights", schema::<Heights>()),
        ("history", schema::<Operations>()),
        ("init", schema::<Init>()),
        ("operation", schema::<Operation<'_>>()),
        ("plan", schema::<Plan>()),
        ("snapshot", schema::<Snapshot>()),
        ("state", schema::<Shown>()),
        ("status", schema::<Status>()),
        ("validator", schema::<Validator>()),
        ("verify", schema::<Verification>()),
    ]
}

pub fn folder() -> PathBuf {
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
