//! A plan as text that an operator can judge: what moves, each changed line with its reason, heights, findings.

use std::collections::BTreeMap;
use std::path::Path;

use anstyle::{AnsiColor, Style};

use super::{count, line};
use crate::content::{Change, Content, NewFile, Role};
use crate::finding::{Finding, Severity};
use crate::inventory::StateReading;
use crate::plan::{Alias, Height, Move, Plan};

const REMOVED: Style = AnsiColor::Red.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const WHY: Style = Style::new().dimmed();
const HEAD: Style = Style::new().bold();

/// The whole plan.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let new = &plan.request.new_chain;
    match &plan.from {
        None => line(
            &mut out,
            format_args!("Every signer of {new} is there already: nothing to do."),
        ),
        Some(from) => {
            let signers = count(plan.moves.len(), "signer");
            let way = if plan.request.same_chain() {
                format!("of {from}, which keeps its id")
            } else {
                format!("from {from} to {new}")
            };
            line(
                &mut out,
                format_args!("{HEAD}Plan {}: {signers} {way}{HEAD:#}", plan.id),
            );
            let mut seen = Seen::default();
            for height in &plan.observed.heights {
                let heights = seen.heights.entry(&height.signer).or_default();
                heights.push(height);
            }
            let inputs = plan.inputs.iter().map(|i| (i.path.as_path(), &*i.text));
            seen.inputs = inputs.collect();
            for moving in &plan.moves {
                signer(&mut out, &seen, moving);
            }
        }
    }
    findings(&mut out, &plan.findings);
    summary(&mut out, plan);
    out
}

/// What the signers' moves were made from, to be found by name.
#[derive(Default)]
struct Seen<'a> {
    heights: BTreeMap<&'a str, Vec<&'a Height>>,
    inputs: BTreeMap<&'a Path, &'a str>,
}

fn signer(out: &mut String, seen: &Seen<'_>, moving: &Move) {
    line(out, format_args!(""));
    line(
        out,
        format_args!(
            "{HEAD}{}{HEAD:#}  {} -> {}",
            moving.signer, moving.old, moving.new
        ),
    );
    let heights = seen.heights.get(moving.signer.as_str());
    for height in heights.into_iter().flatten() {
        let (chain, state) = (&height.chain, height.state_file.display());
        let said = match &height.reading {
            StateReading::Read(at) => {
                format!("{chain} is at height {at} in {state}, which is kept")
            }
            StateReading::Missing => format!("{chain} has no state file {state}"),
            StateReading::Link => format!("{chain} has a link for its state file {state}"),
            StateReading::Unreadable(why) => {
                format!("{chain} has a state file that can't be read, {state}: {why}")
            }
        };
        line(out, format_args!("  {said}"));
    }
    for chain in moving.chains.iter().filter(|c| c.old.chain != c.new.chain) {
        let file = &chain.new;
        line(
            out,
            format_args!("  {} begins in {}", file.chain, file.state_file.display()),
        );
    }
    for stays in &moving.stays {
        line(
            out,
            format_args!(
                "  {} keeps its state file and is dark during the restart",
                stays.chain
            ),
        );
    }
    enablement(out, moving);
    // What the operator judges first; the order of writing is the program's business.
    let (fences, own): (Vec<_>, Vec<_>) = moving.files.iter().partition(|f| f.role == Role::Fence);
    for file in own.into_iter().chain(fences) {
        new_file(out, seen, file);
    }
}

/// What is enabled otherwise than by systemd's own enable, which needs no words.
fn enablement(out: &mut String, moving: &Move) {
    let enablement = &moving.enablement;
    if !enablement.by_systemd {
        for link in &enablement.new {
            let (link, target) = (&link.link, link.target.display());
            line(out, format_args!("  link {link} -> {target}"));
        }
        for link in &enablement.old {
            line(out, format_args!("  unlink {} after the switch", link.link));
        }
    }
    for Alias { link, old, new } in &enablement.aliases {
        let (old, new) = (old.display(), new.display());
        line(
            out,
            format_args!("  link {link} -> {new} after the switch, in place of {old}"),
        );
    }
}

fn new_file(out: &mut String, seen: &Seen<'_>, file: &NewFile) {
    match &file.content {
        Content::Derived { source, edits, .. } => {
            line(
                out,
                format_args!("  new {} (from {})", file.path, source.display()),
            );
            let input = seen.inputs.get(source.as_path());
            changed_lines(out, input.copied().unwrap_or_default(), edits);
            if edits.is_empty() {
                line(
                    out,
                    format_args!("       {WHY}a copy, nothing changes{WHY:#}"),
                );
            }
        }
        Content::Text { text } => {
            line(out, format_args!("  new {}", file.path));
            for setting in text
                .lines()
                .filter(|l| l.contains('=') && !l.starts_with('#'))
            {
                line(out, format_args!("       {ADDED}+ {setting}{ADDED:#}"));
            }
        }
    }
}

