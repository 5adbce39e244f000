//! What was found of the network.

use serde::Serialize;

use super::plan::{Case, NetWork, Over, Who};
use crate::io::report::{Found, Sample};

/// One run of a case.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NetSample {
    /// As of any device.
    pub sample: Sample,
    /// Frames sent and received.
    pub frames: u64,
}

impl NetSample {
    pub fn ns_per_op(&self) -> f64 {
        self.sample.ns_per_op()
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    Sample(NetSample),
    /// Nothing, for this reason.
    Not(String),
}

/// A run, and the hash of what it moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    pub measured: Measured,
    pub hash: u64,
}

/// A case, and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct NetRow {
    /// What was done.
    pub work: NetWork,
    /// Bytes of payload of an operation, one way.
    pub bytes: u64,
    /// What carried frames.
    pub over: Over,
    /// The mode, or `host`.
    pub mode: &'static str,
    /// The device, and what is unusual about it; `client` on the host.
    pub device: &'static str,
    /// The figures, an operation each; none where it was not measured.
    pub found: Option<Found>,
    /// Frames of an operation, either way.
    pub frames: Option<f64>,
    /// Why it was not measured.
    pub why: Option<String>,
}

impl NetRow {
    /// A row.
    pub(super) fn of(case: &Case, found: Result<Vec<NetSample>, String>) -> Self {
        let (mode, device) = match case.who {
            Who::Guest(guest) => (guest.mode.name(), guest.device),
            Who::Host => ("host", "client"),
        };
        let (samples, why) = match found {
            Ok(samples) => (samples, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let frames: u64 = samples.iter().map(|sample| sample.frames).sum();
        let of_device: Vec<Sample> = samples.iter().map(|sample| sample.sample).collect();
        let count: u64 = of_device.iter().map(|sample| sample.count).sum();
        Self {
            work: case.work,
            bytes: case.work.bytes(),
            over: case.over,
            mode,
            device,
            found: Found::of(&of_device),
            frames: (count > 0).then(|| frames as f64 / count as f64),
            why,
        }
    }

    /// Whether it is this work over a tap, by this device in this mode.
    pub(in crate::io) fn is(&self, work: NetWork, mode: &str, device: &str) -> bool {
        let wanted = (work, Over::Tap, mode, device);
        (self.work, self.over, self.mode, self.device) == wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case {
        work: NetWork::RoundTrip,
        over: Over::Tap,
        who: Who::Host,
    };

    #[test]
    fn a_row_is_of_all_samples_an_operation() {
        let sample = |count, ns, frames| NetSample {
            sample: Sample {
                count,
                ns,
                exits: count / 2,
                ..Sample::default()
            },
            frames,
        };
        let row = NetRow::of(&CASE, Ok(vec![sample(2, 200.0, 5), sample(6, 600.0, 15)]));
        let found = row.found.unwrap();
        assert_eq!((found.ns.median, found.exits), (100.0, 0.5));
        assert_eq!((row.frames, row.why), (Some(2.5), None));
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let row = NetRow::of(&CASE, Err("no tap".into()));
        assert!(row.found.is_none() && row.frames.is_none());
        assert_eq!(row.why.as_deref(), Some("no tap"));
        assert!(row.is(NetWork::RoundTrip, "host", "client"));
    }
}
