"""Batches: what comes, in which order, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minidl import backend, data

from standin import transfers

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


# ---------------------------------------------------------------- passes begun in the middle, and augmentation


def noisy(x, generator):
    return x + generator.standard_normal(x.shape, dtype=np.float32)


def batches(iterator):
    return [(x.tolist(), y.tolist()) for x, y in iterator]


@pytest.mark.parametrize("augment", [None, noisy])
def test_the_rest_of_a_pass_is_that_of_the_one_begun_last(augment):
    whole = data.Loader(X, Y, 3, seed=7, augment=augment)
    passes = [batches(whole), batches(whole)]
    for begun in (1, 2):
        for done in range(5):
            loader = data.Loader(X, Y, 3, seed=7, augment=augment)
            loader.epoch = begun
            assert batches(loader.rest(done)) == passes[begun - 1][done:]
            assert loader.epoch == begun


def test_batches_that_are_done_are_not_loaded():
    class Watched(np.ndarray):
        def __getitem__(self, rows):
            taken.append(len(rows))
            return np.asarray(self)[rows]

    taken = []
    loader = data.Loader(X, Y, 3, augment=lambda x, generator: taken.append("augmented") or x)
    loader.x, loader.epoch = X.view(Watched), 1
    list(loader.rest(2))
    assert taken == [3, "augmented", 1, "augmented"]


@pytest.mark.parametrize("done", [-1, 5, 1.0, None])
def test_a_bad_rest_is_a_clear_error_at_once(done):
    loader = data.Loader(X, Y, 3)
    with pytest.raises(ValueError, match="Loader.rest: no pass was begun"):
        loader.rest(1)
    loader.epoch = 1
    with pytest.raises(ValueError, match=f"Loader.rest: done is {done}, expected an integer from 0 to 4"):
        loader.rest(done)


def drawn(batch_size=3, seed=0, **settings):
    """Return what augment draws for each sample in three passes, {(pass, sample): number}."""
    seen = {}

    def watch(x, generator):
        for label, number in zip(x[:, 0] / 2, generator.random(len(x)), strict=True):
            seen[loader.epoch, int(label)] = number
        return x

    loader = data.Loader(X, Y, batch_size, seed=seed, augment=watch, **settings)
    for _ in range(3):
        list(loader)
    return seen


def test_what_augment_draws_depends_on_seed_pass_and_sample_alone():
    first = drawn()
    assert len(set(first.values())) == 30, "all are different"
    assert drawn() == drawn(batch_size=10) == drawn(batch_size=1, shuffle=False) == drawn(prefetch=False) == first
    assert not set(drawn(seed=1).values()) & set(first.values())
    orders = {np.random.default_rng([0, epoch]).random() for epoch in range(3)}
    assert not orders & set(first.values()), "the numbers are not those that shuffle"


def test_augment_changes_the_inputs_of_its_batch_and_nothing_else():
    def erase(x, generator):
        x[...] = 0
        return x

    x, y = X.copy(), Y.copy()
    for inputs, labels in data.Loader(x, y, 4, augment=erase):
        assert not inputs.any()
        assert labels.any()
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    larger = data.Loader(X, Y, 4, augment=lambda x, generator: np.pad(x, ((0, 0), (1, 1))))
    assert next(iter(larger))[0].shape == (4, 4)
    counts = data.Loader(X.astype(np.int16), Y, 4, augment=lambda x, generator: x.astype(np.float32) / 255)
    assert next(iter(counts))[0].dtype == np.float32


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (lambda x, g: x[1:], ValueError, r"augment returned the shape \(3, 2\), expected 4 samples"),
        (lambda x, g: None, ValueError, r"augment returned the shape \(\), expected 4 samples"),
        (lambda x, g: (x[:2], np.zeros((2, 2))), TypeError, "augment returned a tuple, expected an array, the inputs"),
        (lambda x, g: [x, x, x, x], TypeError, "augment returned a list, expected an array"),
        (lambda x, g: x + g.random(x.shape), TypeError, "augment returned float64, expected .* float32"),
    ],
)
def test_what_augment_must_not_return_is_a_clear_error(augment, error, message):
    with pytest.raises(error, match=f"Loader: {message}"):
        next(iter(data.Loader(X, Y, 4, augment=augment)))


def test_augment_must_be_callable():
    with pytest.raises(TypeError, match="Loader: augment is True, expected a callable"):
        data.Loader(X, Y, augment=True)


def test_the_state_sets_the_pass_and_refuses_other_batches():
    loader = data.Loader(X, Y, 3, seed=7)
    list(loader)
    expected = rows(loader)
    state = loader.state_dict() | {"epoch": 1}
    again = data.Loader(X, Y, 3, seed=7)
    again.load_state_dict(state)
    assert rows(again) == expected
    for other, message in (
        (data.Loader(X, Y, 4, seed=7), "batch_size is 4, in the state 3"),
        (data.Loader(X, Y, 3, seed=8), "seed is 8, in the state 7"),
        (data.Loader(X[:9], Y[:9], 3, seed=7), r"data is float32 \(9, 2\) and int64 \(9,\) with .*\(10,\) with .*"),
        (data.Loader(X + 1, Y, 3, seed=7), r"data is .* checksum \w{8}, in the state .* checksum \w{8}"),
        (data.Loader(X, Y[::-1], 3, seed=7), r"data is .* checksum \w{8}, in the state .* checksum \w{8}"),
        (data.Loader(X.astype(float), Y, 3, seed=7), r"data is float64 .*"),
        (data.Loader(X, Y, 3, False, seed=8), "shuffle is False, in the state True, seed is 8, in the state 7"),
        (data.Loader(X, Y, 3, seed=7, drop_last=True), "drop_last is True, in the state False"),
        (data.Loader(X, Y, 3, seed=7, augment=noisy), "augment is True, in the state False"),
        (data.Loader(X, Y, 3, seed=7, blend=lambda x, y, g: (x, y)), "blend is True, in the state False"),
    ):
        with pytest.raises(ValueError, match=f"Loader.load_state_dict: the batches would be others: {message}$"):
            other.load_state_dict(state)
        assert other.epoch == 0
    for wrong in ({}, state | {"epoch": -1}, state | {"epoch": "1"}, state | {"more": 1}, [], None):
        with pytest.raises(ValueError, match="Loader.load_state_dict: "):
            again.load_state_dict(wrong)


def test_the_checksum_of_large_data_is_of_rows_spread_over_all_of_it():
    class Watched(np.ndarray):
        def __getitem__(self, rows):
            taken.append(rows)
            return np.asarray(self)[rows]

    taken = []
    x = np.random.default_rng(0).random((5000, 100)).astype(np.float32)  # 2 MB
    loader = data.Loader(x, np.zeros(5000, int))
    loader.x = x.view(Watched)
    state = loader.state_dict()
    assert loader.state_dict() == state
    assert len(taken) == 1, "made once"
    assert taken[0][[0, -1]].tolist() == [0, 4999]
    assert x[taken[0]].nbytes <= 500_000
    assert set(np.diff(taken[0])) <= {4, 5}
    json.dumps(state)
    for other in (x[::-1], np.roll(x, 1, axis=0), x + np.float32(0.1)):
        with pytest.raises(ValueError, match="the batches would be others: data is"):
            data.Loader(other, np.zeros(5000, int)).load_state_dict(state)
    huge = data.Loader(np.zeros((2, 200_000), np.float32), [0, 1])  # rows larger than what is sampled
    assert huge.state_dict() != data.Loader(np.ones((2, 200_000), np.float32), [0, 1]).state_dict()


# ---------------------------------------------------------------- bytes, blends


def test_images_of_bytes_become_floats_batch_by_batch():
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 4, 4, 4)
    seen = []
    [(x, y)] = data.Loader(pixels, pixels, 4, shuffle=False, augment=lambda x, g: seen.append(x.dtype) or x)
    assert x.dtype == y.dtype == seen[0] == np.float32
    np.testing.assert_array_equal(x, pixels.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(y, x)
    [(x, y)] = data.Loader(pixels.astype(np.int64), np.arange(4, dtype=np.uint8), 4, shuffle=False)
    assert (x.dtype, y.dtype) == (np.int64, np.uint8), "other integers and labels stay"
    assert data.Loader(pixels, pixels).x.dtype == np.uint8


def test_a_blend_sees_what_augment_made_and_changes_both():
    def halve(x, y, generator):
        assert generator.random(len(x)).shape == (len(x),)
        return x / 2, np.stack([y, y], axis=1) / 2

    loader = data.Loader(X, Y, 4, shuffle=False, augment=lambda x, g: x + np.float32(2), blend=halve)
    x, y = next(iter(loader))
    np.testing.assert_array_equal(x, X[:4] / 2 + 1)
    np.testing.assert_array_equal(y, [[i / 2] * 2 for i in range(4)])


@pytest.mark.parametrize(
    ("blend", "error", "message"),
    [
        (lambda x, y, g: x, TypeError, r"blend returned a ndarray, expected a pair \(x, y\)"),
        (lambda x, y, g: (x, y, y), TypeError, "blend returned a tuple, expected a pair"),
        (lambda x, y, g: (x[1:], y), ValueError, r"blend returned the shape \(3, 2\), expected 4 samples"),
        (lambda x, y, g: (x, y[1:]), ValueError, r"blend returned the shape \(3,\), expected 4 samples"),
        (lambda x, y, g: (x.astype(float), y), TypeError, "blend returned float64, expected .* float32"),
    ],
)
def test_what_a_blend_must_not_return_is_a_clear_error(blend, error, message):
    with pytest.raises(error, match=f"Loader: {message}"):
        next(iter(data.Loader(X, Y, 4, blend=blend)))
    with pytest.raises(TypeError, match="Loader: blend is 3, expected a callable"):
        data.Loader(X, Y, blend=3)


@pytest.mark.parametrize(("resident", "copies"), [(False, 3 * 2), (True, 2 + 3)])  # batches of x and y, or of rows
def test_data_is_moved_to_the_gpu_by_batch_or_once(standin, resident, copies):
    on_gpu = list(data.Loader(X, Y, 4, resident=resident))
    assert transfers["to device"] == copies
    assert {type(array) for batch in on_gpu for array in batch} == {standin.ndarray}
    backend._device = "cpu"
    for got, expected in zip(on_gpu, data.Loader(X, Y, 4), strict=True):
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one.get(), other)
