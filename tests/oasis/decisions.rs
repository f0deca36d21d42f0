//! Each rule of the fleet by itself: a night in order passes, and every single thing out of order is stopped by the rule
//! that is there for it. Take a rule away, and its line here fails.

use kmsctl::journal::OperationId;
use kmsctl::kms::oasis::answer::{Answer, baseline};
use kmsctl::kms::oasis::failure::recognise;
use kmsctl::kms::oasis::fleet::{Me, No, Rule, Terms, holders, may_leave};
use kmsctl::kms::oasis::ids::{Checksum, Epoch, Mrenclave, NodeId, Rak, Version};
use kmsctl::kms::oasis::proofs::{Verifications, Verified};
use kmsctl::kms::oasis::published::{Evidence, Half, Leaving, NodeRow};
use kmsctl::kms::oasis::verify::{Condition, Holds};
use kmsctl::kms::oasis::way_back::{
    Aside, Identity, against_finalizing, against_going_back, against_leaving_back,
    takes_a_copy_away,
};
use serde_json::json;

use crate::bundles::RUNTIME;
use crate::statuses::NOW;
use stand_in_oasis_node::answer::{InitResponse, extra_info, rak};

const SECRETS: Checksum = Checksum::new([5; 32]);
const POLICY: Checksum = Checksum::new([6; 32]);
const OLD: Mrenclave = Mrenclave::new([60; 32]);
const NEW: Mrenclave = Mrenclave::new([70; 32]);

fn terms(holders: usize) -> Terms {
    Terms {
        runtime: RUNTIME.parse().unwrap(),
        baseline: SECRETS,
        policy: POLICY,
        old: OLD,
        new: NEW,
        holders,
        upgrade_epoch: Some(Epoch(100)),
    }
}

fn evidence(seed: u8, checksum: u8) -> Evidence {
    let said = InitResponse {
        is_secure: true,
        checksum: vec![checksum; 32],
        policy_checksum: vec![6; 32],
        next_checksum: None,
    };
    Evidence {
        extra_info: extra_info(&[seed; 32], &said),
        rak: Rak::new(rak(&[seed; 32])),
    }
}

fn verified(epoch: u64) -> Verified {
    Verified {
        at: NOW.parse().unwrap(),
        epoch: Epoch(epoch),
        registered_at: jiff::Timestamp::from_second(1_000_000 + epoch as i64).unwrap(),
        version: Version::new(0, 7, 0),
        mrenclave: NEW,
        checksum: SECRETS,
        policy_checksum: POLICY,
    }
}

/// A node on the old version that holds the secrets.
fn old(id: u8) -> NodeRow {
    NodeRow {
        node: format!("km{id}"),
        unit: "oasis-node.service".into(),
        runtime: RUNTIME.parse().unwrap(),
        identity: Some(NodeId::new([id; 32])),
        version: Some(Version::new(0, 6, 0)),
        mrenclave: Some(OLD),
        leaving: None,
        conditions: (1..=7)
            .map(|number| Condition {
                number,
                holds: Holds::Yes,
                expected: String::new(),
                seen: String::new(),
            })
            .collect(),
        epoch: Some(Epoch(101)),
        checksum: Some(SECRETS),
        policy_checksum: Some(POLICY),
        evidence: Some(evidence(id, 5)),
        verifications: Verifications::default(),
        failures: Vec::new(),
        half: None,
        finalized: false,
    }
}

/// One of the first half, verified twice.
fn new(id: u8) -> NodeRow {
    NodeRow {
        version: Some(Version::new(0, 7, 0)),
        mrenclave: Some(NEW),
        verifications: Verifications {
            first: Some(verified(100)),
            again: Some(verified(101)),
        },
        half: Some(Half::First),
        ..old(id)
    }
}

/// Upgraded, and waiting for its epoch.
fn waiting(id: u8) -> NodeRow {
    let mut row = new(id);
    row.verifications = Verifications::default();
    row.evidence = None;
    row.checksum = None;
    row.policy_checksum = None;
    for condition in &mut row.conditions[1..] {
        condition.holds = Holds::Unknown;
    }
    row
}

