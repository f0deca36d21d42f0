//! kmsctl's own drop-in, from its template: the assertion that lets a marker file decide who may start.

use anyhow::{Context, Result};
use handlebars::Handlebars;
use serde_json::json;

use crate::paths::ManagedPath;
use crate::unit::UnitName;

const TEMPLATE: &str = include_str!("../../templates/fence.conf.hbs");

/// What a marker says after its unit's name.
pub const MARKER_SAYS: &str = " doesn't start while this file exists. `kmsctl status` says why.";

/// The text of a unit's fence drop-in. With `exec` it also makes a `simple` unit an `exec` one, whose start fails
/// aloud when the program can't be run.
///
/// Both units of a signer get the same form, so that an upgraded signer's next upgrade finds the drop-in it expects.
pub fn fence(unit: &UnitName, exec: bool) -> Result<String> {
    let mut engine = Handlebars::new();
    engine.set_strict_mode(true);
    // Units aren't HTML; what goes in is checked by its type instead.
    engine.register_escape_fn(handlebars::no_escape);
    // A unit's name may hold a backslash escape, never a blank or a control character; `%` isn't in its alphabet.
    let marker = ManagedPath::fence(unit);
    engine
        .render_template(TEMPLATE, &json!({ "marker": marker, "exec": exec }))
        .context("rendering templates/fence.conf.hbs")
}
