# Entry of the pv image: CPL 3, rdi = &BootInfo, no stack, hold.cli = 1.
.pushsection .text.entry, "ax"
.globl _start
.type _start, @function
_start:
    lea rsp, [rip + boot_stack_end]
    xor ebp, ebp
    call paravane_start
    ud2
.size _start, . - _start

# Event entries, 16 bytes apart. The monitor enters each with rsp = the scratch stack, the
# processor's frame in an event slot, and either IF = 0 (interrupts) or hold.event = 1 (the rest).
.balign 16
.globl event_entries
.type event_entries, @function
event_entries:
.set vector, 0
.rept 66
    .balign 16                          # with nops: an int3 would count as one (paravane audit)
    push vector
    .if vector >= 64
        .if vector == 64
            jmp entry_syscall
        .else
            jmp entry_no_error
        .endif
    .elseif vector >= 32
        jmp entry_interrupt
    .elseif vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
        jmp entry_build_exception
    .else
        jmp entry_no_error
    .endif
    .set vector, vector + 1
.endr

entry_syscall:                          # rcx = user rip, r11 = user rflags, slot.rsp = user rsp
    push rax
    mov rax, {EXCEPTION_SLOT}
    mov [rax + 8], rcx
    mov qword ptr [rax + 16], {USER_CS}
    mov [rax + 24], r11
    mov qword ptr [rax + 40], {USER_SS}
    pop rax
entry_no_error:                         # the error word holds an older event's: clear it
    push rax
    mov rax, {EXCEPTION_SLOT}
    mov qword ptr [rax], 0
    pop rax
entry_build_exception:
    push rax
    push rbx
    push rcx
    mov rbx, {EXCEPTION_SLOT}
    jmp entry_build
entry_interrupt:
    push rax
    push rbx
    push rcx
    mov rbx, {INTERRUPT_SLOT}
    mov qword ptr [rbx], 0
    mov dword ptr [{NEEDS_UNMASK}], 1   # IF = 0 came with the interrupt

# [rsp] = rcx rbx rax vector, rbx -> error rip cs rflags rsp ss of the interrupted context.
# Find the stack for its TrapFrame, top in rax.
entry_build:
    cld
    cmp byte ptr [{HOLD_USER}], 0
    jne 5f
    mov rcx, [rbx + 8]
    lea rax, [rip + return_tail]
    cmp rcx, rax
    jb 1f
    lea rax, [rip + return_tail_end]
    cmp rcx, rax
    jb 3f                               # on the way out, rsp -> a whole iretq frame
1:  cmp rcx, {EVENT_RETURN} + 1
    je 3f
    cmp rcx, {ENTER_USER} + 1
    je 6f
    lea rax, [rip + event_entries]
    cmp rcx, rax
    jb 2f
    lea rax, [rip + return_tail]
    cmp rcx, rax
    jb 4f
2:  mov rax, [rbx + 32]                 # the interrupted kernel stack
    and rax, -16
    jmp 8f

# Restart: the interrupted code had all registers restored and only the frame at rsp to pop. The
# new event takes that frame's place, so that a storm of interrupts uses no more stack.
3:  mov rax, [rbx + 32]
    mov rcx, [rax]
    mov [rbx + 8], rcx
    mov rcx, [rax + 16]
    mov [rbx + 24], rcx
    mov rcx, [rax + 24]
    mov [rbx + 32], rcx
    or byte ptr [rbx + 25], 2           # it was about to run with interrupts on
    mov byte ptr [{HOLD_CLI}], 0
    add rax, 40
    jmp 8f

# The event entry itself was interrupted: the kernel has no stack left, or a bad one.
4:  lea rax, [rip + boot_stack_end]     # nothing runs after this event: any memory will do
    mov byte ptr [rsp + 24], 8          # report it as the double fault that it is
    jmp 8f

# From user mode. On the pad the user's frame is not popped yet: take it from the window.
5:  mov rcx, {PAD_ENTER_USER}
    cmp [rbx + 8], rcx
    jne 7f
    mov rcx, {USER_FRAME}
    cmp [rbx + 32], rcx
    jne 7f
