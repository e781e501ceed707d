"""Changes of brightness and colour, noise and blur: what pixels show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minidl import threads
from minidl.backend import array_module
from minidl.data.augment.change import Change, beside, check_number, clipped, per_image

FEW = 8  # images that are blurred together
MOST_SIGMA = 100.0  # pixels: the work grows with it


@dataclass(frozen=True)
class brightness(Change):
    r"""Adds to all pixels of an image, :math:`x' = x + b`, with b from [−strength, strength]; clipped to [0, 1]."""

    strengths: ClassVar = ("strength",)
    strength: float = 0.3

    def __post_init__(self) -> None:
        check_number("brightness", "strength", self.strength)

    def apply(self, x: Any, generator: Any) -> Any:
        return clipped(x + per_image(x, self.strength * generator.uniform(-1, 1, len(x))))


@dataclass(frozen=True)
class contrast(Change):
    r"""Moves pixels away from the mean of their image or towards it, :math:`x' = \bar x + f (x - \bar x)`.

    ln f is uniform, f in [1 / (1 + strength), 1 + strength], strength at most 1000; clipped to [0, 1].
    """

    strengths: ClassVar = ("strength",)
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_number("contrast", "strength", self.strength, 0, 1000)  # an infinite f makes NaN of the mean

    def apply(self, x: Any, generator: Any) -> Any:
        factor = (1 + self.strength) ** generator.uniform(-1, 1, len(x))
        mean = x.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64).astype(x.dtype)
        return clipped(x + per_image(x, factor - 1) * (x - mean))


@dataclass(frozen=True)
class noise(Change):
    """Adds normal noise to every value, of a deviation from [0, deviation] for each image; clipped to [0, 1]."""

    strengths: ClassVar = ("deviation",)
    deviation: float = 0.1

    def __post_init__(self) -> None:
        check_number("noise", "deviation", self.deviation)

    def apply(self, x: Any, generator: Any) -> Any:
        deviation = per_image(x, self.deviation * generator.random(len(x)))
        added = beside(x, generator.standard_normal(x.shape, dtype=np.float32), x.dtype)
        added *= deviation
        added += x
        return clipped(added)


@dataclass(frozen=True)
class blur(Change):
    """Blurs each image with a Gaussian whose σ, in pixels, is from [0, sigma]; sigma is at most 100.

    As `scipy.ndimage.gaussian_filter`, cut off at 4 σ and with the mirror image outside, but with a σ for each image.
    """

    strengths: ClassVar = ("sigma",)
    sigma: float = 1.0

    def __post_init__(self) -> None:
        check_number("blur", "sigma", self.sigma, 0, MOST_SIGMA)

    def apply(self, x: Any, generator: Any) -> Any:
        xp = array_module(x)
        sigmas = self.sigma * generator.random(len(x))
        weights = _gaussians(sigmas)
        made = xp.empty_like(x)

        def work(images: slice) -> None:
            down = _blurred(x[images], weights[images], axis=1)
            xp.clip(_blurred(down, weights[images], axis=2), 0, 1, out=made[images])

        few = [slice(i, i + FEW) for i in range(0, len(x), FEW)]  # so that they stay in the cache
        threads.share(work, few if xp is np else [slice(0, len(x))])
        return made


def _gaussians(sigmas: Any) -> Any:
    """Return the weights (B, 2r + 1) of the pixels from −r to r, for each σ."""
    radii = (4 * sigmas + 0.5).astype(int)
    radius = int(radii.max(initial=0))
    offsets = np.arange(-radius, radius + 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # σ = 0 leaves the middle alone
        weights = np.exp(-0.5 * (offsets / sigmas[:, None]) ** 2)
    weights = np.where(abs(offsets) <= radii[:, None], weights, 0)
    weights[:, radius] = 1
    return weights / weights.sum(axis=1, keepdims=True)


def _blurred(x: Any, weights: Any, axis: int) -> Any:
    """Return the images blurred along an axis: a weighted sum of shifted images, mirrored at the border."""
    xp = array_module(x)
    radius, size = weights.shape[1] // 2, x.shape[axis]
    places = np.arange(-radius, size + radius) % (2 * size)
    framed = xp.take(x, beside(x, np.where(places >= size, 2 * size - 1 - places, places)), axis=axis)
    made = x * per_image(x, weights[:, radius])
    for i in range(2 * radius + 1):
        if i != radius and weights[:, i].any():
            part = framed[:, i : i + size] if axis == 1 else framed[:, :, i : i + size]
            made += part * per_image(x, weights[:, i])
    return made


@dataclass(frozen=True)
class shuffle_channels(Change):
    """Puts the channels of an image into a random order, with a probability; images of one channel stay as they are."""

    strengths: ClassVar = ("p",)
    p: float = 0.5

    def __post_init__(self) -> None:
        check_number("shuffle_channels", "p", self.p, 0, 1)

    def apply(self, x: Any, generator: Any) -> Any:
        count, _, _, channels = x.shape
        chosen = generator.random(count) < self.p
        orders = generator.random((count, channels)).argsort(axis=1)
        orders[~chosen] = np.arange(channels)
        return array_module(x).take_along_axis(x, beside(x, orders)[:, None, None, :], axis=3)
