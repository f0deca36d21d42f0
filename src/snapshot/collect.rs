//! Reads what was chosen and lays it out as nodes: folders and links as they are, files with their secrets replaced.
//!
//! A file is kept only by what it is known to be; what can't be read as that is left out and said, and a secret that
//! can't be read at all ends the snapshot. No secret stays in memory longer than the snapshot is made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tmkms_core::config::Config;
use tmkms_core::state::SignState;

use super::choose::{Chosen, Kind, LeadsToConfig};
use super::placeholder::Placeholders;
use super::trail::{self, End, Trail};
use super::{LeftOut, Node, Nodes, Replaced, Secret, mask};
use crate::host::unit_path::{LINK_FOLDERS, is_mask};
use crate::host::{Entry, Files};
use crate::inventory::FileFacts;
use crate::render::unit::SECRET_SETTINGS;
use crate::unit::UnitName;

/// Where journals lie.
const OPERATIONS: &str = "/var/lib/kmsctl/operations";

/// What was collected.
pub struct Collected {
    pub nodes: Nodes,
    pub replaced: BTreeSet<Replaced>,
    pub left_out: Vec<LeftOut>,
    /// Places where something may be a secret and is kept: for the operator's eyes, and never kept itself.
    pub doubtful: Vec<String>,
}

/// Reads one host for one snapshot.
pub struct Collector<'a> {
    files: &'a dyn Files,
    leads: &'a LeadsToConfig,
    placeholders: Placeholders,
    collected: Collected,
    /// Whole secrets, to find them again where they don't belong.
    secrets: BTreeSet<Vec<u8>>,
}

