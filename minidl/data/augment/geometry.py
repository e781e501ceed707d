"""Affine changes and their like: where pixels lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minidl import buffers, threads
from minidl.backend import array_module
from minidl.data.augment.change import Change, beside, check_integer, check_number, check_one_of
from minidl.data.augment.intensity import MOST_SIGMA
from minidl.data.augment.sampling import BORDERS, LEAST_IMAGES, gathered, resampled

FLIPS = ("horizontal", "vertical")


@dataclass(frozen=True)
class affine(Change):
    r"""Rotates, scales, shears and shifts at once, about the middle of the image, by linear interpolation.

    A pixel at :math:`u` from the middle shows what was at :math:`A^{-1} (u - t)`, with :math:`A = R_\alpha S_\gamma F`:
    rotation by α, shear by γ, scaling by f; all are drawn for each image, uniformly, ln f for the scaling.

    Parameters
    ----------
    degrees : float in [0, 180], default 0
        α is drawn from [−degrees, degrees]; positive angles turn counter-clockwise.
    scale : float in [0, 1000], default 0
        f is drawn from [1 / (1 + scale), 1 + scale].
    shift : float in [0, 1], default 0
        t is drawn from [−shift, shift] of the height, and of the width.
    shear : float in [0, 89], default 0
        γ is drawn from [−shear, shear], in degrees; positive angles lean to the right.
    border : {"constant", "nearest", "reflect"}, default "constant"
        What comes in from outside: black, the outermost pixels, or the mirror image.
    """

    strengths: ClassVar = ("degrees", "scale", "shift", "shear")
    degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    border: str = "constant"

    def __post_init__(self) -> None:
        _check_affine(self)

    def apply(self, x: Any, generator: Any) -> Any:
        return _transformed(x, generator, self.degrees, self.scale, self.shift, self.shear, self.border)


@dataclass(frozen=True)
class rotate(Change):
    """Turns each image by an angle from [−degrees, degrees] about its middle; see `affine`.

    Examples
    --------
    >>> turned = augment.rotate(15)(x, np.random.default_rng(0))
    >>> turned.shape, float(turned.min()) >= 0, float(turned.max()) <= 1
    ((100, 8, 8, 1), True, True)
    """

    strengths: ClassVar = ("degrees",)
    degrees: float = 15.0
    border: str = "constant"

    def __post_init__(self) -> None:
        _check_affine(self)

    def apply(self, x: Any, generator: Any) -> Any:
        return _transformed(x, generator, degrees=self.degrees, border=self.border)


@dataclass(frozen=True)
class scale(Change):
    """Enlarges or shrinks each image by a factor from [1 / (1 + strength), 1 + strength]; see `affine`."""

    strengths: ClassVar = ("strength",)
    strength: float = 0.25
    border: str = "constant"

    def __post_init__(self) -> None:
        _check_affine(self)

    def apply(self, x: Any, generator: Any) -> Any:
        return _transformed(x, generator, scale=self.strength, border=self.border)


@dataclass(frozen=True)
class shift(Change):
    """Moves each image by up to this fraction of its height and of its width; see `affine`."""

    strengths: ClassVar = ("fraction",)
    fraction: float = 0.15
    border: str = "constant"

    def __post_init__(self) -> None:
        _check_affine(self)

    def apply(self, x: Any, generator: Any) -> Any:
        return _transformed(x, generator, shift=self.fraction, border=self.border)


MOST = 1000.0  # of scales and pixels: far beyond any use, and float32 places are still numbers
BOUNDS = {"degrees": 180.0, "shear": 89.0, "shift": 1.0, "fraction": 1.0, "scale": MOST, "strength": MOST}


def _check_affine(change: Any) -> None:
    who = type(change).__name__
    for name in change.strengths:
        check_number(who, name, getattr(change, name), 0, BOUNDS[name])
    check_one_of(who, "border", change.border, BORDERS)


def _transformed(
    x: Any,
    generator: Any,
    degrees: float = 0.0,
    scale: float = 0.0,
    shift: float = 0.0,
    shear: float = 0.0,
    border: str = "constant",
) -> Any:
    count, height, width, _ = x.shape
    angle, factor, slant, down, right = generator.uniform(-1, 1, (count, 5)).T
    angle, slant = np.deg2rad(angle * degrees), np.deg2rad(slant * shear)
    factor, down, right = (1 + scale) ** factor, down * shift * height, right * shift * width
    xp = array_module(x)
    cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
    tan = np.tan(slant)
    # A⁻¹ = F⁻¹ S⁻¹ R⁻¹ on (row, column), rows point down: S⁻¹ = [[1, 0], [tan, 1]], R⁻¹ = [[cos, sin], [−sin, cos]]
    inverse = np.array([[cos, sin], [tan * cos - sin, tan * sin + cos]])
    a, b, c, d, down, right = (
        beside(x, values.astype(np.float32).reshape(-1, 1, 1)) for values in (*inverse.reshape(4, -1), down, right)
    )
    v = xp.arange(height, dtype=np.float32)[:, None] - np.float32((height - 1) / 2) - down
    u = xp.arange(width, dtype=np.float32) - np.float32((width - 1) / 2) - right
    rows = a * v + b * u + np.float32((height - 1) / 2)
    columns = c * v + d * u + np.float32((width - 1) / 2)
    return resampled(x, rows, columns, border)


# ---------------------------------------------------------------- whole pixels


@dataclass(frozen=True)
class flip(Change):
    """Mirrors each image with a probability.

    Parameters
    ----------
    p : float in [0, 1], default 0.5
    direction : {"horizontal", "vertical"}, default "horizontal"
        "horizontal" changes left and right, "vertical" up and down.
    """

    strengths: ClassVar = ("p",)
    p: float = 0.5
    direction: str = "horizontal"

    def __post_init__(self) -> None:
        check_number("flip", "p", self.p, 0, 1)
        check_one_of("flip", "direction", self.direction, FLIPS)

    def apply(self, x: Any, generator: Any) -> Any:
        chosen = generator.random(len(x)) < self.p
        made = buffers.empty(x.shape, like=x)

        def mirror(images: slice) -> None:
            made[images] = x[images]
            some = beside(x, np.flatnonzero(chosen[images]) + images.start)
            mirrored = x[some]  # faster than `where`, which reads the mirror image of all
            made[some] = mirrored[:, :, ::-1] if self.direction == "horizontal" else mirrored[:, ::-1]

        whole = [slice(0, len(x))]
        threads.share(mirror, threads.parts(len(x), LEAST_IMAGES) if array_module(x) is np else whole)
        return made


@dataclass(frozen=True)
class crop(Change):
    """Cuts a window at a random place out of each image, to which a frame was added.

    Parameters
    ----------
    padding : int in [0, 1000], default 4
        The width of the frame in pixels.
    size : int or (height, width), optional
        Of the window. Default: that of the image.
    border : {"constant", "nearest", "reflect"}, default "constant"
        What the frame shows: black, the outermost pixels, or the mirror image.
    """

    strengths: ClassVar = ("padding",)
    padding: int = 4
    size: int | tuple[int, int] | None = None
    border: str = "constant"

    def __post_init__(self) -> None:
        _check_crop(self)

    def times(self, factor: float) -> crop:
        return crop(round(self.padding * factor), self.size, self.border)

    def apply(self, x: Any, generator: Any) -> Any:
        rows, columns = _window(self, x, generator)
        return gathered(x, rows, columns, self.border)


@dataclass(frozen=True)
class crop_flip(Change):
    """`crop` and then the horizontal `flip` in one pass: what nearly everybody does to CIFAR's images.

    Parameters
    ----------
    padding, size, border
        See `crop`.
    p : float in [0, 1], default 0.5
        The probability of the mirror image.
    """

    strengths: ClassVar = ("padding", "p")
    padding: int = 4
    p: float = 0.5
    size: int | tuple[int, int] | None = None
    border: str = "constant"

    def __post_init__(self) -> None:
        _check_crop(self)
        check_number("crop_flip", "p", self.p, 0, 1)

    def times(self, factor: float) -> crop_flip:
        return crop_flip(round(self.padding * factor), self.p * factor, self.size, self.border)

    def apply(self, x: Any, generator: Any) -> Any:
        rows, columns = _window(self, x, generator)
        mirrored = generator.random(len(x)) < self.p
        return gathered(x, rows, np.where(mirrored[:, None], columns[:, ::-1], columns), self.border)


def _check_crop(change: crop | crop_flip) -> None:
    who, size = type(change).__name__, change.size
    check_integer(who, "padding", change.padding, 0)
    if change.padding > MOST:
        raise ValueError(f"{who}: padding is {change.padding}, expected an integer in [0, {MOST:.0f}]")
    check_one_of(who, "border", change.border, BORDERS)
    if isinstance(size, tuple) and len(size) != 2:
        raise ValueError(f"{who}: size is {size}, expected an integer or a pair (height, width)")
    if size is not None:
        for length in size if isinstance(size, tuple) else (size,):
            check_integer(who, "size", length, 1)


def _window(change: crop | crop_flip, x: Any, generator: Any) -> tuple[Any, Any]:
    """Return the rows and the columns of the images that lie in each image's window."""
    count, *size, _ = x.shape
    window = size if change.size is None else change.size
    lengths = (window, window) if isinstance(window, (int, np.integer)) else tuple(window)
    places = []
    for old, new in zip(size, lengths, strict=True):
        room = old + 2 * change.padding - new
        if room < 0:
            raise ValueError(
                f"{type(change).__name__}: size is {change.size}, expected at most the images' {tuple(size)} and twice "
                f"the padding of {change.padding}"
            )
        places.append(generator.integers(0, room + 1, size=count)[:, None] - change.padding + np.arange(new))
    return places[0], places[1]


