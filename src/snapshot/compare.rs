//! Holds a finished tree, read back as a host, against the host it was taken from: everything that a plan is made from
//! must be the same. Pure. It names what differs and never quotes it.

use std::collections::BTreeSet;
use std::mem::discriminant;

use crate::content::Role;
use crate::inventory::{Inventory, Signer, SignerChain};
use crate::journal::Journal;
use crate::render;
use crate::unit::UnitName;

/// What differs, a sentence each. Heights may: signers sign while a snapshot is taken.
pub fn differences(host: (&Inventory, &[Journal]), tree: (&Inventory, &[Journal])) -> Vec<String> {
    let mut found = Vec::new();
    let (host, journals) = host;
    let (tree, copied) = tree;
    let names = |inventory: &Inventory| -> BTreeSet<UnitName> {
        inventory
            .signers
            .iter()
            .map(|s| s.unit.name.clone())
            .collect()
    };
    for unit in names(host).union(&names(tree)) {
        match (host.signer(unit), tree.signer(unit)) {
            (Some(there), Some(here)) => {
                let odd = signer(there, here).into_iter();
                found.extend(odd.map(|what| format!("{unit}: {what}")));
            }
            (Some(_), None) => found.push(format!("{unit}: it is no signer there")),
            (None, _) => found.push(format!("{unit}: it is a signer there only")),
        }
    }
    if journals != copied {
        found.push("the journals".to_owned());
    }
    found
}

fn signer(host: &Signer, tree: &Signer) -> Vec<&'static str> {
    let (there, here) = (&host.unit, &tree.unit);
    let text = |role, a: &str, b: &str| {
        let plain = |text: &str| render::without_secrets(role, text);
        a.len() == b.len() && plain(a) == plain(b)
    };
    let texts = there.drop_in_texts.iter().zip(&here.drop_in_texts);
    let drop_ins = there.drop_ins == here.drop_ins
        && there.drop_in_texts.len() == here.drop_in_texts.len()
        && texts.into_iter().all(|(a, b)| text(Role::DropIn, a, b));
    let config = (&host.config, &tree.config);
    let chains = host.chains.len() == tree.chains.len()
        && host
            .chains
            .iter()
            .zip(&tree.chains)
            .all(|(a, b)| chain(a, b));
    let same = [
        (there.fragment == here.fragment, "where its file is"),
        (text(Role::Unit, &there.text, &here.text), "its text"),
        (there.linked == here.linked, "whether its file is a link"),
        (drop_ins, "its drop-ins"),
        (there.exec == here.exec, "its command"),
        (
            there.working_directory == here.working_directory,
            "its working directory",
        ),
        (there.links == here.links, "the links that enable it"),
        (there.aliases == here.aliases, "its other names"),
        (
            there.pulled_in_by == here.pulled_in_by,
            "which units want it",
        ),
        (there.closed == here.closed, "its fence"),
        (there.run.is_up() == here.run.is_up(), "whether it runs"),
        (config.0.path == config.1.path, "where its config is"),
        (config.0.folder == config.1.folder, "its config's folder"),
        (
            text(Role::Config, &config.0.text, &config.1.text),
            "its config",
        ),
        (chains, "its chains, state files or keys"),
    ];
    let odd = same.into_iter().filter(|(same, _)| !same);
    odd.map(|(_, what)| what).collect()
}

fn chain(host: &SignerChain, tree: &SignerChain) -> bool {
    host.id == tree.id
        && host.state_file == tree.state_file
        && host.keys == tree.keys
        && discriminant(&host.state) == discriminant(&tree.state)
}
