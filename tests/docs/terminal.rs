//! A terminal with somebody at it who answers yes, and types the name that is asked for. What is read is its screen: progress that was drawn over is gone.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

/// High and wide enough that nothing scrolls away or is broken.
const SIZE: Winsize = Winsize {
    ws_row: 250,
    ws_col: 500,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// What a question ends with.
const QUESTION: &str = "[y/N]";
/// How a name is asked for: between these two, and once more.
const NAME: (&str, &str) = ("Type ", " to go on");

/// What stands on the screen when a command has ended, and its exit code.
pub fn shows(mut command: Command) -> (String, i32) {
    let (mut ours, theirs) = pair();
    let stdio = || theirs.try_clone().unwrap();
    command.stdin(stdio()).stdout(stdio()).stderr(stdio());
    for unset in ["NO_COLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(unset);
    }
    let mut child = command.env("TERM", "xterm").spawn().unwrap();
    // Only the child may hold the other end: reading ends when it does.
    drop((command, theirs));
    let mut screen = vt100::Parser::new(SIZE.ws_row, SIZE.ws_col, 0);
    let mut unanswered = String::new();
    let mut bytes = [0; 4096];
    // Linux says the end of a terminal as an error.
    while let Ok(n @ 1..) = ours.read(&mut bytes) {
        screen.process(&bytes[..n]);
        unanswered += &String::from_utf8_lossy(&bytes[..n]);
        if let Some((_, rest)) = unanswered.split_once(QUESTION) {
            unanswered = rest.to_owned();
            ours.write_all(b"y").unwrap();
        } else if let Some((before, rest)) = unanswered.split_once(NAME.1) {
            // Other sentences end with these words, too.
            let asked = before.rsplit_once(NAME.0).map(|(_, name)| name);
            if let Some(name) = asked.filter(|name| !name.contains('\n')) {
                ours.write_all(format!("{name}\r").as_bytes()).unwrap();
            }
            unanswered = rest.to_owned();
        }
    }
    let code = child.wait().unwrap().code().unwrap();
    let rows = screen.screen().rows(0, SIZE.ws_col);
    let rows: String = rows.map(|row| format!("{}\n", row.trim_end())).collect();
    let shown = rows.trim_end();
    (
        if shown.is_empty() {
            String::new()
        } else {
            format!("{shown}\n")
        },
        code,
    )
}

fn pair() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let theirs = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    tcsetwinsize(&theirs, SIZE).unwrap();
    // An answer that comes before it is waited for isn't shown, and isn't held back until a line ends.
    let mut raw = tcgetattr(&theirs).unwrap();
    raw.make_raw();
    raw.output_modes |= rustix::termios::OutputModes::OPOST | rustix::termios::OutputModes::ONLCR;
    tcsetattr(&theirs, OptionalActions::Now, &raw).unwrap();
    (File::from(ours), theirs)
}
