//! Every call number there could be, on both gates and in the batch ring.

use hypercall_abi::boot::BootInfo;
use hypercall_abi::{CallError, Gate, Slot, Tier, error, table};
use pv_runtime::PAGE;

use crate::{println, ring};

/// The ways to make a call, and whether a call of a tier can be made that way.
type Way = (&'static str, fn(u64) -> u64, fn(Tier) -> bool);

const WAYS: [Way; 3] = [
    (
        "the monitor's gate",
        |number| PAGE.call(Slot::Monitor, number, ARGS),
        |tier| tier == Tier::Monitor,
    ),
    (
        "the machine's gate",
        |number| PAGE.call(Slot::Machine, number, ARGS),
        |tier| tier != Tier::Monitor,
    ),
    (
        "the ring",
        |number| ring::call(number, ARGS),
        |tier| tier == Tier::Batch,
    ),
];

/// No call takes these.
const ARGS: [u64; 6] = [u64::MAX; 6];

/// Make every call that a way cannot make, or that does not exist; print how many there were, and
/// every answer but "unknown".
pub fn each_number(_: &'static BootInfo, _: &str) {
    let mut tried = 0u32;
    for (name, call, takes) in WAYS {
        for number in numbers() {
            if table::find(number).is_some_and(|row| takes(row.tier)) {
                continue;
            }
            tried += 1;
            let answer = error::decode_result(call(number));
            if answer != Err(CallError::Unknown) {
                println!("call {number:#x} through {name}: {answer:?}");
            }
        }
    }
    println!("{tried} calls");
}

/// Each number up to the table's last and a few beyond; powers of two, numbers beside them, and
/// their complements; the ends of the vendors' range; numbers that look random.
fn numbers() -> impl Iterator<Item = u64> {
    let last = table::rows().map(|row| row.number).max().unwrap_or(0);
    let powers = (0..64).flat_map(|bit| {
        let power = 1u64 << bit;
        [power - 1, power, power + 1, !power]
    });
    let vendors = [*table::VENDOR.start(), *table::VENDOR.end()]
        .into_iter()
        .flat_map(|number| [number - 1, number, number + 1]);
    let random = (1..65u64).map(|n| 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(n));
    (0..last + 64).chain(powers).chain(vendors).chain(random)
}