impl<'a> Collector<'a> {
    pub fn new(
        files: &'a dyn Files,
        leads: &'a LeadsToConfig,
        placeholders: Placeholders,
    ) -> Collector<'a> {
        Collector {
            files,
            leads,
            placeholders,
            collected: Collected {
                nodes: Nodes::new(),
                replaced: BTreeSet::new(),
                left_out: Vec::new(),
                doubtful: Vec::new(),
            },
            secrets: BTreeSet::new(),
        }
    }

    /// Reads everything that was chosen, the links of the unit folders that lead there, and kmsctl's journals.
    ///
    /// # Errors
    /// A file that can't be read, or whose secrets can't be replaced, by its path.
    pub fn collect(mut self, chosen: &Chosen, unit_path: &[PathBuf]) -> Result<Collected> {
        for (kind, path) in chosen {
            self.take(*kind, path)?;
        }
        self.unit_links(unit_path)?;
        self.markers()?;
        self.journals()?;
        let found = self.secrets_elsewhere()?;
        self.collected.doubtful.extend(found);
        Ok(self.collected)
    }

    fn take(&mut self, kind: Kind, path: &Path) -> Result<()> {
        let trail = trail::follow(self.files, path)?;
        let end = self.lay(trail)?;
        match (kind, end) {
            (Kind::Folder, _) | (_, End::Nothing) => {}
            (Kind::BesideConfig | Kind::BesideState, End::Folder(folder)) => {
                for name in self.list(&folder)? {
                    self.beside(kind, &folder.join(name))?;
                }
            }
            (_, End::File(real, facts)) => self.file(kind, real, facts)?,
            // The link says it all.
            (Kind::Unit, _) if is_mask(self.files, path) => {}
            (_, End::Folder(real) | End::Other(real)) => {
                let why = "it isn't a regular file";
                self.leave_out("what stands where a file should be", &real, why);
            }
        }
        Ok(())
    }

    /// Lays out a way; gives its end.
    fn lay(&mut self, trail: Trail) -> Result<End> {
        for (path, facts) in trail.folders {
            self.collected.nodes.insert(path, Node::Folder(facts));
        }
        for (path, target) in trail.links {
            self.collected.nodes.insert(path, Node::Link(target));
        }
        Ok(trail.end)
    }

    fn file(&mut self, kind: Kind, real: PathBuf, facts: FileFacts) -> Result<()> {
        if self.collected.nodes.contains_key(&real) {
            return Ok(());
        }
        let context = || format!("reading {}", real.display());
        let bytes = self.files.read(&real).with_context(context)?;
        let kept = self
            .kept(kind, &real, &bytes)
            .with_context(|| real.display().to_string())?;
        if let Some(kept) = kept {
            self.collected.nodes.insert(real, Node::File(facts, kept));
        }
        Ok(())
    }

    /// What is kept of a file; none where it is left out.
    fn kept(&mut self, kind: Kind, path: &Path, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let text = || std::str::from_utf8(bytes).context("it isn't UTF-8");
        let odd = |why: String| anyhow!("{why}; mend it, or take it out of the way, and try again");
        let placeholders = &mut self.placeholders;
        let (what, kept) = match kind {
            Kind::Key => (Secret::KeyFile, placeholders.key_file(bytes)),
            Kind::Password => (Secret::PasswordFile, placeholders.text(bytes)),
            Kind::Config => {
                let kept = mask::config(text()?, placeholders).map_err(odd)?;
                self.secrets.extend(inline(text()?));
                (Secret::Values, kept.into_bytes())
            }
            Kind::Unit => {
                self.collected.doubtful.extend(comments(path, text()?));
                let kept = mask::unit(text()?, self.leads, placeholders).map_err(odd)?;
                (Secret::Values, kept.into_bytes())
            }
            Kind::EnvironmentFile => {
                let kept = mask::environment_file(text()?, self.leads, placeholders);
                (Secret::Values, kept.into_bytes())
            }
            Kind::State if SignState::parse(bytes).is_err() => {
                let why = "it can't be read as a state file, so nothing says what it holds";
                self.leave_out("the content of a state file", path, why);
                // Unreadable on the host, unreadable here.
                return Ok(Some(Vec::new()));
            }
            Kind::State | Kind::Plain => return Ok(Some(bytes.to_vec())),
            Kind::BesideConfig | Kind::BesideState | Kind::Folder => return Ok(None),
        };
        if matches!(what, Secret::KeyFile | Secret::PasswordFile) {
            self.secrets.insert(bytes.trim_ascii().to_vec());
        }
        if kept != bytes {
            let path = path.to_owned();
            self.collected.replaced.insert(Replaced { path, what });
        }
        Ok(Some(kept))
    }

    /// Files that could stand in a plan's way, or hold the state of a chain that nothing names now.
    fn beside(&mut self, kind: Kind, path: &Path) -> Result<()> {
        let ends = |suffix: &str| path.to_string_lossy().ends_with(suffix);
        let context = || format!("looking at {}", path.display());
        let Some(Entry::File(facts)) = self.files.entry(path).with_context(context)? else {
            return Ok(());
        };
        let kind = match kind {
            Kind::BesideConfig if ends(".toml") => Kind::Config,
            Kind::BesideState if ends(".json") => Kind::State,
            _ => return Ok(()),
        };
        if self.collected.nodes.contains_key(path) {
            return Ok(());
        }
        // What can't be read could be anything: nobody named it.
        let bytes = self.files.read(path).unwrap_or_default();
        let text = std::str::from_utf8(&bytes);
        if kind == Kind::State && SignState::parse(&bytes).is_ok()
            || kind == Kind::Config && text.is_ok_and(|text| Config::parse(text).is_ok())
        {
            self.file(kind, path.to_owned(), facts)?;
        } else if kind == Kind::Config {
            let why = "it can't be read as a tmkms config, so nothing says what in it is secret";
            self.leave_out("a file beside a config", path, why);
        }
        Ok(())
    }

    /// Links of the unit folders that lead to a unit that is taken: other names, and what enables it.
    fn unit_links(&mut self, unit_path: &[PathBuf]) -> Result<()> {
        let nodes = &self.collected.nodes;
        let units: BTreeSet<PathBuf> = nodes.keys().filter(|p| is_unit(p)).cloned().collect();
        let names: BTreeSet<_> = units.iter().filter_map(|p| p.file_name()).collect();
        for folder in unit_path {
            let mut links: Vec<PathBuf> = Vec::new();
            for name in self.list(folder)? {
                let path = folder.join(&name);
                if LINK_FOLDERS.iter().any(|kind| name.ends_with(kind)) {
                    links.extend(self.list(&path)?.into_iter().map(|link| path.join(link)));
                } else {
                    links.push(path);
                }
            }
            for path in links.into_iter().filter(|path| is_unit(path)) {
                let context = || format!("looking at {}", path.display());
                let Some(Entry::Link(_)) = self.files.entry(&path).with_context(context)? else {
                    continue;
                };
                let trail = trail::follow(self.files, &path)?;
                let ours = match &trail.end {
                    End::File(real, _) => units.contains(real),
                    // A link to nothing still enables a unit of its name.
                    _ => path.file_name().is_some_and(|name| names.contains(name)),
                };
                if ours {
                    self.lay(trail)?;
                }
            }
        }
        Ok(())
    }

    /// The fence's markers; whatever else lies there is nobody's business.
    fn markers(&mut self) -> Result<()> {
        let folder = Path::new(crate::paths::FENCE_FOLDER);
        for name in self.list(folder)? {
            if name.ends_with(".closed") {
                self.take(Kind::Plain, &folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Journals as they are: plans and records hold no secret, and their checksums would show a change.
    fn journals(&mut self) -> Result<()> {
        let operations = Path::new(OPERATIONS);
        for operation in self.list(operations)? {
            for piece in ["journal", "rollback.json"] {
                self.take(Kind::Plain, &operations.join(&operation).join(piece))?;
            }
        }
        Ok(())
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>> {
        self.files
            .list(folder)
            .with_context(|| format!("reading the folder {}", folder.display()))
    }

    fn leave_out(&mut self, what: &str, path: &Path, why: &str) {
        let left_out = LeftOut::new(what, why).at(path);
        if !self.collected.left_out.contains(&left_out) {
            self.collected.left_out.push(left_out);
        }
    }

    /// A whole key or password in another place than its own: a comment, a description, a journal. A short one may be
    /// there by chance, as a word that is also a password.
    fn secrets_elsewhere(&self) -> Result<Vec<String>> {
        let mut doubtful = Vec::new();
        for (path, node) in &self.collected.nodes {
            let Node::File(_, bytes) = node else { continue };
            for secret in self.secrets.iter().filter(|s| s.len() >= SHORTEST) {
                let Some(at) = stands_in(secret, bytes) else {
                    continue;
                };
                let line = 1 + bytes[..at].iter().filter(|b| **b == b'\n').count();
                let place = format!("{}:{line}", path.display());
                if secret.len() >= LONG {
                    bail!(
                        "{place}: the text of a key or a password stands here, where nothing replaces it; take it out, \
                         and try again"
                    );
                }
                doubtful.push(format!(
                    "{place}: a word here is also a password of this host: look whether it is one here"
                ));
            }
        }
        Ok(doubtful)
    }
}

/// Comments of a unit that speak of a secret. A plan has them as they are, so they are kept.
fn comments(path: &Path, text: &str) -> Vec<String> {
    const SPEAK: [&str; 5] = ["password", "passwd", "passphrase", "secret", "api_key"];
    let speaks = |line: &str| {
        SECRET_SETTINGS
            .iter()
            .any(|s| line.contains(&format!("{s}=")))
            || SPEAK
                .iter()
                .any(|word| line.to_ascii_lowercase().contains(word))
    };
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| line.trim_start().starts_with(['#', ';']) && speaks(line))
        .map(|(number, _)| {
            format!(
                "{}:{number}: a comment that may hold a secret is kept as it is: look at it",
                path.display()
            )
        })
        .collect()
}

/// Shorter ones are everywhere.
const SHORTEST: usize = 4;
/// From here on nothing is there by chance.
const LONG: usize = 12;

/// Where a secret stands in a text: a short one only as a word of its own.
fn stands_in(secret: &[u8], bytes: &[u8]) -> Option<usize> {
    let in_word = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let mut found = bytes.windows(secret.len()).enumerate();
    let found = found.find(|(at, window)| {
        let alone = || {
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            !in_word(before) && !in_word(bytes.get(at + secret.len()))
        };
        *window == secret && (secret.len() >= LONG || alone())
    });
    found.map(|(at, _)| at)
}

/// The passwords and API keys that a config holds itself.
fn inline(text: &str) -> Vec<Vec<u8>> {
    let Ok(config) = Config::parse(text) else {
        return Vec::new();
    };
    let passwords = config
        .yubihsm
        .iter()
        .filter_map(|p| p.auth.password_span.clone());
    let keys = config.fortanixdsm.iter().map(|p| p.api_key_span.clone());
    let tokens = passwords.chain(keys).filter_map(|span| text.get(span));
    tokens
        .map(|token| token.trim_matches(['"', '\'']).trim().as_bytes().to_vec())
        .collect()
}

fn is_unit(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.parse::<UnitName>().is_ok())
}
