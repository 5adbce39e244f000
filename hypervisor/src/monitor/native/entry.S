# The monitor of a deprivileged native guest: the only code at CPL 0. Interrupts are off in it, but
# in `idle`. On kvm_pvm an instruction here costs 0.5 us, so events spend one.

.pushsection .rodata.paravane_native_monitor, "a"
.balign 4096
.globl paravane_native_start
paravane_native_start:
.Lnative:

# A stub an event, STUB_SIZE bytes apart: vectors, SYSCALL, SYSCALL of 32-bit code. The VMM takes
# the event from RIP, and the frame from the slot.
.set stub, 0
.rept STUBS
    .balign STUB_SIZE, 0xcc
    .ifeq stub - 14
    mov rsp, cr2                        # the slot's address is known; this is not
    .endif
    .ifeq stub - 13
    jmp .Lnative_fast                   # where traps are handled here; elsewhere #GP arrives behind it
.Lnative_protection:
    .endif
    out TRAP_PORT, eax
    .set stub, stub + 1
.endr

# Sleep. What wakes it arrives at a stub with a frame on this stack, or at the `out`.
.balign STUB_SIZE, 0xcc
.Lnative_idle:
    sti                                 # takes effect after the next instruction
    hlt
    cli
    out TRAP_PORT, eax

.balign STUB_SIZE, 0xcc
.Lnative_end_and_idle:
    mov dword ptr [rip + .Lnative + END_OF_INTERRUPT], 0
    jmp .Lnative_idle

# ---- #GP handled here: CLI and STI of the kernel. rsp: error, rip, cs, rflags, rsp, ss. ----------
.balign STUB_SIZE, 0xcc
.Lnative_fast:
    cmp dword ptr [rip + .Lnative + FAST], 0
    je .Lnative_protection              # not the kernel, or it is stepped
    mov [rip + .Lnative + FAST_RAX], rax
    mov rax, [rsp + 8]
    inc rax
    test eax, 0xfff
    jz 3f                               # the next byte may not be mapped
    mov ax, [rax - 1]                   # this one was fetched
    cmp al, 0xfa                        # cli
    jne 1f
    and dword ptr [rsp + 24], ~0x200
    jmp 2f
1:  cmp al, 0xfb                        # sti
    jne 3f
    cmp ah, 0xf4                        # hlt, or what stands for it: the VMM does both
    je 3f
    cmp dword ptr [rip + .Lnative + FAST], FAST_BOTH
    jne 3f
    test dword ptr [rsp + 24], 0x200
    jnz 2f
    sti                                 # What waits arrives before `cli`, at a stub and with a frame
    nop                                 # on this stack: the VMM knows by RSP. Then STI is not done,
    cli                                 # since interrupts come one instruction later.
    or dword ptr [rsp + 24], 0x200
2:  inc qword ptr [rsp + 8]
    mov rax, [rip + .Lnative + FAST_RAX]
    add rsp, 8
    iretq
3:  mov rax, [rip + .Lnative + FAST_RAX]
    jmp .Lnative_protection

# ---- Ways back. The VMM has set rsp and RIP, and every other register is the guest's. ----------
.balign STUB_SIZE, 0xcc
.Lnative_resume:                        # rsp = the frame
    iretq
.Lnative_resume_root:
    mov rsp, [rip + .Lnative + FRAME_ROOT]
    mov cr3, rsp
    lea rsp, [rip + .Lnative + FRAME]
    iretq
.Lnative_end_and_edits:
    mov dword ptr [rip + .Lnative + END_OF_INTERRUPT], 0
.Lnative_resume_edits:                  # rsp = the list: (entry, value, linear).. 0 rax rdi
1:  pop rdi
    test rdi, rdi
    jz 2f
    pop rax
    mov [rdi], rax                      # a store of the guest's, which a KVM with shadow tables sees
    pop rax
    invlpg [rax]
    jmp 1b
2:  pop rax
    pop rdi
    jmp .Lnative_resume_root

.globl paravane_native_end
paravane_native_end:

.balign 8
.globl paravane_native_points
paravane_native_points:
    .quad .Lnative_idle - .Lnative
    .quad .Lnative_resume - .Lnative
    .quad .Lnative_resume_root - .Lnative
    .quad .Lnative_resume_edits - .Lnative
    .quad .Lnative_end_and_edits - .Lnative
    .quad .Lnative_end_and_idle - .Lnative
    .quad .Lnative_protection - .Lnative
.popsection
