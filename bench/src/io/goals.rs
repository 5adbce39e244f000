//! What input and output must reach (CLAIMS.md), and the verdicts.

use super::idle::Idle;
use super::net::{NE2000, NetRow, NetWork, VIRTIO};
use super::plan::{ATA, MAIN, Medium, Work};
use super::report::IoRow;
use crate::goals::{Goal, Verdict};

/// The first claim here; those before are of `paravane bench`.
const FIRST: u32 = 30;

/// All goals, from the rows of one run.
pub fn goals(rows: &[IoRow], net: &[NetRow], idle: Option<&Idle>) -> Vec<Goal> {
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
        at_least(
            9,
            "TCP streams, the worse way: times the trapped network's bytes",
            by_stream(net, ("pv", NE2000)),
            5.0,
            "x",
        ),
        at_least(
            10,
            "TCP streams, the worse way: of the host client's bytes",
            by_stream(net, ("host", "client"))
                .map(|(value, median)| (value * 100.0, median * 100.0)),
            50.0,
            "%",
        ),
        at_most(
            11,
            "an idle guest with all devices: of a processor",
            both(idle.map(|idle| idle.cpu_percent)),
            0.5,
            "%",
        ),
    ]
}

/// How fast pv's streams are by another row's, by lower tenths and by medians; of the two ways, the slower one.
fn by_stream(net: &[NetRow], other: (&str, &str)) -> Option<(f64, f64)> {
    let ratios = |work: NetWork| {
        let ns = |mode: &str, device: &str| {
            let row = net.iter().find(|row| row.is(work, mode, device))?;
            row.found.map(|found| found.ns)
        };
        let (virtio, other) = (ns("pv", VIRTIO)?, ns(other.0, other.1)?);
        Some((other.p10 / virtio.p10, other.median / virtio.median))
    };
    let (receive, send) = (ratios(NetWork::Receive)?, ratios(NetWork::Send)?);
    Some((receive.0.min(send.0), receive.1.min(send.1)))
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

#[cfg(test)]
mod tests {
    use super::super::net::Over;
    use super::*;
    use crate::Spread;
    use crate::io::report::Found;

    fn row(work: NetWork, mode: &'static str, device: &'static str, ns: f64) -> NetRow {
        let found = Found {
            ns: Spread {
                p10: ns,
                median: ns * 2.0,
                ..Spread::default()
            },
            count: 1,
            exits: 0.0,
            doorbells: 0.0,
            interrupts: 0.0,
            copied: 0.0,
            cpu_percent: 0.0,
            device_cpu_percent: 0.0,
        };
        NetRow {
            work,
            bytes: work.bytes(),
            over: Over::Tap,
            mode,
            device,
            found: Some(found),
            frames: Some(1.0),
            why: None,
        }
    }

    fn goal_of(claim: u32, net: &[NetRow], idle: Option<&Idle>) -> Goal {
        let mut goals = goals(&[], net, idle).into_iter();
        goals.find(|goal| goal.claim == claim).unwrap()
    }

    #[test]
    fn streams_are_judged_by_the_slower_way() {
        let mut net = vec![
            row(NetWork::Receive, "pv", VIRTIO, 100.0),
            row(NetWork::Send, "pv", VIRTIO, 50.0),
            row(NetWork::Receive, "host", "client", 80.0),
            row(NetWork::Send, "host", "client", 20.0),
        ];
        let of_host = goal_of(40, &net, None);
        assert_eq!(
            (of_host.value, of_host.verdict),
            (Some(40.0), Verdict::Fail)
        );
        assert_eq!(goal_of(39, &net, None).verdict, Verdict::NotMeasured);
        net.push(row(NetWork::Receive, "pv", NE2000, 500.0));
        assert_eq!(goal_of(39, &net, None).verdict, Verdict::NotMeasured);
        net.push(row(NetWork::Send, "pv", NE2000, 600.0));
        let by_trapped = goal_of(39, &net, None);
        assert_eq!(
            (by_trapped.value, by_trapped.verdict),
            (Some(5.0), Verdict::Pass)
        );
    }

    #[test]
    fn an_idle_guest_is_judged_by_its_share_of_a_processor() {
        let idle = |cpu_percent| Idle {
            mode: "pv",
            devices: String::new(),
            watched_ms: 1,
            cpu_percent,
            resident_bytes: 1,
        };
        assert_eq!(goal_of(41, &[], Some(&idle(0.4))).verdict, Verdict::Pass);
        assert_eq!(goal_of(41, &[], Some(&idle(0.6))).verdict, Verdict::Fail);
        assert_eq!(goal_of(41, &[], None).verdict, Verdict::NotMeasured);
    }
}
