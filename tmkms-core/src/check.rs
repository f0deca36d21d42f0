//! What a given tmkms does with a config: starts, refuses it, or panics; and what it takes without a word though nobody
//! should ask it to.
//!
//! Judged as that tmkms judges: by its version, the features it was built with, and the files that the config names,
//! which are looked at through [`Disk`] alone. Nothing here reaches a network, a device or a validator, so a YubiHSM that
//! isn't there or a wrong password stays unseen. It must never keep a byte of a key or a password, nor put one into a
//! remark.
//!
//! Facts: the sources of tmkms 0.10.1, 0.12.2, 0.14.0 and 0.15.0 and what these did with the corpus in `fixtures/check`.

mod address;
mod chains;
mod hook;
mod key_file;
mod keys;
mod schema;
mod syntax;
mod validators;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

pub use zeroize::Zeroizing;

use address::Address;

use crate::config::{Config, ConfigError, read};
use crate::protocol::TmkmsVersion;

/// A tmkms binary, as far as its behaviour goes by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmkms {
    /// Between 0.10 and 0.15: others weren't run.
    pub version: TmkmsVersion,
    /// What it was built with.
    pub features: BTreeSet<Feature>,
}

impl Tmkms {
    /// A tmkms with the two features that a KMS host is built with, softsign and yubihsm.
    pub fn usual(version: TmkmsVersion) -> Tmkms {
        Tmkms {
            version,
            features: BTreeSet::from([Feature::Softsign, Feature::Yubihsm]),
        }
    }

    /// A tmkms whose features aren't known: one that runs the old config was built with what that needs.
    pub fn any(version: TmkmsVersion) -> Tmkms {
        let features = Feature::ALL.iter().map(|(_, feature)| *feature);
        Tmkms {
            version,
            features: features.collect(),
        }
    }

    /// Whether kmsctl knows what this version does.
    pub fn is_known(&self) -> bool {
        self.version.major == 0 && (10..=15).contains(&self.version.minor)
    }

    fn minor(&self) -> u64 {
        self.version.minor
    }

    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

impl fmt::Display for Tmkms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tmkms {}", self.version)
    }
}

/// A cargo feature of tmkms that changes which configs it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Keys in files.
    Softsign,
    /// Keys in a YubiHSM.
    Yubihsm,
    /// tmkms as a YubiHSM connector of its own.
    YubihsmServer,
    /// Keys in a Ledger.
    Ledger,
    /// Keys in Fortanix DSM, from 0.12 on.
    Fortanixdsm,
    /// Signing of transactions, up to 0.12.
    TxSigner,
}

impl Feature {
    /// All of them, by tmkms' own names.
    pub const ALL: [(&'static str, Feature); 6] = [
        ("softsign", Feature::Softsign),
        ("yubihsm", Feature::Yubihsm),
        ("yubihsm-server", Feature::YubihsmServer),
        ("ledger", Feature::Ledger),
        ("fortanixdsm", Feature::Fortanixdsm),
        ("tx-signer", Feature::TxSigner),
    ];
}

impl FromStr for Feature {
    type Err = String;

    fn from_str(name: &str) -> Result<Feature, String> {
        let found = Feature::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, feature)| *feature).ok_or_else(|| {
            let known: Vec<&str> = Feature::ALL.iter().map(|(known, _)| *known).collect();
            format!("no feature of tmkms; there are {}", known.join(", "))
        })
    }
}

/// What a config's tmkms would find on its disk. Paths are as the config writes them: relative ones begin at the working
/// directory of the process.
pub trait Disk {
    /// Reads a file, links followed.
    ///
    /// # Errors
    /// Why it can't be read.
    fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, Unread>;
    /// Whether there is a folder, links followed.
    fn is_folder(&self, path: &str) -> bool;
    /// Whether the path itself is a symbolic link.
    fn is_link(&self, path: &str) -> bool;
    /// The one name of a path, whatever spelling and whatever links in its folders led to it.
    fn one_name(&self, path: &str) -> String;
}

/// Why a file can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nothing is there, or a link that leads nowhere.
    Missing,
    /// The reason, as the system words it.
    Because(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Missing => f.write_str("it isn't there"),
            Unread::Because(why) => f.write_str(why),
        }
    }
}

