//! The five signers: two plain ones, the second with a chain that stays; one enabled and not running; one running and
//! not enabled; one whose links kmsctl moves itself, with a second name.

use kmsctl::unit::UnitName;

use crate::disk::Disk;

pub const OLD: &str = "orbit-1";
pub const NEW: &str = "orbit-2";
/// A second chain of the second signer, which goes on as it is.
pub const STAYS: &str = "other-1";
/// Where the old chain stops.
pub const HALT: u64 = 5000;
/// The new chain's first height.
pub const FIRST: &str = "5001";

pub const SIGNERS: usize = 5;
pub const NOT_RUNNING: usize = 3;
pub const NOT_ENABLED: usize = 4;
const BY_LINK: usize = 5;

const UNITS: &str = "/etc/systemd/system";

pub fn unit(n: usize, new: bool) -> UnitName {
    let revision = if new { ".v2" } else { "" };
    format!("tmkms-0{n}{revision}.service").parse().unwrap()
}

/// Every unit that the night knows.
pub fn units() -> impl Iterator<Item = UnitName> {
    (1..=SIGNERS).flat_map(|n| [unit(n, false), unit(n, true)])
}

pub fn state_text(height: u64, round: u32, step: u8) -> String {
    format!(
        r#"{{"height":"{height}","round":"{round}","step":{step},"block_id":{{"hash":"","part_set_header":{{"total":0,"hash":""}}}}}}"#
    )
}

/// The host before anything happened.
pub fn host() -> Disk {
    let mut disk = Disk::new();
    for folder in ["/var/lib", "/run/kmsctl", "/var/lib/tmkms", UNITS] {
        disk.install_folders(folder.as_ref());
    }
    for n in 1..=SIGNERS {
        let mut chains = chain(n, OLD, "");
        let mut keys = format!(r#"{{ chain_ids = ["{OLD}"], key = {n} }}"#);
        disk.install(&state_file(n, ""), &state_text(HALT - 1, 0, 2));
        if n == 2 {
            chains += &chain(n, STAYS, "-other");
            keys += &format!(r#", {{ chain_ids = ["{STAYS}"], key = 9 }}"#);
            disk.install(&state_file(n, "-other"), &state_text(700, 0, 2));
        }
        let config = format!(
            "{chains}[[providers.yubihsm]]\nadapter = {{ type = \"usb\" }}\n\
             auth = {{ key = 1, password_file = \"/etc/tmkms/password\" }}\nkeys = [{keys}]\n\
             serial_number = \"0123456789\"\n"
        );
        disk.install(&format!("/etc/tmkms/{n}.toml"), &config);
        let alias = if n == BY_LINK {
            "Alias=signer-five.service\n"
        } else {
            ""
        };
        let unit = unit(n, false);
        disk.install(
            &format!("{UNITS}/{unit}"),
            &format!(
                "[Unit]\nDescription=Signer {n}\n\n[Service]\nUser=tmkms\n\
                 ExecStart=/usr/bin/tmkms start -c /etc/tmkms/{n}.toml\nRestart=always\nRestartSec=3\n\n\
                 [Install]\nWantedBy=multi-user.target\n{alias}"
            ),
        );
        let target = match n {
            BY_LINK => format!("../{unit}"),
            _ => format!("{UNITS}/{unit}"),
        };
        if n != NOT_ENABLED {
            disk.install_link(&format!("{UNITS}/multi-user.target.wants/{unit}"), &target);
        }
        if n == BY_LINK {
            let own = format!("{UNITS}/{unit}");
            disk.install_link(&format!("{UNITS}/signer-five.service"), &own);
        }
    }
    disk
}

fn state_file(n: usize, which: &str) -> String {
    format!("/var/lib/tmkms/{n}{which}.json")
}

fn chain(n: usize, id: &str, which: &str) -> String {
    format!(
        "[[chain]]\nid = \"{id}\"\nkey_format = {{ type = \"bech32\", account_key_prefix = \"pub\", \
         consensus_key_prefix = \"conspub\" }}\nstate_file = \"{}\"\n\n[[validator]]\nchain_id = \"{id}\"\n\
         addr = \"tcp://10.0.0.{n}:26658\"\nreconnect = true\nsecret_key = \"/etc/tmkms/connection.key\"\n\
         protocol_version = \"v0.34\"\n\n",
        state_file(n, which)
    )
}
