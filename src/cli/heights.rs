//! `heights`: how far each signer signed, made to be compared with other hosts.

use crate::discover::{self, Versions};
use crate::exit::{Exit, Outcome};
use crate::host::Host;
use crate::ui::Ui;
use crate::ui::status::{heights, heights_text};

pub fn run(host: &mut Host, ui: Ui) -> Outcome {
    let inventory = discover::inventory(host, Versions::Skip)?;
    let heights = heights(&inventory);
    if ui.json {
        ui.json(&heights)?
    } else {
        ui.out(&heights_text(&heights))?
    }
    for problem in &inventory.problems {
        ui.note(&problem.to_string());
    }
    // A height that can't be read is unknown, and unknown is no success.
    let unknown = heights.heights.iter().any(|h| h.reading.height.is_none());
    Ok(
        if unknown || inventory.problems.iter().any(|p| p.blocks()) {
            Exit::Refused
        } else {
            Exit::Done
        },
    )
}
