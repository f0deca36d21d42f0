//! What a new unit may differ in from the old one.

/// Whether a variable's value is the old one with moved paths in it.
pub fn follows(old: &str, new: &str, moved: &[(String, String, &str)]) -> bool {
    let mut replaced = old.to_owned();
    for (from, to, _) in moved {
        replaced = replaced.replace(from, to);
    }
    let words = |text: &str| -> Vec<String> {
        let ends = |c: char| c.is_whitespace() || "\"'=:;,".contains(c);
        text.split(ends).map(str::to_owned).collect()
    };
    let moves = |one: &String, two: &String| moved.iter().any(|(f, t, _)| f == one && t == two);
    let (one, two) = (words(old), words(new));
    let mut pairs = one.iter().zip(&two);
    replaced == new || (one.len() == two.len() && pairs.all(|(o, t)| o == t || moves(o, t)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_follows_the_paths_that_move_and_nothing_else() {
        let moved = [
            ("/k/a", "/k/a.v3"),
            ("/k/a.toml", "/k/a.v3.toml"),
            ("/k d/b", "/k d/b.v3"),
        ];
        let moved = moved.map(|(from, to)| (from.to_owned(), to.to_owned(), ""));
        for (old, new) in [
            ("/k/a.toml", "/k/a.v3.toml"),
            ("-c /k/a.toml:/k/a", "-c /k/a.v3.toml:/k/a.v3"),
            ("'/k d/b'", "'/k d/b.v3'"),
        ] {
            assert!(follows(old, new, &moved), "{old}");
        }
        for (old, new) in [
            ("pin-k", "pin-k.v3"),
            ("/k/a.toml x", "/k/a.v3.toml y"),
            ("/k/a.toml", "/k/a.v3.toml /k/a"),
            ("/k/a.toml", "/k/a.v3"),
        ] {
            assert!(!follows(old, new, &moved), "{old}");
        }
    }
}
