"""CUDA kernels on the CPU: the .cu files as they are, for tests and for learning without a GPU.

`RawModule` and `RawKernel` have the interface of CuPy's and take NumPy arrays:

>>> kernel = RawKernel(r'''
... extern "C" __global__ void scale(float* x, float factor, int n) {
...     int i = blockIdx.x * blockDim.x + threadIdx.x;
...     if (i < n) x[i] *= factor;
... }''', "scale")
>>> x = np.ones(1000, np.float32)
>>> kernel((4,), (256,), (x, np.float32(3), np.int32(x.size)))

What it finds: threads that wait for each other in vain (a `__syncthreads()` in a branch that not all threads take,
lanes that a warp function misses), arguments of the wrong type, arrays that are not contiguous, faults such as a
division of integers by zero, in a RuntimeError with the line, the thread and the block. A missing `__syncthreads()`
shows as a result that depends on `order`. Shared memory begins as NaN. The option -fsanitize=bounds finds indices
outside of shared and local arrays, -fsanitize=address those outside of the arguments and of dynamic shared memory (see
`sanitizer_environment`).

What it cannot do: PTX, tensor cores, asynchronous copies, cooperative groups, half precision; threads that wait for
others in a loop of atomics. A result says nothing about speed on a GPU, nor about the order of memory accesses there.

It is stricter than a GPU where CUDA leaves things undefined: a thread that has ended is missed at a `__syncthreads()`
and in the mask of a warp function, as is one that waits at the same function on another line. Lanes that do not exist,
in a block whose size is no multiple of 32, may stand in a mask. Who reads them, or a lane that is not in the mask, gets
NaN.

It needs g++, on Linux. Compiled kernels are kept in the folder minidl/emulator of the user's cache.
"""

from .compiling import CompileError, sanitizer_environment
from .module import RawKernel, RawModule
from .settings import order, threads

__all__ = ["CompileError", "RawKernel", "RawModule", "order", "sanitizer_environment", "threads"]
