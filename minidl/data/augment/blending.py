"""Two images in one, and their labels with them: for `Loader(…, blend=…)`.

Each is called as ``blend(x, y, generator)`` with a batch, whose labels are class indices (B,), or shares of the classes
(B, classes) as another blend has made them. It returns new images and such shares, float32: `ops.cross_entropy` takes
them. An image's partner is another one of its batch, so that a blend depends on the batch; what is drawn is the image's
own, as in all changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minidl.backend import array_module
from minidl.data.augment.change import beside, check_images, check_integer, check_number, per_image


@dataclass(frozen=True)
class mixup:
    r"""Draws one image over another, both transparent.

    .. math:: x' = \lambda x + (1 - \lambda) x_\pi, \qquad y' = \lambda y + (1 - \lambda) y_\pi, \qquad
              \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    where π is a random permutation of the batch and y one-hot.

    Parameters
    ----------
    classes : int
        How many there are.
    alpha : float not negative, default 0.2
        α: the larger, the more even the shares; 0 changes no image.

    Notes
    -----
    Zhang, Cissé, Dauphin and Lopez-Paz 2018, "mixup: beyond empirical risk minimization". Here λ is drawn for each
    image, not for the batch.

    Examples
    --------
    >>> change = augment.mixup(classes=10, alpha=0.4)
    >>> mixed, shares = change(x, y, np.random.default_rng(0))
    >>> mixed.shape, shares.shape, bool(np.allclose(shares.sum(axis=1), 1))
    ((100, 8, 8, 1), (100, 10), True)
    """

    strengths: ClassVar = ("alpha",)
    classes: int
    alpha: float = 0.2

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, x: Any, y: Any, generator: Any) -> tuple[Any, Any]:
        """Return the images, blended, and the shares of the classes in them."""
        y = _shares(x, y, self.classes, "mixup")
        own, partner = _own_share(len(x), self.alpha, generator), _partners(x, generator)
        share, other, xp = per_image(x, own), x[partner], array_module(x)
        mixed = share * x + (1 - share) * other
        return xp.clip(mixed, xp.minimum(x, other), xp.maximum(x, other)), _blended_labels(y, own, partner)


@dataclass(frozen=True)
class cutmix:
    r"""Pastes a rectangle of one image into another, at the same place.

    The rectangle has the shape of the image and the share :math:`1 - \lambda` of its area,
    :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`, around a uniformly random pixel; what lies outside is cut off.
    The label counts the pixels: :math:`y' = \lambda' y + (1 - \lambda') y_\pi` with the share λ' that is left.

    Parameters
    ----------
    classes : int
        How many there are.
    alpha : float not negative, default 1
        α: 1 makes all areas equally frequent; 0 changes no image.

    Notes
    -----
    Yun, Han, Oh, Chun, Choe and Yoo 2019, "CutMix: regularization strategy to train strong classifiers with localizable
    features". Here λ is drawn for each image, not for the batch.
    """

    strengths: ClassVar = ("alpha",)
    classes: int
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, x: Any, y: Any, generator: Any) -> tuple[Any, Any]:
        """Return the images, blended, and the shares of the classes in them."""
        y = _shares(x, y, self.classes, "cutmix")
        count, height, width, _ = x.shape
        side = np.sqrt(1 - _own_share(count, self.alpha, generator))
        partner = _partners(x, generator)
        stripes = []
        for size in (height, width):
            middle = generator.integers(size, size=count)[:, None]
            half = np.round(side * size)[:, None] / 2
            places = np.arange(size)
            stripes.append((places >= middle - half) & (places < middle + half))
        pasted = stripes[0][:, :, None] & stripes[1][:, None, :]
        x = array_module(x).where(beside(x, pasted)[..., None], x[partner], x)
        return x, _blended_labels(y, 1 - pasted.mean(axis=(1, 2)), partner)


def _check(blend: mixup | cutmix) -> None:
    who = type(blend).__name__
    check_integer(who, "classes", blend.classes, 1)
    check_number(who, "alpha", blend.alpha)


def _own_share(count: int, alpha: float, generator: Any) -> Any:
    """Return λ for each image; the beta distribution of 0 is that of 1 − λ or λ with nothing between."""
    return generator.beta(alpha, alpha, count) if alpha else np.ones(count)


def _partners(x: Any, generator: Any) -> Any:
    return beside(x, generator.random(len(x)).argsort())


def _shares(x: Any, y: Any, classes: int, who: str) -> Any:
    """Return the labels as shares of the classes, float32."""
    check_images(x, who)
    xp = array_module(x)
    y = xp.asarray(y)
    if y.shape == (len(x), classes) and y.dtype.kind == "f":
        return y.astype(np.float32, copy=False)
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise ValueError(
            f"{who}: y is {y.dtype} {y.shape}, expected class indices ({len(x)},) or shares ({len(x)}, {classes})"
        )
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise ValueError(f"{who}: y is from {int(y.min())} to {int(y.max())}, expected 0 to {classes - 1}")
    return (y[:, None] == xp.arange(classes)).astype(np.float32)


def _blended_labels(y: Any, own: Any, partner: Any) -> Any:
    share = beside(y, own, np.float32)[:, None]
    return share * y + (1 - share) * y[partner]
