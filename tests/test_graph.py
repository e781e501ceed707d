"""The graph: what is recorded, what flows back, what is kept and what is freed."""

from __future__ import annotations

import gc
import threading
import weakref

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

import minidl as ml
from minidl import ops, optim
from minidl.graph import Joint, unbroadcast
from minidl.operators import OPS
from minidl.tensor import differentiable


def leaf(values, dtype=np.float64):
    return ml.Tensor(np.array(values, dtype), requires_grad=True)


# ---------------------------------------------------------------- backward


def test_gradients_accumulate_over_uses_and_over_calls():
    x = leaf([2, 3])
    (x * x + x).sum().backward()
    np.testing.assert_array_equal(x.grad, [5, 7])
    (x * 10).sum().backward()
    np.testing.assert_array_equal(x.grad, [15, 17])


def test_a_reused_node_receives_all_contributions_before_it_passes_them_on():
    x = leaf(3.0)
    y = x * x  # 9
    z = y * y + y  # z' = (2y + 1) · 2x = 19 · 6
    z.backward()
    assert x.grad == 114


def test_only_leaves_keep_gradients():
    x = leaf([1, 2])
    y = x * 2
    (y * 3).sum().backward()
    assert y.grad is None
    assert x.grad is not None


@pytest.mark.parametrize("length", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_long_chains_differentiate_and_are_freed_without_recursion(length):
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y + 1
    y.backward()
    assert x.grad == 1
    for _ in range(length):
        y = y + x  # never differentiated: the chain is freed link by link
    del y


def test_backward_without_g_needs_a_single_value():
    x = leaf([1, 2])
    with pytest.raises(ValueError, match=r"a Tensor of shape \(2,\) needs the argument g"):
        (x * 2).backward()
    leaf([[4]]).backward()


def test_backward_checks_the_shape_of_g():
    x = leaf([1, 2])
    with pytest.raises(ValueError, match=r"g has shape \(3,\), expected \(2,\)"):
        (x * 2).backward(np.ones(3))


def test_backward_of_a_constant_is_an_error():
    with pytest.raises(RuntimeError, match="nothing that requires a gradient"):
        ml.Tensor([1.0]).backward()


def test_second_backward_is_an_error_and_changes_no_gradient():
    x = leaf([1, 2])
    y = x * x
    z = y.sum()
    z.backward()
    before = x.grad.copy()
    with pytest.raises(RuntimeError, match="'sum' was freed by an earlier backward"):
        z.backward()
    with pytest.raises(RuntimeError, match="'multiply' was freed"):
        (y * 3 + x).sum().backward()
    np.testing.assert_array_equal(x.grad, before)


def test_assigning_data_between_forward_and_backward_leaves_the_recorded_values():
    x = leaf([1, 2])
    y = (x * x).sum()
    x.data = [10, 20]
    y.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])


@pytest.mark.parametrize("change", ["step", "assign"])
def test_a_parameter_changed_in_place_after_the_forward_pass_is_an_error(change):
    x = leaf([1.0, 2.0])
    optimizer = optim.SGD([x], lr=0.1)
    y = (x * x).sum()
    if change == "step":
        optimizer.step()
    else:
        x.data = [5.0, 6.0]
    with pytest.raises(RuntimeError, match="input of 'multiply' was changed in place"):
        y.backward()
    assert x.grad is None


def test_gradients_share_no_memory_with_anything():
    x, y = leaf([1, 2]), leaf([3, 4])
    g = np.ones(2)
    (x + y).backward(g)
    x.grad[0] = 99
    assert y.grad[0] == 1
    assert g[0] == 1
    z = leaf([[1, 2], [3, 4]])
    z.reshape(4).backward(np.ones(4))
    z.grad[0] = 7  # writable, not a view of a broadcast array
    w = leaf([1, 2, 3])
    w.sum().backward()
    w.grad[0] = 7
    np.testing.assert_array_equal(w.grad, [7, 1, 1])


def test_inputs_and_the_given_gradient_are_not_changed(rng):
    g = rng.standard_normal((4, 3))
    kept = g.copy()
    x = leaf(rng.standard_normal((4, 3)))
    ops.softmax(ops.relu(x * 2) + x).backward(g)
    np.testing.assert_array_equal(g, kept)


def test_a_derivative_that_fails_leaves_no_half_gradient_behind():
    from minidl.operators import OPS

    fail = []

    @differentiable
    def fragile(x):
        def derivative(g):
            if fail:
                raise ArithmeticError
            return g

        return x + 0.0, derivative

    del OPS["fragile"]
    x = leaf([1.0])
    shared = x * 2
    bad, good = fragile(shared), shared * 5
    fail.append(True)
    with pytest.raises(ArithmeticError):
        (bad + shared).backward()
    with pytest.raises(RuntimeError, match="freed"):
        good.backward()
    assert x.grad is None


