//! The one folder that may be moved, when, and what goes wrong on a node.

use std::path::{Path, PathBuf};

use kmsctl::kms::oasis::failure::{Class, Failure, recognise};
use kmsctl::kms::oasis::ids::{Mrenclave, RuntimeId};
use kmsctl::kms::oasis::place::{AsidePath, BeforeMove, DatabasePath, against_moving};
use kmsctl::kms::oasis::status::NodeStatus;

use crate::bundles::RUNTIME;
use crate::statuses::holder;
use stand_in_oasis_node::answer::Shape;

fn runtime() -> RuntimeId {
    RUNTIME.parse().unwrap()
}

#[test]
fn only_a_key_manager_s_database_can_be_spelled() {
    let path = DatabasePath::of(Path::new("/node/data"), &runtime()).unwrap();
    let text = format!("/node/data/runtimes/{RUNTIME}/worker-local-storage.badger.db");
    assert_eq!(path.as_path(), Path::new(&text));
    assert_eq!(path.data_dir(), Path::new("/node/data"));
    let paratime = RUNTIME.replacen('4', "0", 1);
    for wrong in [
        text.replace("/node", "node"),
        text.replace("/data", "/../data"),
        text.replace(RUNTIME, &paratime),
        text.replace(RUNTIME, &RUNTIME[..62]),
        text.replace("runtimes", "other"),
        text.replace("worker-local", "runtime"),
        format!("{text}/MANIFEST"),
        format!("/node/data/runtimes/{RUNTIME}"),
        "/node/data".into(),
        "/".into(),
    ] {
        assert!(
            DatabasePath::try_from(PathBuf::from(&wrong)).is_err(),
            "{wrong}"
        );
        assert!(
            AsidePath::try_from(PathBuf::from(&wrong)).is_err(),
            "{wrong}"
        );
    }
    assert!(DatabasePath::of(Path::new("/node/data"), &paratime.parse().unwrap()).is_err());
}

#[test]
fn what_one_enclave_sealed_lies_under_its_name() {
    let path = DatabasePath::of(Path::new("/node/data"), &runtime()).unwrap();
    let sealed = Mrenclave::new([0xab; 32]);
    let aside = |attempt| AsidePath::of(&path, &sealed, attempt).to_string();
    let folder = "/node/data/kmsctl-aside/abababababababab";
    assert_eq!(aside(1), format!("{folder}/worker-local-storage.badger.db"));
    assert_eq!(
        aside(2),
        format!("{folder}.2/worker-local-storage.badger.db")
    );
    assert!(AsidePath::try_from(PathBuf::from(aside(2))).is_ok());
}

#[test]
fn each_condition_of_a_move_stands_in_its_way_by_itself() {
    let path = DatabasePath::of(Path::new("/node/data"), &runtime()).unwrap();
    let fine = BeforeMove {
        unit_inactive: true,
        no_process: true,
        locked: true,
        resolved: Some(path.as_path().to_owned()),
        same_filesystem: true,
        free: true,
        configured: Some(runtime()),
        old: Mrenclave::new([60; 32]),
        new: Mrenclave::new([70; 32]),
        staged: true,
    };
    assert_eq!(
        against_moving(&path, &runtime(), &fine),
        Vec::<String>::new()
    );
    let other: RuntimeId = RUNTIME.replace("4a1a", "8c5e").parse().unwrap();
    type Spoil<'a> = &'a dyn Fn(&mut BeforeMove);
    let spoilt: [(&str, Spoil<'_>); 11] = [
        ("isn't stopped", &|s| s.unit_inactive = false),
        ("still run", &|s| s.no_process = false),
        ("is locked", &|s| s.locked = false),
        ("through a link", &|s| {
            s.resolved = Some("/elsewhere".into())
        }),
        ("through a link", &|s| s.resolved = None),
        ("own filesystem", &|s| s.same_filesystem = false),
        ("in the place", &|s| s.free = false),
        ("doesn't name", &|s| s.configured = None),
        ("doesn't name", &|s| s.configured = Some(other)),
        ("one enclave", &|s| s.new = s.old),
        ("that was checked", &|s| s.staged = false),
    ];
    for (why, spoil) in spoilt {
        let mut seen = fine.clone();
        spoil(&mut seen);
        let found = against_moving(&path, &runtime(), &seen);
        assert!(
            matches!(&found[..], [one] if one.contains(why)),
            "{why}: {found:?}"
        );
    }
    let found = against_moving(
        &path,
        &other,
        &BeforeMove {
            configured: Some(other),
            ..fine
        },
    );
    assert_eq!(found.len(), 1, "the folder is another runtime's: {found:?}");
}

#[test]
fn every_known_failure_is_recognised_in_the_node_s_own_words() {
    let guide = r#"{"level":"warn","module":"runtime","msg":"thread 'main' panicked at 'runtime execution failed: Enclave panicked.', runtime-loader/bin/main.rs:57:10","runtime_id":"4000000000000000000000000000000000000000000000004a1a53dff2ae482d","runtime_name":"keymanager","ts":"2022-11-11T13:38:18.805919693Z"}"#;
    for (line, failure, class) in [
        (guide, Failure::EnclavePanicked, Class::StopNode),
        (
            "err=\"master secret generation 12 not replicated\"",
            Failure::NotReplicated,
            Class::Hold,
        ),
        (
            "key manager state corrupted",
            Failure::StateCorrupted,
            Class::StopFleet,
        ),
        (
            "keymanager: storage corrupted",
            Failure::StateCorrupted,
            Class::StopFleet,
        ),
        (
            "failed to register node: registry: node update not allowed",
            Failure::UpdateNotAllowed,
            Class::Wait,
        ),
        (
            "node running unknown runtime enclave version",
            Failure::UnknownEnclaveVersion,
            Class::StopNode,
        ),
    ] {
        let found = recognise([line], None);
        assert!(
            matches!(&found[..], [sign] if sign.failure == failure && sign.class == class),
            "{line}: {found:?}"
        );
        assert!(!found[0].remedy.is_empty() && !found[0].why.is_empty());
    }
    assert!(recognise(["node started", "secret generation 3 not replicated"], None).is_empty());
}

#[test]
fn the_worst_comes_first_and_what_is_over_is_left_out() {
    let lines = [
        "registry: node update not allowed",
        "master secret generation 0 not replicated",
        "key manager state corrupted",
        "master secret generation 0 not replicated",
    ];
    let failures = |status: Option<&NodeStatus>| -> Vec<Failure> {
        let found = recognise(lines, status);
        found.into_iter().map(|sign| sign.failure).collect()
    };
    use Failure::{NotReplicated, StateCorrupted, UpdateNotAllowed};
    assert_eq!(
        failures(None),
        [StateCorrupted, NotReplicated, UpdateNotAllowed]
    );
    let ready = NodeStatus::parse(&holder().print(Shape::Secrets)).unwrap();
    assert_eq!(failures(Some(&ready)), [StateCorrupted]);
    let mut waiting = holder();
    waiting.last_error = Some("registry: node update not allowed".into());
    let waiting = NodeStatus::parse(&waiting.print(Shape::Secrets)).unwrap();
    assert_eq!(failures(Some(&waiting)), [StateCorrupted, UpdateNotAllowed]);
}
