//! Whether a printed line fits a published schema, and nothing near it does.

use std::collections::BTreeSet;
use std::fs;

use jsonschema::Validator;
use serde_json::{Map, Value};

use crate::generated::folder;

/// A schema as it is published.
fn published(name: &str) -> Validator {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// A line that fits a schema, and fits it no more with any field added or renamed.
#[track_caller]
pub fn fits(name: &str, line: &str) -> Value {
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

fn walk(value: &Value, at: String, see: &mut impl FnMut(String, &Map<String, Value>)) {
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
