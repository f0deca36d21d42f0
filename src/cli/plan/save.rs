//! Files that the operator asks for by name, wherever on the machine: whole or not at all, and over nothing but an earlier
//! one of the same kind. A slip of the hand, such as a state file's name, must cost nothing.

use std::fs::Permissions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A kind of file.
pub struct Kind {
    /// Its name in a sentence.
    pub name: &'static str,
    pub mode: u32,
    /// Whether a content is of this kind.
    pub is_one: fn(&[u8]) -> bool,
}

impl Kind {
    /// Writes a file of this kind.
    ///
    /// # Errors
    /// Something else is there, a link too; or the folder can't be written to.
    pub fn save(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.replace(path, bytes)
            .with_context(|| format!("writing {}", path.display()))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) => ensure!(
                meta.is_file() && (self.is_one)(&std::fs::read(path)?),
                "what is there is no {} of kmsctl, and it is kept: give another name",
                self.name
            ),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(self.mode))
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}
