//! What a guest must say: text within a line, in which `*` stands for any text.

use std::fmt;

/// Text to wait for. `*` matches any text within the line, `\*` and `\\` mean themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    source: String,
    /// What must come one after the other in a line; none is empty.
    pieces: Vec<Vec<u8>>,
}

/// Why some text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It would match before the guest says anything.
    #[error("an empty pattern matches anything: write what the guest must say")]
    Empty,
    /// It would never match.
    #[error("a pattern is looked for within one line: write a step for each line")]
    Newline,
}

impl Pattern {
    /// A pattern.
    ///
    /// # Errors
    /// [`PatternError`], for text that would match always or never.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        if source.contains('\n') {
            return Err(PatternError::Newline);
        }
        let mut pieces = vec![String::new()];
        let mut rest = source.chars().peekable();
        while let Some(next) = rest.next() {
            let piece = match next {
                '*' => {
                    pieces.push(String::new());
                    continue;
                }
                '\\' => rest.next_if(|c| matches!(c, '*' | '\\')).unwrap_or(next),
                other => other,
            };
            if let Some(last) = pieces.last_mut() {
                last.push(piece);
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        if pieces.is_empty() {
            return Err(PatternError::Empty);
        }
        Ok(Self {
            source: source.to_owned(),
            pieces: pieces.into_iter().map(String::into_bytes).collect(),
        })
    }

    /// A search for it that begins at byte `from`.
    pub(super) fn search(&self, from: usize) -> Search<'_> {
        Search {
            pattern: self,
            piece: 0,
            at: from,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// A search in text that grows; it looks at no byte twice, but for a piece's length.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pattern: &'a Pattern,
    /// The piece that comes next in this line.
    piece: usize,
    /// Where to look for it.
    at: usize,
}

impl Search<'_> {
    /// Go on in `text`, which begins as it did before; the end of the match, once there is one.
    pub(super) fn advance(&mut self, text: &[u8]) -> Option<usize> {
        loop {
            let Some(piece) = self.pattern.pieces.get(self.piece) else {
                return Some(self.at);
            };
            let rest = text.get(self.at..).unwrap_or_default();
            let line_end = rest.iter().position(|byte| *byte == b'\n');
            let line = rest.get(..line_end.unwrap_or(rest.len())).unwrap_or(rest);
            let found = line.windows(piece.len()).position(|part| part == piece);
            match (found, line_end) {
                (Some(start), _) => {
                    self.at += start + piece.len();
                    self.piece += 1;
                }
                // The pieces are of one line: begin again with the next.
                (None, Some(end)) => {
                    self.at += end + 1;
                    self.piece = 0;
                }
                (None, None) => {
                    self.at += line.len().saturating_sub(piece.len() - 1);
                    return None;
                }
            }
        }
    }
}
