"""The vector W: all parameters in one contiguous piece of memory, so that an update rule is one equation on vectors."""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import buffers, kernels
from minidl.backend import array_module, lock
from minidl.tensor import Tensor


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in the vector W, by name: "conv1.weight" in a Module, "params[0]" in a list."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    spans: tuple[slice, ...]

    def parts(self, W: Any) -> Iterator[tuple[str, Any]]:
        """Yield (name, part) for each parameter: its part of a vector, as a view in the parameter's shape."""
        for name, shape, span in zip(self.names, self.shapes, self.spans, strict=True):
            yield name, W[span].reshape(shape)

    def named(self, key: str, who: str) -> list[str]:
        """Return the parameters that a key means: the one of this name, or all of the layer of this name.

        Raises
        ------
        ValueError
            In the name of `who`, listing the names, if there is none.
        """
        found = [name for name in self.names if name == key or name.startswith((f"{key}.", f"{key}["))]
        if not found:
            raise ValueError(f"{who}: {key!r} names no parameter and no layer; there are {', '.join(self.names)}")
        return found

    def locate(self, index: int) -> str:
        """Return the name and place of one element of W: "conv1.weight[0, 2]"."""
        for name, shape, span in zip(self.names, self.shapes, self.spans, strict=True):
            if index < span.stop:
                place = ", ".join(str(int(i)) for i in np.unravel_index(index - span.start, shape))
                return f"{name}[{place}]" if place else name
        raise IndexError(f"W has {self.spans[-1].stop} elements, there is none at {index}")


class WeightVector:
    """The parameters' memory as one vector.

    The parameters' data are read-only views into it. For a method that takes its gradient elsewhere, `look_ahead` moves
    the parameters there and `settle` brings them back; `iterate` is the true W^t all the time.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        xp = array_module(self.tensors[0].data)
        self._memory = xp.concatenate([tensor.data.reshape(-1) for tensor in self.tensors])
        self._iterate: Any = None  # W^t while the parameters stand elsewhere
        self._behind: Any = None  # its memory, always the same: captured graphs know it
        ends = list(itertools.accumulate(tensor.size for tensor in self.tensors))
        self.spans = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        for tensor, view in zip(self.tensors, self._split(self._memory), strict=True):
            tensor._data = lock(view)
            tensor.owner = weakref.ref(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightVector:
        self.settle()
        twin = memo[id(self)] = WeightVector([copy.deepcopy(tensor, memo) for tensor in self.tensors])
        return twin

    def __reduce__(self) -> Any:
        """Be pickled as the parameters, from which it is gathered anew: they are views into its memory."""
        return WeightVector, (self.tensors,)

    def _split(self, vector: Any) -> list[Any]:
        """Return the parts of a vector that belong to the parameters, as views in the parameters' shapes."""
        return [vector[span].reshape(tensor.shape) for span, tensor in zip(self.spans, self.tensors, strict=True)]

    @property
    def iterate(self) -> Any:
        """W^t; not a copy."""
        return self._memory if self._iterate is None else self._iterate

    @property
    def position(self) -> Any:
        """Where the parameters stand: W^t, or the look-ahead point; not a copy."""
        return self._memory

    @property
    def ahead(self) -> bool:
        """Whether the parameters stand elsewhere than at W^t."""
        return self._iterate is not None

    @property
    def frozen(self) -> list[slice]:
        """Where the parameters lie that are not to be moved now."""
        return [span for tensor, span in zip(self.tensors, self.spans, strict=True) if not tensor.requires_grad]

    def zeros(self) -> Any:
        """Return a vector of zeros like W."""
        return array_module(self._memory).zeros_like(self._memory)

    def gradient(self) -> Any:
        """Return the gradients as one vector; a parameter that received none counts as 0."""
        sizes = [tensor.size for tensor in self.tensors]
        return kernels.of(self._memory).blocks.gather([tensor.grad for tensor in self.tensors], sizes, self._memory)

    def room(self) -> Any:
        """Return memory for a new W: where W^t lies, or elsewhere if some of that must stay."""
        return buffers.empty(self._memory.shape, self._memory) if self.frozen else self._memory

    def write(self, W: Any) -> None:
        """Make W the iterate and move the parameters there; those that are frozen stay."""
        self._move(W)
        self._iterate = None

    def look_ahead(self, displacement: Any) -> None:
        """Move the parameters to W^t + displacement."""
        if self._iterate is None:
            if self._behind is None:
                self._behind = np.empty_like(self._memory)
            self._behind[...] = self._memory
            self._iterate = self._behind
        self._move(np.add(self._iterate, displacement, out=self.room()))

    def settle(self) -> None:
        """Bring the parameters back to W^t."""
        if self._iterate is not None:
            self.write(self._iterate)

    def recall(self) -> None:
        """Bring the parameters back to where they were when they last began to look ahead, as a captured graph did."""
        if self._behind is not None:
            self.write(self._behind)

    def assign(self, tensor: Tensor, values: Any) -> None:
        """Overwrite the part of W that belongs to one parameter."""
        self.settle()
        index = next(i for i, own in enumerate(self.tensors) if own is tensor)
        self._memory[self.spans[index]] = values.reshape(-1)
        tensor.version += 1

    def _move(self, W: Any) -> None:
        if W is not self._memory:
            frozen = [(span, self.iterate[span].copy()) for span in self.frozen]
            self._memory[...] = W
            for span, values in frozen:
                self._memory[span] = values
        self.written()

    def written(self) -> None:
        """Note that the memory was written to: a graph recorded before cannot be differentiated with the new values."""
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
            "optimizer: params overlap with those of another optimizer that is still in use, but are not the same "
            "(a frozen parameter is not among them); give both the same parameters, or delete the other one first, "
            "and the Trainer that holds it"
        )
    return owner
