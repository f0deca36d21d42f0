//! The operator's guide is true: every command of every page is run, in its order, on a fixture host and at a terminal,
//! and what it shows is compared with the page.
//!
//! `SNAPSHOTS=overwrite cargo test --features failpoints --test docs` writes what is shown now into the pages. How a
//! page is written: see [`page`].

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../init/key.rs"]
mod key;
mod operator;
mod page;
#[path = "../support/mod.rs"]
mod support;
mod terminal;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kmsctl::settings::NO_SETTINGS;
use snapbox::filter::NormalizeToExpected;
use snapbox::{Assert, Data, IntoData};

use operator::Operator;
use page::{Part, parts};

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// Every page, README.md included.
fn pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(guide()).unwrap();
    let mut pages: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|e| e == "md"));
    pages.push(guide().parent().unwrap().join("README.md"));
    pages.sort();
    pages
}

/// The pages that were lived through: each as it is written again with what was shown, and the host as it left it.
#[derive(Default)]
struct Guide(BTreeMap<PathBuf, (String, Operator)>);

impl Guide {
    fn page(&mut self, path: &Path) -> &(String, Operator) {
        if !self.0.contains_key(path) {
            let lived = self.live(path);
            self.0.insert(path.to_owned(), lived);
        }
        &self.0[path]
    }

    fn live(&mut self, path: &Path) -> (String, Operator) {
        let mut operator = Operator::nowhere();
        let mut text = String::new();
        for part in parts(&fs::read_to_string(path).unwrap()) {
            match part {
                Part::Text(line) => text += &format!("{line}\n"),
                Part::Host(case) => operator = Operator::of(&case),
                Part::After(page) => operator = self.page(&path.with_file_name(page)).1.again(),
                Part::Copied(chain, height) => operator.copies(&chain, height),
                Part::Meanwhile(command) => operator.meanwhile(&command),
                Part::PowerFails(step) => operator.power_fails_before(&step),
                Part::File(path, content) => operator.writes(&path, &content),
                Part::Run { command, expected } => {
                    let shown = operator.runs(&command);
                    text += &format!("{command}\n{}", elided_as(&expected, shown));
                }
            }
        }
        (text, operator)
    }
}

/// What was shown, with the page's `…` where that is what they stand for.
fn elided_as(expected: &str, shown: String) -> String {
    let expected = expected.replace("…\n", "...\n").into_data();
    let kept = NormalizeToExpected::new()
        .redact()
        .normalize(shown.into_data(), &expected);
    kept.to_string().replace("...\n", "…\n")
}

#[test]
fn what_the_pages_show_is_what_an_operator_sees() {
    let judge = Assert::new().action_env("SNAPSHOTS");
    let mut guide = Guide::default();
    let mut wrong = String::new();
    for path in pages() {
        let (seen, _) = guide.page(&path);
        let page = Data::read_from(&path, None).raw();
        let name = path.display();
        if let Err(e) = judge.try_eq(Some(&name), seen.into_data().raw(), page) {
            wrong += &e.to_string();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split_once(')').unwrap().0;
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = if file.is_empty() {
                page.clone()
            } else {
                page.with_file_name(file)
            };
            assert!(there.exists(), "{}: {target}", page.display());
            if !heading.is_empty() {
                let found = headings(&fs::read_to_string(&there).unwrap());
                assert!(found.contains(heading), "{}: {target}", page.display());
            }
        }
    }
}

/// The anchors of a page's headings.
fn headings(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    lines.map(anchor).collect()
}

#[test]
fn the_page_on_settings_names_every_flag() {
    let page = fs::read_to_string(guide().join("settings.md")).unwrap();
    let mut host = Operator::of("commercio");
    for verb in [
        "plan", "stage", "apply", "rollback", "status", "heights", "check",
    ] {
        let help = host.runs(&format!("# kmsctl {verb} --help"));
        for word in help.split_whitespace().filter(|w| w.starts_with("--")) {
            let flag = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            if !NO_SETTINGS.contains(&flag.replace('-', "_").as_str()) {
                let named = page.contains(&format!("\n| `{flag}` | "));
                assert!(named, "settings.md doesn't name --{flag} of {verb}");
            }
        }
    }
}
