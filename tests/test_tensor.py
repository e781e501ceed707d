"""The engine: what is recorded, what flows back, what is freed, and what is refused."""

from __future__ import annotations

import contextlib
import copy
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
from minidl.graph import unbroadcast
from minidl.tensor import differentiable


def leaf(values, dtype=np.float64):
    return ml.Tensor(np.array(values, dtype), requires_grad=True)


# ---------------------------------------------------------------- values and construction


def test_python_floats_become_float32_and_arrays_keep_their_dtype():
    assert ml.Tensor([1.0, 2.0]).dtype == np.float32
    assert ml.Tensor([1, 2]).dtype == np.int64
    assert ml.Tensor(np.zeros(2)).dtype == np.float64


def test_tensor_copies_what_could_be_changed_from_outside():
    array = np.ones(3)
    x = ml.Tensor(array)
    array[0] = 5
    assert x.data[0] == 1


@pytest.mark.parametrize("values", [["a"], [object()], [1, [2, 3]]])
def test_tensor_refuses_what_is_not_numbers(values):
    with pytest.raises((TypeError, ValueError)):
        ml.Tensor(values)


def test_integers_cannot_require_a_gradient():
    with pytest.raises(TypeError, match="requires_grad needs floating-point values, got dtype int64"):
        ml.Tensor([1, 2], requires_grad=True)


def test_item_wants_exactly_one_value():
    assert ml.Tensor([[3.5]]).item() == 3.5
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        ml.Tensor([1.0, 2.0]).item()


def test_repr_shows_values_dtype_and_origin():
    x = leaf([1.5])
    assert repr(x) == "Tensor([1.5], dtype=float64, requires_grad=True)"
    assert repr(x * 2) == "Tensor([3.], dtype=float64, made_by='multiply')"


def test_data_can_be_assigned_but_not_with_another_shape():
    x = leaf([1, 2])
    x.data = [3, 4]
    np.testing.assert_array_equal(x.data, [3.0, 4.0])
    assert x.dtype == np.float64
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(2,\)"):
        x.data = np.zeros(3)
    with pytest.raises(RuntimeError, match="result of 'multiply'"):
        (x * 2).data = np.zeros(2)


def test_deepcopy_of_a_leaf_is_independent_and_of_a_result_is_refused():
    x = leaf([1, 2])
    twin = copy.deepcopy(x)
    twin.data = [5, 6]
    assert twin.requires_grad
    assert x.data[0] == 1
    with pytest.raises(TypeError, match="detach"):
        copy.deepcopy(x * 2)


# ---------------------------------------------------------------- operators with numbers and arrays on both sides


