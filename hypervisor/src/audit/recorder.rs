//! Turns what the scan meets into counts and findings. Called by [`super::scan`].
//!
//! Counts are exact; names and text, which cost, are made only for findings that are listed.

use iced_x86::{Formatter, Instruction, IntelFormatter};

use super::allow::{self, Allowance};
use super::classes::Class;
use super::image::Part;
use super::report::{Allowed, Finding, LIST_LIMIT, Report};
use super::symbols::Owner;

/// No instruction is longer, in bytes: SDM vol. 2, Instruction Format.
const LONGEST_INSTRUCTION: usize = 15;

/// Writes one part's findings into the report.
pub(super) struct Recorder<'a> {
    part: &'a Part<'a>,
    allowances: &'a [Allowance],
    report: &'a mut Report,
    formatter: IntelFormatter,
    /// The symbol last named, since findings come in runs.
    named: Option<(usize, Option<String>)>,
}

/// How instructions are shown.
pub(crate) fn formatter() -> IntelFormatter {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    formatter
}

impl<'a> Recorder<'a> {
    pub(super) fn new(
        part: &'a Part<'a>,
        allowances: &'a [Allowance],
        report: &'a mut Report,
    ) -> Self {
        Recorder {
            part,
            allowances,
            report,
            formatter: formatter(),
            named: None,
        }
    }

    /// One more instruction was decoded.
    pub(super) fn instruction(&mut self) {
        self.report.instructions += 1;
    }

    /// So many bytes of padding, which are as many instructions, were skipped.
    pub(super) fn padding(&mut self, bytes: u64) {
        self.report.instructions += bytes;
        self.report.padding_bytes += bytes;
    }

    /// `instruction`, the first of `rest`, belongs to `class`.
    pub(super) fn finding(&mut self, class: Class, instruction: &Instruction, rest: &[u8]) {
        let owner = self.part.symbols.owner(instruction.ip());
        let mnemonic = format!("{:?}", instruction.mnemonic()).to_ascii_lowercase();
        let allowances = self.allowances;
        let symbol = || owner.and_then(|owner| self.name(owner));
        let why = allow::reason(allowances, class, &mnemonic, symbol);
        if !self.count(class, why) {
            return;
        }
        let mut text = String::new();
        self.formatter.format(instruction, &mut text);
        let bytes = rest.get(..instruction.len()).unwrap_or(rest).to_vec();
        let finding = Finding {
            class,
            section: self.part.name.clone(),
            address: instruction.ip(),
            bytes,
            mnemonic,
            text,
            symbol: owner.and_then(|owner| self.name(owner)),
            offset: owner.map_or(0, |owner| instruction.ip().saturating_sub(owner.start)),
        };
        self.list(finding, why);
    }

    /// No instruction starts at `address`, the first of `rest`.
    pub(super) fn undecodable(&mut self, address: u64, rest: &[u8]) {
        if !self.count(Class::Undecodable, None) {
            return;
        }
        let owner = self.part.symbols.owner(address);
        let finding = Finding {
            class: Class::Undecodable,
            section: self.part.name.clone(),
            address,
            bytes: rest.get(..LONGEST_INSTRUCTION).unwrap_or(rest).to_vec(),
            mnemonic: "(bad)".to_owned(),
            text: "(bad)".to_owned(),
            symbol: owner.and_then(|owner| self.name(owner)),
            offset: owner.map_or(0, |owner| address.saturating_sub(owner.start)),
        };
        self.list(finding, None);
    }

    /// Count a finding; true if its list has room for it.
    fn count(&mut self, class: Class, why: Option<&str>) -> bool {
        if why.is_some() {
            self.report.allowed_count += 1;
            self.report.allowed.len() < LIST_LIMIT
        } else {
            self.report.counts.add(class);
            self.report.findings.len() < LIST_LIMIT
        }
    }

    fn list(&mut self, finding: Finding, why: Option<&'static str>) {
        match why {
            Some(why) => self.report.allowed.push(Allowed { finding, why }),
            None => self.report.findings.push(finding),
        }
    }

    fn name(&mut self, owner: Owner) -> Option<String> {
        if let Some((index, name)) = &self.named
            && *index == owner.index
        {
            return name.clone();
        }
        let name = self.part.symbols.name(owner.index);
        self.named = Some((owner.index, name.clone()));
        name
    }
}
