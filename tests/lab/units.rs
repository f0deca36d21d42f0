//! One of each kind of unit that operators have, on a real systemd: there and back, link by link, and over a power cut.
//!
//! The validators are left out: what is looked at is which unit runs, what enables it, and that the way back leaves
//! nothing behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::fleet::{self, Fleet, Keys};
use crate::kmsctl::{self, NEW_CHAIN, UnitNow, eventually, kmsctl, unit_now};
use crate::machine::{Lab, Machine};
use crate::parts::Protocol;
use crate::tree::Tree;

const FLEET: Fleet = Fleet {
    signers: 11,
    protocol: Protocol::V034,
    keys: Keys::Softsign,
};
const PLAN: [&str; 4] = ["plan", "--new-chain", NEW_CHAIN, "--detailed-exitcode"];
/// Everything that kmsctl may have a hand in.
pub const HOST: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/etc/kmsctl",
    "/etc/default",
    "/opt/units",
    "/data_tmkms",
];
/// Each signer's unit before and after, and whether a boot starts it.
const MOVES: [(&str, &str, bool); 11] = [
    ("tmkms@01.service", "tmkms.v3@01.service", true),
    ("tmkms@02.service", "tmkms.v3@02.service", true),
    ("tmkms-03.service", "tmkms-03.v3.service", true),
    ("tmkms-04.service", "tmkms-04.v3.service", true),
    ("tmkms-05.service", "tmkms-05.v3.service", false),
    ("tmkms-06.service", "tmkms-06.v3.service", true),
    ("tmkms-07.service", "tmkms-07.v3.service", true),
    ("tmkms-08.service", "tmkms-08.v3.service", true),
    ("tmkms-09.service", "tmkms-09.v3.service", true),
    ("tmkms-10.service", "tmkms-10.v3.service", false),
    ("tmkms-11.service", "tmkms-11.v3.service", true),
];
/// The one that is enabled and doesn't run.
const STANDBY: &str = "tmkms-11.service";

/// Nobody's config.
const OTHER_CONFIG: &str = "/data_tmkms/tmkms/kms/commercio/other.toml";

