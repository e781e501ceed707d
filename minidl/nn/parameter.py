"""What a layer owns: parameters, which are learned, and buffers, which are only remembered."""

from __future__ import annotations

from typing import Any

from minidl.tensor import Tensor


class Parameter(Tensor):
    """A Tensor that an optimizer learns. A Module finds its parameters among its attributes."""

    __slots__ = ()

    def __init__(self, array: Any, requires_grad: bool = True) -> None:
        super().__init__(array, requires_grad)


class Buffer(Tensor):
    """A Tensor that is saved with a Module but not learned, such as a running mean."""

    __slots__ = ()

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        super().__init__(array, requires_grad)
