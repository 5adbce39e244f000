//! What QEMU's processor, which the rig has, gets wrong in a way that can be put right.

use std::path::Path;

use hypercall_abi::Mode;
use hypervisor::doctor::Host;
use hypervisor::vm;

/// The bit of an error code that says that it is about the IDT.
const OF_IDT: u64 = 2;

/// Put results of mode `hvm` right, if the processor is QEMU's.
pub fn correct(mode: Mode, results: &mut [String]) {
    if mode == Mode::Hvm && is_qemu() {
        for result in results {
            *result = with_gate_error(result);
        }
    }
}

fn is_qemu() -> bool {
    let facts = Host::here(Path::new(vm::NODE)).facts();
    facts.hypervisor.as_deref() == Some("TCGTCGTCGTCG")
}

/// INT with a gate that is refused: SDM vol. 3, 6.13, has the vector from bit 3 of the error code on,
/// and QEMU 7.2 puts it a bit higher (`intno * 16 + 2` in `do_interrupt64`).
fn with_gate_error(result: &str) -> String {
    let is_refusal = result.starts_with("#d ") || result.starts_with("#b ");
    let mut words: Vec<String> = result.split(' ').map(str::to_owned).collect();
    if let (true, Some(word)) = (is_refusal, words.get_mut(1))
        && let Some(digits) = word.strip_prefix("error=")
        && let Ok(error) = u64::from_str_radix(digits, 16)
        && error & 7 == OF_IDT
    {
        *word = format!("error={:x}", error >> 4 << 3 | OF_IDT);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::with_gate_error;

    #[test]
    fn only_the_error_codes_of_gates_are_put_right() {
        for (result, right) in [
            ("#d error=802 rip=400000", "#d error=402 rip=400000"),
            ("#b error=412 rip=400000", "#b error=20a rip=400000"),
            ("#d error=10 rip=400000", "#d error=10 rip=400000"),
            ("#e error=2 rip=400000", "#e error=2 rip=400000"),
            ("#3 rip=400000", "#3 rip=400000"),
        ] {
            assert_eq!(with_gate_error(result), right);
        }
    }
}
