//! Rule S11, always: the secrets of a host's tree, and that none of them is in anything that kmsctl says or keeps.

use std::fs;
use std::path::Path;

use tmkms_core::config::Config;

/// The password that tests put into units, drop-ins, environment files and configs; made up.
pub const PASSWORD: &str = "correct-horse-battery-staple";
/// As long as the base64 of 32 bytes, and of 64.
const KEYS: [usize; 2] = [44, 88];

/// Every password and key below a host's root: inline ones of configs, password files, key files of both formats.
pub fn of(root: &Path) -> Vec<String> {
    let mut secrets = vec![PASSWORD.to_owned()];
    walk(root, &mut secrets);
    secrets.sort();
    secrets.dedup();
    secrets
}

fn walk(folder: &Path, secrets: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            // kmsctl's own folder: what is in there is looked through.
            if !path.ends_with("var/lib/kmsctl") {
                walk(&path, secrets);
            }
        } else if meta.is_file() && meta.len() < 1 << 20 {
            let text = fs::read(&path).unwrap_or_default();
            if let Ok(text) = String::from_utf8(text) {
                of_file(&path, &text, secrets);
            }
        }
    }
}

fn of_file(path: &Path, text: &str, secrets: &mut Vec<String>) {
    let trimmed = text.trim();
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    if KEYS.contains(&trimmed.len()) && trimmed.chars().all(base64) {
        secrets.push(trimmed.to_owned());
    }
    if path.file_name().is_some_and(|name| name == "password") && trimmed.len() >= 8 {
        secrets.push(trimmed.to_owned());
    }
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text)
        && let Some(key) = json["priv_key"]["value"].as_str()
    {
        secrets.push(key.to_owned());
    }
    let Ok(config) = Config::parse(text) else {
        return;
    };
    let passwords = config
        .yubihsm
        .into_iter()
        .filter_map(|hsm| hsm.auth.password_span);
    let tokens = config.fortanixdsm.into_iter().map(|dsm| dsm.api_key_span);
    let spans = passwords.chain(tokens);
    let inline = spans.map(|span| text[span].trim_matches(['"', '\'']).to_owned());
    secrets.extend(inline.filter(|secret| secret.len() >= 8));
}

#[track_caller]
pub fn assert_none(secrets: &[String], place: &str, bytes: &[u8]) {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(
            !found,
            "a secret of the host is in {place}: {}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[track_caller]
pub fn assert_none_below(secrets: &[String], folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            assert_none_below(secrets, &path);
        } else {
            let bytes = fs::read(&path).unwrap_or_default();
            assert_none(secrets, &path.display().to_string(), &bytes);
        }
    }
}
