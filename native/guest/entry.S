/*
 * The only assembly: how control reaches C and how it returns. Everything here runs at
 * CPL 3 except the vector stubs and the services at the end, which are a few instructions
 * long because some hosts interpret CPL 0 code one instruction at a time.
 *
 * Every entry builds the same struct frame (kernel.h) on the kernel stack, so C sees no
 * difference between a system call and a fault.
 */
#define SFMASK 0x40500              /* what SYSCALL clears: AC, DF, TF (abi.h) */

.macro PUSH_REGISTERS
    push %rax; push %rbx; push %rcx; push %rdx; push %rsi; push %rdi; push %rbp
    push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15
.endm
.macro POP_REGISTERS
    pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8
    pop %rbp; pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rbx; pop %rax
.endm

/* RF in the flags that the CPU pushed tells whether KVM had to find the instruction's page before it ran:
 * the host's affair, which would otherwise stay in memory. */
.macro FORGET_RESUME_FLAG frame
    andl $0xfffeffff, 40(\frame)
.endm

.text
/* ---- boot ------------------------------------------------------------------------- */
.globl kernel_entry
kernel_entry:
    xor %ebp, %ebp
    call kernel_main
    lea first_frame(%rip), %rsp     /* kernel_main filled it in: the program's first registers */
    jmp full_return

/* ---- system calls: RCX = return address, R11 = flags, RSP still the program's ------- */
.balign 64
.globl syscall_entry
syscall_entry:
    mov %rsp, user_rsp(%rip)
    mov %cs, %esp
    test $3, %spl
    jnz .Lat_cpl3
    /* SYSCALL arrived at CPL 0: go to CPL 3 at once and start over from there. */
    mov %rcx, user_rip(%rip)
    mov %r11, user_rflags(%rip)
    lea .Lfrom_cpl0(%rip), %rcx
    mov $0x202, %r11d
    sysretq
.Lfrom_cpl0:
    mov user_rip(%rip), %rcx
    mov user_rflags(%rip), %r11
.Lat_cpl3:
    mov thread_stack(%rip), %rsp    /* 23 words follow: C wants 16-byte alignment */
.Lon_kernel_stack:
    push $0x2b
    push user_rsp(%rip)
    push %r11
    push $0x33
    push %rcx
    push %rax                       /* error: the call's number, kept for restarting it */
    push $0x100                     /* vector: FRAME_SYSCALL */
    push $0
    PUSH_REGISTERS
    mov %rsp, %rdi
    call system_call                /* true: return through IRETQ, all registers count */
    test %al, %al
    jnz full_return
    POP_REGISTERS
    add $40, %rsp                   /* to the saved flags */
    popfq
    mov (%rsp), %rsp
    jmp *%rcx

/* The same for a call that comes through the vDSO: RCX = return address, everything else the program's. */
.balign 16
.globl syscall_native
syscall_native:
    mov %rsp, user_rsp(%rip)
    mov thread_stack(%rip), %rsp
    pushfq
    pop %r11
    test $SFMASK, %r11d
    jz .Lon_kernel_stack
    push $0x202
    popfq
    jmp .Lon_kernel_stack

/* ---- faults: the CPL 0 stub left {address, vector, error, IRET frame} at fault_frame --- */
.balign 64
.globl fault_entry
fault_entry:
    mov %rax, fault_rax(%rip)
    movabs $fault_frame, %rsp
    FORGET_RESUME_FLAG %rsp
    mov 24(%rsp), %rax              /* interrupted RIP: inside the kernel? */
    sub text_start(%rip), %rax
    cmp text_bytes(%rip), %rax
    mov 48(%rsp), %rsp              /* then go on below its stack (it has no red zone) */
    jb 2f
    mov thread_stack(%rip), %rsp
    jmp 1f
2:  cmp thread_stack_low(%rip), %rsp /* nearly used up, or the program's: the report needs room */
    jb 3f
    cmp thread_stack(%rip), %rsp
    jbe 1f
