# %% [markdown]
# # 18 · Writing a CUDA kernel
#
# A GPU runs one small program, the kernel, in many thousands of threads at once, each on its own element. This lesson
# writes four: SAXPY, a sum in shared memory, a layer's bias and ReLU together with their derivative, and the step of an
# optimizer, whose kernel is not written by hand but derived from its equation.
#
# Where minidl finds a GPU, the kernels run there, through CuPy. Everywhere else the same text runs on the CPU in
# `minidl.emulator`, which compiles it with g++ and gives each thread its turn. The emulator says nothing about speed.
# But it can do what a GPU cannot: run the threads in an order that we choose, and so show mistakes that a GPU hides.
#
# What is left out here is in `docs/gpu.md`, and the kernels of the library are in `minidl/kernels/cuda/`. For the
# model of threads and memory see the CUDA C++ Programming Guide; the sum in shared memory is after Harris 2007.

# %%
import functools
import re
import shutil
import sys

import numpy as np

import minidl as ml
from minidl import backend, course, emulator, nn, ops, optim, viz
from minidl.graph import Joint
from minidl.kernels.cuda import launch
from minidl.tensor import differentiable

this = course.lesson("18 · Writing a CUDA kernel")
rng = np.random.default_rng(0)

if sys.platform != "linux" or shutil.which("g++") is None:
    print("This lesson runs kernels in minidl's emulator, which needs Linux and g++ (`apt install g++`). It ends here.")
    raise SystemExit

device = ml.use_device("auto")
xp = backend.current_module()  # NumPy on the CPU, CuPy on the GPU
RawKernel = xp.RawKernel if device == "gpu" else emulator.RawKernel
print("kernels run", f"on {ml.gpu_status()}" if device == "gpu" else f"in the emulator: {ml.gpu_status()}")

# %% [markdown]
# ## SAXPY: one thread for each element
#
# The name is from the BLAS: *single precision a·x plus y*,
#
# $$y_i \leftarrow a\, x_i + y_i$$
#
# Threads come in blocks of up to 1,024, and the blocks form a grid. A thread knows its number in the block,
# `threadIdx.x`, the number of its block, `blockIdx.x`, and the size of a block, `blockDim.x`. From these it computes
# which element is its own. The last block may have more threads than there are elements left; hence the `if`.
#
# `__global__` marks a function that the host can launch. A launch names the grid, the block, and the arguments.

# %%
SAXPY = r"""
extern "C" __global__ void saxpy(float a, const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}
"""

