//! Signers whose units name each other.

use std::fs;

use crate::support::{Host, UNITS};
use crate::{PLAN, WANTS, blocked, there_and_back, unit, wants};

#[test]
fn an_order_between_moving_signers_goes_over_to_their_new_names() {
    let host = Host::of("commercio");
    let said = "After=network.target tmkms-02.service\nWants=tmkms-02.service\nDocumentation=man:tmkms-02.service";
    host.edit(&unit(1), "After=network.target", said);
    host.kmsctl(&PLAN)
        .exits(0)
        .says(&["the other signer moves as well"]);
    there_and_back(&host);
    let new = host.read(&format!("{UNITS}/tmkms-01.v3.service"));
    let wanted = "After=network.target tmkms-02.v3.service\nWants=tmkms-02.v3.service\nDocumentation=man:tmkms-02.service";
    assert!(new.contains(wanted), "{new}");
    // tmkms-01's new text names the new unit: no link is needed.
    host.kmsctl(&["apply", "--yes"]).exits(0);
    assert!(
        !host
            .path(&format!("{UNITS}/tmkms-01.service.wants"))
            .exists()
    );
    // One that stays where it is keeps its name.
    let host = Host::of("commercio");
    host.edit(&unit(1), "After=network.target", said);
    host.kmsctl(&[&PLAN[..], &["--signer", "tmkms-01"]].concat())
        .exits(0);
    host.kmsctl(&["stage", "--yes"]).exits(0);
    assert!(
        host.read(&format!("{UNITS}/tmkms-01.v3.service"))
            .contains(said)
    );
}

#[test]
fn signers_that_stop_or_start_each_other_are_refused() {
    for key in [
        "Requires",
        "BindsTo",
        "Requisite",
        "PartOf",
        "Upholds",
        "Conflicts",
    ] {
        let host = Host::of("commercio");
        host.edit(
            &unit(1),
            "After=",
            &format!("{key}=a.target tmkms-02.service\nAfter="),
        );
        let says = [
            "block[signers-tied] /etc/systemd/system/tmkms-01.service:3:",
            &format!("{key}= ties tmkms-01.service to tmkms-02.service"),
            "After= at most",
        ];
        blocked(&host, &says);
    }
    // The one that stops with it isn't moved with it.
    for key in ["Requires", "BindsTo", "PartOf", "StopPropagatedFrom"] {
        let host = Host::of("commercio");
        host.edit(
            &unit(1),
            "After=",
            &format!("{key}=tmkms-02.service\nAfter="),
        );
        let words = [&PLAN[..], &["--signer", "tmkms-02"]].concat();
        host.kmsctl(&words).exits(3).says(&[
            "block[signers-tied] /etc/systemd/system/tmkms-01.service:3:",
            &format!("{key}= stops tmkms-01.service with tmkms-02.service, which moves"),
        ]);
    }
}

#[test]
fn what_a_specifier_makes_of_another_s_name_is_refused_with_its_line() {
    let host = Host::of("commercio");
    host.edit(
        &unit(1),
        "After=network.target",
        "After=%p.service tmkms-0%%.service\nWants=tmkms-02%H.service",
    );
    host.kmsctl(&PLAN).exits(0);
    let host = Host::of("commercio");
    host.edit(
        &unit(1),
        "After=network.target",
        "After=a.target\nWants=%Nx.service",
    );
    fs::rename(
        host.path(&unit(2)),
        host.path(&format!("{UNITS}/tmkms-01x.service")),
    )
    .unwrap();
    host.remove(&wants(2));
    host.link(
        &format!("{WANTS}/tmkms-01x.service"),
        "/etc/systemd/system/tmkms-01x.service",
    );
    blocked(
        &host,
        &["/etc/systemd/system/tmkms-01.service:4:", "tmkms-01x"],
    );
}
