//! How a unit starts a node: which config it runs on.

use std::path::Path;

/// The config that a command runs a node on; none where it runs no node: another program, or a command of oasis-node's
/// that isn't the node itself.
///
/// # Errors
/// A node whose config can't be told from the command.
pub fn config(argv: &[String]) -> Option<Result<&str, &'static str>> {
    let (program, words) = argv.split_first()?;
    let name = Path::new(program).file_name()?.to_str()?;
    if !name.contains("oasis-node") {
        return None;
    }
    let mut found = Vec::new();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if let Some(path) = word.strip_prefix("--config=") {
            found.push(path);
        } else if word == "--config" {
            match words.next() {
                Some(path) => found.push(path),
                None => return Some(Err("`--config` names no file")),
            }
        } else if word.starts_with('-') {
            // Its value, where it has one of its own.
            if !word.contains('=') {
                words.next_if(|value| !value.starts_with('-'));
            }
        } else {
            return None;
        }
    }
    Some(match found[..] {
        [path] => Ok(path),
        [] => Err("it is started without `--config`"),
        _ => Err("it is started with more than one `--config`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<Result<String, &'static str>> {
        let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
        config(&argv).map(|found| found.map(str::to_owned))
    }

    #[test]
    fn a_node_s_config_is_found_in_its_command() {
        for line in [
            "/node/bin/oasis-node --config /node/etc/config.yml",
            "/node/bin/oasis-node --config=/node/etc/config.yml",
            "/opt/oasis-node-26.1 --debug.x 1 --config /node/etc/config.yml --debug.y",
        ] {
            assert_eq!(of(line), Some(Ok("/node/etc/config.yml".into())), "{line}");
        }
        for line in [
            "/node/bin/oasis-node",
            "/node/bin/oasis-node --config",
            "/node/bin/oasis-node --config /a --config=/b",
        ] {
            assert!(matches!(of(line), Some(Err(_))), "{line}");
        }
        for line in [
            "/node/bin/oasis-node control status -a unix:/node/data/internal.sock",
            "/usr/bin/tmkms start --config /node/etc/config.yml",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }
}
