//! What a unit's own view of the files takes from its process, whoever it runs as: what of it systemd makes read-only or
//! hides (systemd.exec(5)). What shows other files than the host's, or is done by other means, is named and not judged.
//! Pure, but for the links in the paths that the settings name.

use std::path::{Path, PathBuf};

use super::way::Sight;
use crate::inventory::Unit;
use crate::unit::words::{expand, split};
use crate::unit::{Setting, UnitText};

/// What a unit makes of a part of the files. Of two for one path the first holds, as with systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Made {
    Inaccessible,
    /// Something else may be there than on the host.
    Another,
    ReadOnly,
    Writable,
}

/// A part of the files, and what makes it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Without any link.
    pub path: PathBuf,
    pub made: Made,
    /// The setting as it is written, and where.
    pub setting: String,
    pub at: PathBuf,
    pub line: usize,
}

/// A unit's view of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    parts: Vec<Part>,
    /// A setting after which any file may be another one than on the host.
    pub elsewhere: Option<String>,
    /// Settings whose effect isn't known here, and that only take away.
    pub unjudged: Vec<String>,
}

const ELSEWHERE: [&str; 5] = [
    "RootDirectory",
    "RootImage",
    "MountImages",
    "ExtensionImages",
    "ExtensionDirectories",
];
const UNJUDGED: [&str; 5] = [
    "ExecPaths",
    "NoExecPaths",
    "AppArmorProfile",
    "SELinuxContext",
    "SmackProcessLabel",
];
/// The folders that systemd makes for a unit, and lets it write to.
const OWN_FOLDERS: [(&str, &str); 5] = [
    ("RuntimeDirectory", "/run"),
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
    ("ConfigurationDirectory", "/etc"),
];

