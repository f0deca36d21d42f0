//! Journals on the host's memory: opening, appending, reading all of them back.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::{Ending, FORMAT_VERSION, Journal, OperationId, Record, Verb, line};
use crate::host::Host;
use crate::host::memory::{Log, Memory};
use crate::plan::Plan;
use crate::plan::program::Program;

const FOLDER: &str = "operations";

fn folder(operation: OperationId) -> String {
    format!("{:04}", operation.0)
}

fn name(operation: OperationId, piece: &str) -> String {
    format!("{FOLDER}/{}/{piece}", folder(operation))
}

/// The operation that a folder is named after; another spelling of a number is no name.
fn operation(name: &str) -> Option<OperationId> {
    name.parse::<OperationId>()
        .ok()
        .filter(|o| folder(*o) == name)
}

/// Every operation of a host, oldest first.
#[derive(Debug, Default)]
pub struct History(pub Vec<Journal>);

impl History {
    /// Reads all journals.
    ///
    /// # Errors
    /// A journal that can't be trusted; the message names its file.
    pub fn read(host: &Host) -> Result<History> {
        History::of(&host.memory)
    }

    /// The same, of a host that isn't open.
    ///
    /// # Errors
    /// As [`History::read`].
    pub fn of(memory: &Memory) -> Result<History> {
        let mut journals = Vec::new();
        for entry in memory.list(FOLDER)? {
            let Some(operation) = operation(&entry) else {
                continue;
            };
            let piece = name(operation, "journal");
            let Some(bytes) = memory.read(&piece)? else {
                continue;
            };
            let path = memory.path(&piece);
            // Nothing was done before the first record was durable.
            if let Some(journal) =
                Journal::parse(&bytes).with_context(|| path.display().to_string())?
            {
                ensure!(
                    journal.operation == operation,
                    "{}: it is operation {}'s journal, in another's place",
                    path.display(),
                    journal.operation
                );
                journals.push(journal);
            }
        }
        journals.sort_by_key(|j| j.operation);
        let back: Vec<OperationId> = journals
            .iter()
            .filter(|j| j.verb == Verb::Rollback)
            .map(|j| j.operation)
            .collect();
        for journal in journals.iter_mut().filter(|j| j.verb == Verb::Apply) {
            journal.after_rollback = journal.supersedes.is_some_and(|o| back.contains(&o));
        }
        Ok(History(journals))
    }

    pub fn newest(&self) -> Option<&Journal> {
        self.0.last()
    }

    /// The newest operation, if it neither ended nor was superseded.
    pub fn open(&self) -> Option<&Journal> {
        self.newest().filter(|j| j.ending() == Ending::Open)
    }

    /// The operation that a plain `rollback` undoes: the newest that switched anything, unless it was undone.
    pub fn last_switch(&self) -> Option<&Journal> {
        self.switches().next()
    }

    /// The operations that switched anything and weren't undone, newest first. A way back that wasn't gone to its end
    /// undid nothing.
    pub fn switches(&self) -> impl Iterator<Item = &Journal> {
        let mut undone = BTreeSet::new();
        self.0.iter().rev().filter(move |journal| {
            let done = matches!(journal.ending(), Ending::Done { .. });
            // What an undone operation went on from is undone with it.
            if undone.contains(&journal.operation) || (journal.verb == Verb::Rollback && done) {
                undone.extend(journal.supersedes);
                return false;
            }
            journal.verb == Verb::Apply && journal.switched()
        })
    }

    /// An operation and those that it took up, newest first: a way back takes up what it undoes, and who goes on after a
    /// death what was left.
    pub fn taken_up<'a>(&'a self, newest: &'a Journal) -> Vec<&'a Journal> {
        let switches = |j: &&Journal| matches!(j.verb, Verb::Apply | Verb::Rollback);
        let before = |j: &&'a Journal| j.supersedes.and_then(|id| self.get(id)).filter(switches);
        std::iter::successors(Some(newest), before).collect()
    }

    pub fn get(&self, operation: OperationId) -> Option<&Journal> {
        self.0.iter().find(|j| j.operation == operation)
    }

    fn next_id(&self, host: &Host) -> Result<OperationId> {
        // Folders without a readable first record count too: their numbers were given.
        let folders = host.memory.list(FOLDER)?;
        let given = folders
            .iter()
            .filter_map(|f| operation(f))
            .map(|o| o.0)
            .max()
            .unwrap_or(0);
        Ok(OperationId(given + 1))
    }
}

