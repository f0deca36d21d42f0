//! `snapshot`: this host, without its secrets, as a folder for `--root`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::exit::{Exit, Outcome};
use crate::host::Host;
use crate::snapshot::folder::Unfinished;
use crate::snapshot::{self, DOCUMENT};
use crate::ui::Ui;
use crate::ui::snapshot::text;

#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// The folder to write: a new one, or an empty one
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn run(host: &mut Host, ui: Ui, args: &SnapshotArgs) -> Outcome {
    let unfinished = Unfinished::begin(&args.dir)?;
    let taken = snapshot::take(host, random()?)?;
    unfinished.write(&taken.nodes)?;
    taken.check(unfinished.path())?;
    let place = unfinished.finish()?;
    for doubtful in &taken.doubtful {
        ui.note(doubtful);
    }
    if ui.json {
        ui.json(&taken.snapshot)?;
    } else {
        ui.out(&text(&taken.snapshot, &place))?;
    }
    ui.note(&format!(
        "The same is kept in {}{DOCUMENT}. Rehearse: `kmsctl --root {} plan --new-chain ID`, then `apply --yes`.",
        place.display(),
        place.display()
    ));
    Ok(Exit::Done)
}

/// A key for this snapshot's placeholders, known to nobody and kept nowhere.
fn random() -> anyhow::Result<[u8; 32]> {
    let mut key = [0; 32];
    let flags = rustix::rand::GetRandomFlags::empty();
    let filled = rustix::rand::getrandom(&mut key, flags).context("asking for random bytes")?;
    anyhow::ensure!(filled == key.len(), "the kernel gave {filled} random bytes");
    Ok(key)
}
