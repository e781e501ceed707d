"""The coins of dropout: exact probabilities, independence, the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from minidl.kernels.numpy import dropout


class Bytes:
    """A generator of given bytes, and of given numbers for what they leave open."""

    def __init__(self, count, numbers=()):
        self.count, self.numbers = count, list(numbers)

    def integers(self, low, high, size, dtype, endpoint):
        assert (low, high, dtype, endpoint) == (0, 2**64 - 1, np.uint64, True)
        return np.resize(np.arange(256, dtype=np.uint8), 8 * size).view("<u8").astype(np.uint64)

    def random(self, count):
        numbers, self.numbers = self.numbers[:count], self.numbers[count:]
        assert len(numbers) == count
        return np.array(numbers)


@pytest.mark.parametrize("p", [1e-9, 0.001, 0.1, 0.3, 0.5, 1 / 256, 255 / 256, 0.9, 1 - 1e-9])
def test_each_of_256_bytes_drops_its_share(p):
    """Over all 256 bytes, floor(256 p) are dropped for sure, and one with the probability that is missing to 256 p."""
    threshold, rest = int(256 * p), 256 * p - int(256 * p)
    if rest == 0:
        assert 256 - dropout.kept((256,), p, Bytes(256)).sum() == threshold
        return
    just_below, at = np.nextafter(rest, 0), rest
    assert 256 - dropout.kept((256,), p, Bytes(256, [just_below])).sum() == threshold + 1
    assert 256 - dropout.kept((256,), p, Bytes(256, [at])).sum() == threshold


@pytest.mark.parametrize("p", [0, 1, 0.0, 1.0])
def test_certain_coins_draw_nothing(p):
    generator = np.random.default_rng(0)
    assert (dropout.kept((3, 4), p, generator) == (p == 0)).all()
    assert generator.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("p", [0.001, 0.1, 0.3, 0.5, 0.999])
def test_share_and_neighbours(p):
    """The share of dropped elements and of dropped pairs at several distances, within 5 standard errors."""
    n = 2_000_000
    dropped = ~dropout.kept((n,), p, np.random.default_rng(1))
    assert abs(dropped.mean() - p) < 5 * np.sqrt(p * (1 - p) / n)
    for distance in (1, 2, 3, 4, 7, 8, 9, 64):
        pairs = (dropped[distance:] & dropped[:-distance]).mean()
        assert abs(pairs - p * p) < 5 * np.sqrt((p**2 * (1 - p**2) + 2 * p**3 * (1 - p)) / n)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.SFC64, np.random.Philox])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (1000,)])
def test_masks_are_reproducible(bits, shape):
    one, other = (dropout.kept(shape, 0.3, np.random.Generator(bits(5))) for _ in range(2))
    assert one.shape == shape
    assert one.dtype == bool
    np.testing.assert_array_equal(one, other)


def test_a_mask_that_is_written_down():
    """Any change of how masks are drawn changes every seeded experiment: this must be on purpose."""
    mask = dropout.kept((24,), 0.3, np.random.default_rng(0))
    assert "".join("01"[int(each)] for each in mask) == "111111010111110011111010"
