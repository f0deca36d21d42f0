//! Where a byte offset is, in an operator's words: line and column.
//!
//! It must never panic on an offset outside the text or inside a character, and never return any of the text.

/// Returns the line and the column (both from 1, the column in characters) of a byte offset.
///
/// An offset past the end is taken as the end; one inside a character as that character's start.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..boundary_before(text, offset)];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[start..].chars().count() + 1,
    )
}

/// Where a text's lines begin, to find the line of many offsets.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Lines {
        let after = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(after).collect())
    }

    /// Returns the line (from 1) of a byte offset; one past the end is on the last line.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset).max(1)
    }
}

/// Returns the last character boundary at or before an offset.
pub(crate) fn boundary_before(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Returns the first character boundary at or after an offset, or the end of the text.
pub(crate) fn boundary_after(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::line_and_column;

    #[test]
    fn counts_lines_and_characters_from_one() {
        let text = "a\r\né = 1\n";
        for (offset, expected) in [
            (0, (1, 1)),
            (2, (1, 3)),
            (3, (2, 1)),
            (4, (2, 1)),
            (5, (2, 2)),
            (10, (3, 1)),
            (99, (3, 1)),
        ] {
            assert_eq!(line_and_column(text, offset), expected, "offset {offset}");
        }
        assert_eq!(line_and_column("", 7), (1, 1));
    }
}
