# User programs. Each is copied to {text} and entered there, with the stack's top in rsp, and a page
# of data at {data} that FS points at too. rax is the call's number, rdi its argument.
.macro program name
    .balign 8
    .globl program_\name
    program_\name:
        .quad \name\()_end - \name\()_code
    \name\()_code:
.endm
.macro by_syscall number
    mov eax, \number
    syscall
.endm
.macro by_int number
    mov eax, \number
    int 0x80
.endm
.macro leave status
    mov edi, \status
    by_syscall {exit}
.endm

.pushsection .rodata.programs, "a"

program count                           # computes, and calls by SYSCALL
    by_syscall {pid}
    mov [{data}], rax
    mov rdi, rax
    by_syscall {report}
    xor edi, edi
    mov ecx, 1000
2:  add rdi, rcx
    dec ecx
    jnz 2b
    by_syscall {report}                 # 500500
    lea rbx, [rip + 3f]
    by_syscall {pass}
3:  sub rcx, rbx                        # SYSCALL leaves the return address in rcx
    mov rbx, r11                        # and the flags in r11
    mov rdi, rcx
    by_syscall {report}
    mov rdi, rbx
    and edi, 0x47700
    by_syscall {report}
    mov rdi, [{data}]                   # other processes have written there in their space
    by_syscall {report}
    mov rdi, fs:[0]
    by_syscall {report}
    lea rdi, [rip + 4f]
    by_syscall {say}
    leave 0
4:  .asciz "counted"
count_end:

program legacy                          # the same by int 0x80, which keeps every register
    mov ecx, 0x1111
    mov r11d, 0x2222
    mov r15, -3
    by_int {pid}
    mov [{data}], rax
    mov rdi, rax
    by_int {report}
    mov rdi, rcx
    by_int {report}
    mov rdi, r11
    by_int {report}
    mov rdi, r15
    by_int {report}
    std
    by_int {pass}                       # the kernel must clear DF for itself and give it back
    pushfq
    cld
    pop rdi
    and edi, 0x47700
    by_int {report}
    mov rdi, [{data}]
    by_int {report}
    lea rdi, [rip + 4f]
    by_int {say}
    mov edi, 0
    by_int {exit}
4:  .asciz "called as of old"
legacy_end:

program divide
    mov eax, 1
    xor edx, edx
    xor ecx, ecx
    div ecx
divide_end:

program spin_a                          # every register has a value, and none changes
    mov eax, 0xa0
    mov ebx, 0xa1
    mov ecx, 0xa2
    mov edx, 0xa3
    mov esi, 0xa4
    mov edi, 0xa5
    mov ebp, 0xa6
    mov r8d, 0xa7
    mov r9d, 0xa8
    mov r10d, 0xa9
    mov r11d, 0xaa
    mov r12d, 0xab
    mov r13d, 0xac
    mov r14d, 0xad
    mov r15d, 0xae
2:  jmp 2b
spin_a_end:

program spin_b
    mov rax, -1
    mov rbx, rax
    mov rcx, rax
    mov rdx, rax
    mov rsi, rax
    mov rdi, rax
    mov rbp, rax
    mov r8, rax
    mov r9, rax
    mov r10, rax
    mov r11, rax
    mov r12, rax
    mov r13, rax
    mov r14, rax
    mov r15, rax
    push rax
    std
2:  jmp 2b
spin_b_end:

program grow                            # writes to pages that are mapped when they are touched
    mov ebx, {heap}
    mov ecx, 3
2:  mov [rbx], rcx
    add rbx, 4096
    dec ecx
    jnz 2b
    mov edi, [{heap}]
    add edi, [{heap} + 4096]
    add edi, [{heap} + 8192]
    by_syscall {report}                 # 6
    mov edi, [{heap} + 3 * 4096]        # a read finds zero
    by_syscall {report}
    leave 0
grow_end:

program popf                            # IF and IOPL stay as they are
    pushfq
    pop rbx
    mov rax, rbx
    and eax, ~0x200
    or eax, 0x3000
    push rax
    popfq
    pushfq
    pop rdi
    and edi, 0x3200
    by_syscall {report}                 # 0x200
    cld
    leave 0
popf_end:

program bad_pointer                     # the kernel refuses what the user may not read
    mov rdi, 0xffffffff80100000
    by_syscall {say}
    mov rdi, rax
    by_syscall {report}
    mov rdi, 0x8000000000000000
    by_int {say}
    mov rdi, rax
    by_int {report}
    mov eax, 77                         # no such call
    syscall
    mov rdi, rax
    by_syscall {report}
    leave 0
bad_pointer_end:

program status                          # ends with a status of its own
    leave 42
status_end:

program peek                            # reads the kernel's memory
    mov rbx, 0xffffffff80100000
    mov rax, [rbx]
peek_end:

program poke                            # writes to its own code
    mov byte ptr [{text}], 0
poke_end:

program null
    xor ebx, ebx
    mov dword ptr [rbx], 1
null_end:

program jump_to_stack                   # the stack is no code
    push 0x90
    jmp rsp
jump_to_stack_end:

program jump_to_kernel
    mov rax, 0xffffffff80100000
    jmp rax
jump_to_kernel_end:

program not_canonical
    mov rbx, 0x8000000000000000
    mov rax, [rbx]
not_canonical_end:

program overflow                        # the page below the stack is not mapped
2:  push rax
    jmp 2b
overflow_end:

program cli
    nop
    cli
cli_end:

program sti
    sti
sti_end:

program hlt
    hlt
hlt_end:

program read_port
    mov edx, 0x3f8
    in al, dx
read_port_end:

program write_port
    mov al, 1
    out 0xf4, al
write_port_end:

program read_cr3
    mov rax, cr3
read_cr3_end:

program write_cr3
    xor eax, eax
    mov cr3, rax
write_cr3_end:

program read_msr
    mov ecx, 0xc0000080
    rdmsr
read_msr_end:

program swap_gs
    swapgs
swap_gs_end:

program load_idt
    push 0
    push 0
    lidt [rsp]
load_idt_end:

program return_to_kernel                # IRETQ to the kernel's code selector
    push 0x10
    push rsp
    push 0x202
    push 0x08
    lea rax, [rip + 2f]
    push rax
2:  iretq
return_to_kernel_end:

program timer_gate                      # INT to a gate that is not the user's
    int 0x20
timer_gate_end:

program fault_gate                      # and to that of page faults
    int 14
fault_gate_end:

program breakpoint
    nop
    int3
breakpoint_end:

program undefined
    ud2
undefined_end:

program step                            # the trap comes after the instruction behind POPFQ
    pushfq
    or qword ptr [rsp], 0x100
    popfq
    nop
    nop
step_end:

program unaligned                       # AC and CR0.AM have alignment checked
    pushfq
    or qword ptr [rsp], 0x40000
    popfq
    push rax
    mov eax, [rsp + 1]
unaligned_end:

.popsection
