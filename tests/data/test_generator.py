"""Random numbers by sample: whose they are, and how they are distributed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from minidl import data, threads

DRAWS = {
    "random": lambda g, n: g.random(n),
    "random of three": lambda g, n: g.random((n, 3)),
    "float32": lambda g, n: g.random((n, 5), dtype=np.float32),
    "uniform": lambda g, n: g.uniform(-1, 2, (n, 2)),
    "integers": lambda g, n: g.integers(3, 9, size=n),
    "normal": lambda g, n: g.normal(1, 2, (n, 3)),
    "standard_normal": lambda g, n: g.standard_normal((n, 7), dtype=np.float32),
    "beta": lambda g, n: g.beta(0.4, 0.4, n),
}


@given(
    samples=st.lists(st.integers(0, 2**40), min_size=1, max_size=12, unique=True),
    seed=st.integers(0, 2**80),
    epoch=st.integers(0, 1000),
    names=st.lists(st.sampled_from(sorted(DRAWS)), min_size=1, max_size=4),
    pick=st.randoms(use_true_random=False),
)
def test_the_numbers_of_a_sample_do_not_depend_on_its_batch(samples, seed, epoch, names, pick):
    whole = data.SampleGenerator(seed, epoch, samples)
    places = pick.sample(range(len(samples)), pick.randint(1, len(samples)))
    part = data.SampleGenerator(seed, epoch, [samples[i] for i in places])
    for name in names:
        expected = DRAWS[name](whole, len(samples))[places]
        assert DRAWS[name](part, len(places)).tobytes() == expected.tobytes()


def test_seed_epoch_sample_and_draw_all_make_a_difference():
    streams = [
        data.SampleGenerator(seed, epoch, range(50)).random((50, 4)) for seed in (0, 1, 2**64) for epoch in (0, 1)
    ]
    generator = data.SampleGenerator(7, 0, range(50))
    streams += [generator.random((50, 4)), generator.random((50, 4))]
    assert generator.draws == 2
    assert len({float(number) for stream in streams for number in stream.ravel()}) == 8 * 200


def test_the_numbers_are_these():
    """Pinned: runs that were saved go on with the same images."""
    generator = data.SampleGenerator(5, 2, [0, 41])
    np.testing.assert_allclose(generator.random(2), PINNED["random"], rtol=1e-15)
    np.testing.assert_array_equal(generator.integers(1000, size=2), PINNED["integers"])
    np.testing.assert_allclose(generator.standard_normal((2, 2), dtype=np.float32), PINNED["normal"], rtol=1e-6)


PINNED = {
    "random": [0.7481664658282211, 0.6795514294257402],
    "integers": [303, 889],
    "normal": [[0.4246081, -1.949018], [0.06002763, -0.5563304]],
}


def test_a_stream_is_splitmix64():
    mask, step = 2**64 - 1, 0x9E3779B97F4A7C15

    def mixed(z):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    assert mixed(1234567 + step) == 6457827717110365317, "the generator's published first number"
    start = int(np.random.SeedSequence(5, spawn_key=(2,)).generate_state(1, np.uint64)[0])
    state = mixed((mixed((start + 41 * step) & mask) + mixed(step)) & mask)
    expected = [(mixed((state + n * step) & mask) >> 11) / 2**53 for n in (1, 2, 3)]
    assert data.SampleGenerator(5, 2, [41]).random((1, 3)).ravel().tolist() == expected


def shapes_of_a_large_draw():
    # along a stream, and across samples and across epochs at one place of it
    one = lambda draw: draw(data.SampleGenerator(0, 0, [3]), (1, 100_000)).ravel()
    across = lambda draw: draw(data.SampleGenerator(0, 0, np.arange(100_000)), (100_000,))
    epochs = lambda draw: np.concatenate([draw(data.SampleGenerator(0, e, range(100)), (100,)) for e in range(100)])
    return {"stream": one, "samples": across, "epochs": epochs}


@pytest.mark.parametrize("along", sorted(shapes_of_a_large_draw()))
def test_distributions(along):
    sample = shapes_of_a_large_draw()[along]
    for dtype in (np.float32, np.float64):
        uniform = sample(lambda g, size: g.random(size, dtype=dtype))
        assert uniform.dtype == dtype
        assert 0 <= uniform.min() <= uniform.max() < 1
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3
        normal = sample(lambda g, size: g.standard_normal(size, dtype=dtype))
        assert normal.dtype == dtype
        assert stats.kstest(normal, "norm").pvalue > 1e-3
        for numbers in (uniform, normal):
            assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 5 / np.sqrt(len(numbers))
    integers = sample(lambda g, size: g.integers(-2, 5, size=size))
    counts = np.bincount(integers + 2, minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 1e-3
    assert stats.kstest(sample(lambda g, size: g.beta(0.3, 0.3, size)), stats.beta(0.3, 0.3).cdf).pvalue > 1e-3
    low_bits = (sample(lambda g, size: g.random(size)) * 2**53).astype(np.int64) & 255
    assert stats.chisquare(np.bincount(low_bits, minlength=256)).pvalue > 1e-3


def test_draws_of_neighbouring_samples_epochs_and_draws_are_independent():
    def draws(seed, epoch, first):
        generator = data.SampleGenerator(seed, epoch, np.arange(first, first + 20_000))
        return [generator.random(20_000), generator.random(20_000)]

    series = [*draws(0, 0, 0), *draws(0, 1, 0), *draws(1, 0, 0), *draws(0, 0, 1)]
    correlations = np.corrcoef(series)
    np.fill_diagonal(correlations, 0)
    assert abs(correlations).max() < 5 / np.sqrt(20_000)


def test_the_two_normal_numbers_of_a_pair_are_independent():
    pairs = data.SampleGenerator(0, 0, [0]).standard_normal((1, 100_000), dtype=np.float32).reshape(-1, 2)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.015
    assert abs(np.corrcoef((pairs**2).T)[0, 1]) < 0.015
    assert stats.kstest(np.sqrt((pairs**2).sum(axis=1)), "rayleigh").pvalue > 1e-3


def test_arguments_are_those_of_numpy():
    generator = data.SampleGenerator(0, 0, range(3))
    assert generator.integers(1, 1, size=3, endpoint=True).tolist() == [1, 1, 1]
    assert generator.integers(1, size=(3, 2)).tolist() == [[0, 0]] * 3
    assert generator.integers(2, size=3, dtype=np.int8).dtype == np.int8
    bounds = generator.uniform([0, 10, 20], [1, 11, 21], 3)
    assert np.floor(bounds).tolist() == [0, 10, 20]
    assert (np.diff(generator.integers([0, 5, 9], [1, 6, 10], size=3)) > 0).all()
    assert generator.random((3, 0)).shape == (3, 0)
    assert data.SampleGenerator(0, 0, []).standard_normal((0, 4)).shape == (0, 4)
    assert repr(generator) == "SampleGenerator of 3 samples, 6 draws made"


@pytest.mark.parametrize("size", [None, 2, (2, 3), (), (1,)])
@pytest.mark.parametrize("name", ["random", "standard_normal", "uniform", "normal", "integers", "beta"])
def test_a_size_without_the_batch_is_a_clear_error(name, size):
    generator = data.SampleGenerator(0, 0, range(3))
    arguments = {"integers": (5,), "beta": (1, 1)}.get(name, ())
    with pytest.raises(ValueError, match=rf"SampleGenerator.{name}: size is .*, expected 3 or \(3, …\)"):
        getattr(generator, name)(*arguments, size=size)


def test_other_bad_arguments_are_clear_errors():
    generator = data.SampleGenerator(0, 0, range(3))
    with pytest.raises(ValueError, match="low is 4 and high 4, expected low < high"):
        generator.integers(4, 4, size=3)
    with pytest.raises(TypeError, match="SampleGenerator.random: dtype is int64, expected float32 or float64"):
        generator.random(3, dtype=np.int64)


def test_the_numbers_do_not_depend_on_the_threads():
    def draw(count):
        threads.set_threads(count)
        try:
            return data.SampleGenerator(1, 1, range(64)).standard_normal((64, 3000), dtype=np.float32).tobytes()
        finally:
            threads.set_threads(None)

    assert draw(1) == draw(3)
