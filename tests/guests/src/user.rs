//! A user root with one page of code and one of stack, and what happens to a user there.
//!
//! The behaviour's argument names the user program. Every event that reaches the kernel is printed
//! as a line; the kernel then ends, or goes on where the program says so.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::boot::BootInfo;
use hypercall_abi::table::irq::Guest as _;
use hypercall_abi::table::mmu::Guest as _;
use hypercall_abi::table::time::Guest as _;
use hypercall_abi::{Frame, layout};
use pv_runtime::{PAGE, TrapFrame, restore, shared_page};

use crate::{events, exit, println};

/// Where the user's page tables and pages are, guest-physical: far from image and boot tables.
const TABLES: u64 = 0x80_0000;
/// The user's addresses, of one page table.
const CODE: u64 = 0x40_0000;
const STACK: u64 = 0x50_0000;
const STACK_TOP: u64 = STACK + 0x1000;

const LINK: u64 = 7;
const USER_CODE: u64 = 5;
const USER_DATA: u64 = 7 | 1 << 63;

#[repr(align(16))]
struct Stack(UnsafeCell<[u8; 8192]>);
// SAFETY: only the processor's event path uses it, as a stack, on the one processor.
unsafe impl Sync for Stack {}
static KERNEL_STACK: Stack = Stack(UnsafeCell::new([0; 8192]));

static EVENTS: AtomicU64 = AtomicU64::new(0);
/// How many events the kernel lets pass before it ends.
static LIMIT: AtomicU64 = AtomicU64::new(1);