3:  lea emergency_stack_top(%rip), %rsp
1:  movabs $fault_frame, %rax
    push 56(%rax); push 48(%rax); push 40(%rax); push 32(%rax)
    push 24(%rax); push 16(%rax); push 8(%rax); push (%rax)
    mov fault_rax(%rip), %rax
    PUSH_REGISTERS
    cld
    mov %rsp, %rdi
    mov %rsp, %rbx
    and $-16, %rsp
    call fault
    mov %rbx, %rsp
full_return:
    POP_REGISTERS
    add $24, %rsp
    iretq

/* ---- threads: void switch_stacks(uint64_t *save, uint64_t load) ------------------------- */
.balign 16
.globl switch_stacks, thread_begin
switch_stacks:
    push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
    ret
thread_begin:                       /* a new thread: its stack holds nothing but its frame */
    call thread_arrived
    jmp full_return

/* ---- services: void service(code, argument) runs code at CPL 0 ------------------------- */
.balign 16
.globl service
service:
    mov %rdi, %rax
    mov %rsi, %rdi
    int3
.Lservice_done:
    movabs $fault_frame, %rax
    FORGET_RESUME_FLAG %rax
    ret

/* ---- CPL 0 from here on ---------------------------------------------------------------- */
.balign 16
.globl service_flush_page, service_flush_all
service_flush_page:
    invlpg (%rdi)
    iretq
service_flush_all:
    mov %rdi, %cr3
    iretq

.macro VECTOR number, has_error
.balign 16
vector_\number:
.if \has_error == 0
    push $0
.endif
    push $\number
    movabs $reflect_frame, %rsp
    iretq
.endm
VECTOR 0, 0
VECTOR 1, 0
VECTOR 2, 0
.balign 16
vector_3:                           /* INT3: ours asks for a service, others are breakpoints */
    push %rcx
    lea .Lservice_done(%rip), %rcx
    cmp %rcx, 8(%rsp)
    pop %rcx
    jne 1f
    jmp *%rax
1:  push $0
    push $3
    movabs $reflect_frame, %rsp
    iretq
VECTOR 4, 0
VECTOR 5, 0
VECTOR 6, 0
VECTOR 7, 0
VECTOR 8, 1
VECTOR 9, 0
VECTOR 10, 1
VECTOR 11, 1
VECTOR 12, 1
VECTOR 13, 1
.balign 16
vector_14:                          /* the only one with an address: CR2 is read at CPL 0 */
    push $14
    push %rax
    mov %cr2, %rax
    xchg %rax, (%rsp)
    movabs $reflect_frame, %rsp
    iretq
VECTOR 16, 0
VECTOR 17, 1
VECTOR 18, 0
VECTOR 19, 0
VECTOR 32, 0
VECTOR 33, 0

/* ---- the header the monitor reads (abi.h) ------------------------------------------------ */
.section .header, "a"
    .ascii "LSKERN1\0"
    .long 1, 0
    .quad kernel_entry, kernel_stack_top, syscall_entry, fault_entry
    .quad vector_0, vector_1, vector_2, vector_3, vector_4, vector_5, vector_6, vector_7
    .quad vector_8, vector_9, vector_10, vector_11, vector_12, vector_13, vector_14, 0
    .quad vector_16, vector_17, vector_18, vector_19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .quad vector_32, vector_33
    .quad unknown_syscalls, syscall_count

.section .rodata
.balign 8
text_start: .quad kernel_text
text_bytes: .quad kernel_text_bytes

.data
.balign 8
.globl thread_stack
thread_stack: .quad kernel_stack_top - 8    /* of the running thread */

.bss
.balign 16
user_rsp: .quad 0
user_rip: .quad 0
user_rflags: .quad 0
fault_rax: .quad 0
.globl thread_stack_low
thread_stack_low: .quad 0           /* of the running thread */
.balign 4096
.skip 4096
emergency_stack_top:
kernel_stack: .skip 65536
.globl kernel_stack_top
kernel_stack_top:
.section .note.GNU-stack, "", @progbits
