//! What a host's units really are, however they came to be: linked under another name, wanted by other units, told by a
//! prefix's drop-in, masked, tied to each other, or running something else than they say. Each case goes there and back,
//! or is refused and nothing is written.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../support/mod.rs"]
mod support;
mod ties;

use std::fs;

use serde_json::Value;
use support::{CONFIGS, Host, Said, UNITS};

const PLAN: [&str; 3] = ["plan", "--new-chain", "commercio-3"];
const WANTS: &str = "etc/systemd/system/multi-user.target.wants";

fn unit(n: u8) -> String {
    format!("{UNITS}/tmkms-0{n}.service")
}

fn wants(n: u8) -> String {
    format!("{WANTS}/tmkms-0{n}.service")
}

/// The host with these units running, whatever is enabled.
fn running(host: &Host, units: &[&str]) {
    let runs: Vec<String> = (1001..)
        .zip(units)
        .map(|(pid, unit)| {
            format!(
                r#""{unit}":{{"active":"active","sub":"running","main_pid":{pid},"invocation":"{pid:032x}","restarts":0,"control_group":""}}"#
            )
        })
        .collect();
    let text = format!(
        r#"{{"format_version":1,"starts":{},"units":{{{}}}}}"#,
        units.len(),
        runs.join(",")
    );
    host.write("run/kmsctl/services.json", &text);
}

const ALL: [&str; 3] = ["tmkms-01.service", "tmkms-02.service", "tmkms-03.service"];

/// There and back: nothing is left to do, then everything is as it was staged. What the way there said.
#[track_caller]
fn there_and_back(host: &Host) -> Said {
    host.kmsctl(&[&PLAN[..], &["--detailed-exitcode"]].concat())
        .exits(10);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    let staged = without_states(host);
    let said = host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&[&PLAN[..], &["--detailed-exitcode"]].concat())
        .exits(0);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    assert_eq!(without_states(host), staged);
    said
}

fn without_states(host: &Host) -> support::Tree {
    let mut tree = host.tree();
    tree.retain(|path, _| !path.to_string_lossy().contains("validator_state"));
    tree
}

fn moves(host: &Host) -> Vec<(String, String)> {
    let plan = host.json(&[&PLAN[..], &["--json"]].concat());
    let name = |value: &Value| value.as_str().unwrap().to_owned();
    let moves = plan["moves"].as_array().unwrap().iter();
    moves.map(|m| (name(&m["old"]), name(&m["new"]))).collect()
}

#[track_caller]
fn blocked(host: &Host, says: &[&str]) {
    let before = host.tree();
    host.kmsctl(&PLAN).exits(3).says(says);
    host.kmsctl(&["apply", "--yes"]).exits(3);
    assert_eq!(host.tree(), before, "nothing is written");
}

#[test]
fn a_unit_that_is_linked_from_a_file_of_another_name_is_a_signer() {
    let host = Host::of("commercio");
    let text = host.read(&unit(3));
    host.remove(&unit(3));
    host.write("opt/units/kms-b.service", &text);
    host.link(&unit(3), "/opt/units/kms-b.service");
    assert_eq!(moves(&host).len(), 3);
    there_and_back(&host);
}

#[test]
fn a_link_into_the_unit_folders_is_a_second_name() {
    let host = Host::of("commercio");
    host.link(&format!("{UNITS}/kms1.service"), "tmkms-01.service");
    assert_eq!(moves(&host).len(), 3);
    there_and_back(&host);
}

#[test]
fn a_signer_that_is_enabled_by_its_second_name_is_found_and_moved() {
    let host = Host::of("commercio");
    host.link(&format!("{UNITS}/kms1.service"), "tmkms-01.service");
    host.remove(&wants(1));
    host.link(
        &format!("{WANTS}/kms1.service"),
        "/etc/systemd/system/kms1.service",
    );
    assert_eq!(moves(&host).len(), 3);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    assert!(
        host.path(&format!("{WANTS}/tmkms-01.v3.service"))
            .is_symlink()
    );
    assert!(!host.path(&format!("{WANTS}/kms1.service")).is_symlink());
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    assert!(host.path(&format!("{WANTS}/kms1.service")).is_symlink());
}

