//! The program: turns a run's outcome into the exit code. The only exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Whatever ends it, no memory with a key or a password in it is written to a disk. Where that can't be had, it goes on.
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).ok();
    let words: Vec<_> = std::env::args_os().collect();
    ExitCode::from(kmsctl::cli::run(&words) as u8)
}
