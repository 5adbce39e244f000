//! Words, quotes and numbers in what people and scripts write: the kernel's command line and the
//! shell's. Either quote keeps what is between as one word; a quote that does not end goes on to
//! the end of the text. There is no escape character.

/// Split at the first separator outside quotes; the rest is `None` when there was none.
fn split_outside_quotes(text: &str, is_separator: fn(u8) -> bool) -> (&str, Option<&str>) {
    let mut open = None;
    for (at, byte) in text.bytes().enumerate() {
        match open {
            Some(quote) if byte == quote => open = None,
            Some(_) => {}
            None if byte == b'\'' || byte == b'"' => open = Some(byte),
            None if is_separator(byte) => {
                // A separator is one byte of ASCII, so both sides are whole characters.
                let (head, rest) = text.split_at_checked(at).unwrap_or((text, ""));
                return (head, rest.get(1..));
            }
            None => {}
        }
    }
    (text, None)
}

/// The text without the quotes around it, if there are.
pub fn unquote(text: &str) -> &str {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote) {
            return inner.strip_suffix(quote).unwrap_or(inner);
        }
    }
    text
}

/// The words of a text, with their quotes.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    split(text, |byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

/// The commands of a line, which semicolons separate.
pub fn commands(line: &str) -> impl Iterator<Item = &str> {
    split(line, |byte| byte == b';' || byte == b'\n')
        .map(str::trim)
        .filter(|command| !command.is_empty())
}

fn split(text: &str, is_separator: fn(u8) -> bool) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let (head, tail) = split_outside_quotes(rest?, is_separator);
        rest = tail;
        Some(head)
    })
}

/// The first word of a command, and its arguments.
pub fn first_word(command: &str) -> (&str, &str) {
    let (word, rest) = split_outside_quotes(command.trim(), |byte| byte.is_ascii_whitespace());
    (word, rest.unwrap_or("").trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn words_end_at_spaces_outside_quotes() {
        let text = "  one 'two three'  four=\"five six\" ";
        let found: Vec<_> = words(text).collect();
        assert_eq!(found, ["one", "'two three'", "four=\"five six\""]);
        assert_eq!(words(" \t ").count(), 0);
    }

    #[test]
    fn commands_end_at_semicolons_outside_quotes() {
        let found: Vec<_> = commands("mem; echo 'a;b' ;; poweroff 3;").collect();
        assert_eq!(found, ["mem", "echo 'a;b'", "poweroff 3"]);
    }

    #[test]
    fn a_quote_that_does_not_end_reaches_to_the_end() {
        let found: Vec<_> = words("echo 'a b  c").collect();
        assert_eq!(found, ["echo", "'a b  c"]);
        assert_eq!(unquote("'a b  c"), "a b  c");
    }

    #[test]
    fn only_quotes_around_all_of_it_are_taken_off() {
        assert_eq!(unquote("'a'"), "a");
        assert_eq!(unquote("\"it's\""), "it's");
        assert_eq!(unquote("a'b'"), "a'b'");
        assert_eq!(unquote("'"), "");
        assert_eq!(unquote(""), "");
    }

    #[test]
    fn a_command_is_a_word_and_the_rest() {
        assert_eq!(first_word(" fault  page "), ("fault", "page"));
        assert_eq!(first_word("mem"), ("mem", ""));
        assert_eq!(first_word(""), ("", ""));
        assert_eq!(first_word("grüße an alle"), ("grüße", "an alle"));
    }
}
