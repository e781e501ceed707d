"""Tensor and its ops from outside: values, operators, dtypes, and what is refused."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle

import numpy as np
import pytest

import minidl as ml
from minidl import ops, optim


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
    with pytest.raises(TypeError, match="copy: a Tensor made by 'multiply' belongs to its graph"):
        pickle.dumps(x * 2)


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
    np.testing.assert_array_equal(x < 2, [True, False, False])
    np.testing.assert_array_equal(x >= 2, [False, True, True])
    np.testing.assert_array_equal(x > 1.5, [False, True, True])
    np.testing.assert_array_equal(x == np.array([1, 0, 3]), [True, False, True])
    np.testing.assert_array_equal(x <= leaf([1, 1, 1]), [True, False, False])
    assert isinstance(x != 1, np.ndarray)
    assert x in {x}, "a Tensor is hashable by identity"


def test_methods_are_the_ops_of_their_names(rng):
    x = ml.Tensor(rng.uniform(0.5, 2, (2, 3, 4)))
    one_by_one = ["abs", "exp", "log", "sqrt", "tanh"]
    for name in one_by_one:
        np.testing.assert_array_equal(getattr(x, name)().numpy(), getattr(np, name)(x.numpy()))
    for name in ("sum", "mean", "max", "min"):
        for settings in ({}, {"axis": 1}, {"axis": -1, "keepdims": True}):
            expected = getattr(np, name)(x.numpy(), **settings)
            np.testing.assert_allclose(getattr(x, name)(**settings).numpy(), expected, rtol=1e-15)
    np.testing.assert_array_equal(abs(-x).numpy(), x.numpy())
    np.testing.assert_array_equal(x.clip(0.75, 1.5).numpy(), np.clip(x.numpy(), 0.75, 1.5))
    np.testing.assert_array_equal(x.clip(high=1).numpy(), np.minimum(x.numpy(), 1))
    np.testing.assert_array_equal(x.T.numpy(), x.numpy().T)
    np.testing.assert_array_equal(x.transpose().numpy(), x.numpy().T)
    for axes in ((1, 0, 2), ((2, 0, 1),)):
        np.testing.assert_array_equal(x.transpose(*axes).numpy(), x.numpy().transpose(*axes))
    for shape in ((4, 6), ((6, -1),)):
        np.testing.assert_array_equal(x.reshape(*shape).numpy(), x.numpy().reshape(*shape))


def test_iteration_length_and_numbers():
    x = leaf([[1, 2], [3, 4]])
    assert [row.shape for row in x] == [(2,), (2,)]
    assert len(x) == 2
    assert float(x[0, 0]) == 1.0
    assert int(x[1, 1]) == 4
    assert bool(x[0, 0])
    with pytest.raises(TypeError, match="no length"):
        len(x.sum())


# ---------------------------------------------------------------- in place, by name, through NumPy, and mistaken


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


def test_a_detached_parameter_does_not_follow_the_optimizer():
    x = leaf([1.0])
    optimizer = optim.SGD([x], lr=1)
    copies = x.detach(), ml.Tensor(x)
    x.sum().backward()
    optimizer.step()
    assert x.data[0] == 0
    assert [kept.data[0] for kept in copies] == [1, 1]


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
