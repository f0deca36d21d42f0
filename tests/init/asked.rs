//! At a terminal `init` asks for what the command line leaves out, again where an answer is none, and writes nothing before
//! the last question.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::support::{Host, secrets};
use super::{HEIGHT, host};

/// Runs `init` with somebody who waits for each question and types its answer; what was shown, and the exit code.
fn at_a_terminal(host: &Host, answers: &[(&str, &str)]) -> (String, i32) {
    let mut ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)
        .map(File::from)
        .unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let theirs: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut command = host.command(&["init", "--user", "root"]);
    command
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs.try_clone().unwrap())
        .env("TERM", "xterm");
    let mut child = command.spawn().unwrap();
    drop((command, theirs));
    let (mut shown, mut since) = (String::new(), 0);
    let mut answers = answers.iter();
    let mut next = answers.next();
    let mut bytes = [0; 4096];
    // Linux says the end of a terminal as an error.
    while let Ok(n @ 1..) = ours.read(&mut bytes) {
        shown += &String::from_utf8_lossy(&bytes[..n]);
        if let Some((question, answer)) = next
            && shown[since..].contains(question)
        {
            since = shown.len();
            ours.write_all(answer.as_bytes()).unwrap();
            next = answers.next();
        }
    }
    let code = child.wait().unwrap().code().unwrap();
    assert!(next.is_none(), "{next:?} wasn't asked: {shown}");
    let secrets = secrets::of(host.root());
    secrets::assert_none(&secrets, "the terminal", shown.as_bytes());
    (shown, code)
}

const ANSWERS: [(&str, &str); 11] = [
    ("Chain id", "haqq_11235-1\r"),
    ("Prefix of the chain", "haqq\r"),
    // Without a port, and asked again.
    ("validator's address", "tcp://10.1.1.1\r"),
    ("has no port", "tcp://10.1.1.1:26658\r"),
    ("folder", "/root/kms\r"),
    ("consensus key", "\r"),
    ("Its path", "/root/priv_validator_key.json\r"),
    // The second one: a height.
    ("How far the key", "\u{1b}[B\r"),
    // None that can be, and asked again.
    ("The last height", "0\r"),
    ("0 is no height from 1", "9223372036854775807\r"),
    ("9223372036854775807 is no height", "3399916\r"),
];

#[test]
fn what_is_left_out_is_asked() {
    let host = host("haqq_11235-1");
    let answers = [&ANSWERS[..], &[("[y/N]", "y")]].concat();
    let (shown, code) = at_a_terminal(&host, &answers);
    assert_eq!(code, 0, "{shown}");
    let state = host.read("root/kms/state/haqq_11235-1-consensus.json");
    assert!(
        state.starts_with(&format!("{{\"height\":\"{HEIGHT}\",")),
        "{state}"
    );
}

#[test]
fn no_is_no() {
    let host = host("haqq_11235-1");
    let before = host.tree();
    let answers = [&ANSWERS[..], &[("[y/N]", "n")]].concat();
    let (shown, code) = at_a_terminal(&host, &answers);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("nothing was changed"), "{shown}");
    assert_eq!(host.tree(), before);
}