@pytest.mark.parametrize("other", [2, 2.5, np.float64(2.5), np.array([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("operator", ["+", "-", "*", "/", "**"])
def test_operators_agree_with_numpy_on_both_sides(operator, other):
    values = np.array([1.5, 2.0, 0.5])
    x = ml.Tensor(values)
    namespace = {"x": x, "v": values, "o": other, "n": np.asarray(other)}
    for ours, theirs in ((f"x {operator} o", f"v {operator} n"), (f"o {operator} x", f"n {operator} v")):
        result = eval(ours, namespace)
        assert isinstance(result, ml.Tensor)
        np.testing.assert_allclose(result.data, eval(theirs, namespace), rtol=1e-15)


def test_matmul_with_an_array_on_either_side(rng):
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    np.testing.assert_allclose((ml.Tensor(a) @ b).data, a @ b)
    np.testing.assert_allclose((a @ ml.Tensor(b)).data, a @ b)


@pytest.mark.parametrize("constant", [2.0, np.float64(2), np.ones(3), [1.0, 2.0, 3.0], np.arange(3)], ids=repr)
def test_a_constant_never_promotes(constant):
    x = leaf([1, 2, 3], np.float32)
    y = x * constant + constant
    assert y.dtype == np.float32
    y.backward(np.ones(3))
    assert x.grad.dtype == np.float32


def test_two_tensors_of_different_dtypes_promote_and_gradients_keep_each_dtype():
    x, y = leaf([1, 2], np.float32), leaf([3, 4], np.float64)
    z = (x * y).sum()
    z.backward()
    assert z.dtype == np.float64
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)


def test_comparisons_are_plain_arrays_of_booleans():
    x = leaf([1, 2, 3])
    np.testing.assert_array_equal(x > 1.5, [False, True, True])
    np.testing.assert_array_equal(x == np.array([1, 0, 3]), [True, False, True])
    np.testing.assert_array_equal(x <= leaf([1, 1, 1]), [True, False, False])
    assert isinstance(x != 1, np.ndarray)
    assert x in {x}, "a Tensor is hashable by identity"


def test_iteration_length_and_numbers():
    x = leaf([[1, 2], [3, 4]])
    assert [row.shape for row in x] == [(2,), (2,)]
    assert len(x) == 2
    assert float(x[0, 0]) == 1.0
    assert int(x[1, 1]) == 4
    assert bool(x[0, 0])
    with pytest.raises(TypeError, match="no length"):
        len(x.sum())


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


@pytest.mark.parametrize("length", [10_000, 100_000])
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


def test_values_cannot_be_changed_in_place():
    x = leaf([1, 2])
    y = x * x
    for tensor in (x, y, ml.Tensor([1.0])):
        with pytest.raises(ValueError, match="read-only"):
            tensor.data[0] = 5
        with pytest.raises(TypeError, match="cannot be changed in place"):
            tensor[0] = 5
    before = x
    x += 1
    assert x is not before
    np.testing.assert_array_equal(before.data, [1, 2])


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


def test_a_tensor_where_an_op_has_no_derivative_is_refused():
    x = leaf([1.0, 0.0])
    with pytest.raises(TypeError, match="there is no derivative"):
        ops.where(x, x, x)


def test_inputs_given_by_name_are_found():
    x, w = leaf(np.ones((1, 3, 3, 1))), leaf(np.ones((2, 2, 1, 1)))
    ops.conv2d(w=w, x=x).sum().backward()
    assert x.grad.shape == x.shape
    assert w.grad.shape == w.shape
    with pytest.raises(TypeError, match="conv2d: the argument 'x' is missing"):
        ops.conv2d(w=w)


def test_shape_errors_name_the_op():
    with pytest.raises(ValueError, match=r"add: operands could not be broadcast together with shapes \(2,\) \(3,\)"):
        leaf([1, 2]) + leaf([1, 2, 3])
    with pytest.raises(ValueError, match="reshape: cannot reshape array of size 2 into shape"):
        leaf([1, 2]).reshape(3)


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


def test_a_detached_parameter_does_not_follow_the_optimizer():
    x = leaf([1.0])
    optimizer = optim.SGD([x], lr=1)
    copies = x.detach(), ml.Tensor(x)
    x.sum().backward()
    optimizer.step()
    assert x.data[0] == 0
    assert [kept.data[0] for kept in copies] == [1, 1]


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


@pytest.mark.parametrize("function", [np.where, np.concatenate, np.dot, np.sum], ids=lambda f: f.__name__)
def test_numpys_functions_refuse_tensors_instead_of_losing_the_gradient(function):
    x = leaf([1.0, 2.0])
    arguments = {np.where: (x, x, x), np.concatenate: ([x, x],), np.dot: (x, x), np.sum: (x,)}[function]
    with pytest.raises(TypeError, match=f"numpy.{function.__name__} does not know Tensors; use minidl.ops"):
        function(*arguments)
    with pytest.raises(TypeError, match="would lose it"):
        np.asarray(x)
    np.testing.assert_array_equal(np.asarray(x.detach()), [1, 2])


def test_a_single_value_can_be_formatted():
    assert f"{leaf(1.23456):.2f}" == "1.23"
    assert f"{leaf([1.5])}" == "Tensor([1.5], dtype=float64, requires_grad=True)"


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, i: ops.cross_entropy(x, i),
        lambda x, i: x[i],
        lambda x, i: i * 0.5,
        lambda x, i: i / 2,
        lambda x, i: i[0] * x,
        lambda x, i: ops.leaky_relu(i - 1, 0.5),
        lambda x, i: ops.exp(i),
    ],
)
def test_integer_tensors_do_not_promote_to_float64(compute):
    x, i = ml.Tensor(np.ones((2, 3), np.float32), requires_grad=True), ml.Tensor([0, 1])
    assert compute(x, i).dtype == np.float32


def test_lists_and_numbers_are_taken_as_tensors():
    np.testing.assert_allclose(ops.softmax([0.0, 0.0]).data, [0.5, 0.5])
    assert ops.sum(3.0).item() == 3
    y = leaf([[1.0, 2.0]]) @ [[1.0], [2.0]]
    y.backward([[1.0]])
    assert y.item() == 5


def test_an_error_is_no_reference_cycle():
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            ops.conv2d(leaf(np.zeros((1, 3, 3, 2))), leaf(np.zeros((1, 1, 3, 1))))
        with contextlib.suppress(ValueError):
            leaf([1, 2]) + leaf([1, 2, 3])
        assert gc.collect() == 0
    finally:
        gc.enable()


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
