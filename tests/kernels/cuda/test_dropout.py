"""Dropout in CUDA, on the emulator: the random numbers against the paper, and what is done with them."""

from __future__ import annotations

import functools
import importlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import minidl as ml
from minidl import backend, emulator, nn, ops
from minidl.kernels.cuda import dropout, launch
from minidl.ops.dropout import SATURATION

from standin import transfers

pytestmark = pytest.mark.usefixtures("standin")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])

# Those of the authors' library Random123 (kat_vectors): counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]

PHILOX_OF_COUNTERS = """
#include "philox.cuh"

extern "C" __global__ void words(const unsigned* counters, const unsigned long long* keys, unsigned* results) {
    const unsigned* c = counters + 4 * threadIdx.x;
    Words random = philox({{c[0], c[1], c[2], c[3]}}, keys[threadIdx.x]);
    for (int k = 0; k < 4; k++) results[4 * threadIdx.x + k] = random.word[k];
}
"""


def device(x, dtype=None):
    return importlib.import_module("cupy").asarray(x, dtype)


def numbers(text):
    return [int(word, 16) for word in text.split()]


def philox(counters, keys):
    """Return Philox4x32-10 of counters (n, 4) and keys (n, 2) as the paper has it, word by word in 64 bits."""
    L0, R0, L1, R1 = (np.asarray(counters, np.uint64).T[i] for i in (1, 0, 3, 2))
    k0, k1 = np.asarray(keys, np.uint64).T
    low = np.uint64(2**32 - 1)
    for _ in range(10):
        product0, product1 = R0 * np.uint64(0xD2511F53), R1 * np.uint64(0xCD9E8D57)
        R0, L0 = (product1 >> np.uint64(32)) ^ L0 ^ k0, product1 & low
        R1, L1 = (product0 >> np.uint64(32)) ^ L1 ^ k1, product0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([R0, L0, R1, L1], axis=1)