/// Each changed line of a source as it was and as it will be, and why.
fn changed_lines(out: &mut String, text: &str, edits: &[Change]) {
    let mut left = edits;
    while let Some(first) = left.first() {
        let number = first.edit.line;
        let here = left.iter().take_while(|c| c.edit.line == number).count();
        let (changes, rest) = left.split_at(here);
        left = rest;
        // A line that a secret was cut out of may not show the edit; its value is then shown alone.
        let old = text
            .lines()
            .nth(number - 1)
            .filter(|l| changes.iter().all(|c| l.contains(&c.edit.raw_from)))
            .unwrap_or(&first.edit.raw_from);
        let new = changed(old, changes);
        line(
            out,
            format_args!("  {number:>4} {REMOVED}- {}{REMOVED:#}", old.trim()),
        );
        line(out, format_args!("       {ADDED}+ {}{ADDED:#}", new.trim()));
        let mut reasons: Vec<&str> = changes.iter().map(|c| c.why.as_str()).collect();
        reasons.dedup();
        line(
            out,
            format_args!("         {WHY}{}{WHY:#}", reasons.join("; ")),
        );
    }
}

/// A line after its changes, which are in the order of the text.
fn changed(line: &str, changes: &[Change]) -> String {
    let mut new = String::new();
    let mut rest = line;
    for edit in changes.iter().map(|c| &c.edit) {
        // Each is in what its predecessors left, or the line would have been shown otherwise.
        let Some(at) = place_of(rest, &edit.raw_from) else {
            continue;
        };
        new += &rest[..at];
        new += &edit.raw_to;
        rest = &rest[at + edit.raw_from.len()..];
    }
    new + rest
}

/// Where a text stands as a word of its own, or else where it stands first.
fn place_of(line: &str, word: &str) -> Option<usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "/._-".contains(c));
    let mut places = line.match_indices(word).map(|(at, _)| at);
    let whole = places.find(|at| {
        let (before, after) = (&line[..*at], &line[at + word.len()..]);
        !part(before.chars().next_back()) && !part(after.chars().next())
    });
    whole.or_else(|| line.find(word))
}

/// Findings, the gravest first.
pub fn findings(out: &mut String, findings: &[Finding]) {
    if !findings.is_empty() {
        line(out, format_args!(""));
    }
    for finding in findings {
        let style = match finding.severity {
            Severity::Block => AnsiColor::Red.on_default().bold(),
            Severity::Warn => AnsiColor::Yellow.on_default(),
            Severity::Info => Style::new().dimmed(),
        };
        line(out, format_args!("{style}{finding}{style:#}"));
    }
}

fn summary(out: &mut String, plan: &Plan) {
    let blocks = plan.blocks().count();
    line(out, format_args!(""));
    let what = format!(
        "{} to move, {} to write",
        count(plan.moves.len(), "signer"),
        count(plan.file_count(), "file")
    );
    let next = if blocks > 0 {
        format!(
            "{} in the way: `apply` refuses until they are gone.",
            count(blocks, "finding")
        )
    } else if plan.moves.is_empty() {
        "Nothing is in the way.".to_owned()
    } else {
        "Nothing is in the way. Next: `kmsctl stage`, then `kmsctl apply` at the halt.".to_owned()
    };
    line(out, format_args!("{HEAD}{what}. {next}{HEAD:#}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str, edits: &[(&str, &str)]) -> String {
        let changes: Vec<Change> = edits
            .iter()
            .map(|(from, to)| Change {
                edit: tmkms_core::edit::Edit {
                    span: 0..0,
                    line: 1,
                    from: (*from).into(),
                    to: (*to).into(),
                    raw_from: (*from).into(),
                    raw_to: (*to).into(),
                },
                why: String::new(),
            })
            .collect();
        changed(line, &changes)
    }

    #[test]
    fn changes_show_where_they_are() {
        let twice = [("/s/state", "/s/state.v2"), ("/s/state", "/s/state.v2")];
        assert_eq!(
            shown("BindPaths=/s/state:/s/state", &twice),
            "BindPaths=/s/state.v2:/s/state.v2"
        );
        assert_eq!(
            shown(
                "ExecStart=/opt/start/tmkms start",
                &[("start", "start -c /k")]
            ),
            "ExecStart=/opt/start/tmkms start -c /k"
        );
        assert_eq!(
            shown("keys = [\"a-1\", \"a-1\"]", &[("\"a-1\"", "\"a-2\"")]),
            "keys = [\"a-2\", \"a-1\"]"
        );
    }
}
