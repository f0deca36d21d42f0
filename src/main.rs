//! The program: parses the command line, runs the verb, turns its outcome into the exit code. The only exit.

use std::process::ExitCode;

use clap::Parser;
use kmsctl::cli::{self, Cli};

fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => cli::run(cli),
        Err(error) => cli::unread(std::env::args_os(), &error),
    };
    ExitCode::from(exit as u8)
}
