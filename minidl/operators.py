"""The registry of ops, and Python's operators and methods spelled in their names: `x + y` is `OPS["add"](x, y)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from minidl.tensor import Tensor

OPS: dict[str, Callable[..., Tensor]] = {}
"""Every differentiable op by its name; `@differentiable` fills it."""

Operand: TypeAlias = Any  # a Tensor, an array, a number or a nested list of numbers
Axis: TypeAlias = int | tuple[int, ...] | None


def _plain(x: Any) -> Any:
    return getattr(x, "_data", x)


class Operators:
    """What Tensors can do beyond carrying gradients. Each method is the op of its name in `minidl.ops`."""

    __slots__ = ()

    _data: Any

    # -- arithmetic

    def __add__(self, other: Operand) -> Tensor:
        return OPS["add"](self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return OPS["add"](other, self)

    def __sub__(self, other: Operand) -> Tensor:
        return OPS["subtract"](self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return OPS["subtract"](other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return OPS["multiply"](self, other)

    def __rmul__(self, other: Operand) -> Tensor:
        return OPS["multiply"](other, self)

    def __truediv__(self, other: Operand) -> Tensor:
        return OPS["divide"](self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return OPS["divide"](other, self)

    def __pow__(self, other: Operand) -> Tensor:
        return OPS["power"](self, other)

    def __rpow__(self, other: Operand) -> Tensor:
        return OPS["power"](other, self)

    def __matmul__(self, other: Operand) -> Tensor:
        return OPS["matmul"](self, other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return OPS["matmul"](other, self)

    def __neg__(self) -> Tensor:
        return OPS["negative"](self)

    def __abs__(self) -> Tensor:
        return OPS["abs"](self)

    # -- comparison: a plain array of booleans, since nothing flows back through it

    def __eq__(self, other: Operand) -> Any:
        return self._data == _plain(other)

    def __ne__(self, other: Operand) -> Any:
        return self._data != _plain(other)

    def __lt__(self, other: Operand) -> Any:
        return self._data < _plain(other)

    def __le__(self, other: Operand) -> Any:
        return self._data <= _plain(other)

    def __gt__(self, other: Operand) -> Any:
        return self._data > _plain(other)

    def __ge__(self, other: Operand) -> Any:
        return self._data >= _plain(other)

    __hash__ = object.__hash__

    # -- indexing

    def __getitem__(self, index: Any) -> Tensor:
        return OPS["getitem"](self, index)

    def __setitem__(self, index: Any, values: Any) -> None:
        raise TypeError("a Tensor's values cannot be changed in place; make a new one, for example with ops.where")

    # -- shape

    def reshape(self, *shape: Any) -> Tensor:
        return OPS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        return OPS["transpose"](self, (axes[0] if len(axes) == 1 else axes) or None)

    @property
    def T(self) -> Tensor:
        return OPS["transpose"](self)

    # -- reductions

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return OPS["sum"](self, axis, keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return OPS["mean"](self, axis, keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return OPS["max"](self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return OPS["min"](self, axis, keepdims)

    # -- elementwise

    def abs(self) -> Tensor:
        return OPS["abs"](self)

    def exp(self) -> Tensor:
        return OPS["exp"](self)

    def log(self) -> Tensor:
        return OPS["log"](self)

    def sqrt(self) -> Tensor:
        return OPS["sqrt"](self)

    def tanh(self) -> Tensor:
        return OPS["tanh"](self)

    def clip(self, low: float | None = None, high: float | None = None) -> Tensor:
        return OPS["clip"](self, low, high)
