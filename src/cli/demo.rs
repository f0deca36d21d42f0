//! `demo`: the guide's three signers in a temporary folder, taken to the new chain and back, with the real verbs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Parser;

use super::Cli;
use crate::exit::{Exit, Failure, Outcome};
use crate::ui::Ui;

macro_rules! fixture {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../fixtures/commercio/host/", $path)))),*]
    };
}

/// The fixture fleet: what tests use, in the program itself.
const FLEET: [(&str, &str); 9] = fixture![
    "etc/systemd/system/tmkms-01.service",
    "etc/systemd/system/tmkms-02.service",
    "etc/systemd/system/tmkms-03.service",
    "data_tmkms/tmkms/kms/commercio/tmkms.01.toml",
    "data_tmkms/tmkms/kms/commercio/tmkms.02.toml",
    "data_tmkms/tmkms/kms/commercio/tmkms.03.toml",
    "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state01.json",
    "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state02.json",
    "data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state03.json",
];

/// What is shown, and one sentence of why.
const STORY: [(&[&str], &str); 9] = [
    (
        &["heights"],
        "Three signers of commercio-2_2, as the chain's guide sets them up.",
    ),
    (
        &["plan", "--new-chain", "commercio-3"],
        "The plan is a diff to judge: every changed line with its reason, nothing done yet.",
    ),
    (
        &["stage"],
        "Staging writes the new files days ahead; a marker keeps the new units from starting.",
    ),
    (
        &["apply"],
        "At the halt: each signer is closed, stopped, proven dead, recorded, and only then the new one starts.",
    ),
    (
        &["status"],
        "The new units run; the old ones are closed, so that no boot and no hand starts them.",
    ),
    (
        &["plan", "--new-chain", "commercio-3", "--detailed-exitcode"],
        "Planning again finds nothing to do.",
    ),
    (
        &["rollback"],
        "The chain's upgrade failed: the mirror image of the switch, by the same rules.",
    ),
    (
        &["status"],
        "The old units run again; the new chain's state files are kept, in case it is tried again.",
    ),
    (
        &["unstage"],
        "And what was staged can be taken away, which leaves the host as it was.",
    ),
];

pub fn run(ui: Ui) -> Outcome {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    lay_out(folder.path())?;
    let root = folder
        .path()
        .to_str()
        .context("the temporary folder's path isn't UTF-8")?;
    for (words, why) in STORY {
        ui.out(&format!("\n# {why}\n$ kmsctl {}\n", words.join(" ")))?;
        let global = ["kmsctl", "--root", root, "--yes"];
        let line = global.iter().chain(words);
        let cli = Cli::try_parse_from(line).context("the demo's own command line")?;
        let exit = super::run_verb(&cli);
        if exit != Exit::Done {
            return Err(Failure::from(anyhow::anyhow!(
                "`kmsctl {}` ended with {exit:?}",
                words.join(" ")
            )));
        }
    }
    ui.out("\nThe fleet lived in a temporary folder, which is gone now.\n")?;
    Ok(Exit::Done)
}

fn lay_out(root: &Path) -> Result<()> {
    for (path, text) in FLEET {
        let path = root.join(path);
        let context = || format!("writing {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(context)?;
        }
        fs::write(&path, text).with_context(context)?;
    }
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).with_context(|| format!("making {}", wants.display()))?;
    for unit in ["tmkms-01.service", "tmkms-02.service", "tmkms-03.service"] {
        let link = wants.join(unit);
        symlink(Path::new("/etc/systemd/system").join(unit), &link)
            .with_context(|| format!("linking {}", link.display()))?;
    }
    Ok(())
}
