//! An image whose first instructions end it: what a machine takes until it executes anything.

use hypercall_abi::{Mode, Slot, TypedCall, layout, table};

/// The same image, with its first instructions replaced: they power the machine off. All else, and
/// so the work of loading it, stays. `None` when the image is none, or ends at its entry.
pub fn stop_at_entry(image: &[u8], mode: Mode) -> Option<Vec<u8>> {
    let plan = hypervisor::loader::plan(image).ok()?;
    let first = plan
        .segments
        .iter()
        .find(|segment| segment.virt_range().contains(&plan.entry))?;
    let offset = usize::try_from(plan.entry - first.virt).ok()?;
    let at = first.file.start.checked_add(offset)?;
    let code = power_off(mode);
    let end = at
        .checked_add(code.len())
        .filter(|end| *end <= first.file.end)?;
    let mut changed = image.to_vec();
    changed.get_mut(at..end)?.copy_from_slice(&code);
    Some(changed)
}

fn power_off(mode: Mode) -> Vec<u8> {
    let mut code = Vec::new();
    match mode {
        Mode::Pv => {
            // mov eax, number; xor edi, edi; mov rcx, slot; jmp rcx: there is no stack to return on.
            let number = <table::power::calls::power_off as TypedCall>::ROW.number as u32;
            code.push(0xb8);
            code.extend(number.to_le_bytes());
            code.extend([0x31, 0xff, 0x48, 0xc7, 0xc1]);
            code.extend((layout::slot_address(Slot::Machine) as u32).to_le_bytes());
            code.extend([0xff, 0xe1]);
        }
        _ => {
            // mov dx, port; xor eax, eax; out dx, eax
            code.extend([0x66, 0xba]);
            code.extend(layout::POWER_PORT.to_le_bytes());
            code.extend([0x31, 0xc0, 0xef]);
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_entry_s_bytes_change() {
        for (image, mode) in [
            (guest_images::PV, Mode::Pv),
            (guest_images::NATIVE, Mode::Hvm),
        ] {
            let changed = stop_at_entry(image, mode).unwrap();
            let differ = image.iter().zip(&changed).filter(|(a, b)| a != b).count();
            assert!(differ > 0 && differ <= power_off(mode).len());
            assert_eq!(image.len(), changed.len());
        }
    }

    #[test]
    fn what_is_no_image_has_no_entry() {
        assert_eq!(stop_at_entry(b"", Mode::Pv), None);
        assert_eq!(stop_at_entry(&[0x7f; 4096], Mode::Hvm), None);
    }
}
