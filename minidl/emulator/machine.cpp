// How the threads of a block take turns on a CPU.
//
// Every CUDA thread is a fiber: a stack of its own, and the registers that it had when it last waited. One fiber of a
// block runs at a time, until it ends or has to wait for others, at __syncthreads() or at a function of its warp such as
// __shfl_sync(). Then the next one of its warp has its turn. When none of them can go on, the scheduler looks who has met
// whom, and a group that is complete goes on. When no warp can go on and the block does not meet at one barrier, the
// kernel has a mistake, which is reported.

#include "machine.hpp"

#include "fiber.hpp"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define EMULATOR_EXPORT extern "C" __attribute__((visibility("default")))

namespace emulator {

// ------------------------------------------------------------------ threads, blocks, launches

enum class State { ready, waiting, ended };

struct Thread {
    State state;
    Index index;
    Call call;  // what it waits at
    uint64_t gives;
    int wants;
    Met met;
    Context context;
};

struct Launch {  // the same as in module.py
    void (*kernel)(void**);
    void** arguments;
    unsigned grid[3], block[3];
    uint64_t dynamic_bytes;
    uint64_t first, stride;  // the order of the blocks: (first + stride * i) modulo their number
    int order;               // of the threads: 0 forward, 1 reverse, 2 random
    int failed;
    uint64_t seed;
    uint64_t next;     // how many blocks have been taken
    uint64_t address;  // the instruction of a fault, as an offset in the library, or 0
    char message[1000];
};

// 64 KB for each thread, and a little more: stacks that lie a power of two apart compete for the same cache lines.
constexpr size_t STACK = 65536, STACK_STRIDE = STACK + 17 * 64;

struct Order {  // of 32 things: i -> a * i + b modulo 32, a permutation if a is odd
    unsigned a, b;
    unsigned operator()(unsigned i) const { return (a * i + b) & 31; }
};

struct Block {
    Launch* launch;
    Index index;
    unsigned count;  // of threads
    Thread* threads;
    char* stacks;
    char* dynamic;    // dynamic shared memory
    uint64_t random;  // the state of the generator

    Thread* running;
    unsigned warp, turn;  // its first thread; how many of its threads have had their turn
    Order order;          // of these turns

    Context scheduler;
    const void* scheduler_stack;
    size_t scheduler_size;

    bool run();
    void run_warp(unsigned first);
    Thread* next();
    bool meet_in_warp(unsigned first);
    bool meet_in_block();
    void explain();
    void poison();
    bool is_intact();
    char* stack(const Thread& thread) { return stacks + (&thread - threads) * STACK_STRIDE; }
};

// Around shared memory lie some bytes that tell afterwards whether somebody wrote there. The static arrays are a library's
// thread_local variables. `local` comes before them since it has initial values, and `behind` after them since this file
// is linked last.
constexpr size_t GUARD = 1024;
struct Local {
    Block* block;  // the one that this thread of the CPU works on
    char before[GUARD];
};
static thread_local Local local = {nullptr, {1}};
static thread_local char behind[GUARD];

#ifdef __SANITIZE_ADDRESS__
constexpr size_t DYNAMIC_GUARD = 0;  // the sanitizer sees it at once
#else
constexpr size_t DYNAMIC_GUARD = GUARD;
#endif

// ------------------------------------------------------------------ what kernels call

// Go on with `to`, on the stack at `stack`; return when somebody comes back.
static void go(Context& from, Context& to, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t size) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(nullptr, stack, size);
    exchange(from, to);
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#else
    exchange(from, to);
#endif
}

// The next thread of the warp that can go on, or nullptr.
inline Thread* Block::next() {
    while (turn < 32 && !launch->failed) {
        unsigned number = warp + order(turn++);
        if (number < count && threads[number].state == State::ready) return &threads[number];
    }
    return nullptr;
}

// Let the others run, and return when it is this thread's turn again.
static void leave(Block& b) {
    Thread& own = *b.running;
    b.running = b.next();
    if (b.running)
        go(own.context, b.running->context, b.stack(*b.running), STACK);
    else
        go(own.context, b.scheduler, b.scheduler_stack, b.scheduler_size);
}

static void thread_main() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    local.block->launch->kernel(local.block->launch->arguments);
    local.block->running->state = State::ended;
    leave(*local.block);
}

Met meet(const Call& call, uint64_t gives, int wants) {
    Block& b = *local.block;
    Thread& own = *b.running;
    own.call = call;
    own.gives = gives;
    own.wants = wants;
    own.state = State::waiting;
    leave(b);
    return own.met;
}

// Keep the message if this is the launch's first failure, with the thread (if it is known) and the block.
static void report(const Thread* thread, const char* text) {
    Launch& launch = *local.block->launch;
    if (__atomic_exchange_n(&launch.failed, 1, __ATOMIC_ACQ_REL)) return;
    char who[60] = "";
    if (thread) snprintf(who, sizeof who, "thread (%u, %u, %u) of ", thread->index.x, thread->index.y, thread->index.z);
    Index b = local.block->index;
    snprintf(launch.message, sizeof launch.message, "%s [%sblock (%u, %u, %u)]", text, who, b.x, b.y, b.z);
}

