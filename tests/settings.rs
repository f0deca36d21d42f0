//! `/etc/kmsctl/kmsctl.toml`: what it sets, what the command line overrules, and what it refuses with its line.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::Host;

const FILE: &str = "etc/kmsctl/kmsctl.toml";

fn with(text: &str) -> Host {
    let host = Host::of("commercio");
    host.write(FILE, text);
    host
}

#[test]
fn a_flag_s_default_comes_from_the_file_and_the_command_line_wins() {
    let host =
        with("[plan]\nsuffix = \"next\"\nnew-chain = \"commercio-3\"\nsigner = [\"tmkms-01\"]\n");
    let plan = host.json(&["--json", "plan"]);
    assert_eq!(plan["suffix"], "next");
    assert_eq!(plan["moves"].as_array().unwrap().len(), 1);
    let plan = host.json(&["--json", "plan", "--suffix", "v3", "--signer", "tmkms-02"]);
    assert_eq!(plan["suffix"], "v3");
    assert_eq!(plan["moves"][0]["signer"], "tmkms-02");
}

#[test]
fn switches_of_every_verb_stand_at_the_top() {
    let host = with("json = true\nyes = true\n[plan]\ndetailed-exitcode = true\n");
    let said = host
        .kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(10);
    assert!(said.out.starts_with("{\"format_version\""), "{}", said.out);
    host.kmsctl(&["apply"]).exits(0).says(&["\"ended\""]);
}

#[test]
fn what_the_file_switches_on_can_be_switched_off() {
    let host = with("[apply]\ndry-run = true\n");
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["apply", "--yes"])
        .exits(0)
        .says(&["Nothing was done"]);
    host.kmsctl(&["apply", "--yes", "--dry-run=false"])
        .exits(0)
        .says(&["3 signers are on commercio-3"]);
}

#[test]
fn a_broken_file_keeps_nobody_from_going_back() {
    let host = with("");
    host.switched();
    host.write(FILE, "[rollbak]\nsoak = 1\n");
    host.kmsctl(&["rollback", "--yes"])
        .exits(3)
        .says(&["--no-settings"]);
    host.kmsctl(&["rollback", "--yes", "--no-settings"])
        .exits(0);
}

#[test]
fn json_by_the_file_holds_for_what_can_t_be_read_too() {
    let said = with("json = true\n").kmsctl(&["plan", "--bogus"]).exits(2);
    assert!(said.out.starts_with("{\"format_version\""), "{said:?}");
}

#[test]
fn what_it_may_not_say_is_refused_with_its_line() {
    for (text, line, words) in [
        ("# a\nsoak = 3\n", 2, "no flag --soak of every verb"),
        (
            "[apply]\nsoak = 3\nspeed = 4\n",
            3,
            "no flag --speed of `kmsctl apply`",
        ),
        ("[aply]\nsoak = 3\n", 1, "no verb \"aply\""),
        ("\n\n[apply]\nparallel = 900\n", 4, "900"),
        ("[apply]\nsoak = \"long\"\n", 2, "invalid value 'long'"),
        ("[plan]\ndetailed-exitcode = \"yes\"\n", 2, "true or false"),
        ("[plan]\nnew-chain = [\"a-1\"]\n", 2, "takes no array"),
        ("root = \"/elsewhere\"\n", 1, "no flag --root"),
        (
            "[plan]\naccept = [\"state-unknown\"]\n",
            2,
            "no flag --accept",
        ),
        ("[plan]\nout = \"/tmp/plan\"\n", 2, "no flag --out"),
        ("yes = true\nyes = true\n", 2, "isn't TOML"),
    ] {
        let host = with(text);
        let before = host.tree();
        let place = format!("/{FILE}:{line}: ");
        host.kmsctl(&["plan", "--new-chain", "commercio-3"])
            .exits(3)
            .says(&[&place, words, "nothing was done"]);
        assert_eq!(host.tree(), before, "{text}");
    }
}

#[test]
fn an_unreadable_file_stops_and_help_doesn_t_need_it() {
    let host = with("nonsense = 1\n");
    host.kmsctl(&["apply", "--help"]).exits(0).says(&["--soak"]);
    host.remove(FILE);
    std::fs::create_dir(host.path(FILE)).unwrap();
    host.kmsctl(&["status"])
        .exits(3)
        .says(&["/etc/kmsctl/kmsctl.toml", "can't be read"]);
}

#[test]
fn the_package_s_example_is_taken() {
    with(include_str!("../packaging/kmsctl.toml"))
        .kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
}
