//! Edits: quotes kept, everything else untouched, and no edit on a text it wasn't made for.

use tmkms_core::{Config, Edit, EditError, Spanned, apply};

fn with_path(token: &str) -> (String, Spanned<String>) {
    let text =
        format!("providers.softsign = [{{ chain_ids = ['a', \"b\"], path = {token} }}] # path\r\n");
    let path = Config::parse(&text).expect("sound").softsign[0]
        .path
        .clone();
    (text, path)
}

#[test]
fn keeps_the_quotes_where_the_value_allows() {
    for (old, to, new) in [
        ("\"x\"", "y", "\"y\""),
        ("'x'", "y", "'y'"),
        ("'x'", "y\\z\"", "'y\\z\"'"),
        ("'x'", "it's", "\"it's\""),
        ("'''x'''", "y", "\"y\""),
        ("\"\"\"\nx\"\"\"", "y", "\"y\""),
        ("\"x\"", "", "\"\""),
        ("\"x\"", "é ü", "\"é ü\""),
        ("\"x\\u0041\"", "xA", "\"x\\u0041\""),
        ("\"\"\"x\"\"\"", "x", "\"\"\"x\"\"\""),
        ("''", "", "''"),
    ] {
        let (text, path) = with_path(old);
        let edit = Edit::string(&text, &path, to).unwrap();
        assert_eq!(edit.raw_to, new, "{old} to {to}");
        let result = apply(&text, &[edit]).unwrap();
        assert_eq!(result, text.replace(old, new));
        assert_eq!(Config::parse(&result).unwrap().softsign[0].path.value, to);
    }
    for to in ["a\"b", "a\\b", "a\"b'c\\", "'''", "\"\"\""] {
        let (text, path) = with_path("\"x\"");
        let result = apply(&text, &[Edit::string(&text, &path, to).unwrap()]).unwrap();
        assert_eq!(Config::parse(&result).unwrap().softsign[0].path.value, to);
        assert_eq!(result.lines().count(), 1, "{result}");
    }
}

#[test]
fn refuses_control_characters() {
    let (text, path) = with_path("\"x\"");
    for to in ["a\nb", "a\0", "\t", "\u{7f}", "\u{85}", "\u{1b}[31m"] {
        assert_eq!(
            Edit::string(&text, &path, to),
            Err(EditError::Control { line: 1 }),
            "{to:?}"
        );
    }
}

#[test]
fn refuses_another_text() {
    let (text, path) = with_path("\"x\"");
    let edit = Edit::string(&text, &path, "y").unwrap();
    for other in [
        "",
        "é",
        &text.replace("\"x\"", "\"z\""),
        &format!(" {text}"),
        &text.replace("\"x\"", "'x'"),
    ] {
        assert!(
            matches!(
                Edit::string(other, &path, "y"),
                Err(EditError::Moved { .. })
            ) || other.contains("'x'")
        );
        assert!(
            matches!(
                apply(other, std::slice::from_ref(&edit)),
                Err(EditError::Moved { .. })
            ),
            "{other:?}"
        );
    }
    let inside = Spanned {
        span: path.span.start + 1..path.span.end,
        ..path.clone()
    };
    assert_eq!(
        Edit::string(&text, &inside, "y"),
        Err(EditError::Moved { line: 1 })
    );
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "a caller may hand over anything"
    )]
    let reversed = Spanned { span: 9..3, ..path };
    assert_eq!(
        Edit::string(&text, &reversed, "y"),
        Err(EditError::Moved { line: 1 })
    );
}

#[test]
fn refuses_overlaps_and_tokens_that_say_something_else() {
    let (text, path) = with_path("\"x\"");
    let edit = Edit::string(&text, &path, "y").unwrap();
    assert_eq!(
        apply(&text, &[edit.clone(), edit.clone()]),
        Err(EditError::Overlap { line: 1 })
    );
    for raw_to in [
        "\"z\"",
        "y",
        "\"y\", more = \"y\"",
        "\"y\" ",
        " \"y\"",
        "1",
        "[\"y\"]",
        "\"y",
        "",
    ] {
        let forged = Edit {
            raw_to: raw_to.to_owned(),
            ..edit.clone()
        };
        assert_eq!(
            apply(&text, &[forged]),
            Err(EditError::Unsound { line: 1 }),
            "{raw_to}"
        );
    }
    assert_eq!(apply(&text, &[]).unwrap(), text);
}

#[test]
fn changes_one_of_several_in_an_array() {
    let (text, _) = with_path("\"x\"");
    let config = Config::parse(&text).unwrap();
    let edits: Vec<Edit> = config.softsign[0]
        .chain_ids
        .iter()
        .rev()
        .map(|id| Edit::string(&text, id, "long-name-3").unwrap())
        .collect();
    let expected = text.replace("['a', \"b\"]", "['long-name-3', \"long-name-3\"]");
    assert_eq!(apply(&text, &edits).unwrap(), expected);
}