void fail(const char* format, ...) {
    char text[800];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    report(local.block->running, text);
    local.block->running->state = State::ended;
    leave(*local.block);
    __builtin_unreachable();
}

const char* short_name(const char* path) {
    const char* slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static Index index(const unsigned (&sizes)[3]) { return {sizes[0], sizes[1], sizes[2]}; }

Index thread_index() { return local.block->running->index; }
Index block_index() { return local.block->index; }
Index block_size() { return index(local.block->launch->block); }
Index grid_size() { return index(local.block->launch->grid); }
int lane() { return (local.block->running - local.block->threads) & 31; }
char* dynamic_shared() { return local.block->dynamic; }

static void (*setters[100])(char*);
static int setter_count = 0;

bool each_block(void (*set)(char*)) {
    if (setter_count < 100) setters[setter_count++] = set;
    return true;
}

// ------------------------------------------------------------------ the scheduler

static Order next_order(int kind, uint64_t& random) {
    if (kind == 0) return {1, 0};
    if (kind == 1) return {31, 31};
    uint64_t z = random += 0x9e3779b97f4a7c15;  // the generator SplitMix64
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return {unsigned(z >> 40) | 1, unsigned(z >> 20)};
}

// Run a block to its end, and return whether it came to one.
bool Block::run() {
    poison();
    Index at = {0, 0, 0};
    for (Thread* thread = threads; thread < threads + count; thread++) {
#ifdef __SANITIZE_ADDRESS__
        __asan_unpoison_memory_region(stack(*thread), STACK);
#endif
        thread->state = State::ready;
        thread->index = at;
        prepare(thread->context, stack(*thread), STACK, thread_main);
        if (++at.x == launch->block[0]) at.x = 0, at.y++;
        if (at.y == launch->block[1]) at.y = 0, at.z++;
    }
    for (;;) {
        Order warps = next_order(launch->order, random);
        for (unsigned i = 0; i < 32; i++) {
            if (warps(i) * 32 < count) run_warp(warps(i) * 32);
            if (launch->failed) return false;
        }
        unsigned ended = 0;
        while (ended < count && threads[ended].state == State::ended) ended++;
        if (ended == count) return is_intact();
        if (!meet_in_block()) {
            explain();
            return false;
        }
    }
}

// Run the threads of a warp until none of them can go on.
void Block::run_warp(unsigned first) {
    do {
        warp = first;
        turn = 0;
        order = next_order(launch->order, random);
        running = next();
        if (running) go(scheduler, running->context, stack(*running), STACK);
    } while (!launch->failed && meet_in_warp(first));
}

static bool same(const Call& a, const Call& b) {
    return a.name == b.name && a.mask == b.mask && a.at.line == b.at.line && a.at.file == b.at.file;
}

// Let those lanes go on that wait at the same call as all the others of their mask. Return whether there were some.
bool Block::meet_in_warp(unsigned first) {
    Thread* lanes = threads + first;
    unsigned size = count - first < 32 ? count - first : 32;  // the last warp of a block may be smaller
    bool any = false;
    for (unsigned lane = 0; lane < size; lane++) {
        if (lanes[lane].state != State::waiting || !lanes[lane].call.mask) continue;
        const Call call = lanes[lane].call;
        bool complete = true;
        unsigned votes = 0;
        for (unsigned i = 0; i < size; i++) {
            if (!(call.mask >> i & 1)) continue;
            complete = complete && lanes[i].state == State::waiting && same(lanes[i].call, call);
            votes |= unsigned(lanes[i].gives != 0) << i;
        }
        for (unsigned i = 0; complete && i < size; i++) {
            if (!(call.mask >> i & 1)) continue;
            unsigned from = lanes[i].wants;
            bool there = from < size && (call.mask >> from & 1);
            lanes[i].met = {there ? lanes[from].gives : POISON, votes};
            lanes[i].state = State::ready;
        }
        any = any || complete;
    }
    return any;
}

// Let all threads go on if all wait at the same barrier, and return whether they did.
bool Block::meet_in_block() {
    unsigned votes = 0;
    for (unsigned i = 0; i < count; i++) {
        if (threads[i].state != State::waiting || !same(threads[i].call, threads[0].call)) return false;
        votes += threads[i].gives != 0;
    }
    if (threads[0].call.mask) return false;
    for (unsigned i = 0; i < count; i++) {
        threads[i].met = {0, votes};
        threads[i].state = State::ready;
    }
    return true;
}

static void write(const Call& call, char* text, size_t size) {
    char mask[40] = "";
    if (call.mask) snprintf(mask, sizeof mask, " with the mask 0x%08x", call.mask);
    snprintf(text, size, "%s:%d: %s%s", short_name(call.at.file), call.at.line, call.name, mask);
}

// No thread can go on: say who waits for whom.
void Block::explain() {
    const Thread* waiting = nullptr;  // rather a lane that waits for others than a thread at a barrier
    for (unsigned i = 0; i < count; i++)
        if (threads[i].state == State::waiting && (!waiting || (threads[i].call.mask && !waiting->call.mask)))
            waiting = &threads[i];
    const Call& call = waiting->call;
    const Thread* missing = call.mask ? threads + ((waiting - threads) & ~31) : threads;
    for (unsigned mask = call.mask ? call.mask : ~0u;; missing++, mask = call.mask ? mask >> 1 : mask)
        if ((mask & 1) && !(missing->state == State::waiting && same(missing->call, call))) break;
    char own[300], other[300] = "", text[800];
    write(call, own, sizeof own);
    bool ended = missing->state == State::ended;
    if (!ended) write(missing->call, other, sizeof other);
    Index m = missing->index;
    snprintf(text, sizeof text, "%s waits for thread (%u, %u, %u), which %s%s", own, m.x, m.y, m.z,
             ended ? "has ended" : "waits at ", other);
    report(waiting, text);
}

// Fill shared memory with bits that are NaN as floats, so that nobody finds zeros there, or what the last block left.
void Block::poison() {
    char* begin = local.before;
    asm("" : "+r"(begin));  // or the compiler would see that this is more than `before`
    memset(begin, 0xff, behind + GUARD - begin);
    memset(dynamic, 0xff, launch->dynamic_bytes + DYNAMIC_GUARD);
    for (int i = 0; i < setter_count; i++) setters[i](dynamic);
}

static bool is_poison(const char* bytes, size_t size) {
    return size == 0 || (bytes[0] == char(0xff) && !memcmp(bytes, bytes + 1, size - 1));
}

// Report if something was written around the shared memory.
bool Block::is_intact() {
    if (!is_poison(local.before, GUARD) || !is_poison(behind, GUARD))
        report(nullptr, "a thread has written outside of the __shared__ arrays");
    else if (!is_poison(dynamic + launch->dynamic_bytes, DYNAMIC_GUARD))
        report(nullptr, "a thread has written beyond the dynamic shared memory");
    return !launch->failed;
}

// ------------------------------------------------------------------ faults: a signal becomes an error

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction before[4];
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start;  // where the library begins

static void on_signal(int signal, siginfo_t* info, [[maybe_unused]] void* context) {
    if (!local.block || !local.block->running) {  // it is not a kernel's: let it come again without us
        for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &before[i], nullptr);
        return;
    }
    [[maybe_unused]] auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
    uintptr_t at = reinterpret_cast<uintptr_t>(&__ehdr_start);
#if defined(__x86_64__)
    at = machine.gregs[REG_RIP] - at;
#elif defined(__aarch64__)
    at = machine.pc - at;
#else
    at = 0;
#endif
    if (!local.block->launch->failed) local.block->launch->address = at;
    if (signal == SIGFPE) fail("an integer is divided by zero");
    if (signal == SIGILL) fail("an index is out of the bounds of its array");  // the trap of -fsanitize=bounds
    if (!info->si_addr) fail("a null pointer, or an address that is not aligned for its type");
    fail("there is no memory at the address %p", info->si_addr);
}

