"""Random numbers by sample: the same for a sample, whatever else is in its batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl import threads

ROUND = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ over the golden ratio, odd: the step of SplitMix64
PIECE = 2**15  # numbers that are made at a time, in memory that stays in the cache


class SampleGenerator:
    """Draws for every sample of a batch from a stream of the sample's own.

    The numbers of a sample depend on the seed, the epoch, the sample's index in the data, and how many times something
    was drawn before; not on the other samples, their order or their number. So an image is changed in the same way in a
    batch of another size and in a run that was resumed.

    It has those methods of `numpy.random.Generator` that changes of images use, with the same arguments, but for
    `size`, which must be given and whose first axis is the batch. What is drawn is a NumPy array on every device.

    Parameters
    ----------
    seed, epoch : int, not negative
    samples : (B,) integers
        The indices in the data of the samples in this batch.

    Notes
    -----
    Each stream is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators") from a
    start of its own, made from the four numbers by the same mixing. Being a function of the place in the stream, it is
    evaluated for a whole batch at once.

    Examples
    --------
    >>> generator = data.SampleGenerator(0, epoch=3, samples=[17, 4])
    >>> angles = generator.uniform(-15, 15, size=2)  # of the samples 17 and 4
    >>> again = data.SampleGenerator(0, epoch=3, samples=[4, 17]).uniform(-15, 15, size=2)
    >>> np.array_equal(again, angles[::-1])
    True
    """

    def __init__(self, seed: int, epoch: int, samples: Any) -> None:
        start = np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(1, np.uint64)
        self._keys = _mixed(start + np.asarray(samples, np.uint64) * ROUND)
        self.draws = 0

    def __repr__(self) -> str:
        return f"SampleGenerator of {len(self._keys)} samples, {self.draws} draws made"

    def random(self, size: Any = None, dtype: Any = np.float64) -> Any:
        """Return numbers that are uniform in [0, 1)."""
        shape, dtype = self._shape(size, "random"), _floating(dtype, "random")
        if dtype == np.float32:
            return self._drawn(shape, dtype, 2, lambda bits: _halves(bits) >> np.uint32(8), 2.0**-24)
        return self._drawn(shape, dtype, 1, lambda bits: bits >> np.uint64(11), 2.0**-53)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Return numbers that are uniform in [low, high); both may be arrays that broadcast to `size`."""
        self._shape(size, "uniform")
        return np.asarray(low) + np.subtract(high, low) * self.random(size)

    def integers(
        self, low: Any, high: Any = None, size: Any = None, dtype: Any = np.int64, endpoint: bool = False
    ) -> Any:
        """Return integers that are uniform in [low, high), or in [0, low) if `high` is None.

        With `endpoint` the upper bound may come too. Both may be arrays that broadcast to `size`.
        """
        low, high = (0, low) if high is None else (low, high)
        count = np.subtract(high, low) + endpoint
        if np.any(count <= 0):
            raise ValueError(f"SampleGenerator.integers: low is {low} and high {high}, expected low < high")
        self._shape(size, "integers")
        # min: the product rounds up to `count` where that is huge
        return (np.asarray(low) + np.minimum(np.floor(self.random(size) * count), count - 1)).astype(dtype)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64) -> Any:
        """Return numbers from the normal distribution of mean 0 and deviation 1, by the method of Box and Muller."""
        shape, dtype = self._shape(size, "standard_normal"), _floating(dtype, "standard_normal")
        if dtype == np.float32:
            return self._drawn(shape, dtype, 2, _normal_pairs)
        angle = self.random(shape)
        radius = np.sqrt(-2 * np.log1p(-self.random(shape)))
        return radius * np.cos(2 * np.pi * angle)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Return numbers from the normal distribution of this mean and deviation."""
        self._shape(size, "normal")
        return loc + scale * self.standard_normal(size)

    def beta(self, a: Any, b: Any, size: Any = None) -> Any:
        """Return numbers from the beta distribution, by its inverse."""
        from scipy import special  # here, because it takes a while to import

        self._shape(size, "beta")
        return special.betaincinv(a, b, self.random(size))

    def _shape(self, size: Any, who: str) -> tuple[int, ...]:
        shape = () if size is None else tuple(size) if isinstance(size, (tuple, list)) else (size,)
        if not shape or shape[0] != len(self._keys):
            raise ValueError(
                f"SampleGenerator.{who}: size is {size}, expected {len(self._keys)} or ({len(self._keys)}, …), "
                "so that every sample of the batch has numbers of its own"
            )
        return shape

    def _drawn(self, shape: tuple[int, ...], dtype: Any, per_hash: int, convert: Any, factor: float = 1.0) -> Any:
        """Return `convert` of the next hashes of each sample, `per_hash` numbers of each, times a factor."""
        self.draws += 1
        keys = _mixed(self._keys + _mixed(np.array([self.draws], np.uint64) * ROUND))
        count = math.prod(shape[1:])
        places = np.arange(1, -(-count // per_hash) + 1, dtype=np.uint64) * ROUND
        drawn = np.empty((len(keys), count), dtype)

        def draw(rows: slice) -> None:
            bits = _mixed(keys[rows, None] + places)
            np.multiply(convert(bits)[:, :count], dtype.type(factor), out=drawn[rows], casting="unsafe")

        step = max(1, PIECE // max(1, len(places)))
        threads.share(draw, [slice(i, i + step) for i in range(0, len(keys), step)])
        return drawn.reshape(shape)


def _mixed(z: Any) -> Any:
    """Return SplitMix64's bijection of 64-bit integers, computed in the memory of `z`."""
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _halves(bits: Any) -> Any:
    """Return the two 32-bit integers that each 64-bit integer is made of, the lower one first."""
    return bits.astype("<u8", copy=False).view("<u4")


def _normal_pairs(bits: Any) -> Any:
    """Return two normal float32 for each 64-bit integer."""
    radius, angle = (_halves(bits)[:, i::2].astype(np.float32) for i in (0, 1))
    radius += np.float32(0.5)
    radius *= np.float32(2.0**-32)  # in (0, 1]
    np.sqrt(np.float32(-2) * np.log(radius), out=radius)
    angle *= np.float32(2 * np.pi * 2.0**-32)
    pairs = np.empty((len(bits), 2 * bits.shape[1]), np.float32)
    np.multiply(radius, np.cos(angle), out=pairs[:, 0::2])
    np.multiply(radius, np.sin(angle), out=pairs[:, 1::2])
    return pairs


def _floating(dtype: Any, who: str) -> Any:
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"SampleGenerator.{who}: dtype is {dtype}, expected float32 or float64")
    return dtype
