//! A snapshot's document as text.

use std::path::Path;

use super::line;
use crate::snapshot::{Secret, Snapshot};

/// What a snapshot holds, what placeholders stand for, what was left out, what to look at.
pub fn text(snapshot: &Snapshot, place: &Path) -> String {
    let mut out = String::new();
    let (host, count) = (&snapshot.host, snapshot.signers.len());
    let signers = if count == 1 { "signer" } else { "signers" };
    line(
        &mut out,
        format_args!(
            "Snapshot of {host} in {}: {count} {signers}",
            place.display()
        ),
    );
    for signer in &snapshot.signers {
        let word = |yes: bool, no: &str, word: &str| {
            if yes {
                word.to_owned()
            } else {
                format!("{no} {word}")
            }
        };
        let runs = word(signer.active, "not", "running");
        let enabled = word(signer.enabled, "not", "enabled");
        let config = signer.config.display();
        line(
            &mut out,
            format_args!("  {}: {runs}, {enabled}, on {config}", signer.unit),
        );
    }
    line(&mut out, format_args!("\nPlaceholders:"));
    for replaced in &snapshot.replaced {
        let what = match replaced.what {
            Secret::KeyFile => "a key file",
            Secret::PasswordFile => "a password file",
            Secret::Values => "values that may be secret",
        };
        line(
            &mut out,
            format_args!("  {}: {what}", replaced.path.display()),
        );
    }
    line(&mut out, format_args!("\nLeft out:"));
    for left_out in &snapshot.left_out {
        let path = left_out
            .path
            .as_ref()
            .map(|p| format!(" ({})", p.display()));
        let path = path.unwrap_or_default();
        line(
            &mut out,
            format_args!("  {}{path}: {}", left_out.what, left_out.why),
        );
    }
    line(
        &mut out,
        format_args!("\nBefore you give it to somebody else:"),
    );
    for note in &snapshot.look_at {
        line(&mut out, format_args!("  {note}"));
    }
    out
}
