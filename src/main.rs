//! The program: parses the command line, runs the verb, turns its outcome into the exit code. The only exit.

use std::process::ExitCode;

use clap::Parser;
use kmsctl::cli::{self, Cli};

fn main() -> ExitCode {
    // clap ends with its own code 2 on a command line that isn't complete.
    ExitCode::from(cli::run(Cli::parse()) as u8)
}