fn leaving(mut row: NodeRow) -> NodeRow {
    row.leaving = Some(Leaving {
        operation: OperationId(7),
        since: NOW.parse().unwrap(),
    });
    row
}

fn known(rows: Vec<NodeRow>) -> Vec<(String, Answer)> {
    let answer = |row: NodeRow| (row.node.clone(), Answer::Known(Box::new(row)));
    rows.into_iter().map(answer).collect()
}

fn rules(found: Vec<No>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = found.into_iter().map(|no| no.rule).collect();
    rules.sort();
    rules.dedup();
    rules
}

fn ask(holders: usize, rows: Vec<NodeRow>) -> Result<Half, Vec<Rule>> {
    may_leave(&terms(holders), Me::Running(&old(1)), &known(rows), true).map_err(rules)
}

#[test]
fn a_night_in_order_passes() {
    assert_eq!(ask(1, vec![old(2)]), Ok(Half::First));
    assert_eq!(ask(1, vec![new(2)]), Ok(Half::Second));
    assert_eq!(ask(2, vec![old(2), old(3)]), Ok(Half::First));
    assert_eq!(ask(2, vec![old(2), new(3)]), Ok(Half::Second));
    assert_eq!(ask(2, vec![waiting(2), old(3), old(4)]), Ok(Half::First));
    assert_eq!(ask(2, vec![new(2), new(3), old(4)]), Ok(Half::Second));
    let mut gone_second = new(4);
    gone_second.half = Some(Half::Second);
    gone_second.verifications.again = None;
    assert_eq!(ask(2, vec![new(2), new(3), gone_second]), Ok(Half::Second));
    let seven = vec![waiting(2), waiting(3), old(4), old(5), old(6), old(7)];
    assert_eq!(ask(2, seven), Ok(Half::First));
}

#[test]
fn every_single_thing_out_of_order_is_stopped_by_its_rule() {
    type Spoil = fn(&mut NodeRow);
    let first: [(Rule, Spoil); 12] = [
        (Rule::OtherLeaving, |r| *r = leaving(r.clone())),
        (Rule::OtherEnclave, |r| {
            r.mrenclave = Some(Mrenclave::new([1; 32]))
        }),
        (Rule::Unknown, |r| r.mrenclave = None),
        (Rule::Unknown, |r| r.identity = None),
        (Rule::SameNode, |r| r.identity = Some(NodeId::new([1; 32]))),
        (Rule::SameNode, |r| r.identity = Some(NodeId::new([3; 32]))),
        (Rule::Differs, |r| r.checksum = Some(Checksum::new([4; 32]))),
        (Rule::Differs, |r| {
            r.policy_checksum = Some(Checksum::new([4; 32]))
        }),
        (Rule::TooFewHolders, |r| r.conditions[1].holds = Holds::No),
        (Rule::TooFewHolders, |r| {
            r.conditions[6].holds = Holds::Unknown
        }),
        (Rule::TooFewHolders, |r| drop(r.conditions.pop())),
        (Rule::TooFewHolders, |r| r.checksum = None),
    ];
    for (n, (rule, spoil)) in first.into_iter().enumerate() {
        let mut row = old(2);
        spoil(&mut row);
        let found = ask(2, vec![row, old(3)]).unwrap_err();
        assert!(found.contains(&rule), "case {n}: {found:?}");
    }
    assert_eq!(
        ask(2, vec![waiting(2), old(3)]),
        Err(vec![Rule::TooFewHolders, Rule::NotVerifiedTwice,])
    );
}

#[test]
fn a_holder_that_can_t_prove_it_is_none() {
    let spoilt: [fn(&mut NodeRow); 5] = [
        |r| r.evidence = None,
        |r| r.evidence = Some(evidence(2, 4)),
        |r| r.evidence.as_mut().unwrap().rak = Rak::new(rak(&[3; 32])),
        |r| r.evidence.as_mut().unwrap().extra_info = "oQ==".into(),
        |r| r.policy_checksum = None,
    ];
    for (n, spoil) in spoilt.into_iter().enumerate() {
        let mut row = old(2);
        spoil(&mut row);
        assert_eq!(
            ask(2, vec![row, old(3)]),
            Err(vec![Rule::TooFewHolders]),
            "case {n}"
        );
    }
}

