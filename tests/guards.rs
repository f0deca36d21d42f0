//! What changed since the plan, or since the switch: staging, applying, going back and unstaging refuse what the rules
//! forbid, before anything is touched.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use support::{CONFIGS, Host, UNITS};

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];

/// Runs a plan that must be refused, and checks that nothing changed.
#[track_caller]
fn refused(host: &Host, words: &[&str], says: &[&str]) {
    let before = host.tree();
    host.kmsctl(words).exits(3).says(says);
    assert_eq!(host.tree(), before, "nothing is written");
    if words[0] == "plan" && host.path("var/lib/kmsctl/plan.json").exists() {
        // A saved plan keeps its findings: apply repeats them.
        host.kmsctl(&["apply", "--yes"]).exits(3).says(&says[..1]);
        assert_eq!(host.tree(), before, "nothing is written by apply either");
    }
}

fn state(n: u8) -> String {
    format!("{CONFIGS}/commercio_priv_validator_state0{n}.json")
}

fn config(n: u8) -> String {
    format!("{CONFIGS}/tmkms.0{n}.toml")
}

fn unit(n: u8) -> String {
    format!("{UNITS}/tmkms-0{n}.service")
}

#[test]
fn a_key_that_signed_the_new_chain_with_another_state_file() {
    let host = Host::of("commercio");
    host.switched();
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    refused(
        &host,
        &["plan", "--new-chain", "commercio-3", "--suffix", "again"],
        &["block[state-elsewhere]", "state01.v3.json: another file"],
    );
}

#[test]
fn a_state_file_behind_what_a_journal_saw() {
    let host = Host::of("commercio");
    host.switched();
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.edit(&state(1), "2233550", "2233549");
    refused(
        &host,
        &PLAN,
        &[
            "block[state-behind]",
            "at 2233549/0/2, and a journal saw it at 2233550/0/2",
        ],
    );
}

#[test]
fn the_way_back_finds_a_lost_state_file_before_it_stops_anything() {
    let host = Host::of("commercio");
    host.switched();
    host.remove(&state(2));
    refused(
        &host,
        &["rollback", "--yes"],
        &[
            "block[state-unreadable]",
            "state02.json",
            "2233550/0/2",
            "find the file",
        ],
    );
    host.kmsctl(&["plan", "--new-chain", "commercio-3", "--detailed-exitcode"])
        .exits(0);
    let status = host.json(&["status", "--json"]);
    assert_eq!(status["operation"], serde_json::Value::Null);
}

#[test]
fn a_new_chain_s_state_file_that_was_seen_may_not_vanish() {
    let host = Host::of("commercio");
    host.switched();
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.remove(&format!(
        "{CONFIGS}/commercio_priv_validator_state01.v3.json"
    ));
    refused(
        &host,
        &PLAN,
        &[
            "block[state-unreadable]",
            "state01.v3.json",
            "beginning again at 0",
        ],
    );
}

#[test]
fn inputs_that_changed_since_the_plan() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    host.edit(&config(2), "reconnect = true", "reconnect = false");
    let says = [
        "-reconnect = true",
        "+reconnect = false",
        "/data_tmkms/tmkms/kms/commercio/tmkms.02.toml",
        "plan again",
    ];
    refused(&host, &["stage", "--yes"], &says);
    refused(&host, &["apply", "--yes"], &says);
}

#[test]
fn a_staged_file_that_is_no_longer_the_plan_s() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host.edit(
        &format!("{CONFIGS}/tmkms.02.v3.toml"),
        "10.1.1.2",
        "10.1.1.9",
    );
    refused(
        &host,
        &["apply", "--yes"],
        &[
            "block[file-in-the-way]",
            "tmkms.02.v3.toml",
            "kmsctl unstage",
        ],
    );
    host.kmsctl(&["unstage", "--yes"])
        .exits(3)
        .says(&["tmkms.02.v3.toml was changed since it was staged"]);
}

#[test]
fn an_edited_config_can_be_planned_again_after_unstaging() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host.edit(&config(2), "10.1.1.2", "10.1.1.9");
    refused(&host, &PLAN, &["block[file-in-the-way]", "kmsctl unstage"]);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    assert!(
        host.read(&format!("{CONFIGS}/tmkms.02.v3.toml"))
            .contains("10.1.1.9")
    );
}

