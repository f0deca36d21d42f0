//! A config's text as it may be shown: a line at a time, secrets hidden.
//!
//! Of a text that isn't TOML nothing but the names of tmkms' own fields is shown: where its secrets are can't be said.

use std::fmt;
use std::ops::Range;

use tmkms_core::config::{PLACEHOLDER, is_field, secret_spans};

/// No line is shown at greater length.
const WIDEST: usize = 240;

/// A config's text, its lines and its secrets.
pub struct Source {
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
    /// None where the text isn't TOML.
    secrets: Option<Vec<Range<usize>>>,
}

/// One line, and the place in it that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub line: String,
    pub marked: Range<usize>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source of {} lines", self.lines.len())
    }
}

impl Source {
    pub fn of(text: String) -> Source {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        Source {
            lines: std::iter::once(0).chain(starts).collect(),
            secrets: secret_spans(&text).ok(),
            text,
        }
    }

    /// The line (from 1) of a byte.
    pub fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).max(1)
    }

    /// The first and the last column (from 1, in characters) of a span, as much of it as is on its first line.
    pub fn columns(&self, span: &Range<usize>) -> (usize, usize) {
        let (start, line) = self.text_of_line(span.start);
        let column = |at: usize| {
            let before = line.char_indices().take_while(|(i, _)| start + i < at);
            before.count() + 1
        };
        let first = column(span.start);
        (
            first,
            column(span.end.min(start + line.len())).max(first + 1) - 1,
        )
    }

    fn text_of_line(&self, at: usize) -> (usize, &str) {
        let number = self.line(at);
        let start = self.lines[number - 1].min(self.text.len());
        let end = self
            .lines
            .get(number)
            .map_or(self.text.len(), |next| next - 1);
        let line = self.text.get(start..end).unwrap_or_default();
        (start, line.trim_end_matches('\r'))
    }

    /// The line of a place as it may be shown; none where nothing of it may.
    pub fn shown(&self, span: &Range<usize>) -> Option<Shown> {
        if self.text.is_empty() {
            return None;
        }
        let (start, line) = self.text_of_line(span.start);
        let hidden: Vec<Range<usize>> = match &self.secrets {
            Some(secrets) => {
                let first = secrets.partition_point(|s| s.end <= start);
                let near = secrets[first..].iter();
                near.take_while(|s| s.start < start + line.len())
                    .map(|s| s.start.max(start) - start..s.end.min(start + line.len()) - start)
                    .collect()
            }
            None => vec![outside_toml(line)?],
        };
        Some(cut(hide(line, &hidden, span, start)))
    }
}

/// What of a line is hidden where the text isn't TOML: all that follows the first `=`. None where the whole line is: it
/// may stand within a string, unless it begins with a field's name or is a table's header.
fn outside_toml(line: &str) -> Option<Range<usize>> {
    let known = |path: &str| path.split('.').all(|name| is_field(name.trim()));
    match line.split_once('=') {
        Some((name, _)) => known(name).then_some(name.len() + 1..line.len()),
        None => {
            let header = line.trim().trim_start_matches('[').trim_end_matches(']');
            let is_header = line.trim_start().starts_with('[') && known(header);
            is_header.then_some(line.len()..line.len())
        }
    }
}

fn hide(line: &str, hidden: &[Range<usize>], span: &Range<usize>, start: usize) -> Shown {
    let mut shown = String::new();
    let (mut from, mut marked) = (None, None);
    let (first, last) = (
        span.start - start,
        span.end.saturating_sub(start).min(line.len()),
    );
    let mut at = 0;
    let mut pieces: Vec<(Range<usize>, bool)> = Vec::new();
    for secret in hidden {
        pieces.push((at..secret.start, false));
        pieces.push((secret.clone(), true));
        at = secret.end;
    }
    pieces.push((at..line.len(), false));
    for (piece, secret) in pieces {
        let begin = shown.len();
        match secret {
            true if piece.is_empty() => {}
            true => shown.push_str(PLACEHOLDER),
            false => shown.push_str(line.get(piece.clone()).unwrap_or_default()),
        }
        let place = |offset: usize| match secret {
            true => begin,
            false => begin + offset - piece.start,
        };
        if from.is_none() && first <= piece.end {
            from = Some(place(first.max(piece.start)));
        }
        if marked.is_none() && last <= piece.end {
            marked = Some(match secret {
                true => shown.len(),
                false => place(last.max(piece.start)),
            });
        }
    }
    let from = from.unwrap_or(shown.len());
    let marked = from..marked.unwrap_or(shown.len()).max(from);
    Shown {
        line: shown,
        marked,
    }
}

/// Shows a very long line from a little before its place on.
fn cut(shown: Shown) -> Shown {
    if shown.line.len() <= WIDEST {
        return shown;
    }
    let boundary = |mut at: usize| {
        while !shown.line.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let from = boundary(shown.marked.start.saturating_sub(40));
    let to = boundary((from + WIDEST).min(shown.line.len()));
    let start = shown.marked.start - from;
    let end = boundary(shown.marked.end.min(to)).max(from + start) - from;
    Shown {
        line: shown.line[from..to].to_owned(),
        marked: start..end,
    }
}
