"""`ml.detect_anomaly` names the op that makes the first NaN."""

import threading

import numpy as np
import pytest

import minidl as ml
from minidl import nn, ops
from minidl.graph import Joint
from minidl.tensor import OPS, differentiable

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")


def leaf(*values):
    return ml.Tensor(np.array(values), requires_grad=True)


def test_forward_it_names_the_op_the_place_and_the_inputs():
    x = leaf([1.0, 4.0], [9.0, -2.0])
    with (
        ml.detect_anomaly(),
        pytest.raises(
            ml.AnomalyError,
            match=r"^sqrt: the result holds nan at \(1, 1\); x has shape \(2, 2\) and lies in \[-2, 9\]$",
        ),
    ):
        ops.sum(ops.sqrt(x + 0.0) * 2.0)


def test_outside_the_block_nothing_is_checked():
    with ml.detect_anomaly():
        pass
    assert np.isnan(ops.sqrt(leaf(-1.0)).data)


def test_the_mode_ends_with_an_error():
    with pytest.raises(KeyError), ml.detect_anomaly():
        raise KeyError
    assert np.isnan(ops.sqrt(leaf(-1.0)).data)


def test_blocks_nest():
    with ml.detect_anomaly(infinite=True):
        with ml.detect_anomaly():
            ops.log(leaf(0.0))
        with pytest.raises(ml.AnomalyError, match="log: the result holds -inf"):
            ops.log(leaf(0.0))


def test_a_nan_that_was_there_is_told_from_one_that_was_made():
    with (
        ml.detect_anomaly(),
        pytest.raises(ml.AnomalyError, match=r"^multiply: y held nan at \(1\) before: it came with"),
    ):
        leaf(1.0, 2.0) * np.array([0.0, np.nan])


def test_backward_it_names_the_op_and_where_it_was_called():
    x = leaf(0.0, 1.0)
    with ml.detect_anomaly():
        y = ops.sum(ops.sqrt(x) * 0.0)  # the line that is to be found; 0 · ∞ = NaN
        with pytest.raises(ml.AnomalyError) as caught:
            y.backward()
    message = str(caught.value)
    assert message.startswith(
        "sqrt: the gradient with respect to x holds nan at (0); g lies in [0, 0]. The op was called at"
    )
    assert "test_anomaly.py" in message
    assert "the line that is to be found" in message
    assert x.grad is None


def test_backward_tells_a_gradient_that_came_as_nan():
    y = leaf(1.0) * 2.0
    with ml.detect_anomaly():
        z = y * 3.0
        with pytest.raises(
            ml.AnomalyError, match="multiply: the gradient with respect to x holds nan at .*; g held it already"
        ):
            z.backward(np.array([np.nan]))


def test_it_sees_ops_with_joint_derivatives():
    @differentiable
    def broken_product(x, y):
        return x * y, Joint(lambda g, needed: (g * y, g * np.nan))

    del OPS["broken_product"]  # the registry holds the library's own
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with ml.detect_anomaly():
        broken_product(x, np.array([1.0, 1.0])).backward(np.ones(2))  # what nobody needs is not looked at
        with pytest.raises(ml.AnomalyError, match="broken_product: the gradient with respect to y holds nan"):
            broken_product(x, y).backward(np.ones(2))


def test_infinite_values_count_if_asked_for():
    with ml.detect_anomaly():
        assert np.isinf(ops.log(leaf(0.0)).data)
    with ml.detect_anomaly(infinite=True), pytest.raises(ml.AnomalyError, match=r"log: the result holds -inf at \(0\)"):
        ops.log(leaf(0.0))


def test_a_training_step_without_nan_is_the_same():
    x = np.random.default_rng(0).standard_normal((8, 6, 6, 2)).astype(np.float32)
    y = np.arange(8) % 3

    def gradients():
        ml.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.BatchNorm(4, relu=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Dense(16, 3),
        )
        ops.cross_entropy(model(x), y).backward()
        return [parameter.grad for parameter in model.parameters()]

    plain = gradients()
    with ml.detect_anomaly(infinite=True):
        watched = gradients()
    for expected, got in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_integers_and_empty_arrays_pass():
    with ml.detect_anomaly():
        ops.sum(ml.Tensor(np.arange(3)))
        ops.sum(ml.Tensor(np.zeros((0, 2)), requires_grad=True) * 2.0).backward()


def test_other_threads_are_not_watched():
    results = []
    with ml.detect_anomaly():
        thread = threading.Thread(target=lambda: results.append(ops.sqrt(leaf(-1.0)).data))
        thread.start()
        thread.join()
    assert np.isnan(results[0])
