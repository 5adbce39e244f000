//! Decodes an image's executable bytes, linearly and anew at every symbol. Called by [`super::audit`].
//!
//! The work is bounded by the file: decoding moves on by a byte at least, and no two parts share
//! a byte.

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::allow::{self, Allowance};
use super::classes::{Class, class_of};
use super::image::{Image, Part};
use super::padding::{self, Flow};
use super::recorder::Recorder;
use super::report::{Report, Section};
use super::stack::StackTracker;

pub(super) fn scan(image: &Image<'_>, allowances: &[Allowance]) -> Report {
    let mut report = Report {
        unaudited_bytes: image.unaudited_bytes,
        ..Report::default()
    };
    for part in &image.parts {
        let size = part.bytes.len() as u64;
        report.sections.push(Section {
            name: part.name.clone(),
            address: part.address,
            size,
        });
        let mut scan = PartScan {
            part,
            excuses_padding: allow::padding(allowances),
            stack: StackTracker::new(),
            recorder: Recorder::new(part, allowances, &mut report),
        };
        scan.run();
    }
    report
}

struct PartScan<'a> {
    part: &'a Part<'a>,
    excuses_padding: bool,
    stack: StackTracker,
    recorder: Recorder<'a>,
}

impl PartScan<'_> {
    fn run(&mut self) {
        let mut start = self.part.address;
        for end in self.part.symbols.starts().chain([self.part.end()]) {
            self.region(start, end);
            start = end;
        }
    }

    /// Decode from `start` up to `end`. No symbol starts between them, so an instruction that
    /// would reach past `end` is none.
    fn region(&mut self, start: u64, end: u64) {
        let bytes = self.part.slice(start, end);
        let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        let mut flow = Flow::Reached;
        self.stack.reset();
        while decoder.can_decode() {
            let (address, rest) = (decoder.ip(), bytes.get(decoder.position()..).unwrap_or(&[]));
            let padding = self.padding(flow, address, rest);
            if padding > 0 {
                skip_to(&mut decoder, start, address.saturating_add(padding));
                continue;
            }
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                self.recorder.undecodable(address, rest);
                self.stack.reset();
                flow = Flow::Reached;
                skip_to(&mut decoder, start, address.saturating_add(1));
            } else {
                self.judge(&instruction, rest);
                flow = flow.after(&instruction, &self.part.symbols);
            }
        }
    }

    fn judge(&mut self, instruction: &Instruction, rest: &[u8]) {
        self.recorder.instruction();
        if let Some(class) = class_of(instruction.code()) {
            self.recorder.finding(class, instruction, rest);
        }
        if self.stack.step(instruction) {
            self.recorder.finding(Class::BelowStack, instruction, rest);
        }
    }

    /// How many bytes of padding come next.
    fn padding(&mut self, flow: Flow, address: u64, rest: &[u8]) -> u64 {
        if !self.excuses_padding {
            return 0;
        }
        let length = padding::length(&self.part.symbols, flow, address, rest);
        self.recorder.padding(length);
        length
    }
}

/// Go on at `address` in a region that begins at `start`.
fn skip_to(decoder: &mut Decoder<'_>, start: u64, address: u64) {
    let position = usize::try_from(address.saturating_sub(start)).unwrap_or(usize::MAX);
    // Past the region's end, which no caller asks for: there is nothing left to decode.
    let position = position.min(decoder.max_position());
    if decoder.set_position(position).is_ok() {
        decoder.set_ip(address);
    }
}
