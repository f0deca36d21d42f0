//! The gate before a switch and before a way back: the chain that is left has stopped, and where it is asked for, kmsctl
//! waits until it has. Nothing is changed here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use tmkms_core::state::SignState;

use super::operation::{self, Heights};
use super::watch::duration;
use crate::discover;
use crate::exit::Failure;
use crate::finding::{Code, Finding};
use crate::host::Host;
use crate::interrupt;
use crate::inventory::{Connection, StateReading};
use crate::plan::halt::{self, Halt, Halts, Leaving, Reach};
use crate::plan::program::{Action, Program};
use crate::ui::Ui;
use crate::ui::waiting::{Standing, Waiting};

/// How long a signer with a connected validator is watched.
const WATCH: Duration = Duration::from_secs(15);
/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Args)]
pub struct HaltArgs {
    /// The last height of the old chain: every signer must have precommitted it, and none be past the next one
    #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    halt_height: Option<u64>,
    /// Wait this long for the halt height, such as 2h, and then go without asking again; needs --halt-height
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait_for_halt: Option<Duration>,
    /// While waiting: how long nothing may be signed before the chain counts as halted
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    still: Duration,
}

/// What a signer was last seen at.
struct Seen {
    states: BTreeMap<PathBuf, StateReading>,
    /// A validator is connected; also where that can't be told.
    connected: bool,
}

impl HaltArgs {
    /// The halt height that an operation was begun with counts where it is gone on with and none is named.
    ///
    /// # Errors
    /// As [`HaltArgs::complete`].
    pub fn as_begun(&self, ui: Ui, begun: Option<u64>) -> Result<HaltArgs, Failure> {
        let mut halt = self.clone();
        if let (None, Some(height)) = (halt.halt_height, begun) {
            ui.note(&format!(
                "The halt height is {height}, as it was begun with."
            ));
            halt.halt_height = Some(height);
        }
        halt.complete()?;
        Ok(halt)
    }

    pub fn waits(&self) -> bool {
        self.wait_for_halt.is_some()
    }

    /// When the heights must agree: while the chain runs its signers are a block or two apart.
    pub fn heights(&self) -> Heights {
        match self.waits() {
            true => Heights::Later,
            false => Heights::Now,
        }
    }

    /// Refuses a wait that doesn't say for what.
    ///
    /// # Errors
    /// No halt height.
    pub fn complete(&self) -> Result<(), Failure> {
        if self.wait_for_halt.is_some() && self.halt_height.is_none() {
            return Err(Failure::usage(
                "--wait-for-halt needs --halt-height: a chain that only pauses isn't halted",
            ));
        }
        Ok(())
    }

    /// Passes the gate: how far each chain that is left may have come when its signer is stopped.
    ///
    /// # Errors
    /// Refused where a chain goes on or a signer isn't where it should be; timed out where that was waited for.
    pub fn pass(&self, host: &mut Host, ui: Ui, leaving: &[Leaving]) -> Result<Halts, Failure> {
        let Some(height) = self.halt_height else {
            stands_still(host, ui, leaving)?;
            let unread = unreadable(host, leaving);
            operation::judge(ui, unread, "how far the chain was signed isn't known")?;
            return Ok(as_they_are(host, leaving));
        };
        match self.wait_for_halt {
            Some(limit) => self.wait(host, ui, leaving, height, limit)?,
            None => stands_still(host, ui, leaving)?,
        }
        let mut halts = as_they_are(host, leaving);
        let mut findings = unreadable(host, leaving);
        // One that didn't run signed nothing: it is only moved.
        for signer in leaving.iter().filter(|l| l.counts()) {
            for file in &signer.files {
                let reading = discover::state(&*host.files, &file.state_file);
                findings.extend(halt::at_height(signer, file, &reading, height));
                halts.insert(file.state_file.clone(), Halt::Height(height));
            }
        }
        operation::judge(ui, findings, "the chain isn't where it should be")?;
        Ok(halts)
    }

