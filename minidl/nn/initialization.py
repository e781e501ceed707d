"""Initial weights of a whole model."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from minidl.nn import initializers
from minidl.nn.activations import Activation, ReLU
from minidl.nn.layers import ConvTranspose2d
from minidl.nn.module import Module
from minidl.nn.normalization import BatchNorm
from minidl.nn.parameter import Parameter
from minidl.nn.reparametrization import Reparametrization

AnyModule = TypeVar("AnyModule", bound=Module)


def initialize(model: AnyModule, generator: np.random.Generator | None = None) -> AnyModule:
    """Draw all weights of a model anew, each for the activation behind it (`initializers.for_activation`); return it.

    The activation behind a layer is the next in the order in which the modules are defined, a layer of its own or that
    of `BatchNorm(relu=True)`; normalization, pooling, dropout and containers between are passed over. Where another
    layer with weights or the end comes first, there is none, and the layer is linear. An activation that `forward`
    calls as an op is not seen, nor is an object that stands in a second place. Biases become 0; normalization, and
    layers that are frozen, are left as they are.

    Parameters
    ----------
    model : Module
        A layer with weights is a module with a Parameter `weight` of two or more axes, (…, in, out); its bias, if it
        has one, is the Parameter `bias`.
    generator : numpy.random.Generator, optional
        Default: the thread's generator.

    Examples
    --------
    >>> model = nn.initialize(nn.Sequential(nn.Dense(64, 32), nn.SELU(), nn.Dense(32, 10)))
    """
    modules = [module for _, module in model.named_modules()]
    seen = [module for module in modules if _activation(module) is not None or _weight(module) is not None]
    for layer, following in zip(seen, [*seen[1:], None], strict=True):
        weight = _weight(layer)
        if weight is None or layer.frozen:
            continue
        init = initializers.for_activation(_activation(following))
        gaps = layer.gaps if isinstance(layer, ConvTranspose2d) else 1
        weight.data = initializers.draw(init, weight.shape, generator, gaps)
        bias = vars(layer).get("bias")
        if isinstance(bias, Parameter):
            bias.data = np.zeros(bias.shape)
    for module in reversed(modules):  # from the inside out: the outermost decides which weight the inner ones see
        if isinstance(module, Reparametrization):
            module.prepare(module.weight)
    return model


def _activation(module: Module | None) -> Module | None:
    if isinstance(module, BatchNorm) and module.relu:
        return ReLU()
    return module if isinstance(module, Activation) else None


def _weight(module: Module) -> Parameter | None:
    weight = vars(module).get("weight")
    return weight if isinstance(weight, Parameter) and weight.ndim > 1 else None
