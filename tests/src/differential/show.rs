//! A case in words: instructions, start, and what each mode made of it.

use std::fmt;

use case_runner::{Case, place, values};
use iced_x86::{Decoder, DecoderOptions};

/// A case of which a mode makes something else than it should.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The case.
    pub case: Case,
    /// What it should come to.
    pub expected: String,
    /// What it came to.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", show(&self.case))?;
        writeln!(f, "  expected {}", self.expected)?;
        writeln!(f, "  got      {}", self.got)?;
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (expected, got) = (words(&self.expected), words(&self.got));
        let only = |these: &[String], others: &[String]| {
            let only: Vec<&str> = these
                .iter()
                .filter(|word| !others.contains(word))
                .map(String::as_str)
                .collect();
            only.join(" ")
        };
        writeln!(f, "  only expected: {}", only(&expected, &got))?;
        writeln!(f, "  only got:      {}", only(&got, &expected))?;
        write!(f, "{}", super::write(&self.case, &self.expected))
    }
}

/// A case's start and instructions.
pub fn show(case: &Case) -> String {
    let [ss, ds, es, fs, gs] = case.selectors;
    let mut text = format!(
        "at CPL {}, rflags {:#x}, ss {ss:#x} ds {ds:#x} es {es:#x} fs {fs:#x} gs {gs:#x}\n ",
        case.level, case.rflags
    );
    let names = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ];
    for (name, index) in names.into_iter().zip(case.registers) {
        if name != "rsp" {
            text += &format!(" {name}={:x}", values::value(index));
        }
    }
    text += "\n  stack";
    for index in case.stack {
        text += &format!(" {:x}", values::value(index));
    }
    text += "\n";
    let mut decoder = Decoder::with_ip(64, case.instructions(), place::CODE, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        text += &format!("    {:x} {instruction}\n", instruction.ip());
    }
    text
}
