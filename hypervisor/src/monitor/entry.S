# The monitor: the only code at CPL 0 in a pv guest. Position-independent: it reaches its own data
# (descriptor tables, slots, shared page) at fixed distances, so each vCPU has a copy of its own.
# Interrupts are off from each entry to its iretq. There is no stack but the event slots.
#
# "bounce": iretq through a prepared frame to one of the kernel's event entries at CPL 3. The
# frames are in a supervisor page that only the VMM fills, so no guest word ever becomes a CPL 0
# address. On kvm_pvm an instruction here costs 0.5 us, with a memory operand 1 us.

.pushsection .rodata.paravane_monitor, "a"
.balign 4096
.globl paravane_monitor_start
paravane_monitor_start:
.Lcode:

.macro TO_KERNEL_ROOT                   # clobbers rsp
    mov rsp, [rip + .Lcode + KERNEL_ROOT]
    mov cr3, rsp
.endm
.macro BOUNCE entry                     # leaves the monitor
    lea rsp, [rip + .Lcode + FRAMES + (\entry) * 40]
    iretq
.endm
.macro HOLD_EVENT_NOW                   # interrupts wait until the kernel has copied the slot
    mov byte ptr [rip + .Lcode + HOLD_EVENT], 1
.endm

# ---- Exceptions: slot at the end of EXCEPTION_SLOT. -------------------------------------------
.macro EXCEPTION_BODY vector
    cmp byte ptr [rip + .Lcode + HOLD_USER], 0
    jne 1f
    HOLD_EVENT_NOW
    BOUNCE \vector
1:  TO_KERNEL_ROOT
    HOLD_EVENT_NOW
    BOUNCE \vector
.endm
.macro EXCEPTION vector
.Lvector_\vector:
    EXCEPTION_BODY \vector
.endm

# Vector 3 is the gate where SYSCALL stays at CPL 3 (kvm_pvm). The return address proves the caller:
# the hypercall page exists in kernel roots alone.
.Lvector_3:
    cmp qword ptr [rsp], GATE_INT3 + 1
    jne .Lnot_call
    and r11d, MONITOR_NUMBERS - 1       # the slot has checked; who jumps past that gets some call
    .byte 0x42, 0xff, 0x24, 0xdd        # jmp [r11 * 8 + disp32]
.Lfix_jump_i:
    .long 0                             # the VMM writes the address of this copy's table
.Lnot_call:
    cmp qword ptr [rsp], EVENT_RETURN + 1
    je .Levent_return
    cmp qword ptr [rsp], ENTER_USER + 1
    je .Lenter_user
    cmp qword ptr [rsp], PAD_SYSCALL + 1
    je .Luser_syscall
    EXCEPTION_BODY 3                    # an ordinary breakpoint

# Registers are final and rsp (in the slot) is at an iretq frame: let interrupts in, and have the
# hypercall page's own iretq, at CPL 3, pop it.
.Levent_return:
    cmp qword ptr [rip + .Lcode + PENDING], 0
    jne .Lbounce_pending
    mov qword ptr [rip + .Lcode + HOLD], 0     # hold and needs_unmask
    or byte ptr [rsp + 17], 2           # rflags.IF
    iretq
.Lbounce_pending:
    HOLD_EVENT_NOW
    BOUNCE ENTRY_PENDING

# Registers are the user's, its iretq frame is in the user window: switch roots, and have the pad's
# iretq, at CPL 3, pop it. So the processor itself keeps user mode from any privilege.
.Lenter_user:
    cmp qword ptr [rip + .Lcode + PENDING], 0
    jne .Lbounce_pending
    mov qword ptr [rip + .Lcode + HOLD], 0x10000   # hold.user, and needs_unmask = 0
    mov rsp, [rip + .Lcode + USER_ROOT]
    mov cr3, rsp
    lea rsp, [rip + .Lcode + PAD_FRAME]
    iretq

# A user's SYSCALL, by way of the pad: rcx = rip, r11 = rflags, the slot has its rsp.
.Luser_syscall:
    TO_KERNEL_ROOT
    HOLD_EVENT_NOW
    BOUNCE ENTRY_SYSCALL

.Lvector_14:
    mov rsp, cr2
    mov [rip + .Lcode + FAULT_ADDRESS], rsp
    cmp byte ptr [rip + .Lcode + HOLD_USER], 0
    jne 1f
    HOLD_EVENT_NOW
    BOUNCE 14
