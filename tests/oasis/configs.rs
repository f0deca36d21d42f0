//! A node's config: both styles read, one path changed, nothing else.

use std::path::Path;

use kmsctl::kms::oasis::config::{NodeConfig, Style, apply, reversed};

pub const OLD: &str = r#"# the node's own
datadir: /node/data
log: {level: {default: info, tendermint: info}, format: JSON}
genesis: {file: /node/etc/genesis.json}   # as downloaded
runtime:
  mode: keymanager
  paths: [/node/runtimes/keymanager.orc]  # one
  sgx: {loader: /node/bin/oasis-core-runtime-loader}
worker:
  registration: {entity: /node/etc/entity.json}
  keymanager:
    may_generate: false
    runtime: {id: "4000000000000000000000000000000000000000000000004a1a53dff2ae482d"}
  p2p: {port: 20104, addresses: ["203.0.113.10:20104"]}
"#;

pub const NEW: &str = r#"mode: keymanager
common:
  data_dir: /node/data
  # internal_socket_path: /run/oasis/internal.sock   # 24.0+
  log: {format: JSON, level: {cometbft: info, default: info}}
genesis: {file: /node/etc/genesis.json}
registration: {entity_id: "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}
p2p: {port: 9200, registration: {addresses: ["203.0.113.10:9200"]}, seeds: ["ID@IP:9200"]}
runtime:
  paths: ["/node/runtimes/keymanager.orc"]
  sgx: {loader: /node/bin/oasis-core-runtime-loader}
keymanager: {runtime_id: "4000000000000000000000000000000000000000000000004a1a53dff2ae482d", private_peer_pub_keys: []}
"#;

#[test]
fn both_styles_are_read() {
    for (text, style) in [(OLD, Style::Old), (NEW, Style::New)] {
        let config = NodeConfig::parse(text).unwrap();
        assert_eq!(config.style, style);
        assert_eq!(config.data_dir, Path::new("/node/data"));
        assert_eq!(config.bundle, Path::new("/node/runtimes/keymanager.orc"));
        assert_eq!(config.socket, Path::new("/node/data/internal.sock"));
        assert!(config.runtime.is_key_manager());
    }
    let socket = NEW.replace("  # internal_socket_path", "  internal_socket_path");
    let config = NodeConfig::parse(&socket).unwrap();
    assert_eq!(config.socket, Path::new("/run/oasis/internal.sock"));
}

#[test]
fn pointing_at_another_bundle_changes_its_path_and_not_a_byte_more() {
    let to = Path::new("/node/runtimes/keymanager.v0.7.0.orc");
    let quoted = |q: &str| NEW.replace('"', q);
    let block = OLD.replace(
        "paths: [/node/runtimes/keymanager.orc]",
        "paths:\n    - /node/runtimes/keymanager.orc",
    );
    let windows = OLD.replace('\n', "\r\n");
    let words = NEW.replace("# internal", "# é ü 漢 internal");
    for text in [OLD, NEW, &quoted("'"), &block, &windows, &words] {
        let edit = NodeConfig::parse(text).unwrap().point_at(text, to).unwrap();
        let new = apply(text, &edit).unwrap();
        let by_hand = text.replace(
            "/node/runtimes/keymanager.orc",
            "/node/runtimes/keymanager.v0.7.0.orc",
        );
        assert_eq!(new, by_hand);
        assert_eq!(NodeConfig::parse(&new).unwrap().bundle, to);
        assert_eq!(apply(&new, &reversed(&edit)).unwrap(), text);
    }
}

#[test]
fn a_text_that_changed_is_left_alone() {
    let to = Path::new("/node/runtimes/keymanager.v0.7.0.orc");
    let edit = NodeConfig::parse(NEW).unwrap().point_at(NEW, to).unwrap();
    assert!(apply(&NEW.replace("keymanager.orc", "other.orc"), &edit).is_err());
    assert!(apply(&format!("# more\n{NEW}"), &edit).is_err());
    assert!(apply(OLD, &edit).is_err());
}

#[test]
fn what_can_t_be_said_is_refused_with_its_line() {
    let refused = |from: &str, to: &str, line: usize| {
        let text = NEW.replace(from, to);
        assert_ne!(text, NEW, "{from}");
        let error = NodeConfig::parse(&text).unwrap_err();
        assert_eq!(error.line, line, "{error}");
    };
    refused("mode: keymanager", "mode: compute", 1);
    refused("/node/data", "${DATA}/data", 3);
    refused("/node/data", "node/data", 3);
    refused("/node/data", "/node/../data", 3);
    refused("\"/node/runtimes/keymanager.orc\"", "\"${ORC}\"", 10);
    refused(
        "\"/node/runtimes/keymanager.orc\"",
        "\"/a.orc\", \"/b.orc\"",
        10,
    );
    refused("[\"/node/runtimes/keymanager.orc\"]", "[]", 10);
    refused("[\"/node/runtimes/keymanager.orc\"]", "/node/a.orc", 10);
    refused(
        "\"/node/runtimes/keymanager.orc\"",
        "\"/node/\\x61.orc\"",
        10,
    );
    refused("\"/node/runtimes/keymanager.orc\"", "&a /node/a.orc", 10);
    refused("4a1a53dff2ae482d", "4a1a53dff2ae", 12);
    refused(
        "  data_dir: /node/data",
        "  data_dir: /node/data\n  data_dir: /other",
        4,
    );
    refused("genesis:", "runtime.paths: [/a.orc]\ngenesis:", 6);
    refused("genesis:", "Runtime: {paths: [/a.orc]}\ngenesis:", 6);
    refused("genesis:", "datadir: /x\ngenesis:", 1);
    refused(
        "[\"/node/runtimes/keymanager.orc\"]",
        &format!("{}{}", "[".repeat(100), "]".repeat(100)),
        10,
    );
    assert!(NodeConfig::parse("").is_err());
    assert!(NodeConfig::parse("a: b\n---\nc: d\n").is_err());
    assert!(NodeConfig::parse("- a\n").is_err());
}

#[test]
fn a_new_path_that_yaml_would_read_otherwise_is_refused() {
    let config = NodeConfig::parse(OLD).unwrap();
    for path in [
        "/a b.orc",
        "/a: b.orc",
        "/a,b.orc",
        "a.orc",
        "/a\"b.orc",
        "/a#b.orc",
        "/${X}.orc",
    ] {
        assert!(config.point_at(OLD, Path::new(path)).is_err(), "{path}");
    }
}