/// What a remark is about; each is a code of kmsctl's findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "kmsctl's docs/findings.md says what each means"
)]
pub enum Kind {
    ConfigInvalid,
    FieldUnknown,
    FieldIgnored,
    ProtocolRefused,
    ProtocolDeprecated,
    ProtocolOneWay,
    ChainIdRefused,
    ChainRepeated,
    ChainUnknown,
    ChainUnserved,
    ChainIdUnchecked,
    AddressRefused,
    AddressOdd,
    ProviderRefused,
    SerialRefused,
    SerialUnchecked,
    KeyFileRefused,
    KeyMissing,
    KeysSeveral,
    PasswordFileRefused,
    PasswordInline,
    IdentityKey,
    PeerUnverified,
    NoReconnect,
    TimeoutIgnored,
    MaxHeight,
    NoValidator,
    SeveralValidators,
    SignExtensions,
    StateHook,
    StateRefused,
    StateMissing,
    StateLinked,
    StateShared,
    StateRelative,
    HomePath,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Worth knowing.
    Told,
    /// tmkms starts, and it will hurt later.
    Trap,
    /// tmkms panics, at the start or once a validator answers.
    Panics,
    /// tmkms exits with an error.
    Refuses,
}

/// One thing to say about a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What it is about.
    pub kind: Kind,
    /// What comes of it.
    pub effect: Effect,
    /// The bytes of the config that it is about.
    pub span: Range<usize>,
    /// What is so, and why it matters.
    pub message: String,
    /// The next step.
    pub remedy: String,
}

impl Remark {
    /// Whether this tmkms doesn't run on the config.
    pub fn stops(&self) -> bool {
        matches!(self.effect, Effect::Panics | Effect::Refuses)
    }
}

/// Judges a config for a tmkms that [`Tmkms::is_known`], in the order of the text.
///
/// Where the text isn't a config at all, the first reason is the only remark, as it is tmkms' only error. An empty list
/// means that tmkms starts, and nothing is to be said.
pub fn check(text: &str, tmkms: &Tmkms, disk: &dyn Disk) -> Vec<Remark> {
    let mut case = Case {
        tmkms,
        disk,
        remarks: Vec::new(),
        said: BTreeMap::new(),
    };
    let read = read::document(text).and_then(|document| {
        let config = Config::of(text, &document)?;
        Ok((document, config))
    });
    match read {
        Ok((document, config)) => {
            syntax::judge(&mut case, text, &document);
            schema::judge(&mut case, text, &document, &config);
            hook::judge(&mut case, &document);
            chains::judge(&mut case, &config);
            keys::judge(&mut case, &config);
            validators::judge(&mut case, text, &config);
        }
        Err(error) => case.invalid(text, &error),
    }
    let mut remarks = case.remarks;
    remarks.sort_by(|a, b| {
        (a.span.start, b.effect, a.kind, a).cmp(&(b.span.start, a.effect, b.kind, b))
    });
    remarks.dedup();
    remarks
}

impl PartialOrd for Remark {
    fn partial_cmp(&self, other: &Remark) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Remark {
    fn cmp(&self, other: &Remark) -> std::cmp::Ordering {
        let key = |r: &Remark| (r.span.start, r.span.end, r.kind, r.effect);
        let words = |r: &Remark| (r.message.clone(), r.remedy.clone());
        key(self)
            .cmp(&key(other))
            .then_with(|| words(self).cmp(&words(other)))
    }
}

/// What is judged, and what was said so far.
struct Case<'a> {
    tmkms: &'a Tmkms,
    disk: &'a dyn Disk,
    remarks: Vec<Remark>,
    said: BTreeMap<(Kind, Effect), usize>,
}

/// Of one kind no more is said: a config with more is no config, and the verdict is the same.
const MOST: usize = 100;

impl Case<'_> {
    fn say(
        &mut self,
        kind: Kind,
        effect: Effect,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let said = self.said.entry((kind, effect)).or_insert(0);
        *said += 1;
        if *said > MOST {
            return;
        }
        self.remarks.push(Remark {
            kind,
            effect,
            span: span.clone(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    fn refuse(
        &mut self,
        kind: Kind,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.say(kind, Effect::Refuses, span, message, remedy);
    }

    fn warn(
        &mut self,
        kind: Kind,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.say(kind, Effect::Trap, span, message, remedy);
    }

    fn tell(
        &mut self,
        kind: Kind,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.say(kind, Effect::Told, span, message, remedy);
    }

    fn invalid(&mut self, text: &str, error: &ConfigError) {
        let message = format!("{} refuses this config: {}", self.tmkms, error.message);
        let start = error.offset.min(text.len());
        let remedy = "mend this place; what comes after it isn't judged before that";
        self.refuse(Kind::ConfigInvalid, &(start..start), message, remedy);
    }

    /// A path that a shell would put the home folder into, and tmkms doesn't.
    fn home(&mut self, field: &str, path: &crate::Spanned<String>) {
        if path.value.starts_with('~') {
            let message = format!(
                "tmkms takes the ~ of `{field}` as a folder of that name in its working directory: only a shell makes a \
                 home folder of it"
            );
            self.warn(Kind::HomePath, &path.span, message, "write the whole path");
        }
    }
}
