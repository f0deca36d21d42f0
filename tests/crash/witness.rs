//! What an onlooker who sees everything knows, kmsctl's journals apart: every signature ever made, which process made
//! it on which file, what journals hold and what of them is durable. Every rule is judged here, at every instant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kmsctl::journal::{Journal, Record};
use kmsctl::paths::ManagedPath;
use kmsctl::plan::program::{Action, Program};
use kmsctl::unit::UnitName;
use tmkms_core::config::Config;
use tmkms_core::state::SignState;

use crate::disk::Disk;

const JOURNALS: &str = "/var/lib/kmsctl/operations";

/// A running tmkms: what it read at its start.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    pub unit: UnitName,
    pub config: PathBuf,
    pub chains: Vec<Chain>,
}

#[derive(Clone, Debug)]
pub struct Chain {
    pub id: String,
    pub key: String,
    pub file: PathBuf,
}

impl Process {
    /// What a unit's tmkms reads when it starts now.
    pub fn of(disk: &Disk, unit: &UnitName, pid: u32) -> Process {
        let text = |path: &Path| String::from_utf8(disk.read(path).unwrap().to_vec()).unwrap();
        let fragment = Path::new("/etc/systemd/system").join(unit.as_str());
        let fragment = text(&fragment);
        let config = fragment.split_once("start -c ").unwrap().1;
        let config = PathBuf::from(config.lines().next().unwrap().trim());
        let view = Config::parse(&text(&config)).unwrap();
        let chain = |c: &tmkms_core::config::Chain| Chain {
            id: c.id.value.clone(),
            key: format!("{:?}", view.keys_for(&c.id.value)),
            file: view.state_file_or_default(c).into(),
        };
        Process {
            pid,
            unit: unit.clone(),
            chains: view.chains.iter().map(chain).collect(),
            config,
        }
    }
}

/// A state file as tmkms left it.
#[derive(Clone, Debug)]
pub struct Left {
    pub bytes: Arc<[u8]>,
    pub state: SignState,
    key: String,
    by: UnitName,
}

/// A change of kmsctl's that must have been intended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    MakeFolder(PathBuf),
    Create(PathBuf),
    Remove(PathBuf),
    Link(PathBuf),
    Stop(UnitName),
    Start(UnitName),
    Enable,
    Disable,
    Reload,
}

/// A state file's bytes in a journal, and where in it the record ends.
#[derive(Clone, Debug)]
struct Kept {
    bytes: String,
    journal: PathBuf,
    end: usize,
}

/// The journal that the present kmsctl writes.
#[derive(Clone, Debug, Default)]
struct Writing {
    path: PathBuf,
    /// Its steps by what they change.
    steps: BTreeMap<Effect, Vec<String>>,
    /// Where the present process's intents end.
    intents: BTreeMap<String, usize>,
    length: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Witness {
    pub broken: Vec<String>,
    /// tmkms lost signatures of its own with the power: kmsctl may have to refuse its files.
    pub lost: bool,
    signed: BTreeSet<(String, String, SignState)>,
    paths: BTreeMap<(String, String), PathBuf>,
    pub files: BTreeMap<PathBuf, Left>,
    /// The highest that journals know of each file.
    floors: BTreeMap<PathBuf, SignState>,
    kept: BTreeMap<PathBuf, Kept>,
    writing: Writing,
}

impl Witness {
    pub fn broke(&mut self, rule: &str, how: String) {
        self.broken.push(format!("{rule}: {how}"));
    }

    /// A floor is taken away, on which nothing was ever signed.
    pub fn withdrawn(&mut self, path: &Path) {
        let state = self.files.remove(path).map(|left| left.state);
        self.floors.remove(path);
        if let Some(state) = state.filter(|s| s.round != i32::MAX.unsigned_abs()) {
            let how = format!("{} is taken away, signed up to {state}", path.display());
            self.broke("S3", how);
        }
    }

    /// A process is there that wasn't.
    pub fn starts(&mut self, disk: &Disk, process: &Process, others: &[Process]) {
        for chain in &process.chains {
            for other in others {
                for theirs in other.chains.iter().filter(|c| c.key == chain.key) {
                    let both = format!("{} starts while {} runs", process.unit, other.unit);
                    if theirs.id == chain.id {
                        self.broke("S1", format!("{both}, with one key on {}", chain.id));
                    }
                    self.broke("S4", format!("{both}, with one key"));
                }
            }
            self.one_path(chain);
            let Ok(bytes) = disk.read(&chain.file) else {
                self.broke("model", format!("{} is missing", chain.file.display()));
                continue;
            };
            let state = SignState::parse(&bytes).unwrap();
            if let Some(floor) = self.floors.get(&chain.file).filter(|f| state < **f) {
                let file = chain.file.display();
                let how = format!(
                    "{} starts on {file} at {state}, known at {floor}",
                    process.unit
                );
                self.broke("S6", how);
            }
            self.evidence(disk, process, chain);
            let by = match self.files.get(&chain.file) {
                Some(left) => left.by.clone(),
                None => process.unit.clone(),
            };
            let left = Left {
                bytes,
                state,
                key: chain.key.clone(),
                by,
            };
            self.files.insert(chain.file.clone(), left);
        }
    }

