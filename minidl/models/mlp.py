"""The multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from minidl import nn
from minidl.nn import initializers
from minidl.ops.arguments import number


def mlp(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    r"""Return a multilayer perceptron, for images as well, which are flattened first.

    .. math:: h_0 = x, \qquad h_i = f(h_{i-1} W_i + b_i), \qquad y = h_{n-1} W_n + b_n

    with :math:`\sum_i (s_{i-1} + 1)\, s_i` parameters for the sizes s: `mlp([784, 128, 10])` has 101,770.

    Parameters
    ----------
    sizes : sequence of int
        Features in, of each hidden layer, and out: `mlp([784, 128, 10])`.
    activation : class or callable, default nn.ReLU
        Makes f, one for each hidden layer: `nn.Tanh`, or `lambda: nn.LeakyReLU(0.2)`.
    batch_norm : bool, default False
        Batch normalization before each activation; the layer before it then has no bias, which would be subtracted
        again.
    dropout : float in [0, 1], default 0
        The probability of dropping, after each activation.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or an argument is out of range.

    Notes
    -----
    The weights start with the variance that suits f (`initializers.for_activation`); behind the last layer there is
    none.

    Examples
    --------
    >>> model = models.mlp([784, 128, 10], dropout=0.2)
    >>> sum(parameter.size for parameter in model.parameters())
    101770
    >>> model(np.zeros((5, 28, 28, 1), np.float32)).shape
    (5, 10)
    """
    if not isinstance(sizes, Sequence) or len(sizes) < 2:
        raise ValueError(f"mlp: sizes is {sizes!r}, expected at least the number of inputs and of outputs: [784, 10]")
    number(dropout, "mlp", "dropout", "[0, 1]")
    *hidden, (features, outputs) = itertools.pairwise(sizes)
    init = initializers.for_activation(_made_by(activation))
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in hidden:
        layers.append(nn.Dense(before, after, bias=not batch_norm, init=init))
        if batch_norm:
            layers.append(nn.BatchNorm(after))
        layers.append(activation())
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Dense(features, outputs, init=initializers.for_activation(None)))


def _made_by(activation: Callable[[], nn.Module]) -> nn.Module:
    try:
        module = activation()
    except TypeError:  # not callable, or it wants an argument, as an op does
        module = None
    if not isinstance(module, nn.Module):
        raise TypeError(f"mlp: activation is {activation!r}, expected what makes a Module when it is called: nn.ReLU")
    return module
