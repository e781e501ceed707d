"""The table of a model's layers: what comes out of each, and how much it has to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import backend
from minidl.graph import no_grad
from minidl.nn.module import Module, evaluating, main_output, observe


@dataclass(frozen=True)
class LayerRow:
    """One row: the layer's name and kind, the shape that it puts out for one sample, its number of parameters."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Summary:
    """The layers of a model in the order in which they run; prints as a table."""

    rows: tuple[LayerRow, ...]
    parameters: int

    def __str__(self) -> str:
        cells = [("layer", "kind", "output shape", "parameters")]
        cells += [(r.name, r.kind, str(r.output_shape), f"{r.parameters:,}") for r in self.rows]
        cells += [("total", "", "", f"{self.parameters:,}")]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in cells
        ]
        rule = "─" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def summarize(model: Module, input_shape: tuple[int, ...]) -> Summary:
    """Run the model once in evaluation mode on zeros of shape (1, *input_shape) and note what each layer puts out."""
    if not isinstance(input_shape, (tuple, list)):
        raise TypeError(f"summary: input_shape is {input_shape!r}, expected the shape of one sample, as (28, 28, 1)")
    if not all(isinstance(size, (int, np.integer)) and size > 0 for size in input_shape):
        raise ValueError(f"summary: input_shape is {input_shape}, expected positive integers, without the batch")
    names = {id(module): name for name, module in model.named_modules()}
    ran: list[tuple[Module, tuple[int, ...]]] = []

    def note(module: Module, output: Any) -> None:
        output = main_output(output)
        if not hasattr(output, "shape"):
            kind = type(module).__name__
            raise TypeError(f"summary: {kind} returned a {type(output).__name__}, expected a Tensor or a tuple of them")
        ran.append((module, output.shape))

    with no_grad(), evaluating(model), observe(note):
        model(backend.asarray(np.zeros((1, *input_shape), np.float32)))
    seen = {id(module) for module, _ in ran}

    counted: set[int] = set()

    def owned(module: Module) -> int:
        """Count the parameters, not counted yet, of a module and of those inside it that do not run by themselves."""
        inside = (child for _, child in module.children() if id(child) not in seen)
        own = [parameter for parameter in module.own_parameters() if id(parameter) not in counted]
        counted.update(map(id, own))
        return sum(parameter.size for parameter in own) + sum(map(owned, inside))

    rows = [
        LayerRow(names[id(module)], type(module).__name__, shape[1:], count)
        for module, shape in ran
        if (count := owned(module)) or not any(id(child) in seen for _, child in module.children())
    ]
    return Summary(tuple(rows), sum(parameter.size for parameter in model.parameters()))
