//! Judges tmkms configs by what their tmkms does with them, and says it in findings: for `check`, and for what `plan`
//! renders. It looks at files as that tmkms would, changes nothing, and reaches no network and no device.

pub mod source;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tmkms_core::check::{self, Disk, Effect, Kind, Remark, Tmkms, Unread, Zeroizing};

use crate::discover::link_free;
use crate::finding::{Code, Finding, Severity};
use crate::host::{Entry, Files};
use crate::kms::tmkms;
use source::Source;

/// A finding, and the bytes of the config that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub finding: Finding,
    pub span: Range<usize>,
}

/// A config that was judged.
#[derive(Debug)]
pub struct Judged {
    pub source: Source,
    pub findings: Vec<Placed>,
}

impl Judged {
    /// Whether that tmkms would start on it.
    pub fn starts(&self) -> bool {
        !self.findings.iter().any(|placed| placed.finding.blocks())
    }
}

/// Judges a config for a tmkms that is started in `directory`.
pub fn judge(files: &dyn Files, path: &Path, directory: &Path, tmkms: &Tmkms) -> Judged {
    let bytes = match files.read(path) {
        Ok(bytes) => bytes,
        Err(e) => {
            return unread(
                path,
                Code::ConfigUnreadable,
                0,
                format!("it can't be read: {e}"),
            );
        }
    };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let sound = e.utf8_error().valid_up_to();
            let lines = e.as_bytes()[..sound]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            let message = format!("{tmkms} refuses this config: it isn't UTF-8");
            return unread(path, Code::ConfigInvalid, lines + 1, message);
        }
    };
    let disk = Looked { files, directory };
    let remarks = check::check(&text, tmkms, &disk);
    let source = Source::of(text);
    let findings = remarks
        .into_iter()
        .map(|remark| placed(path, &source, remark))
        .collect();
    Judged { source, findings }
}

fn unread(path: &Path, code: Code, line: usize, message: String) -> Judged {
    let mut finding = Finding::block(code, message).at(path);
    finding.line = (line > 0).then_some(line);
    let remedy = "put a sound config there; tmkms takes no other either";
    Judged {
        source: Source::of(String::new()),
        findings: vec![Placed {
            finding: finding.remedy(remedy),
            span: 0..0,
        }],
    }
}

fn placed(path: &Path, source: &Source, remark: Remark) -> Placed {
    let severity = match remark.effect {
        Effect::Refuses | Effect::Panics => Severity::Block,
        Effect::Trap => Severity::Warn,
        Effect::Told => Severity::Info,
    };
    let mut finding = Finding::warn(code(remark.kind), remark.message)
        .at(path)
        .line(source.line(remark.span.start))
        .remedy(remark.remedy);
    finding.severity = severity;
    Placed {
        finding,
        span: remark.span,
    }
}

/// The code of a remark: those that other checks have, too, are the same.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::ConfigInvalid => Code::ConfigInvalid,
        Kind::FieldUnknown => Code::FieldUnknown,
        Kind::FieldIgnored => Code::FieldIgnored,
        Kind::ProtocolRefused => Code::ProtocolRefused,
        Kind::ProtocolDeprecated => Code::ProtocolDeprecated,
        Kind::ProtocolOneWay => Code::ProtocolOneWay,
        Kind::ChainIdRefused => Code::ChainIdRefused,
        Kind::ChainRepeated => Code::ChainRepeated,
        Kind::ChainUnknown => Code::ChainUnknown,
        Kind::ChainUnserved => Code::ChainUnserved,
        Kind::ChainIdUnchecked => Code::ChainIdUnchecked,
        Kind::AddressRefused => Code::AddressRefused,
        Kind::AddressOdd => Code::AddressOdd,
        Kind::ProviderRefused => Code::ProviderRefused,
        Kind::SerialRefused => Code::SerialRefused,
        Kind::SerialUnchecked => Code::SerialUnchecked,
        Kind::KeyFileRefused => Code::KeyFileRefused,
        Kind::KeyMissing => Code::KeyMissing,
        Kind::KeysSeveral => Code::KeysSeveral,
        Kind::PasswordFileRefused => Code::PasswordFileRefused,
        Kind::PasswordInline => Code::PasswordInline,
        Kind::IdentityKey => Code::IdentityKey,
        Kind::PeerUnverified => Code::PeerUnverified,
        Kind::NoReconnect => Code::NoReconnect,
        Kind::TimeoutIgnored => Code::TimeoutIgnored,
        Kind::MaxHeight => Code::MaxHeight,
        Kind::NoValidator => Code::NoValidator,
        Kind::SeveralValidators => Code::SeveralValidators,
        Kind::SignExtensions => Code::SignExtensions,
        Kind::StateHook => Code::StateHook,
        Kind::StateRefused => Code::StateRefused,
        Kind::StateMissing => Code::StateMissing,
        Kind::StateLinked => Code::StateLinked,
        Kind::StateShared => Code::StateShared,
        Kind::StateRelative => Code::StateRelative,
        Kind::HomePath => Code::HomePath,
    }
}

/// A tmkms' view of a host's files.
struct Looked<'a> {
    files: &'a dyn Files,
    directory: &'a Path,
}

impl Looked<'_> {
    /// Nothing has an empty name.
    fn absolute(&self, path: &str) -> Option<PathBuf> {
        (!path.is_empty()).then(|| tmkms::absolute(path, self.directory))
    }
}

impl Disk for Looked<'_> {
    fn read(&self, path: &str) -> Result<Zeroizing<Vec<u8>>, Unread> {
        let path = self.absolute(path).ok_or(Unread::Missing)?;
        let read = self.files.read_secret(&path);
        read.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Unread::Missing,
            _ => Unread::Because(e.to_string()),
        })
    }

    fn is_folder(&self, path: &str) -> bool {
        let path = self.absolute(path);
        path.is_some_and(|path| self.files.resolve(&path).is_ok())
    }

    fn is_link(&self, path: &str) -> bool {
        let entry = self.absolute(path).map(|path| self.files.entry(&path));
        matches!(entry, Some(Ok(Some(Entry::Link(_)))))
    }

    fn one_name(&self, path: &str) -> String {
        let name = self.absolute(path).map(|path| link_free(self.files, &path));
        name.map_or_else(String::new, |path| path.to_string_lossy().into_owned())
    }
}

/// What a config that isn't written yet would meet, were it started now, beside what other checks of a plan say.
///
/// Only what stops that tmkms, since the warnings are of the old config as well. The new state files come with the plan's
/// own checks, and so do protocol versions.
pub fn rendered(
    files: &dyn Files,
    path: &Path,
    text: &str,
    directory: &Path,
    tmkms: &Tmkms,
) -> Vec<Finding> {
    let disk = Looked { files, directory };
    let source = Source::of(text.to_owned());
    let mut findings = BTreeMap::new();
    for remark in check::check(text, tmkms, &disk) {
        let elsewhere = matches!(remark.kind, Kind::ProtocolRefused);
        if remark.stops() && !elsewhere {
            let placed = placed(path, &source, remark);
            findings.entry(placed.finding).or_insert(());
        }
    }
    findings.into_keys().collect()
}
