"""Finding where a loss stopped being a number."""

from __future__ import annotations

from typing import Any

from minidl import nn
from minidl.backend import array_module
from minidl.tensor import no_grad


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite.

    Attributes
    ----------
    step : int
        The number of the step, from 1. Its update was not made.
    where : str
        The first place in the network whose values are not finite.
    """

    def __init__(self, step: int, epoch: int, loss: float, where: str) -> None:
        super().__init__(
            f"the loss is {loss} at step {step}, epoch {epoch}; it began in {where}. The weights are those of the step "
            "before. A smaller learning rate is the usual remedy"
        )
        self.step = step
        self.where = where


@no_grad()
def first_non_finite(model: nn.Module, x: Any) -> str:
    """Run the model again and describe the first value that is not finite: input, weight, layer's output or loss."""
    if not _finite(x):
        return "the input batch"
    names = {id(module): name or "the model" for name, module in model.named_modules()}
    found: list[str] = []

    def look(module: nn.Module, output: Any) -> None:
        if found:
            return
        layer = f"layer '{names[id(module)]}' ({type(module).__name__})"
        bad = [name for name, parameter in module.named_parameters() if not _finite(parameter.data)]
        if bad:
            found.append(f"the weights of {layer}: {', '.join(bad)}")
        elif not _finite(output.data):
            found.append(f"the output of {layer}")

    with nn.observe(look):
        model(x)
    return found[0] if found else "the loss itself, from finite outputs"


def _finite(values: Any) -> bool:
    return bool(array_module(values).isfinite(values).all())
