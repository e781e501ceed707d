"""Index splitters: complete, disjoint, seeded, and scikit-learn's where they define the same thing."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl.data import splits

SEEDS = st.integers(0, 100)


def pairs(made):
    return [(train.tolist(), held.tolist()) for train, held in made]


def check(made, count, number):
    """Check what holds for all splitters, and return the pairs."""
    assert (made.samples, made.number, len(made)) == (count, number, number)
    found = pairs(made)
    assert len(found) == number
    assert pairs(made) == found, "it can be gone through again"
    for train, held in made:
        assert train.dtype.kind == held.dtype.kind == "i"
        assert len(train)
        assert len(held)
        assert sorted([*train, *held]) == list(range(count))
        assert (np.diff(train) > 0).all()
        assert (np.diff(held) > 0).all()
    return found


def held_once(found, count):
    return sorted(itertools.chain.from_iterable(held for _, held in found)) == list(range(count))


@pytest.fixture
def sklearn():
    return pytest.importorskip("sklearn.model_selection", reason="needs the extra 'test': pip install '.[test]'")


# ---------------------------------------------------------------- k-fold


@given(count=st.integers(2, 60), k=st.integers(2, 12), seed=st.none() | SEEDS)
def test_each_sample_is_held_out_in_one_of_the_k_folds(count, k, seed):
    k = min(k, count)
    found = check(splits.k_fold(count, k, seed=seed), count, k)
    assert held_once(found, count)
    sizes = [len(held) for _, held in found]
    assert max(sizes) - min(sizes) <= 1


@given(count=st.integers(2, 60), k=st.integers(2, 12), seed=SEEDS)
def test_k_fold_is_scikit_learns(count, k, seed):
    sklearn = pytest.importorskip("sklearn.model_selection")
    k = min(k, count)
    theirs = pairs(sklearn.KFold(k).split(np.zeros(count)))
    assert pairs(splits.k_fold(count, k, seed=None)) == theirs
    order = np.random.default_rng(seed).permutation(count)  # they draw from another generator
    dealt = [(sorted(order[train]), sorted(order[held])) for train, held in theirs]
    assert pairs(splits.k_fold(count, k, seed=seed)) == dealt


def test_the_order_is_that_of_the_seed():
    assert splits.k_fold(100).number == splits.stratified_k_fold([0, 1] * 50).number == 10
    for made in (
        lambda seed: splits.k_fold(30, 3, seed=seed),
        lambda seed: splits.stratified_k_fold([0, 1] * 15, 3, seed=seed),
        lambda seed: splits.repeated(30, 3, seed=seed),
    ):
        assert pairs(made(1)) == pairs(made(1)) != pairs(made(2))


# ---------------------------------------------------------------- stratified


@st.composite
def labelled(draw):
    """Return k and labels of which each class has at least k, in any order."""
    k = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.integers(k, 4 * k), min_size=1, max_size=5))
    labels = np.repeat(draw(st.permutations(range(7)))[: len(sizes)], sizes)
    return k, np.random.default_rng(draw(SEEDS)).permutation(labels)


@given(labelled(), st.none() | SEEDS)
def test_every_fold_has_the_classes_in_the_same_proportions(drawn, seed):
    k, labels = drawn
    found = check(splits.stratified_k_fold(labels, k, seed=seed), len(labels), k)
    assert held_once(found, len(labels))
    for label in np.unique(labels):
        of_it = [np.count_nonzero(labels[held] == label) for _, held in found]
        assert max(of_it) - min(of_it) <= 1
    sizes = [len(held) for _, held in found]
    assert max(sizes) - min(sizes) <= 1


@given(labelled(), SEEDS)
def test_stratified_k_fold_is_scikit_learns(drawn, seed):
    sklearn = pytest.importorskip("sklearn.model_selection")
    k, labels = drawn
    theirs = pairs(sklearn.StratifiedKFold(k).split(labels, labels))
    assert pairs(splits.stratified_k_fold(labels, k, seed=None)) == theirs
    names = np.array([f"class {label}" for label in labels])
    assert pairs(splits.stratified_k_fold(names, k, seed=None)) == theirs
    order = np.random.default_rng(seed).permutation(len(labels))
    dealt = sklearn.StratifiedKFold(k).split(labels, labels[order])
    expected = [(sorted(order[train]), sorted(order[held])) for train, held in dealt]
    assert pairs(splits.stratified_k_fold(labels, k, seed=seed)) == expected


def test_a_rare_class_is_warned_of_and_only_rare_classes_are_refused(sklearn):
    labels = np.array([0] * 9 + [1] * 2)
    with pytest.warns(
        UserWarning, match="stratified_k_fold: class 1 has 2 samples, so that some of the 3 folds have none"
    ):
        made = splits.stratified_k_fold(labels, 3, seed=None)
    with warnings.catch_warnings(action="ignore"):
        assert pairs(made) == pairs(sklearn.StratifiedKFold(3).split(labels, labels))
    with pytest.raises(ValueError, match="stratified_k_fold: k is 4, but no class has more than 3 samples"):
        splits.stratified_k_fold([0, 0, 0, 1, 1, 1], 4)


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    fraction=st.floats(0.02, 1),
    smaller=st.floats(0.02, 1),
    seed=SEEDS,
)
def test_a_stratified_part_has_its_share_of_each_class_and_contains_the_smaller_ones(labels, fraction, smaller, seed):
    labels = np.array(labels)
    if round(fraction * smaller * len(labels)) == 0:
        return
    part = splits.stratified(labels, fraction, seed=seed)
    assert len(part) == round(fraction * len(labels))
    assert (np.diff(part) > 0).all()
    kinds, sizes = np.unique(labels, return_counts=True)
    for label, size in zip(kinds, sizes, strict=True):
        taken = np.count_nonzero(labels[part] == label)
        assert abs(taken - fraction * size) < 1 + (len(kinds) + 1) * size / len(labels)
    assert set(splits.stratified(labels, fraction * smaller, seed=seed)) <= set(part)


def test_stratified_parts_of_balanced_classes_are_balanced():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 80))
    for fraction in (1, 1 / 2, 1 / 4, 1 / 8):
        part = splits.stratified(labels, fraction, seed=3)
        assert np.bincount(labels[part]).tolist() == [80 * fraction] * 10
    assert not np.array_equal(part, splits.stratified(labels, 1 / 8, seed=4))
    assert np.array_equal(part, splits.stratified(labels, 1 / 8, seed=3))
    assert splits.stratified(labels, 1).tolist() == list(range(800))


def test_single_samples_are_in_the_part_as_often_as_they_should_be():
    labels = np.concatenate([np.arange(10), np.full(90, 10)])  # ten classes of one, one of ninety
    parts = [splits.stratified(labels, 0.4, seed=seed) for seed in range(400)]
    rare = np.mean([np.count_nonzero(part < 10) for part in parts])
    assert rare == pytest.approx(4, abs=0.3)  # 4 standard deviations of the mean


def test_every_sample_is_as_likely_to_be_in_the_part():
    labels = np.repeat([0, 1], [30, 10])
    counts = np.zeros(40)
    for seed in range(600):
        counts[splits.stratified(labels, 0.25, seed=seed)] += 1
    assert np.abs(counts / 600 - 0.25).max() < 4.5 * math.sqrt(0.25 * 0.75 / 600)


# ---------------------------------------------------------------- random and exhaustive ones


@given(count=st.integers(2, 50), repeats=st.integers(1, 6), fraction=st.floats(0.01, 0.99), seed=SEEDS)
def test_repeated_sub_sampling_holds_out_a_fraction_each_time(count, repeats, fraction, seed):
    found = check(splits.repeated(count, repeats, fraction, seed=seed), count, repeats)
    held = len(splits.hold_out(count, fraction)[1])
    assert {len(part) for _, part in found} == {held}
    assert pairs(splits.repeated(count, repeats + 2, fraction, seed=seed))[:repeats] == found


def test_repeated_sub_samples_differ_and_are_uniform():
    found = pairs(splits.repeated(20, 1500, 0.3, seed=1))
    assert len({tuple(held) for _, held in found}) > 1400
    often = np.bincount(np.concatenate([held for _, held in found])) / 1500
    assert np.abs(often - 0.3).max() < 4 * math.sqrt(0.3 * 0.7 / 1500)


@pytest.mark.parametrize(("count", "p"), [(2, 1), (5, 1), (6, 2), (6, 5), (7, 3)])
def test_leave_p_out_is_scikit_learns(sklearn, count, p):
    found = check(splits.leave_p_out(count, p), count, math.comb(count, p))
    assert found == pairs(sklearn.LeavePOut(p).split(np.zeros(count)))
    if p == 1:
        one = check(splits.leave_one_out(count), count, count)
        assert one == found == pairs(sklearn.LeaveOneOut().split(np.zeros(count)))


def test_very_many_splits_are_made_one_at_a_time():
    made = splits.leave_p_out(1000, 20)
    assert made.number == math.comb(1000, 20)
    _, held = next(iter(made))
    assert held.tolist() == list(range(20))
    assert repr(splits.leave_p_out(20_000, 10_000)) == "leave_p_out of 20,000 samples"
    assert made
    with pytest.raises(OverflowError):
        len(made)


def test_labels_may_be_strings_in_an_array_of_objects():
    labels = np.array(["cat", "dog", "cat", "dog"], object)
    assert splits.stratified(labels, 0.5).tolist() == splits.stratified([0, 1, 0, 1], 0.5).tolist()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: splits.k_fold(9),
            ValueError,
            "k_fold: there are 9 samples, expected at least one for each of 10 folds",
        ),
        (lambda: splits.k_fold(9.0, 3), ValueError, "k_fold: count is 9.0, expected an integer"),
        (lambda: splits.hold_out(10, "0.3"), ValueError, "hold_out: fraction is '0.3', expected a number"),
        (lambda: splits.k_fold(9, 1), ValueError, "k_fold: k is 1, expected an integer of at least 2"),
        (lambda: splits.k_fold(9, 2.0), ValueError, "k_fold: k is 2.0"),
        (lambda: splits.k_fold(9, 3, seed=-1), ValueError, "k_fold: seed is -1"),
        (lambda: splits.k_fold(9, 3, seed="x"), TypeError, "k_fold: seed is 'x'"),
        (lambda: splits.stratified_k_fold([0, 0, 1], 1), ValueError, "stratified_k_fold: k is 1"),
        (lambda: splits.stratified_k_fold([[0], [1]], 2), ValueError, r"labels have shape \(2, 1\) and dtype int64"),
        (lambda: splits.stratified_k_fold([0.5, 1], 2), ValueError, "dtype float64, expected integers or strings"),
        (lambda: splits.stratified([], 0.5), ValueError, r"stratified: labels have shape \(0,\)"),
        (lambda: splits.stratified([0, 1], 0), ValueError, "stratified: fraction is 0, expected a number above 0"),
        (lambda: splits.stratified([0, 1], 1.5), ValueError, "stratified: fraction is 1.5"),
        (lambda: splits.stratified([0, 1], math.nan), ValueError, "stratified: fraction is nan"),
        (lambda: splits.stratified([0, 1], 0.1), ValueError, "fraction is 0.1, which leaves nothing of 2 samples"),
        (lambda: splits.repeated(1), ValueError, "repeated: count is 1, expected an integer of at least 2"),
        (lambda: splits.repeated(5, 0), ValueError, "repeated: repeats is 0"),
        (lambda: splits.repeated(5, 2, 1), ValueError, "repeated: fraction is 1, expected a number between 0 and 1"),
        (lambda: splits.repeated(5, 2, seed=-1), ValueError, "repeated: seed is -1"),
        (lambda: splits.leave_p_out(5, 0), ValueError, "leave_p_out: p is 0"),
        (lambda: splits.leave_p_out(5, 5), ValueError, "leave_p_out: count is 5, expected an integer of at least 6"),
        (lambda: splits.leave_one_out(1), ValueError, "leave_one_out: count is 1, expected an integer of at least 2"),
        (lambda: splits.leave_one_out(True), ValueError, "leave_one_out: count is True"),
    ],
)
def test_bad_arguments_are_clear_errors_at_once(make, error, message):
    with pytest.raises(error, match=message):
        make()