    /// The gate as a dry run passes it: what would be waited for is said, and isn't.
    ///
    /// # Errors
    /// What would refuse it now.
    pub fn foreseen(&self, host: &mut Host, ui: Ui, leaving: &[Leaving]) -> Result<Halts, Failure> {
        let Some(height) = self.halt_height.filter(|_| self.waits()) else {
            return self.pass(host, ui, leaving);
        };
        ui.note(&format!(
            "It would wait for the halt at {height} first: what is asked once that is over isn't asked now."
        ));
        let mut halts = as_they_are(host, leaving);
        let mut past = Vec::new();
        for signer in leaving.iter().filter(|l| l.counts()) {
            for file in &signer.files {
                let reading = discover::state(&*host.files, &file.state_file);
                let reached = reading.height().map(|s| halt::reach(s, height));
                if reached == Some(Reach::Past) {
                    past.extend(halt::at_height(signer, file, &reading, height));
                }
                halts.insert(file.state_file.clone(), Halt::Height(height));
            }
        }
        operation::judge(ui, past, "the wait would end at once")?;
        Ok(halts)
    }

    fn wait(
        &self,
        host: &mut Host,
        ui: Ui,
        leaving: &[Leaving],
        height: u64,
        limit: Duration,
    ) -> Result<(), Failure> {
        interrupt::watch()?;
        let begun = host.clock.elapsed();
        let mut shown = Waiting::new(ui, height);
        let counting: Vec<&Leaving> = leaving.iter().filter(|l| l.counts()).collect();
        // Since when each signer is as it is.
        let mut since: BTreeMap<&str, (BTreeMap<PathBuf, StateReading>, Duration)> =
            BTreeMap::new();
        loop {
            let now = host.clock.elapsed();
            let mut standing = Vec::new();
            let mut past = Vec::new();
            for (signer, seen) in counting.iter().zip(look(host, &counting)?) {
                let (states, from) = since
                    .entry(&signer.signer)
                    .or_insert_with(|| (seen.states.clone(), now));
                if *states != seen.states {
                    (*states, *from) = (seen.states, now);
                }
                for file in &signer.files {
                    let state = states.get(&file.state_file).and_then(StateReading::height);
                    let reached = state.map(|s| halt::reach(s, height));
                    if let Some((state, Reach::Past)) = state.zip(reached) {
                        let reading = StateReading::Read(state);
                        past.extend(halt::at_height(signer, file, &reading, height));
                    }
                    standing.push(Standing {
                        signer: &signer.signer,
                        chain: &file.chain,
                        state,
                        there: reached == Some(Reach::There),
                        connected: seen.connected,
                        still: now - *from,
                    });
                }
            }
            shown.show(&standing);
            if !past.is_empty() {
                shown.finish(&standing);
                operation::judge(ui, past, "the wait for the halt is over")?;
            }
            let halted = |s: &Standing<'_>| s.there && !s.connected && s.still >= self.still;
            if standing.iter().all(halted) {
                shown.finish(&standing);
                return Ok(());
            }
            let over = match (interrupt::is_raised(), now - begun >= limit) {
                (true, _) => Some(format!("the wait for the halt at {height} was interrupted")),
                (false, true) => Some(format!("the chain didn't halt at {height} in time")),
                (false, false) => None,
            };
            if let Some(over) = over {
                shown.finish(&standing);
                let late = standing.iter().filter(|s| !halted(s));
                let late: Vec<String> = late.map(|s| format!("  {}", s.sentence(height))).collect();
                return Err(Failure::timed_out(format!(
                    "{over}, and nothing was changed:\n{}\n`kmsctl apply` with the same flags waits again",
                    late.join("\n")
                ))
                .next(&["kmsctl heights", "kmsctl apply"]));
            }
            interrupt::pause(&*host.clock, EVERY.min(limit))?;
        }
    }
}

/// The halt height that a program was made with.
pub fn begun_with(program: &Program) -> Option<u64> {
    program.steps().find_map(|step| match &step.action {
        Action::CheckHalted { files } => files.iter().find_map(|f| match f.halt {
            Halt::Height(height) => Some(height),
            Halt::Still(_) => None,
        }),
        _ => None,
    })
}

/// What nobody may have signed beyond once the signers are stopped: where they are now.
pub fn as_they_are(host: &Host, leaving: &[Leaving]) -> Halts {
    let files = leaving.iter().flat_map(|l| &l.files);
    let now = |path: &PathBuf| Halt::Still(discover::state(&*host.files, path).height());
    files
        .map(|f| (f.state_file.clone(), now(&f.state_file)))
        .collect()
}

