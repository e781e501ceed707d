"""Kernels that are written from formulas: the same numbers and the same types as NumPy's, or a clear refusal."""

from __future__ import annotations

import math
import textwrap
import types

import generated
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import special

import minidl as ml
from minidl import emulator, ops
from minidl.kernels.cuda import blocks, fusion, tracing
from minidl.kernels.cuda.fusion import Array
from minidl.kernels.cuda.tracing import NoRuleError, Trace
from minidl.kernels.numpy import blocks as plain

import nvrtc

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-30, -1e30, 700.0, -700.0, np.inf, -np.inf, np.nan]


def written(formula, dtypes, numbers=()):
    """Return the kernel of a formula of arrays and numbers, and the dtype of its result."""
    trace = Trace(next(dtype for dtype in map(np.dtype, dtypes) if dtype.kind == "f"))
    symbols = [trace.array(f"in{k}", dtype) for k, dtype in enumerate(dtypes)]
    result = formula(*(symbol.copy() for symbol in symbols), *(trace.number(name, float) for name in numbers))
    arrays = [Array("out", result.dtype, written=result), *(Array(s.name, s.dtype, s) for s in symbols)]
    return fusion.fuse("formula", "A formula.", trace, arrays, numbers), result.dtype


def run(kernel, arrays, dtype, numbers=()):
    """Return what a kernel makes of NumPy arrays, on the stand-in."""
    import cupy

    room = cupy.empty(arrays[0].size + 512, dtype)
    around = room.get()
    result = room[256:-256]
    kernel([result, *map(cupy.asarray, arrays)], numbers, result.size)
    np.testing.assert_array_equal(room[:256].get(), around[:256])
    np.testing.assert_array_equal(room[-256:].get(), around[-256:])
    return result.get().reshape(arrays[0].shape)


def compare(cases, standin, monkeypatch, numbers=(), tolerance=None):
    """Compare formulas with NumPy's results: cases are (name, formula, arrays)."""
    names = [name for name, _ in numbers]
    kernels = [written(formula, [x.dtype for x in arrays], names) for _, formula, arrays in cases]
    monkeypatch.setattr(fusion, "compiled", generated.Together(standin, [kernel for kernel, _ in kernels]))
    values = dict(numbers)
    for (name, formula, arrays), (kernel, dtype) in zip(cases, kernels, strict=True):
        with np.errstate(all="ignore"):
            expected = formula(*arrays, *values.values())
        assert dtype == expected.dtype, f"{name}\n{kernel.source}"
        result = run(kernel, arrays, dtype, [values[number] for number in kernel.numbers])
        rtol = tolerance or (16 * np.finfo(dtype).eps if dtype.kind == "f" else 0)
        np.testing.assert_allclose(result, expected, rtol=rtol, atol=0, err_msg=f"{name}\n{kernel.source}")


# ---------------------------------------------------------------- functions of elements


