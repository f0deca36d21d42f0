//! A new signer's tmkms.toml and unit, from their templates.

use anyhow::{Context, Result};
use handlebars::Handlebars;
use serde_json::{Value, json};

use crate::init::{Format, KeysShown, Provider, Signer};

const CONFIG: &str = include_str!("../../templates/tmkms.toml.hbs");
const UNIT: &str = include_str!("../../templates/tmkms.service.hbs");

/// The text of a signer's tmkms.toml.
pub fn config(signer: &Signer) -> Result<String> {
    let names = &signer.names;
    let (softsign, yubihsm) = match &signer.provider {
        Provider::Softsign => (toml(names.key.to_string()), Value::Null),
        Provider::Yubihsm(device) => {
            let password_file = device.password_file.display().to_string();
            let yubihsm = json!({
                "connector": toml(&device.connector),
                "auth_key": device.auth_key,
                "password_file": toml(password_file),
                "key": device.key,
                "serial": device.serial.as_ref().map(toml),
            });
            (Value::Null, yubihsm)
        }
    };
    let values = json!({
        "chain": toml(signer.chain.as_str()),
        "key_format": key_format(&signer.keys_shown),
        "state_file": toml(names.state.to_string()),
        "addr": toml(signer.addr.to_string()),
        "connection_key": toml(names.connection.to_string()),
        "protocol": toml(signer.protocol.as_str()),
        "softsign": softsign,
        "yubihsm": yubihsm,
    });
    let text = rendered(CONFIG, &values).context("rendering templates/tmkms.toml.hbs")?;
    signer
        .is_said_by(&text)
        .map_err(|why| anyhow::anyhow!("the rendered tmkms.toml is wrong: {why}"))?;
    Ok(text)
}

/// The text of its unit. What goes in has no character that systemd reads in its own way: `NewPath`'s and `UnitName`'s
/// alphabets see to it.
pub fn unit(signer: &Signer) -> Result<String> {
    let state_folder = signer.names.state.as_path().parent();
    let hidden = ["/home", "/root", "/run/user"];
    let values = json!({
        "user": signer.user.name,
        "home": signer.home,
        "binary": signer.binary,
        "config": signer.names.config.as_path(),
        "state_folder": state_folder,
        "hide_homes": !hidden.iter().any(|folder| signer.uses(folder)),
        "private_tmp": !["/tmp", "/var/tmp"].iter().any(|folder| signer.uses(folder)),
        "yubihsm": matches!(signer.provider, Provider::Yubihsm(_)),
    });
    rendered(UNIT, &values).context("rendering templates/tmkms.service.hbs")
}

fn rendered(template: &str, values: &Value) -> Result<String> {
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    engine.register_escape_fn(handlebars::no_escape);
    Ok(engine.render_template(template, values)?)
}

/// A text as a TOML string.
fn toml(text: impl AsRef<str>) -> Value {
    Value::String(toml_edit::Value::from(text.as_ref()).to_string())
}

fn key_format(shown: &KeysShown) -> String {
    let kind = match shown.format {
        Format::Bech32 => "bech32",
        Format::CosmosJson => "cosmos-json",
        Format::Hex => "hex",
    };
    let prefixes = shown.prefixes.as_ref().map(|(account, consensus)| {
        let [account, consensus] =
            [account, consensus].map(|prefix| toml_edit::Value::from(prefix.as_str()));
        format!(", account_key_prefix = {account}, consensus_key_prefix = {consensus}")
    });
    format!("type = \"{kind}\"{}", prefixes.unwrap_or_default())
}
