//! What a unit's own view of the filesystem means for a move: whether tmkms opens the files that kmsctl looks at, and
//! whether the new unit can start before its state file is there. Pure, from the unit's text and its drop-ins'.
//!
//! systemd.exec(5), systemd.unit(5).

use std::path::{Path, PathBuf};

use crate::unit::words::{expand, split};
use crate::unit::{Setting, UnitName, UnitText};

/// A setting that stands in a move's way.
#[derive(Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub path: PathBuf,
    pub line: usize,
    pub message: String,
    pub remedy: String,
}

/// Settings whose path must be there for the unit to start, unless it is led by `-`.
const MOUNTS: [&str; 7] = [
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
];
/// Settings that put other files in the place of the host's.
const SHOWN: [&str; 3] = ["BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem"];
/// Conditions and assertions that fail without their path.
const CHECKS: [&str; 4] = [
    "PathExists",
    "PathExistsGlob",
    "FileNotEmpty",
    "PathIsReadWrite",
];

/// A setting that holds.
struct Seen<'a> {
    path: &'a Path,
    setting: Setting,
    /// Of a setting that shows other files: its words, with what they mean inside the unit.
    shown: Vec<String>,
}

/// Looks for the first obstacle in a unit's texts, the unit's first and its drop-ins after it in systemd's order.
///
/// `opened` are the files that tmkms opens by name; `fresh` those that the new signer's first start makes, each after
/// the name that stands for it in the texts.
pub fn obstacle(
    unit: &UnitName,
    texts: &[(&Path, &str)],
    opened: &[PathBuf],
    fresh: &[(&Path, &Path)],
) -> Option<Obstacle> {
    let settings = match effective(unit, texts) {
        Ok(settings) => settings,
        Err(unread) => return Some(*unread),
    };
    settings.iter().find_map(|seen| {
        let other = elsewhere(seen, &settings, opened).map(|(file, what)| {
            (
                format!("{what}: inside the unit {} is another file than outside", file.display()),
                "let config and state file have one place inside and outside of the unit, then plan again".to_owned(),
            )
        });
        let (message, remedy) = other.or_else(|| too_early(&seen.setting, fresh))?;
        Some(Obstacle {
            path: seen.path.to_path_buf(),
            line: seen.setting.line,
            message,
            remedy,
        })
    })
}

/// The settings that hold: an empty assignment drops what came before.
///
/// # Errors
/// One that shows other files, and can't be read: then nothing says which files tmkms sees.
fn effective<'a>(
    unit: &UnitName,
    texts: &[(&'a Path, &str)],
) -> Result<Vec<Seen<'a>>, Box<Obstacle>> {
    let mut settings: Vec<Seen<'a>> = Vec::new();
    for (path, text) in texts {
        // A text that can't be read is refused where it is edited.
        for setting in UnitText::parse(text).unwrap_or_default().settings {
            if setting.value.is_empty() {
                settings.retain(|s| {
                    (&s.setting.section, &s.setting.key) != (&setting.section, &setting.key)
                });
                continue;
            }
            let mut shown = Vec::new();
            if SHOWN.contains(&setting.key.as_str()) {
                shown = mounts(&setting.value, unit).map_err(|why| {
                    let message = format!(
                        "{}= can't be read ({why}), so nothing says which files tmkms sees inside the unit",
                        setting.key
                    );
                    let remedy = "write out the paths plainly, `systemctl daemon-reload`, then plan again";
                    Box::new(Obstacle {
                        path: path.to_path_buf(),
                        line: setting.line,
                        message,
                        remedy: remedy.to_owned(),
                    })
                })?;
            }
            settings.push(Seen {
                path,
                setting,
                shown,
            });
        }
    }
    Ok(settings)
}

/// The words of a setting that shows other files. Where the inner path can't be told, neither can what is hidden by it;
/// an outer one that can't is some other place.
fn mounts(value: &str, unit: &UnitName) -> Result<Vec<String>, String> {
    let word = |word: String| {
        let mut parts: Vec<String> = word.split(':').map(str::to_owned).collect();
        let inner = usize::from(parts.len() > 1 && !parts[1].is_empty());
        parts[inner] = expand(&parts[inner], unit)?;
        if inner == 1 {
            parts[0] = expand(&parts[0], unit).unwrap_or_else(|_| parts[0].clone());
        }
        Ok(parts.join(":"))
    };
    split(value)?.into_iter().map(word).collect()
}