    fn one_path(&mut self, chain: &Chain) {
        let key = (chain.key.clone(), chain.id.clone());
        let known = self.paths.entry(key).or_insert_with(|| chain.file.clone());
        if *known != chain.file {
            let how = format!(
                "{} is signed from {} and from {}",
                chain.id,
                known.display(),
                chain.file.display()
            );
            self.broke("S2", how);
        }
    }

    /// What another unit left with this key is in a journal, and durable.
    fn evidence(&mut self, disk: &Disk, process: &Process, chain: &Chain) {
        let others = |left: &&Left| left.key == chain.key && left.by != process.unit;
        let mut missing = Vec::new();
        for (path, left) in self.files.iter().filter(|(_, left)| others(left)) {
            let kept = self.kept.get(path).is_some_and(|kept| {
                kept.bytes.as_bytes() == &*left.bytes
                    && disk
                        .durable(&kept.journal)
                        .is_ok_and(|b| b.len() >= kept.end)
            });
            if !kept {
                let (path, at) = (path.display(), left.state);
                missing.push(format!(
                    "{} starts, and no journal durably holds {path} as {} left it at {at}",
                    process.unit, left.by
                ));
            }
        }
        for how in missing {
            self.broke("S5", how);
        }
    }

    /// A state file is made where there was none.
    pub fn begins_at_zero(&mut self, file: &Path) {
        if let Some(floor) = self.floors.get(file) {
            let how = format!("{} begins at 0, known at {floor}", file.display());
            self.broke("S6", how);
        }
    }

    pub fn signs(&mut self, process: &Process, chain: &Chain, state: SignState, bytes: Arc<[u8]>) {
        self.one_path(chain);
        let signature = (chain.key.clone(), chain.id.clone(), state);
        if !self.signed.insert(signature) {
            let how = format!("{} signs {} at {state} again", process.unit, chain.id);
            self.broke("double signature", how);
        }
        let left = Left {
            bytes,
            state,
            key: chain.key.clone(),
            by: process.unit.clone(),
        };
        self.files.insert(chain.file.clone(), left);
    }

    /// S3: every state file is as tmkms left it.
    pub fn untouched(&mut self, disk: &Disk) {
        let mut touched = Vec::new();
        for (path, left) in &self.files {
            match disk.read(path) {
                Ok(bytes) if Arc::ptr_eq(&bytes, &left.bytes) || bytes == left.bytes => {}
                Ok(_) => touched.push(format!("{} isn't as tmkms left it", path.display())),
                Err(_) => touched.push(format!("{} is gone", path.display())),
            }
        }
        for how in touched {
            self.broke("S3", how);
        }
    }

    /// Another hand put an older state file there.
    pub fn set_back(&mut self, disk: &Disk, file: &Path) {
        let bytes = disk.read(file).unwrap();
        if let Some(left) = self.files.get_mut(file) {
            left.state = SignState::parse(&bytes).unwrap();
            left.bytes = bytes;
        }
    }

    /// A journal was opened; `keep` bytes of it stay.
    pub fn opens(&mut self, disk: &Disk, journal: &Path, keep: usize) {
        let steps = match disk.read(journal).map(|bytes| Journal::parse(&bytes)) {
            Ok(Ok(Some(journal))) => by_effect(&journal.program),
            _ => BTreeMap::new(),
        };
        self.writing = Writing {
            path: journal.to_owned(),
            steps,
            intents: BTreeMap::new(),
            length: keep,
        };
    }

    pub fn appends(&mut self, journal: &Path, bytes: &[u8]) {
        if self.writing.path != journal {
            return;
        }
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            self.writing.length += line.len();
            let end = self.writing.length;
            let json = line.splitn(4, |b| *b == b' ').nth(3).unwrap_or_default();
            match serde_json::from_slice(json) {
                Ok(Record::Opened { program, .. }) => self.writing.steps = by_effect(&program),
                Ok(Record::Resumed { program, .. }) => {
                    for (effect, steps) in by_effect(&program) {
                        self.writing.steps.entry(effect).or_default().extend(steps);
                    }
                }
                Ok(Record::Intent { step }) => {
                    self.writing.intents.insert(step.0, end);
                }
                Ok(record) => self.known(journal, record, end),
                Err(_) => {}
            }
        }
    }

