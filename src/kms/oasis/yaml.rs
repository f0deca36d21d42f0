//! A YAML text as a tree that knows where its scalars stand. Only what a node's config needs.
//!
//! Anchors, aliases, tags, several documents and keys that stand there twice are refused: what such a text means to the
//! node and what an edit would change in it can't be said plainly.

use std::ops::Range;

use saphyr_parser::{Event, Parser, Span};

/// A node's config nests five deep; what nests deeper than this is none.
const DEEPEST: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub line: usize,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Scalar {
        text: String,
        /// Its bytes in the text, quotes included.
        span: Range<usize>,
    },
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Why a text isn't taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub line: usize,
    pub why: String,
}

impl Node {
    /// What stands at the end of a path of keys.
    pub fn get(&self, path: &[&str]) -> Option<&Node> {
        let Some((key, rest)) = path.split_first() else {
            return Some(self);
        };
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let (_, node) = entries.iter().find(|(k, _)| k == key)?;
        node.get(rest)
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The same but for where things stand.
    pub fn says_the_same(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (Value::Scalar { text: a, .. }, Value::Scalar { text: b, .. }) => a == b,
            (Value::List(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says_the_same(b))
            }
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b)
                        .all(|((k, a), (l, b))| k == l && a.says_the_same(b))
            }
            _ => false,
        }
    }
}

/// What is being read: a list, or a map and the key whose value comes next.
enum Open {
    List(usize, Vec<Node>),
    Map(usize, Vec<(String, Node)>, Option<String>),
}

/// Reads one document.
pub fn parse(text: &str) -> Result<Node, Refused> {
    let bytes = Bytes::of(text);
    let mut stack: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| Refused {
            line: e.marker().line(),
            why: format!("this isn't YAML: {}", e.info()),
        })?;
        let line = span.start.line();
        let refuse = |why: &str| Refused {
            line,
            why: why.to_owned(),
        };
        let done = match event {
            Event::Alias(_) => return Err(refuse("an alias (`*`): write the value out")),
            Event::Scalar(_, _, anchor, ref tag) if anchor != 0 || tag.is_some() => {
                return Err(refuse(
                    "an anchor or a tag (`&`, `!`): write the value plainly",
                ));
            }
            Event::SequenceStart(anchor, ref tag) | Event::MappingStart(anchor, ref tag)
                if anchor != 0 || tag.is_some() =>
            {
                return Err(refuse(
                    "an anchor or a tag (`&`, `!`): write the value plainly",
                ));
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if stack.len() == DEEPEST => {
                return Err(refuse("it nests deeper than any node's config"));
            }
            Event::SequenceStart(..) => {
                stack.push(Open::List(line, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                stack.push(Open::Map(line, Vec::new(), None));
                continue;
            }
            Event::Scalar(text, ..) => {
                let text = text.into_owned();
                if let Some(Open::Map(_, entries, key @ None)) = stack.last_mut() {
                    if entries.iter().any(|(k, _)| *k == text) {
                        return Err(refuse("a key that stands there twice"));
                    }
                    *key = Some(text);
                    continue;
                }
                Node {
                    line,
                    value: Value::Scalar {
                        text,
                        span: bytes.range(&span),
                    },
                }
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(Open::List(line, items)) => Node {
                    line,
                    value: Value::List(items),
                },
                Some(Open::Map(line, entries, _)) => Node {
                    line,
                    value: Value::Map(entries),
                },
                None => return Err(refuse("an end without a beginning")),
            },
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => continue,
        };
        match stack.last_mut() {
            Some(Open::List(_, items)) => items.push(done),
            Some(Open::Map(_, entries, key)) => match key.take() {
                Some(key) => entries.push((key, done)),
                None => return Err(refuse("a key that is no plain word")),
            },
            None if root.is_none() => root = Some(done),
            None => return Err(refuse("a second document")),
        }
    }
    root.ok_or(Refused {
        line: 1,
        why: "there is nothing in it".to_owned(),
    })
}

/// The parser counts characters, an edit counts bytes.
struct Bytes(Option<Vec<usize>>, usize);

impl Bytes {
    fn of(text: &str) -> Bytes {
        // Of an ASCII text both are the same.
        let starts = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Bytes(starts, text.len())
    }

    fn range(&self, span: &Span) -> Range<usize> {
        let at = |index: usize| match &self.0 {
            None => index,
            Some(starts) => starts.get(index).copied().unwrap_or(self.1),
        };
        at(span.start.index())..at(span.end.index())
    }
}
