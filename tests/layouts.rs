//! Every layout of the field, by one test: each fixture's host is planned, staged, switched and taken back, and each of
//! its broken twins is refused with nothing written.
//!
//! `SNAPSHOTS=overwrite cargo test --test layouts` writes the golden files; `LAYOUT=haqq` runs one fixture alone.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use snapbox::Data;
use support::case::{Case, Edit, Night, Twin, expected};
use support::{Host, Tree, files_below};

/// Runs a check on every fixture, a few at a time, and tells all that failed and not only the first.
fn on_each(check: fn(&str)) {
    let only = std::env::var("LAYOUT").ok();
    let mut names = Case::names();
    names.retain(|name| only.as_ref().is_none_or(|only| only == name));
    assert!(!names.is_empty(), "no fixture is named {only:?}");
    let mut failed = Vec::new();
    // What takes time is waiting for the disk.
    for some in names.chunks(8) {
        let threads: Vec<_> = some
            .iter()
            .map(|name| {
                let of = name.clone();
                let thread = std::thread::Builder::new().name(of.clone());
                (name, thread.spawn(move || check(&of)).unwrap())
            })
            .collect();
        for (name, thread) in threads {
            if thread.join().is_err() {
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?} of {}", names.len());
}

#[test]
fn every_layout_goes_there_and_back() {
    on_each(|name| {
        let case = Case::of(name);
        assert!(!case.about.is_empty() && !case.night.is_empty());
        let host = Host::of(name);
        odd_modes(&host);
        for (n, night) in case.night.iter().enumerate() {
            there_and_back(&host, night, &expected(name, n));
            // The next night begins where this one ends.
            host.kmsctl(&["apply", "--yes"]).exits(0);
        }
    });
}

#[test]
fn every_broken_twin_is_refused_and_nothing_is_written() {
    on_each(|name| {
        let case = Case::of(name);
        assert!(!case.broken.is_empty(), "{name} has no broken twin");
        for twin in &case.broken {
            let host = Host::of(name);
            for night in &case.night[..twin.nights] {
                host.kmsctl(&plan(&night.plan)).exits(0);
                host.kmsctl(&["apply", "--yes"]).exits(0);
            }
            let tried = std::panic::AssertUnwindSafe(|| refused(&host, twin, &case));
            let went = std::panic::catch_unwind(tried);
            assert!(went.is_ok(), "{name}: {}", twin.name);
        }
    });
}

fn refused(host: &Host, twin: &Twin, case: &Case) {
    twin.edits.iter().for_each(|edit: &Edit| edit.make(host));
    let words = twin.plan.as_ref().unwrap_or_else(|| {
        let next = twin.nights.min(case.night.len() - 1);
        &case.night[next].plan
    });
    let before = host.tree();
    let mut states = States::default();
    states.check(host);
    let says: Vec<&str> = twin.says.iter().map(String::as_str).collect();
    let said = host.kmsctl(&plan(words)).exits(twin.exit).says(&says);
    assert!(
        !said.all().contains(host.root().to_str().unwrap()),
        "a path is the host's, not the machine's: {}",
        said.all()
    );
    for verb in ["stage", "apply"] {
        // A plan that was made is kept with its findings; one that couldn't be made leaves none, or the last night's.
        let said = host.kmsctl(&[verb, "--yes"]);
        assert!(
            said.code != 0 || said.all().contains("already"),
            "{verb}: {said:?}"
        );
        assert_eq!(changed(&before, &host.tree()), NONE, "{verb} wrote");
    }
    states.check(host);
}

const NONE: Vec<PathBuf> = Vec::new();

fn plan(words: &[String]) -> Vec<&str> {
    let mut all = vec!["plan"];
    all.extend(words.iter().map(String::as_str));
    all
}

/// Modes that nobody has by accident, and other owners where the test may give them.
fn odd_modes(host: &Host) {
    for path in host.tree().keys() {
        let at = host.path(path.to_str().unwrap());
        if at.is_symlink() || !at.is_file() {
            continue;
        }
        let mode = match path.extension().and_then(|e| e.to_str()) {
            Some("toml") => 0o640,
            Some("service" | "conf") => 0o604,
            _ => 0o600,
        };
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
        if rustix::process::geteuid().is_root() && mode == 0o640 {
            chown(&at, Some(1234), Some(2345)).unwrap();
        }
    }
}

fn there_and_back(host: &Host, night: &Night, golden: &Path) {
    let words = plan(&night.plan);
    let detailed = [&words[..], &["--detailed-exitcode"]].concat();
    let mut states = States::default();
    states.check(host);
    let first = host.tree();
    let runs = runs(host);

    let made = planned(host, night, golden);
    let own = new_states(&made);
    assert_eq!(changed(&first, &host.tree()), NONE, "planning wrote");
    host.kmsctl(&detailed).exits(10);
    states.check(host);

    host.kmsctl(&["stage", "--yes"]).exits(0);
    states.check(host);
    let staged = host.tree();
    for path in changed(&first, &staged) {
        assert!(
            !first.contains_key(&path),
            "staging changed {}",
            path.display()
        );
    }
    golden_files(&golden.join("staged"), &added(&first, &staged));
    modes(&made, &first, &staged);
    leftovers(&made, &staged);
    host.kmsctl(&detailed).exits(10);

    host.kmsctl(&["apply", "--yes"]).exits(0);
    states.check(host);
    host.kmsctl(&detailed).exits(0);
    let said = host.kmsctl(&["rollback", "--yes"]).exits(0);
    states.check(host);
    let back = host.tree();
    assert_eq!(changed_but(&own, &staged, &back), NONE, "{said:?}");
    assert_eq!(self::runs(host), runs, "what runs and what is enabled");
    host.kmsctl(&detailed).exits(10);

    host.kmsctl(&["apply", "--yes"]).exits(0);
    states.check(host);
    host.kmsctl(&["rollback", "--yes"]).exits(0);
    let said = host.kmsctl(&["unstage", "--yes"]).exits(0);
    states.check(host);
    let end = host.tree();
    assert_eq!(changed_but(&own, &first, &end), NONE, "{said:?}");
    assert_eq!(self::runs(host), runs, "what runs and what is enabled");
}

/// Plans as text and as JSON, and compares both with the golden ones.
fn planned(host: &Host, night: &Night, golden: &Path) -> Value {
    let words = plan(&night.plan);
    let said = host.kmsctl(&words).exits(0);
    assert_eq!(said.err, "");
    golden_text(&golden.join("plan.txt"), &said.out);
    let mut made = host.json(&[&words[..], &["--json"]].concat());
    made["observed"]["at"] = "SOME TIME".into();
    let text = serde_json::to_string_pretty(&made).unwrap() + "\n";
    assert!(!text.contains(host.root().to_str().unwrap()));
    golden_text(&golden.join("plan.json"), &text);
    let found = made["findings"].as_array().unwrap().iter();
    let codes: BTreeSet<&str> = found.map(|f| f["code"].as_str().unwrap()).collect();
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), night.findings);
    made
}

