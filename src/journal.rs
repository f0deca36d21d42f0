//! The journal: what an operation meant to do, did and saw, record by record, durable before every effect.
//!
//! A record is one line: its number, how many records were durable when it was written, a checksum, and JSON. After a
//! crash only records past the last completed fsync may be missing or torn; anything else that doesn't read is
//! corruption, and stops.

pub mod store;

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tmkms_core::state::SignState;

use crate::plan::Plan;
use crate::plan::program::{Action, Program, StepId};

/// The format of journals that this kmsctl writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Numbers the operations of a host, from 1.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct OperationId(pub u32);

impl std::fmt::Display for OperationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::str::FromStr for OperationId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(OperationId)
    }
}

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Stage,
    Unstage,
    Apply,
    Rollback,
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verb::Stage => "stage",
            Verb::Unstage => "unstage",
            Verb::Apply => "apply",
            Verb::Rollback => "rollback",
        })
    }
}

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// Always the first; no document shows it among the others.
    #[schemars(skip)]
    Opened {
        format_version: u32,
        operation: OperationId,
        verb: Verb,
        /// The operation that this one undoes or goes on with; it is closed by this record.
        supersedes: Option<OperationId>,
        kmsctl: String,
        by: String,
        at: jiff::Timestamp,
        plan: Box<Plan>,
        program: Box<Program>,
    },
    /// The next run of kmsctl went on after a death.
    Resumed {
        by: String,
        at: jiff::Timestamp,
        /// What it goes on with: steps of the program before, and those that what was found made necessary.
        program: Box<Program>,
    },
    Intent {
        step: StepId,
    },
    Done {
        step: StepId,
        /// It was so already; nothing was done.
        already: bool,
    },
    Failed {
        step: StepId,
        error: String,
    },
    /// A state file as it was seen; a stopped signer's with its bytes, whole (rule S5).
    State {
        step: StepId,
        chain: String,
        state_file: PathBuf,
        state: SignState,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        bytes: Option<String>,
        at: jiff::Timestamp,
    },
    /// Given up by the operator where it stood; nothing was done or undone.
    Abandoned {
        by: String,
        at: jiff::Timestamp,
    },
    /// Done; nothing of it is left to do.
    Closed {
        at: jiff::Timestamp,
    },
}

/// How an operation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Neither done nor given up.
    Open,
    Done {
        at: jiff::Timestamp,
    },
    Abandoned {
        by: String,
        at: jiff::Timestamp,
    },
}

/// A journal, read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    pub operation: OperationId,
    pub verb: Verb,
    pub supersedes: Option<OperationId>,
    /// It goes forward again from a way back that was interrupted: signers may be anywhere from its first record on.
    pub after_rollback: bool,
    pub by: String,
    pub opened_at: jiff::Timestamp,
    pub plan: Plan,
    /// Every step that it has or had.
    pub program: Program,
    pub records: Vec<Record>,
    /// How many bytes of the file are whole records.
    pub length: u64,
}

impl Journal {
    /// Whether anything but staging began: enablement or a signer. From then on the way back is a rollback, and the
    /// new chain's state files count.
    pub fn switched(&self) -> bool {
        let lanes = self.program.lanes.iter().flat_map(|l| &l.steps);
        let lanes: BTreeSet<&StepId> = lanes.map(|s| &s.id).collect();
        self.after_rollback
            || self.intended(|a| {
                matches!(
                    a,
                    Action::Enable { .. } | Action::Disable { .. } | Action::SetLink { .. }
                )
            })
            || self
                .records
                .iter()
                .any(|r| matches!(r, Record::Intent { step } if lanes.contains(step)))
    }

    /// Whether an intent of such an action is journalled.
    pub fn intended(&self, wanted: impl Fn(&Action) -> bool) -> bool {
        let steps = self.program.steps().filter(|s| wanted(&s.action));
        let steps: BTreeSet<&StepId> = steps.map(|s| &s.id).collect();
        self.records
            .iter()
            .any(|r| matches!(r, Record::Intent { step } if steps.contains(step)))
    }

    /// How it stands.
    pub fn ending(&self) -> Ending {
        let last = self.records.iter().rev().find_map(|r| match r {
            Record::Closed { at } => Some(Ending::Done { at: *at }),
            Record::Abandoned { by, at } => Some(Ending::Abandoned {
                by: by.clone(),
                at: *at,
            }),
            _ => None,
        });
        last.unwrap_or(Ending::Open)
    }

    /// Reads a journal's bytes.
    ///
    /// # Errors
    /// A newer format (both versions named), or records that are missing or torn though they were durable.
    pub fn parse(bytes: &[u8]) -> Result<Option<Journal>> {
        let (records, length) = read_lines(bytes)?;
        let mut records = records.into_iter();
        let Some(Record::Opened {
            operation,
            verb,
            supersedes,
            by,
            at,
            plan,
            program,
            ..
        }) = records.next()
        else {
            return Ok(None);
        };
        let records: Vec<Record> = records.collect();
        let mut whole = *program;
        for record in &records {
            if let Record::Resumed { program, .. } = record {
                whole.amend(program);
            }
        }
        Ok(Some(Journal {
            operation,
            verb,
            supersedes,
            after_rollback: false,
            by,
            opened_at: at,
            plan: *plan,
            program: whole,
            records,
            length,
        }))
    }
}

