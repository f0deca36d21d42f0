//! A validator's config.toml: where it waits for its signer, and the few lines of it that change. Pure: text in, text out.
//!
//! CometBFT (and Tendermint 0.33 and 0.34) has its keys at the top as `priv_validator_…`; Tendermint 0.35 and what came of
//! it has them in `[priv-validator]`. Every other byte of the file must stay as it is.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tmkms_core::Spanned;
use tmkms_core::edit::Edit;
use toml_edit::{Document, Item, TableLike};

use crate::unit::line_of;

/// Where a validator waits for its signer: `tcp://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    host: String,
    port: u16,
}

impl Listen {
    /// Whether whoever reaches the machine reaches it.
    pub fn is_open(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.is_empty() || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }

    /// The rule that lets only the signer in.
    pub fn firewall(&self, signer: Option<IpAddr>) -> String {
        let from = signer.map_or_else(|| "SIGNER_ADDRESS".to_owned(), |ip| ip.to_string());
        format!("ufw allow from {from} to any port {} proto tcp", self.port)
    }
}

impl FromStr for Listen {
    type Err = String;

    /// Takes what is written out, though CometBFT takes more: see [`waits`].
    fn from_str(text: &str) -> Result<Listen, String> {
        let wrong =
            |why: &str| format!("{text:?} {why}: an address such as tcp://0.0.0.0:26658 is meant");
        let rest = match text.split_once("://") {
            Some(("tcp", rest)) => rest,
            Some(("unix", _)) => {
                return Err(wrong("is a socket that only this host's programs reach"));
            }
            Some(_) => return Err(wrong("is of a kind that CometBFT doesn't wait at")),
            None => {
                return Err(wrong(
                    "doesn't begin with tcp://, though CometBFT takes it so",
                ));
            }
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 = match port.parse() {
            Ok(port) if digits => port,
            _ => return Err(wrong("has no port")),
        };
        if port == 0 {
            return Err(wrong("has port 0"));
        }
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        // Digits and points are no name, and whether they are an address is up to the resolver.
        let number = |c: char| c.is_ascii_digit() || c == '.';
        let sound = match bracketed {
            Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
            None if !host.is_empty() && host.chars().all(number) => {
                host.parse::<std::net::Ipv4Addr>().is_ok()
            }
            None => host.chars().all(fits),
        };
        if !sound {
            return Err(wrong("has a host that is none"));
        }
        let host = host.to_owned();
        Ok(Listen { host, port })
    }
}

/// Where a node waits that has this `priv_validator_laddr`; none at a unix socket.
///
/// CometBFT and Tendermint cut it at the first `://`, take `tcp` where there is none, and listen there before they look
/// whether it is `tcp` or `unix` (`privval.NewSignerListener`, the same from 0.33 to 1.0).
///
/// # Errors
/// Why the node wouldn't start, or not where its signer looks for it.
pub fn waits(laddr: &str) -> Result<Option<Listen>, String> {
    let (protocol, address) = laddr.split_once("://").unwrap_or(("tcp", laddr));
    match protocol {
        "unix" => Ok(None),
        "tcp" => format!("tcp://{address}").parse().map(Some),
        other => Err(format!(
            "{laddr:?} is of the kind {other:?}: CometBFT waits at tcp:// and unix:// alone"
        )),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}:{}", self.host, self.port)
    }
}

/// What a config.toml says of the validator's key.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigToml {
    /// Where it waits for a signer; empty where it has its key in a file.
    pub laddr: Option<Spanned<String>>,
    pub key_file: Option<Spanned<String>>,
    pub state_file: Option<Spanned<String>>,
    /// Over how many blocks CometBFT looks for its own signatures before it starts; 0 for none.
    pub double_sign_check_height: Option<i64>,
    names: &'static Names,
    /// Where a line can be put that belongs to the same table.
    end_of_table: usize,
}

/// What the keys are called.
#[derive(Debug, PartialEq, Eq)]
struct Names {
    table: Option<&'static str>,
    laddr: &'static str,
    key_file: &'static str,
    state_file: &'static str,
    double_sign: &'static str,
    /// Where the key file is when nothing is said, seen from the node's home.
    default_key: &'static str,
}

const COMETBFT: Names = Names {
    table: None,
    laddr: "priv_validator_laddr",
    key_file: "priv_validator_key_file",
    state_file: "priv_validator_state_file",
    double_sign: "double_sign_check_height",
    default_key: "config/priv_validator_key.json",
};

const TENDERMINT_0_35: Names = Names {
    table: Some("priv-validator"),
    laddr: "laddr",
    key_file: "key-file",
    state_file: "state-file",
    double_sign: "double-sign-check-height",
    default_key: "config/priv_validator_key.json",
};