def words_of_elements(size, key):
    """Return the random word of each element: of 128, word k of the counters of their 32 is for the k-th 32."""
    count = -(-size // 128) * 32
    counters = np.zeros((count, 4), np.uint64)
    counters[:, 0] = np.arange(count)
    random = philox(counters, np.broadcast_to([key % 2**32, key >> 32], (count, 2)))
    return random.reshape(-1, 32, 4).transpose(0, 2, 1).reshape(-1)[:size]


def coins_of(key, p):
    return dropout.Coins(np.uint64(round(p * 2**32)), np.uint64(key))


def test_known_answers(standin):
    counters, keys, answers = (np.array([numbers(case[i]) for case in KNOWN_ANSWERS], np.uint64) for i in range(3))
    np.testing.assert_array_equal(philox(counters, keys), answers)
    options = (*launch.OPTIONS, "-DREAL=float")
    kernel = standin.RawModule(code=PHILOX_OF_COUNTERS, options=options).get_function("words")
    results = standin.zeros(answers.shape, np.uint32)
    whole_keys = device(keys[:, 0] + (keys[:, 1] << np.uint64(32)))
    kernel((1,), (len(answers),), (device(counters.astype(np.uint32)), whole_keys, results))
    np.testing.assert_array_equal(results.get(), answers)


# ---------------------------------------------------------------- coins


@given(
    size=st.one_of(st.integers(0, 300), st.sampled_from([1023, 1024, 1025, 5000])),
    p=st.sampled_from([0.0, 2**-32, 0.1, 0.5, 0.9, 1 - 2**-32, 1.0]),
    scale=st.sampled_from([1.0, 2.5]),
    dtype=st.sampled_from([np.float32, np.float64]),
    key=st.integers(0, 2**64 - 1),
)
def test_an_element_is_kept_if_its_word_is_not_below_the_threshold(size, p, scale, dtype, key):
    x = np.random.default_rng(size).standard_normal(size).astype(dtype)
    b = words_of_elements(size, key) >= p * 2**32
    first = None
    for order in emulator.settings.ORDERS:
        with emulator.order(order):
            y = dropout.drop(device(x), coins_of(key, p), scale).get()
            z = dropout.saturate(device(x), coins_of(key, p), scale, -1.7, 0.3).get()
        first = first or (y, z)
        np.testing.assert_array_equal([y, z], first)
    assert y.dtype == z.dtype == dtype
    np.testing.assert_array_equal(y, x * b * dtype(scale))
    np.testing.assert_allclose(
        z, scale * (x * b - 1.7 * ~b) + 0.3, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps
    )


def test_a_word_at_the_threshold_is_kept():
    words = words_of_elements(300, 7)
    for i in (0, 37, 299):
        for above in (0, 1):
            coins = dropout.Coins(np.uint64(words[i] + np.uint64(above)), np.uint64(7))
            assert dropout.drop(device(np.ones(300)), coins, 1.0).get()[i] == 1 - above


def test_coins_as_an_array_are_those_of_the_kernels(rng):
    shape, seed = (3, 5, 70), 11
    mask = dropout.kept(shape, 0.3, np.random.default_rng(seed), device(np.zeros(1, np.float32)))
    assert (mask.shape, mask.dtype) == (shape, bool)
    x = device(rng.standard_normal(shape))
    y = dropout.drop(x, dropout.coins(shape, 0.3, np.random.default_rng(seed), x), 1.0)
    np.testing.assert_array_equal(y.get(), (x * mask).get())


@pytest.mark.parametrize("p", [0, 1, 0.0, 1.0])
def test_certain_coins(p, rng):
    for seed in range(20):
        b = dropout.kept((1000,), p, np.random.default_rng(seed), device(np.zeros(1)))
        assert (b.get() == (p == 0)).all()


@pytest.mark.parametrize("p", [0.001, 0.3, 0.5, 0.999])
def test_share_and_neighbours(p):
    """The share of dropped elements and of dropped pairs at several distances, within 5 standard errors."""
    n = 1_000_000
    dropped = ~dropout.kept((n,), p, np.random.default_rng(1), device(np.zeros(1))).get()
    assert abs(dropped.mean() - p) < 5 * np.sqrt(p * (1 - p) / n)
    for distance in (1, 2, 4, 31, 32, 33, 64, 127, 128, 1024):
        pairs = (dropped[distance:] & dropped[:-distance]).mean()
        assert abs(pairs - p * p) < 5 * np.sqrt((p**2 * (1 - p**2) + 2 * p**3 * (1 - p)) / n)


def test_keys_that_differ_in_one_bit_give_independent_coins():
    n, p = 200_000, 0.5
    of = lambda key: words_like(n, key)
    words_like = lambda n, key: dropout.drop(device(np.ones(n, np.float32)), coins_of(key, p), 1.0).get() > 0
    first = of(0)
    for bit in (0, 1, 31, 32, 63):
        assert abs((first & of(1 << bit)).mean() - 0.25) < 5 * np.sqrt(3 / 16 / n)


@pytest.mark.parametrize("threads", [32, 64, 128])
def test_blocks_of_another_size_give_the_same(threads, rng):
    n, key = 1000, np.uint64(2**63 + 5)
    x = device(rng.standard_normal(n))
    noise = dropout.Noise(1.0, 0.5, key)
    expected = {
        "drop": dropout.drop(x, coins_of(key, 0.3), 1.5),
        "coins": dropout.drop(x, coins_of(key, 0.3), 1.0) != 0,
        "multiply": dropout.multiply(x, noise),
    }
    before = [coins_of(key, 0.3).threshold, key, None]
    args = {"drop": [x, *before, 1.5, 0.0, 0.0], "coins": before, "multiply": [x, 1.0, 0.5, key, None]}
    for name, wanted in expected.items():
        result = importlib.import_module("cupy").empty(n, wanted.dtype)
        kernel = launch.kernel("dropout.cu", name, np.float32 if name == "coins" else x.dtype, THREADS=256)
        for grid in (launch.blocks(n, 4 * threads), 50):  # more blocks than are needed, too
            kernel((grid,), (threads,), *args[name], n, result)
            np.testing.assert_array_equal(result.get(), wanted.get())


# ---------------------------------------------------------------- normal noise


@dtypes
def test_normal_noise_is_that_of_box_and_muller(dtype):
    n, key = 1000, 2**40 + 7
    words = words_of_elements(1024, key).reshape(-1, 4, 32).astype(np.float64)
    even, turns = (words[:, ::2] + 0.5) / 2**32, words[:, 1::2] / 2**32
    radius = np.sqrt(-2 * np.log(even))
    normal = np.stack([radius * np.cos(2 * np.pi * turns), radius * np.sin(2 * np.pi * turns)], axis=2).reshape(-1)[:n]
    y = dropout.multiply(device(np.full(n, 2, dtype)), dropout.Noise(1.5, 0.5, np.uint64(key)))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.get(), 2 * (1.5 + 0.5 * normal), rtol=1e-5, atol=1e-5)