/// A record as a line: `number durable checksum json`.
fn line(number: u64, durable: u64, record: &Record) -> Result<String> {
    let json = serde_json::to_string(record).context("writing a journal record")?;
    let body = format!("{number} {durable} {json}");
    Ok(format!("{} {body}\n", checksum(body.as_bytes())))
}

fn checksum(body: &[u8]) -> String {
    Sha256::digest(body)
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// A line that is whole: its number, how many records were durable before it, and its JSON.
fn whole(line: &str) -> Option<(u64, u64, &str)> {
    let (sum, body) = line.split_once(' ')?;
    if sum != checksum(body.as_bytes()) {
        return None;
    }
    let (number, rest) = body.split_once(' ')?;
    let (durable, json) = rest.split_once(' ')?;
    Some((number.parse().ok()?, durable.parse().ok()?, json))
}

fn read_lines(bytes: &[u8]) -> Result<(Vec<Record>, u64)> {
    let mut records = Vec::new();
    let mut length = 0;
    let mut torn: Option<usize> = None;
    for (n, raw) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let text = raw
            .strip_suffix(b"\n")
            .and_then(|l| std::str::from_utf8(l).ok());
        let Some((number, durable, json)) = text.and_then(whole) else {
            torn.get_or_insert(n);
            continue;
        };
        if let Some(torn) = torn {
            // Written after the torn one. Legal only while neither was known to be durable.
            if durable > torn as u64 {
                bail!(
                    "line {}: the record is damaged though it was durable; don't trust this journal, keep it and \
                     compare the signers with `kmsctl status` by hand",
                    torn + 1
                );
            }
            continue;
        }
        ensure!(
            number == n as u64,
            "line {}: record {number} stands where {n} belongs",
            n + 1
        );
        if n == 0 {
            check_version(json)?;
        }
        let record = serde_json::from_str(json)
            .with_context(|| format!("line {}: a record that this kmsctl can't read", n + 1))?;
        records.push(record);
        length += raw.len() as u64;
    }
    Ok((records, length))
}

fn check_version(json: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version: Version = serde_json::from_str(json).context("line 1: no format version")?;
    ensure!(
        version.format_version == FORMAT_VERSION,
        "the journal has format {} and this kmsctl ({}) reads format {FORMAT_VERSION}: use the kmsctl that wrote it",
        version.format_version,
        env!("CARGO_PKG_VERSION")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Observed, Request};

    fn opened() -> Record {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let request = Request {
            new_chain: "commercio-3".parse().unwrap(),
            from_chain: None,
            signers: Default::default(),
            suffix: None,
            protocol: None,
            binary: None,
            config_dir: None,
            max_spread: 1,
            accept: Default::default(),
        };
        let plan = Plan {
            format_version: 1,
            id: String::new(),
            request,
            suffix: "v3".into(),
            from: None,
            moves: Vec::new(),
            inputs: Vec::new(),
            binaries: Default::default(),
            observed: Observed {
                host: String::new(),
                at,
                heights: Vec::new(),
                keys: Vec::new(),
            },
            findings: Vec::new(),
        };
        Record::Opened {
            format_version: FORMAT_VERSION,
            operation: OperationId(1),
            verb: Verb::Apply,
            supersedes: None,
            kmsctl: String::new(),
            by: String::new(),
            at,
            plan: Box::new(plan),
            program: Box::default(),
        }
    }

    /// A journal whose n-th line was written when `durable[n]` records were known to be durable.
    fn lines(durable: &[u64]) -> Vec<String> {
        let record = |n: u64| match n {
            0 => opened(),
            n => Record::Intent {
                step: StepId(format!("step-{n}")),
            },
        };
        (0..)
            .zip(durable)
            .map(|(n, d)| line(n, *d, &record(n)).unwrap())
            .collect()
    }

    fn read(lines: &[String]) -> Result<Option<usize>> {
        Ok(Journal::parse(lines.concat().as_bytes())?.map(|j| j.records.len()))
    }

    #[test]
    fn whole_records_are_read_back() {
        assert_eq!(read(&lines(&[0, 1, 2])).unwrap(), Some(2));
        assert_eq!(read(&[]).unwrap(), None);
    }

    #[test]
    fn a_torn_end_is_as_if_it_was_never_written() {
        let mut torn = lines(&[0, 1, 2]);
        let full: u64 = torn[..2].iter().map(|l| l.len() as u64).sum();
        torn[2].truncate(20);
        let journal = Journal::parse(torn.concat().as_bytes()).unwrap().unwrap();
        assert_eq!((journal.records.len(), journal.length), (1, full));
    }

    #[test]
    fn a_hole_before_records_that_were_not_durable_either_is_a_torn_end() {
        let mut torn = lines(&[0, 1, 1]);
        torn[1] = torn[1].replace("step", "stop");
        assert_eq!(read(&torn).unwrap(), Some(0));
    }

    #[test]
    fn damage_before_a_durable_record_stops() {
        let mut damaged = lines(&[0, 1, 2]);
        damaged[1] = damaged[1].replace("step", "stop");
        assert!(read(&damaged).unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn a_newer_format_is_refused_and_both_versions_named() {
        let record = serde_json::to_string(&opened()).unwrap();
        let newer = record.replacen("\"format_version\":1", "\"format_version\":2", 1);
        let body = format!("0 0 {newer}");
        let error = read(&[format!("{} {body}\n", checksum(body.as_bytes()))])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("format 2") && error.contains("format 1"),
            "{error}"
        );
    }
}
