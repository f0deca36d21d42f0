//! The runbook: a plan's programs as one bash script, for whoever does or checks them by hand.
//!
//! It must end in the same units, files and links as `apply`, so it is made from the same steps. Every value of the
//! plan goes in as one quoted word. It holds no secret, as the plan holds none.

mod shell;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use handlebars::Handlebars;
use serde::Serialize;
use serde_json::json;
use tmkms_core::state::SignState;

use crate::content::{Content, Fingerprint, Role};
use crate::host::memory;
use crate::paths::{DROP_IN, FENCE_FOLDER, ManagedPath, UNIT_FOLDER};
use crate::plan::program::{Action, Lane, Program, Step};
use crate::plan::{Input, Move, Plan, steps};
use crate::render::drop_in::MARKER_SAYS;
use crate::unit::UnitName;
use shell::{Line, comment, quoted};

/// How a runbook begins, so that nothing else is ever taken for one.
const BEGIN: &str = "#!/usr/bin/env bash\n# A runbook of kmsctl ";
const TEMPLATES: [(&str, &str); 6] = [
    ("runbook", include_str!("../../templates/runbook.sh.hbs")),
    (
        "words",
        include_str!("../../templates/runbook/words.sh.hbs"),
    ),
    (
        "files",
        include_str!("../../templates/runbook/files.sh.hbs"),
    ),
    (
        "units",
        include_str!("../../templates/runbook/units.sh.hbs"),
    ),
    (
        "states",
        include_str!("../../templates/runbook/states.sh.hbs"),
    ),
    ("steps", include_str!("../../templates/runbook/steps.hbs")),
];

/// What a runbook must know beyond its plan, as it was when it was made.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Signers that don't move: their processes are no strays.
    pub others: BTreeSet<UnitName>,
    /// How far each state file was ever seen.
    pub floors: BTreeMap<PathBuf, SignState>,
}

/// Whether a file is a runbook, and may be replaced by a newer one.
pub fn is_runbook(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGIN.as_bytes())
}

/// Steps that belong together, under a heading where they have one.
#[derive(Debug, Serialize)]
struct Section {
    title: Option<String>,
    steps: Vec<Shown>,
}

/// A step as the script has it.
#[derive(Debug, Serialize)]
struct Shown {
    id: Line,
    because: Line,
    lines: Vec<Line>,
}

/// Where a step stands, as far as its words depend on it.
#[derive(Clone, Copy, Debug)]
enum Part {
    Stage,
    /// Of a signer that is started, or of one that wasn't running.
    Lane {
        starts: bool,
    },
    Shared,
    Unstage,
}

struct Writer<'a> {
    plan: &'a Plan,
    around: &'a Around,
}

/// The script.
///
/// # Errors
/// A path that isn't text, which no plan that was read back has.
pub fn text(plan: &Plan, around: &Around) -> Result<String> {
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    // Bash isn't HTML; what goes in is a quoted word or a comment without line ends.
    engine.register_escape_fn(handlebars::no_escape);
    for (name, template) in TEMPLATES {
        engine
            .register_template_string(name, template)
            .with_context(|| format!("reading the runbook's template {name}"))?;
    }
    let writer = Writer { plan, around };
    let nothing = BTreeSet::new();
    let (moves, stage) = (&plan.moves, steps::stage(plan));
    let data = json!({
        "title": BEGIN.rsplit('\n').next().map(str::trim_end),
        "version": env!("CARGO_PKG_VERSION"),
        "plan": comment(&plan.id),
        "signers": if moves.len() == 1 { "1 signer".to_owned() } else { format!("{} signers", moves.len()) },
        "from": comment(plan.from.as_ref().map_or("", |c| c.as_str())),
        "to": comment(plan.request.new_chain.as_str()),
        "unit_folder": quoted(UNIT_FOLDER)?,
        "fence_folder": quoted(FENCE_FOLDER)?,
        "kmsctl_folder": quoted(memory::FOLDER)?,
        "drop_in": DROP_IN,
        "marker_says": quoted(MARKER_SAYS)?,
        "known": writer.known()?,
        "inputs": writer.inputs()?,
        "begun": each(moves, |m| Line::of("before_switch").unit(&m.old)?.unit(&m.new))?,
        "used": each(moves, |m| {
            let links = m.enablement.new.iter().map(|l| l.link.as_path());
            Line::of("unused").unit(&m.old)?.unit(&m.new)?.paths(links)
        })?,
        "spread": plan.request.max_spread,
        "agree": writer.agree()?,
        "stage": writer.sections(&stage, Part::Stage)?,
        "switch": writer.sections(&steps::switch(plan, &nothing), Part::Shared)?,
        "back": writer.sections(&steps::back(plan, &nothing), Part::Shared)?,
        "unstage": writer.sections(&steps::unstage(plan, &staged(plan, &stage)), Part::Unstage)?,
    });
    engine
        .render("runbook", &data)
        .context("rendering templates/runbook.sh.hbs")
}

