//! Twenty thousand made-up unit texts: none may hang kmsctl, break its edits, or be read as something that isn't there.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kmsctl::render::unit::{Moved, Names, edits, splice, without_secrets};
use kmsctl::unit::effective::Effective;
use kmsctl::unit::variables::Variables;
use kmsctl::unit::{UnitName, UnitText, words};

const TEXTS: usize = 20_000;
/// What a single text may take. They take a fraction of a millisecond; one that hangs takes for ever.
const LIMIT: Duration = Duration::from_secs(5);
const PIECES: [&str; 50] = [
    "[Service]\n",
    "[Service]\n",
    "[Unit]\n",
    "[Install]",
    "ExecStart=",
    "Environment=",
    "EnvironmentFile=-",
    "SetCredential=",
    "BindPaths=",
    "%n",
    "%p",
    "%%",
    "%",
    "%i",
    "%H",
    "%y",
    "$X",
    "${X}",
    "${",
    "\"",
    "'",
    "\\",
    "\\\n",
    "\\\r\n",
    "\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    "\t",
    "#",
    "; ",
    "=",
    "/b/tmkms",
    "start",
    "-c",
    "/k/a.toml",
    "é",
    "\u{feff}",
    "\u{a0}",
    "\0",
    "AssertPathExists=!",
    "WorkingDirectory=~",
    "\\x2d",
    "[",
    "]",
    "key = v",
    ":",
    "@",
    "+",
];

/// xorshift: the same texts on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn text(&mut self) -> String {
        let pieces = 1 + self.below(14);
        (0..pieces)
            .map(|_| PIECES[self.below(PIECES.len())])
            .collect()
    }
}

#[test]
fn no_text_hangs_or_breaks_an_edit() {
    let mut random = Random(88_172_645_463_325_252);
    let mut texts: Vec<String> = [" ", "\t", "\n \n\t", "# nothing here\n\t", "[Service]\n "]
        .map(str::to_owned)
        .to_vec();
    texts.extend((0..TEXTS).map(|_| random.text()));
    let (done, finished) = mpsc::channel();
    let worked_on = texts.clone();
    let worker = thread::spawn(move || {
        for text in &worked_on {
            look_at(text);
            done.send(()).unwrap();
        }
    });
    for text in &texts {
        match finished.recv_timeout(LIMIT) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{text:?} hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

fn look_at(text: &str) {
    let old: UnitName = "k-a@1.service".parse().unwrap();
    let new: UnitName = "k-a.v3@1.service".parse().unwrap();
    let moved = ["/k/a", "/k/a.toml", "/b/tmkms"].map(|from| (from, format!("{from}.v3")));
    let moved = moved
        .each_ref()
        .map(|(from, to)| Moved { from, to, why: "" });
    let names = Names {
        old: &old,
        new: &new,
        suffix: "v3",
    };
    // Any text may be the value of something.
    let _ = words::split(text);
    let _ = words::expand(text, &old);
    let mut variables = Variables::default();
    let _ = variables.read(text);
    variables.substitute(&[text.to_owned(), text.to_owned()]);

    let Ok(parsed) = UnitText::parse(text) else {
        return;
    };
    let mut end = 0;
    for setting in &parsed.settings {
        assert!(setting.span.start >= end, "{text:?}");
        end = setting.span.end;
        let entry = &text[setting.span.clone()];
        assert!(entry.starts_with(&setting.key), "{text:?}");
        assert_eq!(
            kmsctl::unit::line_of(text, setting.span.start),
            setting.line
        );
    }
    let _ = Effective::of(&old, &parsed);
    let shown = without_secrets(text).unwrap();
    assert_eq!(
        UnitText::parse(&shown).unwrap().settings.len(),
        parsed.settings.len(),
        "{text:?}"
    );
    let Ok(changes) = edits(text, &moved, names) else {
        return;
    };
    let changes: Vec<_> = changes.into_iter().map(|c| c.edit).collect();
    let made = splice(text, &changes).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    assert_eq!(
        UnitText::parse(&made).unwrap().settings.len(),
        parsed.settings.len(),
        "{text:?}"
    );
}
