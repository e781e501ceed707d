"""The vector W: all parameters in one contiguous piece of memory, so that an update rule is one equation on vectors."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

from minidl.backend import array_module, lock
from minidl.tensor import Tensor


class WeightVector:
    """The parameters' memory as one vector.

    The parameters' data become read-only views into `array`; who writes to `array` must call `written` afterwards, so
    that no graph recorded before is differentiated with the new values.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        xp = array_module(self.tensors[0].data)
        self.array = xp.concatenate([tensor.data.reshape(-1) for tensor in self.tensors])
        ends = list(itertools.accumulate(tensor.size for tensor in self.tensors))
        self.spans = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        for tensor, view in zip(self.tensors, self.split(self.array), strict=True):
            tensor._data = lock(view)
            tensor.owner = weakref.ref(self)

    def split(self, vector: Any) -> list[Any]:
        """Return the parts of a vector that belong to the parameters, as views in the parameters' shapes."""
        return [vector[span].reshape(tensor.shape) for span, tensor in zip(self.spans, self.tensors, strict=True)]

    def gradient(self) -> Any:
        """Return the gradients as one vector; a parameter that received none counts as 0."""
        g = array_module(self.array).empty_like(self.array)
        for tensor, part in zip(self.tensors, self.split(g), strict=True):
            part[...] = 0 if tensor.grad is None else tensor.grad
        return g

    def assign(self, tensor: Tensor, values: Any) -> None:
        """Overwrite the part of the vector that belongs to one parameter."""
        index = next(i for i, own in enumerate(self.tensors) if own is tensor)
        self.array[self.spans[index]] = values.reshape(-1)
        tensor.version += 1

    def written(self) -> None:
        """Note that the memory was written to."""
        for tensor in self.tensors:
            tensor.version += 1


def gather(tensors: Sequence[Tensor]) -> WeightVector:
    """Return the vector of these parameters: the one that they already share, or a new one.

    Raises
    ------
    ValueError
        If there are none, one comes twice, their dtypes differ, or some, but not exactly these, belong to the vector
        of an optimizer that is still in use.
    TypeError
        If one is not a Tensor that requires a gradient.
    """
    if not tensors:
        raise ValueError("optimizer: params is empty, expected at least one parameter that requires a gradient")
    for i, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor) or tensor.node is not None or not tensor.requires_grad:
            raise TypeError(f"optimizer: params[{i}] is {tensor!r:.80}, expected a leaf Tensor with requires_grad=True")
    if len({id(tensor) for tensor in tensors}) < len(tensors):
        raise ValueError("optimizer: params contains the same Tensor twice")
    if len({tensor.dtype for tensor in tensors}) > 1:
        dtypes = ", ".join(sorted({str(tensor.dtype) for tensor in tensors}))
        raise ValueError(f"optimizer: params have the dtypes {dtypes}, expected one")

    owners = {id(owner): owner for tensor in tensors if (owner := tensor.owner and tensor.owner()) is not None}
    if not owners:
        return WeightVector(tensors)
    owner = next(iter(owners.values()))
    if len(owners) > 1 or {id(tensor) for tensor in owner.tensors} != {id(tensor) for tensor in tensors}:
        raise ValueError(
            "optimizer: params overlap with those of another optimizer that is still in use, but are not the same; "
            "give both optimizers the same parameters, or delete the other one first"
        )
    return owner
