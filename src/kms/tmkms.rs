//! tmkms: how a unit starts it, which config and state files follow from that.

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

/// Where the config's path stands in an argv, if it stands there: the word's index, and its bytes in the word.
pub fn config_argument(argv: &[String]) -> Option<(usize, &str)> {
    let start = argv.iter().position(|a| a == "start")?;
    let mut found = None;
    let mut words = argv.iter().enumerate().skip(start + 1);
    while let Some((at, word)) = words.next() {
        if word == "-c" || word == "--config" {
            found = words.next().map(|(at, word)| (at, word.as_str()));
        } else if let Some(path) = word.strip_prefix("--config=") {
            found = Some((at, path));
        } else if let Some(path) = word.strip_prefix("-c").filter(|_| !word.starts_with("--")) {
            found = Some((at, path));
        }
    }
    found
}

/// The config that an argv starts tmkms on, made absolute through the process's working directory.
pub fn config_path(argv: &[String], variable: Option<&str>, directory: &Path) -> PathBuf {
    let named = config_argument(argv)
        .map(|(_, path)| path)
        .or(variable)
        .unwrap_or(DEFAULT_CONFIG);
    absolute(named, directory)
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
        let at = |line: &str, variable| config_path(&argv(line), variable, Path::new("/home/k"));
        assert_eq!(
            at("/b/tmkms start -c /x/a.toml", None),
            Path::new("/x/a.toml")
        );
        assert_eq!(
            at("/b/tmkms start --config=a.toml", None),
            Path::new("/home/k/a.toml")
        );
        assert_eq!(
            at("/b/tmkms start -v -c ./a.toml", None),
            Path::new("/home/k/a.toml")
        );
        assert_eq!(at("/b/tmkms start", Some("/v.toml")), Path::new("/v.toml"));
        assert_eq!(at("/b/tmkms start", None), Path::new("/home/k/tmkms.toml"));
    }

    #[test]
    fn only_a_start_is_a_signer() {
        assert!(is_start(&argv("/b/tmkms start -c x")));
        assert!(is_start(&argv("/b/tmkms-0.12.2 start")));
        assert!(!is_start(&argv("/b/tmkms version")));
        assert!(!is_start(&argv("/b/other start -c /tmkms.toml")));
    }
}