# ---------------------------------------------------------------- elastic


@dataclass(frozen=True)
class elastic(Change):
    r"""Bends each image: pixels move by a random field that is smooth.

    .. math:: x'(u) = x(u + \alpha \, G_\sigma * n(u)), \qquad n \sim N(0, 1)

    with :math:`G_\sigma * n` scaled to deviation 1, so that α is the deviation of the moves. Simard, Steinkraus and
    Platt 2003, "Best practices for convolutional neural networks applied to visual document analysis", with normal
    instead of uniform numbers.

    Parameters
    ----------
    alpha : float in [0, 1000], default 1
        The deviation of the moves in pixels.
    sigma : float in [0.1, 100], default 4
        The width of the Gaussian in pixels: the larger, the smoother.
    border : {"constant", "nearest", "reflect"}, default "nearest"
    """

    strengths: ClassVar = ("alpha",)
    alpha: float = 1.0
    sigma: float = 4.0
    border: str = "nearest"

    def __post_init__(self) -> None:
        check_number("elastic", "alpha", self.alpha, 0, MOST)
        check_number("elastic", "sigma", self.sigma, 0.1, MOST_SIGMA)
        check_one_of("elastic", "border", self.border, BORDERS)

    def apply(self, x: Any, generator: Any) -> Any:
        from scipy import ndimage

        xp = array_module(x)
        count, height, width, _ = x.shape
        field = generator.standard_normal((count, 2, height, width), dtype=np.float32)
        field = ndimage.gaussian_filter(field, self.sigma, axes=(2, 3), mode="wrap")  # wrap: as strong at the border
        field /= np.sqrt(_power(height, self.sigma) * _power(width, self.sigma))
        moves = beside(x, np.float32(self.alpha) * field)
        rows = xp.arange(height, dtype=np.float32)[:, None] + moves[:, 0]
        columns = xp.arange(width, dtype=np.float32) + moves[:, 1]
        return resampled(x, rows, columns, self.border)


def _power(size: int, sigma: float) -> Any:
    """Return the variance that is left of white noise on a ring of so many pixels after this Gaussian."""
    from scipy import ndimage

    impulse = np.zeros(size)
    impulse[0] = 1
    return np.float32((ndimage.gaussian_filter1d(impulse, sigma, mode="wrap") ** 2).sum())
