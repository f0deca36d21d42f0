//! `docs/findings.md` says of every code what the code says.

use kmsctl::finding::{Code, about};
use snapbox::{Assert, Data, IntoData};

#[test]
fn the_page_on_findings_is_the_codes_own() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/findings.md");
    let page = about::page();
    let judge = Assert::new().action_env("SNAPSHOTS");
    judge
        .try_eq(
            Some(&path),
            page.into_data().raw(),
            Data::read_from(path.as_ref(), None).raw(),
        )
        .unwrap();
}

#[test]
fn no_code_is_left_out() {
    let source = include_str!("../src/finding.rs");
    let list = source.split_once("pub enum Code {").unwrap().1;
    let list = list.split_once("\n}").unwrap().0;
    let codes = list.lines().filter(|l| l.trim().ends_with(','));
    let page = about::page();
    let rows = page.lines().filter(|l| l.starts_with("| `")).count();
    assert_eq!(rows, codes.count());
}

/// The ones that block, each with the rule that it guards; whatever guards none may be overruled.
#[test]
fn what_guards_no_rule_may_be_overruled() {
    let page = about::page();
    let rows = page.lines().filter_map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let code = cells[0].strip_prefix("| `")?.strip_suffix('`')?;
        let accept = cells.last()?.trim_end_matches(" |").to_owned();
        Some((
            code.parse::<Code>().ok()?,
            cells[1].contains("block"),
            accept,
        ))
    });
    let mut overruled = Vec::new();
    for (code, blocks, accept) in rows {
        assert_eq!(code.acceptable(), accept == "yes", "{code}");
        match (blocks, accept.as_str()) {
            (true, "yes") => overruled.push(code.to_string()),
            (true, said) => assert!(said.starts_with("no: "), "{code}: {said}"),
            (false, said) => assert_eq!(said, "–", "{code}"),
        }
    }
    // What kmsctl knows of a tmkms, of the devices and of the host: not one of them is a rule's.
    assert_eq!(
        overruled,
        [
            "access-denied",
            "address-refused",
            "chain-id-refused",
            "chain-repeated",
            "chain-unknown",
            "field-unknown",
            "hsm-key-unfit",
            "hsm-refused",
            "hsm-serial",
            "identity-key",
            "key-file-refused",
            "key-unfit",
            "password-file-refused",
            "protocol-refused",
            "provider-refused",
            "serial-refused",
            "state-hook",
            "state-unknown",
            "version-unknown",
        ]
    );
}