fn yes(value: &str) -> bool {
    ["yes", "true", "on", "1", "y", "t"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

fn no(value: &str) -> bool {
    ["no", "false", "off", "0", "n", "f"]
        .iter()
        .any(|no| value.eq_ignore_ascii_case(no))
}

impl Sandbox {
    /// Reads a unit's texts.
    pub fn of(unit: &Unit, sight: &Sight<'_>) -> Sandbox {
        let mut reading = Reading {
            unit,
            sight,
            sandbox: Sandbox::default(),
        };
        let settings = settings(unit);
        let last = |key: &str| settings.iter().rev().find(|(_, s)| s.key == key);
        let said =
            |setting: &Setting| format!("{}={} of {}", setting.key, setting.value, unit.name);
        let first = ELSEWHERE.into_iter().find_map(last);
        reading.sandbox.elsewhere = first.map(|(_, setting)| said(setting));
        let others = UNJUDGED.into_iter().filter_map(last);
        reading
            .sandbox
            .unjudged
            .extend(others.map(|(_, setting)| said(setting)));
        if let Some(at) = last("ProtectSystem") {
            reading.system(at);
        }
        if let Some(at) = last("ProtectHome") {
            reading.home(at);
        }
        if let Some(at) = last("PrivateTmp").filter(|(_, s)| !no(&s.value)) {
            reading.whole(at, &["/tmp", "/var/tmp"], Made::Another);
        }
        for (key, made) in [
            ("ReadWritePaths", Made::Writable),
            ("ReadOnlyPaths", Made::ReadOnly),
            ("InaccessiblePaths", Made::Inaccessible),
            ("TemporaryFileSystem", Made::Another),
            ("BindPaths", Made::Another),
            ("BindReadOnlyPaths", Made::Another),
        ] {
            for at in settings.iter().filter(|(_, s)| s.key == key) {
                reading.listed(at, made);
            }
        }
        for (key, above) in OWN_FOLDERS {
            for at in settings.iter().filter(|(_, s)| s.key == key) {
                reading.own(at, above);
            }
        }
        reading.sandbox
    }

    /// What a link-free path is to the process, itself; none where it is what it is on the host. Whoever asks of a path asks
    /// of the folders before it too: what lies below a hidden one is gone, whatever is said of it.
    pub fn part(&self, path: &Path) -> Option<&Part> {
        let over = self
            .parts
            .iter()
            .filter(|part| path.starts_with(&part.path));
        over.min_by_key(|part| {
            let depth = part.path.components().count();
            (std::cmp::Reverse(depth), part.made)
        })
    }

    /// The setting that makes a path a mount of its own, over which nothing can be renamed. What says no more than the
    /// setting for a folder above it, systemd leaves out.
    pub fn mounted(&self, path: &Path) -> Option<&Part> {
        let part = self.parts.iter().find(|part| part.path == path)?;
        let above = path.parent().and_then(|folder| self.part(folder));
        above
            .is_none_or(|above| above.made != part.made)
            .then_some(part)
    }
}

/// The settings of `[Service]` that hold, each with the file that it is in.
fn settings(unit: &Unit) -> Vec<(&Path, Setting)> {
    let files = std::iter::once(&unit.fragment).chain(&unit.drop_ins);
    let mut settings: Vec<(&Path, Setting)> = Vec::new();
    for (file, text) in files.zip(unit.texts()) {
        // A text that can't be read is a finding of its own.
        for setting in UnitText::parse(text).unwrap_or_default().settings {
            if setting.section != "Service" {
                continue;
            }
            match setting.value.is_empty() {
                true => settings.retain(|(_, s)| s.key != setting.key),
                false => settings.push((file, setting)),
            }
        }
    }
    settings
}

struct Reading<'a> {
    unit: &'a Unit,
    sight: &'a Sight<'a>,
    sandbox: Sandbox,
}

impl Reading<'_> {
    fn add(&mut self, (file, setting): &(&Path, Setting), path: &Path, made: Made, said: &str) {
        // What isn't there, or can't be looked at, is taken for itself.
        let way = self.sight.way(path).ok();
        let path = way
            .and_then(|way| way.end)
            .unwrap_or_else(|| path.to_owned());
        self.sandbox.parts.push(Part {
            path,
            made,
            setting: format!("{}={said}", setting.key),
            at: file.to_path_buf(),
            line: setting.line,
        });
    }

    fn whole(&mut self, at: &(&Path, Setting), paths: &[&str], made: Made) {
        let said = at.1.value.clone();
        for path in paths {
            self.add(at, Path::new(path), made, &said);
        }
    }

    fn unknown(&mut self, setting: &Setting) {
        let said = format!("{}={} of {}", setting.key, setting.value, self.unit.name);
        self.sandbox.unjudged.push(said);
    }

    fn system(&mut self, at: &(&Path, Setting)) {
        let value = at.1.value.as_str();
        match value {
            "strict" => {
                self.whole(at, &["/"], Made::ReadOnly);
                let left = ["/proc", "/sys", "/dev", "/home", "/root", "/run/user"];
                self.whole(at, &left, Made::Writable);
            }
            "full" => self.whole(at, &["/usr", "/boot", "/efi", "/etc"], Made::ReadOnly),
            _ if yes(value) => self.whole(at, &["/usr", "/boot", "/efi"], Made::ReadOnly),
            _ if no(value) => {}
            _ => self.unknown(&at.1),
        }
    }

    fn home(&mut self, at: &(&Path, Setting)) {
        let value = at.1.value.as_str();
        let made = match value {
            "read-only" => Made::ReadOnly,
            "tmpfs" => Made::Another,
            _ if yes(value) => Made::Inaccessible,
            _ if no(value) => return,
            _ => return self.unknown(&at.1),
        };
        self.whole(at, &["/home", "/root", "/run/user"], made);
    }

    /// A list of paths, `-` before those that may be missing, `+` before those below a root of the unit's own.
    fn listed(&mut self, at: &(&Path, Setting), made: Made) {
        let Ok(words) = split(&at.1.value) else {
            return self.unknown(&at.1);
        };
        for word in words {
            let path = word.trim_start_matches(['-', '+']);
            // Of `FROM:TO:OPTIONS` the second, of `PATH:OPTIONS` the first is the place.
            let path = match at.1.key.as_str() {
                "TemporaryFileSystem" => path.split(':').next(),
                "BindPaths" | "BindReadOnlyPaths" => {
                    let mut parts = path.split(':');
                    let from = parts.next();
                    parts.next().filter(|to| !to.is_empty()).or(from)
                }
                _ => Some(path),
            };
            match expand(path.unwrap_or_default(), &self.unit.name) {
                Ok(path) if path.starts_with('/') => {
                    self.add(at, Path::new(&path), made, &word);
                }
                _ => self.unknown(&at.1),
            }
        }
    }

    /// The unit's own folders, each with the names that lead to it (`NAME:LINK`).
    fn own(&mut self, at: &(&Path, Setting), above: &str) {
        let Ok(words) = split(&at.1.value) else {
            return self.unknown(&at.1);
        };
        for word in words {
            let name = word.split(':').next().unwrap_or_default();
            match expand(name, &self.unit.name) {
                Ok(name) => self.add(at, &Path::new(above).join(name), Made::Writable, &word),
                Err(_) => self.unknown(&at.1),
            }
        }
    }
}
