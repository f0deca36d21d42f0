//! An ORC bundle: what it says it is, and whether it is that.
//!
//! A zip whose first entry is the manifest; every other entry has its SHA-512/256 there. The enclave's name, MRENCLAVE, is
//! the SHA-256 of the `.sgxs`. Read as oasis-node reads it, only stricter: what two readers could read differently (an
//! entry twice, one without a digest) is refused.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512_256};

use super::ids::{Mrenclave, RuntimeId, Version, hex};
use crate::content::Fingerprint;

/// The manifest's place in the zip.
const MANIFEST: &str = "META-INF/MANIFEST.MF";
/// Key manager bundles have a few megabytes; nothing in one may unpack to more than this.
const LARGEST: u64 = 512 << 20;
/// No manifest comes near it.
const LARGEST_MANIFEST: u64 = 1 << 20;

/// A bundle whose every digest was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    pub name: String,
    pub runtime: RuntimeId,
    pub version: Version,
    pub mrenclave: Mrenclave,
    /// SHA-256 of the whole file: the same on all nodes.
    pub sha256: Fingerprint,
}

/// Why a file is no bundle that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleError(pub String);

impl std::fmt::Display for BundleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BundleError {}

fn wrong<T>(why: impl Into<String>) -> Result<T, BundleError> {
    Err(BundleError(why.into()))
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    name: String,
    id: RuntimeId,
    #[serde(default)]
    version: Version,
    sgx: Option<Sgx>,
    #[serde(default)]
    components: Vec<Component>,
    #[serde(default)]
    digests: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Component {
    kind: String,
    version: Option<Version>,
    sgx: Option<Sgx>,
}

#[derive(Deserialize)]
struct Sgx {
    executable: String,
}

impl Bundle {
    /// Reads a bundle's bytes and checks every digest in it.
    ///
    /// # Errors
    /// Anything that oasis-node would refuse, or that could be read in two ways.
    pub fn read(bytes: &[u8]) -> Result<Bundle, BundleError> {
        let mut entries = entries(bytes)?;
        let (_, manifest) = entries.remove(0);
        let manifest: Manifest = serde_json::from_slice(&manifest)
            .map_err(|e| BundleError(format!("its manifest can't be read: {e}")))?;
        for (name, content) in &entries {
            let found = hex(&Sha512_256::digest(content));
            match manifest.digests.get(name) {
                None => return wrong(format!("{name} is in it and the manifest doesn't name it")),
                Some(digest) if *digest != found => {
                    return wrong(format!(
                        "{name} isn't what the manifest says: its SHA-512/256 is {found}, and {digest} is expected"
                    ));
                }
                Some(_) => {}
            }
        }
        let here = |name: &str| entries.iter().find(|(n, _)| n == name);
        if let Some(missing) = manifest.digests.keys().find(|name| here(name).is_none()) {
            return wrong(format!("the manifest names {missing}, and it isn't in it"));
        }
        let (version, sgx) = manifest.enclave()?;
        let Some((_, sgxs)) = here(&sgx.executable) else {
            return wrong(format!("its enclave {} isn't in it", sgx.executable));
        };
        Ok(Bundle {
            name: manifest.name,
            runtime: manifest.id,
            version,
            mrenclave: Mrenclave::new(Sha256::digest(sgxs).into()),
            sha256: Fingerprint::of(bytes),
        })
    }
}

impl Manifest {
    /// The one enclave: at the top until 23.x, a component of kind `ronl` since 24.0.
    fn enclave(&self) -> Result<(Version, &Sgx), BundleError> {
        let ronl: Vec<&Component> = self
            .components
            .iter()
            .filter(|c| c.kind == "ronl")
            .collect();
        match (&self.sgx, &ronl[..]) {
            (Some(sgx), []) if self.components.is_empty() => Ok((self.version, sgx)),
            (None, [component]) => match &component.sgx {
                Some(sgx) => {
                    let version = component.version.unwrap_or(self.version);
                    if version != self.version && self.version != Version::default() {
                        return wrong(format!(
                            "it is of version {} as a whole and {version} in its component",
                            self.version
                        ));
                    }
                    Ok((version, sgx))
                }
                None => wrong("it has no enclave: a key manager without one keeps no secret"),
            },
            (None, []) => wrong("it has no enclave: a key manager without one keeps no secret"),
            _ => wrong("it has several enclaves, and which one would run can't be said"),
        }
    }
}

/// What is in a zip, in its order.
fn entries(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, BundleError> {
    let zip = |e: zip::result::ZipError| BundleError(format!("this isn't a bundle's zip: {e}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(zip)?;
    if archive.has_duplicate_names() {
        return wrong("an entry is in it twice");
    }
    let mut found = Vec::new();
    let mut room = LARGEST;
    for n in 0..archive.len() {
        let mut entry = archive.by_index(n).map_err(zip)?;
        let name = entry.name().map_err(zip)?.into_owned();
        if n == 0 && name != MANIFEST {
            return wrong(format!(
                "its first entry is {name:?}, and a bundle begins with {MANIFEST}"
            ));
        }
        if n > 0 && (name.contains(['/', '\\']) || name.starts_with('.') || name.is_empty()) {
            return wrong(format!("{name:?} isn't flat beside the manifest"));
        }
        let limit = if n == 0 { LARGEST_MANIFEST } else { room };
        let mut content = Vec::new();
        let read = entry
            .by_ref()
            .take(limit + 1)
            .read_to_end(&mut content)
            .map_err(|e| BundleError(format!("{name} can't be unpacked: {e}")))?;
        if read as u64 > limit {
            return wrong(format!("{name} unpacks to more than any bundle holds"));
        }
        room -= read as u64;
        found.push((name, content));
    }
    if found.is_empty() {
        return wrong("there is nothing in it");
    }
    Ok(found)
}

/// Why a bundle can't take the place of the one that runs; all of it.
///
/// The same enclave needs no move at all: its database opens as it is, and taking it away would risk it for nothing.
pub fn against(new: &Bundle, running: &Bundle, configured: &RuntimeId) -> Vec<String> {
    let mut found = Vec::new();
    if !configured.is_key_manager() {
        found.push(format!("{configured} is no key manager's runtime id"));
    }
    for (which, bundle) in [("the new bundle", new), ("the bundle that runs", running)] {
        if bundle.runtime != *configured {
            found.push(format!(
                "{which} is of runtime {}, and the config names {configured}",
                bundle.runtime
            ));
        }
    }
    if new.version <= running.version {
        found.push(format!(
            "the new bundle is version {}, and {} runs: an upgrade goes to a newer one",
            new.version, running.version
        ));
    }
    if new.mrenclave == running.mrenclave {
        found.push(format!(
            "both hold the same enclave ({}): it opens the database as it is, and nothing may be moved away",
            new.mrenclave
        ));
    }
    found
}
