"""Jacobians and Hessians: exact against closed forms and PyTorch, in both modes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as ml
import minidl.operators
from minidl import derivatives, forward, models, nn, ops, surfaces


def leaf(values, dtype=np.float64):
    return ml.Tensor(np.array(values, dtype), requires_grad=True)


def test_the_hessian_of_a_20_parameter_problem_equals_its_closed_form(rng):
    """Rosenbrock's function in 20 dimensions: a tridiagonal Hessian."""
    w = rng.uniform(-2, 2, 20)
    expected = np.zeros((20, 20))
    for i in range(19):
        expected[i, i] += 1200 * w[i] ** 2 - 400 * w[i + 1] + 2
        expected[i + 1, i + 1] += 200
        expected[i, i + 1] = expected[i + 1, i] = -400 * w[i]
    x = leaf(w)
    H = ml.hessian(lambda: surfaces.rosenbrock(20)(x), x)
    np.testing.assert_allclose(H, expected, rtol=1e-12, atol=1e-11)


def test_the_jacobian_in_closed_form_in_both_modes(rng):
    A = rng.standard_normal((30, 5))
    x = leaf(rng.standard_normal(5))
    y = lambda: ops.exp(ml.Tensor(A) @ x)
    expected = np.exp(A @ x.data)[:, None] * A
    np.testing.assert_allclose(ml.jacobian(y, x), expected, rtol=1e-13)  # 30 rows, 5 columns: forward
    few = lambda: y()[:2]  # 2 rows, 5 columns: reverse
    np.testing.assert_allclose(ml.jacobian(few, x), expected[:2], rtol=1e-13)


def test_both_modes_are_really_used(monkeypatch, rng):
    x = leaf(rng.standard_normal(40))
    walks = []
    monkeypatch.setattr(derivatives, "backpropagate", lambda *a, **k: walks.append(k["keep"]))
    ml.jacobian(lambda: x[:3] * 2, x)
    assert walks == [True, True, False], "one walk a row, the last frees the graph"
    walks.clear()
    J = ml.jacobian(lambda: x * 2, x)
    assert walks == []
    np.testing.assert_array_equal(J, 2 * np.eye(40))