/// The journal of the operation that runs now.
pub struct Writer {
    log: Box<dyn Log>,
    opened_at: jiff::Timestamp,
    written: u64,
    durable: u64,
    pending: Vec<u8>,
}

/// What an operation starts from.
pub struct Opening<'a> {
    pub verb: Verb,
    pub supersedes: Option<OperationId>,
    pub plan: &'a Plan,
    pub program: &'a Program,
}

impl Writer {
    /// Opens a new operation: its first record is durable, and room for the rest is allocated (rule S8).
    pub fn open(
        host: &Host,
        history: &History,
        opening: &Opening<'_>,
    ) -> Result<(Writer, OperationId)> {
        let operation = history.next_id(host)?;
        let piece = name(operation, "journal");
        let path = host.memory.path(&piece);
        let log = host.memory.log(&piece, 0)?;
        let opened_at = host.clock.now();
        let mut writer = Writer {
            log,
            opened_at,
            written: 0,
            durable: 0,
            pending: Vec::new(),
        };
        writer.append(&Record::Opened {
            format_version: FORMAT_VERSION,
            operation,
            verb: opening.verb,
            supersedes: opening.supersedes,
            kmsctl: env!("CARGO_PKG_VERSION").to_owned(),
            by: host.processes.operator(),
            at: opened_at,
            plan: Box::new(opening.plan.clone()),
            program: Box::new(opening.program.clone()),
        })?;
        writer
            .reserve(opening.program)
            .with_context(|| path.display().to_string())?;
        writer.sync()?;
        Ok((writer, operation))
    }

    /// When the operation was opened, however often it was gone on with.
    pub fn opened_at(&self) -> jiff::Timestamp {
        self.opened_at
    }

    /// Goes on with an operation that a death left open; what was torn is cut off.
    pub fn resume(host: &Host, journal: &Journal, program: &Program) -> Result<Writer> {
        let mut writer = Writer::at_end_of(host, journal)?;
        let path = host.memory.path(&name(journal.operation, "journal"));
        writer.append(&Record::Resumed {
            by: host.processes.operator(),
            at: host.clock.now(),
            program: Box::new(program.clone()),
        })?;
        writer
            .reserve(program)
            .with_context(|| path.display().to_string())?;
        writer.sync()?;
        Ok(writer)
    }

    fn at_end_of(host: &Host, journal: &Journal) -> Result<Writer> {
        let log = host
            .memory
            .log(&name(journal.operation, "journal"), journal.length)?;
        let written = 1 + journal.records.len() as u64;
        Ok(Writer {
            log,
            opened_at: journal.opened_at,
            written,
            durable: written,
            pending: Vec::new(),
        })
    }

    /// Allocates room for a whole program's records and what waits to be written (rule S8).
    fn reserve(&mut self, program: &Program) -> Result<()> {
        let room = self.pending.len() as u64 + 4096 + 1024 * program.steps().count() as u64;
        self.log
            .reserve(room)
            .context("no room for the operation's journal")
    }

    /// Adds a record; durable only after [`Writer::sync`].
    pub fn append(&mut self, record: &Record) -> Result<()> {
        self.pending
            .extend_from_slice(line(self.written, self.durable, record)?.as_bytes());
        self.written += 1;
        Ok(())
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// A failed write or fsync. It must not be tried again: the kernel may have dropped what it couldn't write.
    pub fn sync(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            self.log
                .append(&self.pending)
                .context("writing the journal")?;
            self.pending.clear();
        }
        self.log.sync().context("making the journal durable")?;
        self.durable = self.written;
        Ok(())
    }

    /// Closes an operation where it stands.
    pub fn abandon(host: &Host, journal: &Journal) -> Result<()> {
        let mut writer = Writer::at_end_of(host, journal)?;
        let by = host.processes.operator();
        writer.append(&Record::Abandoned {
            by,
            at: host.clock.now(),
        })?;
        writer.sync()
    }

    pub fn close(&mut self, host: &Host) -> Result<()> {
        self.append(&Record::Closed {
            at: host.clock.now(),
        })?;
        self.sync()
    }
}

/// Keeps the way back beside the journal, for a reader.
pub fn keep_rollback(host: &Host, operation: OperationId, program: &Program) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(program)?;
    host.memory
        .replace(&name(operation, "rollback.json"), &bytes)
}
