//! `state_hook`: unusable in every tmkms, and each way of it ends differently.
//!
//! `cmd` holds OS strings, which serde reads as `{ Unix = [bytes] }` and never as text. A hook that does run has its
//! output thrown away, so that tmkms goes on without a height, or refuses to start where `fail_closed` is set.

use toml_edit::{Document, Item, TableLike, Value};

use super::schema::{place, tables};
use super::{Case, Effect, Kind};

pub(super) fn judge(case: &mut Case<'_>, document: &Document<&str>) {
    for chain in tables(document.as_table().get("chain")) {
        let Some(item) = chain.get("state_hook") else {
            continue;
        };
        let span = place(chain, "state_hook", item);
        let (effect, message) = outcome(item);
        let message = format!("{message}: no tmkms ever started with the height of a hook");
        let remedy = "take `state_hook` out; set a height by the state file";
        case.say(Kind::StateHook, effect, &span, message, remedy);
    }
}

fn outcome(item: &Item) -> (Effect, &'static str) {
    let Some(hook) = item.as_table_like() else {
        return (Effect::Refuses, "tmkms takes a table as `state_hook`");
    };
    let known = |name: &str| matches!(name, "cmd" | "timeout_secs" | "fail_closed");
    if hook.iter().any(|(name, _)| !known(name)) {
        return (
            Effect::Refuses,
            "a `state_hook` has a field that tmkms refuses",
        );
    }
    let timeout = hook.get("timeout_secs").map(Item::as_integer);
    if timeout.is_some_and(|seconds| seconds.is_none_or(|s| s < 0)) {
        return (Effect::Refuses, "`timeout_secs` isn't a number of seconds");
    }
    let Some(fail_closed) = hook.get("fail_closed").and_then(Item::as_bool) else {
        return (
            Effect::Refuses,
            "a `state_hook` has no `fail_closed`, true or false",
        );
    };
    let Some(cmd) = hook.get("cmd").and_then(Item::as_array) else {
        return (Effect::Refuses, "a `state_hook` has no list as `cmd`");
    };
    if cmd.is_empty() {
        return (Effect::Panics, "tmkms panics on an empty `cmd`");
    }
    if !cmd.iter().all(is_os_string) {
        return (
            Effect::Refuses,
            "tmkms can't read the words of `cmd` as text and refuses the config",
        );
    }
    match fail_closed {
        true => (
            Effect::Refuses,
            "tmkms runs the hook, can't read its answer, and exits as `fail_closed` says",
        ),
        false => (
            Effect::Trap,
            "tmkms runs the hook, can't read its answer, and starts without it",
        ),
    }
}

fn is_os_string(value: &Value) -> bool {
    let bytes = |table: &dyn TableLike| {
        let unix = table.get("Unix").and_then(Item::as_array);
        table.len() == 1
            && unix.is_some_and(|bytes| {
                let byte = |v: &Value| v.as_integer().is_some_and(|b| u8::try_from(b).is_ok());
                bytes.iter().all(byte)
            })
    };
    value
        .as_inline_table()
        .is_some_and(|table| bytes(table as &dyn TableLike))
}
