//! Whether the new signers sign. A running process proves nothing and a connection neither: a state file that goes on does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tmkms_core::state::SignState;

use crate::discover;
use crate::exit::Failure;
use crate::host::Host;
use crate::interrupt;
use crate::inventory::StateReading;
use crate::journal::Journal;
use crate::journal::store::History;
use crate::kms::tmkms::last_words;
use crate::ledger::Ledger;
use crate::plan::program::Action;
use crate::plan::{ChainFile, Move};
use crate::ui::{self, Ui, events};
use crate::unit::UnitName;

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
    interrupt::watch()?;
    let begun = host.clock.elapsed();
    let mut told = LastWords::default();
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
        let waited = host.clock.elapsed() - begun;
        let over = match (interrupt::is_raised(), waited >= limit) {
            (true, _) => Some(Over::Interrupted(waited)),
            (false, true) => Some(Over::Late(limit)),
            (false, false) => None,
        };
        if let Some(over) = over {
            return Err(not_signing(host, journal, &silent, over));
        }
        for ended in ended(host, &silent) {
            if let Some(words) = told.once(host, &ended.unit, journal) {
                let Ended { unit, state } = ended;
                ui.note(&format!("{unit} is {state}, and signs nothing{words}"));
            }
        }
        interrupt::pause(&*host.clock, EVERY.min(limit))?;
    }
}

/// Why nobody waits any longer, and after how long.
enum Over {
    Late(Duration),
    Interrupted(Duration),
}

/// The units whose last words were said: asking is a program of its own.
#[derive(Default)]
struct LastWords(BTreeSet<UnitName>);

impl LastWords {
    fn once(&mut self, host: &mut Host, unit: &UnitName, journal: &Journal) -> Option<String> {
        let first = self.0.insert(unit.clone());
        first.then(|| last_words::of(host, unit, journal.opened_at))
    }
}

/// A unit that doesn't run.
struct Ended {
    unit: UnitName,
    state: String,
}

/// The awaited units that don't run; none where systemd can't be asked, since nothing follows from it.
fn ended(host: &mut Host, silent: &[Silent<'_>]) -> Vec<Ended> {
    let units: BTreeSet<&UnitName> = silent.iter().map(|s| &s.moving.new).collect();
    let units: Vec<UnitName> = units.into_iter().cloned().collect();
    let states = host.services.activities(&units).unwrap_or_default();
    let ended = units.into_iter().zip(states).filter(|(_, now)| !now.runs());
    ended
        .map(|(unit, now)| Ended {
            unit,
            state: format!("{} ({})", now.active, now.sub),
        })
        .collect()
}

fn not_signing(host: &mut Host, journal: &Journal, silent: &[Silent<'_>], over: Over) -> Failure {
    let (waited, mut text) = match over {
        Over::Late(limit) => (limit, String::new()),
        Over::Interrupted(waited) => (
            waited,
            "interrupted while waiting for signatures:\n".to_owned(),
        ),
    };
    let mut last_words = LastWords::default();
    for waits in silent {
        let path: &PathBuf = &waits.file.state_file;
        let at = match discover::state(&*host.files, path) {
            StateReading::Read(state) => format!("still at {state}"),
            StateReading::Missing => "missing".to_owned(),
            StateReading::Link => "a link".to_owned(),
            StateReading::Unreadable(why) => why,
        };
        let words = last_words.once(host, &waits.moving.new, journal);
        ui::line(
            &mut text,
            format_args!(
                "{}: not seen signing {} in {} s; {} is {at}{}",
                waits.moving.signer,
                waits.file.chain,
                waited.as_secs(),
                path.display(),
                words.unwrap_or_default()
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
