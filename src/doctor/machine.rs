//! The machine under the signers: devices and their connectors, the clock, room on disks, the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Check;
use crate::finding::{Code, Finding};
use crate::host::hsm::{Adapter, SESSIONS, Trouble, connector};
use crate::host::memory::FOLDER;
use crate::host::{Host, Space};
use crate::inventory::Inventory;
use crate::keys::Device;
use crate::plan::safety::identity::{self, Held};
use crate::unit::UnitText;

/// The unit that Yubico's package brings.
const CONNECTOR_UNIT: &str = "yubihsm-connector.service";
/// What an operation may write to its journal and copies, with room to spare.
const JOURNAL_NEEDS: u64 = 64 << 20;
/// What a state file and its next version take, many times over.
const STATE_NEEDS: u64 = 1 << 20;
/// A new file each for config, unit, drop-ins, journals.
const FILES_NEEDED: u64 = 256;

/// Whether the YubiHSMs can be reached, and have sessions free.
pub fn devices(host: &mut Host, inventory: &Inventory) -> Check {
    let mut findings = Vec::new();
    let mut lines = Vec::new();
    let mut connectors: BTreeMap<&str, &Device> = BTreeMap::new();
    let mut unseen = BTreeSet::new();
    for device in &inventory.keys.devices {
        if let Adapter::Http { addr } = &device.adapter {
            connectors.entry(addr).or_insert(device);
        }
        match &device.answer {
            Ok(_) => {}
            Err(Trouble::Full(why)) => findings.push(full_device(device, why)),
            Err(trouble) => drop(unseen.insert(trouble.to_string())),
        }
    }
    for Held { device, running } in identity::sessions(inventory) {
        if device.answer.is_ok() {
            lines.push(format!(
                "{}: a session was free; of {SESSIONS}, running signers hold {running} or more",
                device.adapter
            ));
        }
        findings.extend(tight(device, running));
    }
    let any = !inventory.keys.devices.is_empty();
    if !host.modelled {
        for (addr, device) in connectors {
            findings.extend(connector_of(host, addr, device));
        }
    }
    let nothing_seen = lines.is_empty() && findings.is_empty();
    let check = Check::of(
        "devices",
        match any {
            true => lines.join("; "),
            false => "no signer has its key in a YubiHSM".into(),
        },
        findings,
    );
    match (host.modelled && any, unseen.is_empty()) {
        (true, _) => check.not("no device is asked for a folder"),
        (false, true) => check,
        (false, false) if nothing_seen => check.not(&Vec::from_iter(unseen).join("; ")),
        (false, false) => check.in_part(Vec::from_iter(unseen).join("; ")),
    }
}

/// What a signer that is started meanwhile would meet.
fn full_device(device: &Device, why: &str) -> Finding {
    let message = format!("{why}: no signer can be started on it now");
    Finding::warn(Code::HsmFull, message)
        .at(&device.config)
        .line(device.line)
        .remedy(
            "wait half a minute: a device gives idle sessions back after 30 s; `systemctl stop` signers that aren't needed",
        )
}

/// A killed tmkms gives its session back only after half a minute: restarting everybody takes two each.
fn tight(device: &Device, running: usize) -> Option<Finding> {
    (running * 2 > SESSIONS).then(|| {
        let message = format!(
            "{running} signers share the {SESSIONS} sessions of the YubiHSM at {}: restarted within 30 s, they need twice \
             as many as they are",
            device.adapter
        );
        Finding::warn(Code::HsmFull, message)
            .at(&device.config)
            .line(device.line)
            .remedy("switch them in groups (`plan --signer`), half a minute apart")
    })
}

fn connector_of(host: &mut Host, addr: &str, device: &Device) -> Option<Finding> {
    let away = |message: String, remedy: &str| {
        Some(
            Finding::block(Code::ConnectorAway, message)
                .at(&device.config)
                .line(device.line)
                .remedy(remedy),
        )
    };
    let mut unit_up = || {
        let unit = CONNECTOR_UNIT.parse().ok()?;
        Some(host.services.run(&unit).ok()?.state.is_up())
    };
    let (name, _) = connector::host_and_port(addr).ok()?;
    let here = name == "localhost" || name.starts_with("127.") || name == "[::1]";
    let up = if here { unit_up() } else { None };
    match host.hsm.status(addr) {
        Err(trouble) if up == Some(false) => away(
            format!("{trouble}, and {CONNECTOR_UNIT} doesn't run"),
            "`systemctl enable --now yubihsm-connector`",
        ),
        Err(trouble) => away(
            trouble.to_string(),
            "`systemctl status yubihsm-connector` where it runs",
        ),
        Ok(status) if !status.device => away(
            format!("the connector at {addr} runs, and has no YubiHSM"),
            "plug it in, or let the connector's user at it (udev)",
        ),
        Ok(_) if up == Some(false) => {
            let message = format!(
                "the connector at {addr} answers, and {CONNECTOR_UNIT} doesn't run: nothing says that a boot brings it back"
            );
            Some(
                Finding::info(Code::ConnectorAway, message)
                    .at(&device.config)
                    .line(device.line)
                    .remedy("make sure that what runs it is enabled"),
            )
        }
        Ok(_) => None,
    }
}

