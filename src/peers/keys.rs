//! Rule S1 across hosts: no peer's signer has a key that is used here, for a chain that is signed here. Pure.
//!
//! Names mean nothing on another host, so only public keys are compared. A peer's signer counts while it isn't retired:
//! it runs, or a boot starts it. A public key that isn't known on one of the two sides is said and doesn't block, as a
//! device that is away doesn't: the peer's heights are compared all the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Chain, Peers, Row};
use crate::finding::{Code, Finding};
use crate::keys::Keys;
use crate::plan::{ChainFile, Move};
use crate::unit::UnitName;

/// What units of this host sign, or are to sign.
pub struct Here<'a> {
    pub host: &'a str,
    pub keys: &'a Keys,
    pub signs: Vec<(&'a UnitName, &'a ChainFile)>,
    /// Chains that count as one: the one that a fleet leaves, and the one where it goes.
    pub one: Vec<&'a str>,
}

impl<'a> Here<'a> {
    /// What a plan's units sign, before it and after it: a peer that is further than this host has the new chain's id, and
    /// one that is behind the old one's.
    pub fn of(host: &'a str, keys: &'a Keys, moves: &'a [Move]) -> Here<'a> {
        let signs = moves.iter().flat_map(|m| {
            let old = m.old_chains().map(|file| (&m.old, file));
            old.chain(m.new_chains().map(|file| (&m.new, file)))
        });
        let chains = moves.iter().flat_map(|m| &m.chains);
        Here {
            host,
            keys,
            signs: signs.collect(),
            one: chains
                .flat_map(|c| [c.old.chain.as_str(), c.new.chain.as_str()])
                .collect(),
        }
    }

    /// One name for chains that count as one.
    fn chain<'c>(&self, id: &'c str) -> &'c str {
        match self.one.contains(&id) {
            true => "",
            false => id,
        }
    }
}

impl Peers {
    /// What speaks against this host's signers by what peers' signers say of their keys.
    pub fn sharing(&self, here: &Here<'_>) -> Vec<Finding> {
        if self.answers.is_empty() {
            return Vec::new();
        }
        let mut used: BTreeMap<(&str, String), &UnitName> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for (unit, file) in &here.signs {
            for key in &file.keys {
                match here.keys.public(key) {
                    Some(public) => {
                        let meets = (here.chain(&file.chain), public.to_hex());
                        used.entry(meets).or_insert(unit);
                    }
                    None => drop(unknown.insert(key)),
                }
            }
        }
        let chains: BTreeSet<&str> = here
            .signs
            .iter()
            .map(|(_, f)| here.chain(&f.chain))
            .collect();
        let mut findings = Vec::new();
        for (peer, answer) in self.answers.iter().filter(|(_, a)| a.host != here.host) {
            let mut untold = BTreeSet::new();
            for row in answer.signers.iter().filter(|row| !row.retired) {
                for there in &row.chains {
                    let chain = here.chain(&there.id);
                    if !chains.contains(chain) {
                        continue;
                    }
                    untold.extend(silent(row, there));
                    let told = there.keys.iter().filter_map(|key| key.public_key.as_ref());
                    for public in told {
                        if let Some(unit) = used.get(&(chain, public.to_ascii_uppercase())) {
                            findings.push(one_key(peer, row, there, public, unit));
                        }
                    }
                }
            }
            findings.extend((!untold.is_empty()).then(|| untold_by(peer, &untold)));
        }
        if !unknown.is_empty() {
            let names: Vec<String> = unknown.iter().map(ToString::to_string).collect();
            let message = format!(
                "the public half of {} isn't known here: that no peer signs with it is not checked",
                names.join(", ")
            );
            findings.push(
                Finding::warn(Code::KeyUnknown, message)
                    .remedy("`kmsctl status --json` says why it isn't; compare it by hand"),
            );
        }
        findings.sort();
        findings.dedup();
        findings
    }
}

fn one_key(peer: &str, row: &Row, there: &Chain, public: &str, unit: &UnitName) -> Finding {
    let message = format!(
        "one key, {public}, signs {} from {} on peer {peer} and belongs to {unit} here: a double signature waiting",
        there.id, row.unit
    );
    Finding::block(Code::KeyShared, message)
        .of(unit.signer())
        .remedy(format!(
            "stop and disable one of the two before anything else; there: `systemctl disable --now {}`",
            row.unit
        ))
}

/// The keys of a peer's signer whose public halves aren't told, with the reason.
fn silent(row: &Row, there: &Chain) -> Vec<String> {
    if there.keys.is_empty() {
        return vec![format!("{} ({} tells no key)", row.unit, there.id)];
    }
    let untold = there.keys.iter().filter(|key| key.public_key.is_none());
    untold
        .map(|key| {
            let why = key.unknown.as_deref().unwrap_or("it doesn't say why");
            format!("{} ({}: {why})", row.unit, key.name)
        })
        .collect()
}

fn untold_by(peer: &str, untold: &BTreeSet<String>) -> Finding {
    let untold: Vec<&str> = untold.iter().map(String::as_str).collect();
    let message = format!(
        "peer {peer} doesn't tell the public key of {}: that it is no key of this host is not checked",
        untold.join(", ")
    );
    Finding::warn(Code::KeyUnknown, message)
        .remedy("let its command run the same kmsctl as root, while no operation runs there")
}