def test_the_smallest_and_the_largest_word_give_finite_noise(standin):
    code = """
#include "philox.cuh"
extern "C" __global__ void pairs(const unsigned* x, const unsigned* y, float* z) {
    int i = threadIdx.x;
    normal_pair(x[i], y[i], z[2 * i], z[2 * i + 1]);
}
"""
    x, y = np.meshgrid(np.array([0, 1, 2**31, 2**32 - 1], np.uint32), np.array([0, 1, 2**31, 2**32 - 1], np.uint32))
    z = standin.empty(32, np.float32)
    kernel = standin.RawModule(code=code, options=(*launch.OPTIONS, "-DREAL=float")).get_function("pairs")
    kernel((1,), (16,), (device(x.reshape(-1)), device(y.reshape(-1)), z))
    assert np.isfinite(z.get()).all()
    assert np.abs(z.get()).max() == pytest.approx(np.sqrt(66 * np.log(2)))


def test_moments_of_the_noise():
    n = 400_000
    x = dropout.multiply(device(np.ones(n, np.float32)), dropout.Noise(0.0, 1.0, np.uint64(3))).get().astype(float)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < 5 * np.sqrt(variance / n)
    for distance in (1, 2, 31, 32, 33, 64, 96, 128):
        for y in (x, x**2 - 1):  # also the radius that a pair has in common
            assert abs((y[distance:] * y[:-distance]).mean()) < 5 * (y**2).mean() / np.sqrt(n - distance)


# ---------------------------------------------------------------- ops and layers


def on_device(function, x, g, seed=5):
    """Return value and gradient of an op; nothing may be copied to the host."""
    x, g = ml.Tensor(device(x), requires_grad=True), device(g)
    transfers.clear()
    y = function(x, generator=np.random.default_rng(seed))
    y.backward(g)
    assert not transfers
    return y.data.get(), x.grad.get()


