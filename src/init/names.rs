//! What a new signer's files are called: alone as `tmkms init` lays them out, in a fleet as the fleet's other signers are.

use std::path::{Path, PathBuf};

use tmkms_core::chain_id::ChainId;

use crate::paths::NewPath;
use crate::unit::UnitName;

/// A new signer's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub unit: UnitName,
    pub config: NewPath,
    /// Of the consensus key, where it is in a file.
    pub key: NewPath,
    pub connection: NewPath,
    pub state: NewPath,
}

/// What the command line says of names; what it doesn't follows from the rest. Paths may be relative to the home.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `01` in a fleet of `tmkms-01`, `tmkms-02`, ….
    pub name: Option<String>,
    pub unit: Option<UnitName>,
    pub config: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub connection: Option<PathBuf>,
    pub state: Option<PathBuf>,
}

/// Another signer of the fleet: its files, by their paths as its config has them.
#[derive(Clone, Debug)]
pub struct Sibling {
    pub unit: UnitName,
    pub config: PathBuf,
    pub key: Option<PathBuf>,
    pub connection: Option<PathBuf>,
    pub state: PathBuf,
}

impl Sibling {
    /// What the sibling is called in its fleet: the digits at the end of its unit's name.
    fn name(&self) -> Option<String> {
        let signer = self.unit.signer();
        let stem = signer.trim_end_matches(|c: char| c.is_ascii_digit());
        let name = &signer[stem.len()..];
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// The files of a new signer.
///
/// # Errors
/// A name that is none, or a path that a unit can't hold.
pub fn choose(
    home: &Path,
    chain: &ChainId,
    given: &Given,
    fleet: &[Sibling],
) -> Result<Names, String> {
    let name = given.name.as_deref();
    if let Some(name) = name {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 32 || !name.chars().all(fits) {
            return Err(format!(
                "--name {name:?} is none: 1 to 32 letters, digits, - and _ are"
            ));
        }
    }
    let sibling = name.and_then(|_| fleet.iter().find(|s| s.name().is_some()));
    let like = |path: &Path| -> Option<PathBuf> {
        let theirs = sibling?.name()?;
        let file = renamed(path.file_name()?.to_str()?, &theirs, name?)?;
        Some(path.with_file_name(file))
    };
    let path = |given: &Option<PathBuf>, sibling: Option<PathBuf>, alone: &str, named: String| {
        let path = match (given, sibling, name) {
            (Some(given), _, _) => home.join(given),
            (None, Some(sibling), _) => sibling,
            (None, None, None) => home.join(alone),
            (None, None, Some(_)) => home.join(named),
        };
        NewPath::try_from(path).map_err(|e| e.to_string())
    };
    let n = name.unwrap_or_default();
    let unit = match (&given.unit, name) {
        (Some(unit), _) => unit.clone(),
        (None, None) => unit_name("tmkms")?,
        (None, Some(name)) => {
            let like = sibling
                .and_then(|s| renamed(&s.unit.signer(), &s.name()?, name))
                .unwrap_or_else(|| format!("tmkms-{name}"));
            unit_name(&like)?
        }
    };
    Ok(Names {
        unit,
        config: path(
            &given.config,
            sibling.and_then(|s| like(&without_revision(&s.config))),
            "tmkms.toml",
            format!("tmkms.{n}.toml"),
        )?,
        key: path(
            &given.key,
            sibling.and_then(|s| like(s.key.as_deref()?)),
            "secrets/consensus.key",
            format!("consensus{n}.key"),
        )?,
        connection: path(
            &given.connection,
            sibling.and_then(|s| like(s.connection.as_deref()?)),
            "secrets/kms-identity.key",
            format!("secret_connection{n}.key"),
        )?,
        state: path(
            &given.state,
            sibling.and_then(|s| like(&without_revision(&s.state))),
            &format!("state/{chain}-consensus.json"),
            format!("{}_priv_validator_state{n}.json", chain.name()),
        )?,
    })
}

fn unit_name(stem: &str) -> Result<UnitName, String> {
    let name = format!("{stem}.service");
    name.parse().map_err(|e| format!("{e:#}"))
}

/// A path without the `.vN` that an upgrade gave it: a new signer begins the row.
fn without_revision(path: &Path) -> PathBuf {
    let renamed = || {
        let name = path.file_name()?.to_str()?;
        let (stem, extension) = name.rsplit_once('.')?;
        let (stem, revision) = stem.rsplit_once(".v")?;
        let digits = !revision.is_empty() && revision.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| path.with_file_name(format!("{stem}.{extension}")))
    };
    renamed().unwrap_or_else(|| path.to_owned())
}

/// A name with its last mention of one signer's number made another's.
fn renamed(name: &str, from: &str, to: &str) -> Option<String> {
    let at = name.rfind(from)?;
    Some(format!("{}{to}{}", &name[..at], &name[at + from.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(names: &Names) -> [String; 5] {
        [
            names.unit.to_string(),
            names.config.to_string(),
            names.key.to_string(),
            names.connection.to_string(),
            names.state.to_string(),
        ]
    }

    fn chosen(home: &str, given: Given, fleet: &[Sibling]) -> [String; 5] {
        let chain = "commercio-3".parse().unwrap();
        shown(&choose(Path::new(home), &chain, &given, fleet).unwrap())
    }

    #[test]
    fn one_more_is_called_as_the_others_are() {
        let sibling = |n: &str| Sibling {
            unit: format!("kms{n}.v3.service").parse().unwrap(),
            config: format!("/kms/conf.{n}.v3.toml").into(),
            key: Some(format!("/keys/{n}.key").into()),
            connection: Some(format!("/keys/conn-{n}").into()),
            state: format!("/kms/state{n}.v3.json").into(),
        };
        let given = |name: &str| Given {
            name: Some(name.into()),
            ..Given::default()
        };
        assert_eq!(
            chosen("/kms", given("12"), &[sibling("07"), sibling("08")]),
            [
                "kms12.service",
                "/kms/conf.12.toml",
                "/keys/12.key",
                "/keys/conn-12",
                "/kms/state12.json"
            ]
        );
        assert_eq!(
            chosen("/kms", given("01"), &[]),
            [
                "tmkms-01.service",
                "/kms/tmkms.01.toml",
                "/kms/consensus01.key",
                "/kms/secret_connection01.key",
                "/kms/commercio_priv_validator_state01.json"
            ]
        );
    }

    #[test]
    fn one_alone_is_laid_out_as_tmkms_does() {
        assert_eq!(
            chosen("/kms", Given::default(), &[]),
            [
                "tmkms.service",
                "/kms/tmkms.toml",
                "/kms/secrets/consensus.key",
                "/kms/secrets/kms-identity.key",
                "/kms/state/commercio-3-consensus.json"
            ]
        );
        let chain = "commercio-3".parse().unwrap();
        for bad in ["a b", "", "../x", "01%i"] {
            let given = Given {
                name: Some(bad.into()),
                ..Given::default()
            };
            assert!(
                choose(Path::new("/kms"), &chain, &given, &[]).is_err(),
                "{bad}"
            );
        }
        for home in ["kms", "/kms/..", "/k ms", "/k%ms", "/k\nms"] {
            assert!(
                choose(Path::new(home), &chain, &Given::default(), &[]).is_err(),
                "{home}"
            );
        }
    }
}