    fn known(&mut self, journal: &Path, record: Record, end: usize) {
        let Record::State {
            state_file,
            state,
            bytes,
            ..
        } = record
        else {
            return;
        };
        if let Some(bytes) = bytes {
            let journal = journal.to_owned();
            let kept = Kept {
                bytes,
                journal,
                end,
            };
            self.kept.insert(state_file.clone(), kept);
        }
        let floor = self.floors.entry(state_file).or_insert(state);
        *floor = state.max(*floor);
    }

    /// S8: an effect has a step whose intent the present process made durable.
    pub fn intended(&mut self, disk: &Disk, effect: &Effect) {
        let durable = disk.durable(&self.writing.path).map_or(0, |b| b.len());
        let none = Vec::new();
        let steps = self.writing.steps.get(effect).unwrap_or(&none);
        let intended = |step: &String| {
            let end = self.writing.intents.get(step);
            end.is_some_and(|end| *end <= durable)
        };
        if !steps.iter().any(intended) {
            self.broke("S8", format!("{effect:?} without a durable intent"));
        }
    }

    /// The machine was off: what is there now is all there is.
    pub fn wakes(&mut self, disk: &Disk) {
        self.writing = Writing::default();
        self.floors.clear();
        self.kept.clear();
        for operation in disk.list(Path::new(JOURNALS)).unwrap() {
            let path = Path::new(JOURNALS).join(operation).join("journal");
            let Ok(bytes) = disk.read(&path) else {
                continue;
            };
            self.reads(&path, &bytes);
        }
        // What tmkms itself lost with the power is nobody's second signature but its own.
        let lost = &mut self.lost;
        self.files.retain(|path, left| {
            let bytes = disk.read(path).unwrap_or_else(|_| [].into());
            let state = SignState::parse(&bytes);
            *lost |= state.as_ref().ok() != Some(&left.state);
            if let Ok(state) = state {
                (left.state, left.bytes) = (state, bytes);
                return true;
            }
            false
        });
        let (files, paths) = (&self.files, &self.paths);
        self.signed.retain(|(key, chain, state)| {
            let path = paths.get(&(key.clone(), chain.clone()));
            let left = path.and_then(|path| files.get(path));
            left.is_some_and(|left| *state <= left.state)
        });
    }

    /// What a journal still says; what comes after a torn record isn't said.
    fn reads(&mut self, journal: &Path, bytes: &[u8]) {
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let json = line.splitn(4, |b| *b == b' ').nth(3).unwrap_or_default();
            if json.starts_with(br#"{"record":"state""#) {
                match serde_json::from_slice(json) {
                    Ok(record) => self.known(journal, record, bytes.len()),
                    Err(_) => return,
                }
            } else if !json.ends_with(b"}\n") || json.contains(&0) {
                return;
            }
        }
    }
}

fn by_effect(program: &Program) -> BTreeMap<Effect, Vec<String>> {
    let mut steps: BTreeMap<Effect, Vec<String>> = BTreeMap::new();
    for step in program.steps() {
        let effect = match &step.action {
            Action::MakeFolder { path } => Effect::MakeFolder(path.clone().into()),
            Action::Write { path, .. } => Effect::Create(path.clone().into()),
            Action::Remove { path, .. } | Action::RemoveFolder { path } => {
                Effect::Remove(path.clone().into())
            }
            Action::CloseFence { unit } => Effect::Create(ManagedPath::fence(unit).into()),
            Action::OpenFence { unit } => Effect::Remove(ManagedPath::fence(unit).into()),
            Action::LayFloor { floor, .. } => Effect::Create(floor.path().to_owned()),
            Action::WithdrawFloor { floor } => Effect::Remove(floor.path().to_owned()),
            Action::Reload => Effect::Reload,
            Action::Enable { .. } => Effect::Enable,
            Action::Disable { .. } => Effect::Disable,
            Action::SetLink { link, .. } => Effect::Link(link.clone().into()),
            Action::Stop { unit } => Effect::Stop(unit.clone()),
            Action::Start { unit } => Effect::Start(unit.clone()),
            Action::CheckFenced { .. }
            | Action::ProveStopped { .. }
            | Action::Record { .. }
            | Action::CheckHeights { .. }
            | Action::CheckHalted { .. }
            | Action::Watch { .. } => continue,
        };
        steps.entry(effect).or_default().push(step.id.0.clone());
    }
    steps
}
