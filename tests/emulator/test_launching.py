"""What a launch accepts, and what it says about what it does not."""

import threading

import numpy as np
import pytest

from minidl import emulator

SOURCE = r"""
struct Pair { int a, b; };
#define SIDE 16

extern "C" __global__ void many(const float* in, float* out, int n, float a, double b, unsigned u, long long l,
                                unsigned long long v, bool flag, unsigned char c, short s, const void* any) {
    if (threadIdx.x == 0)
        out[0] = (in ? in[0] : -1) + n + a + b + u + l + (v >> 60) + flag + c + s + (any != nullptr);
}
extern "C" __global__ void __launch_bounds__(SIDE * SIDE, 2) bounded(double* x) { x[threadIdx.x] = blockDim.x; }
extern "C" __launch_bounds__(max(SIDE, 8)) __global__ void bounded_too() {}
extern "C" __global__ void nothing() {}
extern "C" __global__ void by_value(Pair pair, float4* vectors) {}
extern "C" __global__ void flags(const bool* b, const unsigned char* c, const long long* l, unsigned* u) {}
__global__ void not_for_python(float* x) {}

extern "C" __global__ void where(int* out) {
    int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}
extern "C" __global__ void sequence(int* next, int* order) { order[blockIdx.x] = atomicAdd(next, 1); }
extern "C" __global__ void turns(int* next, int* order) {
    order[threadIdx.x] = atomicAdd(next, 1);
    __syncthreads();
    order[blockDim.x + threadIdx.x] = atomicAdd(next, 1);
}
extern "C" __global__ void divide(int* x, int by) { x[threadIdx.x] /= by; }
extern "C" __global__ void wild(float* x) { *(float*)((char*)x + (1LL << 36)) = 1; }
extern "C" __global__ void null(float* x) {
    x[threadIdx.x] = 1;
}
"""
MODULE = emulator.RawModule(code=SOURCE)
F32, F64, I32 = np.float32, np.float64, np.int32


def good():
    """Return arguments that fit the kernel `many`, by position."""
    out = np.zeros(1, F32)
    return [
        *(np.ones(3, F32), out, I32(2), F32(3), 4.0, np.uint32(5), 6, np.uint64(7 << 60)),
        *(True, np.uint8(8), np.int16(-9), np.ones(2, np.complex64)),
    ]


def many(args):
    MODULE.get_function("many")((1,), (32,), args)
    return args[1][0]


def test_arguments_arrive():
    assert many(good()) == 1 + 2 + 3 + 4 + 5 + 6 + 7 + 1 + 8 - 9 + 1
    null = good()
    null[0] = null[11] = np.uintp(0)
    assert many(null) == -1 + 2 + 3 + 4 + 5 + 6 + 7 + 1 + 8 - 9


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, np.ones(3), "argument 1 of 12 is an array of float64, expected np.float32 for const float*"),
        (0, np.ones((4, 4), F32)[:, 1], "not C-contiguous"),
        (0, np.broadcast_to(F32(1), (3, 3)), "not C-contiguous"),
        (0, np.ones(3, ">f4"), "expected np.float32|foreign byte order"),
        (0, np.frombuffer(b"123456789", np.uint8)[1:].view(F32), "not aligned"),
        (0, None, "None, a NoneType, expected an array for const float"),
        (0, np.uint64(8), "expected an array"),
        (0, F32(1), "expected an array"),
        (0, [1.0], "expected an array"),
        (1, np.frombuffer(b"1234", F32), "argument 2 of 12 is an array of float32 that is read-only"),
        (2, 2, "argument 3 of 12 is the Python int 2, which is passed in 8 bytes, expected np.int32 for int"),
        (2, np.int64(2), r"np.int64\(2\), expected np.int32 for int"),
        (2, np.uint32(2**31), "expected np.int32 for int"),
        (2, F32(2), "expected np.int32 for int"),
        (2, np.ones(1, I32), "an array of int32, expected np.int32 for int"),
        (3, 3.0, "the Python float 3.0, which is passed in 8 bytes, expected np.float32 for float"),
        (3, F64(3), "expected np.float32 for float"),
        (4, F32(4), "expected np.float64 for double"),
        (4, 4, "the Python int 4, which is passed in 8 bytes, expected np.float64 for double"),
        (5, I32(-5), "expected np.uint32 for unsigned"),
        (6, 2**63, "more than 8 bytes"),
        (8, 1, "expected np.bool for bool"),
        (8, np.uint8(1), "expected np.bool for bool"),
        (9, True, "the Python bool True, which is passed in 1 byte, expected np.uint8 for unsigned char"),
        (4, 1j, "expected np.float64 for double"),
    ],
)
def test_arguments_that_do_not_fit(at, value, message):
    args = good()
    args[at] = value
    with pytest.raises(TypeError, match=f"many: argument {at + 1} of 12.*({message})|{message}"):
        many(args)


