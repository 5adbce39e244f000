# The floor's guest: CPL 3 loops, then CPL 0 stubs and loops. Copied into guest memory; no address
# of this program is in it. On entry of a loop:
#   rbp = doorbell page, r12 = results, r13 = repeats, r14 = iterations
#   r8 r9 rdi rsi r10 = the row's own (rows.rs), rbx = countdown, r15 = clock at the start
# Labels 2 and 3 are a loop's; 4 is a body's. The suffix says which gate a loop takes.

.macro floor_label name
.globl floor_\name
.hidden floor_\name
floor_\name:
.endm

.macro floor_clock                      # rax = clock; clobbers rdx
        rdtsc
        shl     rdx, 32
        or      rax, rdx
.endm

.macro floor_repeat                     # the untimed start of a repeat may follow
2:      mov     rbx, r14
.endm

.macro floor_start
        floor_clock
        mov     r15, rax
3:
.endm

.macro floor_store                      # rax = ticks of this repeat
        mov     [r12], rax
        add     r12, 8
        dec     r13
        jnz     2b
        mov     [rbp + 8], eax          # done: never returns
        ud2
.endm

.macro floor_stop
        dec     rbx
        jnz     3b
        floor_clock
        sub     rax, r15
        floor_store
.endm

.macro floor_begin name
        .balign 16
        floor_label \name
        floor_repeat
        floor_start
.endm

# The two gates: into CPL 0, out of it again, and from CPL 3 to the machine.
.macro floor_leave_int3
        iretq
.endm
.macro floor_leave_syscall
        sysretq
.endm
.macro floor_call_int3
        mov     [rbp], eax
.endm
.macro floor_call_syscall
        syscall
.endm

        .pushsection .rodata.paravane_floor, "a", @progbits

# ---- CPL 3 ----
        .balign 16
        floor_label user_start

        floor_begin empty_loop
        floor_stop

        floor_begin clock_read
        rdtsc
        floor_stop

.irp gate, int3, syscall
        floor_begin gate_\gate
        \gate
        floor_stop

        floor_begin machine_exit_\gate
        mov     eax, {CALL_NUMBER}
        floor_call_\gate
        add     r10, rax
        floor_stop

        floor_begin batch64_\gate
        mov     edi, {RING_ENTRIES}
        mov     edx, {RING_LEN}
        mov     eax, {CALL_NUMBER}
4:      mov     [rdi], rax
        mov     [rdi + 8], rdx
        add     rdi, 16
        dec     edx
        jnz     4b
        add     qword ptr [rsi], {RING_LEN}     # publish the entries
        floor_call_\gate
        add     r10, rax
        floor_stop

        floor_begin load_root_\gate
        xchg    r8, r9
        \gate                           # the stub loads r8
        floor_stop

        floor_begin page_remap_\gate
        xchg    r8, r9
        mov     [rsi], r8
        \gate                           # the stub invalidates the page at rdi
        add     r10, [rdi]
        floor_stop

        floor_begin timer_arm_gate_\gate
        floor_clock
        add     rax, r8                 # r8 = too long to fire within the loop
        mov     rdx, rax
        shr     rdx, 32
        \gate                           # the stub sets the deadline rdx:rax
        floor_stop

        .balign 16
        floor_label page_fault_\gate
        floor_repeat
        mov     edi, {WINDOW_TABLE}
        mov     ecx, {WINDOW_LEN}
        xor     eax, eax
        rep     stosq
        \gate                           # the stub loads r8: no translation of the window is left
        mov     edi, {WINDOW_TABLE}
        mov     esi, {WINDOW}
        floor_start
        mov     eax, [rsi]              # faults; the handler stores r9 at rdi
        add     rdi, 8
        add     rsi, 4096
        floor_stop
.endr

        floor_begin divide_error
        div     ecx                     # ecx = 0; two bytes long, as the handler knows
        floor_stop

        floor_begin undefined_instruction
        ud2                             # two bytes
        floor_stop

        floor_begin breakpoint
        int3
        floor_stop

        floor_begin general_protection
        cli                             # privileged, since IOPL is 0; one byte, as the handler knows
        floor_stop

        floor_begin flags