fn each(moves: &[Move], line: impl Fn(&Move) -> Result<Line>) -> Result<Vec<Line>> {
    moves.iter().map(line).collect()
}

/// Everything that staging may make; the script itself knows which of it was there before.
fn staged(plan: &Plan, stage: &Program) -> BTreeSet<ManagedPath> {
    let made = stage.steps().filter_map(|step| match &step.action {
        Action::MakeFolder { path } | Action::Write { path, .. } => Some(path.clone()),
        _ => None,
    });
    let fences = plan.moves.iter().map(|m| ManagedPath::fence(&m.new));
    made.chain(fences).collect()
}

impl Writer<'_> {
    fn known(&self) -> Result<Vec<String>> {
        let own = self.plan.moves.iter().flat_map(|m| [&m.old, &m.new]);
        let units: BTreeSet<&UnitName> = own.chain(&self.around.others).collect();
        units.into_iter().map(|u| quoted(u.as_str())).collect()
    }

    /// One line for each file and program that the plan was made from.
    fn inputs(&self) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for input in &self.plan.inputs {
            let mark = self.mark(input);
            lines.push(if input.text.contains(mark) {
                let line = Line::of("unchanged_but_secrets").path(&input.path)?;
                line.word(mark)?.word(&input.text)?
            } else {
                // Nothing was cut out, so that this is the whole file.
                let sum = Fingerprint::of(input.text.as_bytes());
                Line::of("unchanged")
                    .word(&sum.to_string())?
                    .path(&input.path)?
            });
        }
        for (program, sum) in &self.plan.binaries {
            let line = Line::of("unchanged").word(&sum.to_string())?;
            lines.push(line.path(program)?);
        }
        Ok(lines)
    }

    /// What stands in an input for a secret.
    fn mark(&self, input: &Input) -> &'static str {
        let mut configs = self.plan.moves.iter().map(|m| &m.old_config);
        if configs.any(|config| *config == input.path) {
            tmkms_core::config::PLACEHOLDER
        } else {
            super::unit::PLACEHOLDER
        }
    }

    /// The old units and the state files of the chain that moves.
    fn agree(&self) -> Result<Vec<Line>> {
        let files = self.plan.moves.iter().flat_map(|m| {
            let files = m.chains.iter().map(|c| &c.old.state_file);
            files.map(|file| (&m.old, file))
        });
        files
            .map(|(unit, file)| Line::default().unit(unit)?.path(file))
            .collect()
    }

    fn sections(&self, program: &Program, part: Part) -> Result<Vec<Section>> {
        let mut sections = vec![self.section(None, &program.before, part)?];
        for Lane { signer, steps } in &program.lanes {
            let start = |step: &Step| matches!(step.action, Action::Start { .. });
            let starts = steps.iter().any(start);
            sections.push(self.section(Some(comment(signer)), steps, Part::Lane { starts })?);
        }
        if !program.after.is_empty() {
            sections.push(self.section(Some("all signers".into()), &program.after, part)?);
        }
        sections.retain(|section| !section.steps.is_empty());
        Ok(sections)
    }

    fn section(&self, title: Option<String>, steps: &[Step], part: Part) -> Result<Section> {
        let shown = |step: &Step| {
            Ok(Shown {
                id: Line::default().word(&step.id.0)?,
                because: Line::default().word(&step.because)?,
                lines: self.lines(&step.action, part)?,
            })
        };
        let steps = steps.iter().map(shown).collect::<Result<_>>()?;
        Ok(Section { title, steps })
    }

    /// What a step does, in the script's words.
    fn lines(&self, action: &Action, part: Part) -> Result<Vec<Line>> {
        let line = match action {
            Action::MakeFolder { path } => Line::of("make_folder").path(path.as_path())?,
            Action::Write {
                role,
                path,
                content,
            } => {
                let write = match content {
                    Content::Derived { source, .. } => Line::of("write_like").path(source)?,
                    Content::Text { .. } => Line::of("write_plain"),
                };
                let wanted = self.wanted(*role, content)?;
                return Ok(vec![wanted, write.path(path.as_path())?]);
            }
            Action::Remove {
                role,
                path,
                content,
            } => {
                let remove = Line::of("remove").path(path.as_path())?;
                return Ok(vec![self.wanted(*role, content)?, remove]);
            }
            Action::RemoveFolder { path } => Line::of("remove_folder").path(path.as_path())?,
            Action::CloseFence { unit } => match (part, self.old_of(unit)) {
                (Part::Stage, Some(old)) => Line::of("close_new").unit(unit)?.unit(old)?,
                _ => Line::of("close_fence").unit(unit)?,
            },
            Action::OpenFence { unit } => match part {
                Part::Unstage => Line::of("open_made_fence").unit(unit)?,
                _ => Line::of("open_fence").unit(unit)?,
            },
            Action::Reload => Line::of("reload"),
            Action::Enable { units, links } => {
                let line = Line::of("enable").paths(links)?.word("--")?;
                line.units(units)?
            }
            Action::Disable { units, links } => {
                let line = Line::of("disable").paths(links)?.word("--")?;
                line.units(units)?
            }
            Action::SetLink { link, from, to } => {
                let line = Line::of("set_link").path(link.as_path())?;
                let none = PathBuf::new();
                line.path(from.as_ref().unwrap_or(&none))?
                    .path(to.as_ref().unwrap_or(&none))?
            }
            Action::CheckFenced { units } => Line::of("fenced").units(units)?,
            Action::Stop { unit } => match part {
                Part::Lane { starts: false } => Line::of("stays_down").unit(unit)?,
                _ => Line::of("stop").unit(unit)?,
            },
            Action::ProveStopped { unit } => Line::of("prove_stopped").unit(unit)?,
            Action::Record { files } => {
                Line::of("record").paths(files.iter().map(|f| &f.state_file))?
            }
            Action::CheckHeights { files } => {
                let floors = files.iter().map(|f| self.at_least(&f.state_file));
                return floors.collect();
            }
            // Asked for right before a switch, and so in no runbook: its reader makes sure that the chain has stopped.
            Action::CheckHalted { .. } | Action::LayFloor { .. } | Action::WithdrawFloor { .. } => {
                return Ok(Vec::new());
            }
            Action::Start { unit } => Line::of("start").unit(unit)?,
            Action::Watch { unit, files } => Line::of("watch")
                .unit(unit)?
                .paths(files.iter().map(|f| &f.state_file))?,
        };
        Ok(vec![line])
    }

    fn at_least(&self, file: &Path) -> Result<Line> {
        let floor = match self.around.floors.get(file) {
            Some(state) => format!("{} {} {}", state.height, state.round, state.step),
            None => "none".to_owned(),
        };
        Line::of("at_least").path(file)?.word(&floor)
    }

    /// The old unit of a new one.
    fn old_of(&self, new: &UnitName) -> Option<&UnitName> {
        let mut moves = self.plan.moves.iter();
        moves.find(|m| m.new == *new).map(|m| &m.old)
    }

    /// What is to be written, or is what may be taken away.
    fn wanted(&self, role: Role, content: &Content) -> Result<Line> {
        match content {
            Content::Text { text } => Line::of("text").document(text),
            Content::Derived {
                source,
                result,
                edits,
                ..
            } => {
                // A checksum of a text with a secret in it would be a way to try passwords.
                let sum = if self.has_secrets(role, source) {
                    "unknown".to_owned()
                } else {
                    result.to_string()
                };
                let mut line = Line::of("derive").path(source)?.word(&sum)?;
                for edit in edits.iter().map(|c| &c.edit) {
                    let at = edit.span.start.to_string();
                    line = line.row(&[&at, &edit.raw_from, &edit.raw_to])?;
                }
                Ok(line)
            }
        }
    }

    /// Whether something was cut out of a source, or that isn't known.
    fn has_secrets(&self, role: Role, source: &Path) -> bool {
        let mark = match role {
            Role::Config => tmkms_core::config::PLACEHOLDER,
            Role::Unit | Role::DropIn | Role::Fence => super::unit::PLACEHOLDER,
        };
        let mut inputs = self.plan.inputs.iter();
        inputs
            .find(|input| input.path == source)
            .is_none_or(|input| input.text.contains(mark))
    }
}
