//! What a new file holds, as a plan keeps it: edits to a source, or a whole text that has no secret.

use std::fmt;
use std::io;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tmkms_core::edit::Edit;

use crate::paths::ManagedPath;

/// SHA-256 over what it names, in hex. Secrets in a config are cut out before.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
pub struct Fingerprint(String);

impl Fingerprint {
    pub fn of(bytes: &[u8]) -> Fingerprint {
        Fingerprint::hex(&Sha256::digest(bytes))
    }

    /// Of everything that a reader gives.
    pub fn read(mut from: impl io::Read) -> io::Result<Fingerprint> {
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 16];
        loop {
            let count = from.read(&mut piece)?;
            if count == 0 {
                return Ok(Fingerprint::hex(&hash.finalize()));
            }
            hash.update(&piece[..count]);
        }
    }

    /// Of a value as JSON, which is never there as a whole: a large fleet's plan takes a hundred megabytes.
    pub fn of_json<T: Serialize>(value: &T) -> Fingerprint {
        struct Hashed(Sha256);
        impl io::Write for Hashed {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.update(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut hashed = io::BufWriter::with_capacity(1 << 16, Hashed(Sha256::new()));
        // Neither plain data nor a hash can fail; half a text would only make the fingerprints differ.
        let written = serde_json::to_writer(&mut hashed, value).map_err(io::Error::from);
        match written.and_then(|()| hashed.into_inner().map_err(Into::into)) {
            Ok(hashed) => Fingerprint::hex(&hashed.0.finalize()),
            Err(_) => Fingerprint::of(&[]),
        }
    }

    fn hex(digest: &[u8]) -> Fingerprint {
        Fingerprint(digest.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The first 16 digits.
    pub fn short(&self) -> &str {
        self.0.get(..16).unwrap_or(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file that staging writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFile {
    pub role: Role,
    pub path: ManagedPath,
    pub content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Config,
    Unit,
    /// A drop-in of the old unit, copied.
    DropIn,
    /// kmsctl's own drop-in, which lets the marker decide.
    Fence,
}

/// What a new file holds.
///
/// A derived file is kept as edits to its source and never as its whole text: a config may hold a password, and a plan
/// must not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Content {
    Derived {
        source: PathBuf,
        /// Of the source's text, secrets cut out.
        fingerprint: Fingerprint,
        /// Of the new text, secrets cut out.
        result: Fingerprint,
        edits: Vec<Change>,
    },
    Text {
        text: String,
    },
}

impl Content {
    /// Whether both give one text, whatever they come from; secrets are left out of the comparison, and staging compares
    /// every byte.
    pub fn gives_same(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Derived { result: a, .. }, Content::Derived { result: b, .. }) => a == b,
            _ => self == other,
        }
    }
}

/// An edit and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub edit: Edit,
    pub why: String,
}
