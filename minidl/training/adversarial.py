"""Adversarial noise: the small change of an image that a network minds most."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from minidl import nn
from minidl.backend import array_module, asarray
from minidl.graph import differentiating
from minidl.ops.arguments import number
from minidl.tensor import Tensor
from minidl.training.callbacks import Callback

if TYPE_CHECKING:
    from minidl.training.trainer import Trainer

Range = tuple[float, float]
ROUNDING = 1e-6  # by which inputs may leave their range, as a share of it: filters and interpolation round


class _NonFiniteGradientError(ValueError):
    pass


def fgsm(
    model: nn.Module,
    x: Any,
    y: Any,
    eps: float,
    loss: Callable[..., Tensor] | None = None,
    *,
    within: Range | None = (0.0, 1.0),
) -> Any:
    r"""Change inputs by the fast gradient sign method, so that the loss rises.

    .. math:: x' = \mathrm{clip}\big(x + \epsilon\, \mathrm{sign}\, \nabla_x L(h(x), y)\big)

    Of all changes by at most ε an element, this one raises a linear loss most. The network is in evaluation mode while
    it is asked, and afterwards as before: modes, running statistics, random generators and gradients.

    Parameters
    ----------
    model : nn.Module
    x : (B, …) floating-point array
    y : (B,) or (B, …) array
        The right labels, as the loss takes them.
    eps : float
        ε, in the units of x: 8 / 255 is eight gray levels of an image in [0, 1].
    loss : callable, default nn.CrossEntropy()
        Called with (outputs, labels). To move inputs towards another class instead, give its labels and the loss with
        the opposite sign.
    within : (low, high) or None, default (0, 1)
        The range of x, to which x' is clipped. None for inputs without one, such as standardized images.

    Returns
    -------
    array (B, …)
        x', of the dtype of x. Elements whose gradient is 0 stay as they are.

    Raises
    ------
    ValueError
        If x leaves the range `within`, or the gradient contains NaN or infinite values.

    Notes
    -----
    Goodfellow, Shlens, Szegedy 2015, "Explaining and harnessing adversarial examples", §4. The loss may be the mean or
    the sum over the batch: the sign is the same, as long as a sample's output depends on nothing but that sample, which
    holds in evaluation.

    Examples
    --------
    >>> changed = training.fgsm(model, x, y, 0.1)
    >>> print(f"{abs(changed - x).max():.3f}")
    0.100
    """
    eps = number(eps, "fgsm", "eps")
    x = asarray(x.data if isinstance(x, Tensor) else x)
    xp = array_module(x)
    if x.dtype.kind != "f":
        raise TypeError(f"fgsm: x has dtype {x.dtype}, expected floating-point numbers; divide images of bytes by 255")
    low, high = _checked_range(within, "fgsm")
    rounding = 0 if within is None else ROUNDING * (high - low)
    if x.size and not (low - rounding <= x.min() and x.max() <= high + rounding):
        what = f"x reaches from {float(x.min()):.3g} to {float(x.max()):.3g}, outside of the range {low:g} to {high:g}"
        raise ValueError(f"fgsm: {what}; give its own as `within`, or None if there is none")
    inputs = Tensor(x, requires_grad=True)
    with nn.evaluating(model), _fixed(model), differentiating([inputs]):
        (nn.CrossEntropy() if loss is None else loss)(model(inputs), y).backward()
    gradient = xp.zeros_like(x) if inputs.grad is None else inputs.grad
    if not xp.isfinite(gradient).all():
        raise _NonFiniteGradientError(
            "fgsm: the gradient of the loss with respect to x contains NaN or infinite values"
        )
    return xp.clip(x + x.dtype.type(eps) * xp.sign(gradient), low, high)


class AdversarialNoise(Callback):
    """Trains on inputs that are changed against the network, as it is at each step, by `fgsm`.

    Parameters
    ----------
    eps : float
        ε, in the units of the inputs.
    share : float in (0, 1], default 0.5
        How many of each batch are changed, rounded, but at least one: the first ones, which are others in every epoch
        because the `data.Loader` shuffles. The expected loss is then (1 − share) L(x) + share L(x'), as in the paper.
    within : (low, high) or None, default (0, 1)
        The range of the inputs; None for standardized images, where ε is in standard deviations.

    Notes
    -----
    Goodfellow et al. 2015, §6. The loss is that of the `Trainer`. With share 1 a step takes nearly twice as long.
    Nothing is drawn at random and nothing is remembered, so a resumed run is the same to the bit.
    """

    def __init__(self, eps: float, share: float = 0.5, within: Range | None = (0.0, 1.0)) -> None:
        self.eps = number(eps, "AdversarialNoise", "eps")
        self.share = number(share, "AdversarialNoise", "share", "(0, 1]")
        _checked_range(within, "AdversarialNoise")
        self.within = within

    def on_batch(self, trainer: Trainer, x: Any, y: Any) -> tuple[Any, Any]:
        count = max(1, round(len(x) * self.share))
        changed = x.copy()
        loss, within = trainer.compute_loss, self.within
        # A step with a gradient that is not finite fails, and says where it began.
        with contextlib.suppress(_NonFiniteGradientError):
            changed[:count] = fgsm(trainer.model, x[:count], y[:count], self.eps, loss, within=within)
        return changed, y


@contextlib.contextmanager
def _fixed(model: nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient in this context: those of the inputs are then cheaper."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad = True


def _checked_range(within: Any, who: str) -> Range:
    if within is None:
        return -float("inf"), float("inf")
    try:
        low, high = map(float, within)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise ValueError(f"{who}: within is {within!r}, expected a pair (low, high) or None")
    return low, high
