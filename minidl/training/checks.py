"""What a Trainer refuses before it begins."""

from __future__ import annotations

import warnings
from typing import Any

from minidl import nn
from minidl.optim import Optimizer
from minidl.optim.deterministic import DeterministicOptimizer
from minidl.training.callbacks import Callback


def check_parts(model: Any, optimizer: Any, callbacks: Any) -> None:
    """Raise unless a Trainer can be made of these."""
    for name, value, kind in (("model", model, nn.Module), ("optimizer", optimizer, Optimizer)):
        if not isinstance(value, kind):
            raise TypeError(f"Trainer: {name} is {type(value).__name__}, expected {kind.__name__}")
    if isinstance(optimizer, DeterministicOptimizer):
        raise ValueError(
            f"Trainer: optimizer is {type(optimizer).__name__}, which tries several places in a step, on one and "
            "the same function; a Trainer's batches differ. Use training.minimize, on all the data"
        )
    if not {id(tensor) for tensor in optimizer.params} & {id(parameter) for parameter in model.parameters()}:
        raise ValueError("Trainer: the optimizer holds none of the model's parameters, so nothing would be learned")
    if isinstance(callbacks, Callback) or not all(isinstance(callback, Callback) for callback in callbacks):
        raise TypeError(f"Trainer: callbacks is {callbacks!r}, expected a sequence of objects of the type Callback")


def check_learned(model: nn.Module, optimizer: Optimizer) -> None:
    """Raise if the optimizer can move nothing; warn of parameters that require gradients but are in no optimizer."""
    if not any(tensor.requires_grad for tensor in optimizer.params):
        raise ValueError("fit: all that the optimizer holds is frozen, so nothing would be learned")
    held = {id(tensor) for tensor in optimizer.params}
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in held
        if parameter.owner is None or parameter.owner() is None  # if it is another optimizer's, that is no mistake
    ]
    if idle:
        advice = "make a new optimizer, or freeze them"
        warnings.warn(f"fit: no optimizer holds {', '.join(idle)}, so they will not learn; {advice}", stacklevel=3)
