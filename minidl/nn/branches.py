"""Modules that let the values go several ways: residual blocks, branches, and auxiliary outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl import ops
from minidl.nn.module import Module, Sequential
from minidl.tensor import Tensor


class Identity(Module):
    """y = x: the branch that does nothing."""

    def forward(self, x: Any) -> Any:
        return x


class Residual(Module):
    r"""A residual block: :math:`y = F(x) + S(x)`.

    Backward, :math:`\partial L/\partial x = F'(x)^T g + S'(x)^T g`: through the identity the gradient arrives whole,
    however deep the network is.

    Parameters
    ----------
    body : Module
        F, the block's layers. He et al. 2016 put a ReLU after the sum: `Sequential(Residual(body), ReLU())`.
    shortcut : Module, optional
        S, where the shape changes on the way. Default: the identity.

    Raises
    ------
    ValueError
        If the two have different shapes for an input.
    """

    def __init__(self, body: Module, shortcut: Module | None = None) -> None:
        self.body = _module(body, "Residual", "body")
        self.shortcut = Identity() if shortcut is None else _module(shortcut, "Residual", "shortcut")

    def forward(self, x: Any) -> Tensor:
        y, across = self.body(x), self.shortcut(x)
        if y.shape != across.shape:
            raise ValueError(
                f"Residual: body made {y.shape} of {x.shape}, the shortcut {across.shape}; they must agree"
            )
        return ops.add(y, across)


class Concatenate(Module):
    """Branches side by side: each gets x, and what they return is joined along the channels.

    Parameters
    ----------
    branches : Modules
        A layer of a DenseNet is `Concatenate(Identity(), layers)`: its input, and what it adds (Huang et al. 2017).
    """

    def __init__(self, *branches: Module) -> None:
        if not branches:
            raise ValueError("Concatenate: no branches were given")
        self.branches = [_module(branch, "Concatenate", f"branches[{i}]") for i, branch in enumerate(branches)]

    def forward(self, x: Any) -> Tensor:
        return ops.concatenate([branch(x) for branch in self.branches], axis=-1)


class AuxiliaryHeads(Module):
    """A network with further outputs on its way, which `WithAuxiliary` adds to the loss in training.

    Training returns the tuple (output, first head's output, …), in the order of the body, evaluation the output alone.

    Parameters
    ----------
    body : Sequential
    heads : mapping
        By the name of a module in `body`: the Module that makes an output of what comes out there.

    Examples
    --------
    >>> body = nn.Sequential(features=nn.Conv2d(1, 4, 3), flatten=nn.Flatten(), classifier=nn.Dense(144, 10))
    >>> model = nn.AuxiliaryHeads(body, {"features": nn.Sequential(nn.GlobalAvgPool2d(), nn.Dense(4, 10))})
    >>> [output.shape for output in model(x)]  # in training; in evaluation the first alone
    [(100, 10), (100, 10)]
    >>> trainer = training.Trainer(model, optim.Adam(model), nn.WithAuxiliary(nn.CrossEntropy(), weight=0.3))

    Notes
    -----
    Szegedy et al. 2015 (GoogLeNet).
    """

    def __init__(self, body: Sequential, heads: Mapping[str, Module]) -> None:
        if not isinstance(body, Sequential):
            raise TypeError(f"AuxiliaryHeads: body is {type(body).__name__}, expected a Sequential")
        names = [name for name, _ in body.children()]
        if dotted := [name for name in heads if "." in name]:
            raise ValueError(f"AuxiliaryHeads: heads names {dotted[0]!r}, expected a module of body itself")
        unknown = [repr(name) for name in heads if name not in names]
        if unknown or not heads:
            raise ValueError(
                f"AuxiliaryHeads: heads names {', '.join(unknown) or 'nothing'}; body has {', '.join(names)}"
            )
        self.body = body
        self.heads = {name: _module(head, "AuxiliaryHeads", f"heads[{name!r}]") for name, head in heads.items()}

    def forward(self, x: Any) -> Any:
        outputs = []
        for name, module in self.body.children():
            x = module(x)
            if self.training and name in self.heads:
                outputs.append(self.heads[name](x))
        return (x, *outputs) if outputs else x


def _module(value: Any, who: str, name: str) -> Module:
    if not isinstance(value, Module):
        raise TypeError(f"{who}: {name} is {type(value).__name__}, expected a Module")
    return value
