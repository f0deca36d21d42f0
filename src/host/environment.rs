//! The files that an `EnvironmentFile=` names, by a pattern or plainly (glob(7), as systemd uses it).

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Files;

const WILD: [char; 4] = ['*', '?', '[', '\\'];

/// The files that a path names, in the order in which systemd reads them; none where nothing is there.
///
/// # Errors
/// A folder can't be read; a pattern of a kind that kmsctl doesn't match.
pub fn matching(files: &dyn Files, path: &Path) -> Result<Vec<PathBuf>> {
    let wild = |part: &Path| part.to_string_lossy().contains(WILD);
    if !wild(path) {
        let there = match files.fingerprint(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(e.into()),
            Ok(_) => true,
        };
        return Ok(there.then(|| path.to_owned()).into_iter().collect());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let odd = name.contains(['\\']) || ["[:", "[.", "[="].iter().any(|class| name.contains(class));
    if wild(folder) || odd {
        bail!(
            "a pattern that kmsctl doesn't match: only `*`, `?` and `[…]` in the file's own name"
        );
    }
    let pattern: Vec<char> = name.chars().collect();
    let names = files
        .list(folder)
        .with_context(|| format!("reading the folder {}", folder.display()))?;
    let matching = names.into_iter().filter(|name| {
        let hidden = name.starts_with('.') && pattern.first() != Some(&'.');
        !hidden && matches(&pattern, &name.chars().collect::<Vec<char>>())
    });
    Ok(matching.map(|name| folder.join(name)).collect())
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    // How far both were when the last `*` was met: it may take one more.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    loop {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        match (p == pattern.len(), n == name.len()) {
            (true, true) => return true,
            (false, false) => {
                if let Some(after) = one(pattern, p, name[n]) {
                    (p, n) = (after, n + 1);
                    continue;
                }
            }
            _ => {}
        }
        match star {
            Some((after, taken)) if taken < name.len() => {
                star = Some((after, taken + 1));
                (p, n) = (after, taken + 1);
            }
            _ => return false,
        }
    }
}

/// Where the pattern goes on after it took a character; none where it doesn't take it.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match pattern[at] {
        '?' => Some(at + 1),
        '[' => match set(&pattern[at + 1..], c) {
            Some((taken, length)) => taken.then_some(at + 1 + length),
            // Never closed: a bracket like any other character.
            None => (c == '[').then_some(at + 1),
        },
        same => (same == c).then_some(at + 1),
    }
}

/// Whether a set has a character, and how long it is with its closing bracket.
fn set(set: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(set.first(), Some('!' | '^'));
    let mut at = usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        match (*set.get(at)?, set.get(at + 1), set.get(at + 2)) {
            (']', ..) if at > first => return Some((found != negated, at + 1)),
            (low, Some('-'), Some(high)) if *high != ']' => {
                found |= low <= c && c <= *high;
                at += 3;
            }
            (same, ..) => {
                found |= same == c;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_glob() {
        let matched = |pattern: &str, name: &str| {
            let chars = |s: &str| s.chars().collect::<Vec<char>>();
            matches(&chars(pattern), &chars(name))
        };
        for (pattern, name) in [
            ("*", "a"),
            ("a*b*c", "axxbybc"),
            ("?.env", "k.env"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]a]", "]"),
            ("[a-]", "-"),
            ("a[b", "a[b"),
            ("*.env", ".env"),
        ] {
            assert!(matched(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("a*b", "axc"),
            ("?", ""),
            ("[a-c]x", "dx"),
            ("[^a]x", "ax"),
            ("*.env", "a.env.bak"),
        ] {
            assert!(!matched(pattern, name), "{pattern} {name}");
        }
    }
}
