"""`Tensor`, and the decorator that makes ops of functions on arrays: together with `graph`, the autograd engine.

An op computes on plain arrays and returns its result with one derivative for each input. If an input needs a gradient,
`@differentiable` records a `Node` with the derivatives and the way back to the inputs; `Tensor.backward` walks back.

Arrays inside a Tensor are read-only: a value that a derivative still needs cannot be overwritten. Only an optimizer
writes to parameters in place; it raises their `version`, and `backward` refuses a graph that was recorded before.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl import anomaly, backend, forward
from minidl.graph import Derivative, Joint, Node, accumulate, backpropagate, recording
from minidl.operators import OPS, Operators


class Tensor(Operators):
    """An array that remembers how it was computed.

    Parameters
    ----------
    array : array_like
        The values. Arrays keep their dtype; Python floats become float32. The values are copied (unless nobody can
        write to them), so that changing your array later changes no result.
    requires_grad : bool, default False
        Whether `backward` shall compute the gradient with respect to this Tensor.

    Attributes
    ----------
    data : array
        The values, read-only. Assigning `x.data = values` replaces them (same shape).
    grad : array or None
        The gradient that `backward` has accumulated, of the same shape and dtype; None before.

    Raises
    ------
    TypeError
        If the values are not numbers, or `requires_grad` is asked of values that are not floating-point.

    Examples
    --------
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_data", "grad", "node", "owner", "requires_grad", "version")

    _data: Any
    grad: Any
    node: Node | None
    requires_grad: bool
    version: int  # how often the memory was written to in place
    owner: Any  # weak reference to the vector W that this parameter's memory is a part of, or None

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        values = _as_values(array._data if isinstance(array, Tensor) else array)
        if values.dtype.kind not in "fiubc":
            raise TypeError(f"Tensor: array has dtype {values.dtype}, expected numbers")
        if requires_grad and values.dtype.kind not in "fc":
            raise TypeError(f"Tensor: requires_grad needs floating-point values, got dtype {values.dtype}")
        self._data = values
        self.node = None
        self.requires_grad = requires_grad
        self.grad = self.owner = None
        self.version = 0

    # -- values

    @property
    def data(self) -> Any:
        return forward.value(self._data)

    @data.setter
    def data(self, values: Any) -> None:
        values = forward.value(values._data if isinstance(values, Tensor) else values)
        values = backend.asarray_like(values, self.data)
        if values.shape != self.shape:
            raise ValueError(f"Tensor.data: the new values have shape {values.shape}, expected {self.shape}")
        if self.node is not None:
            raise RuntimeError(
                f"Tensor.data: this Tensor is the result of '{self.node.name}'; only a leaf can be assigned"
            )
        owner = self.owner() if self.owner is not None else None
        if owner is None and backend.capturing():
            self._data[...] = values  # a captured graph finds it where it was
        elif owner is None:
            self._data = backend.lock(values.astype(self.dtype))  # a recorded graph keeps the old array
        else:
            owner.assign(self, values)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return the values as a NumPy array (read-only on the CPU; copied from the GPU)."""
        return backend.to_numpy(forward.value(self._data))

    def item(self) -> float:
        """Return the single value as a Python number; ValueError if there is not exactly one."""
        if self.size != 1:
            raise ValueError(f"Tensor.item: the Tensor has shape {self.shape}, expected a single value")
        return self._data.item()

    def detach(self) -> Tensor:
        """Return a Tensor with the same values and no history; a parameter's are copied, since they will change."""
        return _wrap(backend.protected(forward.value(self._data)), None)

    # -- gradients

    def backward(self, g: Any = None) -> None:
        r"""Add :math:`g^T \partial\,\mathrm{self} / \partial x` to the `grad` of every leaf `x` that self depends on.

        Parameters
        ----------
        g : array_like, optional
            The gradient of the final result with respect to this Tensor, of the same shape. A Tensor of one element
            may leave it out; it is then 1.

        Raises
        ------
        RuntimeError
            If nothing here requires a gradient, if the graph was freed by an earlier `backward`, or if a value that a
            derivative needs was changed in place since. No gradient has been touched then.
        ValueError
            If `g` is missing for more than one element, or has another shape.
        """
        if not self.requires_grad:
            raise RuntimeError("backward: this Tensor depends on nothing that requires a gradient")
        xp = backend.array_module(self.data)
        if g is None:
            if self.size != 1:
                raise ValueError(
                    f"backward: a Tensor of shape {self.shape} needs the argument g, an array of that shape"
                )
            g = xp.ones(self.shape, self.dtype)
        else:
            g = g._data if isinstance(g, Tensor) else g
            if np.shape(g) != self.shape:
                raise ValueError(f"backward: g has shape {np.shape(g)}, expected {self.shape}")
            g = xp.array(g, dtype=self.dtype)
        if self.node is None:
            accumulate(self, g, None)
        else:
            backpropagate(self.node, g)

    # -- Python's protocols

    __array_ufunc__ = None  # so that `array * tensor` asks the Tensor instead of looping over its elements

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} does not know Tensors; use minidl.ops, or the values: x.data")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self.requires_grad:
            raise TypeError("an array of a Tensor that requires a gradient would lose it; ask for the values: x.data")
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len: a Tensor of shape () has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.node is not None:
            raise TypeError(
                f"deepcopy: a Tensor made by '{self.node.name}' belongs to its graph; copy x.detach() instead"
            )
        self._settle()
        twin = memo[id(self)] = type(self)(self._data, requires_grad=self.requires_grad)
        twin.grad = None if self.grad is None else self.grad.copy()
        return twin

    def __reduce__(self) -> Any:
        if self.node is not None:
            raise TypeError(f"copy: a Tensor made by '{self.node.name}' belongs to its graph; copy x.detach() instead")
        self._settle()
        return type(self), (np.array(self.numpy()), self.requires_grad)

    def _settle(self) -> None:
        """If an optimizer has moved the parameters to a look-ahead point, bring them back to the true iterate."""
        owner = self.owner() if self.owner is not None else None
        if owner is not None:
            owner.settle()

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", threshold=100)
        made_by = f", made_by='{self.node.name}'" if self.node is not None else ""
        return f"{type(self).__name__}({values}, dtype={self.dtype}{made_by or self._flag()})"

    def _flag(self) -> str:
        return ", requires_grad=True" if self.requires_grad else ""


