//! Findings: checked facts worth telling, each with a stable code, its place, and what to do about it.

pub mod about;

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a finding weighs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warn,
    /// `apply` refuses while it holds.
    Block,
}

/// The stable name of a kind of finding; scripts may match on it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The unit can't be read as systemd reads it.
    UnitUnreadable,
    /// The unit names a config that can't be read.
    ConfigUnreadable,
    /// The config isn't TOML, or not tmkms'.
    ConfigInvalid,
    /// Two units run one config.
    ConfigShared,
    /// The unit's own fence is closed: an operation was left half-way.
    FenceClosed,
    /// The marker of the unit's fence is there, and systemd doesn't heed it.
    FenceUnheeded,
    /// The links that enable the unit aren't those that its `[Install]` asks for.
    EnablementOdd,
    /// A file that the plan was made from is no longer what it was.
    InputChanged,
    /// systemd hasn't read the unit's newest text.
    NeedsDaemonReload,
    /// Rule S1: one key would sign one chain from two signers.
    KeyShared,
    /// Rule S1: a key's public half isn't known, so its name alone tells it from others.
    KeyUnknown,
    /// tmkms can't take the key file.
    KeyUnfit,
    /// The YubiHSM doesn't take the login, so tmkms couldn't either.
    HsmRefused,
    /// All sessions of the YubiHSM are taken.
    HsmFull,
    /// The YubiHSM that answers isn't the one that the config names.
    HsmSerial,
    /// The YubiHSM holds no key at that id that this login may sign with.
    HsmKeyUnfit,
    /// The key may leave the YubiHSM, wrapped.
    HsmKeyExportable,
    /// The login may do more than sign.
    HsmLoginBroad,
    /// Rule S2: two signers share a state file.
    StateShared,
    /// Rule S2: the key already signed this chain with another state file.
    StateElsewhere,
    /// Rule S2: a file is in the new state file's place and no journal knows it.
    StateUnknown,
    /// Rule S6: the state file is missing, empty or unreadable.
    StateUnreadable,
    /// Rule S6: the state file is behind what a journal saw.
    StateBehind,
    /// Rule S10: the state file is a symbolic link.
    StateLinked,
    /// Rule S10: a file that kmsctl didn't write is in the way.
    FileInTheWay,
    /// Rule S10: a link or folder stands where a file should be.
    NotAFile,
    /// Rule S4: a signer runs that no known unit runs.
    StrayProcess,
    /// Rules S1, S5 and S6: a unit's process was started on another config than the unit names now.
    ProcessDiffers,
    /// One signer's unit stops or starts another's with it.
    SignersTied,
    /// The heights of the moving chain differ by more than the allowed spread.
    Laggard,
    /// A signer signs on the chain that is to be left.
    ChainNotHalted,
    /// A signer hasn't precommitted the halt height.
    BelowHaltHeight,
    /// An old signer has signed above the halt height: it may be answering the new chain.
    OldSignerPastHalt,
    /// A floor that is asked for is above the old chain's next height.
    FloorTooHigh,
    /// A floor that is asked for would have to change a state file.
    FloorInTheWay,
    /// A staged file would get the name of a current one.
    NameTaken,
    /// A value can't be edited without breaking the file.
    EditRefused,
    /// The tmkms binary doesn't speak the new protocol version.
    ProtocolRefused,
    /// The old unit wouldn't work any more if it were started again.
    NoWayBack,
    /// The tmkms binary's version isn't known.
    VersionUnknown,
    /// The new config says up to which height it signs.
    MaxHeight,
    /// One process serves several validators of one chain.
    SeveralValidators,
    /// The signer is enabled but doesn't run, or the reverse.
    RunStateOdd,
    /// A declared peer can't be asked, or its answer can't be used.
    PeerUnknown,
    /// The unit's user can't do with a file or folder what its signer must.
    AccessDenied,
    /// Whether the unit's user can do what its signer must isn't judged, or in part.
    AccessUnjudged,
    /// A key or a password can be read by others than its signer.
    SecretExposed,
    /// What a signer runs isn't what its path names any more.
    BinaryReplaced,
    /// A running signer has no connection to its validator.
    NotConnected,
    /// The YubiHSM's connector can't be reached, or nothing keeps it running.
    ConnectorAway,
    /// The clock isn't synchronised.
    ClockAdrift,
    /// A disk is full, or nearly.
    DiskFull,
    /// What a signer logs can't be read.
    JournalUnread,
    /// No peers are declared: uniqueness is checked on this host only.
    NoPeers,
    /// The tmkms doesn't know a field, by its version or the features it was built with, and refuses the config.
    FieldUnknown,
    /// tmkms passes over a field without a word.
    FieldIgnored,
    /// The protocol version is on its way out, and works.
    ProtocolDeprecated,
    /// An older tmkms would refuse this protocol version: the config has no way back to it.
    ProtocolOneWay,
    /// A chain id that tmkms doesn't take.
    ChainIdRefused,
    /// One chain has two `[[chain]]`.
    ChainRepeated,
    /// A validator or a key names a chain that has no `[[chain]]`.
    ChainUnknown,
    /// No validator asks for a chain.
    ChainUnserved,
    /// The tmkms doesn't compare its chain id with its validator's.
    ChainIdUnchecked,
    /// An address that tmkms can't use.
    AddressRefused,
    /// tmkms takes an address for something else than it looks like.
    AddressOdd,
    /// Providers or keys that tmkms doesn't take together.
    ProviderRefused,
    /// A serial number that tmkms panics on.
    SerialRefused,
    /// tmkms doesn't compare the serial number with the device's.
    SerialUnchecked,
    /// A softsign key file that tmkms can't load.
    KeyFileRefused,
    /// A chain has no consensus key.
    KeyMissing,
    /// A chain has two consensus keys: tmkms starts, and fails at the first vote.
    KeysSeveral,
    /// A password file that tmkms can't read.
    PasswordFileRefused,
    /// A password stands in the config itself.
    PasswordInline,
    /// The identity key of a connection is missing or of no use.
    IdentityKey,
    /// tmkms signs for whoever answers at the validator's address.
    PeerUnverified,
    /// tmkms exits at the first fault of a connection.
    NoReconnect,
    /// A timeout that tmkms doesn't keep.
    TimeoutIgnored,
    /// No validator is configured: tmkms exits with 0.
    NoValidator,
    /// `sign_extensions` on a tmkms that gets them wrong.
    SignExtensions,
    /// A `state_hook`, which works in no tmkms.
    StateHook,
    /// A state file that tmkms refuses, or can't make.
    StateRefused,
    /// The state file isn't there: tmkms begins at height 0.
    StateMissing,
    /// Where the state file is depends on the folder that tmkms is started in.
    StateRelative,
    /// A `~` in a path, which only a shell makes a home folder of.
    HomePath,
}

