//! What doctor says of the coming plan.

use crate::support::CONFIGS;
use crate::{check, doctor, finds, sound};

#[test]
fn the_coming_plan() {
    let host = sound();
    let report = doctor(&host, &["--new-chain", "commercio-3"], 0);
    // Nothing of a folder is executed: what its tmkms is isn't known, and is all there is to say.
    finds(&report, "plan", "warn", "version-unknown", &["tmkms"]);
    let findings = check(&report, "plan")["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    host.write(&format!("{CONFIGS}/tmkms.02.v3.toml"), "somebody's");
    let report = doctor(&host, &["--new-chain", "commercio-3"], 3);
    finds(
        &report,
        "plan",
        "block",
        "file-in-the-way",
        &["tmkms.02.v3.toml"],
    );
    // The saved plan is judged without being named.
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(3);
    finds(
        &doctor(&host, &[], 3),
        "plan",
        "block",
        "file-in-the-way",
        &["tmkms.02.v3.toml"],
    );
    host.remove(&format!("{CONFIGS}/tmkms.02.v3.toml"));
    host.kmsctl(&["plan", "--new-chain", "commercio-3"])
        .exits(0);
    host.kmsctl(&["apply", "--yes"]).exits(0);
    let report = doctor(&host, &[], 0);
    assert!(
        check(&report, "plan")["unjudged"]
            .as_str()
            .unwrap()
            .contains("there already"),
        "{report}"
    );
    // No such chain.
    host.kmsctl(&["doctor", "--new-chain", "nowhere-3"])
        .exits(3);
}