#[test]
fn in_the_first_half_only_old_holders_count() {
    // Five hold the secrets, and three of them on the old version.
    let mut unwell = old(8);
    unwell.conditions[1].holds = Holds::No;
    let rows = vec![new(2), new(3), waiting(4), old(5), old(6), old(7), unwell];
    assert_eq!(ask(4, rows), Err(vec![Rule::TooFewHolders]));
    let rows = vec![new(2), old(3), old(4), old(5), old(6), old(7), old(8)];
    assert_eq!(ask(4, rows), Ok(Half::First));
}

#[test]
fn the_second_half_waits_for_everything() {
    let fleet = |spoil: &dyn Fn(&mut Vec<NodeRow>)| {
        let mut rows = vec![new(2), new(3), old(4)];
        spoil(&mut rows);
        ask(2, rows)
    };
    assert_eq!(fleet(&|_| ()), Ok(Half::Second));
    let late = Err(vec![Rule::EpochNotReached]);
    assert_eq!(fleet(&|r| r[0].epoch = Some(Epoch(99))), late);
    assert_eq!(fleet(&|r| r[2].epoch = None), late);
    let once = Err(vec![Rule::NotVerifiedTwice]);
    assert_eq!(fleet(&|r| r[0].verifications.again = None), once);
    let dropped = fleet(&|r| r[2].conditions[3].holds = Holds::No);
    assert_eq!(dropped, Err(vec![Rule::OldHalfDropped]));
    let unnoted = fleet(&|r| {
        r[1].half = Some(Half::Second);
        r[1].verifications = Verifications::default();
    });
    assert_eq!(unnoted, once);
    let unready = fleet(&|r| r[1].conditions[1].holds = Holds::No);
    assert_eq!(unready, once);
    let rows = known(vec![new(2), new(3), old(4)]);
    let unconfirmed = may_leave(&terms(2), Me::Running(&old(1)), &rows, false);
    assert_eq!(rules(unconfirmed.unwrap_err()), [Rule::NotConfirmed]);
    let mut no_epoch = terms(2);
    no_epoch.upgrade_epoch = None;
    let refused = may_leave(&no_epoch, Me::Running(&old(1)), &rows, true);
    assert_eq!(rules(refused.unwrap_err()), [Rule::EpochNotReached]);
}

#[test]
fn before_the_epoch_half_of_the_fleet_stays_old_whatever_is_asked() {
    // One other holder would be enough for this operator, and three would remain.
    let rows = vec![waiting(2), waiting(3), waiting(4), old(5), old(6), old(7)];
    let found = ask(1, rows).unwrap_err();
    assert!(found.contains(&Rule::NotVerifiedTwice), "{found:?}");
    // Asked again after the stop it is the half of before, and another may have filled it meanwhile.
    let filled = known(vec![waiting(2), waiting(3), old(4)]);
    let me = Me::Stopped(NodeId::new([1; 32]), Half::First);
    let found = may_leave(&terms(1), me, &filled, true).unwrap_err();
    assert_eq!(rules(found), [Rule::HalfIsGone]);
}

#[test]
fn this_node_must_itself_be_well_before_it_leaves() {
    let rows = known(vec![old(2), old(3)]);
    let claimed = leaving(old(1));
    assert_eq!(
        may_leave(&terms(2), Me::Running(&claimed), &rows, true),
        Ok(Half::First)
    );
    let mut me = claimed;
    me.conditions[0].holds = Holds::Unknown;
    let found = may_leave(&terms(2), Me::Running(&me), &rows, true).unwrap_err();
    assert_eq!(rules(found), [Rule::SelfNotVerified]);
    let stopped = Me::Stopped(NodeId::new([1; 32]), Half::First);
    assert_eq!(may_leave(&terms(2), stopped, &rows, true), Ok(Half::First));
    let twice = known(vec![old(1), old(2)]);
    let found = may_leave(&terms(2), stopped, &twice, true).unwrap_err();
    assert_eq!(rules(found), [Rule::SameNode]);
}

