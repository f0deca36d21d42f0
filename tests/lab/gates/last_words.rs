//! What a failed start logged is said and journalled, out of the real journal, and never a secret with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{APPLY, ROLLBACK, machine, staged};
use crate::fence::halted;
use crate::fleet::{self, Keys};
use crate::kmsctl::{kmsctl, unit_now};

const SECRET: &str = "hunter2hunter2";
/// What another hand made of the new config: a newer tmkms quotes the line that it doesn't take.
const BROKEN: &str = r#"[[providers.yubihsm]]
adapter = { type = "http", addr = "tcp://127.0.0.1:12345" }
auth = { key = 1, password = "hunter2hunter2", extra = 1 }
keys = [{ chain_ids = ["commercio-3"], key = 1 }]
serial_number = "0123456789"
"#;
/// A tmkms that finds that config in the new one's place, where there is one, or that ends without a word. What a newer one
/// would quote is logged by every version.
const PROGRAM: &str = r#"#!/bin/sh
case "$*" in
*.v3.toml)
    [ ! -e /etc/silent ] || exit 3
    [ -e /etc/broken.toml ] || exec "$0-real" "$@"
    sed -n 's/^auth/3 | &/p' /etc/broken.toml >&2
    printf '\033[31mneeds-a-hand\033[0m: \033[1mfirst words\033[0m\n' >&2
    exec "$0-real" start -c /etc/broken.toml
    ;;
esac
exec "$0-real" "$@"
"#;

#[test]
fn a_failed_start_is_explained_without_a_secret() -> Result<()> {
    let machine = machine(1, Keys::Softsign, |_, root| {
        halted(root, 1)?;
        fs::write(root.join("etc/broken.toml"), BROKEN).context("writing a config")?;
        wrapped(root)
    })?;
    machine.sh("systemctl enable --now tmkms-01")?;
    staged(&machine)?;
    let said = kmsctl(&machine, &APPLY)?.exits(4);
    let all = format!("{}{}", said.output.stdout, said.output.stderr);
    ensure!(!all.contains(SECRET) && !all.contains('\x1b'), "{said:?}");
    said.says(&[
        "it logged: needs-a-hand: first words",
        "it logged: error: tmkms fatal error: parse error",
        "taken back to commercio-2_2",
    ]);
    ensure!(
        unit_now(&machine, &fleet::unit_name(1))?.runs(),
        "it is back"
    );

    // The danger is real, and nothing that kmsctl keeps or tells has it.
    let logged = machine.sh("journalctl -q -b -o cat _SYSTEMD_UNIT=tmkms-01.v3.service")?;
    ensure!(logged.contains(SECRET), "{logged}");
    let kept = machine.run(&["grep", "-rlaF", SECRET, "/var/lib/kmsctl", "/etc/kmsctl"])?;
    assert_eq!(kept.code, Some(1), "{kept:?}");
    let journal = machine.sh("grep -rlaF needs-a-hand /var/lib/kmsctl")?;
    ensure!(!journal.is_empty(), "its words aren't journalled");
    for words in [
        &["history", "--json"][..],
        &["history", "1", "--json"],
        &["status", "--json"],
    ] {
        let said = kmsctl(&machine, words)?.exits(0);
        ensure!(!said.output.stdout.contains(SECRET), "{said:?}");
    }
    Ok(())
}

#[test]
fn an_earlier_run_explains_no_failure() -> Result<()> {
    let machine = machine(1, Keys::Softsign, |_, root| {
        halted(root, 1)?;
        wrapped(root)
    })?;
    machine.sh("systemctl enable --now tmkms-01")?;
    staged(&machine)?;
    kmsctl(&machine, &APPLY)?.exits(0);
    kmsctl(&machine, &["apply", "--yes", "--await-signing", "1s"])?
        .exits(7)
        .says(&["Connection refused"]);
    kmsctl(&machine, &ROLLBACK)?.exits(0);
    machine.sh("touch /etc/silent")?;
    let said = kmsctl(&machine, &APPLY)?.exits(4);
    let stderr = &said.output.stderr;
    ensure!(
        !stderr.contains("it logged") && !stderr.contains("that means"),
        "nothing was logged this time: {said:?}"
    );
    Ok(())
}

/// Puts the script in tmkms' place.
fn wrapped(root: &Path) -> Result<()> {
    let bin = root
        .join(fleet::HOME.trim_start_matches('/'))
        .join(".cargo/bin");
    fs::rename(bin.join("tmkms"), bin.join("tmkms-real")).context("moving tmkms")?;
    fs::write(bin.join("tmkms"), PROGRAM).context("writing a script")?;
    fs::set_permissions(bin.join("tmkms"), fs::Permissions::from_mode(0o755))
        .context("making it executable")
}