#[test]
fn a_way_back_to_another_key() {
    let host = Host::of("commercio");
    host.switched();
    host.edit(&config(2), "key = 2 }]", "key = 7 }]");
    let says = [
        "the way back is blocked",
        "/data_tmkms/tmkms/kms/commercio/tmkms.02.toml",
        "put the config",
    ];
    refused(&host, &["rollback", "--yes"], &says);
    host.edit(&config(2), "key = 7 }]", "key = 2 }]");
    host.edit(&config(2), "reconnect = true", "reconnect = false");
    host.kmsctl(&["rollback", "--yes"])
        .exits(0)
        .says(&["changed since the plan was made"]);
}

#[test]
fn a_saved_plan_of_a_newer_format_or_changed_by_hand() {
    let host = Host::of("commercio");
    host.kmsctl(&PLAN).exits(0);
    let saved = host.read("var/lib/kmsctl/plan.json");
    host.write(
        "var/lib/kmsctl/plan.json",
        &saved.replacen("\"format_version\":1", "\"format_version\":2", 1),
    );
    host.kmsctl(&["apply", "--yes"])
        .exits(1)
        .says(&["plan.json", "format 2", "format 1"]);
    host.write(
        "var/lib/kmsctl/plan.json",
        &saved.replace("state02.v3.json", "state01.json"),
    );
    host.kmsctl(&["apply", "--yes"])
        .exits(1)
        .says(&["plan.json", "changed by hand"]);
}

#[test]
fn nothing_planned_nothing_staged_nothing_switched() {
    let host = Host::of("commercio");
    host.kmsctl(&["apply", "--yes"])
        .exits(3)
        .says(&["/var/lib/kmsctl/plan.json", "kmsctl plan --new-chain"]);
    host.kmsctl(&["rollback", "--yes"])
        .exits(3)
        .says(&["nothing was switched"]);
    host.kmsctl(&["unstage", "--yes"])
        .exits(0)
        .says(&["Nothing is staged"]);
    host.switched();
    host.kmsctl(&["unstage", "--yes"])
        .exits(3)
        .says(&["kmsctl rollback"]);
    host.kmsctl(&["rollback", "9", "--yes"])
        .exits(3)
        .says(&["no operation 9"]);
}

/// A signer of the host's first key, hot on a chain, with a state file of its own.
fn a_hot_signer(host: &Host, chain: &str) {
    let text = host
        .read(&config(1))
        .replace("commercio-2_2", chain)
        .replace("state01.json", "hot.json");
    host.write(
        &format!("{CONFIGS}/hot.toml"),
        &text.replace("state01.v3.json", "hot.json"),
    );
    let file = format!("{CONFIGS}/commercio_priv_validator_hot.json");
    host.write(
        &file,
        r#"{"height":"2233560","round":"0","step":2,"block_id":null}"#,
    );
    let text = host.read(&unit(1)).replace("tmkms.01.toml", "hot.toml");
    host.write(&format!("{UNITS}/tmkms-hot.service"), &text);
    host.link(
        &format!("{UNITS}/multi-user.target.wants/tmkms-hot.service"),
        "/etc/systemd/system/tmkms-hot.service",
    );
}

#[test]
fn the_way_back_refuses_a_key_that_another_signer_uses_by_now() {
    let host = Host::of("commercio");
    host.switched();
    a_hot_signer(&host, "commercio-2_2");
    refused(
        &host,
        &["rollback", "--yes"],
        &["block[key-shared]", "tmkms-hot.service", "stop and disable"],
    );
}

#[test]
fn unstaging_leaves_what_another_plan_staged_closed() {
    let host = Host::of("commercio");
    let before = host.tree();
    host.kmsctl(&[&PLAN[..], &["--signer", "tmkms-01"]].concat())
        .exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    let first = host.tree();
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    assert_eq!(
        host.tree(),
        first,
        "the first plan's files and its closed fence"
    );
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    assert_eq!(host.tree(), before);
}