def _as_values(array: Any) -> Any:
    """Return values that nobody else can write to."""
    values = backend.asarray(array)
    if not hasattr(array, "dtype") and values.dtype == np.float64:
        values = values.astype(np.float32)
    return backend.protected(values)


def _wrap(data: Any, node: Node | None) -> Tensor:
    """Make a Tensor of a freshly computed array."""
    tensor = _new_tensor(Tensor)
    tensor._data = data
    tensor.node = node
    tensor.requires_grad = node is not None
    tensor.grad = tensor.owner = None
    tensor.version = 0
    return tensor


_new_tensor = object.__new__


# ---------------------------------------------------------------- ops


def differentiable(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """Make an op of a function on plain arrays that returns its result and its derivatives.

    The derivatives are functions of `g`, the gradient with respect to the result, one for each of the first
    arguments in their order; None marks an argument that has none. A `Joint` computes them all together. Arguments
    without a derivative and keyword-only ones are settings. The op works on Tensors, arrays and numbers, computes only
    derivatives that are needed, sums gradients over broadcast axes, keeps the dtype of its Tensors (a constant never
    promotes), and stands in the registry `OPS` under its name, where the gradient tests find it.

    Examples
    --------
    >>> @differentiable
    ... def multiply(x, y):
    ...     return x * y, (lambda g: g * y,      # ∂/∂x
    ...                    lambda g: g * x)      # ∂/∂y
    """
    name = function.__name__
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]

    @functools.wraps(function)
    def op(*args: Any, **kwargs: Any) -> Tensor:
        if kwargs:
            args = _by_position(name, args, kwargs, positional)
        arrays: list[Any] = []
        sources: list[Any] = []  # what leads back to each argument: a node, a leaf, or None if it needs no gradient
        needing = 0
        dtype = None
        for arg in args:
            source = None
            if isinstance(arg, Tensor):
                array = arg._data
                if arg.requires_grad:
                    source = arg.node or arg
                    needing += 1
                elif arg.owner is not None:  # a frozen parameter, but in the vector W
                    array = backend.protected(array)
                if array.dtype is not dtype:
                    dtype = _common_dtype(dtype, array.dtype)
            else:
                array = _constant(arg, args, first=not arrays)
            arrays.append(array)
            sources.append(source)

        try:
            data, derivatives = function(*arrays, **kwargs)
        except ValueError as error:
            if re.match(r"\w+: ", str(error)):
                raise
            raise ValueError(f"{name}: {error}") from error  # NumPy's errors do not say which op they come from
        except TypeError:
            _check_one_device(name, positional, arrays)
            raise
        except MemoryError as error:
            backend.explain_out_of_memory(f"the result of {name} of {_shapes(positional, arrays)}", error)
            raise

        if anomaly.mode.on:
            derivatives = anomaly.looked_into(name, [p.name for p in positional], arrays, data, derivatives)
        if type(data) is np.ndarray and (data.dtype is dtype or dtype is None):
            data.setflags(write=False)
        else:
            data = _result(data, dtype)
        if not needing or not recording.on:
            return _wrap(data if data.base is None else backend.protected(data), None)
        if type(derivatives) is Joint:
            derivatives.needed = [source is not None for source in sources]
            return _wrap(data, Node(name, sources, derivatives, data))
        if type(derivatives) is not tuple:
            derivatives = (derivatives,)
        needed: list[Derivative | None] = []  # what the others have saved is let go
        for source, derivative in zip(sources, derivatives):  # noqa: B905  settings follow the last derivative
            if source is None:
                derivative = None
            elif derivative is not None:
                needing -= 1
            needed.append(derivative)
        if needing:
            raise TypeError(f"{name}: a Tensor that requires a gradient came where there is no derivative; detach it")
        return _wrap(data, Node(name, sources, needed, data))

    OPS[name] = op
    return op


