//! What was observed on a host, and when: plain data, from which everything else is decided.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tmkms_core::config::{Config, KeyRef};
use tmkms_core::protocol::TmkmsVersion;
use tmkms_core::state::SignState;

use crate::content::Fingerprint;
use crate::finding::Finding;
use crate::keys::Keys;
use crate::paths::{ManagedLink, UNIT_FOLDER};
use crate::unit::variables::Variables;
use crate::unit::words::expand;
use crate::unit::{UnitName, UnitText};

/// A host as it was seen.
#[derive(Clone, Debug)]
pub struct Inventory {
    pub host: String,
    pub observed_at: jiff::Timestamp,
    /// In the order of their units' names.
    pub signers: Vec<Signer>,
    /// tmkms processes seen, whatever started them.
    pub processes: Vec<SignerProcess>,
    /// What is known of the keys that configs name.
    pub keys: Keys,
    /// The host is a folder: no device is asked, and that a key file isn't there says nothing.
    pub keys_left_out: bool,
    /// What discovery itself stumbled over.
    pub problems: Vec<Finding>,
}

/// One unit that runs tmkms, with its config and state files.
#[derive(Clone, Debug)]
pub struct Signer {
    pub unit: Unit,
    pub config: ConfigFile,
    pub chains: Vec<SignerChain>,
    /// What the unit's binary says of itself; unknown where it wasn't asked or didn't say.
    pub version: Option<TmkmsVersion>,
    /// Of the binary, where it could be read and was asked for.
    pub binary: Option<Fingerprint>,
}

impl Signer {
    /// Current signers are enabled or active; the others are retired: shown, never moved. One that another unit's text
    /// pulls in counts as enabled while its fence is open: nothing takes such a mention away.
    pub fn is_current(&self) -> bool {
        let unit = &self.unit;
        unit.run.is_up()
            || !unit.links.is_empty()
            || (!unit.pulled_in_by.is_empty() && !unit.closed)
    }

    pub fn is_up(&self) -> bool {
        self.unit.run.is_up()
    }

    /// The tmkms that it runs.
    pub fn program(&self) -> &Path {
        Path::new(self.unit.exec.first().map_or("", String::as_str))
    }

    pub fn name(&self) -> String {
        self.unit.name.signer()
    }
}

/// A service unit as systemd means it.
#[derive(Clone)]
pub struct Unit {
    pub name: UnitName,
    /// Where its text lies.
    pub fragment: PathBuf,
    pub text: String,
    /// The fragment is a link to a file elsewhere (`systemctl link`).
    pub linked: bool,
    /// Drop-ins other than kmsctl's own, in systemd's order.
    pub drop_ins: Vec<PathBuf>,
    /// Their texts, in the same order.
    pub drop_in_texts: Vec<String>,
    /// argv of ExecStart, variables put in.
    pub exec: Vec<String>,
    pub user: String,
    pub working_directory: PathBuf,
    /// What its `EnvironmentFile=`s set.
    pub file_variables: Variables,
    /// systemd hasn't read the newest text; kmsctl's own drop-in, staged and not read yet, doesn't count.
    pub needs_reload: bool,
    /// The symbolic links in `*.wants` and `*.requires` that enable it, those of the vendor's folders left out.
    pub links: Vec<UnitLink>,
    /// Its second names (`Alias=`).
    pub aliases: Vec<UnitLink>,
    /// A mask stands where a link would enable it: systemd's own disable would take that away as well.
    pub mask: bool,
    /// What wants it without any of these links: other units' own text, or the vendor's links.
    pub pulled_in_by: BTreeSet<Pull>,
    /// Its fence's marker is there, and the manager heeds it.
    pub closed: bool,
    /// Its fence's marker is there, and the manager doesn't heed it.
    pub unheeded: bool,
    pub run: RunState,
}

/// Its texts and variables may hold passwords (rule S11).
impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unit")
            .field("name", &self.name)
            .field("fragment", &self.fragment)
            .field("drop_ins", &self.drop_ins)
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

/// A unit that pulls another one in, by a text or a link that kmsctl doesn't change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pull {
    pub by: String,
    /// It can't be without the other (`Requires=`, `BindsTo=`).
    pub needs: bool,
    /// The file that says so; none where a link does.
    pub at: Option<PathBuf>,
}

/// A link of systemd's, and what it names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnitLink {
    pub link: ManagedLink,
    pub target: PathBuf,
}

impl Unit {
    /// The name of the file that its text is in: its own, or its template's.
    pub fn file(&self) -> UnitName {
        let named = self.fragment.file_name().and_then(|n| n.to_str());
        let template = self.name.template();
        template
            .filter(|t| named == Some(t.as_str()))
            .unwrap_or_else(|| self.name.clone())
    }

