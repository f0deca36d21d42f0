//! What of a unit's text may be a secret, and the text without it: the one that plans and journals keep.

use crate::kms::tmkms::CONFIG_VARIABLE;
use crate::unit::{UnitText, words};

/// What stands in for the values of a setting that may be secret.
pub const PLACEHOLDER: &str = "<secret>";

/// The settings whose values may be secrets.
pub const SECRET_SETTINGS: [&str; 3] = ["Environment", "SetCredential", "SetCredentialEncrypted"];

/// The text with the values cut out that may be secrets: environment and credentials, but not tmkms' own variable.
///
/// # Errors
/// The text can't be read.
pub fn without_secrets(text: &str) -> Result<String, String> {
    let parsed = UnitText::parse(text).map_err(|e| e.to_string())?;
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for setting in parsed
        .settings
        .iter()
        .filter(|s| SECRET_SETTINGS.contains(&s.key.as_str()))
    {
        let words = words::split(&setting.value).unwrap_or_default();
        let own = |word: &String| word.starts_with(&format!("{CONFIG_VARIABLE}="));
        if !words.is_empty() && words.iter().all(own) {
            continue;
        }
        let entry = &text[setting.span.clone()];
        let value = entry.find('=').map_or(entry.len(), |at| at + 1);
        out.push_str(&text[done..setting.span.start + value]);
        out.push_str(PLACEHOLDER);
        out.push('\n');
        done = setting.span.end;
    }
    out.push_str(&text[done..]);
    Ok(without_commented(&out))
}

/// A text without the values of settings that were commented out and may hold a secret, over all lines that such a
/// value went on in.
fn without_commented(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut goes_on = false;
    for line in text.split_inclusive('\n') {
        let content = line.trim_start().trim_start_matches(['#', ';']).trim();
        let comment = line.trim_start().starts_with(['#', ';']);
        let key = content.split('=').next().unwrap_or_default().trim();
        let secret = comment && content.contains('=') && SECRET_SETTINGS.contains(&key);
        if comment && goes_on {
            out.push_str(&format!("# {PLACEHOLDER}\n"));
        } else if let Some((key, _)) = line.split_once('=').filter(|_| secret) {
            out.push_str(&format!("{key}={PLACEHOLDER}\n"));
        } else {
            out.push_str(line);
        }
        goes_on = (secret || (comment && goes_on)) && content.ends_with('\\');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_cut_out() {
        let text = "[Service]\nEnvironment=PIN=1234 \\\n  A=b\nEnvironment=TMKMS_CONFIG_FILE=/k/a.toml\nUser=k\n\
                    # SetCredential=pin:12\n## Environment\n#Environment=A=1 \\\n#  PIN=12 \\\n# B=12\n# kept\n";
        let plain = without_secrets(text).unwrap();
        assert_eq!(
            plain,
            "[Service]\nEnvironment=<secret>\nEnvironment=TMKMS_CONFIG_FILE=/k/a.toml\nUser=k\n\
             # SetCredential=<secret>\n## Environment\n#Environment=<secret>\n# <secret>\n# <secret>\n# kept\n"
        );
    }
}