def test_arguments_that_fit_in_another_way():
    args = good()
    args[2], args[5], args[6], args[7] = np.uint32(2), I32(5), np.uint64(6), 0
    assert many(args) == 1 + 2 + 3 + 4 + 5 + 6 + 0 + 1 + 8 - 9 + 1


def test_pointers_of_other_types():
    arrays = [np.zeros(4, t) for t in (bool, np.uint8, np.int64, np.uint32)]
    flags = MODULE.get_function("flags")
    flags((1,), (1,), arrays)
    flags((1,), (1,), [arrays[0], arrays[0], arrays[2], arrays[3]])
    with pytest.raises(TypeError, match="an array of uint8, expected np.bool for const bool"):
        flags((1,), (1,), [arrays[1], *arrays[1:]])
    with pytest.raises(TypeError, match=r"an array of int32, expected np.int64 for const long long\*"):
        flags((1,), (1,), [*arrays[:2], np.zeros(4, I32), arrays[3]])
    with pytest.raises(TypeError, match="expected struct of 8 bytes"):
        MODULE.get_function("by_value")((1,), (1,), (np.int64(3), np.zeros(4, F32)))


def test_the_number_of_arguments():
    with pytest.raises(TypeError, match=r"many: got 2 arguments, expected 12: \(const float\*, float\*, int, float, "):
        many(good()[:2])
    MODULE.get_function("nothing")((1,), (1,), ())


@pytest.mark.parametrize(
    ("grid", "block", "error", "message"),
    [
        ((1,), (1025,), ValueError, r"block is \(1025,\), expected at most 1024 along x"),
        ((1,), (32, 33), ValueError, "1056 threads, expected at most 1024"),
        ((1,), (1, 1, 65), ValueError, "at most 64 along z"),
        ((0,), (1,), ValueError, r"grid is \(0,\), expected at least 1"),
        ((1,), (32, 0), ValueError, "block is .* expected at least 1"),
        ((1, 65536), (1,), ValueError, "grid is .* at most 65535 along y"),
        ((1, 1, 65536), (1,), ValueError, "at most 65535 along z"),
        ((2**31,), (1,), ValueError, "at most 2147483647 along x"),
        (1, (1,), TypeError, "grid is 1, expected a tuple"),
        ((1,), 32, TypeError, "block is 32, expected a tuple"),
        ((), (1,), TypeError, "expected a tuple of 1 to 3"),
        ((1, 1, 1, 1), (1,), TypeError, "expected a tuple of 1 to 3"),
        ((1.0,), (1,), TypeError, "expected integers"),
    ],
)
def test_sizes_that_no_gpu_launches(grid, block, error, message):
    with pytest.raises(error, match=message):
        MODULE.get_function("nothing")(grid, block, ())


def test_launch_bounds():
    x = np.zeros(256)
    MODULE.get_function("bounded")((1,), (256,), (x,))
    assert (x == 256).all()
    with pytest.raises(ValueError, match=r"bounded: .* 257 threads, expected at most 256 \(its __launch_bounds__\)"):
        MODULE.get_function("bounded")((1,), (257,), (x,))
    MODULE.get_function("bounded_too")((1,), (16,), ())
    with pytest.raises(ValueError, match="expected at most 16"):
        MODULE.get_function("bounded_too")((1,), (17,), ())


def test_shared_memory_beyond_48_kb_is_asked_for():
    kernel = MODULE.get_function("nothing")
    assert kernel.max_dynamic_shared_size_bytes == 48 * 1024
    kernel((1,), (1,), (), shared_mem=48 * 1024)
    with pytest.raises(ValueError, match="shared_mem is 49153, expected at most 49152 bytes"):
        kernel((1,), (1,), (), shared_mem=48 * 1024 + 1)
    kernel.max_dynamic_shared_size_bytes = 227 * 1024
    kernel((1,), (1,), (), shared_mem=227 * 1024)
    with pytest.raises(ValueError, match="max_dynamic_shared_size_bytes is 232449, expected 0 to 232448"):
        kernel.max_dynamic_shared_size_bytes = 227 * 1024 + 1
    with pytest.raises(ValueError, match="shared_mem is -1"):
        kernel((1,), (1,), (), shared_mem=-1)


