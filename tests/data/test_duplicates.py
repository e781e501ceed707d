"""Duplicates: all pairs that correlate enough and no other, found by comparing small features first."""

from __future__ import annotations

import re
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl import data
from minidl.data import duplicates as function
from minidl.data.duplicates import _features, _scaled

MODULE = sys.modules["minidl.data.duplicates"]  # whose name in the package is the function's


def by_definition(x, similarity):
    """Return the groups by comparing every pair, and merging until nothing changes."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    group = list(range(len(x)))
    for i in range(len(x)):
        for j in range(i):
            a, b = flat[i] - flat[i].mean(), flat[j] - flat[j].mean()
            norm = np.sqrt((a @ a) * (b @ b))
            if np.array_equal(x[i], x[j]) or (similarity < 1 and norm > 0 and a @ b / norm >= similarity):
                group = [group[j] if g == group[i] else g for g in group]
    groups = {}
    for i, g in enumerate(group):
        groups.setdefault(g, []).append(i)
    return sorted(members for members in groups.values() if len(members) > 1)


def as_lists(found):
    return [group.tolist() for group in found.groups]


@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([1, 3]),
    similarity=st.sampled_from([0.5, 0.9, 0.99, 1.0]),
    as_bytes=st.booleans(),
)
def test_the_groups_are_those_of_comparing_every_pair(seed, size, channels, similarity, as_bytes):
    rng = np.random.default_rng(seed)
    x = rng.random((6, *size, channels))
    copies = x[rng.integers(0, 6, 10)] * rng.uniform(0.3, 1, (10, 1, 1, 1))
    x = np.concatenate([x, x[:2], copies + rng.choice([0, 0.02, 0.3], (10, 1, 1, 1)) * rng.random(copies.shape)])
    x = rng.permutation(np.concatenate([x, np.zeros_like(x[:2]), np.ones_like(x[:1])]))
    x = (x.clip(0, 1) * 255).astype(np.uint8) if as_bytes else x.astype(np.float32)
    assert as_lists(function(x, similarity=similarity)) == by_definition(x, similarity)


@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    channels=st.sampled_from([1, 3]),
)
def test_features_differ_by_no_more_than_the_images(seed, size, channels):
    x = _scaled(np.random.default_rng(seed).random((12, *size, channels)))
    features = _features(x).astype(np.float64)
    of_images = ((x[:, None] - x[None]) ** 2).sum(axis=(2, 3, 4))
    of_features = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    assert (of_features <= of_images + 1e-6).all()
    flat = np.repeat(np.repeat(np.random.default_rng(seed).random((12, 2, 3, 1)), 4, axis=1), 4, axis=2)
    flat = _scaled(flat)  # images that are constant in each square lose nothing
    features = _features(flat)
    np.testing.assert_allclose(features @ features.T, np.einsum("ihwc,jhwc->ij", flat, flat), atol=1e-6)


@pytest.fixture
def photographs():
    """Return 40 smooth images of bytes; 30 is 3 once more, 31 brighter, 32 with less contrast, 33 is noisy."""
    rng = np.random.default_rng(0)
    x = data.sharpening.blur(rng.random((40, 16, 16, 3)), 7)
    x = ((x - x.min()) / np.ptp(x) * 120).round().astype(np.uint8)
    x[30], x[31], x[32] = x[3], x[3] + 100, (0.5 * x[3]).round()
    x[33] = x[7] + rng.integers(0, 9, x[7].shape, dtype=np.uint8)
    return x


def test_brightness_and_contrast_make_no_difference(photographs):
    labels = np.arange(40) // 10
    labels[33] = 0
    found = function(photographs, labels, similarity=0.98)
    assert as_lists(found) == [[3, 30, 31, 32], [7, 33]]
    assert found.exact == [False, False]
    assert found.surplus.tolist() == [30, 31, 32, 33]
    assert found.kept.tolist() == [*range(30), *range(34, 40)]
    assert found.conflicts == [0]
    correlation = np.corrcoef(photographs[7].ravel(), photographs[33].ravel())[0, 1]
    assert found.similarity[1] == pytest.approx(correlation, rel=1e-9)
    pairs = [np.corrcoef(photographs[3].ravel(), photographs[i].ravel())[0, 1] for i in (31, 32)]
    assert found.similarity[0] <= min(pairs) + 1e-9
    assert len(function(np.delete(photographs, found.surplus, axis=0), similarity=0.98).groups) == 0


def test_equal_images_alone(photographs):
    found = function(photographs, similarity=1)
    assert as_lists(found) == [[3, 30]]
    assert found.exact == [True]
    assert found.similarity == [1.0]
    assert found.conflicts == []
    other = photographs[[3, 3]]
    other[1, -1, -1, -1] ^= 1
    assert as_lists(function(other, similarity=1)) == [], "the last bit counts"
    negative = np.array([0.0, -0.0], np.float32).reshape(2, 1, 1, 1)
    assert as_lists(function(negative)) == [], "other bytes, and no structure to compare"


def test_a_group_of_equal_and_similar_images_is_not_exact(photographs):
    assert function(photographs[[3, 30]]).exact == [True]
    assert function(photographs[[3, 30, 31]]).exact == [False]


def test_the_report(photographs):
    labels = np.arange(40) // 10
    labels[33] = 0
    text = str(function(photographs, labels, similarity=0.98))
    assert text.startswith("duplicates among 40 images: 2 groups, 0 of them exact, 4 images too many\n")
    assert re.search(
        r"\n +3, 30, 31, 32 +0, 3 +0\.99\d\d\n +7, 33 +0 +0\.9[89]\d\d\n1 groups have different labels$", text
    )
    many = np.repeat(np.random.default_rng(0).random((30, 4, 4, 1)), 12, axis=0)
    text = str(function(many))
    assert text.startswith("duplicates among 360 images: 30 groups, 30 of them exact, 330 images too many\n")
    assert "0, 1, 2, 3, 4, 5, 6, 7, …" in text
    assert text.endswith("… 10 more")
    assert str(function(many[::12])).startswith("duplicates among 30 images: 0 groups")


def test_pairs_of_all_blocks_are_compared_without_a_matrix_of_all(monkeypatch):
    monkeypatch.setattr(MODULE, "BLOCK", 64)
    rng = np.random.default_rng(1)
    x = np.repeat(np.repeat(rng.random((3000, 3, 3, 1)), 4, axis=1), 4, axis=2).astype(np.float32)
    planted = [(0, 63), (5, 2999), (64, 2000), (127, 128), (1500, 1501)]
    for first, second in planted:
        x[second] = x[first] * 0.5
    tracemalloc.start()
    found = function(x, similarity=0.9999)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert as_lists(found) == [list(pair) for pair in sorted(planted)]
    assert peak < 3000**2 * 4 / 4


def test_too_many_pairs_are_refused(monkeypatch):
    monkeypatch.setattr(MODULE, "MOST_PAIRS", 100)
    ramps = np.linspace(0, 1, 16).reshape(1, 4, 4, 1) * np.linspace(0.5, 1, 20).reshape(20, 1, 1, 1)
    with pytest.raises(ValueError, match="duplicates: more than 100 pairs correlate by 0.99; take a higher similarity"):
        function(ramps)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((np.zeros((4, 4, 1)),), {}, r"duplicates: x has shape \(4, 4, 1\), expected images \(N, H, W, C\)"),
        ((np.zeros((0, 4, 4, 1)),), {}, r"x has shape \(0, 4, 4, 1\)"),
        ((np.full((2, 4, 4, 1), np.nan),), {}, "x contains NaN or infinite values"),
        ((np.zeros((2, 4, 4, 1)), [1]), {}, r"labels have shape \(1,\), expected \(2,\)"),
        ((np.zeros((2, 4, 4, 1)),), {"similarity": 0}, r"similarity is 0, expected a number in \(0, 1\]"),
        ((np.zeros((2, 4, 4, 1)),), {"similarity": 1.1}, "similarity is 1.1"),
        ((np.zeros((2, 4, 4, 1)),), {"similarity": np.nan}, "similarity is nan"),
    ],
)
def test_bad_arguments_are_clear_errors(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments, **settings)


@pytest.mark.parametrize("similarity", ["1", None, True, [0.9]])
def test_a_similarity_that_is_no_number_is_named(similarity):
    expected = f"duplicates: similarity is {similarity!r}, expected a number"
    with pytest.raises(TypeError, match=re.escape(expected)):
        function(np.zeros((2, 4, 4, 1)), similarity=similarity)


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128", "object"])
@pytest.mark.parametrize("shape", [(2, 4, 4, 1), (2, 4)])
def test_a_dtype_that_images_do_not_have_is_named(dtype, shape):
    expected = f"^duplicates: x has dtype {dtype}, expected uint8 or floating-point numbers$"
    with pytest.raises(TypeError, match=expected):
        function(np.zeros(shape, dtype))
