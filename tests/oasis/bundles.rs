//! ORC bundles: read as oasis-node reads them, and everything odd refused.

use std::io::{Cursor, Write};

use kmsctl::kms::oasis::bundle::{Bundle, against};
use kmsctl::kms::oasis::ids::{Mrenclave, Version};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512_256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

pub const RUNTIME: &str = "4000000000000000000000000000000000000000000000004a1a53dff2ae482d";

/// A bundle as its parts, to be spoilt one by one.
pub struct Parts {
    pub manifest: Value,
    pub files: Vec<(&'static str, Vec<u8>)>,
    pub manifest_first: bool,
}

impl Parts {
    /// The shape of 22.2 and 23.x.
    pub fn flat(version: Value, enclave: &[u8]) -> Parts {
        let mut parts = Parts {
            manifest: json!({
                "name": "keymanager", "id": RUNTIME, "version": version, "executable": "runtime.elf",
                "sgx": {"executable": "runtime.sgxs", "signature": "runtime.sig"},
            }),
            files: vec![
                ("runtime.elf", b"an elf".to_vec()),
                ("runtime.sgxs", enclave.to_vec()),
                ("runtime.sig", b"a signature".to_vec()),
            ],
            manifest_first: true,
        };
        parts.sum();
        parts
    }

    /// The shape of 24.0 and later.
    pub fn components(version: Value, enclave: &[u8]) -> Parts {
        let mut parts = Parts::flat(version, enclave);
        let manifest = parts.manifest.as_object_mut().unwrap();
        let sgx = manifest.remove("sgx").unwrap();
        let elf = manifest.remove("executable").unwrap();
        manifest.insert(
            "components".into(),
            json!([{"kind": "ronl", "executable": elf, "sgx": sgx}]),
        );
        parts
    }

    fn sum(&mut self) {
        let digests = self
            .files
            .iter()
            .map(|(name, content)| (name.to_string(), hex(content).into()));
        self.manifest["digests"] = Value::Object(digests.collect());
    }

    pub fn zip(&self) -> Vec<u8> {
        self.zip_as(SimpleFileOptions::default().compression_method(CompressionMethod::Deflated))
    }

