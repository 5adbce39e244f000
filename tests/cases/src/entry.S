# The entry, 256 entries of events, and the way into a case. No event returns.
.pushsection .text.entry, "ax"
.globl _start
.type _start, @function
_start:                                 # rdi = &BootInfo, no stack, IF = 0
    lea rsp, [rip + handler_stack_end]
    xor ebp, ebp
    cld
    call {start}
    ud2
.size _start, . - _start

.balign 16
.globl event_entries
.type event_entries, @function
event_entries:                          # rsp -> [error] rip cs rflags rsp ss
.set vector, 0
.rept 256
    .balign 16, 0x90
    push vector
    jmp event_common
    .set vector, vector + 1
.endr
event_common:                           # rsp -> vector [error] rip cs rflags rsp ss
    mov [rip + saved + 0x00], rax
    mov [rip + saved + 0x08], rcx
    mov [rip + saved + 0x10], rdx
    mov [rip + saved + 0x18], rbx
    mov [rip + saved + 0x28], rbp
    mov [rip + saved + 0x30], rsi
    mov [rip + saved + 0x38], rdi
    mov [rip + saved + 0x40], r8
    mov [rip + saved + 0x48], r9
    mov [rip + saved + 0x50], r10
    mov [rip + saved + 0x58], r11
    mov [rip + saved + 0x60], r12
    mov [rip + saved + 0x68], r13
    mov [rip + saved + 0x70], r14
    mov [rip + saved + 0x78], r15
    mov rdi, rsp
    lea rsp, [rip + handler_stack_end]
    xor ebp, ebp
    cld
    call {ended}
    ud2
.size event_entries, . - event_entries

.balign 16
.globl enter_case
.type enter_case, @function
enter_case:                             # rdi -> 16 registers, rsi -> rip cs rflags rsp ss
    mov rsp, rsi
    mov rax, [rdi + 0x00]
    mov rcx, [rdi + 0x08]
    mov rdx, [rdi + 0x10]
    mov rbx, [rdi + 0x18]
    mov rbp, [rdi + 0x28]
    mov rsi, [rdi + 0x30]
    mov r8, [rdi + 0x40]
    mov r9, [rdi + 0x48]
    mov r10, [rdi + 0x50]
    mov r11, [rdi + 0x58]
    mov r12, [rdi + 0x60]
    mov r13, [rdi + 0x68]
    mov r14, [rdi + 0x70]
    mov r15, [rdi + 0x78]
    mov rdi, [rdi + 0x38]
    iretq
.size enter_case, . - enter_case
.popsection

.pushsection .bss.stacks, "aw", @nobits
.balign 4096
    .skip {stack}
handler_stack_end:
.globl saved
saved:
    .skip 128
.popsection
