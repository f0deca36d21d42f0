//! What a page of the guide consists of.
//!
//! A block marked `console` is run: a line `# kmsctl …` or `$ kmsctl …` (or another of [`PROGRAMS`]) is typed, and the
//! lines below it are what the terminal shows, a line `…` standing for any number of lines, and a last line `[exit 3]`
//! for an exit code other than 0. Questions are answered with yes. Other blocks claim nothing: `text` is explained,
//! `sh` is for the reader's own machine. Comments that a reader doesn't see say what happens around:
//!
//! ```text
//! <!-- host: commercio -->                 a fresh copy of a fixture's host
//! <!-- after: prepare.md -->               the host as that page left it
//! <!-- copied: haqq_11235-1 at 3399915 -->  a stopped validator's key and state come to /root
//! <!-- meanwhile: rm /etc/x -->            something happens that the page's words tell of
//! <!-- power fails before: tmkms-02/prove-old -->   the next command is killed there
//! <!-- file: /etc/kmsctl/kmsctl.toml -->   the next block is that file
//! ```

/// The programs that are run where a page names them.
const PROGRAMS: [&str; 6] = ["kmsctl", "cat", "echo", "ls", "rm", "sed"];

pub enum Part {
    /// A line of the page.
    Text(String),
    Host(String),
    After(String),
    /// A validator's files are copied to /root: made up, of a chain and a height.
    Copied(String, u64),
    Meanwhile(String),
    PowerFails(String),
    /// A file of the host and its content, which the page shows.
    File(String, String),
    /// A typed line, and what the page says that it shows.
    Run {
        command: String,
        expected: String,
    },
}

fn typed(line: &str) -> bool {
    let words = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
    let program = words.and_then(|words| words.split(' ').next());
    program.is_some_and(|program| PROGRAMS.contains(&program))
}

/// A comment's meaning, if it has one.
fn comment(line: &str) -> Option<(&str, &str)> {
    let words = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    words.split_once(": ")
}

/// A page's parts, in order; all lines of the page are among them.
pub fn parts(page: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = page.lines().peekable();
    let mut file = None;
    while let Some(line) = lines.next() {
        parts.push(Part::Text(line.to_owned()));
        if let Some((what, words)) = comment(line) {
            let words = words.to_owned();
            match what {
                "host" => parts.push(Part::Host(words)),
                "after" => parts.push(Part::After(words)),
                "copied" => {
                    let (chain, height) = words.split_once(" at ").expect("CHAIN at HEIGHT");
                    let height = height.parse().expect("a height");
                    parts.push(Part::Copied(chain.to_owned(), height));
                }
                "meanwhile" => parts.push(Part::Meanwhile(words)),
                "power fails before" => parts.push(Part::PowerFails(words)),
                "file" => file = Some(words),
                other => panic!("a comment says {other:?}, which means nothing"),
            }
        }
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let mut block = Vec::new();
        let end = loop {
            match lines.next() {
                Some("```") => break "```",
                Some(line) => block.push(line),
                None => panic!("a block isn't closed"),
            }
        };
        match language {
            "console" => parts.extend(runs(&block)),
            "text" | "sh" | "toml" | "ini" | "json" | "yaml" => {
                if let Some(path) = file.take() {
                    parts.push(Part::File(path, block.join("\n") + "\n"));
                }
                parts.extend(block.iter().map(|line| Part::Text((*line).to_owned())));
            }
            other => panic!("a block is marked {other:?}: see the head of tests/docs/page.rs"),
        }
        parts.push(Part::Text(end.to_owned()));
    }
    parts
}

fn runs(block: &[&str]) -> Vec<Part> {
    let mut runs: Vec<Part> = Vec::new();
    for line in block {
        if typed(line) {
            runs.push(Part::Run {
                command: (*line).to_owned(),
                expected: String::new(),
            });
        } else if let Some(Part::Run { expected, .. }) = runs.last_mut() {
            *expected += &format!("{line}\n");
        } else {
            panic!("a console block begins with {line:?}, which isn't typed");
        }
    }
    runs
}
