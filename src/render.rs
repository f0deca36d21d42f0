//! Renders what staging writes: the new config, the new unit, the drop-ins. Pure: text in, text out.

pub mod config;
pub mod drop_in;
pub mod runbook;
pub mod signer;
pub mod unit;

use std::ops::Range;
use std::path::Path;

use tmkms_core::edit::Edit;

use crate::content::{Change, Content, Fingerprint, Role};

/// The text without its secrets, by the kind of file.
pub fn without_secrets(role: Role, text: &str) -> Result<String, String> {
    match role {
        Role::Config => {
            let spans: Vec<Range<usize>> =
                tmkms_core::config::secret_spans(text).map_err(|e| e.to_string())?;
            Ok(tmkms_core::config::redacted(text, &spans))
        }
        Role::Unit | Role::DropIn | Role::Fence => unit::without_secrets(text),
    }
}

/// What a file is known by in plans and journals: its text, secrets cut out.
pub fn fingerprint(role: Role, text: &str) -> Result<Fingerprint, String> {
    Ok(Fingerprint::of(without_secrets(role, text)?.as_bytes()))
}

/// Content that follows from a source by edits, and the source's text without its secrets.
pub fn derived(
    role: Role,
    source: &Path,
    text: &str,
    mut edits: Vec<Change>,
) -> Result<(Content, String), String> {
    let plain: Vec<Edit> = edits.iter().map(|c| c.edit.clone()).collect();
    let result = edited(role, source, text, &plain)?;
    let shown = without_secrets(role, text)?;
    edits.shrink_to_fit();
    let content = Content::Derived {
        source: source.to_owned(),
        fingerprint: Fingerprint::of(shown.as_bytes()),
        result: fingerprint(role, &result)?,
        edits,
    };
    Ok((content, shown))
}

fn edited(role: Role, path: &Path, text: &str, edits: &[Edit]) -> Result<String, String> {
    match role {
        Role::Config => {
            tmkms_core::edit::apply(text, edits).map_err(|e| format!("{}: {e}", path.display()))
        }
        Role::Unit | Role::DropIn | Role::Fence => {
            unit::splice(text, edits).map_err(|e| format!("{}: {e}", path.display()))
        }
    }
}

/// Whether a text is the one that a content gives, secrets left out of the comparison.
pub fn is_result(role: Role, content: &Content, text: &str) -> bool {
    match content {
        Content::Text { text: wanted } => text == wanted,
        Content::Derived { result, .. } => fingerprint(role, text).is_ok_and(|f| f == *result),
    }
}

/// The whole text of a file, from its source's.
///
/// # Errors
/// The source isn't the one that the plan was made from, or an edit no longer fits.
pub fn text(role: Role, content: &Content, source: Option<&str>) -> Result<String, String> {
    match content {
        Content::Text { text } => Ok(text.clone()),
        Content::Derived {
            source: path,
            fingerprint: known,
            edits,
            ..
        } => {
            let source = source.ok_or_else(|| format!("{} is gone", path.display()))?;
            if fingerprint(role, source)? != *known {
                return Err(format!(
                    "{} changed since the plan was made",
                    path.display()
                ));
            }
            let edits: Vec<Edit> = edits.iter().map(|c| c.edit.clone()).collect();
            edited(role, path, source, &edits)
        }
    }
}

/// A unified diff of two named texts.
pub fn difference(old: (&str, &str), new: (&str, &str)) -> String {
    let diff = similar::TextDiff::from_lines(old.1, new.1);
    diff.unified_diff()
        .context_radius(1)
        .header(old.0, new.0)
        .to_string()
}
