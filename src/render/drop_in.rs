//! kmsctl's own drop-in, from its template: the assertion that lets a marker file decide who may start.

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use handlebars::Handlebars;
use serde_json::json;

use crate::paths::ManagedPath;
use crate::unit::UnitName;

const NAME: &str = "templates/fence.conf.hbs";
const TEMPLATE: &str = include_str!("../../templates/fence.conf.hbs");

/// What a marker says after its unit's name.
pub const MARKER_SAYS: &str = " doesn't start while this file exists. `kmsctl status` says why.";

/// The text of a unit's fence drop-in. With `exec` it also makes a `simple` unit an `exec` one, whose start fails
/// aloud when the program can't be run.
///
/// Both units of a signer get the same form, so that an upgraded signer's next upgrade finds the drop-in it expects.
pub fn fence(unit: &UnitName, exec: bool) -> Result<String> {
    // Read once: a fleet has many units.
    static ENGINE: OnceLock<Result<Handlebars<'static>, String>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| engine().map_err(|e| e.to_string()));
    let engine = engine.as_ref().map_err(|e| anyhow!("{NAME}: {e}"))?;
    // A unit's name may hold a backslash escape, never a blank or a control character; `%` isn't in its alphabet.
    let marker = ManagedPath::fence(unit);
    let mut text = engine
        .render(NAME, &json!({ "marker": marker, "exec": exec }))
        .with_context(|| format!("rendering {NAME}"))?;
    // It comes with room for eight thousand bytes.
    text.shrink_to_fit();
    Ok(text)
}

fn engine() -> Result<Handlebars<'static>, handlebars::TemplateError> {
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    // Units aren't HTML; what goes in is checked by its type instead.
    engine.register_escape_fn(handlebars::no_escape);
    engine.register_template_string(NAME, TEMPLATE)?;
    Ok(engine)
}