#[test]
fn whatever_pulls_a_unit_in_makes_it_a_signer_and_its_successor_gets_a_link() {
    let vendor = "usr/lib/systemd/system";
    for (file, text) in [
        (
            format!("{UNITS}/kms.target"),
            "[Unit]\nBindsTo=tmkms-03.service\n",
        ),
        (
            format!("{UNITS}/kms.target"),
            "[Unit]\nUpholds=tmkms-03.service\n",
        ),
        (
            format!("{vendor}/watch.timer"),
            "[Unit]\nWants=a.service \\\n  tmkms-03.service\n",
        ),
        (
            format!("{vendor}/watch.service"),
            "[Unit]\nRequires=tmkms-03.service\n",
        ),
        (
            format!("{UNITS}/watch.service.d/x.conf"),
            "[Unit]\nWants=tmkms-03.service\nWants=\n",
        ),
    ] {
        let host = Host::of("commercio");
        host.remove(&wants(3));
        running(&host, &ALL[..2]);
        assert_eq!(moves(&host).len(), 2);
        host.write(&file, text);
        assert_eq!(moves(&host).len(), 3, "{file}");
        let by = file
            .split('/')
            .find(|p| p.starts_with("kms.") || p.starts_with("watch."));
        let by = by.unwrap().trim_end_matches(".d");
        let needs = text.contains("BindsTo") || text.contains("Requires");
        let said = host.kmsctl(&PLAN).exits(0);
        let said = said.says(&[
            &format!("{by} pulls tmkms-03.service in"),
            &format!("/{file}"),
        ]);
        assert_eq!(said.all().contains("stops with it"), needs, "{said:?}");
        there_and_back(&host);
        host.kmsctl(&["apply", "--yes"]).exits(0);
        let link = host.path(&format!("{UNITS}/{by}.wants/tmkms-03.v3.service"));
        assert!(link.is_symlink(), "{}", link.display());
    }
}

#[test]
fn a_link_that_upholds_a_unit_enables_it() {
    let host = Host::of("commercio");
    host.remove(&wants(3));
    host.write(&format!("{UNITS}/kms.target.upholds/README"), "");
    host.link(
        &format!("{UNITS}/kms.target.upholds/tmkms-03.service"),
        "../tmkms-03.service",
    );
    assert_eq!(moves(&host).len(), 3);
    there_and_back(&host);
}

#[test]
fn a_unit_that_only_a_prefix_s_drop_in_tells_to_run_tmkms_is_a_signer() {
    let host = Host::of("commercio");
    let text = host.read(&unit(3));
    let command = text.lines().find(|l| l.starts_with("ExecStart=")).unwrap();
    let command = command.replace("tmkms.03.toml", "tmkms.%j.toml");
    let plain = text.replace(
        &text[text.find("User").unwrap()..text.find("Restart=").unwrap()],
        "",
    );
    let plain = plain.replace("tmkms", "signer");
    host.remove(&unit(3));
    host.remove(&wants(3));
    host.write(&format!("{UNITS}/kms-03.service"), &plain);
    host.link(
        &format!("{WANTS}/kms-03.service"),
        "/etc/systemd/system/kms-03.service",
    );
    host.write(
        &format!("{UNITS}/kms-.service.d/e.conf"),
        &format!("[Service]\nUser=tmkms\nExecStart=\n{command}\n"),
    );
    let kms = ("kms-03.service".to_owned(), "kms-03.v3.service".to_owned());
    assert_eq!(moves(&host)[0], kms);
    there_and_back(&host);
}

#[test]
fn a_mask_of_a_dependency_enables_nothing_and_stays() {
    let host = Host::of("commercio");
    host.remove(&wants(3));
    host.link(&wants(3), "/dev/null");
    host.write("usr/lib/systemd/system/multi-user.target.wants/README", "");
    host.link(
        "usr/lib/systemd/system/multi-user.target.wants/tmkms-03.service",
        "/etc/systemd/system/tmkms-03.service",
    );
    assert_eq!(moves(&host).len(), 2);
    // Enabled elsewhere, it moves, and the mask stays where it is.
    host.write(&format!("{UNITS}/kms.target.wants/README"), "");
    host.link(
        &format!("{UNITS}/kms.target.wants/tmkms-03.service"),
        "/etc/systemd/system/tmkms-03.service",
    );
    host.edit(
        &unit(3),
        "WantedBy=multi-user.target",
        "WantedBy=kms.target",
    );
    assert_eq!(moves(&host).len(), 3);
    there_and_back(&host);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    assert_eq!(
        fs::read_link(host.path(&wants(3))).unwrap().to_str(),
        Some("/dev/null")
    );
    assert!(
        !host
            .path(&format!("{WANTS}/tmkms-03.v3.service"))
            .is_symlink()
    );
}

