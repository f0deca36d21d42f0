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
    assert!(
        "state-refused"
            .parse::<Code>()
            .is_ok_and(|c| !c.acceptable())
    );
}
