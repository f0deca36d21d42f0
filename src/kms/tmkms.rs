//! tmkms: how a unit starts it, which config and state files follow from that.

pub mod last_words;

use std::path::{Component, Path, PathBuf};

/// The variable that names the config where `-c` doesn't (tmkms' command line, all versions).
pub const CONFIG_VARIABLE: &str = "TMKMS_CONFIG_FILE";
/// The config where nothing names one, in the working directory.
const DEFAULT_CONFIG: &str = "tmkms.toml";

/// Whether an argv runs `tmkms start`.
pub fn is_start(argv: &[String]) -> bool {
    let Some(program) = argv.first().and_then(|p| Path::new(p).file_name()) else {
        return false;
    };
    program.to_string_lossy().to_lowercase().contains("tmkms")
        && argv.iter().skip(1).any(|a| a == "start")
}

/// The place of a word that no tmkms takes, or not every tmkms in the same way: what it would start on can't be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownWord(pub usize);

/// Where the config's path stands in an argv, if it stands there: the word's index, and its bytes in the word.
///
/// `start` takes `-c PATH` and `-v`, long or short, joined or not (run with 0.12.2). `-c=PATH` isn't read alike by all
/// versions. A word that a variable stands for, and that isn't put in yet, may be anything.
///
/// # Errors
/// A word that kmsctl doesn't know, a missing path, a second `-c`.
pub fn config_argument(argv: &[String]) -> Result<Option<(usize, &str)>, UnknownWord> {
    if argv.get(1).is_none_or(|word| word != "start") {
        return Err(UnknownWord(1));
    }
    let mut found = None;
    let mut words = argv.iter().enumerate().skip(2);
    while let Some((at, word)) = words.next() {
        if word == "--verbose" || word.starts_with('$') {
            continue;
        }
        let path = match word.strip_prefix("--") {
            Some("config") => "",
            Some(long) if long.starts_with("config=") => &long["config".len()..],
            Some(_) => return Err(UnknownWord(at)),
            None => {
                let flags = word.strip_prefix('-').ok_or(UnknownWord(at))?;
                let flags = flags.trim_start_matches('v');
                match flags.strip_prefix('c') {
                    _ if flags.is_empty() && word != "-" => continue,
                    Some(path) if !path.starts_with('=') => path,
                    _ => return Err(UnknownWord(at)),
                }
            }
        };
        let (place, path) = if !path.is_empty() {
            (at, path.strip_prefix('=').unwrap_or(path))
        } else {
            let (at, path) = words.next().ok_or(UnknownWord(at))?;
            (at, path.as_str())
        };
        if found.is_some() || path.is_empty() || path.starts_with('-') {
            return Err(UnknownWord(place));
        }
        found = Some((place, path));
    }
    Ok(found)
}

/// The config that an argv starts tmkms on, made absolute through the process's working directory.
///
/// # Errors
/// As [`config_argument`].
pub fn config_path(
    argv: &[String],
    variable: Option<&str>,
    directory: &Path,
) -> Result<PathBuf, UnknownWord> {
    let named = config_argument(argv)?
        .map(|(_, path)| path)
        .or(variable)
        .unwrap_or(DEFAULT_CONFIG);
    Ok(absolute(named, directory))
}

/// A path as the process sees it: joined to its working directory, `.` taken out.
pub fn absolute(path: &str, directory: &Path) -> PathBuf {
    directory
        .join(path)
        .components()
        .filter(|c| *c != Component::CurDir)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_config_is_found_however_it_is_named() {
        let at = |line: &str, variable| {
            config_path(&argv(line), variable, Path::new("/home/k")).unwrap()
        };
        for named in [
            "-c /x/a.toml",
            "-c/x/a.toml",
            "-v -c /x/a.toml",
            "-vc /x/a.toml",
            "-vc/x/a.toml",
            "--config /x/a.toml --verbose",
            "--config=/x/a.toml -v",
        ] {
            let line = format!("/b/tmkms start {named}");
            assert_eq!(at(&line, Some("/v.toml")), Path::new("/x/a.toml"), "{line}");
        }
        assert_eq!(
            at("/b/tmkms start -v -c ./a.toml", None),
            Path::new("/home/k/a.toml")
        );
        assert_eq!(at("/b/tmkms start", Some("/v.toml")), Path::new("/v.toml"));
        assert_eq!(
            at("/b/tmkms start -v", None),
            Path::new("/home/k/tmkms.toml")
        );
    }

    #[test]
    fn a_word_that_no_tmkms_takes_is_never_passed_over() {
        for (line, at) in [
            ("/b/tmkms -v start -c a", 1),
            ("/b/tmkms help start", 1),
            ("/b/tmkms start a", 2),
            ("/b/tmkms start --conf a", 2),
            ("/b/tmkms start --configs=a", 2),
            ("/b/tmkms start -c=a", 2),
            ("/b/tmkms start -hc a", 2),
            ("/b/tmkms start -c", 2),
            ("/b/tmkms start -c -v", 3),
            ("/b/tmkms start --config=", 2),
            ("/b/tmkms start -c a -c b", 5),
            ("/b/tmkms start -c a -- b", 4),
            ("/b/tmkms start -", 2),
            ("/b/tmkms start -c a b", 4),
        ] {
            assert_eq!(config_argument(&argv(line)), Err(UnknownWord(at)), "{line}");
        }
    }

    #[test]
    fn only_a_start_is_a_signer() {
        assert!(is_start(&argv("/b/tmkms start -c x")));
        assert!(is_start(&argv("/b/tmkms-0.12.2 start")));
        assert!(!is_start(&argv("/b/tmkms version")));
        assert!(!is_start(&argv("/b/other start -c /tmkms.toml")));
    }
}