/// Whether the clock is kept right: signers of several hosts are compared by it, and votes carry it.
pub fn clock(host: &Host) -> Check {
    let finding = Finding::warn(
        Code::ClockAdrift,
        "the clock isn't synchronised: journals and other hosts' heights are compared by it",
    )
    .remedy("`timedatectl set-ntp true`, or start chrony");
    let check = |findings| Check::of("clock", "synchronised".into(), findings);
    match host.clock.synchronised() {
        _ if host.modelled => check(Vec::new()).not("a folder has no clock"),
        Some(true) => check(Vec::new()),
        Some(false) => check(vec![finding]),
        None => check(Vec::new()).not("timedatectl doesn't say"),
    }
}

/// Whether there is room for state files and for kmsctl's own records.
pub fn space(host: &Host, inventory: &Inventory) -> Check {
    // kmsctl's folder comes with its first plan.
    let mut wanted: Vec<(PathBuf, u64, &str)> = Vec::new();
    let own = PathBuf::from(FOLDER);
    let there = own
        .ancestors()
        .find(|f| matches!(host.files.entry(f), Ok(Some(_))));
    wanted.extend(there.map(|f| (f.to_owned(), JOURNAL_NEEDS, "kmsctl's journals")));
    let states = inventory.current().flat_map(|s| &s.chains);
    let folders: BTreeSet<_> = states.filter_map(|c| c.state_file.parent()).collect();
    wanted.extend(
        folders
            .into_iter()
            .map(|f| (f.to_owned(), STATE_NEEDS, "state files")),
    );
    let mut findings = Vec::new();
    let mut least: Option<u64> = None;
    let mut unjudged = Vec::new();
    for (folder, needs, whose) in wanted {
        match host.files.space(&folder) {
            Ok(Some(space)) => {
                least = Some(least.map_or(space.bytes, |l| l.min(space.bytes)));
                findings.extend(full(space, needs, whose).map(|f| f.at(&folder)));
            }
            Ok(None) => {}
            Err(e) => unjudged.push(format!("{}: {e}", folder.display())),
        }
    }
    let fine = format!("{} MiB free, at the least", least.unwrap_or_default() >> 20);
    let check = Check::of("space", fine, findings);
    match (host.modelled, unjudged.is_empty()) {
        (true, _) => {
            Check::of("space", String::new(), Vec::new()).not("a folder's disk isn't the host's")
        }
        (false, true) => check,
        (false, false) => check.in_part(unjudged.join("; ")),
    }
}

fn full(space: Space, needs: u64, whose: &str) -> Option<Finding> {
    let message = if space.bytes < needs {
        format!(
            "{} KiB are free here, and {whose} need {}",
            space.bytes >> 10,
            needs >> 10
        )
    } else {
        let files = space.files.filter(|files| *files < FILES_NEEDED)?;
        format!("room for {files} more files is left here, and {whose} may need {FILES_NEEDED}")
    };
    Some(
        Finding::block(Code::DiskFull, message).remedy(
            "make room: a signer that can't write its state signs nothing, and a switch without a journal isn't begun",
        ),
    )
}

/// Whether what the signers log can be read, where kmsctl looks for it.
pub fn journal(host: &mut Host, inventory: &Inventory) -> Check {
    let mut findings = Vec::new();
    for signer in inventory.current() {
        let mut text = UnitText::default();
        for part in signer.unit.texts() {
            text.extend(UnitText::parse(part).unwrap_or_default());
        }
        let to = text.last("Service", "StandardOutput").unwrap_or("journal");
        let read = ["journal", "inherit", "syslog", "kmsg"];
        if !to.is_empty() && !read.iter().any(|kind| to.starts_with(kind)) {
            let message = format!(
                "StandardOutput={to}: what this signer says isn't in the journal, and kmsctl can't show it"
            );
            findings.push(
                Finding::info(Code::JournalUnread, message)
                    .of(signer.name())
                    .at(&signer.unit.fragment)
                    .remedy(
                        "look there yourself on the night; heights and states don't depend on it",
                    ),
            );
        }
    }
    let reads = host.processes.reads_journal();
    if reads == Some(false) {
        findings.push(
            Finding::warn(
                Code::JournalUnread,
                "the journal can't be read: why a signer failed won't be shown",
            )
            .remedy("run kmsctl as root, or add its user to the group systemd-journal"),
        );
    }
    let check = Check::of("journal", "what signers log can be read".into(), findings);
    match (host.modelled, reads) {
        (true, _) => check.not("a folder has no journal"),
        (false, None) => check.in_part("journalctl doesn't say".into()),
        (false, Some(_)) => check,
    }
}
