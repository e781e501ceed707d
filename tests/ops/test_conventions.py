"""What single ops promise beyond the table of all ops: precision, large batches, and which input is refused."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
from minidl import ops


def gradient(op, *inputs, g=None):
    tensors = [ml.Tensor(np.array(x, float), requires_grad=True) for x in inputs]
    y = op(*tensors)
    y.backward(np.ones(y.shape) if g is None else g)
    grads = [tensor.grad for tensor in tensors]
    return grads[0] if len(grads) == 1 else grads


def test_batch_norm_keeps_its_precision_far_from_zero(rng):
    x = rng.standard_normal((256, 3))
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    far = (x + 1e3).astype(np.float32)
    y = ops.batch_norm(ml.Tensor(far), np.ones(3, np.float32), np.zeros(3, np.float32))
    np.testing.assert_allclose(y.data, expected, atol=1e-3)


def test_dropout_keeps_the_mean_and_drops_the_share_that_was_asked_for():
    x = np.ones(200_000)
    y = ops.dropout(ml.Tensor(x), 0.3, generator=np.random.default_rng(1)).data
    deviation = np.sqrt(0.3 * 0.7 / x.size)
    assert abs((y == 0).mean() - 0.3) < 4 * deviation
    np.testing.assert_allclose(y[y != 0], 1 / 0.7)
    z = ops.dropout(ml.Tensor(x), 0.3, scaling="eval", generator=np.random.default_rng(1)).data
    np.testing.assert_array_equal(z, y != 0)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("extent", [5, 6, 7])
def test_same_padding_gives_the_input_over_the_stride_rounded_up(stride, extent):
    x, w = ml.Tensor(np.zeros((1, extent, extent, 1))), ml.Tensor(np.zeros((3, 3, 1, 1)))
    assert ops.conv2d(x, w, stride=stride, padding="same").shape[1:3] == (-(-extent // stride),) * 2


def test_a_large_batch_is_cut_into_chunks_without_a_seam(rng, monkeypatch):
    from minidl.kernels.numpy import conv

    x, w = rng.standard_normal((7, 6, 6, 2)), rng.standard_normal((3, 3, 2, 4))
    g = rng.standard_normal((7, 6, 6, 4))

    def run():
        tensors = ml.Tensor(x, requires_grad=True), ml.Tensor(w, requires_grad=True)
        y = ops.conv2d(*tensors, padding=1)
        y.backward(g)
        return y.data, tensors[0].grad, tensors[1].grad

    whole = run()
    monkeypatch.setattr(conv, "CHUNK_BYTES", 6 * 6 * 18 * 8 * 2)  # two samples at a time, and one left over
    for cut, expected in zip(run(), whole, strict=True):
        np.testing.assert_allclose(cut, expected, rtol=1e-12)


def test_small_probabilities_are_exact_in_float32():
    x = np.array([-20, -15, 0, 15], np.float32)
    exact = 1 / (1 + np.exp(-x.astype(float)))
    np.testing.assert_allclose(ops.sigmoid(ml.Tensor(x)).data, exact, rtol=1e-6)
    np.testing.assert_allclose(gradient(ops.sigmoid, x), exact * (1 - exact), rtol=1e-6)
    np.testing.assert_allclose(gradient(ops.softplus, x), exact, rtol=1e-6)


def test_images_of_bytes_are_averaged_without_overflow():
    pooled = ops.avg_pool2d(np.full((1, 2, 2, 1), 200, np.uint8), 2)
    assert pooled.item() == 200
    assert pooled.dtype == np.float32


# ---------------------------------------------------------------- bad input


def zeros(*shape):
    return ml.Tensor(np.zeros(shape), requires_grad=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.conv2d(zeros(1, 5, 5, 3), zeros(3, 3, 16, 4)), "conv2d: x has 3 channels, w expects 16"),
        (lambda: ops.conv2d(zeros(5, 5, 3), zeros(3, 3, 3, 4)), r"x has shape \(5, 5, 3\)"),
        (lambda: ops.conv2d(zeros(1, 2, 5, 3), zeros(3, 3, 3, 4)), "larger than x"),
        (lambda: ops.conv2d(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), zeros(3)), r"b has shape \(3,\), expected \(4,\)"),
        (lambda: ops.conv2d(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), stride=0), "stride is 0"),
        (lambda: ops.conv2d(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), padding="full"), "padding is 'full'"),
        (lambda: ops.conv2d(zeros(1, 5, 5, 3), zeros(3, 3, 3, 4), padding=-1), "padding is -1"),
        (lambda: ops.max_pool2d(zeros(1, 2, 2, 1), 3), r"size is \(3, 3\), larger than x"),
        (lambda: ops.avg_pool2d(zeros(2, 2), 1), r"expected \(N, H, W, C\)"),
        (lambda: ops.max_pool2d(zeros(1, 2, 2, 1), 2, 0), "max_pool2d: stride is 0"),
        (lambda: ops.matmul(zeros(2, 3), zeros(2, 3)), r"x has shape \(2, 3\) and y \(2, 3\)"),
        (lambda: ops.matmul(zeros(), zeros(2)), "matmul"),
        (lambda: ops.sum(zeros(2, 3), 2), "axis is 2, but x has 2 axes"),
        (lambda: ops.concatenate([zeros(2, 3), zeros(3, 2)]), "differ in more than axis"),
        (lambda: ops.concatenate([zeros(2, 3)], 2), "axis is 2"),
        (lambda: ops.stack([zeros(2), zeros(3)]), r"stack: the shapes \(2,\), \(3,\) differ"),
        (lambda: ops.stack([zeros(2), zeros(2)], 5), "stack: axis is 5, but the result has 2 axes"),
        (lambda: ops.transpose(zeros(2, 2, 2), (0, 1)), r"axes are \(0, 1\), expected each of the 3 axes of x once"),
        (lambda: ops.pad(zeros(2, 2), 1), "pad: widths is 1"),
        (lambda: ops.pad(zeros(2, 2), [(1, 1)]), "pair of non-negative integers for each of 2 axes"),
        (lambda: ops.clip(zeros(2)), "both None"),
        (lambda: ops.clip(zeros(2), 1, 0), "low is 1, above high"),
        (lambda: ops.cross_entropy(zeros(2, 3), [0, 3]), "labels contain 3, expected class indices 0 to 2"),
        (lambda: ops.cross_entropy(zeros(2, 3), [-1, 0]), "labels contain -1"),
        (lambda: ops.cross_entropy(zeros(2, 3), [0]), r"labels have shape \(1,\), expected \(2,\)"),
        (
            lambda: ops.cross_entropy(zeros(2, 3), np.ones((2, 3))),
            "labels are shares of the classes, expected none neg",
        ),
        (lambda: ops.cross_entropy(zeros(1, 3), [[1.5, -0.5, 0.0]]), "labels are shares of the classes"),
        (lambda: ops.cross_entropy(zeros(1, 2), [[np.nan, 1.0]]), "labels are shares of the classes"),
        (lambda: ops.cross_entropy(zeros(1, 2), [[1.0, 0.0, 0.0]]), r"labels have shape \(1, 3\), expected \(1,\)"),
        (lambda: ops.cross_entropy(zeros(3), [0]), r"logits have shape \(3,\)"),
        (lambda: ops.cross_entropy(zeros(1, 3), [0], 1.5), "label_smoothing is 1.5"),
        (lambda: ops.cross_entropy(zeros(1, 3), [0], reduction="median"), "reduction is 'median'"),
        (lambda: ops.mse(zeros(2), zeros(2, 1)), r"shape \(2,\) and targets \(2, 1\)"),
        (lambda: ops.dropout(zeros(2), 1.5), "p is 1.5"),
        (lambda: ops.dropout(zeros(2), 0.5, scaling="late"), "scaling is 'late'"),
        (lambda: ops.batch_norm(zeros(2, 3), zeros(2), zeros(3)), r"gamma \(2,\)"),
    ],
)
def test_bad_input_is_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_must_be_integers():
    with pytest.raises(TypeError, match="labels have dtype float"):
        ops.cross_entropy(zeros(2, 3), [0.0, 1.0])
    with pytest.raises(TypeError, match="logits have dtype int64"):
        ops.cross_entropy(np.zeros((2, 3), int), [0, 1])


def test_long_sums_keep_the_precision_of_float32():
    """One axis after the other: a sum over a million pixels in one go would lose three digits."""
    x = np.full((1, 1000, 1000, 3), 200.1, np.float32)
    bound = 2000 * 2**-24  # two sums of a thousand
    np.testing.assert_allclose(ops.mean(x, (1, 2)).data, 200.1, rtol=bound)
    np.testing.assert_allclose(ops.sum(x, (0, 1, 2)).data, 200.1e6, rtol=bound)
    w, b = np.zeros((1, 1, 3, 2), np.float32), ml.Tensor(np.zeros(2, np.float32), requires_grad=True)
    y = ops.conv2d(x, w, b)
    y.backward(np.full(y.shape, 0.1, np.float32))
    np.testing.assert_allclose(b.grad, 1e5, rtol=bound)
    c = ml.Tensor(np.zeros(3, np.float32), requires_grad=True)
    (ml.Tensor(x) + c).backward(x)
    np.testing.assert_allclose(c.grad, 200.1e6, rtol=bound)


def test_a_sum_over_no_axis_is_a_copy():
    x = ml.Tensor(np.ones(2), requires_grad=True)
    assert not np.shares_memory(ops.sum(x, ()).data, x.data)
    np.testing.assert_array_equal(ops.sum(x, ()).data, x.data)


@pytest.mark.parametrize("op", [ops.sum, ops.mean, ops.max])
def test_an_axis_cannot_be_reduced_twice(op):
    with pytest.raises(ValueError, match=rf"{op.__name__}: axis is \(1, -1\), which names an axis of x twice"):
        op(np.ones((2, 3)), (1, -1))


def test_gelu_takes_bytes():
    assert ops.gelu(np.array([0, 200], np.uint8)).data.tolist() == [0, 200]


def test_shares_of_one_class_are_that_class_for_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((5, 4)).astype(np.float32), rng.integers(0, 4, 5)
    for smoothing in (0.0, 0.1):
        results = []
        for given in (labels, np.eye(4, dtype=np.float32)[labels], np.eye(4)[labels]):
            x = ml.Tensor(logits, requires_grad=True)
            loss = ops.cross_entropy(x, given, smoothing)
            loss.backward()
            assert x.grad.dtype == loss.data.dtype == np.float32
            results.append([loss.item(), *x.grad.ravel()])
        np.testing.assert_allclose(results[1:], [results[0]] * 2, rtol=1e-6, atol=1e-8)


def test_concatenate_takes_lists_as_other_ops_do():
    joined = ops.concatenate([[1.0], ml.Tensor([2.0]), np.array([3.0], np.float32)])
    np.testing.assert_array_equal(joined.data, np.array([1.0, 2.0, 3.0], np.float32))