    fn zip_as(&self, options: SimpleFileOptions) -> Vec<u8> {
        let manifest = serde_json::to_vec(&self.manifest).unwrap();
        let mut entries: Vec<(&str, &[u8])> =
            self.files.iter().map(|(n, c)| (*n, &c[..])).collect();
        let at = if self.manifest_first {
            0
        } else {
            entries.len()
        };
        entries.insert(at, ("META-INF/MANIFEST.MF", &manifest));
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            zip.start_file(name, options).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }
}

fn hex(content: &[u8]) -> String {
    let digest = Sha512_256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(parts: &Parts) -> Bundle {
    Bundle::read(&parts.zip()).unwrap()
}

#[test]
fn both_shapes_of_a_manifest_are_read() {
    let enclave = Mrenclave::new(Sha256::digest(b"enclave 6").into());
    let version = json!({"minor": 6});
    for parts in [
        Parts::flat(version.clone(), b"enclave 6"),
        Parts::components(version, b"enclave 6"),
    ] {
        let bundle = read(&parts);
        assert_eq!(bundle.version, Version::new(0, 6, 0));
        assert_eq!(bundle.mrenclave, enclave);
        assert_eq!(bundle.runtime.to_string(), RUNTIME);
    }
    let mut parts = Parts::components(json!({}), b"enclave 6");
    parts.manifest["components"][0]["version"] = json!({"minor": 7});
    assert_eq!(read(&parts).version, Version::new(0, 7, 0));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let plain = Parts::flat(json!({"minor": 6}), b"enclave 6").zip_as(stored);
    assert_eq!(Bundle::read(&plain).unwrap().mrenclave, enclave);
}

#[test]
fn every_spoilt_bundle_is_refused_for_its_own_reason() {
    let refused = |why: &str, spoil: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::flat(json!({"minor": 6}), b"enclave");
        spoil(&mut parts);
        let error = Bundle::read(&parts.zip()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}, and {why:?} was expected");
    };
    refused("begins with META-INF", &|p| p.manifest_first = false);
    refused("isn't what the manifest says", &|p| p.files[1].1[0] ^= 1);
    refused("doesn't name it", &|p| p.files.push(("more", vec![1])));
    refused("it isn't in it", &|p| drop(p.files.pop()));
    refused("isn't flat", &|p| {
        p.files.push(("a/b", vec![1]));
        p.sum();
    });
    refused("isn't flat", &|p| {
        p.files.push(("..", vec![1]));
        p.sum();
    });
    refused("no enclave", &|p| p.manifest["sgx"] = Value::Null);
    refused("isn't in it", &|p| {
        p.manifest["sgx"]["executable"] = json!("other.sgxs")
    });
    refused("several enclaves", &|p| {
        p.manifest["components"] = json!([{"kind": "ronl", "sgx": {"executable": "runtime.sgxs"}}]);
    });
    refused("manifest can't be read", &|p| {
        p.manifest["id"] = json!("40")
    });
    refused("manifest can't be read", &|p| {
        p.manifest["version"] = json!({"minor": "6"})
    });
    refused("more than any bundle", &|p| {
        p.manifest["name"] = json!("n".repeat(2 << 20));
    });
}

#[test]
fn an_entry_that_stands_there_twice_is_refused() {
    let mut parts = Parts::flat(json!({"minor": 6}), b"enclave");
    parts.files.push(("runtime.sgxX", b"another".to_vec()));
    parts.sum();
    let mut zip = parts.zip();
    // The writer makes none, so the name is changed in its bytes.
    while let Some(at) = zip.windows(12).position(|w| w == b"runtime.sgxX") {
        zip[at + 11] = b's';
    }
    let error = Bundle::read(&zip).unwrap_err().to_string();
    assert!(
        error.contains("twice") || error.contains("isn't what"),
        "{error}"
    );
    assert!(error.contains("twice"), "{error}");
}

/// Go's zip writer, which makes the real ones, streams: sizes and sums stand behind each entry. This one was written like
/// that by another library (Python's), and sums that it counted itself.
#[test]
fn a_streamed_bundle_is_read() {
    let bundle = Bundle::read(include_bytes!("streamed.orc")).unwrap();
    assert_eq!(bundle.version, Version::new(0, 6, 0));
    assert_eq!(
        bundle.mrenclave,
        Mrenclave::new(Sha256::digest(b"enclave").into())
    );
}

#[test]
fn what_is_no_zip_or_a_piece_of_one_is_refused() {
    let zip = Parts::flat(json!({"minor": 6}), b"enclave").zip();
    for cut in (0..zip.len()).step_by(7) {
        assert!(Bundle::read(&zip[..cut]).is_err(), "{cut} bytes");
    }
    let empty = ZipWriter::new(Cursor::new(Vec::new())).finish().unwrap();
    assert!(Bundle::read(&empty.into_inner()).is_err());
}

#[test]
fn only_a_newer_version_in_another_enclave_of_this_runtime_takes_its_place() {
    let old = read(&Parts::flat(json!({"minor": 6}), b"enclave 6"));
    let new = read(&Parts::components(json!({"minor": 7}), b"enclave 7"));
    let id = RUNTIME.parse().unwrap();
    assert_eq!(against(&new, &old, &id), Vec::<String>::new());
    let says = |new: &Bundle, old: &Bundle, why: &str| {
        let found = against(new, old, &id);
        assert!(
            matches!(&found[..], [one] if one.contains(why)),
            "{found:?}"
        );
    };
    let same_version = read(&Parts::flat(json!({"minor": 6}), b"enclave 7"));
    let same_enclave = read(&Parts::flat(json!({"minor": 7}), b"enclave 6"));
    says(&same_version, &old, "newer one");
    says(&same_enclave, &old, "same enclave");
    let mut other = Parts::flat(json!({"minor": 7}), b"enclave 7");
    other.manifest["id"] = json!(RUNTIME.replace("4a1a", "8c5e"));
    says(&read(&other), &old, "the new bundle is of runtime");
    let paratime = RUNTIME.replacen('4', "0", 1).parse().unwrap();
    assert!(against(&new, &old, &paratime)[0].contains("no key manager's"));
}