6:  mov rax, {USER_FRAME}               # (also: stopped by a pending interrupt at the gate)
    mov rcx, [rax]
    mov [rbx + 8], rcx
    mov rcx, [rax + 16]
    mov [rbx + 24], rcx
    mov rcx, [rax + 24]
    mov [rbx + 32], rcx
7:  mov rax, [{KERNEL_STACK}]
    mov byte ptr [{HOLD_CLI}], 0        # user mode runs with interrupts on
    mov byte ptr [{HOLD_USER}], 0
    sub rax, {FRAME_SIZE}
    mov qword ptr [rax + {CS}], {USER_CS}
    mov qword ptr [rax + {SS}], {USER_SS}
    jmp 9f
8:  sub rax, {FRAME_SIZE}
    mov qword ptr [rax + {CS}], 0x10    # the kernel's virtual privilege level is 0
    mov qword ptr [rax + {SS}], 0x18
9:  mov rcx, [rbx]
    mov [rax + {ERROR}], rcx
    mov rcx, [rbx + 8]
    mov [rax + {RIP}], rcx
    mov rcx, [rbx + 32]
    mov [rax + {RSP}], rcx
    mov rcx, [rbx + 24]                 # rflags, with the virtual interrupt flag
    or ecx, 0x200
    cmp byte ptr [{HOLD_CLI}], 0
    je 31f
    and ecx, ~0x200
31: mov [rax + {RFLAGS}], rcx
    movzx ecx, byte ptr [rsp + 24]
    mov [rax + {VECTOR}], rcx
    mov [rax], r15
    mov [rax + 8], r14
    mov [rax + 16], r13
    mov [rax + 24], r12
    mov [rax + 32], r11
    mov [rax + 40], r10
    mov [rax + 48], r9
    mov [rax + 56], r8
    mov [rax + 64], rbp
    mov [rax + 72], rdi
    mov [rax + 80], rsi
    mov [rax + 88], rdx
    mov rcx, [rsp]
    mov [rax + 96], rcx
    mov rcx, [rsp + 8]
    mov [rax + 104], rcx
    mov rcx, [rsp + 16]
    mov [rax + 112], rcx
    mov rsp, rax                        # the slot and the scratch stack are free again
    mov byte ptr [{HOLD_CLI}], 1
    mov byte ptr [{HOLD_EVENT}], 0
    mov rdi, rsp
    xor ebp, ebp                        # a walk of frame pointers ends here; the TrapFrame goes on
    call paravane_event
.size event_entries, . - event_entries

# Restore the TrapFrame at rsp.
.globl event_return
.type event_return, @function
event_return:
    test byte ptr [rsp + {CS}], 3
    jnz 20f
    mov qword ptr [rsp + {CS}], {USER_CS}
    mov qword ptr [rsp + {SS}], {USER_SS}
    test byte ptr [rsp + {RFLAGS} + 1], 2
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
    lea rsp, [rsp + 16]                 # vector, error; ZF still holds IF's test
    jnz return_tail
    iretq                               # interrupts stay off: hold.cli keeps its 1
return_tail:                            # all registers final, rsp -> rip cs rflags rsp ss
    mov byte ptr [{HOLD_CLI}], 0
    cmp dword ptr [{NEEDS_UNMASK}], 0
    jne 30f
    iretq                               # IF did not change meanwhile: no gate is needed
30: jmp qword ptr [rip + event_return_gate]
return_tail_end:

20: mov rax, {USER_FRAME}
    mov rcx, [rsp + {RIP}]
    mov [rax], rcx
    mov qword ptr [rax + 8], {USER_CS}
    mov rcx, [rsp + {RFLAGS}]
    mov [rax + 16], rcx
    mov rcx, [rsp + {RSP}]
    mov [rax + 24], rcx
    mov qword ptr [rax + 32], {USER_SS}
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
    jmp qword ptr [rip + enter_user_gate]
.size event_return, . - event_return
.popsection

.pushsection .rodata.gates, "a"
.balign 8
event_return_gate:
    .quad {EVENT_RETURN}
enter_user_gate:
    .quad {ENTER_USER}
.popsection

.pushsection .bss.boot_stack, "aw", @nobits
.balign 4096
    .skip {stack}
boot_stack_end:
.popsection
