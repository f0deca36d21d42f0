//! kmsctl held right before a step's effect, and killed there. Needs the feature `failpoints`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::Host;

/// The steps that a verb does on a fresh host, in order, by asking for its events.
pub fn steps(host: &Host, words: &[&str]) -> Vec<String> {
    let said = host.kmsctl(words).exits(0);
    let events = said
        .out
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    events
        .filter(|e| e["event"] == "doing")
        .map(|e| e["step"].as_str().unwrap().to_owned())
        .collect()
}

/// A kmsctl that is held, and killed when this is dropped.
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs a verb until it is held right before a step's effect.
pub fn held(host: &Host, words: &[&str], step: &str) -> Held {
    let mut command = host.command(words);
    command
        .env("KMSCTL_HOLD_BEFORE", step)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut held = Held(command.spawn().unwrap());
    let out = BufReader::new(held.0.stdout.take().unwrap());
    let come = out.lines().map(Result::unwrap).any(|line| {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        event["event"] == "doing" && event["step"] == step
    });
    assert!(come, "{step} was never come to");
    held
}

/// Runs a verb and kills it right before a step's effect.
pub fn killed(host: &Host, words: &[&str], step: &str) {
    drop(held(host, words, step));
}
