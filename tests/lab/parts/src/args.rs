//! Reads `--name value` pairs. Two programs with four options each don't need a parser crate.

use std::collections::BTreeMap;

/// Options by name, without the leading dashes.
#[derive(Debug)]
pub struct Args(BTreeMap<String, String>);

impl Args {
    /// Reads `--name value` pairs, refusing names that aren't in `known` and names given twice.
    pub fn read(given: impl Iterator<Item = String>, known: &[&str]) -> Result<Self, String> {
        let mut pairs = BTreeMap::new();
        let mut given = given;
        while let Some(arg) = given.next() {
            let name = arg
                .strip_prefix("--")
                .filter(|name| known.contains(name))
                .ok_or_else(|| {
                    format!("unknown argument {arg:?}; known: --{}", known.join(", --"))
                })?;
            let value = given
                .next()
                .ok_or_else(|| format!("--{name} needs a value"))?;
            if pairs.insert(name.to_owned(), value).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of an option that may be missing.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of an option that must be there.
    pub fn require(&self, name: &str) -> Result<&str, String> {
        self.get(name)
            .ok_or_else(|| format!("--{name} is required"))
    }
}