    /// The links that the `[Install]` of these texts makes for a unit of a name, and none else; none where that can't
    /// be said, or where it makes other things too (`Alias=`, `Also=`).
    pub fn installs(texts: &[&str], name: &UnitName) -> Option<Vec<PathBuf>> {
        let mut text = UnitText::default();
        for part in texts {
            text.extend(UnitText::parse(part).ok()?);
        }
        if ["Alias", "Also"]
            .iter()
            .any(|key| !text.list("Install", key).is_empty())
        {
            return None;
        }
        let mut links = Vec::new();
        for (key, suffix) in [("WantedBy", "wants"), ("RequiredBy", "requires")] {
            for setting in text.list("Install", key) {
                for target in setting.value.split_whitespace() {
                    let target = expand(target, name).ok()?;
                    let folder = Path::new(UNIT_FOLDER).join(format!("{target}.{suffix}"));
                    links.push(folder.join(name.as_str()));
                }
            }
        }
        links.sort();
        links.dedup();
        Some(links)
    }

    /// Its fragment's text and its drop-ins'.
    pub fn texts(&self) -> Vec<&str> {
        let drop_ins = self.drop_in_texts.iter().map(String::as_str);
        std::iter::once(self.text.as_str())
            .chain(drop_ins)
            .collect()
    }
}

/// Whether a unit runs, in systemd's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// `running`, `dead`, `auto-restart`, …
    pub sub: String,
}

impl Activity {
    pub fn stopped() -> Activity {
        RunState::stopped().activity()
    }

    /// Running, or on its way there: a unit between two automatic restarts counts as up.
    pub fn is_up(&self) -> bool {
        !matches!(self.active.as_str(), "inactive" | "failed" | "")
    }

    /// Its process runs.
    pub fn runs(&self) -> bool {
        self.active == "active" && self.sub == "running"
    }
}

/// Whether a unit runs, and as which process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// `running`, `dead`, `auto-restart`, …
    pub sub: String,
    /// 0 when there is none.
    pub main_pid: u32,
}

impl RunState {
    pub fn stopped() -> RunState {
        RunState {
            active: "inactive".into(),
            sub: "dead".into(),
            main_pid: 0,
        }
    }

    pub fn activity(&self) -> Activity {
        Activity {
            active: self.active.clone(),
            sub: self.sub.clone(),
        }
    }

    /// As [`Activity::is_up`].
    pub fn is_up(&self) -> bool {
        self.activity().is_up()
    }
}

/// One run of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRun {
    #[serde(flatten)]
    pub state: RunState,
    /// systemd's id of this run; changes on every start, automatic ones included.
    pub invocation: String,
    pub restarts: u32,
    /// Empty once systemd has let go of it.
    pub control_group: String,
}

impl UnitRun {
    pub fn stopped() -> UnitRun {
        UnitRun {
            state: RunState::stopped(),
            ..UnitRun::default()
        }
    }
}

/// A file's owner and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits only, such as `0o644`.
    pub mode: u32,
}

/// A config and its reading.
#[derive(Clone)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// Its folder, without any link in the path: where a file beside it is written.
    pub folder: PathBuf,
    pub text: String,
    pub view: Config,
}

/// Its text may hold a password (rule S11).
impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ConfigFile {
    /// The config's one name, without any link in its folders.
    pub fn real(&self) -> PathBuf {
        match self.path.file_name() {
            Some(name) => self.folder.join(name),
            None => self.path.clone(),
        }
    }
}

/// A chain that a signer signs.
#[derive(Clone, Debug)]
pub struct SignerChain {
    pub id: String,
    /// Absolute and without a link in its folders, so that two spellings of one file are one: a relative or defaulted
    /// path begins at the unit's working directory.
    pub state_file: PathBuf,
    pub state: StateReading,
    pub keys: Vec<KeyRef>,
}

/// What a state file says, or why it says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateReading {
    Missing,
    /// It is a symbolic link, which tmkms replaces at its first signature.
    Link,
    Unreadable(String),
    Read(SignState),
}

impl StateReading {
    pub fn height(&self) -> Option<SignState> {
        match self {
            StateReading::Read(state) => Some(*state),
            _ => None,
        }
    }
}

/// A process that looks like a running tmkms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerProcess {
    pub pid: u32,
    pub argv: Vec<String>,
    /// The last `*.service` in its control group, if any.
    pub unit: Option<String>,
    /// The config that it was started on, through its own working directory and environment; unknown where that
    /// couldn't be read. In an inventory without any link in its folders.
    pub config: Option<PathBuf>,
}

/// A connection that is established, by its other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    Tcp(SocketAddr),
    /// A socket in the filesystem or without a name: a client can't tell which from here.
    Unix,
}

impl SignerProcess {
    /// Whether it is the main process of the unit that it runs in, which starts tmkms on `config`.
    ///
    /// A unit that was restarted between two looks has another main process by now, on the same config: so the only
    /// process of a unit that is up counts too. What a stopped unit left behind doesn't.
    pub fn is_main(&self, run: &RunState, config: &Path, seen: &[SignerProcess]) -> bool {
        let alone = || seen.iter().filter(|p| p.unit == self.unit).count() == 1;
        run.main_pid == self.pid
            || (run.is_up() && self.config.as_deref() == Some(config) && alone())
    }
}

impl Inventory {
    pub fn signer(&self, unit: &UnitName) -> Option<&Signer> {
        let at = self.signers.binary_search_by(|s| s.unit.name.cmp(unit));
        at.ok().map(|n| &self.signers[n])
    }

    pub fn current(&self) -> impl Iterator<Item = &Signer> {
        self.signers.iter().filter(|s| s.is_current())
    }
}
