//! The fixture's host with a secret in every place that may hold one. All of them are made up.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{CONFIGS, Host, UNITS};

pub const CONNECTION: [&str; 3] = [
    "kV8yTz4mQ1nXw6cRj3bLh7fSg2dPa9eUo5iKt0vMxZs=\n",
    "w1EoBq9sYf3uJk6nTd8gVx2cMz5rHa7iLp4vQe0yRbU=\n",
    "Zt5hWn2kCj8vGd1pXs7mFb4yLq9eRa3uTo6iKc0wMfE=\n",
];
/// Made up, and a key pair: what it signs is nobody's.
pub const CONSENSUS: &str =
    "JqhqFtugRpAewVyaw1dc90KczKiXHCZBfS/EDIXlavWnscvQngT97bAi8LuVxuWaPjtqQVQZLM5j6iHRT5QOww==";
pub const PASSWORD: &str = "correct-horse-battery-staple";
pub const PIN: &str = "tr0ub4dor-and-3";
pub const OLD_PASSWORD: &str = "swordfish-of-old";
pub const API_KEY: &str = "bGV0LW1lLWluLXBsZWFzZQ";

/// Everything that must not be in a snapshot.
pub fn secrets() -> Vec<String> {
    let all = CONNECTION
        .iter()
        .chain(&[CONSENSUS, PASSWORD, PIN, OLD_PASSWORD, API_KEY]);
    all.map(|s| s.trim().to_owned()).collect()
}

/// The fixture's host with a secret in every place that may hold one.
pub fn host_of_secrets() -> Host {
    let host = Host::of("commercio");
    for (number, key) in (1..).zip(CONNECTION) {
        secret(
            &host,
            &format!("{CONFIGS}/secret_connection{number:02}.key"),
            key,
        );
    }
    // Signers 1 and 3 dial with one identity.
    secret(
        &host,
        &format!("{CONFIGS}/secret_connection03.key"),
        CONNECTION[0],
    );
    secret(
        &host,
        "data_tmkms/tmkms/kms/password",
        &format!("{PASSWORD}\n"),
    );
    host.edit(
        &format!("{CONFIGS}/tmkms.02.toml"),
        r#"password_file = "/data_tmkms/tmkms/kms/password""#,
        &format!("password = \"{PASSWORD}\""),
    );
    let comment = format!("# old password: {OLD_PASSWORD}\r\n# a comment that stays\n[[chain]]");
    host.edit(&format!("{CONFIGS}/tmkms.02.toml"), "[[chain]]", &comment);
    let environment = format!(
        "LimitNOFILE=4096\nEnvironmentFile=/etc/default/tmkm[s]\nEnvironment=\"HSM_PIN={PIN}\" \\\n  RUST_LOG=info"
    );
    let unit = format!("{UNITS}/tmkms-02.service");
    host.edit(&unit, "LimitNOFILE=4096", &environment);
    host.write(
        &format!("{UNITS}/tmkms-02.service.d/pin.conf"),
        &format!("[Service]\nSetCredential=pin:{PIN}\n"),
    );
    // Inherited: of all units whose name begins with tmkms-.
    host.write(
        &format!("{UNITS}/tmkms-.service.d/10-limits.conf"),
        "[Service]\nNice=5\n",
    );
    host.write("etc/default/tmkms", &format!("# {PIN}\nHSM_PIN='{PIN}'\n"));
    let key = format!(
        "{{\"address\":\"{}\",\"pub_key\":{{\"type\":\"tendermint/PubKeyEd25519\",\"value\":\"p7HL0J4E/e2wIvC7lcblmj47akFUGSzOY+oh0U+UDsM=\"}},\"priv_key\":{{\"type\":\"tendermint/PrivKeyEd25519\",\"value\":\"{CONSENSUS}\"}}}}",
        "0A".repeat(20)
    );
    secret(&host, "k/priv_validator_key.json", &key);
    soft_signer(&host);
    host
}

/// A stopped and enabled signer of another chain, whose key is a file, its config and state behind linked folders.
fn soft_signer(host: &Host) {
    host.write("k/real/tmkms.toml", &soft_config());
    host.write(
        "k/real/state.json",
        r#"{"height":"7","round":"0","step":2,"block_id":null}"#,
    );
    host.link("home", "/k");
    host.link("k/current", "real");
    host.write(
        "opt/soft.service",
        "[Service]\nUser=k\nWorkingDirectory=/home/current\nEnvironment=CFG=/home/current/tmkms.toml\n\
         Environment=TMKMS_CONFIG_FILE=/home/current/tmkms.toml PIN2=abcd\nExecStart=/b/tmkms start\n\
         [Install]\nWantedBy=multi-user.target\n",
    );
    host.link(&format!("{UNITS}/soft.service"), "/opt/soft.service");
    host.link(&format!("{UNITS}/by-another-name.service"), "soft.service");
    let units = r#"{"format_version":1,"starts":3,"units":{"#.to_owned();
    let running = (1..=3).map(|n| {
        format!(
            r#""tmkms-0{n}.service":{{"active":"active","sub":"running","main_pid":100{n},"invocation":"0{n}","restarts":0,"control_group":""}}"#
        )
    });
    let running: Vec<String> = running.collect();
    host.write(
        "run/kmsctl/services.json",
        &format!("{units}{}}}}}", running.join(",")),
    );
    host.link(
        &format!("{UNITS}/multi-user.target.wants/soft.service"),
        "../soft.service",
    );
}

pub fn soft_config() -> String {
    format!(
        "[[chain]]\nid = \"haqq-1\"\nkey_format = {{ type = \"hex\" }}\nstate_file = \"state.json\"\n\
         [[validator]]\naddr = \"tcp://10.1.1.9:26658\"\nchain_id = \"haqq-1\"\nprotocol_version = \"v0.34\"\n\
         [[providers.softsign]]\nchain_ids = [\"haqq-1\"]\nkey_format = \"json\"\npath = \"/k/priv_validator_key.json\"\n\
         [[providers.fortanixdsm]]\napi_endpoint = \"https://dsm\"\napi_key = \"{API_KEY}\"\nsigning_keys = []\n"
    )
}

fn secret(host: &Host, path: &str, text: &str) {
    host.write(path, text);
    fs::set_permissions(host.path(path), fs::Permissions::from_mode(0o600)).unwrap();
}
