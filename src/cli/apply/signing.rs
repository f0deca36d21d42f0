//! Whether the new signers sign. A running process proves nothing and a connection neither: a state file that goes on does.

use std::path::PathBuf;
use std::time::Duration;

use tmkms_core::state::SignState;

use crate::discover;
use crate::exit::Failure;
use crate::host::Host;
use crate::inventory::StateReading;
use crate::journal::Journal;
use crate::journal::store::History;
use crate::kms::tmkms::last_words;
use crate::ledger::Ledger;
use crate::plan::program::Action;
use crate::plan::{ChainFile, Move};
use crate::ui::{self, Ui, events};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

/// What isn't seen signing yet.
struct Silent<'a> {
    moving: &'a Move,
    file: &'a ChainFile,
    stood: SignState,
}

/// Waits until each started signer has signed each of its chains.
///
/// # Errors
/// One hasn't in time: nothing is taken back, and its last words are said.
pub fn wait(
    host: &mut Host,
    ui: Ui,
    history: &History,
    journal: &Journal,
    limit: Duration,
) -> Result<(), Failure> {
    let before = Ledger::before(&history.0, &[journal]);
    let started = |moving: &&Move| {
        let start = |a: &Action| matches!(a, Action::Start { unit } if *unit == moving.new);
        journal.program.steps().any(|step| start(&step.action))
    };
    let moves = journal.plan.moves.iter().filter(started);
    let mut silent: Vec<Silent<'_>> = moves
        .flat_map(|moving| moving.new_chains().map(move |file| (moving, file)))
        .map(|(moving, file)| Silent {
            moving,
            file,
            stood: before.highest(&file.state_file).unwrap_or(SignState::ZERO),
        })
        .collect();
    ui.note(&format!(
        "Waiting for at most {} s until each of {} has signed.",
        limit.as_secs(),
        ui::count(silent.len(), "chain")
    ));
    let begun = host.clock.elapsed();
    loop {
        silent.retain(|waits| {
            let reading = discover::state(&*host.files, &waits.file.state_file);
            let signed = reading.height().filter(|now| *now > waits.stood);
            if let Some(now) = signed {
                let (signer, chain) = (&waits.moving.signer, &waits.file.chain);
                ui.note(&format!("{signer}: signed {chain} at {now}"));
                events::show(ui, events::Event::signed(signer, chain, now));
            }
            signed.is_none()
        });
        if silent.is_empty() {
            return Ok(());
        }
        if host.clock.elapsed() - begun >= limit {
            return Err(not_signing(host, journal, &silent, limit));
        }
        host.clock.sleep(EVERY.min(limit))?;
    }
}

fn not_signing(
    host: &mut Host,
    journal: &Journal,
    silent: &[Silent<'_>],
    limit: Duration,
) -> Failure {
    let mut text = String::new();
    for waits in silent {
        let path: &PathBuf = &waits.file.state_file;
        let at = match discover::state(&*host.files, path) {
            StateReading::Read(state) => format!("still at {state}"),
            StateReading::Missing => "missing".to_owned(),
            StateReading::Link => "a link".to_owned(),
            StateReading::Unreadable(why) => why,
        };
        let words = last_words::of(host, &waits.moving.new, journal.opened_at);
        ui::line(
            &mut text,
            format_args!(
                "{}: not seen signing {} in {} s; {} is {at}{words}",
                waits.moving.signer,
                waits.file.chain,
                limit.as_secs(),
                path.display()
            ),
        );
    }
    Failure::not_signing(format!(
        "{text}everything is switched and nothing was taken back. `kmsctl heights` shows who signs; `kmsctl apply \
         --await-signing 10m` waits again, `kmsctl rollback` goes back"
    ))
    .of(journal.operation)
    .next(&["kmsctl heights", "kmsctl apply", "kmsctl rollback"])
}