/// Watches the signers whose validators are connected: none may sign meanwhile.
pub fn stands_still(host: &mut Host, ui: Ui, leaving: &[Leaving]) -> Result<(), Failure> {
    let mut watched: Vec<(&Leaving, BTreeMap<PathBuf, StateReading>)> = Vec::new();
    let running: Vec<&Leaving> = leaving.iter().filter(|l| l.pid != 0).collect();
    for (signer, seen) in running.iter().zip(look(host, &running)?) {
        if seen.connected {
            watched.push((signer, seen.states));
        }
    }
    if watched.is_empty() {
        return Ok(());
    }
    ui.note(&format!(
        "{} of {} signers are connected to a validator: watching for {} s that none signs.",
        watched.len(),
        leaving.len(),
        WATCH.as_secs()
    ));
    interrupt::watch()?;
    let begun = host.clock.elapsed();
    let mut over = false;
    while !over {
        interrupt::pause(&*host.clock, EVERY)?;
        interrupt::none_yet()?;
        over = host.clock.elapsed() - begun >= WATCH;
        let mut findings = Vec::new();
        for (signer, before) in &watched {
            findings.extend(signed_on(host, signer, before));
        }
        operation::judge(ui, findings, "the chain hasn't stopped")?;
    }
    Ok(())
}

/// Signers that are to be stopped and whose state files say nothing: unknown is no gate passed (rule S12).
fn unreadable(host: &Host, leaving: &[Leaving]) -> Vec<Finding> {
    let counting = leaving.iter().filter(|l| l.counts());
    let files = counting.flat_map(|l| l.files.iter().map(move |f| (l, f)));
    files
        .filter_map(|(signer, file)| {
            let why = match discover::state(&*host.files, &file.state_file) {
                StateReading::Read(_) => return None,
                StateReading::Missing => "it isn't there".to_owned(),
                StateReading::Link => "it is a link".to_owned(),
                StateReading::Unreadable(why) => why,
            };
            let message = format!("how far {} was signed can't be read: {why}", file.chain);
            let remedy = "find the file, or what keeps it from being read; never begin a new one for this chain";
            let finding = Finding::block(Code::StateUnreadable, message);
            Some(finding.of(&signer.signer).at(&file.state_file).remedy(remedy))
        })
        .collect()
}

fn signed_on(
    host: &Host,
    signer: &Leaving,
    before: &BTreeMap<PathBuf, StateReading>,
) -> Vec<Finding> {
    let files = signer.files.iter();
    files
        .filter_map(|file| {
            let then = before.get(&file.state_file).and_then(StateReading::height);
            let then = then.unwrap_or(SignState::ZERO);
            let now = discover::state(&*host.files, &file.state_file).height()?;
            (now > then).then(|| halt::not_halted(signer, file, then, now))
        })
        .collect()
}

/// Looks at signers, their connections all at once.
fn look(host: &mut Host, signers: &[&Leaving]) -> anyhow::Result<Vec<Seen>> {
    let running = signers.iter().map(|s| s.pid).filter(|pid| *pid != 0);
    let pids: Vec<u32> = running.collect();
    let mut connections = host.processes.connections_of(&pids).into_iter();
    let mut seen = Vec::new();
    for signer in signers {
        let connections = match signer.pid {
            0 => Some(Ok(Vec::new())),
            _ => connections.next(),
        };
        let unknown = || Err(anyhow!("nothing is known of its connections"));
        seen.push(look_at(host, signer, connections.unwrap_or_else(unknown))?);
    }
    Ok(seen)
}

fn look_at(
    host: &mut Host,
    signer: &Leaving,
    connections: anyhow::Result<Vec<Connection>>,
) -> anyhow::Result<Seen> {
    let states = signer.files.iter().map(|file| {
        let reading = discover::state(&*host.files, &file.state_file);
        (file.state_file.clone(), reading)
    });
    let states = states.collect();
    let connections = match connections {
        Ok(connections) => Ok(connections),
        // It may have been started anew since.
        Err(_) => match host.services.run(&signer.unit)?.state.main_pid {
            0 => Ok(Vec::new()),
            pid => host.processes.connections(pid),
        },
    };
    // What can't be told may be a validator's.
    let connected = connections.map_or(true, |c| signer.validator_among(&c));
    Ok(Seen { states, connected })
}
