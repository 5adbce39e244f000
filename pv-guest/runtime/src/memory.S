# System V ABI: rdi = to, rsi = from or byte, rdx = length. DF is clear.
.pushsection .text.memory, "ax"
.globl memcpy, memmove, memset, memcmp, bcmp, rust_eh_personality, _Unwind_Resume
.type memcpy, @function
memcpy:
    mov rax, rdi
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov ecx, edx
    and ecx, 7
    rep movsb
    ret
.size memcpy, . - memcpy

.type memmove, @function
memmove:
    mov rax, rdi
    sub rax, rsi
    cmp rax, rdx                # unsigned: `to` is inside [from, from + length)
    jae memcpy
    mov rax, rdi
    lea rdi, [rdi + rdx - 1]    # overlap: copy backwards, from the last byte
    lea rsi, [rsi + rdx - 1]
    mov rcx, rdx
    std
    rep movsb
    cld
    ret
.size memmove, . - memmove

.type memset, @function
memset:
    mov r8, rdi
    movzx eax, sil
    mov r9, 0x0101010101010101
    imul rax, r9                # the byte, eight times
    mov rcx, rdx
    shr rcx, 3
    rep stosq
    mov ecx, edx
    and ecx, 7
    rep stosb
    mov rax, r8
    ret
.size memset, . - memset

.type bcmp, @function
.type memcmp, @function
bcmp:
memcmp:
    xor ecx, ecx
3:  cmp rcx, rdx
    je 4f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    je 3b
    ret
4:  xor eax, eax
    ret
.size memcmp, . - memcmp
.size bcmp, . - bcmp

# No image unwinds (panic = "abort"), but the prebuilt core names these.
.type rust_eh_personality, @function
.type _Unwind_Resume, @function
rust_eh_personality:
_Unwind_Resume:
    ud2
.size rust_eh_personality, . - rust_eh_personality
.size _Unwind_Resume, . - _Unwind_Resume
.popsection
