"""What hides a part of an image, or all that is behind the object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from minidl.backend import array_module, to_numpy
from minidl.data.augment.change import Change, beside, check_number, check_one_of, check_range, per_image

FILLS = ("noise", "black", "mean")


@dataclass(frozen=True)
class erase(Change):
    """Replaces a rectangle at a random place: random erasing.

    Parameters
    ----------
    p : float in [0, 1], default 0.5
        The probability for each image.
    area : pair of float in [0, 1], default (0.02, 0.33)
        The share of the image, drawn uniformly; what does not fit into the image is cut off.
    aspect : pair of positive float, default (0.3, 3.3)
        Height over width, drawn uniformly on the logarithmic scale.
    fill : {"noise", "black", "mean"}, default "noise"
        Uniform random numbers, zeros, or the mean of each channel of the image.

    Notes
    -----
    Zhong, Zheng, Kang, Li and Yang 2020, "Random erasing data augmentation".
    """

    strengths: ClassVar = ("p",)
    p: float = 0.5
    area: tuple[float, float] = (0.02, 0.33)
    aspect: tuple[float, float] = (0.3, 3.3)
    fill: str = "noise"

    def __post_init__(self) -> None:
        check_number("erase", "p", self.p, 0, 1)
        check_range("erase", "area", self.area, 0, 1)
        check_range("erase", "aspect", self.aspect, 1e-3, 1e3)
        check_one_of("erase", "fill", self.fill, FILLS)

    def apply(self, x: Any, generator: Any) -> Any:
        xp = array_module(x)
        count, height, width, _ = x.shape
        erased = generator.random(count) < self.p
        area = generator.uniform(*self.area, count) * height * width
        aspect = np.exp(generator.uniform(*np.log(self.aspect), count))
        lines, columns = np.sqrt(area * aspect), np.sqrt(area / aspect)
        inside = _stripe(generator, lines * erased, height)[:, :, None] & _stripe(generator, columns, width)[:, None, :]
        if self.fill == "noise":
            new = beside(x, generator.random(x.shape, dtype=np.float32), x.dtype)
        else:
            new = x.mean(axis=(1, 2), keepdims=True) if self.fill == "mean" else x.dtype.type(0)
        return xp.where(beside(x, inside)[..., None], new, x)


def _stripe(generator: Any, lengths: Any, size: int) -> Any:
    """Return (B, size) flags, True on a stretch of about this length at a random place."""
    lengths = np.minimum(np.round(lengths), size)
    first = np.floor(generator.random(len(lengths)) * (size - lengths + 1))[:, None]
    places = np.arange(size)
    return (places >= first) & (places < first + lengths[:, None])


@dataclass(frozen=True)
class background(Change):
    r"""Puts another background behind the object.

    Background is what has nearly the colour that most of the image's border has:

    .. math:: x' = x + a (z - x), \qquad a = \min(1, \max(0, 2 - d / tolerance))

    where d is the largest difference in any channel from the median of the border, and z the new background. This finds
    the ground of drawings, of scans and of photographs in front of a plain wall; elsewhere it recolours parts.

    Parameters
    ----------
    tolerance : float not negative, default 0.1
        Up to this difference everything is replaced, and nothing from twice of it on.
    images : (N, H, W, C) array, optional
        Of the type uint8 or floats in [0, 1], of the size of the images: one of them, drawn for each image, is the new
        background. Default: a random colour that changes smoothly into another one, in a random direction.
    p : float in [0, 1], default 1
        The probability for each image.
    """

    strengths: ClassVar = ("p",)
    tolerance: float = 0.1
    images: Any = field(default=None, repr=False)
    p: float = 1.0

    def __post_init__(self) -> None:
        check_number("background", "tolerance", self.tolerance)
        check_number("background", "p", self.p, 0, 1)
        if self.images is not None:
            object.__setattr__(self, "images", _backgrounds(self.images))

    def apply(self, x: Any, generator: Any) -> Any:
        xp = array_module(x)
        chosen = generator.random(len(x)) < self.p
        new = self._drawn(x, generator) if self.images is None else self._taken(x, generator)
        border = xp.concatenate([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], axis=1)
        distance = abs(x - xp.median(border, axis=1)[:, None, None, :]).max(axis=3, keepdims=True)
        if self.tolerance:
            share = xp.clip(2 - distance / x.dtype.type(self.tolerance), 0, 1)
        else:
            share = xp.zeros_like(distance)
        share *= per_image(x, chosen)
        return xp.clip(x * (1 - share) + share * new, 0, 1)

    def _taken(self, x: Any, generator: Any) -> Any:
        if self.images.shape[1:] != x.shape[1:]:
            raise ValueError(f"background: images has shape {self.images.shape}, expected {x.shape[1:]} as the inputs")
        images = self.images[generator.integers(len(self.images), size=len(x))]
        return beside(x, images / np.float32(255) if images.dtype == np.uint8 else images, x.dtype)

    def _drawn(self, x: Any, generator: Any) -> Any:
        count, height, width, channels = x.shape
        angle = generator.uniform(0, 2 * np.pi, count)[:, None, None]
        rows, columns = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)
        place = 0.5 + (rows * np.sin(angle) + columns * np.cos(angle)) / np.sqrt(2)  # in [0, 1]
        colours = generator.random((count, 2, 1, 1, channels))
        return beside(x, colours[:, 0] + place[..., None] * (colours[:, 1] - colours[:, 0]), x.dtype)


def _backgrounds(given: Any) -> Any:
    """Return the images as an array of NumPy's, or raise if they are none."""
    try:
        images = np.asarray(to_numpy(given))
    except ValueError:  # lists of different lengths
        raise ValueError("background: images are of different shapes, expected an array (N, H, W, C)") from None
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"background: images has shape {images.shape}, expected (N, H, W, C)")
    if images.dtype != np.uint8:
        if images.dtype.kind != "f":
            raise TypeError(f"background: images has dtype {images.dtype}, expected uint8 or floats in [0, 1]")
        low, high = images.min(initial=0), images.max(initial=0)
        if not (low >= 0 and high <= 1):  # nor NaN
            raise ValueError(f"background: images is from {low:g} to {high:g}, expected uint8 or floats in [0, 1]")
    return images