global_asm!(
    ".pushsection .rodata.user_programs, \"a\"",
    ".macro PROGRAM name",
    "    .balign 64",
    "    .globl user_\\name",
    "    user_\\name:",
    ".endm",
    "PROGRAM syscall",
    "    mov eax, 39",
    "    mov rbx, 0x1111",
    "    syscall",
    "    hlt",
    "PROGRAM syscalls", // count to 1000 by system calls that add one, then end with the callee-saved
    "    mov r12, rsp",
    "    mov r13, 0x1313",
    "    xor eax, eax",
    "2:  syscall",
    "    cmp rax, 1000",
    "    jb 2b",
    "    sub r12, rsp", // 0 if the stack pointer survived
    "    xor r13, 0x1313",
    "    or r12, r13",
    "    mov rax, 0x10000",
    "    add rax, r12",
    "    syscall",
    "PROGRAM int3",
    "    mov eax, 0x40", // power_off, were this a gate
    "    int3",
    "PROGRAM gate",
    "    mov eax, 0x40",
    "    mov rbx, {page}",
    "    call rbx",
    "PROGRAM machine_gate",
    "    mov eax, 0x40",
    "    mov rbx, {page} + 32",
    "    call rbx",
    "PROGRAM doorbell",
    "    mov rbx, {doorbell}",
    "    mov [rbx], eax",
    "PROGRAM read_shared",
    "    mov rbx, {shared}",
    "    mov rax, [rbx]",
    "PROGRAM read_monitor",
    "    mov rbx, {area}",
    "    mov rax, [rbx]",
    "PROGRAM read_kernel",
    "    mov rbx, {kernel}",
    "    mov rax, [rbx]",
    "PROGRAM write_window",
    "    mov rbx, {window}",
    "    mov [rbx], rax",
    "PROGRAM pagefault",
    "    mov ebx, 0x123456",
    "    mov rax, [rbx]",
    "PROGRAM divide",
    "    xor edx, edx",
    "    xor ecx, ecx",
    "    div ecx",
    "PROGRAM undefined",
    "    ud2",
    "PROGRAM cli",
    "    cli",
    "PROGRAM hlt",
    "    hlt",
    "PROGRAM out",
    "    out 0xe7, eax",
    "PROGRAM step", // one instruction at a time: after the first
    "    pushfq",
    "    or qword ptr [rsp], 0x100",
    "    popfq",
    "    nop",
    "    hlt",
    "PROGRAM step_syscall",
    "    pushfq",
    "    or qword ptr [rsp], 0x100",
    "    popfq",
    "    syscall",
    "    hlt",
    "PROGRAM debug",
    "    .byte 0xf1", // int1, which no privilege keeps from anybody
    "    hlt",
    "PROGRAM interrupt", // the timer's vector, as if it had come
    "    int 0x30",
    "PROGRAM interrupt_3", // the long form
    "    int 3",
    "PROGRAM fast_call",
    "    sysenter",
    "PROGRAM return_to_0", // iretq to the monitor's code segment
    "    lea rbx, [rip + user_at_level_0]",
    "    push 0x18",
    "    push rsp",
    "    push 0x202",
    "    push 0x10",
    "    push rbx",
    "    iretq",
    "PROGRAM jump_to_0", // a far return to it
    "    lea rbx, [rip + user_at_level_0]",
    "    push 0x10",
    "    push rbx",
    "    rex64 retf",
    "PROGRAM segment_of_0",
    "    mov eax, 0x18",
    "    mov ds, eax",
    "    hlt",
    "PROGRAM local_segment",
    "    mov eax, 0x0f",
    "    mov es, eax",
    "    hlt",
    "PROGRAM not_canonical",
    "    mov rbx, 0x8000000000000000",
    "    mov rax, [rbx]",
    "PROGRAM no_stack",
    "    mov rsp, 0x8000000000000000",
    "    push rax",
    "PROGRAM no_stack_syscall",
    "    mov rsp, 0x8000000000000000",
    "    syscall",
    "PROGRAM misaligned", // with the alignment check on
    "    pushfq",
    "    or qword ptr [rsp], 0x40000",
    "    popfq",
    "    mov rax, [rsp - 9]",
    "    hlt",
    "PROGRAM read_counter",
    "    xor ecx, ecx",
    "    rdpmc",
    "PROGRAM read_msr",
    "    mov ecx, 0xc0000082",
    "    rdmsr",
    "PROGRAM return_fast",
    "    lea rcx, [rip + user_at_level_0]",
    "    sysretq",
    "PROGRAM vmcall",
    "    mov eax, 5",
    "    vmmcall",
    "    ud2",
    "PROGRAM call_gate", // through a descriptor of its own at address 8, as if a table were there
    "    lea rbx, [rip + 4f]",
    "    call fword ptr [rbx]",
    "    hlt",
    ".globl user_at_level_0",
    "user_at_level_0:",
    "    mov edi, 66",
    "    mov eax, 0x40",
    "    out {call_port}, eax",
    "4:  .long 0",
    "    .word 0x0f", // index 1 of the local table, as CPL 3
    "PROGRAM syscall_32", // in 32-bit code: on AMD its entry is another
    "    push 0x23",
    "    lea rbx, [rip + 5f]",
    "    push rbx",
    "    rex64 retf",
    "5:  syscall",
    "    hlt",
    "PROGRAM syscall_32_on_monitor",
    "    mov rsp, {area} + 0x2100",
    "    lea rbx, [rip + 6f]",
    "    mov [{stack}], ebx",
    "    mov dword ptr [{stack} + 4], 0x23",
    "    jmp fword ptr [{stack}]",
    "6:  syscall",
    "    hlt",
    "PROGRAM spin", // until the timer has come three times
    "2:  inc r15",
    "    cmp r14, 0x1414",
    "    je 2b",
    "    ud2",
    "PROGRAM pad", // jumps to the kernel's way in: it is only an iretq of the user's own frame
    "    mov rsp, {user_frame}",
    "    mov rbx, {pad}",
    "    jmp rbx",
    ".popsection",
    page = const layout::HYPERCALL_PAGE as i64,
    doorbell = const layout::DOORBELL_PAGE as i64,
    area = const layout::vcpu_area(0) as i64,
    shared = const (layout::vcpu_area(0) + layout::AREA_SHARED) as i64,
    kernel = const (layout::KERNEL_BASE + 0x10_0000) as i64,
    window = const (layout::vcpu_area(0) + layout::AREA_USER) as i64,
    user_frame = const (layout::vcpu_area(0) + layout::AREA_USER + layout::USER_FRAME) as i64,
    call_port = const layout::CALL_PORT,
    stack = const STACK,
    pad = const (layout::PAD_PAGE + layout::PAD_ENTER_USER) as i64,
);

