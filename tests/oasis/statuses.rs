//! `control status` in its three shapes, and the seven conditions on it.

use kmsctl::kms::oasis::ids::{Checksum, Epoch, Mrenclave, NodeId, Version};
use kmsctl::kms::oasis::proofs::{Verifications, Verified};
use kmsctl::kms::oasis::status::{self, NodeStatus, State};
use kmsctl::kms::oasis::verify::{Expectation, Holds, Verdict, verify};

use crate::bundles::RUNTIME;
use stand_in_oasis_node::answer::{Answer, InitResponse, OnChain, Registered, SHAPES, Shape};

pub const NOW: &str = "2026-07-01T08:40:40Z";

/// A node that holds the secrets.
pub fn holder() -> Answer {
    Answer {
        software_version: "26.1".into(),
        node: [1; 32],
        consensus: "ready".into(),
        latest_time: "2026-07-01T08:40:24Z".into(),
        epoch: 45121,
        runtime: RUNTIME.into(),
        state: "ready".into(),
        version: [0, 6, 0],
        registered: Some(Registered {
            at: "2026-07-01T08:40:30Z".into(),
            expiration: 45123,
            version: [0, 6, 0],
            seed: [7; 32],
            said: Some(InitResponse {
                is_secure: true,
                checksum: vec![5; 32],
                policy_checksum: vec![6; 32],
                next_checksum: None,
            }),
            forged: false,
        }),
        last_error: None,
        policy_checksum: vec![6; 32],
        on_chain: Some(OnChain {
            checksum: vec![5; 32],
            nodes: vec![[2; 32], [1; 32]],
        }),
    }
}

pub fn expectation() -> Expectation {
    Expectation {
        runtime: RUNTIME.parse().unwrap(),
        version: Version::new(0, 6, 0),
        started: Some("2026-07-01T08:00:00Z".parse().unwrap()),
        baseline: Some(Checksum::new([5; 32])),
        policy: Some(Checksum::new([6; 32])),
    }
}

fn judge(answer: &Answer, shape: Shape) -> Verdict {
    let status = NodeStatus::parse(&answer.print(shape)).unwrap();
    let now = NOW.parse().unwrap();
    verify(
        &expectation(),
        Some(Mrenclave::new([9; 32])),
        Ok(&status),
        now,
    )
}

#[test]
fn the_three_shapes_say_the_same() {
    for (shape, read, fields) in [
        (Shape::Flat, status::Shape::Flat, 1),
        (Shape::GlobalAndWorker, status::Shape::GlobalAndWorker, 1),
        (Shape::Secrets, status::Shape::Secrets, 2),
    ] {
        let status = NodeStatus::parse(&holder().print(shape)).unwrap();
        assert_eq!(status.node, NodeId::new([1; 32]));
        assert_eq!(status.consensus.latest_epoch, Some(Epoch(45121)));
        let part = &status.key_manager;
        assert_eq!(part.shape, read);
        assert_eq!(part.runtime.to_string(), RUNTIME);
        assert_eq!(part.states.len(), fields);
        assert!(part.is_ready());
        assert_eq!(part.on_chain.is_some(), shape != Shape::Flat);
        let id = RUNTIME.parse().unwrap();
        assert_eq!(status.registered(&id).count(), 1);
    }
}

/// As 26.1 was seen in its sources (facts, section 2), word for word where that stands there whole.
#[test]
fn a_node_that_was_just_restarted_is_read() {
    let text = r#"{"software_version":"26.1","mode":"keymanager",
     "identity":{"node":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="},
     "consensus":{"status":"syncing","latest_height":31000000,"latest_time":"2026-07-01T08:40:24Z","latest_epoch":45121},
     "registration":{"last_attempt_successful":false,"last_registration":"0001-01-01T00:00:00Z"},
     "keymanager":{"status":"starting","active_version":null,
      "runtime_id":"4000000000000000000000000000000000000000000000004a1a53dff2ae482d","client_runtimes":[],
      "secrets":{"status":null,"worker":{"status":"stopped"}}}}"#;
    let status = NodeStatus::parse(text).unwrap();
    assert_eq!(status.registration.last_registration, None);
    let states: Vec<State> = status.key_manager.states.iter().map(|s| s.1).collect();
    assert_eq!(states, [State::Starting, State::Stopped]);
    assert!(!status.key_manager.is_ready());
    let now = NOW.parse().unwrap();
    let verdict = verify(
        &expectation(),
        Some(Mrenclave::new([9; 32])),
        Ok(&status),
        now,
    );
    assert_eq!(verdict.verified, None);
    use Holds::{No, Unknown};
    let holds: Vec<Holds> = verdict.conditions.iter().map(|c| c.holds).collect();
    assert_eq!(holds, [No, No, Unknown, No, Unknown, Unknown, Unknown]);
}