fn moves(made: &Value) -> impl Iterator<Item = &Value> {
    made["moves"].as_array().unwrap().iter()
}

/// A path of a plan, seen from the root.
fn below(path: &Value) -> PathBuf {
    let path = path.as_str().unwrap();
    PathBuf::from(path.strip_prefix('/').unwrap())
}

/// The new chain's state files: theirs is the only progress that stays.
fn new_states(made: &Value) -> BTreeSet<PathBuf> {
    let chains = moves(made).flat_map(|m| m["chains"].as_array().unwrap());
    chains.map(|c| below(&c["new"]["state_file"])).collect()
}

/// Units and what they do: enabled and active, in that order.
fn runs(host: &Host) -> BTreeMap<String, (bool, bool)> {
    let status = host.json(&["status", "--json"]);
    let rows = status["signers"].as_array().unwrap().iter();
    rows.map(|row| {
        let is = |key: &str| row[key].as_bool().unwrap();
        let unit = row["unit"].as_str().unwrap();
        (unit.to_owned(), (is("enabled"), is("active")))
    })
    // What is staged and does neither is as if it weren't there.
    .filter(|(_, run)| *run != (false, false))
    .collect()
}

fn golden_text(path: &Path, text: &str) {
    // Raw: no slash is turned round, no line end mended.
    snapbox::Assert::new()
        .action_env(snapbox::assert::DEFAULT_ACTION_ENV)
        .eq(Data::text(text), Data::read_from(path, None).raw());
}

/// Compares files with a golden folder: the same names, the same bytes, line ends included.
fn golden_files(folder: &Path, files: &Tree) {
    if std::env::var("SNAPSHOTS").is_ok_and(|v| v == "overwrite") {
        fs::remove_dir_all(folder).ok();
        for (path, node) in files {
            let golden = folder.join(path);
            fs::create_dir_all(golden.parent().unwrap()).unwrap();
            fs::write(golden, &node.content).unwrap();
        }
    }
    let golden = files_below(folder);
    let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(files), names(&golden), "the names of what is staged");
    for (path, node) in files {
        let text = |node: &support::Node| String::from_utf8(node.content.clone()).unwrap();
        assert_eq!(text(node), text(&golden[path]), "{}", path.display());
    }
}

