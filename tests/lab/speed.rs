//! The benchmark: how long the dark time of each signer is, how long a night takes, how large a fleet may be.
//!
//! Started by `tests/lab/bench`, which builds the released program. It measures and compares on one machine in one run,
//! and judges nothing: what a figure should be is written in docs/performance.md. But a figure that can't be taken, such
//! as that of a signer which didn't come up, ends it with an error.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its figures are what it is for"
)]

mod fleet;
#[expect(dead_code, reason = "the lab's tests use the rest")]
mod machine;
#[expect(dead_code, reason = "the lab's tests use the rest")]
mod parts;

#[path = "speed/dark.rs"]
mod dark;
#[path = "speed/figures.rs"]
mod figures;
#[path = "speed/planning.rs"]
mod planning;
#[path = "speed/site.rs"]
mod site;
#[path = "speed/switches.rs"]
mod switches;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;

/// What to measure, and with what.
struct Asked {
    program: PathBuf,
    json: PathBuf,
    switch: bool,
    plan: bool,
    /// The sizes of the fleets that switch.
    signers: Vec<u8>,
}

impl Asked {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Asked> {
        let (mut program, mut json) = (None, None);
        let (mut switch, mut plan) = (false, false);
        let mut signers = Vec::new();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--program" => program = words.next(),
                "--json" => json = words.next(),
                "--signers" => {
                    let number = words.next().and_then(|n| n.parse().ok());
                    signers.push(number.context("--signers wants a number up to 255")?);
                }
                "switch" => switch = true,
                "plan" => plan = true,
                other => bail!("unknown word {other}"),
            }
        }
        if signers.is_empty() {
            signers.extend(switches::SIZES);
        }
        let start = "start it with tests/lab/bench";
        Ok(Asked {
            program: fs::canonicalize(program.context(start)?)
                .context("looking for the released kmsctl")?,
            json: json.context(start)?.into(),
            switch: switch || !plan,
            plan: plan || !switch,
            signers,
        })
    }
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let asked = Asked::read(std::env::args().skip(1))?;
    let site = site::Site::look(&asked.program)?;
    println!("{site}");
    let mut all = json!({ "format_version": 1, "site": site });
    if asked.plan {
        let plan = planning::measure(&asked.program)?;
        println!("{plan}");
        all["plan"] = serde_json::to_value(&plan)?;
    }
    if asked.switch {
        let switch = switches::measure(&asked.program, &asked.signers)?;
        println!("{switch}");
        all["switch"] = serde_json::to_value(&switch)?;
    }
    let after = site::load()?;
    println!("Load when it ended: {after}.");
    all["load_after"] = json!(after);
    fs::write(&asked.json, format!("{all:#}\n"))
        .with_context(|| format!("writing {}", asked.json.display()))?;
    println!("Figures: {}", asked.json.display());
    Ok(())
}