/// Turns the guide's units into the kinds that the field has.
fn diversify(root: &Path) -> Result<()> {
    let units = root.join("etc/systemd/system");
    let unit = |number: u8| units.join(fleet::unit_name(number));
    let edit = |number: u8, from: &str, to: &str| -> Result<()> {
        let path = unit(number);
        let text = fs::read_to_string(&path).context("reading a unit")?;
        ensure!(text.contains(from), "no {from:?} in {}", path.display());
        fs::write(&path, text.replace(from, to)).context("writing a unit")
    };
    let write = |path: &str, text: &str| -> Result<()> {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a folder")?).context("making a folder")?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    // A template with two instances, one with a drop-in of its own, and one for both.
    edit(1, "tmkms.01.toml", "tmkms.%i.toml")?;
    fs::rename(unit(1), units.join("tmkms@.service")).context("making a template")?;
    fs::remove_file(unit(2)).context("removing a unit")?;
    write(
        "etc/systemd/system/tmkms@.service.d/nice.conf",
        "[Service]\nNice=1\nRuntimeDirectory=%p-%i\n",
    )?;
    write(
        "etc/systemd/system/tmkms@02.service.d/limit.conf",
        "[Service]\nLimitNOFILE=8192\n",
    )?;
    // A unit file that lies elsewhere, under another name.
    fs::create_dir_all(root.join("opt/units")).context("making a folder")?;
    fs::rename(unit(3), root.join("opt/units/kms-c.service")).context("moving a unit")?;
    symlink("/opt/units/kms-c.service", unit(3)).context("linking a unit")?;
    // Enabled by the name that it has here: systemd's own disable would take the unit away as well.
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).context("making a folder")?;
    symlink(
        "/etc/systemd/system/tmkms-03.service",
        wants.join("tmkms-03.service"),
    )
    .context("enabling a unit")?;
    // Static, wanted by a link that a hand made.
    edit(4, "[Install]\nWantedBy=multi-user.target\n", "")?;
    // One that waits for another.
    edit(5, "[Unit]\n", "[Unit]\nAfter=tmkms-06.service\n")?;
    // A second name, and something beside it.
    edit(
        6,
        "[Install]\n",
        "[Install]\nAlias=kms6.service\nAlso=beside6.service\n",
    )?;
    write(
        "etc/systemd/system/beside6.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
    )?;
    // Variables, continuations, quotes, specifiers, and paths that only a drop-in names.
    let config = fleet::config_path(7);
    edit(
        7,
        &format!("tmkms start -c {config}"),
        "tmkms \\\n    start \\\n    -c \"${CFG}\"",
    )?;
    edit(
        7,
        "SyslogIdentifier=tmkms",
        "EnvironmentFile=/etc/default/%N\nSyslogIdentifier=%N",
    )?;
    write(
        "etc/default/tmkms-07",
        &format!("# the config\nCFG=\"{config}\"\n"),
    )?;
    write(
        "etc/systemd/system/tmkms-07.service.d/paths.conf",
        &format!(
            "[Unit]\nConditionPathExists={config}\n[Service]\nProtectSystem=full\nReadWritePaths=-/run {}\n",
            Path::new(&config).parent().context("a folder")?.display()
        ),
    )?;
    // A mask of a drop-in that the new unit would inherit.
    write(
        "etc/systemd/system/tmkms-.service.d/50-nice.conf",
        "[Service]\nNice=7\n",
    )?;
    symlink("/dev/null", units.join("tmkms-07.service.d/50-nice.conf"))
        .context("masking a drop-in")?;
    // Pulled in by a service's drop-in, and wanted by a target of one's own, with a mask of another dependency.
    edit(8, "[Install]\nWantedBy=multi-user.target\n", "")?;
    edit(9, "WantedBy=multi-user.target", "WantedBy=kms.target")?;
    write(
        "etc/systemd/system/kms.target",
        "[Unit]\nWants=watch8.service\n[Install]\nWantedBy=multi-user.target\n",
    )?;
    write(
        "usr/lib/systemd/system/watch8.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    )?;
    write(
        "usr/lib/systemd/system/watch8.service.d/kms.conf",
        "[Unit]\nWants=tmkms-08.service\n",
    )?;
    symlink("/dev/null", wants.join("tmkms-09.service")).context("masking a dependency")?;
    // A retired one that is masked.
    write("usr/lib/systemd/system/tmkms-00.service", &fleet::unit(1))?;
    symlink("/dev/null", units.join("tmkms-00.service")).context("masking a unit")
}

const ENABLE: &str = "systemctl enable tmkms@01 tmkms@02 tmkms-06 tmkms-07 tmkms-09 tmkms-11 kms.target
systemctl add-wants multi-user.target tmkms-04
systemctl enable --runtime tmkms-05
systemctl start tmkms@01 tmkms@02 tmkms-03 tmkms-04 tmkms-05 tmkms-06 tmkms-07 kms.target tmkms-10 tmkms-11";

/// A machine with one signer of each kind, running on the old side.
pub fn every_kind(lab: &Lab) -> Result<Machine> {
    let machine = Machine::boot(lab, |root| {
        FLEET.write(lab, root)?;
        diversify(root)?;
        kmsctl::install(root)
    })?;
    machine.sh(ENABLE)?;
    eventually("eleven state files", || {
        let made = machine.sh("ls /data_tmkms/tmkms/kms/commercio/*state*.json | wc -l")?;
        Ok(made.trim() == "11")
    })?;
    machine.sh(&format!("systemctl stop {STANDBY}"))?;
    sides(&machine, true)?;
    Ok(machine)
}

#[test]
fn every_kind_of_unit_goes_there_and_back() -> Result<()> {
    let lab = Lab::open()?;
    let mut machine = every_kind(&lab)?;
    let before = Tree::of(&machine, &HOST)?;

    kmsctl(&machine, &PLAN)?.exits(10).says(&[
        "tmkms-00.service is masked",
        "watch8.service pulls tmkms-08.service in",
        "/usr/lib/systemd/system/watch8.service.d/kms.conf",
    ]);
    other_config_blocks(&machine)?;
    kmsctl(&machine, &PLAN)?.exits(10);
    kmsctl(&machine, &["stage", "--yes"])?.exits(0);
    let staged = Tree::of(&machine, &HOST)?;
    kmsctl(&machine, &["apply", "--yes", "--soak", "1"])?.exits(0);
    sides(&machine, false)?;
    kmsctl(&machine, &PLAN)?.exits(0);
    alias_means(&machine, "tmkms-06.v3.service")?;
    let show = |property: &str, unit: &str| {
        machine.sh(&format!("systemctl show -p {property} --value {unit}"))
    };
    ensure!(
        show("Nice", "tmkms-06.v3")?.trim() == "7",
        "a prefix's drop-in"
    );
    ensure!(
        show("Nice", "tmkms-07.v3")?.trim() == "0",
        "which is masked here"
    );
    let after = show("After", "tmkms-05.v3")?;
    ensure!(after.contains("tmkms-06.v3.service"), "{after}");
    let beside = unit_now(&machine, "beside6.service")?;
    ensure!(
        beside.enabled,
        "what Also= names isn't kmsctl's to touch: {beside:?}"
    );

    kmsctl(&machine, &["rollback", "--yes", "--soak", "1"])?.exits(0);
    sides(&machine, true)?;
    alias_means(&machine, "tmkms-06.service")?;
    let no_state = |path: &str| !path.contains("priv_validator_state");
    staged
        .only(no_state)
        .is_still(&Tree::of(&machine, &HOST)?.only(no_state));
    kmsctl(&machine, &["unstage", "--yes"])?.exits(0);
    before
        .only(no_state)
        .is_still(&Tree::of(&machine, &HOST)?.only(no_state));

    // And forward again, over a power cut: a boot starts what it would have started before, on the new side.
    kmsctl(&machine, &PLAN)?.exits(10);
    kmsctl(&machine, &["apply", "--yes", "--soak", "1"])?.exits(0);
    machine.power_cut()?;
    machine.boot_again()?;
    for (old, new, boots) in MOVES {
        eventually(new, || Ok(unit_now(&machine, new)?.runs() == boots))?;
        let old = unit_now(&machine, old)?;
        ensure!(!old.runs(), "{old:?}");
    }
    kmsctl(&machine, &PLAN)?.exits(0);
    Ok(())
}

/// A file of variables is read at each start, and no reload is needed before: what runs isn't what it says.
fn other_config_blocks(machine: &Machine) -> Result<()> {
    const FILE: &str = "/etc/default/tmkms-07";
    machine.sh(&format!(
        "cp -a {FILE} /tmp/kept; cp -a {from} {to}; sed -i 's#^CFG=.*#CFG={to}#' {FILE}",
        from = fleet::config_path(7),
        to = OTHER_CONFIG,
    ))?;
    kmsctl(machine, &PLAN)?.exits(3).says(&[
        "block[process-differs]",
        OTHER_CONFIG,
        "systemctl restart",
    ]);
    machine.sh(&format!("cp -a /tmp/kept {FILE}; rm {OTHER_CONFIG}"))?;
    Ok(())
}

/// Every signer runs on one side, except the standby, and none on the other.
pub fn sides(machine: &Machine, on_old: bool) -> Result<()> {
    for (old, new, _) in MOVES {
        let (take, leave) = if on_old { (old, new) } else { (new, old) };
        let standby = old == STANDBY;
        eventually(take, || Ok(unit_now(machine, take)?.runs() != standby))?;
        let left: UnitNow = unit_now(machine, leave)?;
        ensure!(!left.runs(), "{leave}: {left:?}");
    }
    Ok(())
}

fn alias_means(machine: &Machine, unit: &str) -> Result<()> {
    let id = machine.sh("systemctl show -p Id --value kms6.service")?;
    ensure!(id.trim() == unit, "kms6.service is {id}");
    Ok(())
}