macro_rules! programs {
    ($($name:ident $symbol:literal),*) => {
        mod code { unsafe extern "C" { $( #[link_name = $symbol] pub static $name: u8; )* } }
        fn program(name: &str) -> Option<u64> {
            match name {
                $( stringify!($name) => Some(&raw const code::$name as u64), )*
                _ => None,
            }
        }
    };
}
programs!(
    syscall "user_syscall", syscalls "user_syscalls", int3 "user_int3", gate "user_gate",
    machine_gate "user_machine_gate", doorbell "user_doorbell", read_shared "user_read_shared",
    read_monitor "user_read_monitor", read_kernel "user_read_kernel", write_window "user_write_window",
    pagefault "user_pagefault", divide "user_divide", undefined "user_undefined", cli "user_cli",
    hlt "user_hlt", out "user_out", call_gate "user_call_gate", at_level_0 "user_at_level_0",
    syscall_32 "user_syscall_32", syscall_32_on_monitor "user_syscall_32_on_monitor", step "user_step", step_syscall "user_step_syscall",
    debug "user_debug", interrupt "user_interrupt", interrupt_3 "user_interrupt_3",
    fast_call "user_fast_call", return_to_0 "user_return_to_0", jump_to_0 "user_jump_to_0",
    segment_of_0 "user_segment_of_0", local_segment "user_local_segment",
    not_canonical "user_not_canonical", no_stack "user_no_stack",
    no_stack_syscall "user_no_stack_syscall", misaligned "user_misaligned",
    read_counter "user_read_counter", read_msr "user_read_msr", return_fast "user_return_fast",
    vmcall "user_vmcall", spin "user_spin", pad "user_pad"
);

fn put(table: u64, index: u64, entry: u64) {
    let at = (layout::DIRECT_MAP + table + index * 8) as *mut u64;
    // SAFETY: the tables are at 8 MiB of a 16 MiB machine, away from image, stacks and boot tables,
    // and the boot tables map all memory at DIRECT_MAP.
    unsafe { ptr::write_volatile(at, entry) };
}

/// Map code and stack in the low half, and the monitor's user view at the top.
fn user_root(boot: &BootInfo, code: u64) -> Frame {
    let page = |n: u64| TABLES + n * 4096;
    put(page(0), 0, page(1) | LINK);
    put(page(1), 0, page(2) | LINK);
    put(page(2), CODE >> 21, page(3) | LINK);
    put(
        page(3),
        CODE >> 12 & 511,
        (code & !0xfff).wrapping_sub(layout::KERNEL_BASE) | USER_CODE,
    );
    put(
        page(3),
        (CODE >> 12 & 511) + 1,
        ((code & !0xfff) + 4096).wrapping_sub(layout::KERNEL_BASE) | USER_CODE,
    );
    put(page(3), STACK >> 12 & 511, page(5) | USER_DATA);
    put(page(2), 0, page(6) | LINK);
    put(page(6), 0, page(7) | USER_CODE);
    traps_at_zero(page(7));
    // The low 32 bits of the monitor's address: an entry that was cut to them would lead here.
    let cut = layout::vcpu_area(0) as u32 as u64;
    put(page(1), cut >> 30, page(8) | LINK);
    put(page(8), cut >> 21 & 511, page(9) | LINK);
    for code in 0..2 {
        put(page(9), (cut >> 12 & 511) + code, page(10) | USER_CODE);
    }
    slide_to_level_0(page(10));
    put(page(0), 511, page(4) | LINK);
    put(page(4), 511, boot.user_view | LINK);
    Frame(TABLES / 4096)
}

/// What a processor would find at address 0 if it took it for an entry or a descriptor table: a jump
/// to the program `at_level_0`, and a call gate to it.
fn traps_at_zero(page: u64) {
    const JUMP: u64 = 0xe9;
    const JUMP_LEN: u64 = 5;
    let to = CODE + (program("at_level_0").unwrap_or(0) & 0xfff);
    put(page, 0, JUMP | (to - JUMP_LEN) << 8);
    put(
        page,
        1,
        to & 0xffff | 0x10 << 16 | 0xec << 40 | (to >> 16 & 0xffff) << 48,
    );
    put(page, 2, to >> 32);
}

/// Code that leads to what the program `at_level_0` does, from wherever it is entered.
fn slide_to_level_0(page: u64) {
    for index in 0..510 {
        put(page, index, 0x9090_9090_9090_9090); // nop
    }
    // mov edi, 66; mov eax, 0x40; out CALL_PORT, eax
    put(
        page,
        510,
        u64::from_le_bytes([0xbf, 66, 0, 0, 0, 0xb8, 0x40, 0]),
    );
    let port = layout::CALL_PORT as u8;
    put(
        page,
        511,
        u64::from_le_bytes([0, 0, 0xe7, port, 0xf4, 0xf4, 0xf4, 0xf4]),
    );
}

/// Run a user program.
pub fn user(boot: &'static BootInfo, name: &str) {
    let Some(code) = program(name) else { exit(96) };
    let root = user_root(boot, code);
    if PAGE.set_user_root(root).is_err()
        || PAGE
            .set_event_entries(hypercall_abi::GuestVirt(pv_runtime::entries()))
            .is_err()
    {
        exit(95);
    }
    events::on_event(on_event);
    let shared = shared_page();
    shared
        .kernel_stack
        .store(KERNEL_STACK.0.get() as u64 + 8192, Ordering::Relaxed);
    match name {
        "syscalls" => LIMIT.store(u64::MAX, Ordering::Relaxed),
        "pad" | "spin" => {
            LIMIT.store(u64::MAX, Ordering::Relaxed);
            let _ = PAGE.arm_timer(1_000_000);
        }
        _ => {}
    }
    let frame = TrapFrame {
        rip: CODE + (code & 0xfff),
        cs: u64::from(layout::USER_CS),
        rflags: 0x202,
        rsp: STACK_TOP,
        r14: 0x1414,
        ss: u64::from(layout::USER_SS),
        ..TrapFrame::default()
    };
    // SAFETY: the frame's context is the user root just made, with a kernel stack for its events.
    unsafe { restore(&frame) }
}

fn on_event(frame: &mut TrapFrame) {
    if frame.vector == layout::ENTRY_PENDING {
        // An interrupt came on the way out to the user: it is handled as if it came there.
        let pending = &shared_page().pending;
        while let Some(vector) = pending.load(Ordering::Acquire).checked_ilog2() {
            pending.fetch_and(!(1 << vector), Ordering::AcqRel);
            frame.vector = u64::from(vector);
            event(frame);
        }
    } else {
        event(frame);
    }
}

fn event(frame: &mut TrapFrame) {
    let count = EVENTS.fetch_add(1, Ordering::Relaxed) + 1;
    let from = if frame.cs & 3 == 3 { "user" } else { "kernel" };
    match frame.vector {
        layout::ENTRY_SYSCALL if LIMIT.load(Ordering::Relaxed) == u64::MAX => {
            if frame.rax >= 0x10000 {
                println!("{} calls, damage {:#x}", count - 1, frame.rax - 0x10000);
                exit(0);
            }
            frame.rax += 1;
            return;
        }
        0x30 => {
            let _ = PAGE.end_of_interrupt();
            if count < 3 {
                println!("timer from {from}, r14 {:#x}", frame.r14);
                let _ = PAGE.arm_timer(200_000);
                return;
            }
            println!(
                "timer from {from}, on {}",
                u64::from(frame.rflags & 0x200 != 0)
            );
            exit(0);
        }
        _ => {}
    }
    let address = if frame.vector == 14 {
        shared_page().fault_address.load(Ordering::Relaxed)
    } else {
        0
    };
    println!(
        "event {} from {from}, error {:#x}, address {address:#x}, rax {:#x}, rbx {:#x}, rsp {:#x}, on {}",
        frame.vector,
        frame.error,
        frame.rax,
        frame.rbx,
        frame.rsp,
        u64::from(frame.rflags & 0x200 != 0),
    );
    exit(0);
}