#[test]
fn the_status_is_found_among_log_lines() {
    let document = holder().print(Shape::Secrets);
    let log = r#"{"level":"warn","module":"grpc","msg":"dialing","ts":"2026-07-01T08:40:30Z"}"#;
    for text in [
        format!("ts=2026 level=warn msg=\"an {{odd}} line\"\n{document}"),
        format!("{log}\n{document}"),
        format!("{document}{log}\n"),
    ] {
        assert!(NodeStatus::parse(&text).is_ok(), "{text}");
    }
    for text in [
        String::new(),
        log.to_owned(),
        format!("{document}{document}"),
        document[..document.len() / 2].to_owned(),
        format!("  {document}"),
        format!("{document}Error: something"),
    ] {
        assert!(NodeStatus::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn a_shape_that_isn_t_one_of_the_three_is_unknown() {
    let spoilt = |from: &str, to: &str| {
        let text = holder().print(Shape::Secrets);
        let spoilt = text.replacen(from, to, 1);
        assert_ne!(text, spoilt, "{from}");
        assert!(NodeStatus::parse(&spoilt).is_err(), "{from} to {to}");
    };
    spoilt(r#""keymanager": {"#, r#""other": {"#);
    spoilt(r#""secrets": {"#, r#""worker": {}, "secrets": {"#);
    spoilt(r#""secrets": {"#, r#""may_generate": false, "secrets": {"#);
    spoilt(r#""secrets": {"#, r#""mysteries": {"#);
    spoilt(
        r#""client_runtimes": []"#,
        r#""status": "ready", "client_runtimes": []"#,
    );
    spoilt(r#""latest_epoch": 45121"#, r#""latest_epoch": "45121""#);
    spoilt(r#""minor": 6"#, r#""minor": 6, "beta": 1"#);
    spoilt("BQUF", "BQ");
    spoilt(r#""identity""#, r#""identities""#);
}

#[test]
fn a_holder_is_verified_whatever_the_shape() {
    for shape in SHAPES {
        let verdict = judge(&holder(), shape);
        let not: Vec<_> = verdict
            .conditions
            .iter()
            .filter(|c| c.holds != Holds::Yes)
            .collect();
        assert!(not.is_empty(), "{shape:?}: {not:?}");
        let verified = verdict.verified.unwrap();
        assert_eq!(verified.checksum, Checksum::new([5; 32]));
        assert_eq!(verified.epoch, Epoch(45121));
    }
}

/// Each condition is the one that says no, to what it is there for.
#[test]
fn each_of_the_seven_conditions_stands_in_the_way_by_itself() {
    type Spoil = fn(&mut Answer);
    fn registered(answer: &mut Answer) -> &mut Registered {
        answer.registered.as_mut().unwrap()
    }
    fn said(answer: &mut Answer) -> &mut InitResponse {
        registered(answer).said.as_mut().unwrap()
    }
    let cases: [(&[u8], Spoil); 21] = [
        (&[1], |a| a.consensus = "syncing".into()),
        (&[1], |a| a.latest_time = "2026-07-01T08:30:00Z".into()),
        (&[1], |a| a.latest_time = "2026-07-01T08:50:00Z".into()),
        (&[2], |a| a.state = "starting".into()),
        (&[2], |a| a.state = "reddy".into()),
        (&[3], |a| registered(a).version = [0, 5, 0]),
        (&[3, 5], |a| a.runtime = RUNTIME.replace("4a1a", "4a1b")),
        (&[3, 4, 5, 6], |a| a.registered = None),
        (&[4], |a| registered(a).at = "2026-07-01T07:00:00Z".into()),
        (&[4], |a| registered(a).expiration = 45120),
        (&[4], |a| {
            a.last_error = Some("registry: node update not allowed".into())
        }),
        (&[5], |a| said(a).checksum = vec![4; 32]),
        (&[5], |a| said(a).checksum = Vec::new()),
        (&[5, 6], |a| said(a).checksum = vec![5; 31]),
        (&[5], |a| said(a).is_secure = false),
        (&[5, 6], |a| registered(a).said = None),
        (&[5], |a| {
            a.on_chain.as_mut().unwrap().checksum = vec![4; 32]
        }),
        (&[5], |a| a.on_chain.as_mut().unwrap().checksum = Vec::new()),
        (&[6], |a| said(a).policy_checksum = vec![4; 32]),
        (&[6], |a| said(a).next_checksum = Some(vec![4; 32])),
        (&[7], |a| a.on_chain.as_mut().unwrap().nodes = vec![[2; 32]]),
    ];
    for (n, (expected, spoil)) in cases.iter().enumerate() {
        let mut answer = holder();
        spoil(&mut answer);
        let verdict = judge(&answer, Shape::Secrets);
        let failing = verdict.conditions.iter().filter(|c| c.holds != Holds::Yes);
        let failing: Vec<u8> = failing.map(|c| c.number).collect();
        assert!(
            expected.iter().all(|c| failing.contains(c)) && verdict.verified.is_none(),
            "case {n}: {failing:?}, and {expected:?} was expected"
        );
        if let [alone] = expected {
            assert_eq!(failing, [*alone], "case {n}");
        }
    }
}

#[test]
fn an_answer_that_another_enclave_signed_is_no_proof() {
    let mut forged = holder();
    forged.registered.as_mut().unwrap().forged = true;
    let status = NodeStatus::parse(&forged.print(Shape::Secrets)).unwrap();
    let now = NOW.parse().unwrap();
    let verdict = verify(
        &expectation(),
        Some(Mrenclave::new([9; 32])),
        Ok(&status),
        now,
    );
    assert_eq!(verdict.conditions[4].holds, Holds::No);
    assert!(verdict.conditions[4].seen.contains("NOT signed"));
    assert_eq!(verdict.verified, None);
}

#[test]
fn no_answer_is_seven_times_unknown() {
    let now = NOW.parse().unwrap();
    let verdict = verify(
        &expectation(),
        Some(Mrenclave::new([9; 32])),
        Err("exit 128"),
        now,
    );
    assert_eq!(verdict.conditions.len(), 7);
    assert!(verdict.conditions.iter().all(|c| c.holds == Holds::Unknown));
    let mut unstarted = expectation();
    unstarted.started = None;
    let status = NodeStatus::parse(&holder().print(Shape::Flat)).unwrap();
    let verdict = verify(&unstarted, Some(Mrenclave::new([9; 32])), Ok(&status), now);
    assert_eq!(verdict.conditions[3].holds, Holds::Unknown);
}

#[test]
fn verified_again_takes_a_later_epoch_and_a_newer_registration() {
    let at = |epoch: u64, second: i64| Verified {
        at: NOW.parse().unwrap(),
        epoch: Epoch(epoch),
        registered_at: jiff::Timestamp::from_second(second).unwrap(),
        version: Version::new(0, 7, 0),
        mrenclave: Mrenclave::new([9; 32]),
        checksum: Checksum::new([5; 32]),
        policy_checksum: Checksum::new([6; 32]),
    };
    let twice = |second: Verified| {
        let mut both = Verifications::default();
        both.add(at(10, 100));
        both.add(second);
        both.twice()
    };
    assert!(twice(at(11, 101)));
    assert!(!twice(at(10, 101)));
    assert!(!twice(at(11, 100)));
    assert!(!twice(Verified {
        checksum: Checksum::new([4; 32]),
        ..at(11, 101)
    }));
    assert!(!twice(Verified {
        mrenclave: Mrenclave::new([4; 32]),
        ..at(11, 101)
    }));
    let mut both = Verifications::default();
    both.add(at(10, 100));
    both.add(at(11, 101));
    both.failed();
    assert_eq!(both, Verifications::default());
}
