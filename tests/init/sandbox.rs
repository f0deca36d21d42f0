//! The rendered unit hides from tmkms what it doesn't need, and never what it does: where a link leads counts as much as
//! where it stands.

use super::support::Host;
use super::{Init, host};

const UNIT: &str = "etc/systemd/system/tmkms.service";

/// A signer outside everybody's home, for whom homes can be hidden.
fn init() -> Init {
    Init::haqq().with(&[("home", "/srv/kms")])
}

#[track_caller]
fn hides(host: &Host, init: &Init, setting: &str) -> bool {
    init.run(host).exits(0);
    host.read(UNIT).contains(&format!("\n{setting}=yes\n"))
}

#[test]
fn homes_are_hidden_where_nothing_leads_into_one() {
    assert!(hides(&host("haqq_11235-1"), &init(), "ProtectHome"));
    // The program itself, behind a link, and behind a link in its folders.
    for (link, target) in [
        ("usr/local/bin/tmkms", "/root/.cargo/bin/tmkms"),
        ("usr/local/bin/tmkms", "../../../root/.cargo/bin/tmkms"),
        ("usr/local/bin/tmkms", "/opt/tmkms"),
    ] {
        let host = host("haqq_11235-1");
        host.program("root/.cargo/bin/tmkms");
        std::fs::create_dir_all(host.path("opt")).unwrap();
        host.link("opt/tmkms", "/root/.cargo/bin/tmkms");
        host.remove(link);
        host.link(link, target);
        assert!(!hides(&host, &init(), "ProtectHome"), "{link} -> {target}");
    }
    // A way that comes out again still goes through one.
    let through = host("haqq_11235-1");
    through.program("srv/bin/tmkms");
    through.link("root/bin", "/srv/bin");
    through.remove("usr/local/bin/tmkms");
    through.link("usr/local/bin/tmkms", "/root/bin/tmkms");
    assert!(!hides(&through, &init(), "ProtectHome"));
}

#[test]
fn a_password_file_behind_a_link_is_reached() {
    let init = init().without("import").without("state").with(&[
        ("yubihsm-key", "1"),
        ("connector", "tcp://127.0.0.1:12345"),
        ("auth-key", "1"),
        ("password-file", "/srv/password"),
        ("serial-number", "0123456789"),
        ("height", "5"),
    ]);
    for (target, setting) in [
        ("/home/v/password", "ProtectHome"),
        ("/tmp/password", "PrivateTmp"),
        ("/var/tmp/password", "PrivateTmp"),
    ] {
        let host = host("haqq_11235-1");
        host.write(target, "made-up-password\n");
        std::fs::create_dir_all(host.path("srv")).unwrap();
        host.link("srv/password", target);
        assert!(!hides(&host, &init, setting), "{target}");
    }
    let plain = host("haqq_11235-1");
    plain.write("srv/password", "made-up-password\n");
    assert!(hides(&plain, &init, "ProtectHome"));
    assert!(plain.read(UNIT).contains("\nPrivateTmp=yes\n"));
}

#[test]
fn a_program_that_leads_nowhere_is_refused() {
    for target in ["/root/.cargo/bin/none", "tmkms"] {
        let host = host("haqq_11235-1");
        host.remove("usr/local/bin/tmkms");
        host.link("usr/local/bin/tmkms", target);
        let before = host.tree();
        init()
            .with(&[("binary", "/usr/local/bin/tmkms")])
            .run(&host)
            .exits(3)
            .says(&["/usr/local/bin/tmkms: it leads to /", "where nothing is"]);
        assert_eq!(host.tree(), before);
    }
}
