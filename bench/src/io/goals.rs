//! What input and output must reach (CLAIMS.md), and the verdicts.

use super::plan::{ATA, MAIN, Medium, Work};
use super::report::IoRow;
use crate::goals::{Goal, Verdict};

/// The first claim here; those before are of `paravane bench`.
const FIRST: u32 = 30;

/// All goals, from the rows of one run.
pub fn goals(rows: &[IoRow]) -> Vec<Goal> {
    let row = |work, medium, mode: &str| rows.iter().find(|row| row.is(work, medium, mode));
    let of = |work, medium, mode: &str, by: fn(&IoRow) -> f64| row(work, medium, mode).map(by);
    let pv = |by: fn(&IoRow) -> f64| of(MAIN, Medium::Memory, "pv", by);
    // How much of the host loop's speed the guest reaches, by lower tenths and by medians.
    let share = |work: Work, medium: Medium| {
        let (guest, host) = (row(work, medium, "pv")?, row(work, medium, "host")?);
        let (guest, host) = (guest.found.ns, host.found.ns);
        let percent = |host: f64, guest: f64| host / guest * 100.0;
        Some((
            percent(host.p10, guest.p10),
            percent(host.median, guest.median),
        ))
    };
    let sequential = Work {
        is_random: false,
        bytes: 1 << 20,
        depth: 8,
        ..MAIN
    };
    // How many times the trapped disk's requests, in the same mode.
    let ata = |row: &&IoRow| (row.work, row.mode, row.device) == (MAIN, "pv", ATA);
    let by_trapped = || {
        let virtio = row(MAIN, Medium::Memory, "pv")?.found.ns;
        let ata = rows.iter().find(ata)?.found.ns;
        Some((ata.p10 / virtio.p10, ata.median / virtio.median))
    };
    let both = |value: Option<f64>| value.map(|value| (value, value));
    vec![
        at_least(
            8,
            "4 KiB, depth 32: times the trapped disk's requests",
            by_trapped(),
            10.0,
            "x",
        ),
        at_most(
            0,
            "4 KiB, depth 32: exits a request",
            both(pv(|row| row.found.exits)),
            0.0,
            "",
        ),
        at_most(
            1,
            "4 KiB, depth 32: doorbells a request",
            both(pv(|row| row.found.doorbells)),
            0.05,
            "",
        ),
        at_most(
            2,
            "4 KiB, depth 32: interrupts a request",
            both(pv(|row| row.found.interrupts)),
            0.04,
            "",
        ),
        at_most(
            3,
            "4 KiB, depth 32: bytes copied a request",
            both(pv(|row| row.found.copied)),
            0.0,
            "B",
        ),
        at_least(
            4,
            "4 KiB, depth 32, O_DIRECT: of the host loop's requests",
            share(MAIN, Medium::Direct),
            70.0,
            "%",
        ),
        at_least(
            5,
            "4 KiB, depth 32, tmpfs: of the host loop's requests",
            share(MAIN, Medium::Memory),
            40.0,
            "%",
        ),
        at_least(
            6,
            "1 MiB in sequence, tmpfs: of the host loop's bytes",
            share(sequential, Medium::Memory),
            80.0,
            "%",
        ),
        at_least(
            7,
            "1 MiB in sequence, O_DIRECT: of the host loop's bytes",
            share(sequential, Medium::Direct),
            80.0,
            "%",
        ),
    ]
}

fn at_most(
    number: u32,
    text: &'static str,
    found: Option<(f64, f64)>,
    limit: f64,
    unit: &'static str,
) -> Goal {
    goal(number, text, found, limit, unit, |value| value <= limit)
}

fn at_least(
    number: u32,
    text: &'static str,
    found: Option<(f64, f64)>,
    limit: f64,
    unit: &'static str,
) -> Goal {
    goal(number, text, found, limit, unit, |value| value >= limit)
}

fn goal(
    number: u32,
    text: &'static str,
    found: Option<(f64, f64)>,
    limit: f64,
    unit: &'static str,
    is_met: impl Fn(f64) -> bool,
) -> Goal {
    Goal {
        claim: FIRST + number,
        text,
        value: found.map(|(value, _)| value),
        by_medians: found.map(|(_, median)| median),
        limit,
        unit,
        verdict: match found {
            Some((value, _)) if is_met(value) => Verdict::Pass,
            Some(_) => Verdict::Fail,
            None => Verdict::NotMeasured,
        },
    }
}