/// Why a finding that blocks can't be overruled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// One of the rules S1 to S12, which no flag turns off.
    Rule(&'static str),
    /// A gate of a switch or a way back, with flags of its own.
    Gate,
    /// There is nothing to do in its stead: without it nothing can be planned.
    Unplannable,
    /// It blocks in `doctor` only, which does nothing.
    Doctor,
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Guard::Rule(rule) => write!(f, "rule {rule}"),
            Guard::Gate => f.write_str("a gate"),
            Guard::Unplannable => f.write_str("nothing to overrule"),
            Guard::Doctor => f.write_str("`doctor` only"),
        }
    }
}

impl Code {
    /// What keeps the code from being overruled where it blocks; none where nothing does. What kmsctl knows of a tmkms may
    /// be overruled, since a tmkms may be built differently; what it knows of state files may not.
    pub fn guard(self) -> Option<Guard> {
        Some(match self {
            Code::ConfigShared | Code::KeyShared | Code::FenceUnheeded => Guard::Rule("S1"),
            Code::StateShared | Code::StateElsewhere => Guard::Rule("S2"),
            Code::StrayProcess | Code::ProcessDiffers => Guard::Rule("S4"),
            Code::StateUnreadable | Code::StateBehind | Code::StateRefused => Guard::Rule("S6"),
            Code::InputChanged | Code::NeedsDaemonReload => Guard::Rule("S7"),
            Code::FenceClosed => Guard::Rule("S8"),
            Code::StateLinked | Code::FileInTheWay | Code::NotAFile => Guard::Rule("S10"),
            Code::UnitUnreadable
            | Code::ConfigUnreadable
            | Code::ConfigInvalid
            | Code::PeerUnknown => Guard::Rule("S12"),
            Code::Laggard
            | Code::ChainNotHalted
            | Code::BelowHaltHeight
            | Code::OldSignerPastHalt
            | Code::FloorTooHigh
            | Code::FloorInTheWay => Guard::Gate,
            Code::NameTaken | Code::EditRefused | Code::SignersTied => Guard::Unplannable,
            Code::BinaryReplaced | Code::ConnectorAway | Code::DiskFull => Guard::Doctor,
            _ => return None,
        })
    }

    /// Whether `--accept` may overrule it: everything that blocks and guards no rule.
    pub fn acceptable(self) -> bool {
        about::can_block(self) && self.guard().is_none()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => f.write_str(&name),
            _ => write!(f, "{self:?}"),
        }
    }
}

impl std::str::FromStr for Code {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        serde_json::from_value(serde_json::Value::String(name.to_owned()))
            .map_err(|_| format!("no finding has the code {name:?}"))
    }
}

/// A checked fact: what, where, why it matters, what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    pub severity: Severity,
    pub code: Code,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signer: Option<String>,
    /// The file that it is about, by its full path.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<PathBuf>,
    /// 1-based line in the file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<usize>,
    /// What is so, and why it matters.
    pub message: String,
    /// The next step.
    pub remedy: String,
}

impl Finding {
    fn new(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Finding {
            severity,
            code,
            signer: None,
            path: None,
            line: None,
            message,
            remedy: String::new(),
        }
    }

    pub fn block(code: Code, message: impl Into<String>) -> Self {
        Finding::new(Severity::Block, code, message)
    }

    pub fn warn(code: Code, message: impl Into<String>) -> Self {
        Finding::new(Severity::Warn, code, message)
    }

    pub fn info(code: Code, message: impl Into<String>) -> Self {
        Finding::new(Severity::Info, code, message)
    }

    pub fn of(mut self, signer: impl Into<String>) -> Self {
        self.signer = Some(signer.into());
        self
    }

    pub fn at(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    pub fn line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Place, message and remedy as one sentence, for an error.
    pub fn sentence(&self) -> String {
        let place = self.path.as_deref().map(|path| match self.line {
            Some(line) => format!("{}:{line}: ", path.display()),
            None => format!("{}: ", path.display()),
        });
        let place = place.unwrap_or_default();
        format!("{place}{}: {}", self.message, self.remedy)
    }

    pub fn blocks(&self) -> bool {
        self.severity == Severity::Block
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Block => "block",
        };
        write!(f, "{severity}[{}] ", self.code)?;
        if let Some(path) = &self.path {
            write!(f, "{}", path.display())?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": ")?;
        } else if let Some(signer) = &self.signer {
            write!(f, "{signer}: ")?;
        }
        write!(f, "{}", self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "\n    {}", self.remedy)?;
        }
        Ok(())
    }
}
