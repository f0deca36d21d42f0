//! The wait for the halt: a live line a signer on a terminal, a line a minute elsewhere, events with `--json`.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tmkms_core::state::SignState;

use super::{Ui, events};

/// Where a signer stands while the halt is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing<'a> {
    pub signer: &'a str,
    pub chain: &'a str,
    /// None where its state file can't be read.
    pub state: Option<SignState>,
    /// The halt height is precommitted.
    pub there: bool,
    pub connected: bool,
    /// How long nothing was signed.
    pub still: Duration,
}

impl Standing<'_> {
    fn text(&self, halt_height: u64) -> String {
        let Some(state) = self.state else {
            return format!("{}: its state file can't be read", self.chain);
        };
        let distance = match halt_height.checked_sub(state.height) {
            Some(blocks) if blocks > 0 => format!(
                "{} to go",
                super::count(usize::try_from(blocks).unwrap_or(usize::MAX), "block")
            ),
            _ if self.there => "at the halt height".to_owned(),
            _ => "not precommitted yet".to_owned(),
        };
        let validator = match self.connected {
            true => "validator connected",
            false => "no validator",
        };
        let still = self.still.as_secs();
        format!(
            "{} at {state}, {distance}, {validator}, still for {still} s",
            self.chain
        )
    }

    /// In one sentence.
    pub fn sentence(&self, halt_height: u64) -> String {
        format!("{}: {}", self.signer, self.text(halt_height))
    }
}

/// Shows the wait.
pub struct Waiting {
    ui: Ui,
    halt_height: u64,
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
    looks: u32,
    told: Vec<(Option<SignState>, bool)>,
}

impl Waiting {
    pub fn new(ui: Ui, halt_height: u64) -> Waiting {
        let live = !ui.json && !ui.quiet && std::io::stderr().is_terminal();
        Waiting {
            ui,
            halt_height,
            bars: live.then(|| (MultiProgress::new(), Vec::new())),
            looks: 0,
            told: Vec::new(),
        }
    }

    /// Shows a look; one a second.
    pub fn show(&mut self, standing: &[Standing<'_>]) {
        let first = self.looks == 0;
        self.looks += 1;
        if self.ui.json {
            let now: Vec<_> = standing.iter().map(|s| (s.state, s.connected)).collect();
            for (n, signer) in standing.iter().enumerate() {
                if self.told.get(n) != now.get(n) {
                    events::show(self.ui, events::Event::waiting(signer, self.halt_height));
                }
            }
            self.told = now;
        } else if let Some((all, bars)) = &mut self.bars {
            for (n, signer) in standing.iter().enumerate() {
                if bars.len() <= n {
                    let bar = all.add(ProgressBar::new_spinner());
                    if let Ok(style) = ProgressStyle::with_template("{prefix:16} {wide_msg}") {
                        bar.set_style(style);
                    }
                    bar.set_prefix(signer.signer.to_owned());
                    bars.push(bar);
                }
                if let Some(bar) = bars.get(n) {
                    bar.set_message(signer.text(self.halt_height));
                    bar.tick();
                }
            }
        } else if first || self.looks.is_multiple_of(60) {
            self.say(standing);
        }
    }

    /// Ends it with how all stand, so that what is printed next stands on lines of its own.
    pub fn finish(&mut self, standing: &[Standing<'_>]) {
        match self.bars.take() {
            Some((_, bars)) => bars.iter().for_each(ProgressBar::abandon),
            None if self.ui.json => {}
            None => self.say(standing),
        }
    }

    fn say(&self, standing: &[Standing<'_>]) {
        for signer in standing {
            self.ui.note(&signer.sentence(self.halt_height));
        }
    }
}
