"""Kernels count elements in 31 bits: whatever a caller makes larger is refused by name, before anything is launched."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from minidl.kernels.cuda import blocks, conv, dropout, launch, losses, matmul, norm, pool, smoothing

pytestmark = pytest.mark.usefixtures("standin")
NONE = (0, 0), (0, 0)
MANY = 101


def of(*shape):
    return importlib.import_module("cupy").asarray(np.ones(shape, np.float32))


LARGER = {
    "conv2d: x": lambda: conv.affine(of(1, 1, MANY, 1), of(1, 2, 1, 1), None, (1, 50), NONE),
    "conv2d: w": lambda: conv.affine(of(1, 1, 2, 1), of(1, 1, 1, MANY), None, (1, 1), NONE),
    "conv2d: the result": lambda: conv.affine(of(1, 1, 11, 1), of(1, 1, 1, 10), None, (1, 1), NONE),
    "conv2d: g": lambda: conv.input_gradient(of(1, 1, MANY, 1), of(1, 1, 1, 1), (1, 1, MANY, 1), (1, 1), NONE),
    "conv2d: w ": lambda: conv.input_gradient(of(1, 1, 1, 1), of(1, 1, MANY, 1), (1, 1, 1, MANY), (1, 1), NONE),
    "conv2d: the gradient": lambda: conv.input_gradient(of(1, 1, 3, 1), of(1, 1, 1, 1), (1, 1, MANY, 1), (1, 50), NONE),
    "conv2d: x ": lambda: conv.weight_gradient(of(1, 1, MANY, 1), of(1, 1, 3, 1), (1, 1), (1, 50), NONE),
    "conv2d: g ": lambda: conv.weight_gradient(of(1, 1, 1, 1), of(1, 1, 1, MANY), (1, 1), (1, 1), NONE),
    "conv2d: sums for the gradient of w": lambda: conv.weight_gradient(
        of(1, 1, 11, 1), of(1, 1, 1, 10), (1, 11), (1, 1), NONE
    ),
    "conv2d: g  ": lambda: conv.bias_gradient(of(1, 1, 1, MANY)),
    "matmul: x": lambda: matmul.product(of(1, MANY), of(MANY, 1)),
    "matmul: y": lambda: matmul.product(of(1, 1), of(1, MANY)),
    "matmul: the result": lambda: matmul.product(of(11, 1), of(1, 10)),
    "elementwise: x": lambda: blocks.apply(lambda x: np.exp(x) + 1, of(MANY)),
    "gather: vector": lambda: blocks.gather([of(MANY)], [MANY], of(MANY)),
    "add_at: x": lambda: blocks.add_at(of(MANY), [0], of(1)),
    "add_at: values": lambda: blocks.add_at(of(1), np.zeros(MANY, int), of(MANY)),
    "max_pool2d: x": lambda: pool.max_forward(of(1, 1, MANY, 1), (1, 1), (1, 1)),
    "avg_pool2d: x": lambda: pool.average_forward(of(1, 1, MANY, 1), (1, 1), (1, 1)),
    "windows2d: x": lambda: pool.windows_forward(of(1, 1, MANY, 1), (1, 1), (1, 50)),
    "windows2d: the result": lambda: pool.windows_forward(of(1, 1, 60, 1), (1, 2), (1, 1)),
    "batch_norm: x": lambda: norm.forward(of(MANY, 1), of(1), of(1), 1e-5, None, False),
    "residual_smoothing: d": lambda: smoothing.forward(of(MANY, 1), 1.0, 1.0, False),
    "cross_entropy: logits": lambda: losses.cross_entropy(of(MANY, 1), np.zeros(MANY, int), 0.0),
    "dropout: x": lambda: dropout.kept((MANY,), 0.5, np.random.default_rng(0), of(1)),
}


@pytest.mark.parametrize("what", LARGER)
def test_what_is_larger_than_a_kernel_can_count_is_named(what, monkeypatch):
    monkeypatch.setattr(launch, "LARGEST", MANY - 1)
    launched = []
    monkeypatch.setattr(launch, "kernel", lambda *names, **defines: launched.append(names))
    with pytest.raises(ValueError, match=rf"^{what.strip()} has shape .* on the GPU an array may have 100: split"):
        LARGER[what]()
    assert not launched


def test_the_limit_is_that_of_an_integer_with_a_sign():
    assert launch.LARGEST < 2**31
    assert launch.LARGEST > 0.99 * 2**31
