"""Checkpoints: all that a training needs to go on as if it had never stopped."""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from typing import Any, Protocol

from minidl import nn
from minidl.optim import Optimizer
from minidl.training import container
from minidl.training.diagnosis import random_generators

State = dict[str, Any]


class Stateful(Protocol):
    """What can be a part of a checkpoint; `load_state_dict` raises before it changes anything."""

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...


def save_checkpoint(
    path: str | os.PathLike[str],
    *,
    model: nn.Module,
    optimizer: Optimizer | None = None,
    extra: Any = None,
    **others: Stateful | None,
) -> None:
    """Write the state of a training to one file, in the safetensors format.

    At every moment the path holds the old checkpoint or the new one, also if the process is killed or the disk is full.
    A `Trainer` saves itself with the callback `Checkpoint`; this function is for loops of your own, and for models.

    Parameters
    ----------
    path : path
        Its folder must exist; the callback `Checkpoint` makes it.
    model : nn.Module
        Its parameters and buffers, which modules are frozen or in evaluation, and the random generators: the thread's
        (`ml.manual_seed`), and each that a module has as an attribute, or in a list or dictionary that is one; not
        those of a loss or a callback, nor that of `np.random`, from which nothing should draw here.
    optimizer : optim.Optimizer, optional
        Its state, the names and shapes of its parameters, and its rate if that is one of `optim.schedules`; not what
        else its maker chose: a rate that is a number or another function, β, penalties, clipping.
    extra : optional
        Whatever you want back from `load_checkpoint`: arrays, numbers, strings, booleans, None, and lists and
        dictionaries of them.
    **others
        Anything that has `state_dict`, a dictionary of such things, and `load_state_dict`, which raises before it
        changes anything; by a name that you choose: loader=…, history=….

    Raises
    ------
    TypeError
        Naming what a checkpoint cannot hold.
    OSError
        If the file cannot be written, naming it: a FileNotFoundError if the folder is missing, a PermissionError, ….

    Examples
    --------
    >>> training.save_checkpoint("run.safetensors", model=model, optimizer=optimizer, loader=loader, extra={"epoch": 3})
    >>> training.load_checkpoint("run.safetensors", model=model, optimizer=optimizer, loader=loader)
    {'epoch': 3}
    """
    parts = _checked("save_checkpoint", model=model, optimizer=optimizer, **others)
    parts |= {"modes": _Modes(model), "generators": _Generators(model)}
    container.write(path, {name: part.state_dict() for name, part in parts.items()} | {"extra": extra})


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    model: nn.Module | None = None,
    optimizer: Optimizer | None = None,
    strict: bool = True,
    **others: Stateful | None,
) -> Any:
    """Take over what `save_checkpoint` or the callback `Checkpoint` wrote: those parts that are named.

    The model alone gives its parameters and buffers, for evaluation or to learn something else. With its optimizer the
    training goes on: random generators, and what is frozen or in evaluation, return to their state too. The device and
    the layout in memory may differ from those of the run that saved.

    Parameters
    ----------
    path : path
    model, optimizer, **others : optional
        As for `save_checkpoint`.
    strict : bool, default True
        Whether the model's names, shapes and dtypes must all agree; otherwise what fits is loaded, cast to the model's
        dtype, and a UserWarning names the rest. The latter is for the model alone.

    Returns
    -------
    The `extra` that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, damaged or foreign, or holds the state of another model, of another optimizer or
        schedule, or of other data. The message names file and fault; nothing has been loaded then.
    """
    parts = _checked("load_checkpoint", model=model, optimizer=optimizer, **others)
    others_given = [name for name in parts if name != "model"]
    if not strict and (model is None or others_given):
        given = f"not for {', '.join(others_given)}" if others_given else "and model is None"
        raise ValueError(f"load_checkpoint: strict=False is for the model alone, {given}")
    if model is not None:
        parts["model"] = _Weights(model, strict)
        if optimizer is not None:
            parts = {"model": parts["model"], "modes": _Modes(model), "generators": _Generators(model)} | parts
    content = container.read(path)
    absent = [name for name in parts if name not in content]
    if absent:
        raise ValueError(f"load_checkpoint: {path} holds no {', '.join(absent)}, only {', '.join(content)}")
    with contextlib.ExitStack() as undo:
        for i, (name, part) in enumerate(parts.items(), start=1):
            before = part.state_dict() if i < len(parts) else {}
            try:
                part.load_state_dict(content[name])
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                raise ValueError(f"load_checkpoint: the {name} in {path} does not fit: {error}") from error
            undo.callback(part.load_state_dict, before)  # called only if a later one does not fit
        undo.pop_all()
    return content.get("extra")