/// Paths that differ between two trees: gone, new or changed.
fn changed(before: &Tree, after: &Tree) -> Vec<PathBuf> {
    changed_but(&BTreeSet::new(), before, after)
}

fn changed_but(but: &BTreeSet<PathBuf>, before: &Tree, after: &Tree) -> Vec<PathBuf> {
    let all: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    all.into_iter()
        .filter(|path| before.get(*path) != after.get(*path) && !but.contains(*path))
        .cloned()
        .collect()
}

fn added(before: &Tree, after: &Tree) -> Tree {
    let mut added = after.clone();
    added.retain(|path, node| !before.contains_key(path) && !is_folder(node));
    added
}

fn is_folder(node: &support::Node) -> bool {
    node.mode & 0o170_000 == 0o040_000
}

fn is_link(node: &support::Node) -> bool {
    node.mode & 0o170_000 == 0o120_000
}

/// Where a path leads in a tree, its links followed: they mean the tree's own files, absolute or not.
fn resolved(tree: &Tree, path: &Path) -> PathBuf {
    let mut at = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(at.pop()),
            Component::Normal(name) => at.push(name),
            _ => {}
        }
        if let Some(node) = tree.get(&at).filter(|node| is_link(node)) {
            let target = PathBuf::from(String::from_utf8(node.content.clone()).unwrap());
            let whole = match target.strip_prefix("/") {
                Ok(absolute) => absolute.to_owned(),
                Err(_) => at.parent().unwrap().join(target),
            };
            at = resolved(tree, &whole);
        }
    }
    at
}

/// Each file has the mode and the owner of what it descends from; what descends from nothing is plain.
fn modes(made: &Value, first: &Tree, staged: &Tree) {
    for file in moves(made).flat_map(|m| m["files"].as_array().unwrap()) {
        let path = below(&file["path"]);
        let node = &staged[&path];
        let source = &file["content"]["derived"]["source"];
        let wanted = if source.is_null() {
            0o644
        } else {
            let source = &first[&resolved(first, &below(source))];
            assert_eq!(node.owner, source.owner, "{}", path.display());
            source.mode & 0o7777
        };
        assert_eq!(node.mode & 0o7777, wanted, "{}", path.display());
    }
}

/// No staged file still says what it should have left: the old chain's id, its state file or the old config.
fn leftovers(made: &Value, staged: &Tree) {
    for moving in moves(made) {
        let mut left = vec![moving["old_config"].as_str().unwrap()];
        let mut ids = Vec::new();
        for chain in moving["chains"].as_array().unwrap() {
            let (old, new) = (&chain["old"], &chain["new"]);
            if old["state_file"] != new["state_file"] {
                left.push(old["state_file"].as_str().unwrap());
            }
            if old["chain"] != new["chain"] {
                ids.push(format!("\"{}\"", old["chain"].as_str().unwrap()));
            }
        }
        for file in moving["files"].as_array().unwrap() {
            if file["role"] == "fence" {
                continue;
            }
            let path = below(&file["path"]);
            let text = std::str::from_utf8(&staged[&path].content).unwrap();
            for line in text.lines().filter(|l| !l.starts_with(['#', ';'])) {
                let line = line.split(" # ").next().unwrap();
                for old in &left {
                    let mut rest = line
                        .match_indices(old)
                        .map(|(at, _)| &line[at + old.len()..]);
                    let word = |rest: &str| {
                        !rest.starts_with(|c: char| c.is_alphanumeric() || "._-/".contains(c))
                    };
                    assert!(!rest.any(word), "{}: {line}", path.display());
                }
                for id in &ids {
                    assert!(!line.contains(id), "{}: {line}", path.display());
                }
            }
        }
    }
}

/// State files as they were seen first: not a byte, a mode, a time or an inode of one may change.
#[derive(Default)]
struct States(BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64, u64)>);

impl States {
    fn check(&mut self, host: &Host) {
        for path in host.tree().into_keys() {
            let at = host.path(path.to_str().unwrap());
            if at.is_symlink() || path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let meta = fs::metadata(&at).unwrap();
            let now = (
                fs::read(&at).unwrap(),
                meta.mode(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ino(),
            );
            let seen = self.0.entry(path.clone()).or_insert_with(|| now.clone());
            assert!(*seen == now, "{} was touched", path.display());
        }
        for path in self.0.keys() {
            assert!(
                host.path(path.to_str().unwrap()).exists(),
                "{} is gone",
                path.display()
            );
        }
    }
}
