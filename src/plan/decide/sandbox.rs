//! What a unit's own view of the filesystem means for a move: whether tmkms opens the files that kmsctl looks at, and
//! whether the new unit can start before its state file is there. Pure, from the unit's text and its drop-ins'.
//!
//! systemd.exec(5), systemd.unit(5).

use std::path::{Path, PathBuf};

use crate::unit::{Setting, UnitText, words as unit_words};

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
/// Conditions and assertions that fail without their path.
const CHECKS: [&str; 4] = [
    "PathExists",
    "PathExistsGlob",
    "FileNotEmpty",
    "PathIsReadWrite",
];

/// Looks for the first obstacle in a unit's texts, the unit's first and its drop-ins after it in systemd's order.
///
/// `opened` are the files that tmkms opens by name; `fresh` those that the new signer's first start makes, each after
/// the name that stands for it in the texts.
pub fn obstacle(
    texts: &[(&Path, &str)],
    opened: &[PathBuf],
    fresh: &[(&Path, &Path)],
) -> Option<Obstacle> {
    let settings = effective(texts);
    settings.iter().find_map(|(path, setting)| {
        let other = elsewhere(setting, &settings, opened).map(|(file, what)| {
            (
                format!("{what}: inside the unit {} is another file than outside", file.display()),
                "let config and state file have one place inside and outside of the unit, then plan again".to_owned(),
            )
        });
        let (message, remedy) = other.or_else(|| too_early(setting, fresh))?;
        Some(Obstacle {
            path: path.to_path_buf(),
            line: setting.line,
            message,
            remedy,
        })
    })
}

/// The settings that hold: an empty assignment drops what came before.
fn effective<'a>(texts: &[(&'a Path, &str)]) -> Vec<(&'a Path, Setting)> {
    let mut settings: Vec<(&Path, Setting)> = Vec::new();
    for (path, text) in texts {
        // A text that can't be read is refused where it is edited.
        for setting in UnitText::parse(text).unwrap_or_default().settings {
            if setting.value.is_empty() {
                settings.retain(|(_, s)| (&s.section, &s.key) != (&setting.section, &setting.key));
            } else {
                settings.push((path, setting));
            }
        }
    }
    settings
}

/// A file that the setting gives another meaning inside the unit, and how.
fn elsewhere<'a>(
    setting: &Setting,
    all: &[(&Path, Setting)],
    opened: &'a [PathBuf],
) -> Option<(&'a PathBuf, String)> {
    let below = |folder: &str| opened.iter().find(|file| file.starts_with(folder));
    let said = |what: &str| format!("{}={what}", setting.key);
    match (setting.key.as_str(), setting.value.as_str()) {
        ("RootDirectory" | "RootImage", value) => Some((opened.first()?, said(value))),
        ("BindPaths" | "BindReadOnlyPaths", value) => words(value).find_map(|word| {
            let (from, to) = bind(&word);
            (from != to).then(|| Some((below(to)?, said(&word))))?
        }),
        ("TemporaryFileSystem", value) => words(value).find_map(|word| {
            let folder = word.split(':').next().unwrap_or_default();
            hidden(folder, all, opened).map(|file| (file, said(&word)))
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
fn hidden<'a>(
    folder: &str,
    all: &[(&Path, Setting)],
    opened: &'a [PathBuf],
) -> Option<&'a PathBuf> {
    let bound_back = |file: &Path| {
        let binds = all
            .iter()
            .filter(|(_, s)| s.key == "BindPaths" || s.key == "BindReadOnlyPaths");
        binds.flat_map(|(_, s)| words(&s.value)).any(|word| {
            let (from, to) = bind(&word);
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
        let needed = words(&setting.value).find_map(|word| {
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

/// The words of a value; one that can't be split is refused where it matters.
fn words(value: &str) -> impl Iterator<Item = String> {
    unit_words::split(value).unwrap_or_default().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(settings: &str) -> Option<(usize, String)> {
        let text = format!("[Service]\n{settings}\n");
        let opened = ["/k/a.toml", "/s/a.json", "/s/a.v3.json"].map(PathBuf::from);
        let new = Path::new("/s/a.v3.json");
        let fresh = [(Path::new("/s/a.json"), new), (new, new)];
        let texts = [(Path::new("/u/a.service"), text.as_str())];
        obstacle(&texts, &opened, &fresh).map(|o| (o.line, o.message))
    }

    #[test]
    fn what_shows_another_file_inside_than_outside() {
        for bad in [
            "BindPaths=/x /d:/s",
            "BindPaths=/d/a.json:/s/a.json:rbind",
            "BindReadOnlyPaths=\"-/d/a.toml:/k/a.toml\"",
            "RootDirectory=/jail",
            "TemporaryFileSystem=/s:ro",
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
    fn folders_that_a_unit_has_of_its_own() {
        let seen = |setting: &str, file: &str| {
            let text = format!("[Service]\n{setting}\n");
            let texts = [(Path::new("/u/a.service"), text.as_str())];
            obstacle(&texts, &[PathBuf::from(file)], &[]).is_some()
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