/// A file that the setting gives another meaning inside the unit, and how.
fn elsewhere<'a>(
    seen: &Seen<'_>,
    all: &[Seen<'_>],
    opened: &'a [PathBuf],
) -> Option<(&'a PathBuf, String)> {
    let setting = &seen.setting;
    let below = |folder: &str| opened.iter().find(|file| file.starts_with(folder));
    let said = |what: &str| format!("{}={what}", setting.key);
    match (setting.key.as_str(), setting.value.as_str()) {
        ("RootDirectory" | "RootImage", value) => Some((opened.first()?, said(value))),
        ("BindPaths" | "BindReadOnlyPaths", _) => seen.shown.iter().find_map(|word| {
            let (from, to) = bind(word);
            (from != to).then(|| Some((below(to)?, said(word))))?
        }),
        ("TemporaryFileSystem", _) => seen.shown.iter().find_map(|word| {
            let folder = word.split(':').next().unwrap_or_default();
            hidden(folder, all, opened).map(|file| (file, said(word)))
        }),
        ("ProtectHome", "tmpfs") => ["/home", "/root", "/run/user"]
            .into_iter()
            .find_map(|folder| hidden(folder, all, opened))
            .map(|file| (file, said("tmpfs"))),
        ("PrivateTmp", value) if value != "no" && value != "false" && value != "0" => {
            let file = below("/tmp").or_else(|| below("/var/tmp"))?;
            Some((file, said(value)))
        }
        _ => None,
    }
}

/// A file below an empty folder of the unit's own, and not bound back into it.
fn hidden<'a>(folder: &str, all: &[Seen<'_>], opened: &'a [PathBuf]) -> Option<&'a PathBuf> {
    let bound_back = |file: &Path| {
        let binds = all
            .iter()
            .filter(|s| s.setting.key == "BindPaths" || s.setting.key == "BindReadOnlyPaths");
        binds.flat_map(|s| &s.shown).any(|word| {
            let (from, to) = bind(word);
            from == to && Path::new(to).starts_with(folder) && file.starts_with(to)
        })
    };
    opened
        .iter()
        .find(|file| file.starts_with(folder) && !bound_back(file))
}

/// The outer and the inner path of a bind mount.
fn bind(word: &str) -> (&str, &str) {
    let mut parts = word.trim_start_matches(['-', '+']).split(':');
    let from = parts.next().unwrap_or_default();
    (
        from,
        parts.next().filter(|to| !to.is_empty()).unwrap_or(from),
    )
}

