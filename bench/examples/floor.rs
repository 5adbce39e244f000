//! Prints the floor: the bare cost of each mechanism on this host's KVM.
//!
//! `cargo run --release -p bench --example floor [full]`

use bench::floor::{self, Effort, FloorError, KvmOn, Platform, Row, Sample};

fn main() -> Result<(), FloorError> {
    let effort = match std::env::args().nth(1).as_deref() {
        Some("full") => Effort::full(),
        _ => Effort::quick(),
    };
    let started = std::time::Instant::now();
    let _on = KvmOn::hold()?;
    let khz = floor::tsc_khz()?;
    println!("platform {}, TSC {khz} kHz", Platform::detect()?);
    println!(
        "{:22} {:>10} {:>10} {:>12} {:>12} {:>9}",
        "row", "min", "median", "min ns", "median ns", "exits/op"
    );
    for (row, sample) in floor::measure(Row::ALL, effort, &mut |_| {})? {
        print_row(row, sample, khz);
    }
    println!("took {:?}", started.elapsed());
    println!("one byte, beside another VM:");
    for _ in 0..3 {
        println!("{:?}", floor::one_byte()?);
    }
    Ok(())
}

fn print_row(row: Row, sample: Sample, khz: u32) {
    let mut ticks = sample.ticks;
    ticks.sort_unstable();
    let (min, median) = (ticks[0], ticks[ticks.len() / 2]);
    let ns = |ticks: u64| ticks as f64 * 1e6 / f64::from(khz);
    println!(
        "{row:22} {min:>10} {median:>10} {:>12.1} {:>12.1} {:>9.4}",
        ns(min),
        ns(median),
        sample.exits_per_op
    );
}
