"""Dropout: the launches of `dropout.cu`.

What is drawn here is the key of a random stream, from which the kernels compute each coin and each normal number when
they need it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minidl import buffers
from minidl.backend import array_module, device_key
from minidl.forward import Dual, multilinear
from minidl.kernels.cuda import launch

THREADS = 256
ELEMENTS = 4 * THREADS  # of a block

VARIANTS = [{"source": "dropout.cu", "defines": {"THREADS": THREADS}, "registers": 64, "shared": 0}]


class Coins(NamedTuple):
    """Which elements of an array are kept: those whose random word of 32 bits is not below the threshold."""

    threshold: np.uint64
    key: Any


class Noise(NamedTuple):
    """Normal noise."""

    mu: float
    sigma: float
    key: Any


def coins(shape, p, generator, like):
    """Draw which elements of an array are kept: what `drop` and `saturate` take. p is rounded to 32 bits."""
    return Coins(np.uint64(round(p * 2**32)), device_key(generator))


@multilinear(0)
def drop(x, coins, scale):
    """Return x · b · scale, b the coins; linear in x, it is its own derivative."""
    return _drop(x, coins, scale, 0.0, 0.0)


def saturate(x, coins, scale, saturation, shift):
    """Return scale · (x · b + saturation · (1 − b)) + shift; its derivative is `drop`."""
    if type(x) is Dual:
        return Dual(saturate(x.value, coins, scale, saturation, shift), drop(x, coins, scale).tangents)
    return _drop(x, coins, scale, saturation, shift)


def noise(shape, mu, sigma, generator, like):
    """Draw normal noise of mean mu and standard deviation sigma: what `multiply` takes."""
    return Noise(float(mu), float(sigma), device_key(generator))


@multilinear(0)
def multiply(x, noise):
    """Return x · noise; linear in x, it is its own derivative."""
    x = array_module(x).ascontiguousarray(x)
    y = buffers.empty(x.shape, x)
    _launch("multiply", x.dtype, y, x, noise.mu, noise.sigma, *launch.setting(noise.key, np.uint64))
    return y


def kept(shape, p, generator, like):
    """Draw which elements are kept, as booleans: each with probability 1 − p, whatever the others are."""
    threshold, key = coins(shape, p, generator, like)
    b = buffers.empty(shape, like, bool)
    _launch("coins", np.float32, b, threshold, *launch.setting(key, np.uint64))
    return b


def _drop(x, coins, *settings):
    x = array_module(x).ascontiguousarray(x)
    y = buffers.empty(x.shape, x)
    key = launch.setting(coins.key, np.uint64)
    _launch("drop", x.dtype, y, x, coins.threshold, *key, *map(float, settings))
    return y


def _launch(name, dtype, result, *args):
    """Launch a kernel that writes each element of the result; its last arguments are the size and the result."""
    launch.check_size("dropout", x=result)
    if result.size:
        kernel = launch.kernel("dropout.cu", name, dtype, THREADS=THREADS)
        kernel((launch.blocks(result.size, ELEMENTS),), (THREADS,), *args, result.size, result)