/// Why the new unit wouldn't start where a file is made by its first start only.
fn too_early(setting: &Setting, fresh: &[(&Path, &Path)]) -> Option<(String, String)> {
    let named = |word: &str| {
        let mut same = fresh.iter().filter(|(name, _)| *name == Path::new(word));
        same.next().map(|(_, file)| *file)
    };
    let key = setting.key.as_str();
    if MOUNTS.contains(&key) {
        // One that can't be split keeps nobody from starting for want of a state file's name.
        let words = split(&setting.value).unwrap_or_default();
        let needed = words.into_iter().find_map(|word| {
            let must = !word.starts_with('-');
            must.then(|| named(bind(&word).0))?
        })?;
        let folder = needed
            .parent()
            .unwrap_or(Path::new("/"))
            .display()
            .to_string();
        return Some((
            format!(
                "{key} needs {} to be there, which the new signer's first start makes: the unit would never start",
                needed.display()
            ),
            format!(
                "name the folder {folder} instead, which tmkms must write to anyway, or put `-` before the path"
            ),
        ));
    }
    let check = key
        .strip_prefix("Condition")
        .or_else(|| key.strip_prefix("Assert"))?;
    let path = setting.value.trim_start_matches('|');
    let needed = CHECKS.contains(&check).then(|| named(path))??;
    Some((
        format!(
            "{key} asks for {}, which the new signer's first start makes: the unit would never start",
            needed.display()
        ),
        "take the line away; kmsctl looks after the state files itself".into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> UnitName {
        "s.service".parse().unwrap()
    }

    fn found(settings: &str) -> Option<(usize, String)> {
        let text = format!("[Service]\n{settings}\n");
        let opened = ["/k/a.toml", "/s/a.json", "/s/a.v3.json"].map(PathBuf::from);
        let new = Path::new("/s/a.v3.json");
        let fresh = [(Path::new("/s/a.json"), new), (new, new)];
        let texts = [(Path::new("/u/a.service"), text.as_str())];
        obstacle(&unit(), &texts, &opened, &fresh).map(|o| (o.line, o.message))
    }

    #[test]
    fn what_shows_another_file_inside_than_outside() {
        for bad in [
            "BindPaths=/x /d:/s",
            "BindPaths=/d/a.json:/s/a.json:rbind",
            "BindReadOnlyPaths=\"-/d/a.toml:/k/a.toml\"",
            "RootDirectory=/jail",
            "TemporaryFileSystem=/s:ro",
            "BindPaths=/d:/%N",
            "BindPaths=/d/%H:/s",
            "TemporaryFileSystem=/%p",
            "TemporaryFileSystem=/s\nBindPaths=/s/other",
        ] {
            let (_, message) = found(bad).unwrap_or_else(|| panic!("{bad}"));
            assert!(message.contains("another file"), "{message}");
        }
        for good in [
            "BindPaths=/s",
            "BindPaths=/s:/s",
            "BindPaths=/d:/elsewhere",
            "BindPaths=/d:/s\nBindPaths=",
            "TemporaryFileSystem=/s\nBindPaths=/s",
            "PrivateTmp=yes",
            "ProtectHome=tmpfs",
        ] {
            assert_eq!(found(good), None, "{good}");
        }
    }

    #[test]
    fn what_can_t_be_told_stops() {
        for bad in [
            "BindPaths=/d:/%H",
            "BindPaths=\"/d:/s",
            "BindReadOnlyPaths=/d:/\\x73",
            "TemporaryFileSystem=/%m",
        ] {
            let (_, message) = found(bad).unwrap_or_else(|| panic!("{bad}"));
            assert!(message.contains("nothing says which files"), "{message}");
        }
        assert_eq!(found("BindPaths=/d/%H:/elsewhere"), None);
    }

    #[test]
    fn folders_that_a_unit_has_of_its_own() {
        let seen = |setting: &str, file: &str| {
            let text = format!("[Service]\n{setting}\n");
            let texts = [(Path::new("/u/a.service"), text.as_str())];
            obstacle(&unit(), &texts, &[PathBuf::from(file)], &[]).is_some()
        };
        assert!(seen("PrivateTmp=yes", "/var/tmp/a.json"));
        assert!(!seen("PrivateTmp=no", "/tmp/a.json"));
        assert!(seen("ProtectHome=tmpfs", "/root/a.json"));
        assert!(!seen(
            "ProtectHome=tmpfs\nBindPaths=/root/kms",
            "/root/kms/a.json"
        ));
    }

    #[test]
    fn what_needs_a_state_file_before_its_first_start() {
        for bad in [
            "Nice=1\nReadWritePaths=/x /s/a.v3.json",
            "Nice=1\nBindPaths=/s/a.json",
            "[Unit]\nConditionPathExists=/s/a.v3.json",
            "[Unit]\nAssertFileNotEmpty=|/s/a.v3.json",
        ] {
            let (line, message) = found(bad).unwrap_or_else(|| panic!("{bad}"));
            assert_eq!(line, 3);
            assert!(message.contains("first start"), "{message}");
        }
        for good in [
            "ReadWritePaths=-/s/a.v3.json /s",
            "ReadWritePaths=/s/b.json",
            "[Unit]\nConditionPathExists=!/s/a.v3.json",
            "[Unit]\nConditionPathExists=/k/a.toml",
        ] {
            assert_eq!(found(good), None, "{good}");
        }
    }
}
