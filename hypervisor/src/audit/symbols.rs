//! Says which symbol an address belongs to. Built by [`super::image`], asked by [`super::scan`].
//!
//! The rule: the innermost symbol whose size covers the address; otherwise the nearest symbol
//! before it, if that has no size (an assembly label), which reaches to the next symbol.
//! Nested and overlapping symbols are flattened once into spans, so that a lookup is a binary
//! search whatever the file claims.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::{Enumerate, Peekable};
use std::ops::Range;
use std::slice;

use elf::abi::{STB_LOCAL, STT_FUNC, STT_NOTYPE, STT_OBJECT};
use elf::symbol::Symbol;

use super::name;

/// A part's symbols as the file has them, in its order, and the string table with their names.
#[derive(Default)]
pub(super) struct SymbolList<'a> {
    pub(super) symbols: Vec<Symbol>,
    pub(super) names: &'a [u8],
}

/// The symbols of one part.
#[derive(Default)]
pub(super) struct SymbolMap<'a> {
    /// By start, the preferred of several at one address first.
    labels: Vec<Label>,
    /// By start; each span reaches to the next one's.
    spans: Vec<Span>,
    names: &'a [u8],
}

#[derive(Clone, Copy)]
struct Label {
    start: u64,
    /// After the last byte; `start` if the symbol has no size.
    end: u64,
    name: u32,
}

struct Span {
    start: u64,
    owner: Option<usize>,
}

/// The symbol that an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// For [`SymbolMap::name`].
    pub(super) index: usize,
    pub(super) start: u64,
    /// False for a label, which only reaches to the next symbol.
    pub(super) is_sized: bool,
}

impl<'a> SymbolMap<'a> {
    /// Symbols that start outside `range` are dropped, and so are nameless ones.
    pub(super) fn new(list: SymbolList<'a>, range: Range<u64>) -> Self {
        let SymbolList { mut symbols, names } = list;
        symbols.retain(|symbol| {
            let first = usize::try_from(symbol.st_name)
                .ok()
                .and_then(|at| names.get(at));
            let is_place = matches!(symbol.st_symtype(), STT_NOTYPE | STT_OBJECT | STT_FUNC);
            is_place && first.is_some_and(|&byte| byte != 0) && range.contains(&symbol.st_value)
        });
        symbols.sort_by_key(preference);
        let labels: Vec<_> = symbols
            .iter()
            .map(|symbol| Label::new(symbol, range.end))
            .collect();
        let spans = flatten(&labels);
        SymbolMap {
            labels,
            spans,
            names,
        }
    }

    /// Where symbols start, ascending, each address once.
    pub(super) fn starts(&self) -> impl Iterator<Item = u64> {
        let mut last = None;
        let starts = self.labels.iter().map(|label| label.start);
        starts.filter(move |&start| last.replace(start) != Some(start))
    }

    pub(super) fn owner(&self, address: u64) -> Option<Owner> {
        let after = self.spans.partition_point(|span| span.start <= address);
        let span = self.spans.get(after.checked_sub(1)?)?;
        let index = span.owner?;
        let label = self.labels.get(index)?;
        Some(Owner {
            index,
            start: label.start,
            is_sized: label.is_sized(),
        })
    }

    /// True if a sized symbol ends just before `address` and no other goes on there.
    pub(super) fn ends_at(&self, address: u64) -> bool {
        let before = address.checked_sub(1).and_then(|last| self.owner(last));
        before.is_some_and(|owner| owner.is_sized) && self.owner(address).is_none()
    }

    /// The demangled name of an [`Owner`]'s symbol.
    pub(super) fn name(&self, index: usize) -> Option<String> {
        let label = self.labels.get(index)?;
        Some(name::demangle(&name::read(self.names, label.name)))
    }
}

impl Label {
    fn new(symbol: &Symbol, limit: u64) -> Self {
        let end = symbol.st_value.saturating_add(symbol.st_size).min(limit);
        Label {
            start: symbol.st_value,
            end,
            name: symbol.st_name,
        }
    }

    fn is_sized(&self) -> bool {
        self.end > self.start
    }
}

/// By address; of several there, a sized one, a function, a global, the smallest, the first named.
fn preference(symbol: &Symbol) -> (u64, bool, bool, bool, u64, u32) {
    let is_label = symbol.st_size == 0;
    let is_data = symbol.st_symtype() != STT_FUNC;
    let is_local = symbol.st_bind() == STB_LOCAL;
    (
        symbol.st_value,
        is_label,
        is_data,
        is_local,
        symbol.st_size,
        symbol.st_name,
    )
}

/// Sweep over every place where a symbol starts or ends; the owner cannot change anywhere else.
fn flatten(labels: &[Label]) -> Vec<Span> {
    let mut edges: Vec<u64> = labels
        .iter()
        .flat_map(|label| [label.start, label.end])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let waiting = labels.iter().enumerate().peekable();
    let mut sweep = Sweep {
        waiting,
        open: BinaryHeap::new(),
        label: None,
    };
    edges
        .into_iter()
        .map(|edge| Span {
            start: edge,
            owner: sweep.advance(edge),
        })
        .collect()
}

/// The symbols around one address, as the sweep passes it.
struct Sweep<'a> {
    /// Those that start further on.
    waiting: Peekable<Enumerate<slice::Iter<'a, Label>>>,
    /// Sized symbols that have started, with their ends. The greatest is the innermost: it started
    /// last; of those that started together it is the preferred one, which is the first.
    open: BinaryHeap<(u64, Reverse<usize>, u64)>,
    /// The nearest symbol before, if it has no size.
    label: Option<usize>,
}

impl Sweep<'_> {
    /// The owner of the bytes from `edge` on.
    fn advance(&mut self, edge: u64) -> Option<usize> {
        // Sized symbols are preferred, so the first that starts here decides for all.
        let mut is_first = true;
        while let Some((index, label)) = self.waiting.next_if(|(_, label)| label.start == edge) {
            if is_first {
                self.label = (!label.is_sized()).then_some(index);
                is_first = false;
            }
            if label.is_sized() {
                self.open.push((label.start, Reverse(index), label.end));
            }
        }
        while self.open.peek().is_some_and(|&(_, _, end)| end <= edge) {
            self.open.pop();
        }
        let innermost = self.open.peek().map(|&(_, Reverse(index), _)| index);
        innermost.or(self.label)
    }
}
