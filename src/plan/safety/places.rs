//! Rule S10 for staged files: nothing that kmsctl didn't write is in the way, and nothing but plain files and folders.

use std::path::Path;

use super::{Case, Found};
use crate::content::{Content, NewFile};
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
    }
    findings
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
            if wanted.is_ok_and(|text| text.as_bytes() == bytes) {
                return None;
            }
            if case.ledger.wrote(&file.path) {
                finding(
                    Code::FileInTheWay,
                    "an earlier plan's staged file is there, with another content".into(),
                    "take the earlier plan's files away with `kmsctl unstage`, then plan again",
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
