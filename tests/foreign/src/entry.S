# Entries at CPL 0. A frame, from its start: r15 .. rax, vector, error, rip, cs, rflags, rsp, ss.
.pushsection .text.entry, "ax"
.globl _start
.type _start, @function
_start:                                 # rdi = &BootInfo, no stack, IF = 0
    lea rsp, [rip + boot_stack_end]
    xor ebp, ebp
    cld
    call {start}
    ud2
.size _start, . - _start

# 256 entries, 16 bytes apart, behind interrupt gates (IF = 0).
.balign 16
.globl trap_entries
.type trap_entries, @function
trap_entries:
.set vector, 0
.rept 256
    .balign 16, 0x90
    .ifeq (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
        push 0                          # the error code that others have
    .endif
    push vector
    jmp trap_common
    .set vector, vector + 1
.endr
trap_common:                            # rsp -> vector error rip cs rflags rsp ss
    test byte ptr [rsp + 24], 3
    jz 2f
    swapgs                              # came from a user: GS becomes the kernel's
2:  push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    xor ebp, ebp
    mov rdi, rsp                        # 22 words from an aligned stack: rsp is aligned
    call {trap}
    mov rsp, rax
.globl resume
resume:                                 # rsp -> the frame to go on with
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    cmp qword ptr [rsp], {syscall}
    je 4f
    test byte ptr [rsp + 24], 3
    jz 3f
    swapgs
3:  add rsp, 16
    iretq
4:  add rsp, 16                         # came by SYSCALL: rip cs rflags rsp ss
    pop rcx
    add rsp, 8
    pop r11
    pop rsp                             # the user's, at CPL 0 with IF = 0
    swapgs
    sysretq
.size trap_entries, . - trap_entries

.balign 16
.globl syscall_entry
.type syscall_entry, @function
syscall_entry:                          # rcx = user rip, r11 = user rflags, rsp = the user's, IF = 0
    swapgs
    mov gs:[8], rsp
    mov rsp, gs:[0]
    push {user_data}
    push gs:[8]
    push r11
    push {user_code}
    push rcx
    push 0
    push {syscall}
    jmp 2b
.size syscall_entry, . - syscall_entry
.popsection

.pushsection .bss.stacks, "aw", @nobits
.balign 4096
    .skip {stack}
boot_stack_end:
    .skip {emergency_stack}
.globl emergency_stack_end
emergency_stack_end:
.popsection
