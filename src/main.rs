//! The program: turns a run's outcome into the exit code. The only exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kmsctl::cli::run(std::env::args_os().collect()) as u8)
}
