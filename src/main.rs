//! The program: turns a run's outcome into the exit code. The only exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    ExitCode::from(kmsctl::cli::run(&words) as u8)
}
