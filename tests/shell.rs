//! What shells and man(1) read: completions and manual pages, for every verb, without a host.
//!
//! Whether groff and mandoc find fault with the pages is asked in the lab, which installs them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use clap::{CommandFactory, ValueEnum};
use kmsctl::cli::Cli;
use kmsctl::{exit, paths};

/// Runs kmsctl where there is nothing: no environment, no host.
#[track_caller]
fn kmsctl(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmsctl"));
    command.env_clear().args(["--root", "/nowhere/at/all"]);
    said(&command.args(words).output().unwrap())
}

#[track_caller]
fn said(output: &Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn verbs() -> Vec<String> {
    let command = Cli::command();
    let verbs = command.get_subcommands().map(|v| v.get_name().to_owned());
    let verbs: Vec<String> = verbs.collect();
    assert!(verbs.contains(&"plan".to_owned()), "{verbs:?}");
    verbs
}

#[test]
fn every_shell_s_completions_name_every_verb() {
    for shell in clap_complete::Shell::value_variants() {
        let script = kmsctl(&["completions", &shell.to_string()]);
        let words: BTreeSet<&str> = script
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .collect();
        for verb in verbs() {
            assert!(words.contains(verb.as_str()), "{shell}: no {verb}");
        }
        assert!(words.contains("--new-chain") || words.contains("new-chain"));
    }
}

/// What bash would offer after the words.
#[track_caller]
fn offered(script: &Path, words: &[&str]) -> Vec<String> {
    let driver = r#"
        source "$1"; shift
        function=$(complete -p kmsctl | sed -n 's/.*-F \([^ ]*\).*/\1/p')
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        "$function" kmsctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-euo", "pipefail", "-c", driver, "bash"]);
    let output = bash.arg(script).args(words).output().unwrap();
    said(&output).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("kmsctl");
    fs::write(&script, kmsctl(&["completions", "bash"])).unwrap();
    let syntax = Command::new("bash").arg("-n").arg(&script).output();
    assert_eq!(said(&syntax.unwrap()), "");
    assert_eq!(offered(&script, &["kmsctl", "pl"]), ["plan"]);
    assert_eq!(
        offered(&script, &["kmsctl", "plan", "--new"]),
        ["--new-chain"]
    );
    assert_eq!(offered(&script, &["kmsctl", "completions", "ba"]), ["bash"]);
}

#[test]
fn every_verb_has_a_page_and_kmsctl_1_names_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let man = folder.path().join("man1");
    kmsctl(&["man", man.to_str().unwrap()]);
    let pages = fs::read_dir(&man).unwrap();
    let pages: BTreeSet<String> = pages
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    let verbs = verbs();
    let names = verbs.iter().map(|verb| format!("kmsctl-{verb}.1"));
    let expected: BTreeSet<String> = names.chain(["kmsctl.1".to_owned()]).collect();
    assert_eq!(pages, expected);

    let main = fs::read_to_string(man.join("kmsctl.1")).unwrap();
    assert_eq!(main, kmsctl(&["man"]), "with and without a folder");
    for verb in &verbs {
        assert!(main.contains(&format!("kmsctl\\-{verb}(1)")), "{verb}");
        let page = fs::read_to_string(man.join(format!("kmsctl-{verb}.1"))).unwrap();
        let title = format!(".TH kmsctl-{verb} 1 \"\" \"kmsctl {}\"", version());
        assert!(page.contains(&title), "{page}");
        assert!(page.contains(&format!("\nkmsctl\\-{verb} \\- ")), "{page}");
        let usage = format!("\n\\fBkmsctl {verb}\\fR");
        assert!(page.contains(&usage), "{page}");
        well_formed(&page);
    }
    well_formed(&main);
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Only macros that man(7) has, no line that is one by chance, fonts given back on the line that took them.
#[track_caller]
fn well_formed(page: &str) {
    for line in page.lines() {
        let Some(request) = line.strip_prefix('.') else {
            assert!(!line.starts_with('\''), "{line}");
            let taken = line.matches("\\fB").count() + line.matches("\\fI").count();
            assert_eq!(taken, line.matches("\\fR").count(), "{line}");
            continue;
        };
        let name = request.split(' ').next().unwrap();
        let known = [
            "TH", "SH", "PP", "TP", "RS", "RE", "IP", "br", "nf", "fi", "nh", "ie", "el",
        ];
        assert!(known.contains(&name), "{line}");
    }
}

#[test]
fn kmsctl_1_tells_what_the_command_line_can_t() {
    let page = kmsctl(&["man"]);
    let sections: Vec<&str> = page
        .lines()
        .filter_map(|l| l.strip_prefix(".SH "))
        .collect();
    assert_eq!(
        sections,
        [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "VERBS",
            "OPTIONS",
            "\"EXIT STATUS\"",
            "FILES",
            "ENVIRONMENT",
            "EXAMPLES",
            "\"SEE ALSO\"",
        ]
    );
    let plain = page.replace("\\-", "-").replace("\\*(Aq", "'");
    for path in [
        &format!("{}/UNIT.closed", paths::FENCE_FOLDER),
        &format!("{}/UNIT.d/{}", paths::UNIT_FOLDER, paths::DROP_IN),
        "/etc/kmsctl/kmsctl.toml",
        "/var/lib/kmsctl",
    ] {
        assert!(plain.contains(&format!("\\fI{path}\\fR")), "{path}");
    }
    assert!(plain.contains("\\fINO_COLOR\\fR"));
    assert!(
        !plain.contains('`'),
        "backticks are for terminals:\n{plain}"
    );
}

#[test]
fn the_exit_codes_are_one_text() {
    let page = kmsctl(&["man"]);
    let help = kmsctl(&["--help"]);
    let plain = page.replace("\\-", "-").replace("\\*(Aq", "'");
    for (code, meaning) in exit::CODES {
        assert!(help.contains(&format!("\n  {code:<3} {meaning}")), "{help}");
        let row = format!("\\fB{code}\\fR\n");
        let after = plain.split(&row).nth(1).unwrap();
        let told = after.lines().next().unwrap();
        let told = told.replace("\\fB", "`").replace("\\fR", "`");
        assert_eq!(told, meaning);
    }
    for exit in [
        exit::Exit::Done,
        exit::Exit::Failed,
        exit::Exit::Usage,
        exit::Exit::Refused,
        exit::Exit::HalfWay,
        exit::Exit::Changes,
    ] {
        assert!(exit::CODES.iter().any(|(code, _)| *code == exit as u8));
    }
}
