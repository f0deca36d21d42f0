//! New names: where the suffix goes, and what it is.

use std::path::Path;

use tmkms_core::chain_id::ChainId;

use crate::unit::{UnitName, without_revision};

/// Bytes of a name, and of a path without its closing NUL, that Linux takes.
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4095;
/// What a file's temporary name adds: `.` and `.kmsctl-new`.
const TEMPORARY: usize = 12;
/// A unit's name with `.closed` is its fence's marker.
const LONGEST_UNIT: usize = LONGEST_NAME - TEMPORARY - 7;

/// The suffix of a move: the one given, or `v` and the new id's revision.
///
/// # Errors
/// An id without a revision, or a suffix that can't be part of a unit's name.
pub fn suffix(new_chain: &ChainId, given: Option<&str>) -> Result<String, String> {
    match given {
        Some(given) => {
            let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if given.is_empty() || given.len() > 32 || !given.bytes().all(legal) {
                return Err(format!(
                    "--suffix {given:?}: use 1 to 32 letters, digits, `-` or `_`; it becomes part of unit and file names"
                ));
            }
            Ok(given.to_owned())
        }
        None => new_chain.revision().map(|revision| format!("v{revision}")).ok_or_else(|| {
            format!(
                "the chain id {new_chain} has no revision (`name-3`) to name the new files by; give one with --suffix, \
                 for example `--suffix v3`"
            )
        }),
    }
}

/// A name without the suffix that an earlier move gave it: a revision's, or the very same one.
fn without_suffix<'a>(stem: &'a str, suffix: &str) -> &'a str {
    let head = stem.strip_suffix(suffix).and_then(|s| s.strip_suffix('.'));
    match head {
        Some(head) if !head.is_empty() => head,
        _ => without_revision(stem),
    }
}

/// A file's new name: the suffix before the extension, in place of an earlier `.vN`.
pub fn file_name(name: &str, suffix: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => {
            format!("{}.{suffix}.{extension}", without_suffix(stem, suffix))
        }
        _ => format!("{name}.{suffix}"),
    }
}

/// A path's new name, as the path was written: relative stays relative.
pub fn path(old: &str, suffix: &str) -> String {
    match old.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{}", file_name(name, suffix)),
        None => file_name(old, suffix),
    }
}

/// The new unit of a signer; an instance keeps its name, and its template gets the suffix.
///
/// # Errors
/// A name that systemd wouldn't take.
pub fn unit(old: &UnitName, suffix: &str) -> Result<UnitName, String> {
    let name = match old.stem().split_once('@') {
        Some((prefix, instance)) => {
            format!(
                "{}.{suffix}@{instance}.service",
                without_suffix(prefix, suffix)
            )
        }
        None => format!("{}.{suffix}.service", without_suffix(old.stem(), suffix)),
    };
    if name.len() > LONGEST_UNIT {
        return Err(format!(
            "the new unit's name would be {} bytes long; its fence's marker leaves room for {LONGEST_UNIT}",
            name.len()
        ));
    }
    name.parse::<UnitName>().map_err(|e| e.to_string())
}

/// A new config's name.
///
/// # Errors
/// One that a filesystem wouldn't take, with the temporary name that it is first written under.
pub fn fits(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().len();
    if name > LONGEST_NAME - TEMPORARY {
        return Err(format!(
            "the new config's name would be {name} bytes long, and at most {} can be written",
            LONGEST_NAME - TEMPORARY
        ));
    }
    let whole = path.as_os_str().len();
    if whole > LONGEST_PATH - TEMPORARY {
        return Err(format!(
            "the new config's path would be {whole} bytes long, and at most {} can be written",
            LONGEST_PATH - TEMPORARY
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_goes_before_the_extension_and_replaces_the_last_one() {
        for (old, new) in [
            ("tmkms.01.toml", "tmkms.01.v3.toml"),
            ("tmkms.01.v2.toml", "tmkms.01.v3.toml"),
            (
                "commercio_priv_validator_state01.json",
                "commercio_priv_validator_state01.v3.json",
            ),
            ("state", "state.v3"),
            (".hidden", ".hidden.v3"),
        ] {
            assert_eq!(file_name(old, "v3"), new);
        }
        assert_eq!(path("state/a.json", "v3"), "state/a.v3.json");
        let unit = |name: &str| {
            super::unit(&name.parse().unwrap(), "v4")
                .unwrap()
                .to_string()
        };
        assert_eq!(unit("tmkms-01.service"), "tmkms-01.v4.service");
        assert_eq!(unit("tmkms-01.v3.service"), "tmkms-01.v4.service");
        assert_eq!(unit("tmkms@01.service"), "tmkms.v4@01.service");
        assert_eq!(unit("tmkms.v3@01.v3.service"), "tmkms.v4@01.v3.service");
        assert_eq!(unit("tmkms@.service"), "tmkms.v4@.service");
    }

    #[test]
    fn a_suffix_that_is_there_already_is_not_given_twice() {
        assert_eq!(file_name("tmkms.01.b.toml", "b"), "tmkms.01.b.toml");
        assert_eq!(file_name("ab.toml", "b"), "ab.b.toml");
        assert_eq!(file_name(".b.toml", "b"), ".b.b.toml");
        let unit = |name: &str| unit(&name.parse().unwrap(), "b").unwrap().to_string();
        assert_eq!(unit("tmkms-01.b.service"), "tmkms-01.b.service");
        assert_eq!(unit("tmkms.b@01.service"), "tmkms.b@01.service");
        assert_eq!(unit("tmkms-01.v3.service"), "tmkms-01.b.service");
    }

    #[test]
    fn an_id_without_a_revision_asks_for_a_suffix() {
        let id = |id: &str| id.parse::<ChainId>().unwrap();
        assert_eq!(suffix(&id("commercio-3"), None).unwrap(), "v3");
        assert!(
            suffix(&id("mychain"), None)
                .unwrap_err()
                .contains("--suffix")
        );
        assert!(suffix(&id("commercio-3"), Some("../x")).is_err());
    }
}
