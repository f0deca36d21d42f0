//! What a bundle is, read by other means than kmsctl's, so that the two can disagree.

use std::io::{Cursor, Read, Write};
use std::path::Path;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512_256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A bundle's version and enclave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub version: [u16; 3],
    pub mrenclave: [u8; 32],
}

/// Reads a bundle's manifest and its enclave.
pub fn read(path: &Path) -> Result<Bundle, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = std::fs::File::open(path).map_err(|e| wrong(&e))?;
    let mut zip = zip::ZipArchive::new(file).map_err(|e| wrong(&e))?;
    let mut content = |name: &str| -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut entry = zip.by_name(name).map_err(|e| wrong(&e))?;
        entry.read_to_end(&mut bytes).map_err(|e| wrong(&e))?;
        Ok(bytes)
    };
    let manifest = content("META-INF/MANIFEST.MF")?;
    let manifest: Value = serde_json::from_slice(&manifest).map_err(|e| wrong(&e))?;
    let component = &manifest["components"][0];
    let own = |key: &str| {
        [&component[key], &manifest[key]]
            .into_iter()
            .find(|v| !v.is_null())
    };
    let part = |name: &str| {
        let version = own("version").unwrap_or(&Value::Null);
        version[name]
            .as_u64()
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(0)
    };
    let sgxs = own("sgx").and_then(|sgx| sgx["executable"].as_str());
    let sgxs = content(sgxs.ok_or_else(|| wrong(&"no enclave in it"))?)?;
    Ok(Bundle {
        version: [part("major"), part("minor"), part("patch")],
        mrenclave: Sha256::digest(&sgxs).into(),
    })
}

/// Makes a bundle in the shape of 24.0 and later, with these bytes as its enclave.
pub fn make(runtime: &str, version: [u16; 3], enclave: &[u8]) -> Result<Vec<u8>, String> {
    let files: [(&str, &[u8]); 3] = [
        ("runtime.elf", b"stand-in"),
        ("runtime.sgxs", enclave),
        ("runtime.sig", b"stand-in"),
    ];
    let digests = files.map(|(name, content)| {
        let digest = HEXLOWER.encode(&Sha512_256::digest(content));
        (name.to_owned(), Value::from(digest))
    });
    let manifest = json!({
        "name": "stand-in-keymanager", "id": runtime,
        "version": {"major": version[0], "minor": version[1], "patch": version[2]},
        "components": [{"kind": "ronl", "executable": "runtime.elf", "sgx": {
            "executable": "runtime.sgxs", "signature": "runtime.sig",
        }}],
        "digests": Value::Object(digests.into_iter().collect()),
    });
    let manifest = manifest.to_string();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut put = |name: &str, content: &[u8]| {
        zip.start_file(name, SimpleFileOptions::default())?;
        zip.write_all(content).map_err(zip::result::ZipError::from)
    };
    let mut all = || {
        put("META-INF/MANIFEST.MF", manifest.as_bytes())?;
        files
            .iter()
            .try_for_each(|(name, content)| put(name, content))
    };
    all().map_err(|e| e.to_string())?;
    let done = zip.finish().map_err(|e| e.to_string())?;
    Ok(done.into_inner())
}
