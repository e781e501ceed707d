"""Losses of the residual, the distance between outputs and targets, and its smoothing in the course of the training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import kernels, ops
from minidl.backend import array_module
from minidl.nn.losses import Loss, single_output
from minidl.ops.arguments import number, positive_integer
from minidl.ops.losses import checked_labels
from minidl.tensor import Tensor

MODES = ("both", "global", "local")


class SquaredResidual(Loss):
    r"""The squared length of the residual, averaged over the batch: a classifier trained by least squares.

    .. math:: L = \frac{1}{m} \sum_i \|d_i\|_2^2, \qquad d_i = |h(x_i) - y_i| \in \mathbb{R}^M

    Parameters
    ----------
    outputs : {"probabilities", "raw"}, default "probabilities"
        What h is: the softmax of the model's outputs, which is taken here, or the outputs as they are.
    label_smoothing : float in [0, 1], default 0
        ε: the target is :math:`(1-\epsilon)\,y + \epsilon / M`.

    Notes
    -----
    R, equation 9 and its recipe; label smoothing: Szegedy et al. 2016. It is called with outputs (N, M) and labels: N
    class indices, y is then one-hot, or the share of each class in each sample (N, M), not negative and 1 in sum. `MSE`
    of the same h and y is M times smaller, being a mean over the M values too. ValueError and TypeError are raised as
    by `ops.cross_entropy`.
    """

    def __init__(self, outputs: str = "probabilities", label_smoothing: float = 0.0) -> None:
        if outputs not in ("probabilities", "raw"):
            raise ValueError(f"{type(self).__name__}: outputs is {outputs!r}, expected 'probabilities' or 'raw'")
        self.outputs = outputs
        self.label_smoothing = number(label_smoothing, type(self).__name__, "label_smoothing", "[0, 1]")

    def each(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        return _squared_length(self._difference(outputs, labels))

    def _difference(self, outputs: Any, labels: Any) -> Tensor:
        """Return h − y."""
        outputs = _tensor(single_output(outputs, self))
        y = self._targets(outputs, labels)
        return (ops.softmax(outputs) if self.outputs == "probabilities" else outputs) - y

    def _targets(self, outputs: Tensor, labels: Any) -> Any:
        values = outputs.data
        labels = checked_labels(values, _array(labels), type(self).__name__)
        return kernels.of(values).losses.targets(labels, values, self.label_smoothing)


class ResidualSmoothing(SquaredResidual):
    r"""The squared length of the smoothed residual: a regularization that adapts to how well a sample is fitted.

    .. math:: L = \frac{1}{m} \sum_i \|r_i\|_2^2, \qquad
              r_j = (1-\kappa_j)\,d_j + \frac{\kappa_j}{M-1} \sum_{k \ne j} d_k, \qquad
              \kappa_j = \frac{s^t}{1+e^{-\alpha \tilde d_j}}

    for the residual d of `SquaredResidual`, and :math:`\tilde d` of mean 0 and standard deviation 1 over the M values
    of a sample. Where s is 0 it is the loss `SquaredResidual` itself.

    Parameters
    ----------
    annealing : callable or float in [0, 1]
        :math:`s^t` as a function of the progress of the training, such as `LogisticAnnealing` and `LaplaceAnnealing`;
        or a constant s.
    steepness : float, default 1
        α, at least 0. R: 0.25 to 4.
    mode : {"both", "global", "local"}, default "both"
        "global": κ = s/2 for all values, which is α = 0; `steepness` is then not used. "local": s is constant, and
        `annealing` must be that number. "both": :math:`s^t` and α as they are given.
    outputs, label_smoothing
        As for `SquaredResidual`.
    differentiate_diffusivity : bool, default False
        Whether gradients see how κ depends on d; see `ops.residual_smoothing`.

    Notes
    -----
    R, equations 7, 9 to 11 and 15 to 22. Time and memory are O(M) a sample. A validation loss is smoothed too, with
    the s of that moment. Outputs with M = 1 raise ValueError: there is nothing to smooth.

    Examples
    --------
    >>> loss = nn.ResidualSmoothing(nn.LogisticAnnealing(0.3), steepness=1)
    >>> float(loss(model(x), y, progress=0.5)) > 0
    True
    """

    def __init__(
        self,
        annealing: Callable[[float], float] | float,
        steepness: float = 1.0,
        mode: str = "both",
        *,
        outputs: str = "probabilities",
        label_smoothing: float = 0.0,
        differentiate_diffusivity: bool = False,
    ) -> None:
        super().__init__(outputs, label_smoothing)
        self.annealing, self.steepness, self.mode = _scheme(annealing, steepness, mode, "ResidualSmoothing")
        self.differentiate_diffusivity = _flag(differentiate_diffusivity, "ResidualSmoothing")

    def each(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        d = ops.abs(self._difference(outputs, labels))
        if d.shape[1] < 2:
            raise ValueError(f"ResidualSmoothing: outputs have shape {d.shape}: a residual of one value has no others")
        s, alpha = _setting(self, progress, d.dtype)
        return _squared_length(
            ops.residual_smoothing(d, s, alpha, differentiate_diffusivity=self.differentiate_diffusivity)
        )


class DiffusionSmoothing2d(Loss):
    r"""The squared length of a residual that is an image, after diffusion among neighbouring pixels.

    .. math:: L = \frac{1}{m} \sum_i \|u_i\|_2^2, \qquad
              \frac{\partial u}{\partial \tau} = \kappa\, \Delta u, \quad u(0) = d = |h(x) - y|, \qquad
              \kappa = \frac14 \cdot \frac{s^t}{1+e^{-\alpha \tilde d}}

    for autoencoders and other networks whose outputs h are images, with targets y of the same shape; u is that after a
    number of explicit steps of `ops.diffuse2d`, which are stable for κ ≤ 1/4: hence the factor 1/4, so that s in [0, 1]
    is as strong as it may be. :math:`\tilde d` has mean 0 and standard deviation 1 over all H · W · C values of a
    sample. Where these are equal κ has no effect, as Δu is 0. Where s is 0 it is the squared residual
    :math:`\|h - y\|^2` itself.

    Parameters
    ----------
    annealing, steepness, mode
        As for `ResidualSmoothing`; in mode "global" κ = s/8 for all pixels.
    steps : int, default 1
        The diffusion time τ.
    differentiate_diffusivity : bool, default False
        Whether gradients see how κ depends on d. By default it is a constant of the training step.

    Raises
    ------
    ValueError
        When called, if outputs and targets are not images (N, H, W, C) of one shape, or there are none.

    Notes
    -----
    R, equations 7 to 11 and 15 to 21, and its section 5, which names autoencoders as the place of the Laplace operator.
    `MSE` is H · W · C times smaller than this loss without smoothing.
    """

    def __init__(
        self,
        annealing: Callable[[float], float] | float,
        steepness: float = 1.0,
        mode: str = "both",
        *,
        steps: int = 1,
        differentiate_diffusivity: bool = False,
    ) -> None:
        self.annealing, self.steepness, self.mode = _scheme(annealing, steepness, mode, "DiffusionSmoothing2d")
        self.steps = positive_integer(steps, "DiffusionSmoothing2d", "steps")
        self.differentiate_diffusivity = _flag(differentiate_diffusivity, "DiffusionSmoothing2d")

    def each(self, outputs: Any, labels: Any, progress: float = 0.0) -> Tensor:
        outputs, targets = _tensor(single_output(outputs, self)), _array(labels)
        if outputs.ndim != 4 or np.shape(targets) != outputs.shape or not outputs.size:
            raise ValueError(
                f"DiffusionSmoothing2d: outputs have shape {outputs.shape} and targets {np.shape(targets)}, "
                "expected images (N, H, W, C) of one shape"
            )
        d = ops.abs(outputs - targets)
        s, alpha = _setting(self, progress, d.dtype)
        followed = d if self.differentiate_diffusivity else d.detach()
        kappa = s / 8 if alpha == 0 else ops.sigmoid(alpha * _normalized(followed)) * (s / 4)
        return _squared_length(ops.diffuse2d(d, kappa, self.steps))


def _normalized(d: Tensor) -> Tensor:
    """Return the values of each sample with mean 0 and standard deviation 1.

    Of equal values, d̃ is 0, or what rounding makes of it: an even image stays as it is, whatever its κ.
    """
    values = d.reshape(len(d), -1)
    centered = values - values.mean(axis=1, keepdims=True)
    variance = (centered * centered).mean(axis=1, keepdims=True)
    deviation = ops.sqrt(ops.where(variance.data > 0, variance, 1.0))
    return (centered / deviation).reshape(d.shape)


def _scheme(annealing: Any, steepness: Any, mode: Any, who: str) -> tuple[Any, float, str]:
    """Return the three settings of a scheme, checked."""
    if mode not in MODES:
        raise ValueError(f"{who}: mode is {mode!r}, expected one of {', '.join(map(repr, MODES))}")
    if not callable(annealing):
        annealing = number(annealing, who, "annealing", "[0, 1]")
    elif mode == "local":
        raise ValueError(f"{who}: annealing is {annealing!r}, expected a number in mode 'local', where s is constant")
    return annealing, number(steepness, who, "steepness"), mode


def _flag(value: Any, who: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who}: differentiate_diffusivity is {value!r}, expected True or False")
    return bool(value)


def _setting(loss: Any, progress: Any, dtype: Any) -> tuple[Any, float]:
    """Return s and α of a smoothing loss at this point of the training; s of an array on a GPU lies there too."""
    s = loss.annealing(progress) if callable(loss.annealing) else loss.annealing
    on_host = array_module(s) is np
    s = number(s, type(loss).__name__, "the annealed s", "[0, 1]") if on_host else s.astype(dtype, copy=False)
    return s, 0.0 if loss.mode == "global" else loss.steepness


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


def _array(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _squared_length(r: Tensor) -> Tensor:
    """Return ‖r‖² of each sample."""
    return (r * r).sum(axis=tuple(range(1, r.ndim)))
