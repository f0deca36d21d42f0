//! kmsctl in the middle of something that takes long, and what happens then: a signal, or another hand.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::{Host, Said};

/// Runs kmsctl until it says something on standard error, sends it a signal, and waits for its end.
pub fn signalled(host: &Host, words: &[&str], says: &str, signal: Signal) -> Said {
    until(host, words, says, |_, pid| {
        kill_process(pid, signal).unwrap();
    })
}

/// Runs kmsctl until it says something on standard error, does something else, and waits for its end.
pub fn meanwhile(host: &Host, words: &[&str], says: &str, act: impl FnOnce(&Host)) -> Said {
    until(host, words, says, |host, _| act(host))
}

fn until(host: &Host, words: &[&str], says: &str, act: impl FnOnce(&Host, Pid)) -> Said {
    let mut command = host.command(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut err = String::new();
    while !err.contains(says) {
        let read = stderr.read_line(&mut err).unwrap();
        assert!(read > 0, "{says:?} isn't said in:\n{err}");
    }
    act(host, Pid::from_child(&child));
    stderr.read_to_string(&mut err).unwrap();
    let mut out = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut out).unwrap();
    let code = child.wait().unwrap().code().unwrap_or(-1);
    Said { code, out, err }
}