1:  TO_KERNEL_ROOT
    HOLD_EVENT_NOW
    BOUNCE 14

# #DB has a stack of its own: it can arrive at CPL 0, after MOV SS (SDM vol. 3, 6.8.3), and is
# ignored there. Otherwise its frame moves to the slot of exceptions.
.Lvector_1:
    test byte ptr [rsp + 8], 3
    jz 1f
    pop qword ptr [rip + .Lcode + EXCEPTION_SLOT_END - 40]
    pop qword ptr [rip + .Lcode + EXCEPTION_SLOT_END - 32]
    pop qword ptr [rip + .Lcode + EXCEPTION_SLOT_END - 24]
    pop qword ptr [rip + .Lcode + EXCEPTION_SLOT_END - 16]
    pop qword ptr [rip + .Lcode + EXCEPTION_SLOT_END - 8]
    EXCEPTION_BODY 1
1:  iretq

# NMI, #DF and #MC: nothing in this machine raises them on purpose. Report and end.
.macro FATAL vector
.Lvector_\vector:
    mov eax, \vector
    out FAULT_PORT, eax
    ud2
.endm
FATAL 2
FATAL 8
FATAL 18

.irp vector, 0, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    EXCEPTION \vector
.endr

# ---- Interrupts: slot at the end of INTERRUPT_SLOT, by IST. -----------------------------------
# Held: set the pending bit and return with IF = 0; only a call that tests pending sets IF again.
.macro INTERRUPT vector
.Lvector_\vector:
    cmp dword ptr [rip + .Lcode + HOLD], 0
    jne 1f
    BOUNCE \vector
1:  cmp word ptr [rip + .Lcode + HOLD], 0      # hold.cli, hold.event
    jne 2f
    TO_KERNEL_ROOT                      # hold.user alone: deliver from user mode
    BOUNCE \vector
2:  or byte ptr [rip + .Lcode + PENDING + (\vector) / 8], 1 << ((\vector) % 8)
    jmp .Lheld
.endm
.Lheld:
    mov dword ptr [rip + .Lcode + NEEDS_UNMASK], 1
    and byte ptr [rsp + 17], 0xfd       # rflags.IF
    test byte ptr [rsp + 8], 3          # cs
    jnz 1f
    or byte ptr [rsp], 1                # from `idle`: go on behind its hlt, whose address is even
1:  iretq

.irp vector, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63
    INTERRUPT \vector
.endr

# ---- Tier-1 calls. ----------------------------------------------------------------------------
# Two flavours, by gate: `i`, entered by int3 (number in r11, rax = 0, frame at rsp, local APIC by
# MMIO; rcx is free), and `s`, entered by SYSCALL (number in rax, rcx = rip, r11 = rflags, rsp is the
# caller's, local APIC by x2APIC MSRs).
.macro RETURN f
    .ifc \f, i
        iretq
    .else
        sysretq
    .endif
.endm
.macro IF_ON f
    .ifc \f, i
        or byte ptr [rsp + 17], 2
    .else
        or r11d, 0x200
    .endif
.endm
.macro WRMSR_X2APIC number              # eax, edx = value; rcx and rdx restored
    mov ecx, 0x800 + (\number)
    wrmsr
    mov rcx, GATE_SYSCALL + 2               # what SYSCALL had put there
    mov rdx, [rip + .Lcode + SAVED_RDX]
.endm
.macro SUCCEED f                        # return 0
    .ifc \f, s
        xor eax, eax
    .endif
    RETURN \f
.endm
.macro CALLS f, free                    # free: a register that the call may use
.Lunknown_\f:
    mov rax, ERROR_UNKNOWN
    RETURN \f
.Lbad_\f:
    mov rax, ERROR_BAD_ARGUMENT
    RETURN \f
.Lnull_\f:
    SUCCEED \f
.Lload_root_\f:
    cmp rdi, [rip + .Lcode + FRAME_LIMIT]
    jae .Lbad_\f
    mov \free, rdi
    shl \free, 12
    mov cr3, \free
    mov [rip + .Lcode + KERNEL_ROOT], \free
    SUCCEED \f
.Linvalidate_page_\f:
    invlpg [rdi]
    SUCCEED \f
.Lset_user_root_\f:
    cmp rdi, [rip + .Lcode + FRAME_LIMIT]
    jae .Lbad_\f
    mov \free, rdi
    shl \free, 12
    mov [rip + .Lcode + USER_ROOT], \free
    SUCCEED \f
