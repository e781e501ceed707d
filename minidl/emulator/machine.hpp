// The machine below cuda.hpp: a GPU's threads, blocks and launches on a CPU. What a kernel needs of it is here, how it
// works in machine.cpp.

#pragma once

#include <stdint.h>

#define EMULATOR_HERE {__builtin_FILE(), __builtin_LINE()}  // as a default argument: the caller's

namespace emulator {

struct Index {
    unsigned x, y, z;
};

struct Place {
    const char* file;
    int line;
};

struct Call {  // what a thread waits at
    const char* name;
    unsigned mask;  // the lanes of the warp that must come; for the whole block 0
    Place at;
};

struct Met {  // what a thread has from those that it met
    uint64_t value;
    unsigned votes;  // in a warp one bit for each lane that gave something other than 0; in a block their number
};

constexpr uint64_t POISON = ~uint64_t(0);  // a NaN as float and as double

// Wait for the others at a call. All give a value, and get that of the lane that they want, if it is among them.
Met meet(const Call& call, uint64_t gives = 0, int wants = 0);

// End the launch with an error message.
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* format, ...);

// The name of a file without its folders.
const char* short_name(const char* path);

// Where the running thread is. This is the same all through its life, and `const` says so: the compiler may keep it in
// registers.
__attribute__((const)) Index thread_index();
__attribute__((const)) Index block_index();
__attribute__((const)) Index block_size();
__attribute__((const)) Index grid_size();
__attribute__((const)) int lane();
__attribute__((const)) char* dynamic_shared();

// Call this function at the beginning of each block, with the address of its dynamic shared memory.
bool each_block(void (*set)(char*));

}  // namespace emulator
