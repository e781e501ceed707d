// Fibers: leaving a function in the midst, to go on in another one on another stack, and coming back later.

#pragma once

#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

namespace emulator {

#if defined(__x86_64__) && !defined(EMULATOR_UCONTEXT)

// A waiting fiber is its stack pointer. On its stack lie the registers that a function must preserve, above them the
// address to go on at. (The control words of the floating-point units stay: CUDA has nothing that changes them.)
using Context = void*;

extern "C" void emulator_switch(Context* from, Context to);
asm(R"(
    .text
    .type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmp *%rcx
)");  // `ret` would do for the last two, but the processor would predict its target wrongly

static void exchange(Context& from, Context& to) { emulator_switch(&from, to); }

static void prepare(Context& context, char* bottom, size_t size, void (*entry)()) {
    auto top = reinterpret_cast<uint64_t*>((reinterpret_cast<uintptr_t>(bottom) + size) & ~uintptr_t(15));
    *--top = 0;  // aligns the stack as it is at the entry of a function
    *--top = reinterpret_cast<uint64_t>(entry);
    for (int i = 0; i < 6; i++) *--top = 0;
    context = top;
}

#else

using Context = ucontext_t;  // for any processor, and much slower

static void exchange(Context& from, Context& to) { swapcontext(&from, &to); }

static void prepare(Context& context, char* bottom, size_t size, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = bottom;
    context.uc_stack.ss_size = size;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}

#endif

}  // namespace emulator