@pytest.mark.parametrize("block", [1, 3, 16, 1000])
def test_the_size_of_the_blocks_makes_no_difference(monkeypatch, rng, block):
    model = models.mlp([3, 4, 2]).astype(np.float64)
    x = rng.standard_normal((6, 3))
    y = lambda: ops.tanh(model(x))
    loss = lambda: (y() ** 2).sum()
    J, H = ml.jacobian(y, model), ml.hessian(loss, model)
    monkeypatch.setattr(derivatives, "BLOCK", block)
    np.testing.assert_allclose(ml.jacobian(y, model), J, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(ml.hessian(loss, model), H, rtol=1e-12, atol=1e-13)


def test_a_convolutional_network_equals_pytorch(torch, rng):
    """Jacobian and Hessian of a small CNN with batch normalization, over all parameters."""
    model = nn.Sequential(
        conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm(2), act=nn.Tanh(), pool=nn.MaxPool2d(2), flat=nn.Flatten(),
        dense=nn.Dense(8, 3),
    ).astype(np.float64)  # fmt: skip
    x, labels = rng.standard_normal((5, 6, 6, 1)), rng.integers(0, 3, 5)
    running = model.norm.running_mean.data.copy()
    J = ml.jacobian(lambda: model(x), model)
    H = ml.hessian(lambda: ops.cross_entropy(model(x), labels), model)
    assert not np.array_equal(model.norm.running_mean.data, running)
    assert type(model.norm.running_mean.data) is np.ndarray, "running values carry no tangents"

    def twin(conv, bias, gamma, beta, dense, offset):
        images = torch.tensor(x).permute(0, 3, 1, 2)
        h = torch.nn.functional.conv2d(images, conv.permute(3, 2, 0, 1), bias)
        h = torch.nn.functional.batch_norm(h, None, None, gamma, beta, training=True)
        h = torch.nn.functional.max_pool2d(torch.tanh(h), 2).permute(0, 2, 3, 1).reshape(5, -1)
        return h @ dense + offset

    weights = tuple(torch.tensor(np.array(p.data)) for p in model.parameters())
    theirs = torch.autograd.functional.jacobian(twin, weights)
    expected = np.concatenate([block.reshape(15, -1).numpy() for block in theirs], axis=1)
    np.testing.assert_allclose(J, expected, rtol=1e-9, atol=1e-11)
    loss = lambda *w: torch.nn.functional.cross_entropy(twin(*w), torch.tensor(labels))
    blocks = torch.autograd.functional.hessian(loss, weights)
    sizes = [w.numel() for w in weights]
    rows = [
        [b.reshape(m, n).numpy() for b, n in zip(row, sizes, strict=True)] for row, m in zip(blocks, sizes, strict=True)
    ]
    np.testing.assert_allclose(H, np.block(rows), rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(H, H.T)


def test_gradients_values_and_the_graph_are_left_as_they_were():
    x = leaf([1.0, 2.0, 3.0])
    (x * x).sum().backward()
    before = x.grad.copy()
    pending = (x * x * x).sum()
    for function in (lambda: x * x, lambda: x[:1]):
        ml.jacobian(function, x)
    ml.hessian(lambda: (x**3).sum(), x)
    np.testing.assert_array_equal(x.grad, before)
    assert type(x.data) is np.ndarray
    pending.backward()
    np.testing.assert_allclose(x.grad, before + 3 * x.data**2)
    with pytest.raises(KeyError):
        ml.jacobian(lambda: {}["missing"], x)
    assert type(x.data) is np.ndarray


def test_what_does_not_depend_on_w_has_derivative_zero():
    x, other = leaf([1.0, 2.0]), leaf([3.0])
    np.testing.assert_array_equal(ml.jacobian(lambda: other * np.ones(4), x), np.zeros((4, 2)))
    np.testing.assert_array_equal(ml.jacobian(lambda: other * np.ones(1), [x, leaf([1.0])]), np.zeros((1, 3)))
    np.testing.assert_array_equal(ml.jacobian(lambda: x.detach() * x, x), np.diag(x.data))
    np.testing.assert_array_equal(ml.hessian(lambda: x.sum() + (other * other).sum(), [x, other]), np.diag([0, 0, 2]))


def test_float32_and_frozen_parameters():
    model = models.mlp([3, 2])
    model[1].bias.requires_grad = False
    J = ml.jacobian(lambda: model(np.ones((4, 3), np.float32)), model)
    assert J.shape == (8, 6)
    assert J.dtype == np.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ml.jacobian(lambda: 3.0, x), TypeError, "jacobian: the function returned float"),
        (lambda x: ml.jacobian(lambda: x, []), TypeError, "jacobian: params is"),
        (lambda x: ml.hessian(lambda: x.sum(), [x * 2]), TypeError, "hessian: params is"),
        (lambda x: ml.hessian(lambda: x * x, x), ValueError, "backward: a Tensor of shape"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(leaf([1.0, 2.0]))


def test_what_would_not_fit_is_refused_before_it_is_allocated():
    x = leaf(np.zeros(3_000_000))
    with pytest.raises(MemoryError, match=r"hessian: a Hessian of 3,000,000 × 3,000,000 would take .* TiB, but only"):
        ml.hessian(lambda: x.sum(), x)
    with pytest.raises(MemoryError, match="jacobian: a Jacobian of 3,000,000"):
        ml.jacobian(lambda: x * 1, x)


# ---------------------------------------------------------------- arrays that carry derivatives


def dual(values):
    values = np.array(values, float)
    return forward.Dual(values, np.eye(values.size).reshape(values.size, *values.shape))


def test_a_function_without_a_rule_is_an_error_that_names_it():
    x = dual([1.0, 2.0])
    for call, name in (
        (lambda: np.cumsum(x), "numpy.cumsum"),
        (lambda: np.arctan2(x, 1), "numpy.arctan2"),
        (lambda: np.add.reduce(x), "numpy.add as reduce"),
    ):
        with pytest.raises(TypeError, match=f"{name} has no rule for arrays that carry derivatives"):
            call()
    with pytest.raises(TypeError, match="cannot become a plain one"):
        np.asarray(x)
    with pytest.raises(TypeError, match="cannot be written into a plain array"):
        np.add(np.ones(2), x, out=np.ones(2))


UFUNCS = sorted(forward.DERIVATIVES, key=lambda ufunc: ufunc.__name__)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda ufunc: ufunc.__name__)
def test_the_rule_of_every_function_agrees_with_central_differences(ufunc, rng):
    inputs = [rng.uniform(0.3, 2, 4) for _ in range(ufunc.nin)]
    for i in range(ufunc.nin):
        at = lambda x, i=i: ufunc(*inputs[:i], x, *inputs[i + 1 :])
        expected = (at(inputs[i] + 1e-6) - at(inputs[i] - 1e-6)) / 2e-6
        np.testing.assert_allclose(at(dual(inputs[i])).tangents, np.diag(expected), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("settings", [{}, {"axis": 1}, {"axis": 0, "keepdims": True}], ids=str)
def test_extremes_of_arrays_in_forward_mode(name, settings, rng):
    values, tangents = rng.permutation(12.0 * np.arange(12)).reshape(3, 4), rng.standard_normal((2, 3, 4))
    found = getattr(forward.Dual(values, tangents), name)(**settings)
    np.testing.assert_array_equal(found.value, getattr(values, name)(**settings))
    for tangent, result in zip(tangents, found.tangents, strict=True):
        ahead = getattr(values + 1e-3 * tangent, name)(**settings)
        np.testing.assert_allclose(result, (ahead - found.value) / 1e-3, rtol=1e-8)


def test_broadcasting_in_place_and_assignment():
    x = dual([1.0, 2.0])
    y = x * np.ones((3, 1)) + 1
    assert y.shape == (3, 2)
    assert y.tangents.shape == (2, 3, 2)
    y += x
    np.testing.assert_array_equal(y.tangents[0], np.broadcast_to([2.0, 0], (3, 2)))
    y[1] = 7.0
    np.testing.assert_array_equal(y.tangents[:, 1], 0)
    y[0] = x
    np.testing.assert_array_equal(y.tangents[:, 0], np.eye(2))


KINKED = {
    "relu": ops.relu, "leaky_relu": ops.leaky_relu, "elu": ops.elu, "selu": ops.selu, "sigmoid": ops.sigmoid,
    "softplus": ops.softplus, "abs": ops.abs, "tanh": ops.tanh, "clip": lambda x: ops.clip(x, -1, 1),
    "maximum": lambda x: ops.maximum(x, np.zeros(5)), "minimum": lambda x: ops.minimum(x, np.zeros(5)),
    "maximum, second": lambda x: ops.maximum(np.zeros(5), x), "max": lambda x: (x * 0).max() * x,
}  # fmt: skip


@pytest.mark.parametrize("name", KINKED)
def test_both_modes_keep_the_same_conventions_at_kinks_and_zeros(name):
    x, wide = leaf([-2.0, -1, 0, 1, 2]), leaf(np.zeros(20))
    columns = ml.jacobian(lambda: KINKED[name](x), x)
    rows = ml.jacobian(lambda: KINKED[name](x), [x, wide])[:, :5]
    np.testing.assert_allclose(columns, rows, rtol=1e-14)


def test_second_derivatives_at_zero():
    x = leaf([0.0])
    assert ml.hessian(lambda: ops.softplus(x).sum(), x)[0, 0] == pytest.approx(0.25, rel=1e-14)
    assert ml.hessian(lambda: (ops.sigmoid(x) ** 2).sum(), x)[0, 0] == pytest.approx(0.125, rel=1e-14)


def test_other_leaves_receive_nothing():
    x, wide, other = leaf([1.0, 2.0]), leaf(np.arange(20.0)), leaf([2.0])
    np.testing.assert_allclose(ml.hessian(lambda: (wide * wide * other).sum(), wide), 4 * np.eye(20))
    ml.hessian(lambda: (x * x * other).sum(), x)
    ml.jacobian(lambda: (wide * other).sum(), wide)
    assert other.grad is None


def test_rows_of_a_leaf_itself_and_inside_no_grad():
    x, wide = leaf([1.0, 2.0]), leaf(np.zeros(20))
    np.testing.assert_array_equal(ml.jacobian(lambda: x, [x, wide])[:, :2], np.eye(2))
    with ml.no_grad():
        np.testing.assert_array_equal(ml.jacobian(lambda: (x * x).sum(), x), [[2, 4]])
        np.testing.assert_array_equal(ml.jacobian(lambda: x * x, x), np.diag([2.0, 4]))


def test_values_and_what_is_made_without_a_graph_are_constants_in_both_modes():
    x, wide = leaf([1.0, 2.0]), leaf(np.zeros(20))

    def with_constant():
        with ml.no_grad():
            doubled = x * 2
        return x * doubled

    for function in (
        with_constant,
        lambda: x * (2 * x.data),
        lambda: x * ml.Tensor(2 * x.data),
        lambda: x * 2 * x.detach(),
    ):
        for params in (x, [x, wide]):
            np.testing.assert_array_equal(ml.jacobian(function, params)[:, :2], np.diag([2.0, 4]))


def test_an_op_may_write_into_its_own_arrays():
    @ml.differentiable
    def doubled_in_place(x):
        y = x + 1
        y *= 2
        total = x.sum()
        total += 1
        part = np.zeros_like(x)
        view = part[:1]
        view += 3 * x[:1]
        return y + part + 0 * total, lambda g: 2 * g

    try:
        x = leaf([1.0, 2.0])
        np.testing.assert_array_equal(ml.jacobian(lambda: doubled_in_place(x) + x, x), np.diag([6.0, 3]))
    finally:
        del ml.operators.OPS["doubled_in_place"]
    with pytest.raises((TypeError, ValueError)):
        np.zeros(2)[0] = dual([1.0])[0]


def test_params_come_once_and_dtypes_are_promoted():
    x, single = leaf([1.0, 2.0]), leaf([1.0], np.float32)
    for derivative in (ml.jacobian, ml.hessian):
        with pytest.raises(ValueError, match="params contains the same Tensor twice"):
            derivative(lambda: (x * x).sum(), [x, x])
    with pytest.raises(TypeError, match="hessian: the function returned float"):
        ml.hessian(lambda: 3.0, x)
    assert ml.hessian(lambda: (x * x).sum() + single.sum(), [single, x]).dtype == np.float64


def test_blas_threads_are_restored_whichever_thread_ends_last():
    import threading

    import threadpoolctl

    from minidl.threads import single_blas_thread

    def numbers():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    before, first_may_end, second_is_in = numbers(), threading.Event(), threading.Event()

    def first():
        with single_blas_thread():
            second_is_in.wait(5)

    def second():
        with single_blas_thread():
            second_is_in.set()
            first_may_end.wait(5)

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    threads[1].start()
    threads[0].join()
    first_may_end.set()
    threads[1].join()
    assert numbers() == before
