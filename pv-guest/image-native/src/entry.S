# Entry of the native image: CPL 0, rdi = &BootInfo, no stack, IF = 0.
.pushsection .text.entry, "ax"
.globl _start
.type _start, @function
_start:
    lea rsp, [rip + boot_stack_end]
    xor ebp, ebp
    call {start}
    ud2
.size _start, . - _start

# Event entries, 16 bytes apart, behind interrupt gates (IF = 0).
.balign 16
.globl event_entries
.type event_entries, @function
event_entries:
.set vector, 0
.rept 64
    .balign 16, 0x90
    .ifeq (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
        push 0                          # the error code that others have
    .endif
    push vector
    jmp event_common
    .set vector, vector + 1
.endr
event_common:                           # rsp -> vector error rip cs rflags rsp ss
    push rax
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
    call {handler}
.size event_entries, . - event_entries

.globl event_return
.type event_return, @function
event_return:
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
    add rsp, 16
    iretq
.size event_return, . - event_return
.popsection

.pushsection .bss.boot_stack, "aw", @nobits
.balign 4096
    .skip {stack}
boot_stack_end:
    .skip 16384
.globl emergency_stack_end
emergency_stack_end:
.popsection