def _checked(who: str, /, **parts: Any) -> dict[str, Stateful]:
    """Return the parts that are not None; raise in the name of `who` if one of them is none."""
    kinds = {"model": nn.Module, "optimizer": Optimizer}
    given = {name: part for name, part in parts.items() if part is not None}
    for name, part in given.items():
        if name in kinds and not isinstance(part, kinds[name]):
            raise TypeError(f"{who}: {name} is of type {type(part).__name__}, expected {kinds[name].__name__}")
        if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
            raise TypeError(f"{who}: {name} is of type {type(part).__name__}, which has no state_dict; see `extra`")
        if name in ("modes", "generators"):
            raise ValueError(f"{who}: a part cannot be named '{name}', which every checkpoint has already")
    return given


def frozen_names(model: nn.Module) -> list[str]:
    """Return the names of the frozen modules and of the parameters that are not learned, outer ones first."""
    frozen = [name or "the model" for name, module in model.named_modules() if module.frozen]
    return frozen + [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


class _Weights:
    """A model's parameters and buffers."""

    def __init__(self, model: nn.Module, strict: bool) -> None:
        self.model, self.strict = model, strict

    def state_dict(self) -> State:
        return self.model.state_dict()

    def load_state_dict(self, state: State) -> None:
        if self.strict:
            own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
            cast = [name for name in own if name in state and state[name].dtype != own[name].dtype]
            if cast:
                wrong = "; ".join(f"{name} is {state[name].dtype}, expected {own[name].dtype}" for name in cast)
                raise ValueError(f"{wrong}; convert the model with astype first, or load with strict=False")
        passed_over = self.model.load_state_dict(state, self.strict)
        if passed_over:
            message = f"load_checkpoint: not all of the model was loaded: {'; '.join(passed_over)}"
            warnings.warn(message, stacklevel=3)  # at the call of load_checkpoint


class _Modes:
    """Which modules are in training and which are frozen, and which parameters are not learned, by name."""

    def __init__(self, model: nn.Module) -> None:
        self._modules, self._parameters = dict(model.named_modules()), dict(model.named_parameters())

    def state_dict(self) -> State:
        return {
            "training": [name for name, module in self._modules.items() if module.training],
            "frozen": [name for name, module in self._modules.items() if module.frozen],
            "fixed": [name for name, parameter in self._parameters.items() if not parameter.requires_grad],
        }

    def load_state_dict(self, state: State) -> None:
        training, frozen, fixed = (set(state[name]) for name in ("training", "frozen", "fixed"))
        unknown = ((training | frozen) - self._modules.keys()) | (fixed - self._parameters.keys())
        if unknown:
            raise ValueError(f"there is no {', '.join(sorted(unknown))}")
        for name, module in self._modules.items():
            module.training, module.frozen = name in training, name in frozen
        for name, parameter in self._parameters.items():
            parameter.requires_grad = name not in fixed


class _Generators:
    """The states of the random generators that a training draws from."""

    def __init__(self, model: nn.Module) -> None:
        self._generators = random_generators(model)

    def state_dict(self) -> State:
        return {name: generator.bit_generator.state for name, generator in self._generators.items()}

    def load_state_dict(self, state: State) -> None:
        if state.keys() != self._generators.keys():
            raise ValueError(f"they are {', '.join(state)}, expected {', '.join(self._generators)}")
        for name, generator in self._generators.items():
            twin = copy.deepcopy(generator.bit_generator)
            twin.state = state[name]  # refuses what is not its own
            _check_position(name, twin.state)
        for name, generator in self._generators.items():
            generator.bit_generator.state = state[name]


def _check_position(name: str, state: Any) -> None:
    """Raise unless a generator's place in its buffer is inside: NumPy would read what lies behind it in memory."""
    inner = state["state"]
    for entry, place, size in (
        ("pos", inner.get("pos", 0), len(inner.get("key", ()))),
        ("buffer_pos", state.get("buffer_pos", 0), len(state.get("buffer", ()))),
    ):
        if not 0 <= place <= size:
            raise ValueError(f"{entry} of {name} is {place!r}, expected an integer from 0 to {size}")
