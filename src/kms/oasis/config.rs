//! A key manager node's config, in both of its styles, and the one change that an upgrade makes to it.
//!
//! 22.x has `datadir` and `worker.keymanager`, 23.0 and later `common.data_dir` and `keymanager`, and forbids keys it
//! doesn't know. So the text is never written anew: the bytes of one path change, everything else stays, and the result
//! is read again and compared.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tmkms_core::edit::Edit;

use super::ids::RuntimeId;
use super::yaml::{self, Node, Value};

/// Which oasis-node the config is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// 22.x.
    Old,
    /// 23.0 and later.
    New,
}

/// What a config says that an upgrade needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    pub style: Style,
    pub data_dir: PathBuf,
    pub runtime: RuntimeId,
    /// The one bundle.
    pub bundle: PathBuf,
    /// Where `control status` is asked.
    pub socket: PathBuf,
    /// Where the bundle's path stands.
    token: Token,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    span: std::ops::Range<usize>,
    text: String,
}

/// Why a config can't be used; the line is from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub line: usize,
    pub why: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for ConfigError {}

impl From<yaml::Refused> for ConfigError {
    fn from(refused: yaml::Refused) -> ConfigError {
        ConfigError {
            line: refused.line,
            why: refused.why,
        }
    }
}

fn error<T>(line: usize, why: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError {
        line,
        why: why.into(),
    })
}

impl NodeConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// No key manager's config, a part of it that is missing, or one that can't be said without running the node: an
    /// environment variable, several bundles, a path that isn't absolute.
    pub fn parse(text: &str) -> Result<NodeConfig, ConfigError> {
        let root = yaml::parse(text)?;
        let Value::Map(entries) = &root.value else {
            return error(root.line, "a node's config is a map");
        };
        // 22.x finds `runtime.mode:` as one word too, whatever its case.
        let odd = |key: &String| key.contains('.') || key.chars().any(|c| c.is_ascii_uppercase());
        if let Some((key, node)) = entries.iter().find(|(key, _)| odd(key)) {
            let why = format!(
                "{key:?}: write it in lower case and as nested keys, to be read alike by all versions"
            );
            return error(node.line, why);
        }
        let style = style(&root)?;
        let (data_dir, runtime) = match style {
            Style::Old => (
                ["datadir"].as_slice(),
                ["worker", "keymanager", "runtime", "id"].as_slice(),
            ),
            Style::New => (
                ["common", "data_dir"].as_slice(),
                ["keymanager", "runtime_id"].as_slice(),
            ),
        };
        let data_dir = path(scalar(&root, data_dir)?)?;
        let (id, line) = plain(scalar(&root, runtime)?)?;
        let id: RuntimeId = match id.parse() {
            Ok(id) => id,
            Err(e) => return error(line, e.to_string()),
        };
        let bundle = bundle(&root)?;
        let socket = match root.get(&["common", "internal_socket_path"]) {
            Some(node) => path(node)?,
            None => data_dir.join("internal.sock"),
        };
        Ok(NodeConfig {
            style,
            runtime: id,
            bundle: path(bundle)?,
            token: token(bundle, text)?,
            socket,
            data_dir,
        })
    }

    /// The change that points a config at another bundle.
    ///
    /// # Errors
    /// A path that would need quoting, or a result that says anything else than that.
    pub fn point_at(&self, text: &str, bundle: &Path) -> Result<Edit, ConfigError> {
        let line = self.token.line;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
        let to = bundle
            .to_str()
            .filter(|p| p.starts_with('/') && p.chars().all(plain));
        let Some(to) = to else {
            let why = format!(
                "{} can't be written there: use an absolute path of letters, digits and `/._+-`",
                bundle.display()
            );
            return error(line, why);
        };
        let edit = Edit {
            span: self.token.span.clone(),
            line,
            from: self.bundle.display().to_string(),
            to: to.to_owned(),
            raw_from: self.token.text.clone(),
            raw_to: self
                .token
                .text
                .replacen(&*self.bundle.to_string_lossy(), to, 1),
        };
        apply(text, &edit)?;
        Ok(edit)
    }
}

