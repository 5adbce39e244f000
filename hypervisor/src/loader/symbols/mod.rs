//! Names the code addresses of an image. Called when a report needs names, never at start-up.
//! A report must not fail because its names are missing: an unusable table is an empty one.

mod name;
mod table;

use table::Entry;
pub use table::NoSymbols;

/// Symbols that are tried, from the nearest downwards, for one that covers an address: enough
/// for a routine inside another, and few enough to keep a lookup short.
const NESTING: usize = 8;

/// The code symbols of one image, sorted by address. Names are kept as the file has them, and
/// demangled when asked for.
#[derive(Debug)]
pub struct Symbols {
    entries: Vec<Entry>,
    names: Vec<u8>,
    missing: Option<NoSymbols>,
}

impl Symbols {
    /// Reads `.symtab` of an ELF image. Takes time and memory in proportion to the table, and
    /// never fails: [`Symbols::missing`] says why nothing was found.
    pub fn read(image: &[u8]) -> Symbols {
        match table::read(image) {
            Ok((entries, names)) => Symbols {
                entries,
                names,
                missing: None,
            },
            Err(why) => Symbols {
                entries: Vec::new(),
                names: Vec::new(),
                missing: Some(why),
            },
        }
    }

    /// Why there are no symbols; `None` if there are some.
    pub fn missing(&self) -> Option<&NoSymbols> {
        self.missing.as_ref()
    }

    /// How many addresses have a name.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing has a name.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The demangled name of the code at a virtual address, and how many bytes into it that is;
    /// `None` between symbols.
    pub fn lookup(&self, addr: u64) -> Option<(String, u64)> {
        let below = self.entries.partition_point(|entry| entry.start <= addr);
        let mut nearest = self.entries.get(..below)?.iter().rev().take(NESTING);
        let entry = nearest.find(|entry| addr < entry.end)?;
        let name = name::demangled(&self.names, entry.name);
        Some((name, addr.saturating_sub(entry.start)))
    }

    /// The addresses at which functions begin, ascending.
    pub fn functions(&self) -> impl Iterator<Item = u64> {
        let functions = self.entries.iter().filter(|entry| entry.is_function);
        functions.map(|entry| entry.start)
    }

    /// `pv_guest::shell::run+0x12`, or the address alone where nothing is known.
    pub fn describe(&self, addr: u64) -> String {
        match self.lookup(addr) {
            Some((name, offset)) => format!("{name}+{offset:#x}"),
            None => format!("{addr:#x}"),
        }
    }
}