.rept {UNROLLED}
        pushfq
        popfq
.endr
        floor_stop

        floor_begin trap_exit
        mov     eax, {CALL_NUMBER}
        cli                             # the machine skips it
        add     r10, rax
        floor_stop

# rsi = xAPIC page, ecx = count. The VMM has set the timer up: one-shot, in nanoseconds.
        floor_begin timer_arm
        mov     [rsi + 0x380], ecx      # ecx = too long to fire within the loop
        floor_stop

        .balign 16
        floor_label timer_interrupt
        floor_repeat
        floor_start
        mov     [rsi + 0x380], ecx
4:      jmp     4b                      # two bytes; the handler skips it, with its clock in rdx:rax
        shl     rdx, 32
        or      rax, rdx
        sub     rax, r15
        floor_store

        .balign 16
        floor_label probe
        syscall
        floor_label probe_target
        mov     [rbp + 8], eax
        ud2
        floor_label user_end

# ---- CPL 0 ----
        .balign 16
        floor_label monitor_start

.irp gate, int3, syscall
        .balign 16
        floor_label return_\gate
        floor_leave_\gate

        .balign 16
        floor_label load_r8_\gate
        mov     cr3, r8
        floor_leave_\gate

        .balign 16
        floor_label invalidate_rdi_\gate
        invlpg  [rdi]
        floor_leave_\gate
.endr

        .balign 16
        floor_label set_deadline_int3   # ecx = IA32_TSC_DEADLINE
        wrmsr
        iretq

        .balign 16
        floor_label set_deadline_syscall # rcx = return address
        mov     r9, rcx
        mov     ecx, {TSC_DEADLINE}
        wrmsr
        mov     rcx, r9
        sysretq

        .balign 16
        floor_label call_machine
        out     {CALL_PORT}, eax
        sysretq

        .balign 16
        floor_label skip_two_bytes
        add     qword ptr [rsp], 2
        iretq

        .balign 16
        floor_label skip_one_byte       # [rsp] = error code
        add     rsp, 8
        add     qword ptr [rsp], 1
        iretq

        .balign 16
        floor_label trap_machine        # [rsp] = error code; the machine drops it, and skips the byte
        out     {CALL_PORT}, eax
        iretq

        .balign 16
        floor_label map_page            # [rsp] = error code
        mov     [rdi], r9
        add     rsp, 8
        iretq

        .balign 16
        floor_label tick_user           # interrupted a jump to itself
        rdtsc
        mov     dword ptr [rsi + 0xb0], 0       # EOI
        add     qword ptr [rsp], 2
        iretq

        .balign 16
        floor_label tick_idle
        rdtsc
        mov     dword ptr [rsi + 0xb0], 0
        iretq

        floor_begin interrupts
        .rept   {UNROLLED}
        cli
        sti
        .endr
        floor_stop

        floor_begin load_root
        .rept   {UNROLLED} / 2
        mov     cr3, r8
        mov     cr3, r9
        .endr
        floor_stop

        floor_begin console_byte
        .rept   {UNROLLED}
        out     {CONSOLE_PORT}, al
        .endr
        floor_stop

        floor_begin console64
        mov     rsi, r8
        .rept   {MESSAGE_LEN}
        lodsb
        out     {CONSOLE_PORT}, al
        .endr
        floor_stop

        .balign 16
        floor_label console64_string
        floor_repeat
        floor_start
        mov     rsi, r8
        mov     ecx, {MESSAGE_LEN}
        mov     edx, {CONSOLE_PORT}
        rep     outsb
        floor_stop

        floor_begin idle_wake
        mov     [rsi + 0x380], ecx      # IF = 0
        sti
        hlt                             # the handler leaves its clock in rdx:rax
        cli
        shl     rdx, 32
        or      rax, rdx
        sub     rax, r15
        floor_store

        floor_label monitor_end

        .popsection
