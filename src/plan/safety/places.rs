//! Rule S10 for staged files: nothing that kmsctl didn't write is in the way, and nothing but plain files and folders.

use std::path::Path;

use super::{Case, Found};
use crate::content::{Content, NewFile, Role};
use crate::finding::{Code, Finding};
use crate::inventory::Signer;
use crate::plan::Move;
use crate::render;

pub fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for moving in case.moves {
        let signer = case.inventory.signer(&moving.old);
        for file in &moving.files {
            findings.extend(in_the_way(case, moving, file, signer));
        }
        findings.extend(foreign(case, moving));
        findings.extend(links(case, moving));
    }
    findings
}

/// What would be taken for the link that enables the new unit, and would be gone after the way back.
fn links(case: &Case<'_>, moving: &Move) -> Vec<Finding> {
    let links = moving.enablement.new.iter().map(|l| l.link.as_path());
    let there = links.filter_map(|path| Some((path, case.around.links.get(path)?)));
    let findings = there.map(|(path, what)| {
        let message = format!(
            "{what} is where a link is to enable {}, and it isn't kmsctl's",
            moving.new
        );
        Finding::block(Code::NotAFile, message)
            .of(&moving.signer)
            .at(path)
            .remedy("take it away, or give another suffix with --suffix")
    });
    findings.collect()
}

/// Drop-ins that would change what the new unit does, and that nothing of the old one accounts for.
fn foreign(case: &Case<'_>, moving: &Move) -> Vec<Finding> {
    let there = case.around.drop_ins.get(&moving.new);
    let known = |path: &Path| moving.files.iter().any(|f| f.path.as_path() == path);
    let foreign = there.into_iter().flatten().filter(|path| !known(path));
    let findings = foreign.map(|path| {
        let message = format!(
            "this drop-in would change {}, and {} has none like it",
            moving.new, moving.old
        );
        Finding::block(Code::FileInTheWay, message)
            .of(&moving.signer)
            .at(path)
            .remedy("look at it and take it away, or give another suffix with --suffix")
    });
    findings.collect()
}

fn in_the_way(
    case: &Case<'_>,
    moving: &Move,
    file: &NewFile,
    signer: Option<&Signer>,
) -> Option<Finding> {
    let path = file.path.as_path();
    let finding = |code, message: String, remedy: &str| {
        Some(
            Finding::block(code, message)
                .of(&moving.signer)
                .at(path)
                .remedy(remedy),
        )
    };
    match case.around.targets.get(path)? {
        Found::Other(what) => finding(
            Code::NotAFile,
            format!("{what} is where kmsctl would write a file"),
            "take it away, or give another suffix with --suffix",
        ),
        Found::Unreadable(why) => finding(
            Code::FileInTheWay,
            format!("what is there can't be read: {why}"),
            "run kmsctl as a user that may read it",
        ),
        Found::File(bytes) => {
            let wanted = render::text(file.role, &file.content, source(&file.content, signer));
            if wanted.as_ref().is_ok_and(|text| text.as_bytes() == bytes) {
                return None;
            }
            if case.ledger.wrote(&file.path) {
                let wanted = wanted.unwrap_or_default();
                finding(
                    Code::FileInTheWay,
                    format!(
                        "a staged file is there that isn't what this plan writes:\n{}",
                        difference(file.role, &wanted, bytes).trim_end()
                    ),
                    "where a hand changed it, put it back; where it is an earlier plan's, `kmsctl unstage`, then plan again",
                )
            } else {
                finding(
                    Code::FileInTheWay,
                    "a file that kmsctl didn't write is there, and it is never overwritten".into(),
                    "move it away, or give another suffix with --suffix",
                )
            }
        }
    }
}

/// From the plan's text to what is there, secrets left out.
fn difference(role: Role, wanted: &str, there: &[u8]) -> String {
    let there = String::from_utf8_lossy(there);
    let plain = |text: &str| render::without_secrets(role, text);
    match (plain(wanted), plain(&there)) {
        (Ok(wanted), Ok(there)) => render::difference(("planned", &wanted), ("there", &there)),
        _ => "it can't be read as what it was".into(),
    }
}

/// The text of a file's source, as the inventory saw it.
fn source<'a>(content: &Content, signer: Option<&'a Signer>) -> Option<&'a str> {
    let Content::Derived { source, .. } = content else {
        return None;
    };
    let signer = signer?;
    let is = |path: &Path| path == source.as_path();
    if is(&signer.config.path) {
        return Some(&signer.config.text);
    }
    if is(&signer.unit.fragment) {
        return Some(&signer.unit.text);
    }
    let at = signer.unit.drop_ins.iter().position(|p| is(p))?;
    signer.unit.drop_in_texts.get(at).map(String::as_str)
}