#[test]
fn a_process_on_another_config_than_its_unit_names_now_blocks() {
    let host = Host::of("commercio");
    host.edit(&unit(2), "tmkms.02.toml", "${CONFIG}");
    host.edit(
        &unit(2),
        "[Service]",
        "[Service]\nEnvironmentFile=/etc/default/kms",
    );
    host.write(
        "etc/default/kms",
        &format!("CONFIG=/{CONFIGS}/tmkms.02.toml\n"),
    );
    host.edit(&unit(2), &format!("/{CONFIGS}/${{CONFIG}}"), "${CONFIG}");
    // One that was started, so that what it was started on is known.
    host.kmsctl(&PLAN).exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    host.kmsctl(&["unstage", "--yes"]).exits(0);
    host.kmsctl(&PLAN).exits(0);
    let other = host.read(&format!("{CONFIGS}/tmkms.02.toml"));
    host.write(&format!("{CONFIGS}/other.toml"), &other);
    host.write(
        "etc/default/kms",
        &format!("CONFIG=/{CONFIGS}/other.toml\n"),
    );
    blocked(
        &host,
        &[
            "block[process-differs] /etc/systemd/system/tmkms-02.service",
            &format!("runs tmkms on /{CONFIGS}/tmkms.02.toml"),
            &format!("a start now would take /{CONFIGS}/other.toml"),
            "systemctl restart tmkms-02.service",
        ],
    );
}

#[test]
fn a_marker_that_nothing_heeds_closes_nothing() {
    let host = Host::of("commercio");
    let marker = "etc/kmsctl/fence/tmkms-03.service.closed";
    host.write(marker, "");
    let path = format!("block[fence-unheeded] /{marker}");
    blocked(
        &host,
        &[&path, "isn't closed, and may start", "daemon-reload"],
    );
    host.kmsctl(&["status"])
        .exits(0)
        .says(&["fence marked closed and not heeded"]);
    // Pulled in by a text alone it would start as well: so it counts, and moves.
    host.remove(&wants(3));
    host.write(
        &format!("{UNITS}/kms.target"),
        "[Unit]\nWants=tmkms-03.service\n",
    );
    running(&host, &ALL[..2]);
    blocked(&host, &[&path]);
    host.remove(marker);
    assert_eq!(moves(&host).len(), 3);
}

#[test]
fn a_masked_drop_in_hides_the_same_from_the_new_unit() {
    let host = Host::of("commercio");
    host.write(
        &format!("{UNITS}/tmkms-.service.d/50-x.conf"),
        "[Service]\nUser=root\n",
    );
    host.write(&format!("{UNITS}/tmkms-01.service.d/README"), "");
    host.link(
        &format!("{UNITS}/tmkms-01.service.d/50-x.conf"),
        "/dev/null",
    );
    there_and_back(&host);
    let new = host.read(&format!("{UNITS}/tmkms-01.v3.service.d/50-x.conf"));
    assert!(
        new.starts_with("# Empty:") && new.lines().count() == 1,
        "{new}"
    );
    assert!(
        !host
            .path(&format!("{UNITS}/tmkms-02.v3.service.d/50-x.conf"))
            .exists()
    );
}

#[test]
fn no_signer_of_a_name_shows_what_can_t_be_read() {
    let host = Host::of("commercio");
    for n in 1..=3 {
        host.write(
            &unit(n),
            "[Service]\nExecStart=/b/tmkms start -c /none.toml\n",
        );
    }
    host.kmsctl(&[&PLAN[..], &["--signer", "tmkms-02"]].concat())
        .exits(3)
        .says(&[
            "--signer tmkms-02",
            "/none.toml, which can't be read",
            "put the config there",
        ]);
}

#[test]
fn a_link_to_a_unit_that_is_not_there_starts_nothing() {
    let host = Host::of("commercio");
    let link = format!("{WANTS}/tmkms-01.v3.service");
    host.link(&link, "/etc/systemd/system/tmkms-01.v3.service");
    host.kmsctl(&PLAN).exits(0).says(&[
        &format!("warn[enablement-odd] /{link}"),
        "it starts nothing",
    ]);
    host.kmsctl(&["apply", "--yes"]).exits(0);
}
