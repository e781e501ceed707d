"""Finding where a loss stopped being a number."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import nn
from minidl.backend import array_module, capturing, default_generator
from minidl.graph import no_grad
from minidl.tensor import Tensor


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite.

    Attributes
    ----------
    step : int
        The number of the step, from 1, that failed and was not made, or after which the validation loss failed.
    where : str
        The first place in the network whose values are not finite.
    """

    def __init__(self, step: int, epoch: int, loss: float, where: str, validation: bool = False) -> None:
        if validation:
            what = f"the validation loss is {loss} after step {step}, epoch {epoch}; it began in {where}"
        else:
            what = f"the loss is {loss} at step {step}, epoch {epoch}, which was not made; it began in {where}"
        super().__init__(f"{what}. A smaller learning rate is the usual remedy")
        self.step = step
        self.where = where


def random_generators(model: nn.Module) -> dict[str, np.random.Generator]:
    """Return what a forward pass draws from: the generators that modules hold, by name, and the thread's."""
    return {"the thread's": default_generator()} | {
        f"{path}.{name}" if path else name: value
        for path, module in model.named_modules()
        for name, value in module._attributes()
        if isinstance(value, np.random.Generator)
    }


class Rewind:
    """Everything but the weights that a forward pass changes: buffers and random generators.

    Parameters
    ----------
    model : nn.Module
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [buffer for _, buffer in model.named_buffers()]
        self._generators = list(random_generators(model).values())
        self.values: list[Any] = []  # of the buffers when the state was marked

    def mark(self, buffers: bool = True) -> None:
        """Remember the present state; without buffers, `values` are what they are."""
        if buffers:
            self.values = self.buffers()
        self._states = [generator.bit_generator.state for generator in self._generators]

    def buffers(self) -> list[Any]:
        """Return the values of the buffers; as copies where a captured graph would write into them."""
        return [buffer.data.copy() if capturing() else buffer.data for buffer in self._buffers]

    def back(self) -> None:
        """Return to the state that was marked."""
        for buffer, values in zip(self._buffers, self.values, strict=True):
            buffer.data = values
        for generator, state in zip(self._generators, self._states, strict=True):
            generator.bit_generator.state = state


@no_grad()
def first_non_finite(model: nn.Module, x: Any, y: Any = None) -> str:
    """Run the model again and describe the first value that is not finite: input, weight, layer's output or loss.

    On the GPU class indices that are out of range make a loss that is no number; with the labels, these are described.
    """
    if not all_finite(x):
        return "the input batch"
    names = {id(module): name or "the model" for name, module in model.named_modules()}
    found: list[str] = []

    def look(module: nn.Module, output: Any) -> None:
        if found:
            return
        layer = f"layer '{names[id(module)]}' ({type(module).__name__})"
        bad = [name for name, parameter in module.named_parameters() if not all_finite(parameter.data)]
        if bad:
            found.append(f"the weights of {layer}: {', '.join(bad)}")
        elif not all_finite(_values(nn.main_output(output))):
            found.append(f"the output of {layer}")

    with nn.observe(look):
        outputs = _values(nn.main_output(model(x)))
    if not found and y is not None and y.ndim == 1 and y.dtype.kind in "iu" and outputs.ndim == 2:
        low, high, classes = int(y.min()), int(y.max()), outputs.shape[1]
        if low < 0 or high >= classes:
            return f"the labels, which contain {low if low < 0 else high}; expected class indices 0 to {classes - 1}"
    return found[0] if found else "the loss itself, from finite outputs"


def _values(output: Any) -> Any:
    return output.data if isinstance(output, Tensor) else output


def all_finite(values: Any) -> bool:
    """Say whether an array contains neither NaN nor ±∞."""
    return bool(array_module(values).isfinite(values).all())
