//! What `validator` found and did, as text and as JSON.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::{FORMAT_VERSION, line};

/// What `validator` prints with `--json`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Validator")]
pub struct Report {
    #[schemars(extend("const" = FORMAT_VERSION))]
    pub format_version: u32,
    pub config: PathBuf,
    /// Where it waits for its signer; none where it signs itself.
    pub laddr: Option<String>,
    /// Why no signer finds it there, or why it wouldn't start with that address at all.
    pub laddr_wrong: Option<String>,
    /// What `--laddr` changes, as a unified diff.
    pub diff: Option<String>,
    /// Whether the file was written.
    pub changed: bool,
    /// Whether it was put back.
    pub undone: bool,
    /// What it was before, where that is kept.
    pub backup: Option<PathBuf>,
    /// Over how many blocks it looks for its own signatures before it starts.
    pub double_sign_check_height: Option<i64>,
    #[serde(skip)]
    pub double_sign_name: &'static str,
    /// The rule to type where it listens to every address.
    pub firewall: Option<String>,
    /// Key files that could sign beside the signer.
    pub keys: Vec<KeyCopy>,
    /// Where its last signed height is.
    pub state_file: PathBuf,
}

/// A file that holds, or seems to hold, a validator's key.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyCopy {
    pub path: PathBuf,
    /// The validator's address; none where the file can't be read as its key.
    pub address: Option<String>,
}

/// A report in words.
pub fn text(report: &Report) -> String {
    let mut out = report.diff.clone().unwrap_or_default();
    let config = report.config.display();
    let waits = match &report.laddr {
        Some(laddr) => format!("waits for its signer at {laddr}"),
        None => "signs with its own key file".to_owned(),
    };
    match (&report.backup, report.undone) {
        (Some(backup), true) => line(
            &mut out,
            format_args!(
                "{config} is as it was and {waits}; {} can go",
                backup.display()
            ),
        ),
        (Some(backup), false) => line(
            &mut out,
            format_args!(
                "{config} {waits} from its next start on. It is kept as {}; `--undo` brings it back",
                backup.display()
            ),
        ),
        (None, _) => line(&mut out, format_args!("{config} {waits}")),
    }
    if let Some(why) = &report.laddr_wrong {
        line(
            &mut out,
            format_args!("\nNo signer comes to it there: {why}. Set it with `--laddr`"),
        );
    }
    double_signs(&mut out, report);
    if let Some(rule) = &report.firewall {
        line(
            &mut out,
            format_args!(
                "\nIt listens at every address of its host. Let only the signer in:\n  {rule}"
            ),
        );
    }
    keys(&mut out, report);
    out
}

fn double_signs(out: &mut String, report: &Report) {
    let name = report.double_sign_name;
    match report.double_sign_check_height {
        None => line(
            out,
            format_args!("\n{name} isn't set, which is 0: no check"),
        ),
        Some(0) => line(
            out,
            format_args!(
                "\n{name} = 0: before it starts it doesn't look whether its key signed the last blocks elsewhere"
            ),
        ),
        Some(blocks) => line(
            out,
            format_args!(
                "\n{name} = {blocks}: it doesn't start while its key is among the signers of the last {blocks} blocks. With a \
                 signer that goes for every quick restart too: wait, or set it to 0 for that start"
            ),
        ),
    }
}

fn keys(out: &mut String, report: &Report) {
    if report.keys.is_empty() {
        return;
    }
    line(
        out,
        format_args!(
            "\nKey files on this host. Each could sign beside the signer if a node is ever started on it, and two signatures \
             for one height are slashed:"
        ),
    );
    for key in &report.keys {
        let path = key.path.display();
        match &key.address {
            Some(address) => line(
                out,
                format_args!("  {path}: the key of validator {address}"),
            ),
            None => line(
                out,
                format_args!("  {path}: can't be read as a validator's key"),
            ),
        }
    }
    line(
        out,
        format_args!(
            "Import the key into the signer together with {} (`kmsctl init --import … --state …`). Then, with the node stopped, \
             move every copy to one encrypted medium that is attached to no host, and delete the signer's own import file. At \
             its next start CometBFT may write a new key file in the same place: that one is no validator's",
            report.state_file.display()
        ),
    );
}