def _check_one_device(name: str, positional: list[inspect.Parameter], arrays: list[Any]) -> None:
    """Raise, naming an argument on each, if an op was given arrays on the GPU and on the CPU."""
    places = {
        backend.device_of(forward.value(array)): parameter.name
        for parameter, array in zip(positional, arrays, strict=False)
        if hasattr(array, "dtype") and array.ndim
    }
    if len(places) > 1:
        raise TypeError(
            f"{name}: {places['gpu']} is on the GPU and {places['cpu']} on the CPU; move one: `model.to(device)` for a "
            "model, `ml.Tensor(array)` for an array makes a Tensor on the current device"
        )


def _shapes(positional: list[inspect.Parameter], arrays: list[Any]) -> str:
    pairs = zip(positional, arrays, strict=False)
    return ", ".join(f"{parameter.name} {array.shape}" for parameter, array in pairs if hasattr(array, "shape"))


def _constant(arg: Any, args: tuple[Any, ...], first: bool) -> Any:
    """Return an argument that is no Tensor as the op's function may have it."""
    if type(arg) is np.ndarray and recording.on:
        return backend.protected(arg)  # a derivative may need it after its owner has written to it
    if first and isinstance(arg, (list, float, int)) and not any(isinstance(other, Tensor) for other in args):
        return _as_values(arg)
    return arg


def _result(data: Any, dtype: Any) -> Any:
    """Return what an op's function returned as a read-only array, of the dtype that its Tensors have together."""
    if dtype is not None and data.dtype != dtype and data.dtype.kind == dtype.kind == "f":
        data = data.astype(dtype)
    if type(data) is np.ndarray:
        return backend.lock(data)
    if isinstance(data, np.generic):  # NumPy returns its scalars where an array of shape () is meant
        return backend.lock(np.asarray(data))
    if type(data) is forward.Dual and not recording.on:
        return data.value  # what is made without a graph is a constant
    return data


def _common_dtype(dtype: Any, other: Any) -> Any:
    """Return the dtype that Tensors of both have together: integers count as float32 beside nothing but integers."""
    if other.kind not in "fc":
        other = np.dtype(np.float32) if dtype is None else dtype
    return other if dtype is None or dtype is other else np.promote_types(dtype, other)


def _by_position(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], positional: list[inspect.Parameter]
) -> tuple[Any, ...]:
    """Move arguments given by name to their positions, so that `conv2d(x, w=w)` finds its Tensors."""
    named = [i for i, p in enumerate(positional) if p.name in kwargs]
    if not named:
        return args
    values = list(args)
    for parameter in positional[len(args) : named[-1] + 1]:
        value = kwargs.pop(parameter.name, parameter.default)
        if value is inspect.Parameter.empty:
            raise TypeError(f"{name}: the argument '{parameter.name}' is missing")
        values.append(value)
    return tuple(values)
