//! Where a signer may be set up: where its user comes to, and nobody else puts anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::refused::refused;
use super::support::Host;
use super::{Init, host};

#[test]
fn a_place_that_the_user_can_t_come_to() {
    let host = host("haqq_11235-1");
    fs::set_permissions(host.path("root"), fs::Permissions::from_mode(0o700)).unwrap();
    let init = Init::haqq().with(&[("user", "tmkms")]);
    if rustix::process::geteuid().is_root() {
        refused(
            &host,
            &init,
            3,
            &[
                "/root: tmkms, as whom tmkms.service runs, can't pass this folder (0700 root:",
                "leave the rights of /root as the system has them",
                "another --user",
            ],
        );
    }
    // A fleet's folder that its user can't write, and a binary that it can't run.
    if rustix::process::geteuid().is_root() {
        let host = super::host("haqq_11235-1");
        host.write("srv/kms/other", "");
        let fleet = init.with(&[("home", "/srv/kms"), ("name", "01")]);
        let words = [
            "/srv/kms: tmkms, as whom tmkms-01.service runs, can't write",
            "chown tmkms /srv/kms",
        ];
        refused(&host, &fleet, 3, &words);
        // root, from whom the unit takes the power to pass over modes.
        fs::set_permissions(host.path("srv/kms"), fs::Permissions::from_mode(0o500)).unwrap();
        let fleet = fleet.with(&[("user", "root")]);
        refused(
            &host,
            &fleet,
            3,
            &["/srv/kms: root, as whom tmkms-01.service runs, can't write"],
        );
    }
    let host = super::host("haqq_11235-1");
    fs::set_permissions(
        host.path("usr/local/bin/tmkms"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    refused(
        &host,
        &Init::haqq(),
        3,
        &["/usr/local/bin/tmkms: ", "can't run it", "--binary"],
    );
    let linked = super::host("haqq_11235-1");
    fs::create_dir_all(linked.path("srv/kms")).unwrap();
    symlink("/srv/kms", linked.path("kms")).unwrap();
    refused(
        &linked,
        &Init::haqq().with(&[("home", "/kms")]),
        3,
        &["/kms is a link to /srv/kms"],
    );
    refused(
        &linked,
        &Init::haqq().with(&[("home", "/kms/a")]),
        3,
        &["/kms is a link to /srv/kms"],
    );
}

#[test]
fn a_folder_that_others_may_change_is_no_home() {
    let mode = |host: &Host, path: &str, mode: u32| {
        fs::create_dir_all(host.path(path)).unwrap();
        fs::set_permissions(host.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let init = Init::haqq().with(&[("home", "/srv/kms")]);
    for (folder, bits, words) in [
        (
            "srv/kms",
            0o777,
            "/srv/kms: everybody may change this folder (0777",
        ),
        (
            "srv/kms",
            0o1777,
            "`chmod o-w /srv/kms`, or name another place",
        ),
        ("srv", 0o777, "/srv: everybody may change this folder (0777"),
    ] {
        let host = host("haqq_11235-1");
        mode(&host, "srv/kms", 0o700);
        mode(&host, folder, bits);
        refused(
            &host,
            &init,
            3,
            &[words, "another key or an older state file"],
        );
        mode(&host, folder, 0o755);
        init.run(&host).exits(0);
    }
    // Below a folder such as /tmp nobody moves what is another's.
    let host = host("haqq_11235-1");
    mode(&host, "srv/kms", 0o700);
    mode(&host, "srv", 0o1777);
    init.run(&host).exits(0);
    // Of a fleet as well.
    let host = super::host("haqq_11235-1");
    host.write("srv/kms/other", "");
    mode(&host, "srv/kms", 0o757);
    refused(
        &host,
        &init.clone().with(&[("name", "01")]),
        3,
        &["everybody may change"],
    );
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (folder, owner, group, bits, words) in [
        (
            "srv/kms",
            Some(4000),
            None,
            0o700,
            &[
                "/srv/kms: 4000 may change this folder (0700 4000:",
                "`chown root /srv/kms`",
            ][..],
        ),
        (
            "srv",
            Some(4000),
            None,
            0o755,
            &["/srv: 4000 may change", "name another place, or the --user"],
        ),
        (
            "srv/kms",
            None,
            Some(4000),
            0o770,
            &[
                "/srv/kms: the group 4000 may change",
                "`chmod g-w /srv/kms`",
            ],
        ),
    ] {
        let host = super::host("haqq_11235-1");
        mode(&host, "srv/kms", 0o700);
        std::os::unix::fs::chown(host.path(folder), owner, group).unwrap();
        mode(&host, folder, bits);
        refused(&host, &init, 3, words);
    }
    // Its user's own.
    let host = super::host("haqq_11235-1");
    mode(&host, "srv/kms", 0o770);
    std::os::unix::fs::chown(host.path("srv/kms"), Some(2000), Some(2000)).unwrap();
    init.with(&[("user", "tmkms")]).run(&host).exits(0);
}
