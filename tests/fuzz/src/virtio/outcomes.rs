//! What transport and queues complain of, as words of their reports. A target that never hears one of
//! them never got that far.

/// Each complaint, with a part of the report that no other has.
const COMPLAINTS: &[(&str, &str)] = &[
    ("available index too far", "entries ahead"),
    ("index outside its table", "is not in a table"),
    ("chain too long", "more than the queue's"),
    ("chain too large", "are 4 GiB or more"),
    ("readable behind writable", "readable descriptor follows"),
    ("indirect not negotiated", "descriptor was not negotiated"),
    ("indirect inside indirect", "is inside an indirect table"),
    ("indirect with a next one", "has a next one"),
    ("indirect of an odd length", "no whole descriptors"),
    ("buffer outside memory", "not wholly inside guest memory"),
    ("too many in flight", "chains are in flight"),
    ("queue of a bad size", "has a size that is no power"),
    ("table not aligned", "not 16-byte aligned"),
    ("available ring not aligned", "not 2-byte aligned"),
    ("used ring not aligned", "not 4-byte aligned"),
    ("available ring at 0", "available ring at address 0"),
    ("ring outside memory", "has a ring outside memory"),
    ("rings that overlap", "has rings that overlap"),
];

/// What each virtio target should reach, besides its own. Where requests stay under way, there can also
/// be too many.
pub const NAMES: &[&str] = &[
    "available index too far",
    "index outside its table",
    "chain too long",
    "chain too large",
    "readable behind writable",
    "indirect not negotiated",
    "indirect inside indirect",
    "indirect with a next one",
    "indirect of an odd length",
    "buffer outside memory",
    "queue of a bad size",
    "table not aligned",
    "available ring not aligned",
    "used ring not aligned",
    "available ring at 0",
    "ring outside memory",
    "rings that overlap",
    "legal, and all done",
    "reset with requests in flight",
];

/// What a report of a device means: a name of the list, or what the report says without its numbers.
#[must_use]
pub fn of_report(report: &str) -> String {
    let known = COMPLAINTS.iter().find(|(_, part)| report.contains(part));
    match known {
        Some((name, _)) => (*name).to_owned(),
        None => report
            .chars()
            .filter(|letter| !letter.is_ascii_digit())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complaint_is_wanted() {
        let is_wanted = |name| NAMES.contains(name) || *name == "too many in flight";
        assert!(COMPLAINTS.iter().all(|(name, _)| is_wanted(name)));
        assert_eq!(
            of_report("queue 3: descriptor 9 is not in a table of 8"),
            NAMES[1]
        );
        assert_eq!(of_report("queue 31: no"), "queue : no");
    }
}
