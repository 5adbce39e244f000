//! Makes a guest's bytes fit to be shown: no escape sequence of a guest's reaches a terminal.

/// Characters of a line that are shown.
const LINE: usize = 400;

/// Bytes as text, in which only "\n" and "\t" are left of the control characters; others show as
/// `\x1b`, and what is not UTF-8 as U+FFFD. A "\r" before a "\n" is dropped.
pub fn visible(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\n' | '\t' => out.push(next),
            '\r' if rest.peek() == Some(&'\n') => {}
            // Also what turns the direction of writing around, which hides what a line says.
            _ if next.is_control()
                || matches!(next, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out += &match u32::from(next) {
                    code @ 0..=0xff => format!("\\x{code:02x}"),
                    code => format!("\\u{{{code:x}}}"),
                };
            }
            // No character by definition, and forbidden in XML.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(next),
        }
    }
    out
}

/// The last lines of a console, made visible, and cut where they are very long.
pub fn tail(bytes: &[u8], lines: usize) -> String {
    let last = bytes
        .iter()
        .rposition(|byte| !matches!(byte, b'\n' | b'\r'));
    let end = last.map_or(&[][..], |at| bytes.get(..=at).unwrap_or_default());
    let start = end
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(lines.saturating_sub(1))
        .map_or(0, |(at, _)| at + 1);
    let shown = end.get(start..).unwrap_or_default();
    let mut out = String::new();
    for line in shown.split(|byte| *byte == b'\n') {
        let cut = line.get(..LINE * 4).unwrap_or(line);
        let text = visible(cut.strip_suffix(b"\r").unwrap_or(cut));
        match text.char_indices().nth(LINE) {
            Some((at, _)) => out += &format!("{}...", text.get(..at).unwrap_or_default()),
            None => out += &text,
        }
        out.push('\n');
    }
    if shown.is_empty() { String::new() } else { out }
}