/// The text with the edit made, everything else as it was.
///
/// # Errors
/// The text isn't the one that the edit was made for, or would say something else besides.
pub fn apply(text: &str, edit: &Edit) -> Result<String, ConfigError> {
    let before = NodeConfig::parse(text)?;
    if text.get(edit.span.clone()) != Some(&edit.raw_from) || before.token.span != edit.span {
        return error(edit.line, "the bundle's path doesn't stand there any more");
    }
    let mut new = text.to_owned();
    new.replace_range(edit.span.clone(), &edit.raw_to);
    let after = NodeConfig::parse(&new)?;
    let back = {
        let mut back = new.clone();
        back.replace_range(after.token.span.clone(), &edit.raw_from);
        back
    };
    let only_the_bundle = after.bundle == Path::new(&edit.to)
        && NodeConfig {
            bundle: before.bundle.clone(),
            token: before.token.clone(),
            ..after
        } == before
        && yaml::parse(&back)?.says_the_same(&yaml::parse(text)?);
    if back != text || !only_the_bundle {
        return error(
            edit.line,
            "the path can't be changed there without changing more",
        );
    }
    Ok(new)
}

/// The edit that undoes this one, in the text that it gave.
pub fn reversed(edit: &Edit) -> Edit {
    Edit {
        span: edit.span.start..edit.span.start + edit.raw_to.len(),
        line: edit.line,
        from: edit.to.clone(),
        to: edit.from.clone(),
        raw_from: edit.raw_to.clone(),
        raw_to: edit.raw_from.clone(),
    }
}

/// Whether a node's config may be a key manager's, readable or not: others are left alone.
pub fn may_be_key_manager(text: &str) -> bool {
    let named =
        |root: &Node, path: &[&str]| root.get(path).and_then(Node::text) == Some("keymanager");
    match yaml::parse(text) {
        Ok(root) => named(&root, &["mode"]) || named(&root, &["runtime", "mode"]),
        Err(_) => text.contains("keymanager"),
    }
}

fn style(root: &Node) -> Result<Style, ConfigError> {
    let is_key_manager = |node: Option<&Node>| node.and_then(Node::text) == Some("keymanager");
    let old = root.get(&["datadir"]).is_some() || root.get(&["worker", "keymanager"]).is_some();
    let new = root.get(&["common"]).is_some() || root.get(&["keymanager"]).is_some();
    match (old, new) {
        (true, false) if is_key_manager(root.get(&["runtime", "mode"])) => Ok(Style::Old),
        (false, true) if is_key_manager(root.get(&["mode"])) => Ok(Style::New),
        (true, true) => error(
            root.line,
            "it is half a config of 22.x and half one of 23.0",
        ),
        _ => error(
            root.line,
            "it isn't a key manager's: its mode isn't `keymanager`",
        ),
    }
}

fn scalar<'n>(root: &'n Node, path: &[&str]) -> Result<&'n Node, ConfigError> {
    match root.get(path) {
        Some(node) => Ok(node),
        None => error(root.line, format!("it has no {}", path.join("."))),
    }
}

/// A value as it stands; a variable is put in by the node only.
fn plain(node: &Node) -> Result<(&str, usize), ConfigError> {
    match node.text() {
        Some(text) if text.contains('$') => error(
            node.line,
            format!("{text:?} holds a variable, which only the node knows: write it out"),
        ),
        Some(text) => Ok((text, node.line)),
        None => error(node.line, "one word belongs here"),
    }
}

fn path(node: &Node) -> Result<PathBuf, ConfigError> {
    use std::path::Component;
    let (text, line) = plain(node)?;
    let path = Path::new(text);
    let steps = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(steps) {
        return error(line, format!("{text:?} is no absolute path without `..`"));
    }
    Ok(path.to_owned())
}

/// Exactly one bundle, as a list of one.
fn bundle(root: &Node) -> Result<&Node, ConfigError> {
    let node = scalar(root, &["runtime", "paths"])?;
    match &node.value {
        Value::List(items) => match &items[..] {
            [one] => Ok(one),
            items => error(
                node.line,
                format!(
                    "runtime.paths names {} bundles, and a key manager runs one",
                    items.len()
                ),
            ),
        },
        _ => error(node.line, "runtime.paths is no list"),
    }
}

fn token(node: &Node, text: &str) -> Result<Token, ConfigError> {
    let Value::Scalar { text: value, span } = &node.value else {
        return error(node.line, "one word belongs here");
    };
    let raw = text.get(span.clone()).unwrap_or_default();
    let bare = raw.trim_matches(['"', '\'']);
    // Escapes and folded lines would be lost in the change.
    if bare != value {
        return error(node.line, "the bundle's path isn't written plainly");
    }
    Ok(Token {
        line: node.line,
        span: span.clone(),
        text: raw.to_owned(),
    })
}
