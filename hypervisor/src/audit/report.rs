//! The verdict on an image: counts, and the findings behind them. Built by [`super::scan`].

use std::fmt;

use serde::Serialize;

use super::classes::{CLASSES, Class};

/// Longest list kept of each kind. Counts go on, so that no image can make the report grow.
pub const LIST_LIMIT: usize = 10_000;

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was decoded, by address.
    pub sections: Vec<Section>,
    /// Instructions decoded, padding included.
    pub instructions: u64,
    /// `int3` bytes between functions, excused as [`super::Place::Padding`].
    pub padding_bytes: u64,
    /// Bytes that the image maps executable outside every executable section: headers, padding or
    /// read-only data. 0 if the linker keeps code in segments of its own.
    pub unaudited_bytes: u64,
    /// How many findings of each class there are, whether listed or not.
    pub counts: Counts,
    /// The findings, by section, address and class; the first [`LIST_LIMIT`] of them.
    pub findings: Vec<Finding>,
    /// How many findings were excused by name, padding aside, whether listed or not.
    pub allowed_count: u64,
    /// The excused findings, in the same order and under the same limit.
    pub allowed: Vec<Allowed>,
}

/// A run of bytes that was decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The section's name, or the segment's number if the file has no section headers.
    pub name: String,
    /// Virtual address of the first byte.
    pub address: u64,
    /// Size in bytes.
    pub size: u64,
}

/// Findings by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// See [`Class::Privileged`].
    pub privileged: u64,
    /// See [`Class::Sensitive`].
    pub sensitive: u64,
    /// See [`Class::Simd`].
    pub simd: u64,
    /// See [`Class::BelowStack`].
    pub below_stack: u64,
    /// See [`Class::Undecodable`]: bytes, not instructions.
    pub undecodable: u64,
}

/// An instruction of one of the classes. One that belongs to two makes two findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Why it is reported.
    pub class: Class,
    /// The section it is in, as [`Section::name`] has it.
    pub section: String,
    /// Its virtual address; in a relocatable file, its offset in the section.
    pub address: u64,
    /// Its bytes, at most 15.
    pub bytes: Vec<u8>,
    /// Its name in lower case: `mov`, `iretq`; `(bad)` if undecodable.
    pub mnemonic: String,
    /// The instruction in Intel syntax.
    pub text: String,
    /// The demangled symbol it is in; `None` if it is in none.
    pub symbol: Option<String>,
    /// Its distance in bytes from the symbol's start; 0 without one.
    pub offset: u64,
}

/// A finding that an [`super::Allowance`] excuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowed {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// The allowance's reason.
    pub why: &'static str,
}

/// Which of the two guest images is audited; it decides what is forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// Runs the instructions themselves: privileged and sensitive ones are only counted.
    Native,
    /// Asks the hypervisor instead: every class is forbidden.
    Paravirtual,
}

impl ImageKind {
    /// True if an image of this kind may hold no finding of `class`.
    pub fn forbids(self, class: Class) -> bool {
        match class {
            Class::Privileged | Class::Sensitive => self == ImageKind::Paravirtual,
            Class::Simd | Class::BelowStack | Class::Undecodable => true,
        }
    }
}

impl Report {
    /// How many findings an image of this kind may not have, whether listed or not. 0 is a pass.
    pub fn forbidden_count(&self, kind: ImageKind) -> u64 {
        let classes = CLASSES.iter().map(|info| info.class);
        classes
            .filter(|&class| kind.forbids(class))
            .map(|class| self.counts.of(class))
            .sum()
    }

    /// The listed findings that an image of this kind may not have.
    pub fn forbidden(&self, kind: ImageKind) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| kind.forbids(finding.class))
    }

    /// The listed findings of one class.
    pub fn of(&self, class: Class) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.class == class)
    }

    /// How many findings were counted but not listed, excused ones included.
    pub fn unlisted(&self) -> u64 {
        let listed = (self.findings.len() as u64).saturating_add(self.allowed.len() as u64);
        self.counts
            .total()
            .saturating_add(self.allowed_count)
            .saturating_sub(listed)
    }
}

impl Counts {
    /// The count of one class.
    pub fn of(&self, class: Class) -> u64 {
        match class {
            Class::Privileged => self.privileged,
            Class::Sensitive => self.sensitive,
            Class::Simd => self.simd,
            Class::BelowStack => self.below_stack,
            Class::Undecodable => self.undecodable,
        }
    }

    /// The count of all classes together.
    pub fn total(&self) -> u64 {
        CLASSES.iter().map(|info| self.of(info.class)).sum()
    }

    pub(super) fn add(&mut self, class: Class) {
        let count = match class {
            Class::Privileged => &mut self.privileged,
            Class::Sensitive => &mut self.sensitive,
            Class::Simd => &mut self.simd,
            Class::BelowStack => &mut self.below_stack,
            Class::Undecodable => &mut self.undecodable,
        };
        *count = count.saturating_add(1);
    }
}

/// One line: address, place, class, instruction.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            address,
            section,
            class,
            text,
            offset,
            ..
        } = self;
        match &self.symbol {
            Some(symbol) => write!(f, "{address:#x} {symbol}+{offset:#x}: {class}: {text}"),
            None => write!(f, "{address:#x} {section}: {class}: {text}"),
        }
    }
}
