//! docs/setup.md followed in a Debian of its own: the user that it makes, each guide's `kmsctl init` as it is printed, and a
//! start under the rendered unit. Its validator, which verifies, gets signatures from the copied height on and none at it.
//!
//! What takes a network, apt and cargo, isn't typed here: the machine has tmkms where the page installs it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::init::key;
use crate::kmsctl;
use crate::machine::{Lab, Machine};
use crate::night::{refuses, sign};
use crate::parts::{FakeValidator, Protocol};

/// The validator's address in the page.
const VALIDATOR: &str = "10.1.1.1";
const USER: &str = "useradd --system --home-dir /var/lib/tmkms --shell /usr/sbin/nologin tmkms";

/// A guide's part of the page: what is copied, and what is typed then.
struct Guide {
    chain: String,
    height: u64,
    init: Vec<String>,
}

fn guides(page: &str) -> Result<Vec<Guide>> {
    let mut copied = None;
    let mut guides: Vec<Guide> = Vec::new();
    for line in page.lines() {
        let comment = line.strip_prefix("<!-- copied: ");
        if let Some(words) = comment.and_then(|words| words.strip_suffix(" -->")) {
            copied = words.split_once(" at ");
        }
        if let Some(words) = line.strip_prefix("# kmsctl init ")
            && let Some((chain, height)) = copied.take()
        {
            guides.push(Guide {
                chain: chain.to_owned(),
                height: height.parse().context("a height")?,
                init: words.split(' ').map(str::to_owned).collect(),
            });
        }
    }
    Ok(guides)
}

#[test]
fn each_guide_s_signer_runs_as_the_page_says() -> Result<()> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/setup.md"))?;
    ensure!(page.lines().any(|line| line == USER), "{USER}");
    let guides = guides(&page)?;
    ensure!(guides.len() == 3, "Haqq, Aura and MetaOS");
    let lab = Lab::open()?;
    for guide in guides {
        runs(&lab, &guide).with_context(|| guide.chain.clone())?;
    }
    Ok(())
}

fn runs(lab: &Lab, guide: &Guide) -> Result<()> {
    let machine = Machine::boot(lab, |root| {
        kmsctl::install(root)?;
        let to = root.join("usr/local/bin/tmkms");
        fs::copy(lab.tmkms(), to).context("copying tmkms")?;
        let state = key::state(&guide.chain, guide.height, &key::SEED);
        fs::write(root.join("root/priv_validator_key.json"), key::file())?;
        Ok(fs::write(
            root.join("root/priv_validator_state.json"),
            state,
        )?)
    })?;
    // The lab's own user makes way for the page's.
    machine.sh(&format!(
        "chmod 600 /root/*.json; ip address add {VALIDATOR}/32 dev lo; userdel tmkms; {USER}"
    ))?;
    let mut words = vec!["init", "--yes"];
    words.extend(guide.init.iter().map(String::as_str));
    kmsctl::kmsctl(&machine, &words)?.exits(0);
    let mut named = guide
        .init
        .iter()
        .filter_map(|word| word.strip_prefix("tcp://"));
    let listen = named.next().context("the validator's address")?;
    let public = key::public().to_hex().to_lowercase();
    let listens = FakeValidator::start(
        &machine,
        listen,
        &guide.chain,
        Protocol::V034,
        Some(&public),
    );
    let mut validators = vec![listens?];
    machine.sh("systemctl enable --now tmkms.service")?;
    refuses(&mut validators, guide.height)?;
    sign(&mut validators, guide.height + 1, guide.height + 2)?;
    let heights = kmsctl::kmsctl(&machine, &["heights"])?.exits(0);
    let height = format!("{}/0/2", guide.height + 2);
    heights.says(&[&guide.chain, &height]);
    Ok(())
}