@dtypes
def test_ops_use_the_mask_in_both_directions(dtype, rng):
    shape, p = (4, 6, 5, 3), 0.3
    x, g = rng.standard_normal((2, *shape)).astype(dtype)
    x[0, 0] = np.nan  # 0 times NaN is NaN, on the CPU too
    mask = lambda shape: dropout.kept(shape, p, np.random.default_rng(5), device(x)).get()
    b, maps = mask(shape), mask((4, 1, 1, 3))
    a = 1 / np.sqrt((1 - p) * (1 + p * SATURATION**2))
    for function, y, by_x in (
        (ops.dropout, x * b / (1 - p), g * b / (1 - p)),
        (functools.partial(ops.dropout, scaling="eval"), x * b, g * b),
        (functools.partial(ops.dropout, shared=(1, 2)), x * maps / (1 - p), g * maps / (1 - p)),
        (ops.alpha_dropout, a * (x * b + SATURATION * ~b) - a * p * SATURATION, a * g * b),
    ):
        got = on_device(functools.partial(function, p=p), x, g)
        assert got[0].dtype == got[1].dtype == dtype
        for result, wanted in zip(got, (y, by_x), strict=True):
            np.testing.assert_allclose(result, wanted, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


@dtypes
def test_gaussian_dropout_uses_the_noise_in_both_directions(dtype, rng):
    x, g = rng.uniform(1, 2, (2, 7, 50)).astype(dtype)
    y, by_x = on_device(functools.partial(ops.gaussian_dropout, sigma=0.4), x, g)
    np.testing.assert_allclose(y / x, by_x / g, rtol=1e-5)
    np.testing.assert_array_equal(on_device(functools.partial(ops.gaussian_dropout, sigma=0.0, mu=2.0), x, g)[0], 2 * x)
    assert 0.3 < (y / x).std() < 0.5


def test_arrays_may_lie_in_memory_as_they_like(rng):
    x, noise = rng.standard_normal((30, 20)), dropout.Noise(1.0, 1.0, np.uint64(9))
    turned, shifted = device(x.T.copy()).T, device(np.append(0, x))[1:].reshape(x.shape)
    for function in (lambda x: dropout.drop(x, coins_of(9, 0.4), 2.0), lambda x: dropout.multiply(x, noise)):
        for other in turned, shifted:
            np.testing.assert_array_equal(function(other).get(), function(device(x)).get())


def test_the_same_seed_gives_the_same_masks_and_the_next_call_others(rng):
    x = rng.standard_normal((20, 30))
    for function in (ops.dropout, ops.alpha_dropout, functools.partial(ops.gaussian_dropout, sigma=1.0)):
        masks = []
        for _ in range(2):
            ml.manual_seed(3)
            masks.append([function(device(x)).data.get() for _ in range(2)])
        np.testing.assert_array_equal(masks[0], masks[1])
        assert (masks[0][0] != masks[0][1]).any()
    half = [ops.dropout(device(x, dtype), generator=np.random.default_rng(2)).data.get() for dtype in "fd"]
    np.testing.assert_array_equal(half[0] != 0, half[1] != 0)


def test_a_captured_mask_is_drawn_anew_in_every_launch(standin, rng):
    x, g = ml.Tensor(device(rng.standard_normal(500)), requires_grad=True), device(np.ones(500))
    keys = [standin.zeros((), np.uint64) for _ in range(3)]
    following = iter(keys)
    with backend.capturable(lambda generator: next(following)), standin.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        y = ops.dropout(x, 0.4, scaling="eval")
        z = ops.gaussian_dropout(y, 0.5)
        z.backward(g)
        shared = ops.dropout(ml.Tensor(g).reshape(10, 50), 0.4, scaling="eval", shared=(0,))
        graph = stream.end_capture()
    for first, second in ((1, 2), (2**63 + 1, 4)):
        for at, value in zip(keys, (first, second, first), strict=True):
            at[...] = value
        graph.launch()
        one_row = dropout.drop(g[:50], coins_of(first, 0.4), 1.0)
        np.testing.assert_array_equal(shared.data.get(), np.tile(one_row.get(), (10, 1)))
        kept = dropout.drop(x.data, coins_of(first, 0.4), 1.0)
        noise = dropout.Noise(1.0, 0.5, np.uint64(second))
        np.testing.assert_array_equal(y.data.get(), kept.get())
        np.testing.assert_array_equal(z.data.get(), dropout.multiply(kept, noise).get())
        ones = dropout.drop(dropout.multiply(g, noise), coins_of(first, 0.4), 1.0)
        np.testing.assert_array_equal(x.grad.get(), ones.get())


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Dropout(0.3),
        lambda: nn.SpatialDropout2d(0.3),
        lambda: nn.GaussianDropout(0.3),
        lambda: nn.AlphaDropout(0.3),
        lambda: nn.PoolingDropout(2, 0.3),
        lambda: nn.PoolingDropout(2, 0.3, "avg"),
        lambda: nn.MaxDrop(2),
    ],
)
def test_no_layer_copies_its_masks_to_the_device(layer, rng):
    layer, x = layer(), ml.Tensor(device(rng.uniform(1, 2, (2, 4, 4, 3)).astype(np.float32)), requires_grad=True)
    transfers.clear()
    y = layer(x)
    y.backward(y.data)
    assert not transfers
    assert (y.data.get() != layer.eval()(x).data.get()).any()


def test_an_array_that_is_too_large_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(launch, "LARGEST", 100)
    with pytest.raises(ValueError, match=r"dropout: x has shape \(101,\)"):
        ops.dropout(device(np.zeros(101)))