impl ConfigToml {
    /// Reads a config.toml.
    ///
    /// # Errors
    /// No TOML, or the file of something else: with the line where there is one.
    pub fn parse(text: &str) -> Result<ConfigToml, String> {
        let document = Document::parse(text).map_err(|e| {
            let line = line_of(text, e.span().map_or(0, |span| span.start));
            format!("line {line}: this isn't TOML: {}", e.message())
        })?;
        let root = document.as_table();
        let has = |name: &str| root.get(name).is_some_and(Item::is_table_like);
        if !has("p2p") || !has("consensus") {
            return Err(format!(
                "this isn't a validator's config.toml{}: it has no [p2p] and [consensus]",
                what_else(root)
            ));
        }
        let names = match has("priv-validator") {
            true => &TENDERMINT_0_35,
            false => &COMETBFT,
        };
        let table: &dyn TableLike = match names.table {
            Some(name) => root
                .get(name)
                .and_then(Item::as_table_like)
                .ok_or("it has no [priv-validator]")?,
            None => root,
        };
        let consensus = root.get("consensus").and_then(Item::as_table_like);
        let height = consensus.and_then(|table| table.get(names.double_sign));
        let end_of_table = match names.table {
            None => text
                .match_indices('\n')
                .map(|(at, _)| at + 1)
                .chain([0])
                .filter(|at| text[*at..].trim_start().starts_with('['))
                .min()
                .ok_or("it has no table")?,
            Some(_) => {
                let spans = table.iter().filter_map(|(_, item)| item.span());
                let last = spans.map(|span| span.end).max();
                last.map_or(text.len(), |at| line_around(text, &(at..at)).end)
            }
        };
        Ok(ConfigToml {
            laddr: string(text, table, names.laddr)?,
            key_file: string(text, table, names.key_file)?,
            state_file: string(text, table, names.state_file)?,
            double_sign_check_height: height.and_then(Item::as_integer),
            names,
            end_of_table,
        })
    }

    /// The setting that [`ConfigToml::double_sign_check_height`] is read from.
    pub fn double_sign_name(&self) -> &'static str {
        self.names.double_sign
    }

    /// Where the validator's key and state are, seen from the node's home, whether the file says so or not.
    pub fn key_path(&self, home: &Path) -> PathBuf {
        let said = self.key_file.as_ref().map(|path| path.value.as_str());
        home.join(said.unwrap_or(self.names.default_key))
    }

    /// The same of its state file.
    pub fn state_path(&self, home: &Path) -> PathBuf {
        let said = self.state_file.as_ref().map(|path| path.value.as_str());
        home.join(said.unwrap_or("data/priv_validator_state.json"))
    }

    /// The text with the address set and the two files commented out.
    ///
    /// # Errors
    /// A value that can't be changed without touching anything else.
    pub fn with_laddr(&self, text: &str, listen: &Listen) -> Result<String, String> {
        let wanted = listen.to_string();
        let mut changes: Vec<(Range<usize>, String)> = Vec::new();
        match &self.laddr {
            Some(at) => {
                let edit = Edit::string(text, at, &wanted).map_err(|e| e.to_string())?;
                changes.push((edit.span, edit.raw_to));
            }
            None => {
                let beside = self.state_file.as_ref().or(self.key_file.as_ref());
                let at = beside.map_or(self.end_of_table, |key| line_around(text, &key.span).end);
                let newline = match text.contains("\r\n") {
                    true => "\r\n",
                    false => "\n",
                };
                let line = format!("{} = \"{wanted}\"{newline}", self.names.laddr);
                changes.push((at..at, line));
            }
        }
        for file in [&self.key_file, &self.state_file].into_iter().flatten() {
            let line = line_around(text, &file.span);
            if text[file.span.clone()].contains('\n') {
                return Err(format!(
                    "line {}: a value of several lines can't be commented out: write it on one",
                    file.line
                ));
            }
            changes.push((line.start..line.start, "# ".to_owned()));
        }
        changes.sort_by_key(|(span, _)| (span.start, span.end));
        let mut result = String::with_capacity(text.len() + 64);
        let mut copied = 0;
        for (span, new) in changes {
            result.push_str(&text[copied..span.start]);
            result.push_str(&new);
            copied = span.end;
        }
        result.push_str(&text[copied..]);
        let said = ConfigToml::parse(&result)?;
        let laddr = said.laddr.as_ref().map(|laddr| laddr.value.as_str());
        let sound = laddr == Some(wanted.as_str())
            && (said.key_file.is_none() && said.state_file.is_none());
        match sound {
            true => Ok(result),
            false => Err("it can't be changed without changing more than these lines".into()),
        }
    }
}

/// The whole line, or lines, that a span is on, with its end.
fn line_around(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[span.end..]
        .find('\n')
        .map_or(text.len(), |at| span.end + at + 1);
    start..end
}

fn string(
    text: &str,
    table: &dyn TableLike,
    name: &str,
) -> Result<Option<Spanned<String>>, String> {
    let Some(item) = table.get(name) else {
        return Ok(None);
    };
    let span = item.span().unwrap_or_default();
    let line = line_of(text, span.start);
    match item.as_str() {
        Some(value) => Ok(Some(Spanned {
            value: value.to_owned(),
            span,
            line,
        })),
        None => Err(format!("line {line}: {name} is no text in quotes")),
    }
}

/// What else an operator may have at hand.
fn what_else(root: &dyn TableLike) -> &'static str {
    let has = |name| root.get(name).is_some();
    if has("validator") && has("providers") {
        " but a signer's tmkms.toml"
    } else if has("minimum-gas-prices") || has("state-sync") {
        " but its app.toml"
    } else if has("keyring-backend") {
        " but its client.toml"
    } else {
        ""
    }
}