def spread(dtype, seed=0):
    """Return values of a dtype, the special ones among them."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "b":
        return rng.random(200) < 0.5
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 9, 200).astype(dtype)
    values = np.concatenate([3 * rng.standard_normal(200 - len(SPECIAL)), SPECIAL])
    return rng.permutation(values).astype(dtype)


@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64])
def test_every_function_is_numpys(standin, monkeypatch, dtype):
    cases = []
    for name in sorted({*tracing.OPERATORS, *tracing.FUNCTIONS}):
        ufunc = getattr(np, name, None) or getattr(special, name)
        arrays = [spread(dtype, seed) for seed in range(ufunc.nin)]
        if name in ("sin", "cos", "tan", "erfc", "ndtr"):  # whose digits far out are not the same in all libraries
            arrays = [np.clip(x, -5, 5) for x in arrays]
        cases.append((name, ufunc, arrays))
    for name in tracing.OF_BOOLEANS:
        ufunc = getattr(np, name)
        booleans = [spread(bool, seed) for seed in range(ufunc.nin)]
        cases.append((name, lambda x, *b, ufunc=ufunc: ufunc(*b) * x, [spread(dtype), *booleans]))
    for name, formula in {
        "where": lambda x: np.where(x > 0, x, 0.5),
        "clip": lambda x: np.clip(x, -1, 2),
        "copy": lambda x: np.copy(x) * 2,
        "zeros_like": lambda x: np.where(x > 0, x, np.zeros_like(x)),
        "ones_like": lambda x: np.where(x > 0, x, np.ones_like(x)),
        "full_like": lambda x: np.where(x > 0, x, np.full_like(x, 0.3)),
    }.items():
        cases.append((name, formula, [spread(dtype)]))
    compare(cases, standin, monkeypatch)


def random_formula(rng):
    """Return a formula of a float, a float of the other size, a boolean and two integers, as text."""
    leaves = ["x", "x", "y", "b", "u", "i", "0.7", "2", "-1.5", "np.float32(0.3)", "np.float64(0.3)", "True", "n", "n"]
    unary = [
        "np.negative(1.0 * {})",
        "np.tanh(1.0 * {})",
        "np.sqrt(np.abs(1.0 * {}))",
        "np.sign(1.0 * {})",
        "(1.0 * {}) ** 3",
        "(1.0 * {}) ** -2",
        "np.isfinite({})",
        "np.logical_not({})",
        "np.exp(-np.abs(1.0 * {}))",
    ]
    binary = ["{} + {}", "{} * {}", "{} / {}", "1.0 * {} - {}", "np.maximum({}, {})", "np.minimum({}, {})",
              "np.less({}, {})", "np.equal({}, {})", "np.where({}, {}, 0.5)", "np.where(x > 0, {}, {})",
              "np.logical_and({}, {})", "np.clip({}, -1, 1.0 * {})"]  # fmt: skip

    def draw(depth):
        if depth == 0 or rng.random() < 0.2:
            return str(rng.choice(leaves))
        forms = unary if rng.random() < 0.4 else binary
        form = str(rng.choice(forms))
        return form.format(*(f"({draw(depth - 1)})" for _ in range(form.count("{}"))))

    return f"{draw(4)} + 0 * x"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_formulas_have_numpys_values_and_types(standin, monkeypatch, dtype):
    rng = np.random.default_rng(1)
    other = np.float64 if dtype == np.float32 else np.float32
    arrays = [spread(kind, seed) for seed, kind in enumerate([dtype, other, bool, np.uint8, np.int64])]
    cases = []
    while len(cases) < 60:
        text = random_formula(rng)
        formula = eval(f"lambda x, y, b, u, i, n: {text}", {"np": np})
        with np.errstate(all="ignore"):
            try:
                formula(*arrays, 0.3)
            except TypeError:  # NumPy has rules against some: booleans have no difference
                with pytest.raises(TypeError):
                    written(formula, [x.dtype for x in arrays], ["n"])
                continue
        cases.append((text, formula, arrays))
    compare(cases, standin, monkeypatch, [("n", 0.3)], tolerance=1e-5)


# ---------------------------------------------------------------- numbers of the step


def test_arithmetic_with_numbers_is_in_double_precision(standin, monkeypatch):
    """As in Python: 1 − 0.999ᵗ of a float32 would have four digits."""
    formulas = {
        "1 - 0.999**t": lambda x, lr, t: x * (1 - 0.999**t),
        "all operators": lambda x, lr, t: x + (-(3 - lr) / (t + 2) * 0.1 - abs(-t) // 3 + (+lr) ** 2 + 2**t),
        "meets a constant": lambda x, lr, t: x * (np.float32(0.1) * lr),
        "strong": lambda x, lr, t: x * np.sqrt(t),
        "compared": lambda x, lr, t: np.where(t > 2, x, lr),
    }
    cases = [(name, formula, [spread(np.float32)]) for name, formula in formulas.items()]
    compare(cases, standin, monkeypatch, [("lr", 0.1), ("t", 3.0)])


def test_numbers_may_lie_on_the_device(standin):
    kernel, dtype = written(lambda x, lr: lr * x, [np.float32], ["lr"])
    x = np.arange(5, dtype=np.float32)
    number = standin.asarray(np.array(0.25))
    np.testing.assert_array_equal(run(kernel, [x], dtype, [number]), 0.25 * x)
    number[...] = 4
    np.testing.assert_array_equal(run(kernel, [x], dtype, [number]), 4 * x)


def test_a_python_integer_stays_one():
    t = Trace(np.float32).number("t", int)
    assert [each.dtype for each in (t + 1, t * t, t**2, -t, t // 2)] == [int] * 5
    assert [each.dtype for each in (t / 1, t + 0.5, 2.0**t, t * True / 2)] == [float] * 4
    with pytest.raises(NoRuleError, match="an integer to a power"):
        2**t


# ---------------------------------------------------------------- what is refused


REFUSED = {
    "numpy.sum": lambda x, t: x - np.sum(x),
    "numpy.add as reduce": lambda x, t: np.add.reduce(x),
    "numpy.matmul": lambda x, t: x @ x,
    "numpy.modf": lambda x, t: np.modf(x)[0],
    "numpy.linalg.norm": lambda x, t: x / np.linalg.norm(x),
    "numpy.add as __call__ {'where': True}": lambda x, t: np.add(x, 1, where=True),
    "numpy.spacing": lambda x, t: np.spacing(x),
    "numpy.bitwise_and of int64, int64": lambda x, t: np.bitwise_and((x > 0).astype(int), 1) * x,
    "numpy.absolute of int64": lambda x, t: np.abs((x > 0).astype(int)) * x,
    "an array's .shape": lambda x, t: x * x.shape[0],
    "an array's .mean": lambda x, t: x - x.mean(),
    "a constant of type list": lambda x, t: np.maximum(x, [1.0]),
    "a constant of type ndarray": lambda x, t: x + np.ones(3),
    "the dtype float16": lambda x, t: x.astype(np.float16),
    "cannot look at the values": lambda x, t: x if x > 0 else 1,
}
LOOKING = {
    "bool of a number": lambda x, t: x if t == 1 else 2 * x,
    "float": lambda x, t: x * float(x),
    "math": lambda x, t: x * math.sqrt(t),
    "index": lambda x, t: x[0] * x,
    "len": lambda x, t: x * len(x),
    "iteration": lambda x, t: list(x),
    "min": lambda x, t: x * min(t, 3),
    "in": lambda x, t: x * (t in (1, 2)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_rule_is_refused_by_name(what):
    trace = Trace(np.float32)
    with pytest.raises(NoRuleError) as refusal:
        REFUSED[what](trace.array("x"), trace.number("t", int))
    assert what.removeprefix("numpy.linalg.").removeprefix("numpy.") in str(refusal.value)


@pytest.mark.parametrize("what", LOOKING)
def test_a_formula_cannot_look_at_values(what):
    trace = Trace(np.float32)
    with pytest.raises(NoRuleError, match="cannot look at the values"):
        LOOKING[what](trace.array("x"), trace.number("t", int))


def test_results_cannot_be_stored_elsewhere():
    trace = Trace(np.float32)
    x = trace.array("x")
    memory = np.zeros(3, np.float32)
    with pytest.raises(NoRuleError, match="cannot be stored in an array"):
        np.add(x, 1, out=memory)
    integers = trace.array("i", np.int64)
    with pytest.raises(NoRuleError, match="float64 cannot be stored in an array of int64"):
        integers += x
    with pytest.raises(NoRuleError, match="another formula"):
        x + Trace(np.float32).array("y")


# ---------------------------------------------------------------- the source

SGD = """\
// A formula.

