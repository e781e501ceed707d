"""Batches: what comes, in which order, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import data

X = np.arange(20.0, dtype=np.float32).reshape(10, 2)
Y = np.arange(10)


def rows(loader):
    return [y.tolist() for _, y in loader]


def test_every_sample_comes_once_and_x_belongs_to_y():
    loader = data.Loader(X, Y, 4, seed=1)
    batches = list(loader)
    assert [len(y) for _, y in batches] == [4, 4, 2]
    assert len(loader) == 3
    assert sorted(np.concatenate([y for _, y in batches])) == list(range(10))
    for x, y in batches:
        np.testing.assert_array_equal(x[:, 0], 2 * y)


def test_drop_last_leaves_the_partial_batch_out():
    loader = data.Loader(X, Y, 4, drop_last=True)
    assert [len(y) for _, y in loader] == [4, 4]
    assert len(loader) == 2
    assert len(data.Loader(X, Y, 5, drop_last=True)) == len(data.Loader(X, Y, 5)) == 2


def test_order_depends_on_seed_and_epoch_alone():
    one, same, other = (data.Loader(X, Y, 3, seed=seed) for seed in (7, 7, 8))
    first, second = rows(one), rows(one)
    assert first != second
    assert (rows(same), rows(same)) == (first, second)
    assert rows(other) != first
    resumed = data.Loader(X, Y, 3, seed=7)
    resumed.epoch = 1
    assert rows(resumed) == second


def test_without_shuffling_the_order_is_kept():
    assert rows(data.Loader(X, Y, 4, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batches_are_copies():
    loader = data.Loader(X, Y, 10, shuffle=False)
    x, _ = next(iter(loader))
    x[...] = -1
    assert X[0, 1] == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, Y[:9]), ValueError, r"x has shape \(10, 2\) and y \(9,\)"),
        ((X[:0], Y[:0]), ValueError, "x is empty"),
        ((X, Y, 0), ValueError, "batch_size is 0"),
        ((X, Y, 2.5), ValueError, "batch_size is 2.5"),
        ((np.where(X == 5, np.nan, X), Y), ValueError, r"x contains NaN or infinite values, the first at \[2, 1\]"),
        ((X, np.where(Y == 3, np.inf, Y)), ValueError, r"y contains NaN or infinite values, the first at \[3\]"),
        ((np.array(["a"]), Y[:1]), TypeError, "x has dtype <U1"),
        ((np.float32(3), Y), ValueError, r"x has shape \(\)"),
    ],
)
def test_bad_data_is_a_clear_error(arguments, error, message):
    with pytest.raises(error, match=message):
        data.Loader(*arguments)


def test_bad_seed_and_nothing_left_to_drop():
    with pytest.raises(ValueError, match="Loader: seed is -1"):
        data.Loader(X, Y, seed=-1)
    with pytest.raises(ValueError, match="drop_last leaves nothing of 10 samples with a batch_size of 11"):
        data.Loader(X, Y, 11, drop_last=True)


def test_hold_out_splits_without_overlap():
    train, held = data.splits.hold_out(10, 0.3, seed=2)
    assert len(held) == 3
    assert sorted([*train, *held]) == list(range(10))
    np.testing.assert_array_equal(held, data.splits.hold_out(10, 0.3, seed=2)[1])
    assert not np.array_equal(held, data.splits.hold_out(10, 0.3, seed=3)[1])
    assert [len(part) for part in data.splits.hold_out(2, 0.01)] == [1, 1]
    for arguments, message in (((1,), "count is 1"), ((10, 0.0), "fraction is 0.0"), ((10, 1.0), "fraction is 1.0")):
        with pytest.raises(ValueError, match=message):
            data.splits.hold_out(*arguments)