.Lunmask_\f:
    cmp qword ptr [rip + .Lcode + PENDING], 0
    jne .Lone_\f
    mov qword ptr [rip + .Lcode + HOLD], 0     # hold and needs_unmask
    IF_ON \f
    SUCCEED \f
.Lone_\f:
    mov eax, 1
    RETURN \f
.Lidle_\f:
    mov byte ptr [rip + .Lcode + HOLD_CLI], 1  # so that what comes while asleep is held
    cmp qword ptr [rip + .Lcode + PENDING], 0
    jne .Lone_\f
    # STI takes effect after the next instruction. QEMU's emulated SVM forgets that in a VMRUN, so the interrupt may
    # arrive ahead of hlt, which would then sleep with IF = 0. See .Lheld, which makes its address odd.
    .balign 2, 0x90
    nop
    sti
    hlt
    cli
    SUCCEED \f
.Leoi_\f:
    .ifc \f, i
        mov dword ptr [APIC + 0xb0], 0
    .else
        mov [rip + .Lcode + SAVED_RDX], rdx
        xor eax, eax
        xor edx, edx
        WRMSR_X2APIC 0x0b
    .endif
    SUCCEED \f
.Lsend_interrupt_\f:
    lea \free, [rsi - 0x20]
    cmp \free, 0x20
    jae .Lbad_\f
    cmp rdi, 0xff
    ja .Lbad_\f
    .ifc \f, i
        mov ecx, edi
        shl ecx, 24
        mov [APIC + 0x310], ecx
        mov [APIC + 0x300], esi
    .else
        mov [rip + .Lcode + SAVED_RDX], rdx
        mov eax, esi
        mov edx, edi
        WRMSR_X2APIC 0x30
    .endif
    SUCCEED \f
.Larm_timer_\f:
    .ifc \f, i
        mov [APIC + 0x380], edi
    .else
        mov [rip + .Lcode + SAVED_RDX], rdx
        mov eax, edi
        xor edx, edx
        WRMSR_X2APIC 0x38
    .endif
    SUCCEED \f
.endm
CALLS i, rcx
CALLS s, rax

# ---- SYSCALL, where it reaches CPL 0 (VMX, SVM). FMASK has cleared IF and TF. -----------------
.Lsyscall:
    cmp rcx, GATE_SYSCALL + 2
    jne 1f
    and eax, MONITOR_NUMBERS - 1
    .byte 0xff, 0x24, 0xc5              # jmp [rax * 8 + disp32]
.Lfix_jump_s:
    .long 0
1:  cmp rcx, MACHINE + 2
    jne 2f
    out CALL_PORT, eax                  # tier 2: the VMM sets rax
.Lcall_done:
    sysretq
2:  mov [rip + .Lcode + EXCEPTION_SLOT_END - 16], rsp
    TO_KERNEL_ROOT
    HOLD_EVENT_NOW
    BOUNCE ENTRY_SYSCALL

.globl paravane_monitor_end
paravane_monitor_end:

# ---- What the VMM needs to know of the code: offsets from its start. ---------------------------
.balign 8
.globl paravane_monitor_vectors
paravane_monitor_vectors:
.irp vector, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63
    .quad .Lvector_\vector - .Lcode
.endr

.macro CALL_OFFSETS f                   # by call number
    .quad .Lnull_\f - .Lcode
    .quad .Lload_root_\f - .Lcode
    .quad .Linvalidate_page_\f - .Lcode
    .quad .Lset_user_root_\f - .Lcode
    .quad .Lunmask_\f - .Lcode
    .quad .Lidle_\f - .Lcode
    .quad .Leoi_\f - .Lcode
    .quad .Lsend_interrupt_\f - .Lcode
    .quad .Larm_timer_\f - .Lcode
    .rept MONITOR_NUMBERS - 9
        .quad .Lunknown_\f - .Lcode
    .endr
.endm
.globl paravane_monitor_calls_int3
paravane_monitor_calls_int3:
    CALL_OFFSETS i
.globl paravane_monitor_calls_syscall
paravane_monitor_calls_syscall:
    CALL_OFFSETS s
.globl paravane_monitor_points
paravane_monitor_points:
    .quad .Lfix_jump_i - .Lcode
    .quad .Lfix_jump_s - .Lcode
    .quad .Lsyscall - .Lcode
    .quad .Lcall_done - .Lcode
.popsection