#[test]
fn one_that_replicated_something_else_keeps_every_other_where_it_is() {
    let corrupted = |row: NodeRow| NodeRow {
        failures: recognise(["key manager state corrupted"], None),
        ..row
    };
    let stopped = Err(vec![Rule::FleetStopped]);
    // Whatever else it shows: both halves, this node itself, the way back and the last step.
    assert_eq!(ask(1, vec![corrupted(old(2)), old(3), old(4)]), stopped);
    assert_eq!(ask(2, vec![new(2), corrupted(new(3)), old(4)]), stopped);
    let found = may_leave(
        &terms(2),
        Me::Running(&corrupted(old(1))),
        &known(vec![old(2), old(3)]),
        true,
    );
    assert_eq!(found.map_err(rules), stopped);
    let rows = known(vec![new(2), new(3), corrupted(new(4))]);
    let back = against_leaving_back(NodeId::new([1; 32]), &terms(2), &rows);
    assert_eq!(rules(back), [Rule::FleetStopped]);
    let last = against_finalizing(&new(1), &terms(2), &rows);
    assert_eq!(rules(last), [Rule::FleetStopped]);
    // What only waits or holds is told, and keeps nobody.
    let waits = NodeRow {
        failures: recognise(["registry: node update not allowed"], None),
        ..old(2)
    };
    assert_eq!(ask(2, vec![waits, old(3)]), Ok(Half::First));
}

#[test]
fn unknown_is_no_and_nobody_is_no() {
    let mut answers = known(vec![old(2), old(3), old(4)]);
    answers[1].1 = Answer::Unknown("it didn't answer in 10 s".into());
    let me = old(1);
    let found = may_leave(&terms(2), Me::Running(&me), &answers, true).unwrap_err();
    assert_eq!(rules(found), [Rule::Unknown]);
    let found = may_leave(&terms(1), Me::Running(&me), &[], true).unwrap_err();
    assert!(rules(found).contains(&Rule::FleetOfOne));
    // A plan that was changed by hand.
    let found = may_leave(&terms(0), Me::Running(&me), &known(vec![old(2)]), true).unwrap_err();
    assert_eq!(rules(found), [Rule::FleetOfOne]);
}

#[test]
fn how_many_must_stay() {
    assert!(holders(1, None).is_err() && holders(1, Some(1)).is_err());
    let by_default: Vec<usize> = [2, 3, 4, 7]
        .iter()
        .map(|n| holders(*n, None).unwrap())
        .collect();
    assert_eq!(by_default, [1, 2, 2, 2]);
    assert!(holders(3, Some(0)).is_err());
    assert_eq!(holders(7, Some(4)), Ok(4));
    assert!(holders(7, Some(5)).is_err());
    assert!(holders(4, Some(3)).is_err());
}

#[test]
fn a_baseline_is_one_checksum_proven_by_every_node() {
    assert_eq!(
        baseline(&known(vec![old(1), old(2), old(3)])),
        Ok((SECRETS, POLICY))
    );
    let mut other = old(2);
    other.checksum = Some(Checksum::new([4; 32]));
    other.evidence = Some(evidence(2, 4));
    let found = baseline(&known(vec![old(1), other])).unwrap_err();
    assert_eq!(rules(found), [Rule::Differs]);
    let found = baseline(&known(vec![old(1), waiting(2)])).unwrap_err();
    assert_eq!(rules(found), [Rule::Unknown]);
    let mut answers = known(vec![old(1), old(2)]);
    answers[0].1 = Answer::Unknown("exit 255".into());
    assert_eq!(rules(baseline(&answers).unwrap_err()), [Rule::Unknown]);
    assert_eq!(
        rules(baseline(&known(vec![old(1)])).unwrap_err()),
        [Rule::FleetOfOne]
    );
}

