//! What happens while a program runs: a line a signer on a terminal, plain lines elsewhere, JSON events with `--json`.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Ui, events};
use crate::apply::Event;
use crate::plan::program::Action;

/// Shows events as they come.
pub struct Progress {
    ui: Ui,
    bars: Option<MultiProgress>,
    lines: BTreeMap<String, ProgressBar>,
}

/// The line of the steps that all signers share.
const ALL: &str = "all";

impl Progress {
    pub fn new(ui: Ui) -> Progress {
        let live = !ui.json && !ui.quiet && !ui.verbose && std::io::stderr().is_terminal();
        Progress {
            ui,
            bars: live.then(MultiProgress::new),
            lines: BTreeMap::new(),
        }
    }

    pub fn show(&mut self, event: &Event<'_>) {
        if self.ui.json {
            events::show(self.ui, events::Event::of(event));
            return;
        }
        if self.bars.is_some() {
            self.draw(event)
        } else {
            self.say(event)
        }
    }

    fn draw(&mut self, event: &Event<'_>) {
        match event {
            Event::Doing { signer, step } => {
                self.bar(signer.unwrap_or(ALL))
                    .set_message(doing(&step.action));
            }
            Event::Done { .. } => {}
            Event::Failed { signer, error, .. } => {
                let bar = self.bar(signer.unwrap_or(ALL));
                bar.abandon_with_message(format!("FAILED: {error}"));
            }
            Event::LaneDone { signer } => self.bar(signer).finish_with_message("done"),
        }
    }

    fn bar(&mut self, name: &str) -> ProgressBar {
        let bars = self.bars.get_or_insert_with(MultiProgress::new);
        self.lines
            .entry(name.to_owned())
            .or_insert_with(|| {
                let bar = bars.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{prefix:16} {wide_msg}") {
                    bar.set_style(style);
                }
                bar.set_prefix(name.to_owned());
                bar
            })
            .clone()
    }

    fn say(&self, event: &Event<'_>) {
        match event {
            Event::Doing { signer, step } if self.ui.verbose => {
                let name = signer.unwrap_or(ALL);
                self.ui.note(&format!("{name}: {}", doing(&step.action)));
            }
            Event::Failed { signer, error, .. } => {
                self.ui
                    .note(&format!("{}: FAILED: {error}", signer.unwrap_or(ALL)));
            }
            Event::LaneDone { signer } => self.ui.note(&format!("{signer}: done")),
            Event::Doing { .. } | Event::Done { .. } => {}
        }
    }

    /// Ends the drawing, so that what is printed next stands on lines of its own.
    pub fn finish(&mut self) {
        if let Some(all) = self.lines.get(ALL)
            && !all.is_finished()
        {
            all.finish_with_message("done");
        }
        self.lines.clear();
    }
}

/// What a step does, in a few words.
pub fn doing(action: &Action) -> String {
    match action {
        Action::MakeFolder { path } => format!("making {path}"),
        Action::Write { path, .. } => format!("writing {path}"),
        Action::Remove { path, .. } | Action::RemoveFolder { path } => format!("removing {path}"),
        Action::CloseFence { unit } => format!("closing {unit}"),
        Action::OpenFence { unit } => format!("opening {unit}"),
        Action::Reload => "systemd reads its units again".into(),
        Action::Enable { units, .. } => format!("enabling {} units", units.len()),
        Action::Disable { units, .. } => format!("disabling {} units", units.len()),
        Action::SetLink { link, to, .. } => match to {
            Some(target) => format!("linking {link} to {}", target.display()),
            None => format!("taking {link} away"),
        },
        Action::CheckFenced { .. } => "checking the fence".into(),
        Action::Stop { unit } => format!("stopping {unit}"),
        Action::ProveStopped { unit, .. } => format!("proving that {unit} is stopped"),
        Action::Record { .. } => "recording how far it signed".into(),
        Action::CheckHeights { .. } => "checking heights".into(),
        Action::LayFloor { floor, .. } => format!("laying the floor {}", floor.path().display()),
        Action::WithdrawFloor { floor } => {
            format!("taking the floor {} away", floor.path().display())
        }
        Action::CheckHalted { .. } => "checking that its chain has stopped".into(),
        Action::Start { unit } => format!("starting {unit}"),
        Action::Watch { unit, .. } => format!("watching {unit}"),
    }
}
