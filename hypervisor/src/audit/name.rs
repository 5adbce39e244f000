//! Reads and demangles names from a string table, in bounded time and space.
//!
//! A file may claim names of any length, and a mangled name of a few hundred bytes may stand for
//! megabytes. Both are cut, and a cut name ends in `...`, which no allowance does.

use std::fmt::{self, Write};

/// Longest name that is read, in bytes: above what rustc's generics produce in practice.
const RAW_LIMIT: usize = 4096;
/// Longest name that is shown, in bytes.
const SHOWN_LIMIT: usize = 512;

/// The NUL-terminated name at `offset`; bytes that are not UTF-8 are replaced.
pub(super) fn read(strings: &[u8], offset: u32) -> String {
    let at = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = strings.get(at..).unwrap_or(&[]);
    let window = rest.get(..RAW_LIMIT).unwrap_or(rest);
    let name = window.split(|&byte| byte == 0).next().unwrap_or(&[]);
    let name = String::from_utf8_lossy(name);
    if name.len() < RAW_LIMIT {
        name.into_owned()
    } else {
        shorten(&name)
    }
}

/// The name as its source spells it, without rustc's hash.
pub(super) fn demangle(raw: &str) -> String {
    let mut shown = Bounded(String::new());
    match write!(shown, "{:#}", rustc_demangle::demangle(raw)) {
        Ok(()) => shown.0,
        Err(fmt::Error) => shorten(&shown.0),
    }
}

/// The last segment of a demangled path: `enter` of `kernel::entry::enter`.
pub(super) fn last_segment(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

fn shorten(name: &str) -> String {
    let mut end = SHOWN_LIMIT.min(name.len());
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    format!("{}...", name.get(..end).unwrap_or(""))
}

/// A string that takes no more than `SHOWN_LIMIT` bytes.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = SHOWN_LIMIT.saturating_sub(self.0.len());
        let fits = text.len() <= room;
        let kept = if fits { Some(text) } else { text.get(..room) };
        self.0.push_str(kept.unwrap_or(""));
        if fits { Ok(()) } else { Err(fmt::Error) }
    }
}