def test_no_way_of_changing_a_value_changes_a_gradient():
    """Arrays given to ops, views of parameters, frozen parameters and indices are all as they were recorded."""
    w, frozen = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    optimizer = optim.SGD([w, frozen], lr=1)
    x = leaf([1.0, 1.0])
    array, index = np.array([1.0, 2.0]), np.array([0, 0])
    frozen.requires_grad = False
    with ml.no_grad():
        view = w.reshape(2)
    snapshots = [ml.Tensor(w.data), ml.Tensor(np.broadcast_to(array, (2, 2))), w[:1].detach(), view]
    before = [snapshot.data.copy() for snapshot in snapshots]
    recorded = [
        ((x * array).sum(), [1, 2]),
        ((x * w.data).sum(), [1, 2]),
        ((x * frozen).sum(), [3, 4]),
        (x[index].sum(), [2, 0]),
    ]
    array[:], index[:] = 100, 1
    w.backward(np.ones(2))
    frozen.grad = np.ones(2)
    optimizer.step()
    for y, expected in recorded:
        x.grad = None
        y.backward()
        np.testing.assert_array_equal(x.grad, expected)
    for snapshot, values in zip(snapshots, before, strict=True):
        np.testing.assert_array_equal(snapshot.data, values)


# ---------------------------------------------------------------- what is computed and what is kept


def test_derivatives_that_nobody_needs_are_not_computed():
    called = []

    @differentiable
    def probe(x, y):
        def derivative(name):
            return lambda g: called.append(name) or g

        return x + y, (derivative("x"), derivative("y"))

    from minidl.operators import OPS

    del OPS["probe"]
    x = leaf([1.0])
    probe(x, ml.Tensor(np.ones(1))).backward()
    probe(np.ones(1), x).backward()
    assert called == ["x", "y"]


def test_a_joint_derivative_is_told_which_gradients_are_needed():
    asked = []

    def product(x, y, z):
        def gradients(g, needed):
            asked.append(list(needed))
            return g * y * z, g * x * z, g * x * y

        return x * y * z, Joint(gradients)

    registered = dict(OPS)
    joint = differentiable(product)
    OPS.clear()
    OPS.update(registered)  # the table tests ask every registered op for a sample
    x, z = (ml.Tensor(values, requires_grad=True) for values in ([2.0, 3.0], [5.0, 7.0]))
    y = ml.Tensor([11.0, 13.0])
    joint(x, y, z).backward([1.0, 2.0])
    assert asked == [[True, False, True]]
    np.testing.assert_array_equal(x.grad, [55, 182])
    np.testing.assert_array_equal(z.grad, [22, 78])
    assert y.grad is None
    joint(x, x, z * 2).backward([1.0, 1.0])
    np.testing.assert_array_equal(x.grad, [55 + 2 * 2 * 10, 182 + 2 * 3 * 14])


def test_no_grad_records_nothing_in_its_thread_only():
    x = leaf([1.0])
    with ml.no_grad():
        assert not (x * 2).requires_grad
        other = []
        thread = threading.Thread(target=lambda: other.append((x * 2).requires_grad))
        thread.start()
        thread.join()
        with ml.no_grad():
            pass
        assert not (x * 2).requires_grad
    assert other == [True]
    assert (x * 2).requires_grad

    @ml.no_grad()
    def doubled(t):
        return t * 2

    assert not doubled(x).requires_grad


def test_no_grad_ends_after_an_exception():
    x = leaf([1.0])
    with pytest.raises(KeyError), ml.no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_results_and_values_are_freed_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        x = leaf(np.ones(1000))
        y = ops.exp(x)
        middle = weakref.ref(y)
        loss = (y * y).sum()
        del y
        assert middle() is None, "a Tensor does not survive because something was computed from it"
        loss.backward()
        graph = weakref.ref(loss)
        del loss
        assert graph() is None
    finally:
        gc.enable()


def test_what_only_an_unneeded_derivative_saved_is_freed_at_once():
    w = leaf(np.ones(100))
    h = w * 2.0
    inner = weakref.ref(h)
    z = h * ml.Tensor(np.ones(100))  # only ∂/∂(second) would need h
    memory = weakref.ref(h.data)
    del h
    assert inner() is None
    assert memory() is None
    z.backward(np.ones(100))
    np.testing.assert_array_equal(w.grad, np.full(100, 2))


def test_backward_frees_the_saved_values_as_it_passes():
    alive = []

    class Probe(np.ndarray):
        pass

    @differentiable
    def saving(x):
        saved = np.ones(3).view(Probe)
        alive.append(weakref.ref(saved))
        return x + 0.0, lambda g: g * np.asarray(saved)

    from minidl.operators import OPS

    del OPS["saving"]
    x = leaf([1, 2, 3])
    y = saving(saving(x))
    assert all(ref() is not None for ref in alive)
    y.backward(np.ones(3))
    assert all(ref() is None for ref in alive), "y is still alive, what its derivatives saved is not"


# ---------------------------------------------------------------- broadcasting


@given(st.data())
def test_broadcasting_is_undone(data):
    shapes = data.draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    x, y = (leaf(rng.standard_normal(shape)) for shape in shapes.input_shapes)
    g = rng.standard_normal(shapes.result_shape)
    (x * y).backward(g)
    for ours, other in ((x, y), (y, x)):
        full = np.broadcast_to(g * other.data, shapes.result_shape)
        expected = np.zeros(ours.shape)
        for index in np.ndindex(shapes.result_shape):
            own = index[len(index) - ours.ndim :]
            expected[tuple(0 if size == 1 else i for i, size in zip(own, ours.shape, strict=True))] += full[index]
        np.testing.assert_allclose(ours.grad, expected, rtol=1e-12, atol=1e-12)


@given(array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3))
def test_unbroadcast_is_the_identity_on_equal_shapes(shape):
    g = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_array_equal(unbroadcast(g, shape), g)