def test_kernels_are_found_by_name():
    with pytest.raises(ValueError, match="there is no kernel 'not_for_python': .* there are many, bounded, bounded_"):
        MODULE.get_function("not_for_python")
    with pytest.raises(TypeError, match="code is bytes"):
        emulator.RawModule(code=b"")
    with pytest.raises(TypeError, match="options is '-DT=float'"):
        emulator.RawModule(code=SOURCE, options="-DT=float")
    emulator.RawKernel(SOURCE, "nothing", ())((1,), (1,), ())


@pytest.mark.parametrize("order", emulator.settings.ORDERS)
def test_all_threads_of_all_blocks_run_once(order):
    for grid, block in (((3, 2, 4), (2, 3, 5)), ((7,), (33,)), ((2, 5), (17, 3)), ((1,), (1,))):
        out = np.full((np.prod(grid), np.prod(block)), -1, I32)
        with emulator.order(order, seed=len(grid)):
            MODULE.get_function("where")(grid, block, (out,))
        np.testing.assert_array_equal(out, 1000 * np.arange(np.prod(grid))[:, None] + np.arange(np.prod(block)))


def sequence(blocks):
    order = np.full(blocks, -1, I32)
    MODULE.get_function("sequence")((blocks,), (1,), (np.zeros(1, I32), order))
    return order.tolist()


def test_the_order_of_blocks():
    assert sequence(10) == list(range(10))
    with emulator.order("reverse"):
        assert sequence(10) == list(range(10))[::-1]
        with emulator.order("random", 1):
            first = sequence(100)
            assert sequence(100) == first
        assert sequence(10) == list(range(10))[::-1]
    with emulator.order("random", 2):
        second = sequence(100)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(100))
    assert sequence(3) == [0, 1, 2]
    with pytest.raises(ValueError, match="name is 'sideways', expected one of forward, reverse, random"):
        emulator.order("sideways")
    with pytest.raises(ValueError, match="count is 0"):
        emulator.threads(0)


def test_the_order_of_threads():
    def turns():
        order = np.full((2, 64), -1, I32)
        MODULE.get_function("turns")((1,), (64,), (np.zeros(1, I32), order))
        assert sorted(order[0]) == list(range(64))
        assert sorted(order[1]) == list(range(64, 128))
        return order

    np.testing.assert_array_equal(turns(), np.arange(128).reshape(2, 64))
    with emulator.order("reverse"):
        np.testing.assert_array_equal(turns(), np.arange(128).reshape(2, 64)[:, ::-1])
    with emulator.order("random", 1):
        first = turns()
        np.testing.assert_array_equal(turns(), first)
    assert (first[1] - 64 != first[0]).any()
    with emulator.order("random", 2):
        assert (turns() != first).any()


@pytest.mark.parametrize("threads", [1, 2])
def test_faults_become_errors(threads):
    x = np.ones(64, I32)
    with emulator.threads(threads):
        for _ in range(3):
            with pytest.raises(RuntimeError, match=r"divide: kernel.cu:\d+: an integer is divided by zero \[thread"):
                MODULE.get_function("divide")((100,), (64,), (x, I32(0)))
            with pytest.raises(RuntimeError, match=r"wild: kernel.cu:\d+: there is no memory at the address 0x"):
                MODULE.get_function("wild")((100,), (64,), (np.ones(1, F32),))
            at = SOURCE.splitlines().index("    x[threadIdx.x] = 1;") + 1
            with pytest.raises(RuntimeError, match=rf"null: kernel.cu:{at}: a null pointer"):
                MODULE.get_function("null")((100,), (64,), (np.uintp(0),))
    MODULE.get_function("divide")((1,), (64,), (x, I32(1)))
    assert (x == 1).all()


def test_launches_from_several_python_threads():
    arrays = [np.full(5000, 4096, I32) for _ in range(6)]

    def work(x):
        for _ in range(12):
            MODULE.get_function("divide")((1,), (1000,), (x[1000:2000], I32(2)))

    workers = [threading.Thread(target=work, args=(x,)) for x in arrays]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for x in arrays:
        assert (x[1000:2000] == 1).all()
        assert (x[:1000] == 4096).all()
