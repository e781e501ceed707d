"""Limits for the gradient: against PyTorch, at the ends of the number range, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minidl as ml
from minidl import backend, optim
from minidl.optim.clipping import Clip, ClipNorm, ClipValue
from minidl.optim.penalties import L2


def leaf(values, dtype=np.float64):
    return ml.Tensor(np.array(values, dtype), requires_grad=True)


@pytest.mark.parametrize("limit", [0.5, 3.0, 1e3])
@pytest.mark.parametrize("kind", ["norm", "value"])
def test_clipping_is_pytorchs(kind, limit, torch, rng):
    shapes = (3, 2), (4,)
    starts, gradients = ([rng.standard_normal(shape) * 5 for shape in shapes] for _ in range(2))
    ours = [leaf(start) for start in starts]
    optimizer = optim.SGD(ours, lr=0.1, clip=ClipNorm(limit) if kind == "norm" else ClipValue(limit))
    theirs = [torch.tensor(start.copy(), requires_grad=True) for start in starts]
    for tensor, twin, g in zip(ours, theirs, gradients, strict=True):
        tensor.backward(g)
        twin.grad = torch.tensor(g.copy())
    if kind == "norm":
        total = torch.nn.utils.clip_grad_norm_(theirs, limit).item()
        tolerance = 1.01e-6 / total  # PyTorch adds 1e-6 to the norm
    else:
        torch.nn.utils.clip_grad_value_(theirs, limit)
        tolerance = 1e-12
    optimizer.step()
    for tensor, twin, start in zip(ours, theirs, starts, strict=True):
        np.testing.assert_allclose((start - tensor.data) / 0.1, twin.grad.numpy(), rtol=tolerance, atol=1e-14)


def test_clip_norm_is_that_of_the_whole_vector():
    clip = ClipNorm(10)
    np.testing.assert_allclose(clip(np.array([30.0, 40.0])), [6, 8], rtol=1e-15)
    g = np.array([6.0, 8.0])
    assert clip(g) is g, "within the limit nothing is touched"
    np.testing.assert_array_equal(clip(np.zeros(3)), np.zeros(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("place", ["largest", "huge", "small", "smallest"])
def test_clip_norm_neither_overflows_nor_loses_small_gradients(dtype, limit, place, rng):
    info = np.finfo(dtype)
    scale = {"largest": info.max, "huge": info.max**0.75, "small": info.tiny * 4, "smallest": info.smallest_subnormal}
    g = (rng.uniform(-1, 1, 1000) * scale[place]).astype(dtype)
    g[3] = scale[place]
    exact = g.astype(np.longdouble)
    norm = np.sqrt((exact**2).sum())
    expected = exact * min(1, limit / norm)
    got = ClipNorm(limit)(g)
    assert got.dtype == dtype
    np.testing.assert_allclose(got.astype(np.longdouble), expected, rtol=4 * info.eps, atol=info.smallest_subnormal)


def test_clip_value_limits_infinities_and_keeps_the_dtype():
    g = np.array([0.5, -3, math.inf, -math.inf], np.float32)
    got = ClipValue(2)(g)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [0.5, -2, 2, -2])
    np.testing.assert_array_equal(g, [0.5, -3, math.inf, -math.inf])


@pytest.mark.parametrize(
    ("clip", "gradient", "message"),
    [
        (ClipNorm(1), [1, math.nan, math.inf], "ClipNorm: 2 of the 3 elements of the gradient are NaN or infinite"),
        (ClipNorm(1), [1, -math.inf, 0], "ClipNorm: 1 of the 3 elements"),
        (ClipValue(1), [1, math.nan, math.inf], "ClipValue: 1 of the 3 elements of the gradient are NaN"),
    ],
)
def test_a_gradient_that_cannot_be_clipped_is_an_error_and_nothing_moves(clip, gradient, message):
    x = leaf([1.0, 2.0, 3.0])
    optimizer = optim.Adam([x], clip=clip)
    x.backward(np.array(gradient))
    with pytest.raises(ArithmeticError, match=message):
        optimizer.step()
    np.testing.assert_array_equal(x.data, [1, 2, 3])
    assert (optimizer.t, optimizer.m.any()) == (0, False)


@pytest.mark.parametrize(
    ("clip", "gradient", "clipped"),
    [(ClipValue(1), [-1.0, -4.5], [-1, 0.5]), (ClipNorm(1), [-1.0, 3.0], [-0.6, 0.8])],
)
def test_the_gradient_of_a_coupled_penalty_is_clipped_with_the_losss(clip, gradient, clipped):
    x = leaf([-10.0, 10.0])
    optimizer = optim.SGD([x], lr=1, penalty=L2(0.5), clip=clip)
    x.backward(np.array(gradient))
    optimizer.step()
    np.testing.assert_allclose(x.data, [-10 - clipped[0], 10 - clipped[1]], rtol=1e-14)


def test_a_decoupled_pull_is_not_clipped():
    x = leaf([-10.0, 10.0])
    optimizer = optim.SGD([x], lr=1, penalty=L2(0.5, decoupled=True), clip=ClipNorm(1))
    x.backward(np.array([-30.0, 40.0]))
    optimizer.step()
    np.testing.assert_allclose(x.data, [-10 + 0.6 + 5, 10 - 0.8 - 5], rtol=1e-14)


@pytest.mark.parametrize("kind", [ClipNorm, ClipValue])
@pytest.mark.parametrize(
    ("limit", "error"),
    [(0, ValueError), (-1, ValueError), (math.inf, ValueError), (math.nan, ValueError), ("1", TypeError)],
)
def test_bad_limits(kind, limit, error):
    with pytest.raises(error, match=f"{kind.__name__}: limit is {limit!r}, expected a"):
        kind(limit)


def test_the_base_says_what_is_missing_and_repr_shows_the_limit():
    with pytest.raises(TypeError, match="Clip has no __call__ method"):
        Clip()(np.ones(2))
    assert repr(ClipNorm(2)) == "ClipNorm(limit=2.0)"
    assert repr(ClipValue(0.5)) == "ClipValue(limit=0.5)"


@pytest.mark.gpu
def test_the_same_on_both_devices(rng):
    cupy = pytest.importorskip("cupy")
    g = rng.standard_normal(1000) * 1e3
    for clip in (ClipNorm(2), ClipValue(2)):
        np.testing.assert_allclose(backend.to_numpy(clip(cupy.asarray(g))), clip(g), rtol=1e-12)
        with pytest.raises(ArithmeticError):
            clip(cupy.asarray([1.0, math.nan]))
