"""Kernels that are written from formulas: which there are, and many of them compiled at once."""

from __future__ import annotations

import contextlib
import re

import numpy as np

import minidl as ml
from minidl import ops, optim
from minidl.kernels.cuda import blocks, fusion, launch
from minidl.optim import on_device

OPTIMIZERS = {
    "SGD": (optim.SGD, {}),
    "HeavyBall": (optim.HeavyBall, {}),
    "HeavyBall, rate outside": (optim.HeavyBall, {"rate_inside": False}),
    "Nesterov": (optim.Nesterov, {}),
    "AdaGrad": (optim.AdaGrad, {}),
    "AdaGrad exp": (optim.AdaGrad, {"accumulate": "exp"}),
    "RMSProp": (optim.RMSProp, {}),
    "RMSProp, ε outside": (optim.RMSProp, {"eps_inside": False}),
    "Adadelta": (optim.Adadelta, {}),
    "Adam": (optim.Adam, {}),
    "Adam, uncorrected": (optim.Adam, {"bias_correction": False}),
    "AdaMax": (optim.AdaMax, {}),
    "Nadam": (optim.Nadam, {}),
    "AMSGrad": (optim.AMSGrad, {}),
}

ALONE = ["relu", "leaky_relu", "elu", "selu", "gelu", "sigmoid", "softplus", "tanh", "exp", "log", "sqrt", "sin", "cos"]
FORMULAS = {name: lambda x, op=getattr(ops, name): op(x) for name in [*ALONE, "arctan", "abs"]} | {
    "gelu of tanh": lambda x: ops.gelu(x, approximate="tanh"),
    "leaky_relu 0.2": lambda x: ops.leaky_relu(x, slope=0.2),
    "elu 0.5": lambda x: ops.elu(x, alpha=0.5),
    "divide": lambda x: x / (x + 3),
    "maximum": lambda x: ops.maximum(x, 0.5 * x),
    "minimum": lambda x: ops.minimum(x, 0.5 * x),
}


def made(name, params, scaled=False, **settings):
    """Return an optimizer by its name here."""
    kind, own = OPTIMIZERS[name]
    if scaled and kind.has_rate:
        settings["lr_scale"] = {"params[0]": 0.3, "params[1]": np.linspace(0, 2, params[1].shape[-1])}
    return kind(params, **own, **settings)


def parameters(dtype=np.float64, seed=0, shapes=((3, 2), (5,))):
    """Return parameters on the current device."""
    rng = np.random.default_rng(seed)
    return [ml.Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in shapes]


def rules(dtype):
    """Yield (name, kernel) for every optimizer, without and with factors of the rate."""
    for scaled in (False, True):
        for name, (kind, _) in OPTIMIZERS.items():
            if kind.has_rate or not scaled:
                optimizer = made(name, parameters(dtype), scaled)
                yield f"{name}{', scaled' * scaled}", on_device.write(optimizer)


@contextlib.contextmanager
def collected():
    """In this context, formulas are called with their arrays, and their kernels stand in the list that it gives."""
    found, before = [], blocks.elementwise

    def elementwise(formula, *arrays):
        kinds = tuple((x.dtype.char, x.shape != arrays[0].shape) for x in arrays)
        found.append(blocks.write(formula, kinds)[0])
        return formula(*arrays)

    blocks.elementwise = elementwise
    try:
        yield found
    finally:
        blocks.elementwise = before


def formulas(cupy, dtype):
    """Yield (name, kernel) for all formulas of the ops here, forward and backward; `cupy` is the stand-in."""
    for name, formula in FORMULAS.items():
        with collected() as kernels:
            x = ml.Tensor(cupy.asarray(np.linspace(0.1, 2, 7, dtype=dtype)), requires_grad=True)
            formula(x).backward(cupy.asarray(np.ones(7, dtype)))
        for number, kernel in enumerate(kernels):
            yield f"{name} {number}", kernel


def generated_sources(cupy):
    """Yield (name, source, dtype) for every kernel that is written from a formula of the package."""
    for dtype in ("float32", "float64"):
        for name, kernel in (*rules(dtype), *formulas(cupy, dtype)):
            yield name, kernel.source, dtype
        yield "gather", blocks.gathering((150, 6, 2400, 1)), dtype


def joined(sources):
    """Return many sources as one, and the names of their kernels in it."""
    names = [f"kernel_{number}" for number in range(len(sources))]
    texts = [re.sub(r"\b\w+\(\n", f"{name}(\n", text, count=1) for text, name in zip(sources, names, strict=True)]
    return "\n".join(texts), names


class Together:
    """Compiles many kernels in one source, in place of `fusion.compiled`: g++ takes as long for one as for thirty."""

    def __init__(self, cupy, kernels):
        self._kernels, self._others = {}, fusion.compiled
        for char in sorted({kernel.dtype.char for kernel in kernels}):
            texts = list(dict.fromkeys(kernel.source for kernel in kernels if kernel.dtype.char == char))
            source, names = joined(texts)
            module = cupy.RawModule(code=source, options=(*launch.OPTIONS, f"-DREAL={launch.C_TYPES[char]}"))
            for text, name in zip(texts, names, strict=True):
                self._kernels[text, char] = launch.Kernel(module.get_function(name), name, np.dtype(char))

    def __call__(self, source, name, dtype):
        found = self._kernels.get((source, np.dtype(dtype).char))
        return found or self._others(source, name, dtype)
