//! kmsctl at a terminal, with somebody who takes his time for an answer.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{Host, Said};

/// A question, by words of it; what happens while it stands there; and what is typed then.
pub struct Answer<'a> {
    pub to: &'a str,
    pub meanwhile: &'a dyn Fn(&Host),
    pub typed: &'a str,
}

/// Runs kmsctl at a terminal and answers its questions, all of which must come.
pub fn asked(host: &Host, words: &[&str], answers: &[Answer<'_>]) -> Said {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let mut ours = File::from(ours);
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let theirs = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let stdio = || theirs.try_clone().unwrap();
    let mut command = host.command(words);
    command.stdin(stdio()).stdout(stdio()).stderr(stdio());
    let mut child = command.env("TERM", "xterm").spawn().unwrap();
    // Only the child may hold the other end: reading ends when it does.
    drop((command, theirs));
    let (mut out, mut since) = (String::new(), 0);
    let mut answers = answers.iter().peekable();
    let mut bytes = [0; 4096];
    // Linux says the end of a terminal as an error.
    while let Ok(n @ 1..) = ours.read(&mut bytes) {
        out += &String::from_utf8_lossy(&bytes[..n]);
        if let Some(answer) = answers.next_if(|a| out[since..].contains(a.to)) {
            since = out.len();
            (answer.meanwhile)(host);
            ours.write_all(answer.typed.as_bytes()).unwrap();
        }
    }
    let code = child.wait().unwrap().code().unwrap_or(-1);
    let unasked = answers.next().map(|a| a.to);
    assert_eq!(unasked, None, "{out}");
    Said {
        code,
        out,
        err: String::new(),
    }
}