// Catch faults, or no longer. (The address sanitizer reports them itself.)
EMULATOR_EXPORT void emulator_guard([[maybe_unused]] int on) {
#ifndef __SANITIZE_ADDRESS__
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], on ? &action : &before[i], on ? &before[i] : nullptr);
#endif
}

// ------------------------------------------------------------------ the entry from Python

// Run blocks until none is left. Several threads of the CPU may do so for the same launch, each with stacks of its own.
EMULATOR_EXPORT void emulator_run(Launch* launch, char* stacks) {
    Block own = {};
    own.launch = launch;
    own.stacks = stacks;
    own.count = launch->block[0] * launch->block[1] * launch->block[2];
    own.threads = new Thread[own.count];
    own.dynamic = new char[launch->dynamic_bytes + DYNAMIC_GUARD];
#ifdef __SANITIZE_ADDRESS__
    void* stack = nullptr;
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &own.scheduler_size);
    pthread_attr_destroy(&attributes);
    own.scheduler_stack = stack;
#endif
    local.block = &own;
    uint64_t width = launch->grid[0], height = launch->grid[1], blocks = width * height * launch->grid[2];
    for (;;) {
        uint64_t taken = __atomic_fetch_add(&launch->next, 1, __ATOMIC_RELAXED);
        if (taken >= blocks) break;
        uint64_t number = (launch->first + launch->stride * taken) % blocks;
        own.index = {unsigned(number % width), unsigned(number / width % height), unsigned(number / width / height)};
        own.random = launch->seed ^ (number * 0xd1342543de82ef95);
        if (!own.run()) break;
    }
    local.block = nullptr;
    fflush(stdout);  // what kernels have printed
    delete[] own.dynamic;
    delete[] own.threads;
}

}  // namespace emulator
