//! `completions`: what a shell needs to complete kmsctl's words. Never touches a host.

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::exit::{Exit, Outcome};
use crate::ui::Ui;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to print them for
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub fn run(ui: Ui, args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kmsctl", &mut script);
    let script = String::from_utf8(script).context("the completions aren't UTF-8")?;
    ui.out(&script)?;
    Ok(Exit::Done)
}
