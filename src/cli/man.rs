//! `man`: the manual, one page for kmsctl and one for each verb, made from the command line that it describes. Never
//! touches a host.

mod page;
mod text;

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};

use super::Cli;
use crate::exit::{Exit, Outcome};
use crate::ui::Ui;

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write kmsctl.1 and one page for each verb to this folder, instead of printing kmsctl(1)
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub fn run(ui: Ui, args: &ManArgs) -> Outcome {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.folder else {
        ui.out(&page::main(&command)?.text)?;
        return Ok(Exit::Done);
    };
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let pages = page::all(&command)?;
    for page in &pages {
        let path = folder.join(&page.file_name);
        fs::write(&path, &page.text).with_context(|| format!("writing {}", path.display()))?;
    }
    ui.note(&format!(
        "Wrote {} pages to {}.",
        pages.len(),
        folder.display()
    ));
    Ok(Exit::Done)
}