#[test]
fn unstaging_an_applied_plan_is_refused_though_nothing_runs() {
    let host = Host::of("commercio");
    for n in 1..=3 {
        host.remove(&format!(
            "{UNITS}/multi-user.target.wants/tmkms-0{n}.service"
        ));
    }
    let run = |n: u8| {
        format!(
            r#""tmkms-0{n}.service":{{"active":"active","sub":"running","main_pid":100{n},"invocation":"{n}","restarts":0,"control_group":""}}"#
        )
    };
    let units = [run(1), run(2), run(3)].join(",");
    host.write(
        "run/kmsctl/services.json",
        &format!(r#"{{"format_version":1,"starts":9,"units":{{{units}}}}}"#),
    );
    host.switched();
    host.write(
        "run/kmsctl/services.json",
        r#"{"format_version":1,"starts":9,"units":{}}"#,
    );
    refused(
        &host,
        &["unstage", "--yes"],
        &["the plan was applied", "kmsctl rollback"],
    );
}

#[test]
fn another_binary_or_an_inherited_drop_in_since_the_plan() {
    let host = Host::of("commercio");
    let binary = "data_tmkms/tmkms/.cargo/bin/tmkms";
    host.write(binary, "one");
    host.write(
        &format!("{UNITS}/service.d/10-all.conf"),
        "[Service]\nNice=1\n",
    );
    host.kmsctl(&PLAN).exits(0);
    host.write(binary, "two");
    refused(
        &host,
        &["apply", "--yes"],
        &["/data_tmkms/tmkms/.cargo/bin/tmkms: another binary"],
    );
    host.kmsctl(&PLAN).exits(0);
    host.write(
        &format!("{UNITS}/service.d/10-all.conf"),
        "[Service]\nNice=2\n",
    );
    refused(
        &host,
        &["apply", "--yes"],
        &["-Nice=1", "+Nice=2", "service.d/10-all.conf"],
    );
}

#[test]
fn a_drop_in_that_takes_the_fence_back() {
    let host = Host::of("commercio");
    host.write(
        &format!("{UNITS}/tmkms-02.service.d/zzz.conf"),
        "[Unit]\nAssertPathExists=\n",
    );
    host.kmsctl(&PLAN).exits(0);
    let before = host.tree();
    host.kmsctl(&["stage", "--yes"])
        .exits(1)
        .says(&["systemd doesn't heed", "tmkms-02"]);
    assert_eq!(host.tree(), before, "what was written was taken back");
}

#[test]
fn what_enabling_makes_beyond_the_plan_is_taken_back_and_refused() {
    let host = Host::of("commercio");
    let extra = "/etc/systemd/system/multi-user.target.wants/beside.service";
    host.write(
        &format!("{UNITS}/beside.service"),
        "[Service]\nExecStart=/bin/true\n",
    );
    let faults = serde_json::json!({
        "tmkms-02.v3.service": { "enable": [extra, "/etc/systemd/system/beside.service"] },
    });
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    let staged = host.tree();
    host.write("run/kmsctl/faults.json", &faults.to_string());
    host.kmsctl(&["apply", "--yes"]).exits(5).says(&[
        "switch/enable",
        extra,
        "which the plan doesn't name",
    ]);
    assert_eq!(host.tree(), staged, "the links are as before");
    host.remove("run/kmsctl/faults.json");
    host.kmsctl(&["apply", "--yes"]).exits(0);
}

#[test]
fn out_is_written_over_no_other_file() {
    let host = Host::of("commercio");
    let state = format!("{CONFIGS}/commercio_priv_validator_state01.json");
    let path = host.path(&state);
    let before = host.tree();
    let plan = [&PLAN[..], &["--out", path.to_str().unwrap()]].concat();
    host.kmsctl(&plan)
        .exits(1)
        .says(&[&state, "is no plan of kmsctl, and it is kept"]);
    assert_eq!(host.tree(), before);
    let saved = host.path("saved.json");
    let plan = [&PLAN[..], &["--out", saved.to_str().unwrap()]].concat();
    host.kmsctl(&plan).exits(0);
    host.kmsctl(&plan).exits(0);
}

#[test]
fn a_binary_that_was_replaced_is_not_gone_back_to() {
    let host = Host::of("commercio");
    let program = "data_tmkms/tmkms/.cargo/bin/tmkms";
    host.write(program, "one");
    host.switched();
    host.write(program, "two");
    host.kmsctl(&["rollback", "--yes"])
        .exits(3)
        .says(&[program, "no longer the binary"]);
    host.write(program, "one");
    host.kmsctl(&["rollback", "--yes"]).exits(0);
}