#[test]
fn a_peer_s_document_counts_only_when_it_is_of_now_and_of_one_node() {
    let read = |document: &serde_json::Value| {
        let runtime = RUNTIME.parse().unwrap();
        let bytes = serde_json::to_vec(document).unwrap();
        matches!(
            Answer::parse(&bytes, &runtime, NOW.parse().unwrap()),
            Answer::Known(_)
        )
    };
    let document = |rows: &[NodeRow], at: &str| json!({"format_version": 1, "observed_at": at, "key_managers": rows, "signers": []});
    let good = document(&[old(2)], NOW);
    assert!(read(&good));
    assert!(!read(&document(&[], NOW)));
    assert!(!read(&document(&[old(2), old(3)], NOW)));
    assert!(!read(&document(&[old(2)], "2026-07-01T08:39:00Z")));
    assert!(!read(&document(&[old(2)], "2026-07-01T08:42:00Z")));
    let mut newer = good.clone();
    newer["format_version"] = json!(2);
    assert!(!read(&newer));
    let mut missing = good.clone();
    missing.as_object_mut().unwrap().remove("key_managers");
    assert!(!read(&missing));
    let mut other = old(2);
    other.runtime = RUNTIME.replace("4a1a", "8c5e").parse().unwrap();
    assert!(!read(&document(&[other], NOW)));
    let runtime = RUNTIME.parse().unwrap();
    for garbage in [
        "",
        "null",
        "ssh: connect to host km2: timed out",
        "{}",
        "[1]",
    ] {
        let answer = Answer::parse(garbage.as_bytes(), &runtime, NOW.parse().unwrap());
        assert!(matches!(answer, Answer::Unknown(_)), "{garbage}");
    }
}

#[test]
fn the_way_back_is_only_this_host_s_own_database() {
    let here = Identity {
        device: 1,
        inode: 2,
        machine: "a".into(),
    };
    let aside = |recorded: Option<&Identity>, found: Option<&Identity>, finalized| {
        against_going_back(&Aside {
            recorded: recorded.cloned(),
            found: found.cloned(),
            finalized,
        })
        .is_none()
    };
    assert!(aside(Some(&here), Some(&here), false));
    assert!(!aside(Some(&here), Some(&here), true));
    assert!(!aside(None, Some(&here), false));
    assert!(!aside(Some(&here), None, false));
    for other in [
        Identity {
            inode: 3,
            ..here.clone()
        },
        Identity {
            device: 3,
            ..here.clone()
        },
        Identity {
            machine: "b".into(),
            ..here.clone()
        },
    ] {
        assert!(!aside(Some(&here), Some(&other), false));
    }
}

#[test]
fn going_back_asks_where_a_copy_would_be_missed() {
    assert!(takes_a_copy_away(&new(1), &terms(2), false));
    assert!(!takes_a_copy_away(&waiting(1), &terms(2), false));
    assert!(takes_a_copy_away(&waiting(1), &terms(2), true));
    let me = NodeId::new([1; 32]);
    let back = |rows| rules(against_leaving_back(me, &terms(2), &known(rows)));
    assert_eq!(back(vec![new(2), old(3)]), []);
    assert_eq!(back(vec![new(2), waiting(3)]), [Rule::TooFewHolders]);
    assert_eq!(
        back(vec![new(2), leaving(old(3)), old(4)]),
        [Rule::OtherLeaving]
    );
    assert_eq!(back(vec![new(2), old(2), old(3)]), [Rule::SameNode]);
    assert_eq!(back(vec![old(1), old(2), old(3)]), [Rule::SameNode]);
}

#[test]
fn the_point_of_no_return_wants_the_whole_fleet_verified_twice() {
    let finalize = |me: &NodeRow, rows| rules(against_finalizing(me, &terms(2), &known(rows)));
    assert_eq!(finalize(&new(1), vec![new(2), new(3)]), []);
    assert_eq!(
        finalize(&new(1), vec![new(2), old(3)]),
        [Rule::NotVerifiedTwice]
    );
    let mut once = new(1);
    once.verifications.again = None;
    assert_eq!(
        finalize(&once, vec![new(2), new(3)]),
        [Rule::NotVerifiedTwice]
    );
    assert_eq!(
        finalize(&new(1), vec![new(2), leaving(new(3))]),
        [Rule::OtherLeaving, Rule::TooFewHolders]
    );
    let mut answers = known(vec![new(2), new(3), new(4)]);
    answers[0].1 = Answer::Unknown("exit 255".into());
    let found = against_finalizing(&new(1), &terms(2), &answers);
    assert_eq!(rules(found), [Rule::Unknown]);
}
