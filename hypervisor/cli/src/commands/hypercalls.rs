//! `paravane hypercalls`: the table.

use hypercall_abi::boot::ABI_VERSION;
use hypercall_abi::{Row, table};
use hypervisor::abi_doc;
use serde::Serialize;

use crate::args::Hypercalls;
use crate::output;
use crate::status::{self, Failure};

/// The version of [`Table`] as it is serialized; it rises when a field changes its meaning.
const SCHEMA: u32 = 1;
/// Columns of the text at most, and those before a call's signature.
const WIDTH: usize = 96;
const INDENT: usize = 8;

/// Print the table; the exit status.
pub fn run(options: &Hypercalls) -> Result<u8, Failure> {
    if options.markdown {
        output::print(&abi_doc::markdown())?;
    } else if options.json {
        output::print_json(&json())?;
    } else {
        output::print(&text())?;
    }
    Ok(status::OK)
}

#[derive(Serialize)]
struct Table {
    schema: u32,
    abi_version: u32,
    vendor_numbers: [u64; 2],
    calls: Vec<Call>,
}

#[derive(Serialize)]
struct Call {
    number: u64,
    name: &'static str,
    topic: &'static str,
    args: Vec<Arg>,
    result: &'static str,
    tier: u8,
    tier_name: &'static str,
    slot: &'static str,
    modes: Vec<&'static str>,
    twin: Option<&'static str>,
    doc: String,
}

#[derive(Serialize)]
struct Arg {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
}

fn json() -> Table {
    Table {
        schema: SCHEMA,
        abi_version: ABI_VERSION,
        vendor_numbers: [*table::VENDOR.start(), *table::VENDOR.end()],
        calls: table::rows().map(call).collect(),
    }
}

fn call(row: &'static Row) -> Call {
    Call {
        number: row.number,
        name: row.name,
        topic: row.topic,
        args: row
            .args
            .iter()
            .map(|&(name, kind)| Arg { name, kind })
            .collect(),
        result: row.result,
        tier: row.tier.number(),
        tier_name: row.tier.name(),
        slot: row.slot.name(),
        modes: modes(row),
        twin: row.twin,
        doc: abi_doc::sentence(row),
    }
}

fn modes(row: &Row) -> Vec<&'static str> {
    row.modes.iter().map(|mode| mode.name()).collect()
}

/// A call is a line of the table, its signature, and what it does.
fn text() -> String {
    let head = ["number", "name", "tier", "slot", "modes", "twin"].map(str::to_owned);
    let mut text = line(head);
    for rows in table::TOPICS {
        text += &format!("\n{}\n", rows.first().map_or("", |row| row.topic));
        for row in rows.iter() {
            text += &line([
                format!("{:#04x}", row.number),
                row.name.to_owned(),
                format!("{} {}", row.tier.number(), row.tier.name()),
                row.slot.name().to_owned(),
                modes(row).join(" "),
                row.twin.unwrap_or_default().to_owned(),
            ]);
            text += &output::wrapped(&abi_doc::signature(row), INDENT, WIDTH);
            text += &output::wrapped(&abi_doc::sentence(row), INDENT, WIDTH);
        }
    }
    text
}

fn line(cells: [String; 6]) -> String {
    let [number, name, tier, slot, modes, twin] = cells;
    let line = format!("{number:<INDENT$}{name:<20}{tier:<11}{slot:<11}{modes:<7}{twin}");
    line.trim_end().to_owned() + "\n"
}
