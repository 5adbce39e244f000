//! The benchmark, from the guest's side. Called by the shell.
//!
//! [`rows`] holds what is measured, a function each over the verbs of `hooks`; [`meter`] takes the
//! samples; [`options`] reads what the caller wants. Time is the time-stamp counter's, read around a
//! loop; exits are the hypervisor's count in the shared page. Statistics are the host's.
//!
//! For people, `bench` prints a table. For the host's half, `bench rows=NAME,NAME samples=R` prints a
//! line for each row, the ticks in hexadecimal:
//!
//! ```text
//! @bench null_machine n=64 exits=704 calls=704 entries=0 ticks=3f1c8,3f090,...
//! @bench null_batch absent
//! @bench idle_wake failed the timer did not fire
//! @bench end
//! ```
//!
//! `n` is the number of operations in a sample. `exits`, `calls` (of tier 2) and `entries` (of the
//! batch ring, tier 3) count over all samples. Each of `ticks` is one sample.

mod meter;
mod options;
mod rows;

use core::fmt;

use crate::{print, println, time};

use meter::{Counts, Measured, Meter};
use options::Options;
use rows::Row;

/// Run the benchmark that the arguments name.
pub fn command(args: &str) {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => {
            println!("bench: {error}");
            usage();
            return;
        }
    };
    let print_row = match options.is_for_host {
        true => print_line,
        false => print_for_people,
    };
    if !options.is_for_host {
        println!("row                 cycles/op        ns/op   exits/op (median)");
    }
    for row in rows::ALL.iter().filter(|row| options.wants(row)) {
        let mut meter = Meter::new(options.effort);
        let result = (row.measure)(&mut meter);
        print_row(row, result.and_then(|()| meter.finish()));
    }
    if options.is_for_host {
        println!("@bench end");
    }
}

fn usage() {
    println!("usage: bench [NAME...] [rows=NAME,...|all] [samples=N] [iterations=N|auto]");
    for Row { name, about, .. } in rows::ALL {
        println!("  {name:<18} {about}");
    }
}

/// Why a row has no figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// This image has no such thing.
    Absent,
    /// It did not work.
    Failed(&'static str),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Failed(why) => write!(f, "failed {why}"),
        }
    }
}

/// A line for the host's half.
fn print_line(row: &Row, result: Result<Measured<'_>, Missing>) {
    let measured = match result {
        Ok(measured) => measured,
        Err(missing) => return println!("@bench {} {missing}", row.name),
    };
    let Measured { n, counts, samples } = measured;
    let Counts {
        exits,
        calls,
        entries,
    } = counts;
    print!(
        "@bench {} n={n} exits={exits} calls={calls} entries={entries} ticks=",
        row.name
    );
    for (at, ticks) in samples.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        print!("{comma}{ticks:x}");
    }
    println!();
}

/// A line of the table.
fn print_for_people(row: &Row, result: Result<Measured<'_>, Missing>) {
    let mut measured = match result {
        Ok(measured) => measured,
        Err(missing) => return println!("{:<18} {missing}", row.name),
    };
    let total = u128::from(measured.n) * measured.samples.len() as u128;
    let median = measured.median();
    let cycles = tenths(u128::from(median), u128::from(measured.n));
    let ns = tenths(
        u128::from(time::scale().ticks_to_ns(median)),
        u128::from(measured.n),
    );
    let exits = Tenths(
        u128::from(measured.counts.exits) * 1000 / total.max(1),
        1000,
    );
    println!("{:<18} {cycles:>10} {ns:>12} {exits:>10}", row.name);
}

/// A quotient with one decimal.
fn tenths(value: u128, by: u128) -> Tenths {
    Tenths(value * 10 / by.max(1), 10)
}

/// A number of tenths, or of thousandths: the kernel has no floating point.
struct Tenths(u128, u128);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.1 == 10 { 1 } else { 3 };
        let width = f.width().unwrap_or(0).saturating_sub(digits + 1);
        write!(f, "{:width$}.{:0digits$}", self.0 / self.1, self.0 % self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::fake;
    use std::string::String;

    fn output_of(args: &str) -> String {
        command(args);
        String::from_utf8(fake::output()).unwrap()
    }

    #[test]
    fn the_host_s_half_gets_a_line_for_each_row_in_the_table_s_order() {
        let shown = output_of("rows=null_monitor,empty_loop samples=3 iterations=32");
        let expected = "@bench empty_loop n=32 exits=0 calls=0 entries=0 ticks=0,0,0\n\
                        @bench null_monitor absent\n\
                        @bench end\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn people_get_a_table() {
        let shown = output_of("empty_loop null_machine");
        let lines: std::vec::Vec<_> = shown.lines().collect();
        assert!(lines[0].starts_with("row "), "{shown}");
        assert!(
            lines[1].starts_with("empty_loop ") && lines[1].ends_with("0.000"),
            "{shown}"
        );
        assert_eq!(lines[2].trim_end(), "null_machine       absent");
    }

    #[test]
    fn an_unknown_row_is_named_and_the_rows_are_listed() {
        let shown = output_of("rows=frobnicate");
        assert!(shown.starts_with("bench: no row is called frobnicate\n"));
        assert!(shown.contains("null_monitor"));
        assert!(!shown.contains("@bench"));
    }

    #[test]
    fn a_quotient_has_one_decimal_and_keeps_its_column() {
        assert_eq!(std::format!("{:>8}", tenths(125, 10)), "    12.5");
        assert_eq!(std::format!("{}", tenths(1, 0)), "1.0");
    }
}