n, threads = 10_000, 256
blocks = -(-n // threads)
x, y = (rng.standard_normal(n).astype(np.float32) for _ in range(2))
result = xp.array(y)
RawKernel(SAXPY, "saxpy")((blocks,), (threads,), (np.float32(2.5), xp.asarray(x), result, np.int32(n)))

expected = np.float32(2.5) * x + y
np.testing.assert_allclose(backend.to_numpy(result), expected, rtol=1e-6, atol=1e-6)
print(f"{blocks} blocks of {threads} threads are {blocks * threads:,} threads for {n:,} elements")
print(f"kernel and NumPy: largest difference {np.abs(backend.to_numpy(result) - expected).max():.1e}")

# %% [markdown]
# The two may differ in the last digit: a GPU computes a · x + y with one rounding, and so does the emulator where the
# processor can; NumPy takes two.
#
# ## Which thread reads which element
#
# With fewer threads than elements, each takes several, and there are two ways to deal them out. Either a thread takes
# a run of neighbors (*strided*: at any moment the threads are far apart), or at any moment the threads take neighbors
# and then all go on (*coalesced*). Both compute the same. But 32 threads, a warp, read together, and the memory answers
# in sectors of 32 bytes, 8 floats. The kernel below records who reads what when; the sectors are then counted.

# %%
READERS = r"""
extern "C" __global__ void readers(int* thread, int* step, int n, bool coalesced) {
    int t = threadIdx.x, each = n / blockDim.x;
    for (int k = 0; k < each; ++k) {
        int i = coalesced ? k * blockDim.x + t : t * each + k;
        thread[i] = t;
        step[i] = k;
    }
}
"""

warp, floats_in_a_sector, n = 32, 8, 256
sectors, who, when = {}, {}, {}
for coalesced in (True, False):
    thread, step = xp.zeros(n, np.int32), xp.zeros(n, np.int32)
    RawKernel(READERS, "readers")((1,), (warp,), (thread, step, np.int32(n), np.bool_(coalesced)))
    name = "coalesced" if coalesced else "strided"
    who[name], when[name] = (backend.to_numpy(array).reshape(-1, warp) for array in (thread, step))
    first = np.flatnonzero(when[name] == 0)
    sectors[name] = np.unique(first // floats_in_a_sector).size
    print(f"{name:<10} the first read of the warp needs {len(first)} floats, from {sectors[name]} sectors")
assert sectors == {"coalesced": 4, "strided": 32}

figure = viz.titled_figure(
    10,
    6.4,
    "Which thread reads which element",
    "256 floats, 8 rows of 4 sectors; each number is the thread's. The first read is bold, later ones are darker",
)
for axes, name in zip(figure.subplots(2, 1), who, strict=True):
    axes.imshow(when[name], cmap="Blues", vmin=-2, vmax=12, aspect="auto")
    for (row, column), number in np.ndenumerate(who[name]):
        first = when[name][row, column] == 0
        axes.text(
            column, row, number, ha="center", va="center", fontsize=7.5,
            color=viz.OTHER if first else viz.INK, fontweight="bold" if first else "normal",
        )  # fmt: skip
    for edge in range(floats_in_a_sector, warp, floats_in_a_sector):
        axes.axvline(edge - 0.5, color="white", linewidth=2.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"{name}: the first read touches {sectors[name]} of the {n // floats_in_a_sector} sectors",
        loc="left", fontsize=10, color=viz.INK,
    )  # fmt: skip
this.show(figure, "18_cuda_kernel_reads")

# %% [markdown]
# For the same 32 floats the strided form asks for eight times as many sectors. So kernels let neighboring threads read
# neighboring elements. The usual loop is `for (i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x *
# blockDim.x)`, which works for any grid.
#
# ## A sum: threads that work together
#
# A sum needs numbers from all threads. Those of a block can pass them on in *shared memory*, which is the block's own.
# First each thread adds up its elements. Then, with $h = 128, 64, \dots, 1$,
#
# $$p_t \leftarrow p_t + p_{t+h} \quad\text{for } t < h$$
#
# which after eight steps leaves the block's sum in $p_0$. Threads run at their own pace. Before a thread reads what
# another has written, both must have passed a barrier, `__syncthreads()`, where every thread of the block waits for all
# others. Different blocks cannot wait for each other: their sums are added by a second launch, with one block.

# %%
SUM = r"""
extern "C" __global__ void sum(const float* x, float* sums, int n) {
    __shared__ float p[256];
    int t = threadIdx.x;
    float own = 0;
    for (int i = blockIdx.x * blockDim.x + t; i < n; i += gridDim.x * blockDim.x) own += x[i];
    p[t] = own;
    __syncthreads();
    for (int h = 128; h > 0; h /= 2) {
        if (t < h) p[t] += p[t + h];
        __syncthreads();
    }
    if (t == 0) sums[blockIdx.x] = p[0];
}
"""


def total(kernel, x, module, blocks=16):
    """The sum of x by two launches: one for the blocks' sums, one for the sum of these."""
    sums, result = module.zeros(blocks, np.float32), module.zeros(1, np.float32)
    kernel((blocks,), (256,), (x, sums, np.int32(x.size)))
    kernel((1,), (256,), (sums, result, np.int32(blocks)))
    return result


x = rng.random(100_000 if this.quick else 1_000_000, dtype=np.float32)
exact = x.astype(np.float64).sum()
by_kernel = float(total(RawKernel(SUM, "sum"), xp.asarray(x), xp)[0])
one_by_one = float(np.cumsum(x)[-1])
np.testing.assert_allclose(by_kernel, exact, rtol=1e-6)
print(f"sum of {x.size:,} floats in double precision {exact:.4f}")
print(f"  kernel                 {by_kernel:.4f}, relative error {abs(by_kernel / exact - 1):.0e}")
print(f"  one after the other    {one_by_one:.4f}, relative error {abs(one_by_one / exact - 1):.0e}")
assert abs(by_kernel - exact) < abs(one_by_one - exact)

# %% [markdown]
# The tree also rounds less than a loop: no number goes through a long chain of additions.
#
# ## A missing barrier
#
# What if the barriers are left out? On a GPU the sum may still come out right, most of the time. The emulator runs the
# threads of a block one by one, each until it waits for others: forward, in reverse, or in a random order. A correct
# kernel gives the same bits in all of them. It also fills shared memory with NaN before a block begins, so that what is
# read too early shows. These experiments run on the CPU, also where there is a GPU.


# %%
def in_orders(run):
    """What `run` returns with the threads in each order."""
    results = {}
    for order in ("forward", "reverse", "random"):
        with emulator.order(order, seed=3):
            results[order] = run()
    return results


correct = emulator.RawKernel(SUM, "sum")
careless = emulator.RawKernel(SUM.replace("__syncthreads();", ""), "sum")
for name, kernel in (("with barriers", correct), ("without", careless)):
    found = {order: float(value[0]) for order, value in in_orders(functools.partial(total, kernel, x, np)).items()}
    print(f"{name:<15}" + "   ".join(f"{order} {value:.4f}" for order, value in found.items()))
    same = len(set(found.values())) == 1
    assert same == (kernel is correct)

# %% [markdown]
# In reverse order the careless kernel is right: there every thread happens to come after those that it reads from. That
# is how such a mistake survives a test. Forward, the first thread reads before anybody has written.
#
# A barrier in the wrong place is no better. If only some threads of a block come to it, they wait for ever. A GPU may
# hang, or go on with wrong numbers. The emulator says where:

# %%
together = "if (t < h) p[t] += p[t + h];\n        __syncthreads();"
apart = "if (t < h) { p[t] += p[t + h]; __syncthreads(); }"
assert together in SUM
try:
    total(emulator.RawKernel(SUM.replace(together, apart), "sum"), x, np)
    raise AssertionError("the emulator should have found the threads that are missing at the barrier")
except RuntimeError as error:
    print(error)

# %% [markdown]
# ## A race
#
# The kernel below smooths in place: $x_i \leftarrow (x_{i-1} + x_i + x_{i+1}) / 3$. Whether a thread finds the old or
# the new neighbors depends on who came first. Within a block one could read, wait at a barrier, and then write. But
# blocks do not wait for each other; the remedy for any number of blocks is a second array for the result.

# %%
IN_PLACE = r"""
extern "C" __global__ void smooth(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (0 < i && i < n - 1) y[i] = (x[i - 1] + x[i] + x[i + 1]) / 3;
}
"""
smooth = emulator.RawKernel(IN_PLACE, "smooth")
start = np.repeat(np.float32([0, 1, 0]), (12, 8, 12))
intended = start.copy()
intended[1:-1] = (start[:-2] + start[1:-1] + start[2:]) / 3


def smoothed(in_place):
    y = start.copy()
    smooth((1,), (len(y),), (y if in_place else start, y, np.int32(len(y))))
    return y


raced, safe = in_orders(lambda: smoothed(in_place=True)), in_orders(lambda: smoothed(in_place=False))
for order in raced:
    off = np.abs(raced[order] - intended).max()
    print(f"{order:<8} in place: off by up to {off:.2f}; in a second array: {np.abs(safe[order] - intended).max():.1e}")
    np.testing.assert_allclose(safe[order], intended, rtol=1e-6, atol=1e-7)
    assert off > 0.1
assert not np.array_equal(raced["forward"], raced["reverse"])

figure = viz.titled_figure(
    9, 3.6, "A race: the result depends on who came first", "Smoothing in place, in three orders"
)
panels = figure.subplots(1, 3, sharey=True)
for axes, order in zip(panels, raced, strict=True):
    viz.plain(axes)
    axes.step(range(len(start)), start, where="mid", color=viz.FAINT, label="before")
    axes.plot(intended, color=viz.INK, linewidth=1.2, label="intended")
    axes.plot(raced[order], "o-", color=viz.OTHER, markersize=3.5, label="found")
    axes.set_title(f"{order} order", loc="left", fontsize=10, color=viz.INK)
    axes.set_xlabel("element", color=viz.INK)
panels[0].set_ylim(-0.05, 1.5)
panels[0].legend(frameon=False, fontsize=8.5, labelcolor=viz.INK, loc="upper left", ncols=2)
this.show(figure, "18_cuda_kernel_race")

# %% [markdown]
# ## Fusing: bias and ReLU in one pass, and their derivative
#
# The layer $y = \max(0, x + b)$, with $b$ one number a feature, takes NumPy two passes: one reads $x$ and writes the
# sum, one reads the sum and writes $y$. Little is computed for every number that is moved. One kernel that does both
# reads once and writes once: *fusion*. The derivative fuses as well. With $g = \partial L / \partial y$,
#
# $$\frac{\partial L}{\partial x_{ij}} = g_{ij}\, [y_{ij} > 0], \qquad
#   \frac{\partial L}{\partial b_j} = \sum_i g_{ij}\, [y_{ij} > 0]$$
#
# In the second kernel a thread has a feature $j$ and goes down the rows; at any moment neighboring threads are at
# neighboring elements. Each sum belongs to one thread, so no two write to the same place, and the order of the sum is
# fixed. `REAL` is float or double, as the compiler is told: gradients are best checked in double precision.

# %%
BIAS_RELU = r"""
typedef REAL T;

extern "C" __global__ void forward(const T* x, const T* b, T* y, int rows, int features) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < rows * features; i += gridDim.x * blockDim.x)
        y[i] = max(x[i] + b[i % features], T(0));
}

extern "C" __global__ void backward(const T* g, const T* y, T* by_x, T* by_b, int rows, int features) {
    int j = blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= features) return;
    T sum = 0;
    for (int i = j; i < rows * features; i += features) {
        by_x[i] = y[i] > 0 ? g[i] : T(0);
        sum += by_x[i];
    }
    by_b[j] = sum;
}
"""


@functools.cache
def bias_relu_kernel(name, dtype):
    return RawKernel(BIAS_RELU, name, (f"-DREAL={'float' if dtype == np.float32 else 'double'}",))


@differentiable
def bias_relu(x, b):
    rows, features = map(np.int32, x.shape)
    y = xp.empty_like(x)
    bias_relu_kernel("forward", x.dtype)((16,), (256,), (x, b, y, rows, features))

    def gradients(g, needed):
        by_x, by_b = xp.empty_like(x), xp.empty_like(b)
        blocks = -(-int(features) // 256)
        arguments = (xp.ascontiguousarray(g), y, by_x, by_b, rows, features)
        bias_relu_kernel("backward", x.dtype)((blocks,), (256,), arguments)
        return by_x, by_b

    return y, Joint(gradients)


# %% [markdown]
# `@differentiable` makes an op of it, as of every function in `minidl/ops/`: the engine calls `gradients` on the way
# back. So the kernel can be compared with `ops.relu(x + b)`, and with finite differences.

# %%
values = rng.standard_normal((50, 300)), rng.standard_normal(300), rng.standard_normal((50, 300))
grads = {}
for name, op in (("kernel", bias_relu), ("ops", lambda x, b: ops.relu(x + b))):
    x, b = (ml.Tensor(array, requires_grad=True) for array in values[:2])
    y = op(x, b)
    y.backward(xp.asarray(values[2]))
    grads[name] = [backend.to_numpy(array) for array in (y.data, x.grad, b.grad)]
for what, ours, library in zip(("y", "dL/dx", "dL/db"), grads["kernel"], grads["ops"], strict=True):
    np.testing.assert_allclose(ours, library, rtol=1e-12, atol=1e-12)
    print(f"{what:<6} kernel and ops.relu(x + b): largest difference {np.abs(ours - library).max():.1e}")

ml.check_gradients(bias_relu, values[0][:5], values[1])
print("finite differences agree")

# %% [markdown]
# ## A kernel from an equation
#
# An optimizer's step is the ideal thing to fuse: many small operations on every element, and no element needs another.
# But every optimizer would be one more kernel to get wrong. So minidl writes them itself. The trick takes a few lines:
# call the equation, in Python, not with arrays but with symbols, and let each operation write down a line of C.
#
# The equation is RMSProp's: $E_t = \gamma E_{t-1} + (1-\gamma) g^2$ and
# $W^t = W^{t-1} - \dfrac{\eta}{\sqrt{E_t + \epsilon}}\, g$.


# %%
def rmsprop(W, g, E, lr=0.01, gamma=0.9, eps=1e-8):
    E = gamma * E + (1 - gamma) * g**2
    return W - lr * g / np.sqrt(E + eps), E


class Symbol:
    """An element of an array, known by its name in the kernel. Operations on it are written down as lines of C."""

    def __init__(self, name, lines):
        self.name, self.lines = name, lines

    def line(self, text):
        result = Symbol(f"a{len(self.lines) + 1}", self.lines)
        self.lines.append(f"float {result.name} = {text};")
        return result

    def __add__(self, other):
        return self.line(f"{self.name} + {in_c(other)}")

    def __sub__(self, other):
        return self.line(f"{self.name} - {in_c(other)}")

    def __rmul__(self, number):
        return self.line(f"{in_c(number)} * {self.name}")

    def __truediv__(self, other):
        return self.line(f"{self.name} / {in_c(other)}")

    def __pow__(self, two):
        return self.line(f"{self.name} * {self.name}")

    def sqrt(self):  # NumPy's sqrt asks an object that it does not know for this
        return self.line(f"sqrtf({self.name})")


def in_c(value):
    return value.name if isinstance(value, Symbol) else f"{value}f"


lines = []
W_after, E_after = rmsprop(*(Symbol(name, lines) for name in ("W", "g", "E")))
body = "\n        ".join([*lines, f"W_at[i] = {W_after.name};", f"E_at[i] = {E_after.name};"])
STEP = f"""
extern "C" __global__ void step(float* W_at, const float* g_at, float* E_at, int n) {{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {{
        float W = W_at[i], g = g_at[i], E = E_at[i];
        {body}
    }}
}}
"""
print(STEP)

# %% [markdown]
# ## The same in the library
#
# `optimizer.cuda_source()` returns the kernel that minidl makes so, of `update` in `minidl/optim/adaptive.py`, with the
# line of Python above its lines of C. `minidl/kernels/cuda/tracing.py` is `Symbol` for all that an equation may use;
# what is the same for all elements it computes once, in double precision. Here is its loop:

# %%
ml.manual_seed(0)
layer = nn.Dense(40, 25, bias=False)
optimizer = optim.RMSProp(layer, lr=0.01)
source = optimizer.cuda_source()
print(re.search(r"    for \(.*\n    }\n", source, re.DOTALL)[0])

# %% [markdown]
# Now ten steps in four ways: the equation on arrays, our kernel, minidl's kernel launched by hand, and the optimizer
# itself. The gradient is a new random one each time.

# %%
n = layer.weight.size
W = backend.to_numpy(layer.weight.data).ravel().copy()
E = np.zeros_like(W)
ours = [xp.array(W), xp.zeros(n, np.float32)]
theirs = [xp.array(W), xp.zeros(n, np.float32)]
step = RawKernel(STEP, "step")
library_step = RawKernel(source, "RMSProp", (*launch.OPTIONS, "-DREAL=float"))
for _ in range(10):
    g = rng.standard_normal(n).astype(np.float32)
    W, E = rmsprop(W, g, E)
    step((4,), (256,), (ours[0], xp.asarray(g), ours[1], np.int32(n)))
    settings = np.float64(0.01), np.uintp(0)  # the rate, or where on the GPU it lies
    library_step((4,), (256,), (theirs[0], theirs[0], xp.asarray(g), theirs[1], *settings, np.int32(n)))
    optimizer.zero_grad()
    (layer.weight * xp.asarray(g).reshape(40, 25)).sum().backward()
    optimizer.step()

for name, found in (
    ("our kernel", ours[0]), ("minidl's kernel", theirs[0]), ("optimizer.step()", layer.weight.data.ravel())
):  # fmt: skip
    difference = np.abs(backend.to_numpy(found) - W).max()
    print(f"{name:<17} and the equation on arrays: largest difference after 10 steps {difference:.1e}")
    np.testing.assert_allclose(backend.to_numpy(found), W, rtol=1e-5, atol=1e-6)
ml.use_device("cpu")

# %% [markdown]
# ## Take away
#
# - A kernel is written from the point of view of one thread: which element is mine, what do I do with it. Neighboring
#   threads should have neighboring elements: in the example 4 sectors in place of 32.
# - Threads of a block share memory and meet at barriers. With a missing barrier, or in a race, the result depends on
#   the order of the threads, and in some order it may be right. That dependence is the sign to look for.
# - Fusing saves passes over memory. A kernel without neighbors can be derived from its equation, so that the equation
#   stands in one place only.
#
# ## Exercises
#
# 1. **Any grid.** Give SAXPY the loop that works for any grid, and run it on 10,000 elements with 1, 4 and 100 blocks.
# 2. **The largest value.** Change the sum to a maximum. With what must a thread begin that has no element? Check that
#    all orders give the same.
# 3. **Transposing.** Transpose a matrix with a tile of 16 × 16 in shared memory, so that both reading and writing are
#    coalesced. Then leave the barrier out: which orders show it?
# 4. **Residual smoothing.** Write $r_j = (1-\kappa) d_j + \frac{\kappa}{M-1} \sum_{k \ne j} d_k$ (lesson 16) as one
#    kernel, with a block for each sample and the sum in shared memory. Compare with `ops.residual_smoothing` with
#    `steepness=0`, where $\kappa = s/2$.
