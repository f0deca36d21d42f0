//! The program: `--config PATH` runs the stand-in, `control status -a unix:PATH` asks it, `seal --config PATH --secrets
//! HEX` makes its first database. As with the real one, log lines go to stdout too, and a failed question exits with 128.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use stand_in_oasis_node::node;
use stand_in_oasis_node::settings::{Config, Settings};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "stand-in-oasis-node: {why}");
            ExitCode::from(if is(&words, "control") { 128 } else { 1 })
        }
    }
}

fn is(words: &[String], verb: &str) -> bool {
    words.iter().any(|word| word == verb)
}

fn after<'w>(words: &'w [String], flag: &str) -> Result<&'w str, String> {
    let at = words.iter().position(|word| word == flag);
    let word = at.and_then(|at| words.get(at + 1));
    word.map(String::as_str)
        .ok_or_else(|| format!("{flag} needs a value"))
}

fn run(words: &[String]) -> Result<(), String> {
    let settings = Settings::read()?;
    if is(words, "control") && is(words, "status") {
        let address = after(words, "-a")?;
        let socket = address
            .strip_prefix("unix:")
            .ok_or("only unix: addresses")?;
        let text = node::control_status(settings.shape(), Path::new(socket))?;
        let noise = "ts=now level=info module=stand-in msg=\"a log line on stdout, as the real one prints\"";
        return write!(std::io::stdout(), "{noise}\n{text}").map_err(|e| e.to_string());
    }
    let config = Config::read(&PathBuf::from(after(words, "--config")?))?;
    if is(words, "seal") {
        return node::seal(&settings, &config, after(words, "--secrets")?);
    }
    node::run(settings, config)
}