#include "common.cuh"
#include "fusion.cuh"

extern "C" __global__ void formula(
    T* out_at,
    const T* in0_at,
    const T* in1_at,
    double lr, const double* lr_at,
    int size)
{
    // What is the same for all elements: one thread computes it, with Python's numbers in double precision.
    __shared__ T n1;
    if (threadIdx.x == 0) {
        lr = setting(lr, lr_at);
        // W, g, lr: W - 0.1 * lr * g
        const double s1 = 0.1 * lr;
        n1 = T(s1);
    }
    __syncthreads();

    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        const T in0 = in0_at[i];
        const T in1 = in1_at[i];
        // W, g, lr: W - 0.1 * lr * g
        const T a1 = n1 * in1;
        const T a2 = in0 - a1;
        out_at[i] = a2;
    }
}
"""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_source_can_be_read(dtype, monkeypatch):
    monkeypatch.setattr(tracing, "_origin", lambda: "W, g, lr: W - 0.1 * lr * g")
    kernel, _ = written(lambda W, g, lr: W - 0.1 * lr * g, [dtype, dtype], ["lr"])
    assert kernel.source == SGD


def test_a_line_of_python_stands_above_its_lines_of_c():
    def formula(x):
        y = x * x  # a comment
        return np.exp(y) + y

    source = written(formula, [np.float32])[0].source
    assert textwrap.indent("// y = x * x  # a comment\nconst T a1 = in0 * in0;\n", 8 * " ") in source
    assert textwrap.indent("// return np.exp(y) + y\nconst T a2 = exp(a1);\n", 8 * " ") in source


def test_what_is_not_needed_is_left_out_and_what_comes_twice_is_written_once():
    def formula(x, y):
        np.tanh(y)
        return (x + 1) * (x + 1)

    source = written(formula, [np.float32, np.float32])[0].source
    assert "tanh" not in source
    assert "const T in1 " not in source
    assert source.count("in0 + T(1.0)") == 1


def test_changes_in_place_are_those_of_the_array(standin):
    def formula(x, y):
        z = x.copy()
        x *= 2
        x += y
        np.subtract(z, y, out=y)
        return x * 100 + y

    x, y = np.arange(4.0), np.full(4, 0.5)
    kernel, dtype = written(formula, [np.float64, np.float64])
    np.testing.assert_array_equal(run(kernel, [x, y], dtype), formula(x.copy(), y.copy()))


def test_names_that_a_kernel_cannot_have_are_replaced():
    wanted = ["m", "v_hat", "new", "exp", "β", "a1", "T", "size", "_x", "i", "lr", "m_at"]
    expected = ["m", "v_hat", *(f"x{number}" for number in range(3, 13))]
    assert fusion.names(wanted, taken=("lr",)) == expected


# ---------------------------------------------------------------- formulas of the ops


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ops_are_numpys_and_one_kernel_for_each_formula(standin, monkeypatch, dtype):
    kernels = [kernel for _, kernel in generated.formulas(standin, dtype)]
    monkeypatch.setattr(fusion, "compiled", generated.Together(standin, kernels))
    limits = {"exp": (-80, 80), "log": (1e-3, 80), "sqrt": (0, 80), "divide": (-2.5, 80)}
    for name, formula in generated.FORMULAS.items():
        low, high = limits.get(name, (-80, 80))
        values = np.concatenate([np.linspace(low, high, 1001), np.linspace(max(low, -5), 5, 200), [max(low, 0.0)]])
        results = []
        for make in (np.asarray, standin.asarray):
            ml.backend._device = "cpu" if make is np.asarray else "gpu"
            x = ml.Tensor(make(values.astype(dtype)), requires_grad=True)
            with np.errstate(all="ignore"):
                y = formula(x)
                y.backward(make(np.linspace(-1, 1, values.size, dtype=dtype)))
            results.append((y.numpy(), ml.backend.to_numpy(x.grad)))
        for got, expected in zip(results[1], results[0], strict=True):
            assert got.dtype == dtype
            tolerance = 8 * np.finfo(dtype).eps
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=name)


def test_one_launch_for_a_formula(standin):
    import standin as cupy

    x = ml.Tensor(standin.asarray(np.linspace(-2, 2, 9)), requires_grad=True)
    cupy.launches.clear()
    y = ops.elu(x)
    assert sum(cupy.launches.values()) == 1
    g = standin.asarray(np.ones(9))
    cupy.launches.clear()
    blocks.elementwise(lambda g, x: g * np.cos(x) + 1, g, y.data)
    assert sum(cupy.launches.values()) == 1
    assert not cupy.transfers["to host"]


shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@given(shape=shapes, seed=st.integers(0, 99))
def test_shapes_and_layouts(shape, seed):
    import standin

    with standin.installed() as cupy:
        rng = np.random.default_rng(seed)
        x, mask = rng.standard_normal(shape), rng.random(shape) < 0.5
        formula = lambda x, mask: x * mask - ~mask
        expected = formula(x, mask)
        wide = cupy.asarray(np.repeat(x[None], 2, 0).T).T[0]  # with gaps
        turned = cupy.asarray(mask.T).T
        for device in (cupy.asarray(x), wide):
            result = plain.elementwise(formula, device, turned)
            assert result.shape == shape
            assert result.flags.c_contiguous
            np.testing.assert_array_equal(result.get(), expected)


def test_large_arrays_take_several_rounds(standin, monkeypatch):
    monkeypatch.setattr(fusion, "BLOCKS", 3)
    x = np.arange(3 * 256 * 2 + 5, dtype=np.float32)
    for order in ("forward", "reverse", "random"):
        with emulator.order(order):
            result = plain.elementwise(lambda x, two: two * x + 1, standin.asarray(x), standin.asarray(np.float32(2)))
        np.testing.assert_array_equal(result.get(), 2 * x + 1)


def test_a_kernel_is_found_by_all_that_its_formula_depends_on():
    def kernel_of(formula, char="d"):
        return blocks._kernel_of(formula, ((char, False),))

    def scaled(factor):
        return lambda x: (x > 0) * factor

    def composed(f):
        return lambda x: f(f(x))

    def with_default(n):
        return lambda x, n=n: x + n

    code = compile("lambda x: x + value", "<formula>", "eval").co_consts[0]

    def with_global(value):  # the same code, but not what it refers to
        return types.FunctionType(code, {"value": value})

    for make, values in (
        (scaled, [2, 3, True, 1, 1.0, np.float32(1)]),
        (composed, [lambda x: x + 1, lambda x: x * 3]),
        (with_default, [1, 2]),
        (with_global, [1, 2]),
    ):
        kernels = [kernel_of(make(value))[0] for value in values]
        assert len({kernel.source for kernel in kernels}) == len(values), make
    assert [kernel_of(scaled(one))[1] for one in (True, 1, 1.0)] == [bool, np.int64, np.float64]
    assert kernel_of(scaled(2))[0] is kernel_of(scaled(2))[0]
    assert kernel_of(scaled(2), "f")[0].dtype == np.float32


def test_a_formula_that_cannot_be_written_down_is_called(standin):
    other = standin.asarray(np.full(4, 3.0))
    x = standin.asarray(np.arange(4.0))
    for formula in (lambda x: x * other, lambda x: x - x.mean(), lambda *arrays: arrays[0] * 2, np.negative):
        np.testing.assert_array_equal(plain.elementwise(formula, x).get(), formula(x).get())
    row = standin.asarray(np.ones(4))
    np.testing.assert_array_equal(plain.elementwise(lambda x, y: x + y, standin.asarray(np.ones((2, 4))), row).get(), 2)
    with pytest.raises(ZeroDivisionError):
        plain.elementwise(lambda x: x * (1 / 0), x)
    integers = standin.asarray(np.arange(3))
    np.testing.assert_array_equal(plain.elementwise(lambda x: x * x, integers).get(), [0, 1, 4])


# ---------------------------------------------------------------- what moves values


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), data=st.data())
def test_concatenate_and_pad(shape, data):
    import standin

    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    arrays = []
    for number, dtype in enumerate((np.float32, np.float64, np.float32)):
        size = list(shape)
        size[axis] = data.draw(st.integers(0, 3))
        arrays.append(np.random.default_rng(number).standard_normal(size).astype(dtype))
    widths = [data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape]
    with standin.installed() as cupy:
        joined = plain.concatenate(list(map(cupy.asarray, arrays)), axis)
        assert joined.dtype == np.float64
        np.testing.assert_array_equal(joined.get(), np.concatenate(arrays, axis))
        padded = plain.pad(cupy.asarray(arrays[0]), widths, -1.5)
        np.testing.assert_array_equal(padded.get(), np.pad(arrays[0], widths, constant_values=-1.5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gather(standin, monkeypatch, dtype):
    import standin as cupy

    rng = np.random.default_rng(0)
    sizes = [3, 0, 1, 700, 12]
    parts = [rng.standard_normal(size).astype(dtype) for size in sizes]
    parts[4] = parts[4].reshape(3, 4)
    device = [None if k == 2 else standin.asarray(part) for k, part in enumerate(parts)]
    device[4] = standin.asarray(np.ascontiguousarray(parts[4].T)).T
    expected = np.concatenate([0 * part.reshape(-1) if k == 2 else part.reshape(-1) for k, part in enumerate(parts)])
    like = standin.asarray(np.zeros(expected.size, dtype))
    cupy.launches.clear()
    np.testing.assert_array_equal(blocks.gather(device, sizes, like).get(), expected)
    assert cupy.launches["gather"] == 1
    monkeypatch.setattr(blocks, "POINTERS", 2)
    np.testing.assert_array_equal(blocks.gather(device, sizes, like).get(), expected)
    on_cpu = plain.gather([None if k == 2 else part for k, part in enumerate(parts)], sizes, expected)
    np.testing.assert_array_equal(on_cpu, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_add_at(standin, dtype, order):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 3, 4)).astype(dtype)
    rows, columns = rng.integers(-7, 7, 600), rng.integers(0, 3, (600, 1))
    for index in ((rows,), (rows, columns[:, 0]), (rows, slice(None), columns), (rows[:0],), (slice(1, 4), rows % 3)):
        values = rng.standard_normal(x[index].shape).astype(dtype)
        expected, result = x.copy(), standin.asarray(x)
        np.add.at(expected, index, values)
        on_device = tuple(standin.asarray(part) if isinstance(part, np.ndarray) else part for part in index)
        with emulator.order(order):
            plain.add_at(result, on_device, standin.asarray(values))
        tolerance = 8 * np.finfo(dtype).eps * np.abs(expected).max()
        np.testing.assert_allclose(result.get(), expected, rtol=0, atol=tolerance)
    plain.add_at(result, on_device, standin.asarray(np.ones(1, dtype)))  # broadcasts
    plain.add_at(expected, index, 1)
    np.testing.assert_allclose(result.get(), expected, rtol=0, atol=tolerance)


# ---------------------------------------------------------------- NVIDIA's compiler


@pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed: pip install nvidia-cuda-nvrtc")
@pytest.mark.parametrize(
    ("dtype", "architecture"),
    [
        pytest.param(dtype, architecture, marks=() if (dtype, architecture) == ("float32", 90) else pytest.mark.slow)
        for dtype in ("float32", "float64")
        for architecture in nvrtc.ARCHITECTURES
    ],
)
def test_every_generated_kernel_compiles_in_silence_without_spills(standin, dtype, architecture):
    sources = [each for each in generated.generated_sources(standin) if each[2] == dtype]
    for around_circle in (False, True):
        some = [(text, name) for name, text, _ in sources if (name.split()[0] in ("sin", "cos")) == around_circle]
        local = 64 if around_circle else 0  # CUDA's own way with huge arguments
        variant = nvrtc.Variant("generated", (), dtype, stack=local)
        assert not nvrtc.problems(generated.joined([text for text, _ in some])[0], variant, architecture)
